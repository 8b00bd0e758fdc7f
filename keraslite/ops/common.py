"""Helpers of several topics of ops: axes, index ranges, constants beside a tensor."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.ops.core import cast
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.op import Spec, op, primitive_only


def normalize_axis(axis: int, rank: int) -> int:
    """Count an axis from the front.

    Raises:
        ValueError: there is no such axis.

    >>> normalize_axis(-1, 3)
    2
    """
    if not -rank <= axis < rank:
        raise ValueError(f"The axis must be in [{-rank}, {rank}), got {axis}.")
    return axis % rank


@op("same")
def _positions(x: Any, size: Any) -> Any:
    """The int32 vector 0, 1, ... size - 1 on the backend of x.

    The size may be a tensor in a TensorFlow graph.
    """
    return primitive_only("_positions")


positions = _positions  # an operation of the table, but not a public one


def as_tensor_like(value: Any, x: Any) -> Any:
    """Convert a literal to a tensor of the backend of x; tensors stay as they are."""
    value = getattr(value, "_kl_value", value)
    if backends.of(value):
        return value
    is_symbolic = backends.of(x) == "symbolic"
    return (backends.current() if is_symbolic else backends.module_of(x)).convert(value)


def to_common_float(x: Any, y: Any) -> tuple:
    """Cast two tensors to the float dtype that they promote to."""
    name = dtypes.result_type(dtype_of(x), dtype_of(y), float)
    return cast(x, name), cast(y, name)


def indices_spec(x: Any) -> tuple:
    """The specs of one int32 vector of unknown length for each axis of x."""
    return tuple(Spec((None,), "int32") for _ in x.shape)


def check_size(name: str, size: Any) -> Any:
    """Return a size; raise TypeError if it is no integer and no integer tensor.

    Args:
        name: of the argument.
        size: the size.
    """
    is_integer = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if not is_integer and "int" not in str(getattr(size, "dtype", "")):
        raise TypeError(f"{name} must be an integer or an integer tensor, got {size!r}.")
    return size
