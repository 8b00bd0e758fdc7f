"""Normalization of batches on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import shape_of

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _normalize_batch(
    x: tf.Tensor, scale: Any, offset: Any, residual: Any, epsilon: float, activation: str | None
) -> Any:
    channels = x.shape[-1]
    if x.dtype != tf.float32 or channels is None or epsilon <= 0:
        return NotImplemented
    scale = tf.ones(channels) if scale is None else tf.cast(scale, tf.float32)
    offset = tf.zeros(channels) if offset is None else tf.cast(offset, tf.float32)
    rows = x if len(x.shape) == 4 else tf.reshape(x, (-1, 1, 1, channels))
    # The function around this operation raises a smaller epsilon than 1.001e-5 to that.
    out, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=rows, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
    )
    count = tf.cast(tf.size(x) // channels, tf.float32)
    biased = variance * ((count - 1) / count)  # the kernel gives the unbiased variance
    out = tf.reshape(out, shape_of(x))
    out = out if residual is None else out + residual
    out = out if activation is None else tf.nn.relu(out)
    return out, tf.stop_gradient(mean), tf.stop_gradient(biased)
