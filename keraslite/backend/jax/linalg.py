"""Linear algebra on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.primitives import primitive


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE: dict[str, Any] = {"det": jnp.linalg.det, "inv": jnp.linalg.inv}
TABLE |= {name: _tuple(getattr(jnp.linalg, name)) for name in ("eig", "eigh")}


@primitive(TABLE)
def cholesky(x: jax.Array, upper: bool = False) -> jax.Array:
    return jnp.linalg.cholesky(x, upper=upper)


@primitive(TABLE)
def lu_factor(x: jax.Array) -> tuple:
    return jax.scipy.linalg.lu_factor(x)


@primitive(TABLE)
def qr(x: jax.Array, mode: str = "reduced") -> tuple:
    if mode not in ("reduced", "complete"):
        raise ValueError(f"the mode is reduced or complete, not {mode!r}")
    return tuple(jnp.linalg.qr(x, mode))


@primitive(TABLE)
def solve(a: jax.Array, b: jax.Array) -> jax.Array:
    if b.ndim == a.ndim - 1:
        return jnp.linalg.solve(a, b[..., None])[..., 0]
    return jnp.linalg.solve(a, b)


@primitive(TABLE)
def solve_triangular(a: jax.Array, b: jax.Array, lower: bool = False) -> jax.Array:
    columns = b[..., None] if b.ndim == a.ndim - 1 else b
    out = jax.lax.linalg.triangular_solve(a, columns, left_side=True, lower=lower)
    return out[..., 0] if b.ndim == a.ndim - 1 else out


@primitive(TABLE)
def svd(x: jax.Array, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    out = jnp.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(out) if compute_uv else out
