"""PRIMITIVES for ops/nn.py on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from keraslite.backend.jax.tensors import native
from keraslite.backend.windows import output_size, padding_pairs

# jax.nn's relu6, leaky_relu, hard_tanh and hard_sigmoid have other derivatives at their kinks than
# the other backends: there the composite bodies run, which XLA fuses as well.
_AS_THEY_ARE = "relu sigmoid softplus silu log_sigmoid elu selu gelu celu"
TABLE: dict[str, Any] = {name: getattr(nn, name) for name in _AS_THEY_ARE.split()} | {
    "softsign": nn.soft_sign,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


def _in_float32(fn: Any) -> Any:
    def call(x: jax.Array, axis: Any = -1) -> jax.Array:
        if x.dtype.itemsize > 2:
            return fn(x, axis)
        return fn(x.astype("float32"), axis).astype(x.dtype)

    return call


TABLE["softmax"] = _in_float32(nn.softmax)
TABLE["log_softmax"] = _in_float32(nn.log_softmax)


@_primitive
def _one_hot(x: jax.Array, num_classes: int, axis: int, dtype: Any) -> jax.Array:
    x = x.astype("int32") if x.dtype.kind == "f" else x
    return nn.one_hot(x, num_classes, dtype=native(dtype), axis=axis)


@_primitive
def linear(
    x: jax.Array, kernel: jax.Array, bias: Any = None, activation: str | None = None
) -> jax.Array:
    out = jnp.matmul(x, kernel)
    out = out if bias is None else out + bias
    if activation is None:
        return out
    if activation == "relu":
        return nn.relu(out)
    if activation == "gelu":
        return nn.gelu(out, approximate=False)
    raise ValueError(f"ops.linear fuses None, 'relu' or 'gelu', got {activation!r}.")


@_primitive
def _scores(query: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.matmul(query, key, preferred_element_type=jnp.promote_types(query.dtype, "float32"))


@_primitive
def _fused_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: Any,
    mask: Any,
    scale: Any,
    is_causal: bool,
) -> Any:
    # Only cuDNN's kernel is fused; jax's own form on other devices is not faster than the body.
    if query.dtype.itemsize != 2 or jax.default_backend() != "gpu" or value.shape != key.shape:
        return NotImplemented
    # cuDNN takes no bias or mask that is one row for all queries.
    bias, mask = (
        x if x is None else jnp.broadcast_to(x, (*x.shape[:2], query.shape[1], key.shape[1]))
        for x in (bias, mask)
    )
    return nn.dot_product_attention(
        query, key, value, bias, mask, scale=scale, is_causal=is_causal, implementation="cudnn"
    )


# ---- convolutions and pools ----

_SPATIAL = ("W", "HW", "DHW")


@_primitive
def _conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> jax.Array:
    s = _SPATIAL[len(strides) - 1]
    padding = padding.upper() if isinstance(padding, str) else padding
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=(f"N{s}C", f"{s}IO", f"N{s}C"),
    )  # fmt: skip


@_primitive
def _conv_transpose(
    x: jax.Array, kernel: jax.Array, strides: tuple, crops: list, dilation: tuple
) -> jax.Array:
    rank = len(strides)
    s = _SPATIAL[rank - 1]
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:-2], dilation, strict=True)]
    padding = [(r - a, r - b) for r, (a, b) in zip(reach, crops, strict=True)]
    return lax.conv_general_dilated(
        x, jnp.flip(kernel, range(rank)), (1,) * rank, padding, strides, dilation,
        dimension_numbers=(f"N{s}C", f"{s}OI", f"N{s}C"),
    )  # fmt: skip


@_primitive
def _window(x: jax.Array, kind: str, size: tuple, strides: tuple, padding: Any) -> jax.Array:
    pairs = padding_pairs(padding, x.shape[1:-1], size, strides, (1,) * len(size))
    window, steps, pads = (1, *size, 1), (1, *strides, 1), ((0, 0), *pairs, (0, 0))
    if kind == "max_pool":
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        low = -np.inf if floating else jnp.iinfo(x.dtype).min
        return lax.reduce_window(x, np.array(low, x.dtype)[()], lax.max, window, steps, pads)
    wide = x if x.dtype.itemsize > 2 else x.astype("float32")
    sums = lax.reduce_window(wide, np.array(0, wide.dtype)[()], lax.add, window, steps, pads)
    return (sums / _counts(x.shape[1:-1], size, strides, pairs).astype(wide.dtype)).astype(x.dtype)


def _counts(sizes: tuple, size: tuple, strides: tuple, pairs: list) -> np.ndarray:
    """How many elements of the input each window covers, over the spatial axes and a last one."""
    counts = np.ones(())
    for n, k, s, (a, b) in zip(sizes, size, strides, pairs, strict=True):
        starts = np.arange(output_size(n + a + b, k, s)) * s - a
        counts = counts[..., None] * (np.minimum(starts + k, n) - np.maximum(starts, 0))
    return counts[..., None]
