"""Weights and whole models as files, and objects as configs."""

from keraslite.registry import (
    CustomObjectScope,
    custom_object_scope,
    deserialize_keras_object,
    enable_unsafe_deserialization,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
    serialize_keras_object,
)
from keraslite.saving.atomic import (
    finish_replacing,
    is_temporary,
    remove_abandoned,
    replacing,
    replacing_folder,
)
from keraslite.saving.file_editor import KerasFileEditor
from keraslite.saving.h5_files import H5Tensors
from keraslite.saving.h5_writing import write_h5
from keraslite.saving.legacy_h5 import load_legacy_weights
from keraslite.saving.model_file import load_model, save_model
from keraslite.saving.safetensors import open_safetensors, save_safetensors
from keraslite.saving.weight_files import load_weights, save_weights
from keraslite.variable import Pending

__all__ = [
    "CustomObjectScope", "H5Tensors", "KerasFileEditor", "Pending", "custom_object_scope",
    "deserialize_keras_object", "enable_unsafe_deserialization", "finish_replacing",
    "get_custom_objects", "get_registered_name", "get_registered_object", "is_temporary",
    "load_legacy_weights", "load_model", "load_weights", "open_safetensors",
    "register_keras_serializable", "remove_abandoned", "replacing", "replacing_folder",
    "save_model", "save_safetensors", "save_weights", "serialize_keras_object", "write_h5",
]  # fmt: skip
