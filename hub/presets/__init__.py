"""Where weights come from and go to: the table of presets, handles, files, loading and saving."""

from hub.presets.files import PresetFiles, resolve
from hub.presets.table import list_presets, preset_row

__all__ = ["PresetFiles", "list_presets", "preset_row", "resolve"]
