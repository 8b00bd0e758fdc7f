"""Layers for the page of parity: the installed Keras's in float64 are the reference."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from layer_cases import ROWS, Row, random_weights

import keraslite
from keraslite import tree


def groups() -> dict[str, list[Row]]:
    """The rows of the tests' table, by layer."""
    rows: dict[str, list[Row]] = {}
    for row in ROWS:
        rows.setdefault(row.layer, []).append(row)
    return rows


def _outputs(library, row: Row, dtype: str) -> list[np.ndarray]:
    """Return the outputs of a layer in inference, with the weights of the tests."""

    def cast(x):
        is_float = isinstance(x, np.ndarray) and x.dtype == np.float32
        return library.ops.convert_to_tensor(x.astype(dtype) if is_float else x)

    layer = getattr(library.layers, row.layer)(**row.kwargs, dtype=dtype)
    inputs = tree.map_structure(cast, row.inputs)
    layer(*inputs, **row.call)
    layer.set_weights(random_weights([tuple(v.shape) for v in layer.weights]))
    out = layer(*inputs, **row.call)
    return [library.ops.convert_to_numpy(x) for x in tree.flatten(out)]


# TensorFlow has no kernels of float64 for them, or Keras has constants in float32.
_FLOAT32 = {"AdaptiveAveragePooling3D", "AdaptiveMaxPooling3D", "AveragePooling3D", "MaxPooling3D",
            "MelSpectrogram"}  # fmt: skip


def reference(row: Row) -> list[np.ndarray]:
    """Keras's results, in float64 where it can."""
    return _outputs(keras, row, "float32" if row.layer in _FLOAT32 else "float64")


def results(row: Row, backend: str) -> list[np.ndarray]:
    """Our results in float32."""
    with keraslite.use_backend(backend):
        return _outputs(keraslite, row, "float32")


def brief(row: Row) -> str:
    """A row in a few words."""
    text = row.id.partition("-")[2].replace("|", "\\|") or "as it is by default"
    return text if len(text) < 70 else text[:67] + "..."
