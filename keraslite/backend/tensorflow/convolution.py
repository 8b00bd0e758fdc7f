"""Convolutions and pools on TensorFlow.

Its CPU kernels miss grouped convolutions, dilation with strides, and gradients of dilated
transposed ones; those are put together here from what there is.
"""

from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import shape_of
from keraslite.backend.windows import padding_pairs

TABLE: dict[str, Any] = {}


def _pad(x: tf.Tensor, pairs: list, value: float = 0.0) -> tf.Tensor:
    if not any(isinstance(v, tf.Tensor) or v for pair in pairs for v in pair):
        return x
    return tf.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=tf.cast(value, x.dtype))


# Said although it is the default: TensorFlow's gradients of three-dimensional ops ask for it.
_LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@primitive(TABLE)
def _conv(
    x: tf.Tensor, kernel: tf.Tensor, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> tf.Tensor:
    if len(strides) == 1 and groups > 1:  # the depthwise kernel knows two spatial axes
        pairs = padding if isinstance(padding, str) else ((0, 0), *padding)
        out = _conv(x[:, None], kernel[None], (1, *strides), pairs, (1, *dilation), groups)
        return tf.squeeze(out, [1])
    window, one = kernel.shape[:-2], (1,) * len(strides)
    uneven = groups > 1 and len(set(strides)) > 1
    if strides != one and (dilation != one or uneven):
        # At stride 1, then every stride-th result; padding as for the strides.
        pairs = padding_pairs(padding, shape_of(x)[1:-1], window, strides, dilation)
        out = _conv(_pad(x, pairs), kernel, one, "valid", dilation, groups)
        return out[(slice(None), *(slice(None, None, s) for s in strides))]
    if not isinstance(padding, str):
        x, padding = _pad(x, padding), "valid"
    padding = padding.upper()
    if groups == 1:
        layout = _LAYOUTS[len(strides)]
        return tf.nn.convolution(x, kernel, strides, padding, layout, dilations=dilation)
    if kernel.shape[-2] == 1 and len(strides) == 2:
        kernel = tf.reshape(kernel, (*window, groups, -1))
        return tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=dilation)
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([_conv(a, b, strides, padding.lower(), dilation, 1) for a, b in parts], -1)


@primitive(TABLE)
def _conv_transpose(
    x: tf.Tensor, kernel: tf.Tensor, strides: tuple, crops: list, dilation: tuple
) -> tf.Tensor:
    window = list(kernel.shape[:-2])
    for axis, step in enumerate(dilation):
        if step > 1:  # the kernel with the holes filled in
            shape = kernel.shape
            spread = tf.pad(tf.expand_dims(kernel, axis + 1), _ends(len(shape) + 1, axis + 1, step))
            window[axis] = (shape[axis] - 1) * step + 1
            flat = [*shape[:axis], shape[axis] * step, *shape[axis + 1 :]]
            kernel = tf.gather(tf.reshape(spread, flat), tf.range(window[axis]), axis=axis)
    sizes = shape_of(x)
    full = [(n - 1) * s + k for n, s, k in zip(sizes[1:-1], strides, window, strict=True)]
    out = tf.nn.conv_transpose(
        x, kernel, tf.stack([sizes[0], *full, kernel.shape[-2]]), strides, "VALID"
    )
    out = _pad(out, [(max(-a, 0), max(-b, 0)) for a, b in crops])
    kept = (slice(max(a, 0), -b if b > 0 else None) for a, b in crops)
    return out[(slice(None), *kept)]


def _ends(rank: int, axis: int, step: int) -> list:
    return [(0, step - 1 if a == axis else 0) for a in range(rank)]


@primitive(TABLE)
def _window(x: tf.Tensor, kind: str, size: tuple, strides: tuple, padding: Any) -> tf.Tensor:
    dtype = x.dtype
    if kind == "max_pool":
        if not isinstance(padding, str):
            x, padding = _pad(x, padding, dtype.min), "valid"
        return tf.nn.max_pool(x, size, strides, padding.upper(), _LAYOUTS[len(size)])
    if isinstance(padding, str):
        return tf.nn.avg_pool(x, size, strides, padding.upper(), _LAYOUTS[len(size)])
    inside = _pad(tf.ones_like(x[:1, ..., :1]), padding)
    layout = _LAYOUTS[len(size)]
    means = tf.nn.avg_pool(_pad(x, padding), size, strides, "VALID", layout)
    return means / tf.nn.avg_pool(inside, size, strides, "VALID", layout)
