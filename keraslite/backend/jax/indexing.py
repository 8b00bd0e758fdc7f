"""Indexing by tensors, sorting and searching on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {
    "diff": lambda a, n=1, axis=-1: jnp.diff(a, n, axis),
    "isclose": jnp.isclose,
    "searchsorted": jnp.searchsorted,
}


@primitive(TABLE)
def take_along_axis(x: jax.Array, indices: jax.Array, axis: Any = None) -> jax.Array:
    _check_range(x, indices, axis)
    return jnp.take_along_axis(x, indices, axis)


@primitive(TABLE)
def take(x: jax.Array, indices: jax.Array, axis: Any = None) -> jax.Array:
    _check_range(x, indices, axis)
    return jnp.take(x, indices, axis)


def _check_range(x: jax.Array, indices: jax.Array, axis: Any) -> None:
    """Raise for an index out of range, which JAX passes over; a trace has none to see."""
    if isinstance(indices, jax.core.Tracer) or not indices.size or indices.dtype == bool:
        return
    size = x.size if axis is None else x.shape[axis]
    values = np.asarray(indices)
    low, high = values.min(), values.max()
    if low < -size or high >= size:
        raise IndexError(
            f"index {low if low < -size else high} is out of range for a size of {size}"
        )


@primitive(TABLE)
def nonzero(x: jax.Array) -> tuple:
    return jnp.nonzero(x)


@primitive(TABLE)
def sort(x: jax.Array, axis: Any = -1) -> jax.Array:
    return jnp.sort(x, axis)


@primitive(TABLE)
def argsort(x: jax.Array, axis: Any = -1) -> jax.Array:
    return jnp.argsort(x, axis if x.ndim else None)
