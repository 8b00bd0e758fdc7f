"""Activations and the dense product on TensorFlow."""

from functools import wraps
from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.tensors import shape_of
from keraslite.scopes import scopes


def _gelu(x: tf.Tensor, approximate: bool = True) -> tf.Tensor:
    """`tf.nn.gelu`; in graphs for other programs in the form that these know and fuse."""
    if approximate or not scopes.plain_graph:
        return tf.nn.gelu(x, approximate)
    return 0.5 * x * (1 + tf.math.erf(x / 2**0.5))


TABLE: dict[str, Any] = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "sigmoid": tf.math.sigmoid,
    "softplus": tf.math.softplus,
    "softsign": tf.nn.softsign,
    "silu": lambda x: tf.nn.silu(x),
    "log_sigmoid": tf.math.log_sigmoid,
    "leaky_relu": lambda x, negative_slope=0.2: tf.nn.leaky_relu(x, negative_slope),
    "gelu": _gelu,
}


def _in_float32(fn: Any) -> Any:
    @wraps(fn)
    def call(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
        if x.dtype.size > 2:
            return fn(x, axis)
        return tf.cast(fn(tf.cast(x, tf.float32), axis), x.dtype)

    return call


@primitive(TABLE)
@_in_float32
def softmax(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    return tf.nn.softmax(x, axis) if isinstance(axis, int) else tf.exp(log_softmax(x, axis))


@primitive(TABLE)
@_in_float32
def log_softmax(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    if isinstance(axis, int):
        return tf.nn.log_softmax(x, axis)
    return x - tf.reduce_logsumexp(x, axis, keepdims=True)


@primitive(TABLE)
def linear(
    x: tf.Tensor, kernel: tf.Tensor, bias: Any = None, activation: str | None = None
) -> tf.Tensor:
    """One matrix product: tf.matmul would make it a product a sample, and so the gradient."""
    if len(kernel.shape) == 1:  # tf.matmul takes matrices only
        bias = None if bias is None else tf.reshape(bias, (1,))
        return tf.squeeze(linear(x, kernel[:, None], bias, activation), -1)
    rows = x if len(x.shape) == 2 else tf.reshape(x, (-1, shape_of(x)[-1]))
    out = tf.matmul(rows, kernel)
    out = out if bias is None else tf.nn.bias_add(out, bias)
    if activation == "relu":
        out = tf.nn.relu(out)
    elif activation == "gelu":
        out = _gelu(out, approximate=False)
    elif activation is not None:
        raise ValueError(
            f"ops.linear: activation must be None, 'relu' or 'gelu', got {activation!r}."
        )
    if len(x.shape) == 2:
        return out
    return tf.reshape(out, (*shape_of(x)[:-1], shape_of(kernel)[1]))
