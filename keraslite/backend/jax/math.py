"""Special functions, log-sum-exp and top-k on JAX."""

from typing import Any

import jax

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {
    "rsqrt": jax.lax.rsqrt,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
}


@primitive(TABLE)
def logsumexp(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    return jax.scipy.special.logsumexp(
        x, axis=tuple(axis) if type(axis) is list else axis, keepdims=keepdims
    )


@primitive(TABLE)
def top_k(x: jax.Array, k: int, sorted: bool = True) -> tuple:
    return tuple(jax.lax.top_k(x, k))
