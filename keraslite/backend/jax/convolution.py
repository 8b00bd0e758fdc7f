"""Convolutions and pools on JAX.

On a CPU, XLA's convolutions of groups, of single pixels and of small images take 3 to 100 times as
long as the same sums written as products: there they are written so.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from keraslite.backend.jax.products import matmul
from keraslite.backend.primitives import primitive
from keraslite.backend.windows import output_size, padding_pairs

TABLE: dict[str, Any] = {}


_SPATIAL = ("W", "HW", "DHW")
_FEW_POSITIONS = 512  # of all outputs: a product of their patches is faster than a convolution
_MOST_OFFSETS = 49  # of a kernel that is written out
_MOST_GROUPS = 64  # that are written out


@primitive(TABLE)
def _conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> jax.Array:
    form = _native_conv
    if x.dtype in ("float32", "float64") and jax.default_backend() == "cpu":
        traced = isinstance(x, jax.core.Tracer)
        form = _form_on_cpu(x.shape, kernel.shape, strides, padding, dilation, groups, traced)
    if form is not _native_conv:
        pairs = padding_pairs(padding, x.shape[1:-1], kernel.shape[:-2], strides, dilation)
        padding = tuple(pairs)
    return form(x, kernel, strides, padding, dilation, groups)


def _native_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> jax.Array:
    s = _SPATIAL[len(strides) - 1]
    padding = padding.upper() if isinstance(padding, str) else padding
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=(f"N{s}C", f"{s}IO", f"N{s}C"),
    )  # fmt: skip


def _form_on_cpu(
    shape: tuple, kernel_shape: tuple, strides: tuple, padding: Any, dilation: tuple, groups: int,
    traced: bool,
) -> Any:  # fmt: skip
    """Return the form of a convolution that a CPU computes fastest."""
    *window, part, _ = kernel_shape
    sizes = shape[1:-1]
    if not all(isinstance(n, int) for n in shape):  # sizes of an exported function
        return _native_conv
    if math.prod(window) > _MOST_OFFSETS:
        return _native_conv
    if groups > 1:
        if not traced:  # compiling what is written out takes longer than one call gains
            return _native_conv
        if part == 1:
            return _depthwise_conv
        return _grouped_conv if groups <= _MOST_GROUPS else _native_conv
    if math.prod(window) == 1:
        return _conv_of_patches
    pairs = padding_pairs(padding, sizes, window, strides, dilation)
    outputs = (
        output_size(n + a + b, k, s, d)
        for n, (a, b), k, s, d in zip(sizes, pairs, window, strides, dilation, strict=True)
    )
    few = shape[0] * math.prod(outputs) <= _FEW_POSITIONS
    # A kernel larger than the image meets a form of XLA that is a hundred times slower.
    return _conv_of_patches if few or any(map(int.__gt__, window, sizes)) else _native_conv


def _offsets(
    x: jax.Array, window: tuple, strides: tuple, pairs: tuple, dilation: tuple
) -> list[jax.Array]:
    """Return what each element of a kernel meets, (batch, *outputs, channels) each."""
    if any(a or b for a, b in pairs):
        x = jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    spans = [
        (output_size(n, k, s, d) - 1) * s + 1
        for n, k, s, d in zip(x.shape[1:-1], window, strides, dilation, strict=True)
    ]
    out = []
    for offset in np.ndindex(*window):
        starts = [i * d for i, d in zip(offset, dilation, strict=True)]
        ends = [a + n for a, n in zip(starts, spans, strict=True)]
        out.append(
            lax.slice(x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1))
        )
    return out


# One compiled function where it is called eagerly, and written into the caller's graph elsewhere.
@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5), inline=True)
def _conv_of_patches(
    x: jax.Array, kernel: jax.Array, strides: tuple, pairs: tuple, dilation: tuple, groups: int
) -> jax.Array:
    offsets = _offsets(x, kernel.shape[:-2], strides, pairs, dilation)
    patches = offsets[0] if len(offsets) == 1 else jnp.concatenate(offsets, axis=-1)
    return matmul(patches, kernel.reshape(-1, kernel.shape[-1]))


def _depthwise_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, pairs: tuple, dilation: tuple, groups: int
) -> jax.Array:
    weights = kernel.reshape(-1, groups, kernel.shape[-1] // groups)
    offsets = _offsets(x, kernel.shape[:-2], strides, pairs, dilation)
    out = sum(part[..., None] * weight for part, weight in zip(offsets, weights, strict=True))
    return out.reshape(*out.shape[:-2], -1)


def _grouped_conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, pairs: tuple, dilation: tuple, groups: int
) -> jax.Array:
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate(
        [_conv(part, weights, strides, pairs, dilation, 1) for part, weights in parts], axis=-1
    )


@primitive(TABLE)
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


@primitive(TABLE)
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
