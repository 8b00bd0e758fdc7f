"""LiteRT models (TensorFlow Lite) of concrete functions."""

import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from keraslite.backend.errors import UnsupportedOpsError

_LARGE = 200_000_000  # bytes, from which on the metadata is not worth the time to write it


def converted(
    function: Any, variables: Sequence[Any], metadata: dict[str, str], options: dict[str, Any]
) -> bytes:
    """Convert a concrete function to a LiteRT model.

    Args:
        function: takes its inputs by name, and returns a dict.
        variables: those that it reads.
        metadata: is written inside, as JSON in the buffer "metadata.json".
        options: attributes of a `tf.lite.TFLiteConverter`; and "enable_select_tf_ops" for ops of
            TensorFlow, which need its own runtime.

    Raises:
        UnsupportedOpsError: the format lacks an op.
        ValueError: the converter has no such attribute.
    """
    root = tf.__internal__.tracking.AutoTrackable()
    root.variables = [v._kl_raw for v in variables]
    root.function = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], root)
    options = dict(options)
    if options.pop("enable_select_tf_ops", False):
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS,
        ]  # fmt: skip
    for name, value in options.items():
        if not hasattr(converter, name):
            raise ValueError(
                f"Format 'litert' does not know the argument {name!r}: expected an attribute of "
                "tf.lite.TFLiteConverter."
            )
        setattr(converter, name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = converter.convert()
    except Exception as error:  # of several classes, some of them private
        raise UnsupportedOpsError(_names(str(error)), str(error)) from error
    return data if len(data) > _LARGE else _with_metadata(data, metadata)


def _names(text: str) -> list[str]:
    ops = re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)
    return ops or re.findall(r"failed to legalize operation '(?:tf\.|tfl\.)?([\w.]+)'", text)


def _with_metadata(data: bytes, metadata: dict[str, str]) -> bytes:
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(json.dumps(metadata).encode())
    model.buffers.append(buffer)
    entry.name, entry.buffer = "metadata.json", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
