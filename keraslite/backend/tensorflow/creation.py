"""New tensors on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite import dtypes
from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import convert, native, sizes

TABLE: dict[str, Any] = {"copy": tf.identity}


@primitive(TABLE)
def full(shape: Any, fill_value: Any, dtype: Any = None) -> tf.Tensor:
    value = convert(fill_value, dtypes.standardize(dtype))
    return tf.broadcast_to(value, sizes(shape))


@primitive(TABLE)
def zeros_like(x: tf.Tensor, dtype: Any = None) -> tf.Tensor:
    return tf.zeros_like(x, None if dtype is None else native(dtype))


@primitive(TABLE)
def ones_like(x: tf.Tensor, dtype: Any = None) -> tf.Tensor:
    return tf.ones_like(x, None if dtype is None else native(dtype))


@primitive(TABLE)
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> tf.Tensor:
    bounds = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in bounds)))
    start, stop = (0, start) if stop is None else (start, stop)
    work_dtype = dtype if dtype in (tf.int32, tf.int64, tf.float32, tf.float64) else tf.float32
    start, stop, step = (tf.cast(v, work_dtype) for v in (start, stop, 1 if step is None else step))
    return tf.cast(tf.range(start, stop, step), dtype)
