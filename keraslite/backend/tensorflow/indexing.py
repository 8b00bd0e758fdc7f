"""Indexing by tensors, sorting and searching on TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.precision import HALVES, SHORT, in_int32
from keraslite.backend.tensorflow.tensors import shape_of

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def nonzero(x: tf.Tensor) -> tuple:
    places = tf.where(x if x.dtype == tf.bool else tf.not_equal(x, tf.zeros((), x.dtype)))
    return tuple(tf.unstack(tf.cast(places, tf.int32), x.shape.rank, axis=1))


@primitive(TABLE)
def take(x: tf.Tensor, indices: tf.Tensor, axis: Any = None) -> tf.Tensor:
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    return tf.gather(x, _from_front(indices, shape_of(x)[axis]), axis=axis)


def _from_front(indices: tf.Tensor, size: Any) -> tf.Tensor:
    """Count indices from the front, in a dtype that TensorFlow gathers by."""
    indices = indices if indices.dtype in (tf.int32, tf.int64) else tf.cast(indices, tf.int32)
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


@primitive(TABLE)
def take_along_axis(x: tf.Tensor, indices: tf.Tensor, axis: Any = None) -> tf.Tensor:
    if axis is None:
        x, indices, axis = tf.reshape(x, [-1]), tf.reshape(indices, [-1]), 0
    rank, axis = x.shape.rank, axis % x.shape.rank
    indices = _from_front(indices, shape_of(x)[axis])
    lead, behind = x.shape[:axis], indices.shape[axis + 1 :]
    is_slices = behind.rank and set(behind) == {1} and lead.is_fully_defined()
    if is_slices and lead == indices.shape[:axis]:  # no need to transpose all of x
        return tf.gather(x, tf.reshape(indices, (*lead, -1)), axis=axis, batch_dims=axis)
    last = [a for a in range(rank) if a != axis] + [axis]
    back, moves = [last.index(a) for a in range(rank)], last != [*range(indices.shape.rank)]
    if moves:
        x, indices = tf.transpose(x, last), tf.transpose(indices, last)
    if x.shape[:-1] != indices.shape[:-1] or None in x.shape[:-1]:
        lead = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], tf.shape(indices)[:-1])
        x = tf.broadcast_to(x, tf.concat([lead, tf.shape(x)[-1:]], 0))
        indices = tf.broadcast_to(indices, tf.concat([lead, tf.shape(indices)[-1:]], 0))
    out = tf.gather(x, indices, axis=-1, batch_dims=rank - 1)
    return tf.transpose(out, back) if moves else out


@primitive(TABLE)
def sort(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    x, axis = (tf.reshape(x, [-1]), 0) if axis is None else (x, axis)
    if not x.dtype.is_floating:
        return in_int32(tf.sort)(x, axis)
    # TensorFlow puts NaN anywhere: sort infinities in their place, and put them last.
    nan = tf.math.is_nan(x)
    ordered = tf.sort(tf.where(nan, tf.constant(np.inf, x.dtype), x), axis)
    size, behind = shape_of(x)[axis], [1] * (x.shape.rank - 1 - axis % x.shape.rank)
    first = size - tf.reduce_sum(tf.cast(nan, tf.int32), axis, keepdims=True)
    last = tf.reshape(tf.range(size), [-1, *behind]) >= first
    return tf.where(last, tf.constant(np.nan, x.dtype), ordered)


@primitive(TABLE)
def argsort(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    x = tf.cast(x, tf.int32) if x.dtype in SHORT else x
    x, axis = (tf.reshape(x, [-1]), 0) if axis is None or not x.shape.rank else (x, axis)
    return unless_nan(x, lambda x: tf.argsort(x, axis, stable=True))


def unless_nan(x: tf.Tensor, function: Callable[[tf.Tensor], Any]) -> Any:
    """Return a function of a tensor, or of its ranks where it has NaN, whose kernels are slower.

    Args:
        x: a tensor.
        function: gives the same for floats and for integers in their order.
    """
    if not x.dtype.is_floating:
        return function(x)
    nan = tf.reduce_any(tf.math.is_nan(x))
    if tf.executing_eagerly():
        return function(ranked(x) if nan else x)
    return tf.cond(nan, lambda: function(ranked(x)), lambda: function(x))


def ranked(x: tf.Tensor) -> tf.Tensor:
    """Return integers in the order of floats, NaN last: TensorFlow's kernels put NaN anywhere.

    The bits of positive floats are in order as integers; those of negative ones are reversed.
    """
    x = tf.cast(x, tf.float32) if x.dtype in HALVES else x
    integers = tf.int64 if x.dtype == tf.float64 else tf.int32
    nan, zero = tf.constant(np.nan, x.dtype), tf.constant(0, x.dtype)  # -0.0 equals 0.0
    x = tf.where(tf.math.is_nan(x), nan, tf.where(x == zero, zero, x))
    bits = tf.bitcast(x, integers)
    return tf.where(
        bits < 0, tf.bitwise.bitwise_xor(bits, tf.constant(integers.max, integers)), bits
    )


@primitive(TABLE)
def searchsorted(sorted_sequence: tf.Tensor, values: tf.Tensor, side: str = "left") -> tf.Tensor:
    if sorted_sequence.shape.rank != 1:
        raise ValueError("the sorted sequence must have one dimension")
    if sorted_sequence.dtype in SHORT or sorted_sequence.dtype in HALVES:
        wide = tf.int32 if sorted_sequence.dtype in SHORT else tf.float32
        sorted_sequence, values = tf.cast(sorted_sequence, wide), tf.cast(values, wide)
    places = tf.searchsorted(sorted_sequence, tf.reshape(values, [-1]), side)
    return tf.reshape(places, tf.shape(values))
