"""New tensors on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

from keraslite import dtypes
from keraslite.backend.jax.tensors import native, native_or_none
from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {"copy": jnp.copy}


@primitive(TABLE)
def full(shape: Any, fill_value: Any, dtype: Any = None) -> jax.Array:
    return jnp.full(shape, fill_value, native(dtype))


@primitive(TABLE)
def zeros_like(x: jax.Array, dtype: Any = None) -> jax.Array:
    return jnp.zeros_like(x, native_or_none(dtype))


@primitive(TABLE)
def ones_like(x: jax.Array, dtype: Any = None) -> jax.Array:
    return jnp.ones_like(x, native_or_none(dtype))


@primitive(TABLE)
def full_like(x: jax.Array, fill_value: Any, dtype: Any = None) -> jax.Array:
    return jnp.full_like(x, fill_value, native_or_none(dtype))


@primitive(TABLE)
def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> jax.Array:  # noqa: N803
    return jnp.eye(N, M, k, native(dtype))


@primitive(TABLE)
def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> jax.Array:  # noqa: N803
    return jnp.tri(N, M, k, native(dtype))


@primitive(TABLE)
def linspace(
    start: jax.Array, stop: jax.Array, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    return jnp.linspace(start, stop, num, endpoint, retstep, native_or_none(dtype), axis=axis)


@primitive(TABLE)
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> jax.Array:
    bounds = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in bounds)))
    return jnp.arange(start, stop, step, dtype)
