"""PRIMITIVES for ops/nn.py on TensorFlow.

Its CPU kernels miss grouped convolutions, dilation with strides, and gradients of dilated
transposed ones; those are put together here from what there is.
"""

from functools import wraps
from typing import Any

import tensorflow as tf

from keraslite.backend.tensorflow.tensors import dynamic_shape, native
from keraslite.backend.windows import padding_pairs

TABLE: dict[str, Any] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "sigmoid": tf.math.sigmoid,
    "softplus": tf.math.softplus,
    "softsign": tf.nn.softsign,
    "silu": lambda x: tf.nn.silu(x),
    "log_sigmoid": tf.math.log_sigmoid,
    "leaky_relu": lambda x, negative_slope=0.2: tf.nn.leaky_relu(x, negative_slope),
    "gelu": lambda x, approximate=True: tf.nn.gelu(x, approximate),
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


def _in_float32(fn: Any) -> Any:
    @wraps(fn)
    def call(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
        if x.dtype.size > 2:
            return fn(x, axis)
        return tf.cast(fn(tf.cast(x, tf.float32), axis), x.dtype)

    return call


@_primitive
@_in_float32
def softmax(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    return tf.nn.softmax(x, axis) if isinstance(axis, int) else tf.exp(log_softmax(x, axis))


@_primitive
@_in_float32
def log_softmax(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    if isinstance(axis, int):
        return tf.nn.log_softmax(x, axis)
    return x - tf.reduce_logsumexp(x, axis, keepdims=True)


@_primitive
def _one_hot(x: tf.Tensor, num_classes: int, axis: int, dtype: Any) -> tf.Tensor:
    dtype = native(dtype)
    x = tf.cast(x, tf.int32) if x.dtype not in (tf.uint8, tf.int8, tf.int32, tf.int64) else x
    axis %= len(x.shape) + 1
    return tf.one_hot(x, num_classes, tf.cast(1, dtype), tf.cast(0, dtype), axis)


@_primitive
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


@_primitive
def linear(
    x: tf.Tensor, kernel: tf.Tensor, bias: Any = None, activation: str | None = None
) -> tf.Tensor:
    """One matrix product: tf.matmul would make it a product a sample, and so the gradient."""
    rows = x if len(x.shape) == 2 else tf.reshape(x, (-1, dynamic_shape(x)[-1]))
    out = tf.matmul(rows, kernel)
    out = out if bias is None else tf.nn.bias_add(out, bias)
    if activation == "relu":
        out = tf.nn.relu(out)
    elif activation == "gelu":
        out = tf.nn.gelu(out, approximate=False)
    elif activation is not None:
        raise ValueError(f"ops.linear fuses None, 'relu' or 'gelu', got {activation!r}.")
    if len(x.shape) == 2:
        return out
    return tf.reshape(out, (*dynamic_shape(x)[:-1], dynamic_shape(kernel)[1]))


@_primitive
def _normalize_batch(x: tf.Tensor, scale: Any, offset: Any, epsilon: float) -> Any:
    channels = x.shape[-1]
    if x.dtype != tf.float32 or channels is None or epsilon < 1.001e-5:
        return NotImplemented  # the kernel has a floor for epsilon
    scale = tf.ones(channels) if scale is None else tf.cast(scale, tf.float32)
    offset = tf.zeros(channels) if offset is None else tf.cast(offset, tf.float32)
    rows = x if len(x.shape) == 4 else tf.reshape(x, (-1, 1, 1, channels))
    out, mean, variance = tf.compat.v1.nn.fused_batch_norm(rows, scale, offset, epsilon=epsilon)
    count = tf.cast(tf.size(x) // channels, tf.float32)
    biased = variance * ((count - 1) / count)  # the kernel gives the unbiased variance
    return tf.reshape(out, dynamic_shape(x)), tf.stop_gradient(mean), tf.stop_gradient(biased)


@_primitive
def _ctc(
    target: tf.Tensor,
    logs: tf.Tensor,
    target_length: tf.Tensor,
    output_length: tf.Tensor,
    blank: int,
) -> tf.Tensor:
    return tf.nn.ctc_loss(target, logs, target_length, output_length, False, blank_index=blank)


# ---- convolutions and pools ----


def _pad(x: tf.Tensor, pairs: list, value: float = 0.0) -> tf.Tensor:
    if not any(isinstance(v, tf.Tensor) or v for pair in pairs for v in pair):
        return x
    return tf.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=tf.cast(value, x.dtype))


# Said although it is the default: TensorFlow's gradients of three-dimensional ops ask for it.
_LAYOUTS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


@_primitive
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
        pairs = padding_pairs(padding, dynamic_shape(x)[1:-1], window, strides, dilation)
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


@_primitive
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
    sizes = dynamic_shape(x)
    full = [(n - 1) * s + k for n, s, k in zip(sizes[1:-1], strides, window, strict=True)]
    out = tf.nn.conv_transpose(
        x, kernel, tf.stack([sizes[0], *full, kernel.shape[-2]]), strides, "VALID"
    )
    out = _pad(out, [(max(-a, 0), max(-b, 0)) for a, b in crops])
    kept = (slice(max(a, 0), -b if b > 0 else None) for a, b in crops)
    return out[(slice(None), *kept)]


def _ends(rank: int, axis: int, step: int) -> list:
    return [(0, step - 1 if a == axis else 0) for a in range(rank)]


@_primitive
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
