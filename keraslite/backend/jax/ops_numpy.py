"""PRIMITIVES for ops/numpy.py and ops/core.py on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.jax.tensors import native

# Ops whose JAX function takes a Python number beside an array and follows the array's dtype.
SCALARS = frozenset(["add", "subtract", "multiply", "divide", "true_divide", "power"])

_AS_THEY_ARE = """add subtract multiply divide power matmul exp log sqrt tanh sin cos reshape
    transpose absolute negative stack"""
TABLE = {name: getattr(jnp, name) for name in _AS_THEY_ARE.split()} | {
    "stop_gradient": jax.lax.stop_gradient,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


@_primitive
def zeros(shape: Any, dtype: Any = None) -> jax.Array:
    return jnp.zeros(shape, native(dtype))
