"""Arithmetic, elementwise: sums, products, powers, remainders, the larger and the smaller."""

from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor


@op("promote", tensors=2)
def add(x1: Tensor, x2: Tensor) -> Tensor:
    """Add elementwise.

    >>> convert_to_numpy(add([1, 2], 3)).tolist()
    [4, 5]
    """
    return primitive_only("add")


@op("promote", tensors=2)
def subtract(x1: Tensor, x2: Tensor) -> Tensor:
    """Subtract elementwise.

    >>> convert_to_numpy(subtract([1, 2], 3)).tolist()
    [-2, -1]
    """
    return primitive_only("subtract")


@op("promote", tensors=2)
def multiply(x1: Tensor, x2: Tensor) -> Tensor:
    """Multiply elementwise.

    >>> convert_to_numpy(multiply([1, 2], [3, 4])).tolist()
    [3, 8]
    """
    return primitive_only("multiply")


@op("promote_float", tensors=2)
def divide(x1: Tensor, x2: Tensor) -> Tensor:
    """Divide elementwise; integers become floats.

    >>> convert_to_numpy(divide([1, 3], 2)).tolist()
    [0.5, 1.5]
    """
    return primitive_only("divide")


@op("promote_float", tensors=2, primitive="divide")
def true_divide(x1: Tensor, x2: Tensor) -> Tensor:
    """Divide elementwise: the same as `divide`.

    >>> convert_to_numpy(true_divide([1, 3], 2)).tolist()
    [0.5, 1.5]
    """
    return divide(x1, x2)


@op("promote_number", tensors=2)
def floor_divide(x1: Tensor, x2: Tensor) -> Tensor:
    """Divide and round towards minus infinity.

    >>> convert_to_numpy(floor_divide([7, -7], 2)).tolist()
    [3, -4]
    """
    return primitive_only("floor_divide")


@op("promote_number", tensors=2)
def mod(x1: Tensor, x2: Tensor) -> Tensor:
    """The remainder, with the sign of the divisor.

    >>> convert_to_numpy(mod([7, -7], 3)).tolist()
    [1, 2]
    """
    return primitive_only("mod")


@op("promote_number", tensors=2)
def fmod(x1: Tensor, x2: Tensor) -> Tensor:
    """The remainder, with the sign of the dividend.

    >>> convert_to_numpy(fmod([7, -7], 3)).tolist()
    [1, -1]
    """
    return primitive_only("fmod")


@op("promote_number", tensors=2)
def power(x1: Tensor, x2: Tensor) -> Tensor:
    """Raise to a power elementwise.

    >>> convert_to_numpy(power([2, 3], 2)).tolist()
    [4, 9]
    """
    return primitive_only("power")


@op("number")
def square(x: Tensor) -> Tensor:
    """The square.

    >>> convert_to_numpy(square([2, -3])).tolist()
    [4, 9]
    """
    return primitive_only("square")


@op("float")
def sqrt(x: Tensor) -> Tensor:
    """The square root.

    >>> convert_to_numpy(sqrt([4, 9])).tolist()
    [2.0, 3.0]
    """
    return primitive_only("sqrt")


@op("float")
def cbrt(x: Tensor) -> Tensor:
    """The cube root.

    >>> convert_to_numpy(round(cbrt([8.0, -27.0]))).tolist()
    [2.0, -3.0]
    """
    return multiply(sign(x), power(absolute(x), 1 / 3))


@op("float")
def reciprocal(x: Tensor) -> Tensor:
    """One over x.

    >>> convert_to_numpy(reciprocal([2.0, 4.0])).tolist()
    [0.5, 0.25]
    """
    return primitive_only("reciprocal")


@op("same")
def absolute(x: Tensor) -> Tensor:
    """The absolute value.

    >>> convert_to_numpy(absolute([-1.5, 2.0])).tolist()
    [1.5, 2.0]
    """
    return primitive_only("absolute")


@op("same", primitive="absolute")
def abs(x: Tensor) -> Tensor:
    """The absolute value: the same as `absolute`.

    >>> convert_to_numpy(abs([-1.5, 2.0])).tolist()
    [1.5, 2.0]
    """
    return absolute(x)


@op("float", primitive="absolute")
def fabs(x: Tensor) -> Tensor:
    """The absolute value as a float.

    >>> convert_to_numpy(fabs([-1, 2])).tolist()
    [1.0, 2.0]
    """
    return absolute(x)


@op("same")
def negative(x: Tensor) -> Tensor:
    """Minus x.

    >>> convert_to_numpy(negative([-1.5, 2.0])).tolist()
    [1.5, -2.0]
    """
    return primitive_only("negative")


@op("same")
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1 by the sign.

    >>> convert_to_numpy(sign([-2.0, 0.0, 5.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return primitive_only("sign")


@op("promote", tensors=2)
def maximum(x1: Tensor, x2: Tensor) -> Tensor:
    """The larger of two, elementwise; NaN wins.

    >>> convert_to_numpy(maximum([1, 5], 3)).tolist()
    [3, 5]
    """
    return primitive_only("maximum")


@op("promote", tensors=2)
def minimum(x1: Tensor, x2: Tensor) -> Tensor:
    """The smaller of two, elementwise; NaN wins.

    >>> convert_to_numpy(minimum([1, 5], 3)).tolist()
    [1, 3]
    """
    return primitive_only("minimum")


@op("promote_number", tensors=3)
def clip(x: Tensor, x_min: Tensor, x_max: Tensor) -> Tensor:
    """Bring values into the range from x_min to x_max.

    >>> convert_to_numpy(clip([-1.0, 0.5, 2.0], 0.0, 1.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    return primitive_only("clip")


@op("promote_number", tensors=2)
def gcd(x1: Tensor, x2: Tensor) -> Tensor:
    """The greatest common divisor of integers.

    >>> convert_to_numpy(gcd([12, 7], 18)).tolist()
    [6, 1]
    """
    return primitive_only("gcd")


@op("promote_float", tensors=2)
def nextafter(x1: Tensor, x2: Tensor) -> Tensor:
    """The next number after x1 on the way to x2.

    >>> convert_to_numpy(nextafter([1.0], [1.0])).tolist()
    [1.0]
    """
    return primitive_only("nextafter")


__all__ = [
    "abs", "absolute", "add", "cbrt", "clip", "divide", "fabs", "floor_divide", "fmod", "gcd",
    "maximum", "minimum", "mod", "multiply", "negative", "nextafter", "power", "reciprocal", "sign",
    "sqrt", "square", "subtract", "true_divide",
]  # fmt: skip
