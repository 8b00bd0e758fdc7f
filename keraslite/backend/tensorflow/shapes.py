"""Casts, shapes and joins of tensors on TensorFlow."""

from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import native, shape_of, sizes

TABLE: dict[str, Any] = {"stop_gradient": tf.stop_gradient, "stack": tf.stack}


@primitive(TABLE)
def cast(x: tf.Tensor, dtype: Any) -> tf.Tensor:
    return tf.cast(x, native(dtype))


@primitive(TABLE)
def _positions(x: tf.Tensor, size: Any) -> tf.Tensor:
    return tf.range(size)


@primitive(TABLE)
def reshape(x: tf.Tensor, newshape: Any) -> tf.Tensor:
    return tf.reshape(x, sizes(newshape))


@primitive(TABLE)
def transpose(x: tf.Tensor, axes: Any = None) -> tf.Tensor:
    if axes is None:
        return tf.transpose(x)
    if any(a < 0 for a in axes):
        axes = [a % x.shape.rank for a in axes]
    return tf.raw_ops.Transpose(x=x, perm=axes)


@primitive(TABLE)
def broadcast_to(x: tf.Tensor, shape: Any) -> tf.Tensor:
    return tf.broadcast_to(x, sizes(shape))


@primitive(TABLE)
def expand_dims(x: tf.Tensor, axis: Any) -> tf.Tensor:
    if isinstance(axis, int):
        return tf.expand_dims(x, axis)
    for a in sorted(a % (x.shape.rank + len(axis)) for a in axis):
        x = tf.expand_dims(x, a)
    return x


@primitive(TABLE)
def squeeze(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    return tf.squeeze(x, axis if axis is None or isinstance(axis, int) else list(axis))


@primitive(TABLE)
def concatenate(xs: list, axis: int = 0) -> tf.Tensor:
    return tf.concat(xs, axis)


@primitive(TABLE)
def split(x: tf.Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if isinstance(indices_or_sections, int):
        return tf.split(x, indices_or_sections, axis)
    size = shape_of(x)[axis]
    cuts = [0, *(i if i >= 0 else size + i for i in map(int, indices_or_sections))]
    cuts = [*(min(c, size) if isinstance(size, int) else c for c in cuts), size]
    sizes = [b - a if not isinstance(b, int) else max(b - a, 0)
             for a, b in pairwise(cuts)]  # fmt: skip
    return tf.split(x, sizes, axis)


@primitive(TABLE)
def repeat(x: tf.Tensor, repeats: Any, axis: Any = None) -> tf.Tensor:
    out = tf.repeat(x, repeats, axis)
    if axis is not None and isinstance(repeats, list | tuple):
        sizes = x.shape.as_list()
        sizes[axis] = int(np.sum(repeats))
        out.set_shape(sizes)
    return out


@primitive(TABLE)
def tile(x: tf.Tensor, repeats: Any) -> tf.Tensor:
    repeats = list(sizes(repeats))
    repeats = [1] * (x.shape.rank - len(repeats)) + repeats
    return tf.tile(x[(None,) * (len(repeats) - x.shape.rank)] if len(repeats) > x.shape.rank else x,
                   repeats)  # fmt: skip


@primitive(TABLE)
def flip(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    axes = range(x.shape.rank) if axis is None else sizes(axis)
    return tf.reverse(x, list(axes))


@primitive(TABLE)
def roll(x: tf.Tensor, shift: Any, axis: Any = None) -> tf.Tensor:
    if axis is None:
        return tf.reshape(tf.roll(tf.reshape(x, [-1]), shift, 0), tf.shape(x))
    if isinstance(shift, int) and not isinstance(axis, int):
        shift = [shift] * len(axis)
    return tf.roll(x, shift, axis)


@primitive(TABLE)
def _pad_constant(x: tf.Tensor, widths: list, value: Any) -> tf.Tensor:
    return tf.pad(x, widths, constant_values=tf.cast(value, x.dtype))


@primitive(TABLE)
def _view(x: tf.Tensor, dtype: str) -> tf.Tensor:
    target = native(dtype)
    if tf.bool in (x.dtype, target) and x.dtype != target:  # it has no bits of booleans
        if x.dtype == tf.bool:
            return _view(tf.cast(x, tf.uint8), dtype)
        return tf.not_equal(_view(x, "uint8"), 0)
    *batch, last = shape_of(x) or (1,)
    grows, shrinks = x.dtype.size // target.size, target.size // x.dtype.size
    if grows > 1:
        return tf.reshape(tf.bitcast(x, target), sizes((*batch, last * grows)))
    if shrinks > 1:
        x = tf.reshape(x, sizes((*batch, last // shrinks, shrinks)))
    return tf.bitcast(x, target)
