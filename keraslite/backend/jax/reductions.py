"""Reductions and running sums on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.jax.tensors import native_or_none
from keraslite.backend.primitives import primitive


def _axis(axis: Any) -> Any:
    return tuple(axis) if type(axis) is list else axis


def _reduction(fn: Callable) -> Callable:
    def call(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


def _in_float32(fn: Callable) -> Callable:
    """Halves overflow in the sums of a mean."""

    def call(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        if wide == x.dtype:
            return fn(x, axis=_axis(axis), keepdims=keepdims)
        return fn(x, axis=_axis(axis), keepdims=keepdims, dtype=wide).astype(x.dtype)

    return call


def _extreme(fn: Callable) -> Callable:
    def call(
        x: jax.Array, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> jax.Array:
        return fn(x, axis=_axis(axis), keepdims=keepdims, initial=initial)

    return call


_PLAIN = ("sum", "all", "any", "argmax", "argmin", "ptp", "nansum", "nanprod")
TABLE: dict[str, Any] = {name: _reduction(getattr(jnp, name)) for name in _PLAIN}
TABLE |= {name: _in_float32(getattr(jnp, name)) for name in ("mean", "var", "std", "nanmean")}
TABLE |= {"max": _extreme(jnp.max), "min": _extreme(jnp.min)}


@primitive(TABLE)
def quantile(
    x: jax.Array, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> jax.Array:
    number = isinstance(q, int | float)
    if number and not 0 <= q <= 1:
        raise ValueError(f"q must lie within its range, got {q} of 1")
    wide = jnp.promote_types(x.dtype, jnp.float32)
    q = q if number else jnp.asarray(q, wide)
    a = x if x.dtype == wide else x.astype(wide)
    flat = q if number or q.ndim < 2 else q.reshape(-1)
    out = jnp.quantile(a, flat, _axis(axis), method=method, keepdims=keepdims)
    out = out if flat is q else out.reshape(q.shape + out.shape[1:])
    return out if x.dtype == wide else out.astype(x.dtype)


@primitive(TABLE)
def prod(x: jax.Array, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> jax.Array:
    return jnp.prod(x, axis=_axis(axis), keepdims=keepdims, dtype=native_or_none(dtype))


@primitive(TABLE)
def cumsum(x: jax.Array, axis: Any = None, dtype: Any = None) -> jax.Array:
    return jnp.cumsum(x, axis, native_or_none(dtype))


@primitive(TABLE)
def cumprod(x: jax.Array, axis: Any = None, dtype: Any = None) -> jax.Array:
    return jnp.cumprod(x, axis, native_or_none(dtype))
