"""Casts, shapes and joins of tensors on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keraslite.backend.jax.tensors import native
from keraslite.backend.primitives import primitive

# jax.numpy's functions taken as they are.
_AS_THEY_ARE = """transpose moveaxis swapaxes squeeze expand_dims broadcast_to stack flip roll
    hstack vstack dstack append array_split ravel rot90"""
TABLE: dict[str, Any] = {name: getattr(jnp, name) for name in _AS_THEY_ARE.split()} | {
    "stop_gradient": jax.lax.stop_gradient,
}


@primitive(TABLE)
def cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x.astype(native(dtype))


@primitive(TABLE)
def _positions(x: jax.Array, size: int) -> jax.Array:
    return jnp.arange(size, dtype=jnp.int32)


@primitive(TABLE)
def reshape(x: jax.Array, newshape: Any) -> jax.Array:
    return jnp.reshape(x, newshape)


@primitive(TABLE)
def concatenate(xs: list, axis: int = 0) -> jax.Array:
    return jnp.concatenate(xs, axis)


@primitive(TABLE)
def split(x: jax.Array, indices_or_sections: Any, axis: int = 0) -> list:
    return jnp.split(x, indices_or_sections, axis)


@primitive(TABLE)
def tile(x: jax.Array, repeats: Any) -> jax.Array:
    return jnp.tile(x, repeats)


@primitive(TABLE)
def repeat(x: jax.Array, repeats: Any, axis: Any = None) -> jax.Array:
    repeats = repeats if isinstance(repeats, int | jax.Array) else np.asarray(repeats)
    return jnp.repeat(x, repeats, axis)


@primitive(TABLE)
def pad(
    x: jax.Array, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> jax.Array:
    options = {} if constant_values is None else {"constant_values": constant_values}
    return jnp.pad(x, pad_width, mode, **options)


@primitive(TABLE)
def _view(x: jax.Array, dtype: str) -> jax.Array:
    return x.view(native(dtype))
