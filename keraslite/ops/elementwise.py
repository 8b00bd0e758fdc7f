"""Rounding, kinds of numbers, and arithmetic of several steps; elementwise."""

import math
from typing import Any

from keraslite import dtypes
from keraslite.ops.arithmetic import (
    absolute,
    add,
    divide,
    floor_divide,
    gcd,
    maximum,
    minimum,
    multiply,
    negative,
    sqrt,
    square,
    subtract,
)
from keraslite.ops.core import cast
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.exponential import arctan2, exp, exp2, log1p
from keraslite.ops.logic import equal, greater, less, logical_and, logical_or, where
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor


@op("promote_float", tensors=2)
def divide_no_nan(x1: Tensor, x2: Tensor) -> Tensor:
    """Divide elementwise, 0 where the divisor is 0.

    >>> convert_to_numpy(divide_no_nan([1.0, 3.0], [2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    zero = equal(x2, 0)
    return where(zero, 0, divide(x1, where(zero, 1, x2)))


@op("promote", tensors=2)
def fmax(x1: Tensor, x2: Tensor) -> Tensor:
    """The larger of two, elementwise; NaN loses.

    >>> convert_to_numpy(fmax([1.0, float('nan')], 3.0)).tolist()
    [3.0, 3.0]
    """
    return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)))


@op("promote", tensors=2)
def fmin(x1: Tensor, x2: Tensor) -> Tensor:
    """The smaller of two, elementwise; NaN loses.

    >>> convert_to_numpy(fmin([1.0, float('nan')], 3.0)).tolist()
    [1.0, 3.0]
    """
    return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)))


@op("promote_number", tensors=2)
def lcm(x1: Tensor, x2: Tensor) -> Tensor:
    """The least common multiple of integers.

    >>> convert_to_numpy(lcm([4, 6], 6)).tolist()
    [12, 6]
    """
    divisor = gcd(x1, x2)
    return absolute(multiply(x1, floor_divide(x2, where(equal(divisor, 0), 1, divisor))))


@op("promote_float", tensors=2)
def hypot(x1: Tensor, x2: Tensor) -> Tensor:
    """The length of the hypotenuse: sqrt(x1 ** 2 + x2 ** 2).

    >>> convert_to_numpy(hypot([3.0], [4.0])).tolist()
    [5.0]
    """
    x1, x2 = absolute(x1), absolute(x2)
    longer = maximum(x1, x2)
    ratio = divide_no_nan(minimum(x1, x2), longer)
    out = multiply(longer, sqrt(add(1, square(ratio))))
    return where(logical_or(isinf(x1), isinf(x2)), float("inf"), out)  # whatever the other is


@op("promote_float", tensors=2)
def heaviside(x1: Tensor, x2: Tensor) -> Tensor:
    """0 for negative x1, 1 for positive, x2 at zero.

    >>> convert_to_numpy(heaviside([-2.0, 0.0, 2.0], 0.5)).tolist()
    [0.0, 0.5, 1.0]
    """
    return where(isnan(x1), x1, where(equal(x1, 0), x2, cast(greater(x1, 0), dtype_of(x1))))


@op("promote_float", tensors=2)
def logaddexp(x1: Tensor, x2: Tensor) -> Tensor:
    """log(exp(x1) + exp(x2)), safe for large values.

    >>> convert_to_numpy(logaddexp([1000.0], [0.0])).tolist()
    [1000.0]
    """
    gap = absolute(subtract(x1, x2))
    sum_ = add(maximum(x1, x2), log1p(exp(negative(gap))))
    return where(isnan(gap), add(x1, x2), sum_)


@op("promote_float", tensors=2)
def logaddexp2(x1: Tensor, x2: Tensor) -> Tensor:
    """log2(2**x1 + 2**x2), safe for large values.

    >>> convert_to_numpy(logaddexp2([3.0], [3.0])).tolist()
    [4.0]
    """
    return divide(logaddexp(multiply(x1, math.log(2)), multiply(x2, math.log(2))), math.log(2))


@op("promote_float", tensors=2, keep=(1,))
def ldexp(x1: Tensor, x2: Tensor) -> Tensor:
    """x1 * 2**x2 for integer x2.

    >>> convert_to_numpy(ldexp([1.0, 3.0], [2, 1])).tolist()
    [4.0, 6.0]
    """
    if not dtypes.is_int(dtype_of(x2)):
        raise TypeError(f"the exponents must be of type integer, got {dtype_of(x2)}.")
    return multiply(x1, exp2(cast(x2, dtype_of(x1))))


@op("float")
def floor(x: Tensor) -> Tensor:
    """Round down.

    >>> convert_to_numpy(floor([1.5, -1.5])).tolist()
    [1.0, -2.0]
    """
    return primitive_only("floor")


@op("float")
def ceil(x: Tensor) -> Tensor:
    """Round up.

    >>> convert_to_numpy(ceil([1.5, -1.5])).tolist()
    [2.0, -1.0]
    """
    return primitive_only("ceil")


@op("same")
def trunc(x: Tensor) -> Tensor:
    """Round towards zero; integers stay as they are.

    >>> convert_to_numpy(trunc([1.5, -1.5])).tolist()
    [1.0, -1.0]
    """
    return primitive_only("trunc")


@op("number")
def round(x: Tensor, decimals: int = 0) -> Tensor:
    """Round to a number of decimals, halves to even.

    >>> convert_to_numpy(round([0.5, 1.5, 2.5])).tolist()
    [0.0, 2.0, 2.0]
    """
    return primitive_only("round")


@op("same")
def isnan(x: Tensor) -> Tensor:
    """Whether values are NaN.

    >>> convert_to_numpy(isnan([1.0, float('nan')])).tolist()
    [False, True]
    """
    return primitive_only("isnan")


@op("same")
def isinf(x: Tensor) -> Tensor:
    """Whether values are infinite.

    >>> convert_to_numpy(isinf([1.0, float('inf')])).tolist()
    [False, True]
    """
    return primitive_only("isinf")


@op("same")
def isfinite(x: Tensor) -> Tensor:
    """Whether values are finite.

    >>> convert_to_numpy(isfinite([1.0, float('inf')])).tolist()
    [True, False]
    """
    return primitive_only("isfinite")


@op("same")
def isposinf(x: Tensor) -> Tensor:
    """Whether values are plus infinity.

    >>> convert_to_numpy(isposinf([1.0, float('inf')])).tolist()
    [False, True]
    """
    return logical_and(isinf(x), greater(x, 0))


@op("same")
def isneginf(x: Tensor) -> Tensor:
    """Whether values are minus infinity.

    >>> convert_to_numpy(isneginf([1.0, -float('inf')])).tolist()
    [False, True]
    """
    return logical_and(isinf(x), less(x, 0))


@op("same")
def signbit(x: Tensor) -> Tensor:
    """Whether the sign bit is set, also that of -0.0.

    >>> convert_to_numpy(signbit([-1.0, 0.0])).tolist()
    [True, False]
    """
    return primitive_only("signbit")


@op("same")
def nan_to_num(x: Tensor, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    """Replace NaN and the infinities by numbers.

    >>> convert_to_numpy(nan_to_num([1.0, float('nan')])).tolist()
    [1.0, 0.0]
    """
    if not dtypes.is_float(dtype_of(x)):
        return x
    lowest, largest = dtypes.limits(dtype_of(x))
    high = largest if posinf is None else posinf
    low = lowest if neginf is None else neginf
    x = where(isnan(x), nan, x)
    return where(isposinf(x), high, where(isneginf(x), low, x))


@op("same")
def real(x: Tensor) -> Tensor:
    """The real part.

    >>> convert_to_numpy(real([1.5])).tolist()
    [1.5]
    """
    return primitive_only("real")


@op("same")
def imag(x: Tensor) -> Tensor:
    """The imaginary part.

    >>> convert_to_numpy(imag([1.5])).tolist()
    [0.0]
    """
    return primitive_only("imag")


@op("same")
def conjugate(x: Tensor) -> Tensor:
    """The complex conjugate.

    >>> convert_to_numpy(conjugate([1.5])).tolist()
    [1.5]
    """
    return primitive_only("conjugate")


@op("same", primitive="conjugate")
def conj(x: Tensor) -> Tensor:
    """The complex conjugate: the same as `conjugate`.

    >>> convert_to_numpy(conj([1.5])).tolist()
    [1.5]
    """
    return conjugate(x)


@op("float")
def angle(x: Tensor) -> Tensor:
    """The angle of complex numbers.

    >>> convert_to_numpy(angle([1.0])).tolist()
    [0.0]
    """
    return arctan2(imag(x), real(x))


@op("same")
def isreal(x: Tensor) -> Tensor:
    """Whether the imaginary part is zero.

    >>> convert_to_numpy(isreal([1.0])).tolist()
    [True]
    """
    return equal(imag(x), 0)


__all__ = [
    "angle", "ceil", "conj", "conjugate", "divide_no_nan", "floor", "fmax", "fmin", "heaviside",
    "hypot", "imag", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "isreal", "lcm", "ldexp",
    "logaddexp", "logaddexp2", "nan_to_num", "real", "round", "signbit", "trunc",
]  # fmt: skip
