"""Parts of tensors, read and written, on TensorFlow."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from keraslite.backend.primitives import primitive, with_remainders
from keraslite.backend.tensorflow.indexing import take
from keraslite.backend.tensorflow.tensors import convert, for_xla, shape_of

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def unstack(x: tf.Tensor, num: int | None = None, axis: int = 0) -> list:
    return tf.unstack(x, num, axis)


@primitive(TABLE)
def get_item(x: tf.Tensor, key: Any) -> tf.Tensor:
    keys = key if isinstance(key, tuple) else (key,)
    arrays = [
        isinstance(k, list | np.ndarray) or (isinstance(k, tf.Tensor) and k.shape.rank != 0)
        for k in keys
    ]
    return _gathered(x, keys, arrays) if any(arrays) else x[keys]


def _gathered(x: tf.Tensor, keys: tuple, arrays: list[bool]) -> tf.Tensor:
    """Indexing with arrays: what is basic first, then one gather over the arrays' axes."""
    if len(keys) == 1 and convert(keys[0]).dtype == tf.bool:
        return tf.boolean_mask(x, convert(keys[0]))
    numbers = [isinstance(k, int | np.integer) or getattr(k, "shape", None) == () for k in keys]
    keys = list(keys)
    for i, number in enumerate(numbers):  # beside arrays, a number is an array too
        if number and type(keys[i]) is not bool:
            keys[i], arrays[i] = convert(keys[i]), True
    basic = [slice(None) if a else k for k, a in zip(keys, arrays, strict=True)]
    axes, indices, axis = [], [], 0
    taken = sum(k is not None and k is not Ellipsis for k in keys)
    for k, a in zip(keys, arrays, strict=True):
        if a:
            index = convert(k)
            if index.dtype == tf.bool:
                index = tf.cast(tf.where(index)[:, 0], tf.int32)
            axes.append(axis)
            indices.append(index)
        axis += x.shape.rank - taken if k is Ellipsis else 1
    x = x[tuple(basic)]
    rest = [a for a in range(x.shape.rank) if a not in axes]
    together = axes == list(range(axes[0], axes[-1] + 1))
    if len(axes) == 1:
        return take(x, indices[0], axes[0])
    sizes = [shape_of(x)[a] for a in axes]
    shape = tf.broadcast_dynamic_shape(tf.shape(indices[0]), tf.shape(indices[1]))
    for index in indices[2:]:
        shape = tf.broadcast_dynamic_shape(shape, tf.shape(index))
    indices = [
        tf.broadcast_to(tf.where(i < 0, i + tf.cast(n, i.dtype), i), shape)
        for i, n in zip(indices, sizes, strict=True)
    ]
    out = tf.gather_nd(tf.transpose(x, axes + rest), tf.stack(indices, -1))
    if not together or not axes[0]:
        return out
    width, before = out.shape.rank - len(rest), axes[0]
    order = [*range(width, width + before), *range(width), *range(width + before, out.shape.rank)]
    return tf.transpose(out, order)


def _inside(sizes: Any, start_indices: Any, shape: Any) -> list[int]:
    """`_starts` of numbers alone."""
    last = [size - n for size, n in zip(sizes, shape, strict=True)]
    if min(last, default=0) < 0:
        raise ValueError("the part is larger than the shape of the tensor")
    return [min(max(i, 0), n) for i, n in zip(start_indices, last, strict=True)]


def _starts(inputs: tf.Tensor, start_indices: Any, shape: Any) -> tf.Tensor:
    """Where a part begins, moved inside where it would reach beyond the end, as in JAX."""
    last = tf.shape(inputs) - tf.cast(tf.convert_to_tensor(shape), tf.int32)
    tf.debugging.assert_non_negative(last, "the part is larger than the shape of the tensor")
    if not isinstance(start_indices, tf.Tensor):
        start_indices = tf.stack([tf.cast(i, tf.int32) for i in start_indices])
    return tf.clip_by_value(tf.cast(start_indices, tf.int32), 0, last)


@primitive(TABLE)
def slice_(inputs: tf.Tensor, start_indices: Any, shape: Any) -> tf.Tensor:
    if isinstance(shape, tf.Tensor):
        return tf.slice(inputs, _starts(inputs, start_indices, shape), shape)
    if -1 in shape:
        shape = with_remainders(shape, start_indices, shape_of(inputs))
    numbers = isinstance(start_indices, list | tuple) and all(
        type(n) is int for n in (*start_indices, *shape)
    )
    if numbers and inputs.shape.is_fully_defined():
        return tf.slice(inputs, _inside(inputs.shape, start_indices, shape), shape)
    out = tf.slice(inputs, _starts(inputs, start_indices, shape), shape)
    return tf.ensure_shape(out, [None if isinstance(n, tf.Tensor) else n for n in shape])


@primitive(TABLE)
def slice_update(inputs: tf.Tensor, start_indices: Any, updates: tf.Tensor) -> tf.Tensor:
    sizes = tf.shape(updates)
    start = _starts(inputs, start_indices, sizes)
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=inputs, begin=start, end=start + sizes, strides=tf.ones_like(start),
        value=tf.cast(updates, inputs.dtype),
    )  # fmt: skip


@primitive(TABLE)
def overwrite(inputs: tf.Tensor, start_indices: Any, updates: tf.Tensor) -> tf.Tensor:
    if not for_xla():
        return slice_update(inputs, start_indices, updates)
    starts = _starts(inputs, start_indices, tf.shape(updates))
    return dynamic_update_slice(inputs, tf.cast(updates, inputs.dtype), starts)


@primitive(TABLE)
def scatter_update(
    inputs: tf.Tensor, indices: tf.Tensor, updates: tf.Tensor, reduction: str | None = None
) -> tf.Tensor:
    sizes = tf.cast(tf.shape(inputs)[: indices.shape[-1]], indices.dtype)
    indices = tf.where(indices < 0, indices + sizes, indices)
    updates = tf.cast(updates, inputs.dtype)
    if inputs.dtype == tf.bool and reduction in ("max", "min"):
        out = scatter_update(
            tf.cast(inputs, tf.int32), indices, tf.cast(updates, tf.int32), reduction
        )
        return tf.cast(out, tf.bool)
    if reduction == "mul":
        row = tf.reduce_sum(indices * tf.math.cumprod(sizes, exclusive=True, reverse=True), -1)
        rows = tf.reduce_prod(sizes)
        factors = tf.math.unsorted_segment_prod(updates, row, rows)
        return inputs * tf.reshape(factors, tf.shape(inputs))
    write = {
        None: tf.tensor_scatter_nd_update, "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max, "min": tf.tensor_scatter_nd_min,
    }  # fmt: skip
    return write[reduction](inputs, indices, updates)
