"""Convolutions and pools on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from keraslite.backend.primitives import primitive
from keraslite.backend.windows import output_size, padding_pairs

TABLE: dict[str, Any] = {}


_SPATIAL = ("W", "HW", "DHW")


@primitive(TABLE)
def _conv(
    x: jax.Array, kernel: jax.Array, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> jax.Array:
    s = _SPATIAL[len(strides) - 1]
    padding = padding.upper() if isinstance(padding, str) else padding
    return lax.conv_general_dilated(
        x, kernel, strides, padding, rhs_dilation=dilation, feature_group_count=groups,
        dimension_numbers=(f"N{s}C", f"{s}IO", f"N{s}C"),
    )  # fmt: skip


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
