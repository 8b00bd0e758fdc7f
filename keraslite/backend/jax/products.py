"""Products of tensors, and diagonals and triangles of matrices, on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {
    name: getattr(jnp, name)
    for name in (
        "cross",
        "diag",
        "diagonal",
        "dot",
        "inner",
        "kron",
        "outer",
        "tensordot",
        "trace",
        "tril",
        "triu",
        "vdot",
    )
} | {"slogdet": lambda x: tuple(jnp.linalg.slogdet(x))}


def _widened(x: jax.Array) -> Any:
    """Products of two int8 tensors add up in int32."""
    return jnp.int32 if x.dtype == jnp.int8 else None


@primitive(TABLE)
def matmul(x1: jax.Array, x2: jax.Array) -> jax.Array:
    if x1.ndim > 2 and x2.ndim == 2 and jax.default_backend() == "cpu":
        # As a product of matrices, whose gradient XLA computes without transposing copies.
        rows = jnp.matmul(lax.collapse(x1, 0, -1), x2, preferred_element_type=_widened(x1))
        return rows.reshape(*x1.shape[:-1], x2.shape[-1])
    return jnp.matmul(x1, x2, preferred_element_type=_widened(x1))


@primitive(TABLE)
def einsum(subscripts: str, *operands: jax.Array, **kwargs: Any) -> jax.Array:
    return jnp.einsum(subscripts, *operands, preferred_element_type=_widened(operands[0]))
