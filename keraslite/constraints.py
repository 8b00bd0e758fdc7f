"""Constraints: what a weight is projected to after each update."""

from typing import Any

from keraslite import config, ops, registry
from keraslite.naming import to_snake_case


class Constraint:
    """A function of a weight that gives the nearest allowed one."""

    def __call__(self, w: Any) -> Any:
        """Return the nearest weight that meets the constraint."""
        return w

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Constraint":
        """The constraint of a config."""
        return cls(**config)


def _norms(w: Any, axis: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint):
    """Norms of at most `max_value`.

    Args:
        max_value: the largest norm.
        axis: the axes along which norms are taken.

    >>> float(MaxNorm(1.0)(ops.convert_to_tensor([[3.0], [4.0]]))[0, 0]) < 0.61
    True
    """

    def __init__(self, max_value: float = 2, axis: Any = 0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Any:
        """Return the nearest weight that meets the constraint."""
        norms = _norms(w, self.axis)
        scale = ops.clip(norms, 0, self.max_value) / (config.epsilon() + norms)
        return ops.multiply(w, scale)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"max_value": self.max_value, "axis": self.axis}


class NonNeg(Constraint):
    """No negative values.

    >>> float(NonNeg()(ops.convert_to_tensor([-1.0]))[0])
    0.0
    """

    def __call__(self, w: Any) -> Any:
        """Return the nearest weight that meets the constraint."""
        return ops.maximum(w, 0)


class UnitNorm(Constraint):
    """Norms of one.

    Args:
        axis: the axes along which norms are taken.
    """

    def __init__(self, axis: Any = 0):
        self.axis = axis

    def __call__(self, w: Any) -> Any:
        """Return the nearest weight that meets the constraint."""
        return ops.divide(w, config.epsilon() + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {"axis": self.axis}


class MinMaxNorm(Constraint):
    """Norms between two bounds.

    Args:
        min_value: the smallest norm.
        max_value: the largest norm.
        rate: how far a norm outside is moved to the bound, 1.0 all the way.
        axis: the axes along which norms are taken.
    """

    def __init__(
        self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Any = 0
    ):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Any:
        """Return the nearest weight that meets the constraint."""
        norms = _norms(w, self.axis)
        target_norms = self.rate * ops.clip(norms, self.min_value, self.max_value)
        target_norms = target_norms + (1 - self.rate) * norms
        return ops.multiply(w, target_norms / (config.epsilon() + norms))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        names = ("min_value", "max_value", "rate", "axis")
        return {name: getattr(self, name) for name in names}


_CLASSES = (Constraint, MaxNorm, NonNeg, UnitNorm, MinMaxNorm)
_TABLE = {cls.__name__: cls for cls in _CLASSES}
_TABLE |= {to_snake_case(cls.__name__): cls for cls in _CLASSES}
globals().update({name: cls for name, cls in _TABLE.items() if name.islower()})


def serialize(constraint: Any) -> Any:
    """The config of a constraint."""
    return registry.serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The constraint of a config."""
    return registry.deserialize_keras_object(config, custom_objects)


def get(identifier: Any) -> Any:
    """A constraint from a name, a config, a class, a function, or None.

    >>> get("max_norm").get_config()
    {'max_value': 2, 'axis': 0}
    """
    return registry.get(identifier, _TABLE, "constraint")
