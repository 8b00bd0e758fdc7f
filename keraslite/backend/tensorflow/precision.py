"""Short integers in int32 and half precision in float32, where TensorFlow has no kernels."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import tensorflow as tf

# TensorFlow has few kernels for the short integers and fewer for booleans.
SHORT = frozenset([tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16])


HALVES = frozenset([tf.float16, tf.bfloat16])


def in_int32(fn: Callable, back: bool = True, booleans: bool = True) -> Callable:
    """Compute short integers and booleans in int32; `back` casts the result back.

    Without `booleans`, they are refused.
    """

    @wraps(fn)
    def call(x: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype = x.dtype
        if dtype not in SHORT:
            return fn(x, *args, **kwargs)
        if dtype == tf.bool and not booleans:
            raise TypeError("booleans must be cast to a number, or be used in a logical op")
        args = [tf.cast(a, tf.int32) if isinstance(a, tf.Tensor) and a.dtype == dtype else a
                for a in args]  # fmt: skip
        out = fn(tf.cast(x, tf.int32), *args, **kwargs)
        return tf.cast(out, dtype) if back else out

    return call


def in_float32(fn: Callable) -> Callable:
    """Compute float16 and bfloat16 in float32."""

    @wraps(fn)
    def call(x: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.dtype not in HALVES:
            return fn(x, *args, **kwargs)
        args = [tf.cast(a, tf.float32) if isinstance(a, tf.Tensor) and a.dtype == x.dtype else a
                for a in args]  # fmt: skip
        out = fn(tf.cast(x, tf.float32), *args, **kwargs)
        return tf.cast(out, x.dtype) if out.dtype == tf.float32 else out

    return call
