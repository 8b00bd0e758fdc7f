"""Parts of tensors, read and written, on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keraslite.backend.primitives import primitive, with_remainders

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def unstack(x: jax.Array, num: int | None = None, axis: int = 0) -> list:
    if num not in (None, x.shape[axis]):
        raise ValueError(f"num must be the size of axis {axis}, {x.shape[axis]}, got {num}")
    return list(jnp.unstack(x, axis=axis))


@primitive(TABLE)
def get_item(x: jax.Array, key: Any) -> jax.Array:
    keys = tuple(np.asarray(k) if isinstance(k, list) else k for k in _tuple(key))
    return x[keys]


def _tuple(key: Any) -> tuple:
    return key if isinstance(key, tuple) else (key,)


@primitive(TABLE)
def slice_(inputs: jax.Array, start_indices: Any, shape: Any) -> jax.Array:
    if -1 in shape:
        shape = with_remainders(shape, start_indices, inputs.shape)
    return jax.lax.dynamic_slice(inputs, _starts(start_indices), tuple(shape))


@primitive(TABLE)
def slice_update(inputs: jax.Array, start_indices: Any, updates: jax.Array) -> jax.Array:
    updates = updates.astype(inputs.dtype)
    return jax.lax.dynamic_update_slice(inputs, updates, _starts(start_indices))


@primitive(TABLE)
def overwrite(inputs: jax.Array, start_indices: Any, updates: jax.Array) -> jax.Array:
    return slice_update(inputs, start_indices, updates)


def _starts(start_indices: Any) -> Any:
    """The starts as scalars: they may be one vector, or numbers and scalars mixed."""
    if isinstance(start_indices, jax.Array):
        return [start_indices[i] for i in range(start_indices.shape[0])]
    if all(type(i) is int for i in start_indices):
        return start_indices  # an array of each takes 20 us
    return [jnp.asarray(i, jnp.int32) for i in start_indices]


@primitive(TABLE)
def scatter_update(
    inputs: jax.Array, indices: jax.Array, updates: jax.Array, reduction: str | None = None
) -> jax.Array:
    at = inputs.at[tuple(indices.T)]
    write = {None: at.set, "add": at.add, "mul": at.multiply, "max": at.max, "min": at.min}
    return write[reduction](updates.astype(inputs.dtype))
