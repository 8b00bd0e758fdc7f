"""Exponentials, logarithms and angles, elementwise."""

import math

from keraslite.ops.arithmetic import divide, multiply
from keraslite.ops.logic import equal, where
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor


@op("float")
def exp(x: Tensor) -> Tensor:
    """The exponential.

    >>> convert_to_numpy(exp([0, 0])).tolist()
    [1.0, 1.0]
    """
    return primitive_only("exp")


@op("float")
def exp2(x: Tensor) -> Tensor:
    """2**x.

    >>> convert_to_numpy(exp2([0, 3])).tolist()
    [1.0, 8.0]
    """
    return exp(multiply(x, math.log(2)))


@op("float")
def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, precise near 0.

    >>> convert_to_numpy(expm1([0.0])).tolist()
    [0.0]
    """
    return primitive_only("expm1")


@op("float")
def log(x: Tensor) -> Tensor:
    """The natural logarithm.

    >>> convert_to_numpy(log([1.0])).tolist()
    [0.0]
    """
    return primitive_only("log")


@op("float")
def log2(x: Tensor) -> Tensor:
    """The logarithm to base 2.

    >>> convert_to_numpy(log2([8.0])).tolist()
    [3.0]
    """
    return divide(log(x), math.log(2))


@op("float")
def log10(x: Tensor) -> Tensor:
    """The logarithm to base 10.

    >>> convert_to_numpy(log10([1.0])).tolist()
    [0.0]
    """
    return divide(log(x), math.log(10))


@op("float")
def log1p(x: Tensor) -> Tensor:
    """log(1 + x), precise near 0.

    >>> convert_to_numpy(log1p([0.0])).tolist()
    [0.0]
    """
    return primitive_only("log1p")


@op("float")
def sin(x: Tensor) -> Tensor:
    """The sine.

    >>> convert_to_numpy(sin([0.0])).tolist()
    [0.0]
    """
    return primitive_only("sin")


@op("float")
def cos(x: Tensor) -> Tensor:
    """The cosine.

    >>> convert_to_numpy(cos([0.0])).tolist()
    [1.0]
    """
    return primitive_only("cos")


@op("float")
def tan(x: Tensor) -> Tensor:
    """The tangent.

    >>> convert_to_numpy(tan([0.0])).tolist()
    [0.0]
    """
    return primitive_only("tan")


@op("float")
def arcsin(x: Tensor) -> Tensor:
    """The inverse sine.

    >>> convert_to_numpy(arcsin([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arcsin")


@op("float")
def arccos(x: Tensor) -> Tensor:
    """The inverse cosine.

    >>> convert_to_numpy(arccos([1.0])).tolist()
    [0.0]
    """
    return primitive_only("arccos")


@op("float")
def arctan(x: Tensor) -> Tensor:
    """The inverse tangent.

    >>> convert_to_numpy(arctan([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arctan")


@op("float")
def sinh(x: Tensor) -> Tensor:
    """The hyperbolic sine.

    >>> convert_to_numpy(sinh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("sinh")


@op("float")
def cosh(x: Tensor) -> Tensor:
    """The hyperbolic cosine.

    >>> convert_to_numpy(cosh([0.0])).tolist()
    [1.0]
    """
    return primitive_only("cosh")


@op("float")
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent.

    >>> convert_to_numpy(tanh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("tanh")


@op("float")
def arcsinh(x: Tensor) -> Tensor:
    """The inverse hyperbolic sine.

    >>> convert_to_numpy(arcsinh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arcsinh")


@op("float")
def arccosh(x: Tensor) -> Tensor:
    """The inverse hyperbolic cosine.

    >>> convert_to_numpy(arccosh([1.0])).tolist()
    [0.0]
    """
    return primitive_only("arccosh")


@op("float")
def arctanh(x: Tensor) -> Tensor:
    """The inverse hyperbolic tangent.

    >>> convert_to_numpy(arctanh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arctanh")


@op("promote_float", tensors=2)
def arctan2(x1: Tensor, x2: Tensor) -> Tensor:
    """The angle of the point (x2, x1).

    >>> convert_to_numpy(arctan2([0.0], [1.0])).tolist()
    [0.0]
    """
    return primitive_only("arctan2")


@op("float")
def sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0.

    >>> convert_to_numpy(sinc([0.0])).tolist()
    [1.0]
    """
    x = multiply(x, math.pi)
    zero = equal(x, 0)
    return where(zero, 1, divide(sin(x), where(zero, 1, x)))


@op("float")
def i0(x: Tensor) -> Tensor:
    """The modified Bessel function of the first kind and order 0.

    >>> convert_to_numpy(round(i0([0.0]), 3)).tolist()
    [1.0]
    """
    return primitive_only("i0")


@op("float")
def deg2rad(x: Tensor) -> Tensor:
    """Degrees to radians.

    >>> convert_to_numpy(deg2rad([0.0])).tolist()
    [0.0]
    """
    return multiply(x, math.pi / 180)


@op("float")
def rad2deg(x: Tensor) -> Tensor:
    """Radians to degrees.

    >>> convert_to_numpy(rad2deg([0.0])).tolist()
    [0.0]
    """
    return multiply(x, 180 / math.pi)


__all__ = [
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos", "cosh",
    "deg2rad", "exp", "exp2", "expm1", "i0", "log", "log10", "log1p", "log2", "rad2deg", "sin",
    "sinc", "sinh", "tan", "tanh",
]  # fmt: skip
