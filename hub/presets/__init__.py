"""Presets: the built-in table, handles and their files, loading and saving of models."""

from hub.presets.files import PresetFiles, resolve
from hub.presets.table import list_presets, preset_row

__all__ = ["PresetFiles", "list_presets", "preset_row", "resolve"]
