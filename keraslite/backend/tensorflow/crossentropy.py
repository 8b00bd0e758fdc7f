"""Crossentropies and the CTC loss on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import native

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _one_hot(x: tf.Tensor, num_classes: int, axis: int, dtype: Any) -> tf.Tensor:
    dtype = native(dtype)
    x = tf.cast(x, tf.int32) if x.dtype not in (tf.uint8, tf.int8, tf.int32, tf.int64) else x
    axis %= len(x.shape) + 1
    return tf.one_hot(x, num_classes, tf.cast(1, dtype), tf.cast(0, dtype), axis)


@primitive(TABLE)
def _negative_likelihood(
    target: tf.Tensor, logits: tf.Tensor, axis: int, normalize: bool
) -> tf.Tensor:
    last = len(logits.shape) - 1
    if axis != last:
        order = [a for a in range(last + 1) if a != axis] + [axis]
        logits = tf.transpose(logits, order)
    if normalize:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)
    return -tf.gather(logits, target, axis=last, batch_dims=last)


@primitive(TABLE)
def _ctc(
    target: tf.Tensor,
    logs: tf.Tensor,
    target_length: tf.Tensor,
    output_length: tf.Tensor,
    blank: int,
) -> tf.Tensor:
    # tf.nn.ctc_loss is written for float32 only.
    out = tf.nn.ctc_loss(
        target, tf.cast(logs, tf.float32), target_length, output_length, False, blank_index=blank
    )
    return tf.cast(out, logs.dtype)
