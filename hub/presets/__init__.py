"""Where weights come from: the table of presets, handles, files and readers."""

from hub.presets.files import PresetFiles, resolve
from hub.presets.table import list_presets, preset_row
from hub.weights.reader import Weights, open_weights

__all__ = ["PresetFiles", "Weights", "list_presets", "open_weights", "preset_row", "resolve"]
