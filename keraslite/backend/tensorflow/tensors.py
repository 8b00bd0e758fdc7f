"""TENSORS: making, casting and reading TensorFlow tensors."""

from typing import Any

import numpy as np
import tensorflow as tf

from keraslite import dtypes

__all__ = [
    "FLOATING", "TYPES", "canonical", "cast", "convert", "detach", "dtype_of", "dynamic_shape",
    "from_dlpack",
    "from_numpy", "native", "new_value", "to_numpy",
]  # fmt: skip

TYPES: tuple = (tf.Tensor, tf.Variable, tf.RaggedTensor, tf.SparseTensor)
_NATIVE = {name: tf.as_dtype(name) for name in (*dtypes.ALL, "string")}
FLOATING = {_NATIVE[n] for n in (*dtypes.FLOATS, *dtypes.COMPLEX)}


def native(dtype: Any) -> tf.DType:
    """The TensorFlow dtype of a name."""
    return _NATIVE[dtypes.standardize(dtype)]


def dtype_of(x: tf.Tensor) -> str:
    """The name of a tensor's dtype."""
    return x.dtype.name


def canonical(name: str) -> str:
    """The type that this backend uses for a name: TensorFlow has them all."""
    return name


def cast(x: tf.Tensor, dtype: str) -> tf.Tensor:
    """Change the dtype."""
    return tf.cast(x, _NATIVE[dtype])


def convert(value: Any, dtype: str | None = None) -> tf.Tensor:
    """A tensor of any value: a tensor, a variable, a literal, a list with tensors inside."""
    if isinstance(value, tf.Tensor):
        return value if dtype is None else tf.cast(value, native(dtype))
    if isinstance(value, tf.Variable):
        return convert(value.read_value(), dtype)
    if isinstance(value, list | tuple) and any(isinstance(v, TYPES) for v in value):
        return tf.stack([convert(v, dtype) for v in value])
    array = dtypes.of_literal(value)
    if array.dtype.kind in "SUO":
        return tf.constant(array)
    return tf.constant(array.astype(dtypes.to_numpy(dtype), copy=False) if dtype else array)


def from_numpy(array: np.ndarray) -> tf.Tensor:
    """A tensor with the array's values."""
    return tf.convert_to_tensor(array)


def from_dlpack(x: Any) -> tf.Tensor:
    """Take another framework's tensor without a copy."""
    return tf.experimental.dlpack.from_dlpack(x.__dlpack__())


def detach(x: tf.Tensor) -> tf.Tensor:
    """The tensor itself: gradients are not kept on it."""
    return x.read_value() if isinstance(x, tf.Variable) else x


def to_numpy(x: tf.Tensor) -> np.ndarray:
    """The values as numpy."""
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


def new_value(value: Any, dtype: str) -> tf.Tensor:
    """The first value of a variable, outside any graph being traced."""
    with tf.init_scope():
        return convert(value, dtype)


def dynamic_shape(x: tf.Tensor) -> tuple:
    """The shape, with scalars of the graph where a dimension is not known."""
    static = tuple(x.shape)
    if None not in static:
        return static
    run_time = tf.shape(x)
    return tuple(run_time[i] if d is None else d for i, d in enumerate(static))
