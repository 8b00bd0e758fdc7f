"""What several modules of ops share."""

from typing import Any

from keraslite import backend as backends
from keraslite.ops.op import Spec, op, primitive_only


def _axis(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ValueError(f"The axis {axis} is out of range for {rank} dimensions.")
    return axis % rank


@op("same")
def _positions(x: Any, size: Any) -> Any:
    """The numbers below a size, beside x; the size may be a tensor in a TensorFlow graph."""
    return primitive_only("_positions")


def _beside(value: Any, x: Any) -> Any:
    """A literal as a tensor of the backend of x."""
    value = getattr(value, "_kl_value", value)
    return value if backends.of(value) else backends.module_of(x).convert(value)


def _indices_spec(x: Any) -> tuple:
    return tuple(Spec((None,), "int32") for _ in x.shape)
