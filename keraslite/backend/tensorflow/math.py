"""Special functions, log-sum-exp and top-k on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.elementwise import raw_kernel
from keraslite.backend.tensorflow.indexing import unless_nan
from keraslite.backend.tensorflow.precision import in_float32

TABLE: dict[str, Any] = {
    name: raw_kernel(name.capitalize()) for name in ("rsqrt", "erf", "erfc")
} | {"erfinv": in_float32(raw_kernel("Erfinv"))}


@primitive(TABLE)
def logsumexp(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
    return tf.reduce_logsumexp(x, axis, keepdims)


@primitive(TABLE)
def top_k(x: tf.Tensor, k: int, sorted: bool = True) -> tuple:
    if x.dtype == tf.bool:
        values, indices = tf.math.top_k(tf.cast(x, tf.uint8), k, sorted)
        return tf.cast(values, tf.bool), indices
    indices = unless_nan(x, lambda x: tf.math.top_k(x, k, sorted).indices)
    return tf.gather(x, indices, batch_dims=x.shape.rank - 1), indices
