"""Regularizers: penalties on the size of weights or outputs."""

import math
from typing import Any

from keraslite import ops, registry
from keraslite.naming import to_snake_case


class Regularizer:
    """A function of a tensor that gives a scalar penalty."""

    def __call__(self, x: Any) -> Any:
        """The penalty."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        raise NotImplementedError(f"{self} does not implement get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Regularizer":
        """The regularizer of a config."""
        return cls(**config)


def _factor(value: Any, name: str, default: float = 0.0) -> float:
    value = default if value is None else value
    if not isinstance(value, float | int) or not math.isfinite(value) or value < 0:
        raise ValueError(
            f"Invalid value for argument {name}: expected a non-negative float. "
            f"Received: {name}={value}"
        )
    return float(value)


class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x ** 2)`.

    Args:
        l1: the factor of the absolute values.
        l2: the factor of the squares.

    >>> float(L1L2(l1=1.0, l2=0.5)(ops.convert_to_tensor([-2.0])))
    4.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _factor(l1, "l1"), _factor(l2, "l2")

    def __call__(self, x: Any) -> Any:
        """The penalty."""
        parts = []
        if self.l1:
            parts.append(self.l1 * ops.sum(ops.absolute(x)))
        if self.l2:
            parts.append(self.l2 * ops.sum(ops.square(x)))
        return sum(parts[1:], parts[0]) if parts else ops.zeros((), dtype=x.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"l1": self.l1, "l2": self.l2}


class L1(Regularizer):
    """`l1 * sum(|x|)`.

    Args:
        l1: the factor.

    >>> float(L1(0.5)(ops.convert_to_tensor([-2.0])))
    1.0
    """

    def __init__(self, l1: float = 0.01):
        self.l1 = _factor(l1, "l1", 0.01)

    def __call__(self, x: Any) -> Any:
        """The penalty."""
        return self.l1 * ops.sum(ops.absolute(x))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"l1": self.l1}


class L2(Regularizer):
    """`l2 * sum(x ** 2)`.

    Args:
        l2: the factor.

    >>> float(L2(0.5)(ops.convert_to_tensor([-2.0])))
    2.0
    """

    def __init__(self, l2: float = 0.01):
        self.l2 = _factor(l2, "l2", 0.01)

    def __call__(self, x: Any) -> Any:
        """The penalty."""
        return self.l2 * ops.sum(ops.square(x))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"l2": self.l2}


class OrthogonalRegularizer(Regularizer):
    """The mean absolute cosine between different rows (or columns) of a matrix.

    Args:
        factor: what it is multiplied by.
        mode: "rows" or "columns".
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor, self.mode = _factor(factor, "factor"), mode
        if mode not in ("rows", "columns"):
            raise ValueError(
                'Invalid value for argument `mode`. Expected one of {"rows", "columns"}. '
                f"Received: mode={mode}"
            )

    def __call__(self, inputs: Any) -> Any:
        """The penalty of a matrix."""
        if len(inputs.shape) != 2:
            raise ValueError(
                "Inputs to OrthogonalRegularizer must have rank 2. "
                f"Received: inputs.shape={tuple(inputs.shape)}"
            )
        rows = inputs if self.mode == "rows" else ops.transpose(inputs)
        rows = ops.normalize(rows, axis=1)
        size = rows.shape[0]
        product = ops.matmul(rows, ops.transpose(rows))
        between = product * (1.0 - ops.eye(size, dtype=ops.dtype(product)))
        return self.factor * 0.5 * ops.sum(ops.absolute(between)) / (size * (size - 1) / 2)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"factor": self.factor, "mode": self.mode}


_CLASSES = (Regularizer, L1L2, L1, L2, OrthogonalRegularizer)
_TABLE = {cls.__name__: cls for cls in _CLASSES}
_TABLE |= {to_snake_case(cls.__name__): cls for cls in _CLASSES} | {"l1_l2": L1L2}
globals().update({name: cls for name, cls in _TABLE.items() if name.islower()})


def serialize(regularizer: Any) -> Any:
    """The config of a regularizer."""
    return registry.serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The regularizer of a config."""
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any) -> Any:
    """A regularizer from a name, a config, a class, a function, or None.

    >>> get("l2").get_config()
    {'l2': 0.01}
    """
    return registry.get(identifier, _TABLE, "regularizer")
