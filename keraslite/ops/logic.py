"""Comparisons, logic, bits, and the choice between two values; elementwise."""

from typing import Any

from keraslite.ops.common import indices_spec
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor


@op("promote", tensors=2)
def equal(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 == x2, elementwise.

    >>> convert_to_numpy(equal([1, 2, 3], 2)).tolist()
    [False, True, False]
    """
    return primitive_only("equal")


@op("promote", tensors=2)
def not_equal(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 != x2, elementwise.

    >>> convert_to_numpy(not_equal([1, 2, 3], 2)).tolist()
    [True, False, True]
    """
    return primitive_only("not_equal")


@op("promote", tensors=2)
def less(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 < x2, elementwise.

    >>> convert_to_numpy(less([1, 2, 3], 2)).tolist()
    [True, False, False]
    """
    return primitive_only("less")


@op("promote", tensors=2)
def less_equal(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 <= x2, elementwise.

    >>> convert_to_numpy(less_equal([1, 2, 3], 2)).tolist()
    [True, True, False]
    """
    return primitive_only("less_equal")


@op("promote", tensors=2)
def greater(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 > x2, elementwise.

    >>> convert_to_numpy(greater([1, 2, 3], 2)).tolist()
    [False, False, True]
    """
    return primitive_only("greater")


@op("promote", tensors=2)
def greater_equal(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 >= x2, elementwise.

    >>> convert_to_numpy(greater_equal([1, 2, 3], 2)).tolist()
    [False, True, True]
    """
    return primitive_only("greater_equal")


@op("promote", tensors=2)
def logical_and(x1: Tensor, x2: Tensor) -> Tensor:
    """Whether both are true, element by element.

    >>> convert_to_numpy(logical_and([True, True, False], [True, False, False])).tolist()
    [True, False, False]
    """
    return primitive_only("logical_and")


@op("promote", tensors=2)
def logical_or(x1: Tensor, x2: Tensor) -> Tensor:
    """Whether at least one is true, element by element.

    >>> convert_to_numpy(logical_or([True, True, False], [True, False, False])).tolist()
    [True, True, False]
    """
    return primitive_only("logical_or")


@op("promote", tensors=2)
def logical_xor(x1: Tensor, x2: Tensor) -> Tensor:
    """Whether exactly one is true, element by element.

    >>> convert_to_numpy(logical_xor([True, True, False], [True, False, False])).tolist()
    [False, True, False]
    """
    return primitive_only("logical_xor")


@op("same")
def logical_not(x: Tensor) -> Tensor:
    """Whether x is false, element by element.

    >>> convert_to_numpy(logical_not([True, False])).tolist()
    [False, True]
    """
    return primitive_only("logical_not")


@op("promote", tensors=2)
def bitwise_and(x: Tensor, y: Tensor) -> Tensor:
    """Bitwise and of integers.

    >>> convert_to_numpy(bitwise_and([1, 3], 2)).tolist()
    [0, 2]
    """
    return primitive_only("bitwise_and")


@op("promote", tensors=2)
def bitwise_or(x: Tensor, y: Tensor) -> Tensor:
    """Bitwise or of integers.

    >>> convert_to_numpy(bitwise_or([1, 3], 2)).tolist()
    [3, 3]
    """
    return primitive_only("bitwise_or")


@op("promote", tensors=2)
def bitwise_xor(x: Tensor, y: Tensor) -> Tensor:
    """Bitwise exclusive or of integers.

    >>> convert_to_numpy(bitwise_xor([1, 3], 2)).tolist()
    [3, 1]
    """
    return primitive_only("bitwise_xor")


@op("same")
def bitwise_not(x: Tensor) -> Tensor:
    """Bitwise not of integers.

    >>> convert_to_numpy(bitwise_not([0, 5])).tolist()
    [-1, -6]
    """
    return primitive_only("bitwise_not")


@op("same", primitive="bitwise_not")
def bitwise_invert(x: Tensor) -> Tensor:
    """Bitwise not: the same as `bitwise_not`.

    >>> convert_to_numpy(bitwise_invert([0, 5])).tolist()
    [-1, -6]
    """
    return bitwise_not(x)


@op("promote_number", tensors=2)
def bitwise_left_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift the bits of integers to the left.

    >>> convert_to_numpy(bitwise_left_shift([1, 3], 2)).tolist()
    [4, 12]
    """
    return primitive_only("bitwise_left_shift")


@op("promote_number", tensors=2, primitive="bitwise_left_shift")
def left_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift to the left: the same as `bitwise_left_shift`.

    >>> convert_to_numpy(left_shift([1, 3], 2)).tolist()
    [4, 12]
    """
    return bitwise_left_shift(x, y)


@op("promote_number", tensors=2)
def bitwise_right_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift the bits of integers to the right.

    >>> convert_to_numpy(bitwise_right_shift([4, 12], 2)).tolist()
    [1, 3]
    """
    return primitive_only("bitwise_right_shift")


@op("promote_number", tensors=2, primitive="bitwise_right_shift")
def right_shift(x: Tensor, y: Tensor) -> Tensor:
    """Shift to the right: the same as `bitwise_right_shift`.

    >>> convert_to_numpy(right_shift([4, 12], 2)).tolist()
    [1, 3]
    """
    return bitwise_right_shift(x, y)


@op("promote", tensors=3, keep=(0,))
def where(condition: Tensor, x1: Tensor = None, x2: Tensor = None) -> Tensor:
    """x1 where the condition holds, else x2; the indices where it holds if neither is given.

    >>> convert_to_numpy(where([True, False], [1, 2], 0)).tolist()
    [1, 0]
    """
    return primitive_only("where")


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Select from several choices the first whose condition is true.

    >>> convert_to_numpy(select([[True, False], [True, True]], [[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(condition, choice, out)
    return out


where.op.spec = lambda condition, x1=None, x2=None: (
    indices_spec(condition) if x1 is None and x2 is None else None
)


__all__ = [
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "equal", "greater", "greater_equal", "left_shift", "less",
    "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal",
    "right_shift", "select", "where",
]  # fmt: skip
