"""Activations and the dense product on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import nn

from keraslite.backend.primitives import primitive

# jax.nn's relu6, leaky_relu, hard_tanh and hard_sigmoid have other derivatives at their kinks than
# the other backends: there the composite bodies run, which XLA fuses as well.
_AS_THEY_ARE = "relu sigmoid softplus silu log_sigmoid elu selu gelu celu"


def _in_float32(fn: Any) -> Any:
    def call(x: jax.Array, axis: Any = -1) -> jax.Array:
        if x.dtype.itemsize > 2:
            return fn(x, axis)
        return fn(x.astype("float32"), axis).astype(x.dtype)

    return call


TABLE: dict[str, Any] = {name: getattr(nn, name) for name in _AS_THEY_ARE.split()} | {
    "softsign": nn.soft_sign,
    "softmax": _in_float32(nn.softmax),
    "log_softmax": _in_float32(nn.log_softmax),
}


@primitive(TABLE)
def linear(
    x: jax.Array, kernel: jax.Array, bias: Any = None, activation: str | None = None
) -> jax.Array:
    out = jnp.matmul(x, kernel)
    out = out if bias is None else out + bias
    if activation is None:
        return out
    if activation == "relu":
        return nn.relu(out)
    if activation == "gelu":
        return nn.gelu(out, approximate=False)
    raise ValueError(f"ops.linear: activation must be None, 'relu' or 'gelu', got {activation!r}.")
