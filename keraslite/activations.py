"""Activations by name. (Being written.)"""

from typing import Any

from keraslite import ops, registry
from keraslite.ops import (  # noqa: F401
    elu,
    gelu,
    hard_sigmoid,
    leaky_relu,
    log_softmax,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)

swish = silu


def linear(x: Any) -> Any:
    """The input itself."""
    return x


def exponential(x: Any) -> Any:
    """The exponential."""
    return ops.exp(x)


def get(identifier: Any) -> Any:
    """An activation from a name, a function or None (linear)."""
    if identifier is None:
        return linear
    table = {k: v for k, v in globals().items() if callable(v) and not k.startswith("_")}
    return registry.get(identifier, table, "activation")


def serialize(activation: Any) -> Any:
    """The name of an activation."""
    return registry.serialize_keras_object(activation)
