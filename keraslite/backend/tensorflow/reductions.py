"""Reductions and running sums on TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.precision import HALVES, in_float32, in_int32
from keraslite.backend.tensorflow.tensors import native

_SUMS = {tf.bool: tf.int32, tf.int8: tf.int32, tf.int16: tf.int32, tf.uint8: tf.uint32,
         tf.uint16: tf.uint32}  # fmt: skip


def _truth(fn: Callable) -> Callable:
    def call(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
        return fn(x if x.dtype == tf.bool else tf.cast(x, tf.bool), axis, keepdims)

    return call


def _extreme(fn: Callable, pair: Callable) -> Callable:
    @in_int32
    def call(
        x: tf.Tensor, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> tf.Tensor:
        out = fn(x, axis, keepdims)
        return out if initial is None else pair(out, tf.cast(initial, x.dtype))

    return call


def _first_extreme(fn: Callable, x: tf.Tensor, axis: int) -> tf.Tensor:
    """The place that `fn` finds, or the first NaN's: TensorFlow passes NaN over."""
    out = fn(x, axis, tf.int32)
    if not x.dtype.is_floating:
        return out
    nans = tf.math.is_nan(x)
    first = tf.argmax(tf.cast(nans, tf.uint8), axis, tf.int32)
    return tf.where(tf.reduce_any(nans, axis), first, out)


def _arg(fn: Callable) -> Callable:
    def call(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
        x = tf.cast(x, tf.int32) if x.dtype == tf.bool else x
        if axis is None:
            out = _first_extreme(fn, tf.reshape(x, [-1]), 0)
            return tf.reshape(out, [1] * x.shape.rank) if keepdims else out
        out = _first_extreme(fn, x, axis)
        return tf.expand_dims(out, axis) if keepdims else out

    return call


def _running(fn: Callable) -> Callable:
    fn = in_int32(fn)

    def call(x: tf.Tensor, axis: Any = None, dtype: Any = None) -> tf.Tensor:
        if dtype is not None or x.dtype == tf.bool:
            x = tf.cast(x, native(dtype or "int32"))
        return fn(tf.reshape(x, [-1]), 0) if axis is None else fn(x, axis)

    return call


TABLE: dict[str, Any] = {
    "mean": in_float32(tf.math.reduce_mean),
    "var": in_float32(tf.math.reduce_variance),
    "all": _truth(tf.reduce_all),
    "any": _truth(tf.reduce_any),
    "max": _extreme(tf.reduce_max, tf.maximum),
    "min": _extreme(tf.reduce_min, tf.minimum),
    "argmax": _arg(tf.argmax),
    "argmin": _arg(tf.argmin),
    "cumsum": _running(tf.cumsum),
    "cumprod": _running(tf.math.cumprod),
}


@primitive(TABLE)
def sum_(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
    dtype = _SUMS.get(x.dtype, x.dtype)
    if dtype == x.dtype and dtype not in HALVES and dtype != tf.uint32:
        if axis is None:
            return tf.reduce_sum(x, None, keepdims)
        return tf.raw_ops.Sum(input=x, axis=axis, keep_dims=keepdims)
    wide = tf.float32 if dtype.is_floating else tf.int64
    return tf.cast(tf.reduce_sum(tf.cast(x, wide), axis, keepdims), dtype)


@primitive(TABLE)
def prod(x: tf.Tensor, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> tf.Tensor:
    dtype = native(dtype) if dtype is not None else _SUMS.get(x.dtype, x.dtype)
    wide = tf.int64 if dtype == tf.uint32 else tf.float32 if dtype in HALVES else dtype
    return tf.cast(tf.reduce_prod(tf.cast(x, wide), axis, keepdims), dtype)
