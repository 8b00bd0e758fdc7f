"""Activations by name: the functions of Keras's `activations`, over the ops of the same names."""

from collections.abc import Mapping
from typing import Any

from keraslite import ops, registry
from keraslite.ops import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)
from keraslite.typing import Tensor

swish = silu
hard_swish = hard_silu


def relu(
    x: Tensor,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """`max(x, 0)`; optionally with a slope below, a largest value, and another threshold than 0.

    Args:
        x: a tensor.
        negative_slope: what `x - threshold` is multiplied by where x is below the threshold.
        max_value: the largest value.
        threshold: where x begins to pass.

    >>> print(ops.convert_to_numpy(relu([-2.0, 1.0, 9.0], 0.5, max_value=6.0)))
    [-1.  1.  6.]
    """
    if not negative_slope and not threshold:
        if max_value is None:
            return ops.relu(x)
        return ops.relu6(x) if max_value == 6 else ops.minimum(ops.relu(x), max_value)
    x = ops.convert_to_tensor(x)
    if max_value is None and not threshold:
        return ops.leaky_relu(x, negative_slope)
    above = x if max_value is None else ops.clip(x, 0.0, max_value)
    # At the threshold itself nothing passes, as in relu.
    below = ops.multiply(ops.subtract(x, threshold), negative_slope)
    return ops.where(ops.greater(x, threshold), above, below)


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """x times the normal distribution function of x; by default the exact one, unlike `ops.gelu`.

    >>> print(ops.convert_to_numpy(gelu([1.0])).round(4))
    [0.8413]
    """
    return ops.gelu(x, approximate)


def exponential(x: Tensor) -> Tensor:
    """`exp(x)`.

    >>> print(ops.convert_to_numpy(exponential([0.0])))
    [1.]
    """
    return ops.exp(x)


def mish(x: Tensor) -> Tensor:
    """`x * tanh(softplus(x))`.

    >>> print(ops.convert_to_numpy(mish([1.0])).round(4))
    [0.8651]
    """
    x = ops.convert_to_tensor(x)
    return x * ops.tanh(ops.softplus(x))


def linear(x: Tensor) -> Tensor:
    """The input itself.

    >>> linear(2.0)
    2.0
    """
    return x


_NAMES = """celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax
    softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink
    threshold"""
_TABLE = {name: globals()[name] for name in _NAMES.split()}


def get(identifier: Any) -> Any:
    """An activation from a name, a config, a function, or None, which stands for `linear`.

    >>> get("relu") is relu
    True
    """
    if identifier is None:
        return linear
    if isinstance(identifier, dict) and identifier.get("class_name") == "function":
        name = identifier.get("registered_name")
        return registry.resolve(identifier["config"], "keras.activations", name)
    if isinstance(identifier, str) and ">" in identifier:  # a registered function
        return registry.resolve(identifier)
    return registry.get(identifier, _TABLE, "activation")


def serialize(activation: Any) -> Any:
    """The name of an activation, or the config of an object.

    >>> serialize(silu)
    'silu'
    """
    return registry.serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The inverse of `serialize`.

    Args:
        config: what it returned.
        custom_objects: functions and classes by name, beside the registered ones.

    >>> deserialize("silu") is silu
    True
    """
    with registry.custom_object_scope(custom_objects or {}):
        return get(config)


__all__ = [
    "celu", "deserialize", "elu", "exponential", "gelu", "get", "glu", "hard_shrink",
    "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid",
    "log_softmax", "mish", "relu", "relu6", "selu", "serialize", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink", "threshold",
]  # fmt: skip
