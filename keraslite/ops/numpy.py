"""Ops that numpy has under the same name: one definition each.

Bodies are composite wherever a composition is as good as a native function; the arguments that
reach them are tensors of one backend, promoted as the op's kind says. Constants made inside a body
are numpy arrays: literals follow the tensors beside them, whatever the current backend is.
"""

import builtins
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.ops.core import (
    cast,
    convert_to_numpy,  # noqa: F401 - for the examples
    convert_to_tensor,
    get_item,
    shape,
)
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.op import op, primitive_only

# Arithmetic


@op("promote", tensors=2)
def add(x1: Any, x2: Any) -> Any:
    """Add elementwise.

    >>> convert_to_numpy(add([1, 2], 3)).tolist()
    [4, 5]
    """
    return primitive_only("add")


@op("promote", tensors=2)
def subtract(x1: Any, x2: Any) -> Any:
    """Subtract elementwise.

    >>> convert_to_numpy(subtract([1, 2], 3)).tolist()
    [-2, -1]
    """
    return primitive_only("subtract")


@op("promote", tensors=2)
def multiply(x1: Any, x2: Any) -> Any:
    """Multiply elementwise.

    >>> convert_to_numpy(multiply([1, 2], [3, 4])).tolist()
    [3, 8]
    """
    return primitive_only("multiply")


@op("promote_float", tensors=2)
def divide(x1: Any, x2: Any) -> Any:
    """Divide elementwise; integers become floats.

    >>> convert_to_numpy(divide([1, 3], 2)).tolist()
    [0.5, 1.5]
    """
    return primitive_only("divide")


@op("promote_float", tensors=2)
def true_divide(x1: Any, x2: Any) -> Any:
    """Divide elementwise: the same as `divide`.

    >>> convert_to_numpy(true_divide([1, 3], 2)).tolist()
    [0.5, 1.5]
    """
    return divide(x1, x2)


@op("promote_float", tensors=2)
def divide_no_nan(x1: Any, x2: Any) -> Any:
    """Divide elementwise, 0 where the divisor is 0.

    >>> convert_to_numpy(divide_no_nan([1.0, 3.0], [2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    zero = equal(x2, 0)
    return where(zero, 0, divide(x1, where(zero, 1, x2)))


@op("promote_number", tensors=2)
def floor_divide(x1: Any, x2: Any) -> Any:
    """Divide and round towards minus infinity.

    >>> convert_to_numpy(floor_divide([7, -7], 2)).tolist()
    [3, -4]
    """
    return primitive_only("floor_divide")


@op("promote_number", tensors=2)
def mod(x1: Any, x2: Any) -> Any:
    """The remainder, with the sign of the divisor.

    >>> convert_to_numpy(mod([7, -7], 3)).tolist()
    [1, 2]
    """
    return primitive_only("mod")


@op("promote_number", tensors=2)
def fmod(x1: Any, x2: Any) -> Any:
    """The remainder, with the sign of the dividend.

    >>> convert_to_numpy(fmod([7, -7], 3)).tolist()
    [1, -1]
    """
    return primitive_only("fmod")


@op("promote_number", tensors=2)
def power(x1: Any, x2: Any) -> Any:
    """Raise to a power elementwise.

    >>> convert_to_numpy(power([2, 3], 2)).tolist()
    [4, 9]
    """
    return primitive_only("power")


@op("number")
def square(x: Any) -> Any:
    """The square.

    >>> convert_to_numpy(square([2, -3])).tolist()
    [4, 9]
    """
    return primitive_only("square")


@op("float")
def sqrt(x: Any) -> Any:
    """The square root.

    >>> convert_to_numpy(sqrt([4, 9])).tolist()
    [2.0, 3.0]
    """
    return primitive_only("sqrt")


@op("float")
def cbrt(x: Any) -> Any:
    """The cube root.

    >>> convert_to_numpy(round(cbrt([8.0, -27.0]))).tolist()
    [2.0, -3.0]
    """
    return multiply(sign(x), power(absolute(x), 1 / 3))


@op("float")
def reciprocal(x: Any) -> Any:
    """One over x.

    >>> convert_to_numpy(reciprocal([2.0, 4.0])).tolist()
    [0.5, 0.25]
    """
    return primitive_only("reciprocal")


@op("same")
def absolute(x: Any) -> Any:
    """The absolute value.

    >>> convert_to_numpy(absolute([-1.5, 2.0])).tolist()
    [1.5, 2.0]
    """
    return primitive_only("absolute")


@op("same")
def abs(x: Any) -> Any:
    """The absolute value: the same as `absolute`.

    >>> convert_to_numpy(abs([-1.5, 2.0])).tolist()
    [1.5, 2.0]
    """
    return absolute(x)


@op("float")
def fabs(x: Any) -> Any:
    """The absolute value as a float.

    >>> convert_to_numpy(fabs([-1, 2])).tolist()
    [1.0, 2.0]
    """
    return absolute(x)


@op("same")
def negative(x: Any) -> Any:
    """Minus x.

    >>> convert_to_numpy(negative([-1.5, 2.0])).tolist()
    [1.5, -2.0]
    """
    return primitive_only("negative")


@op("same")
def sign(x: Any) -> Any:
    """-1, 0 or 1 by the sign.

    >>> convert_to_numpy(sign([-2.0, 0.0, 5.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return primitive_only("sign")


@op("promote", tensors=2)
def maximum(x1: Any, x2: Any) -> Any:
    """The larger of two, elementwise; NaN wins.

    >>> convert_to_numpy(maximum([1, 5], 3)).tolist()
    [3, 5]
    """
    return primitive_only("maximum")


@op("promote", tensors=2)
def minimum(x1: Any, x2: Any) -> Any:
    """The smaller of two, elementwise; NaN wins.

    >>> convert_to_numpy(minimum([1, 5], 3)).tolist()
    [1, 3]
    """
    return primitive_only("minimum")


@op("promote", tensors=2)
def fmax(x1: Any, x2: Any) -> Any:
    """The larger of two, elementwise; NaN loses.

    >>> convert_to_numpy(fmax([1.0, float('nan')], 3.0)).tolist()
    [3.0, 3.0]
    """
    return where(isnan(x1), x2, where(isnan(x2), x1, maximum(x1, x2)))


@op("promote", tensors=2)
def fmin(x1: Any, x2: Any) -> Any:
    """The smaller of two, elementwise; NaN loses.

    >>> convert_to_numpy(fmin([1.0, float('nan')], 3.0)).tolist()
    [1.0, 3.0]
    """
    return where(isnan(x1), x2, where(isnan(x2), x1, minimum(x1, x2)))


@op("promote_number", tensors=3)
def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """Bring values into the range from x_min to x_max.

    >>> convert_to_numpy(clip([-1.0, 0.5, 2.0], 0.0, 1.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    return primitive_only("clip")


@op("promote_number", tensors=2)
def gcd(x1: Any, x2: Any) -> Any:
    """The greatest common divisor of integers.

    >>> convert_to_numpy(gcd([12, 7], 18)).tolist()
    [6, 1]
    """
    return primitive_only("gcd")


@op("promote_number", tensors=2)
def lcm(x1: Any, x2: Any) -> Any:
    """The least common multiple of integers.

    >>> convert_to_numpy(lcm([4, 6], 6)).tolist()
    [12, 6]
    """
    divisor = gcd(x1, x2)
    return absolute(multiply(x1, floor_divide(x2, where(equal(divisor, 0), 1, divisor))))


@op("promote_float", tensors=2)
def hypot(x1: Any, x2: Any) -> Any:
    """The length of the hypotenuse.

    >>> convert_to_numpy(hypot([3.0], [4.0])).tolist()
    [5.0]
    """
    x1, x2 = absolute(x1), absolute(x2)
    longer = maximum(x1, x2)
    ratio = divide_no_nan(minimum(x1, x2), longer)
    out = multiply(longer, sqrt(add(1, square(ratio))))
    return where(logical_or(isinf(x1), isinf(x2)), float("inf"), out)  # whatever the other is


@op("promote_float", tensors=2)
def heaviside(x1: Any, x2: Any) -> Any:
    """0 for negative x1, 1 for positive, x2 at zero.

    >>> convert_to_numpy(heaviside([-2.0, 0.0, 2.0], 0.5)).tolist()
    [0.0, 0.5, 1.0]
    """
    return where(isnan(x1), x1, where(equal(x1, 0), x2, cast(greater(x1, 0), dtype_of(x1))))


@op("promote_float", tensors=2)
def logaddexp(x1: Any, x2: Any) -> Any:
    """log(exp(x1) + exp(x2)), safe for large values.

    >>> convert_to_numpy(logaddexp([1000.0], [0.0])).tolist()
    [1000.0]
    """
    gap = absolute(subtract(x1, x2))
    sum_ = add(maximum(x1, x2), log1p(exp(negative(gap))))
    return where(isnan(gap), add(x1, x2), sum_)


@op("promote_float", tensors=2)
def logaddexp2(x1: Any, x2: Any) -> Any:
    """log2(2**x1 + 2**x2), safe for large values.

    >>> convert_to_numpy(logaddexp2([3.0], [3.0])).tolist()
    [4.0]
    """
    return divide(logaddexp(multiply(x1, math.log(2)), multiply(x2, math.log(2))), math.log(2))


@op("promote_float", tensors=2)
def nextafter(x1: Any, x2: Any) -> Any:
    """The next number after x1 on the way to x2.

    >>> convert_to_numpy(nextafter([1.0], [1.0])).tolist()
    [1.0]
    """
    return primitive_only("nextafter")


@op("promote_float", tensors=2, keep=(1,))
def ldexp(x1: Any, x2: Any) -> Any:
    """x1 * 2**x2 for integer x2.

    >>> convert_to_numpy(ldexp([1.0, 3.0], [2, 1])).tolist()
    [4.0, 6.0]
    """
    if not dtypes.is_int(dtype_of(x2)):
        raise TypeError(f"the exponents must be of type integer, got {dtype_of(x2)}.")
    return multiply(x1, exp2(cast(x2, dtype_of(x1))))


# Exponentials, logarithms, angles


@op("float")
def exp(x: Any) -> Any:
    """The exponential.

    >>> convert_to_numpy(exp([0, 0])).tolist()
    [1.0, 1.0]
    """
    return primitive_only("exp")


@op("float")
def exp2(x: Any) -> Any:
    """2**x.

    >>> convert_to_numpy(exp2([0, 3])).tolist()
    [1.0, 8.0]
    """
    return exp(multiply(x, math.log(2)))


@op("float")
def expm1(x: Any) -> Any:
    """exp(x) - 1, precise near 0.

    >>> convert_to_numpy(expm1([0.0])).tolist()
    [0.0]
    """
    return primitive_only("expm1")


@op("float")
def log(x: Any) -> Any:
    """The natural logarithm.

    >>> convert_to_numpy(log([1.0])).tolist()
    [0.0]
    """
    return primitive_only("log")


@op("float")
def log2(x: Any) -> Any:
    """The logarithm to base 2.

    >>> convert_to_numpy(log2([8.0])).tolist()
    [3.0]
    """
    return divide(log(x), math.log(2))


@op("float")
def log10(x: Any) -> Any:
    """The logarithm to base 10.

    >>> convert_to_numpy(log10([1.0])).tolist()
    [0.0]
    """
    return divide(log(x), math.log(10))


@op("float")
def log1p(x: Any) -> Any:
    """log(1 + x), precise near 0.

    >>> convert_to_numpy(log1p([0.0])).tolist()
    [0.0]
    """
    return primitive_only("log1p")


@op("float")
def sin(x: Any) -> Any:
    """The sine.

    >>> convert_to_numpy(sin([0.0])).tolist()
    [0.0]
    """
    return primitive_only("sin")


@op("float")
def cos(x: Any) -> Any:
    """The cosine.

    >>> convert_to_numpy(cos([0.0])).tolist()
    [1.0]
    """
    return primitive_only("cos")


@op("float")
def tan(x: Any) -> Any:
    """The tangent.

    >>> convert_to_numpy(tan([0.0])).tolist()
    [0.0]
    """
    return primitive_only("tan")


@op("float")
def arcsin(x: Any) -> Any:
    """The inverse sine.

    >>> convert_to_numpy(arcsin([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arcsin")


@op("float")
def arccos(x: Any) -> Any:
    """The inverse cosine.

    >>> convert_to_numpy(arccos([1.0])).tolist()
    [0.0]
    """
    return primitive_only("arccos")


@op("float")
def arctan(x: Any) -> Any:
    """The inverse tangent.

    >>> convert_to_numpy(arctan([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arctan")


@op("float")
def sinh(x: Any) -> Any:
    """The hyperbolic sine.

    >>> convert_to_numpy(sinh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("sinh")


@op("float")
def cosh(x: Any) -> Any:
    """The hyperbolic cosine.

    >>> convert_to_numpy(cosh([0.0])).tolist()
    [1.0]
    """
    return primitive_only("cosh")


@op("float")
def tanh(x: Any) -> Any:
    """The hyperbolic tangent.

    >>> convert_to_numpy(tanh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("tanh")


@op("float")
def arcsinh(x: Any) -> Any:
    """The inverse hyperbolic sine.

    >>> convert_to_numpy(arcsinh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arcsinh")


@op("float")
def arccosh(x: Any) -> Any:
    """The inverse hyperbolic cosine.

    >>> convert_to_numpy(arccosh([1.0])).tolist()
    [0.0]
    """
    return primitive_only("arccosh")


@op("float")
def arctanh(x: Any) -> Any:
    """The inverse hyperbolic tangent.

    >>> convert_to_numpy(arctanh([0.0])).tolist()
    [0.0]
    """
    return primitive_only("arctanh")


@op("promote_float", tensors=2)
def arctan2(x1: Any, x2: Any) -> Any:
    """The angle of the point (x2, x1).

    >>> convert_to_numpy(arctan2([0.0], [1.0])).tolist()
    [0.0]
    """
    return primitive_only("arctan2")


@op("float")
def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x), 1 at 0.

    >>> convert_to_numpy(sinc([0.0])).tolist()
    [1.0]
    """
    x = multiply(x, math.pi)
    zero = equal(x, 0)
    return where(zero, 1, divide(sin(x), where(zero, 1, x)))


@op("float")
def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind and order 0.

    >>> convert_to_numpy(round(i0([0.0]), 3)).tolist()
    [1.0]
    """
    return primitive_only("i0")


@op("float")
def deg2rad(x: Any) -> Any:
    """Degrees to radians.

    >>> convert_to_numpy(deg2rad([0.0])).tolist()
    [0.0]
    """
    return multiply(x, math.pi / 180)


@op("float")
def rad2deg(x: Any) -> Any:
    """Radians to degrees.

    >>> convert_to_numpy(rad2deg([0.0])).tolist()
    [0.0]
    """
    return multiply(x, 180 / math.pi)


# Rounding, signs, kinds of numbers


@op("float")
def floor(x: Any) -> Any:
    """Round down.

    >>> convert_to_numpy(floor([1.5, -1.5])).tolist()
    [1.0, -2.0]
    """
    return primitive_only("floor")


@op("float")
def ceil(x: Any) -> Any:
    """Round up.

    >>> convert_to_numpy(ceil([1.5, -1.5])).tolist()
    [2.0, -1.0]
    """
    return primitive_only("ceil")


@op("same")
def trunc(x: Any) -> Any:
    """Round towards zero; integers stay as they are.

    >>> convert_to_numpy(trunc([1.5, -1.5])).tolist()
    [1.0, -1.0]
    """
    return primitive_only("trunc")


@op("number")
def round(x: Any, decimals: int = 0) -> Any:
    """Round to a number of decimals, halves to even.

    >>> convert_to_numpy(round([0.5, 1.5, 2.5])).tolist()
    [0.0, 2.0, 2.0]
    """
    return primitive_only("round")


@op("same")
def isnan(x: Any) -> Any:
    """Where values are NaN.

    >>> convert_to_numpy(isnan([1.0, float('nan')])).tolist()
    [False, True]
    """
    return primitive_only("isnan")


@op("same")
def isinf(x: Any) -> Any:
    """Where values are infinite.

    >>> convert_to_numpy(isinf([1.0, float('inf')])).tolist()
    [False, True]
    """
    return primitive_only("isinf")


@op("same")
def isfinite(x: Any) -> Any:
    """Where values are finite.

    >>> convert_to_numpy(isfinite([1.0, float('inf')])).tolist()
    [True, False]
    """
    return primitive_only("isfinite")


@op("same")
def isposinf(x: Any) -> Any:
    """Where values are plus infinity.

    >>> convert_to_numpy(isposinf([1.0, float('inf')])).tolist()
    [False, True]
    """
    return logical_and(isinf(x), greater(x, 0))


@op("same")
def isneginf(x: Any) -> Any:
    """Where values are minus infinity.

    >>> convert_to_numpy(isneginf([1.0, -float('inf')])).tolist()
    [False, True]
    """
    return logical_and(isinf(x), less(x, 0))


@op("same")
def signbit(x: Any) -> Any:
    """Where the sign bit is set, that of -0.0 too.

    >>> convert_to_numpy(signbit([-1.0, 0.0])).tolist()
    [True, False]
    """
    return primitive_only("signbit")


@op("same")
def nan_to_num(x: Any, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Replace NaN and the infinities by numbers.

    >>> convert_to_numpy(nan_to_num([1.0, float('nan')])).tolist()
    [1.0, 0.0]
    """
    if not dtypes.is_float(dtype_of(x)):
        return x
    limits = ml_dtypes.finfo(dtypes.to_numpy(dtype_of(x)))
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    x = where(isnan(x), nan, x)
    return where(isposinf(x), high, where(isneginf(x), low, x))


@op("same")
def real(x: Any) -> Any:
    """The real part.

    >>> convert_to_numpy(real([1.5])).tolist()
    [1.5]
    """
    return primitive_only("real")


@op("same")
def imag(x: Any) -> Any:
    """The imaginary part.

    >>> convert_to_numpy(imag([1.5])).tolist()
    [0.0]
    """
    return primitive_only("imag")


@op("same")
def conjugate(x: Any) -> Any:
    """The complex conjugate.

    >>> convert_to_numpy(conjugate([1.5])).tolist()
    [1.5]
    """
    return primitive_only("conjugate")


@op("same")
def conj(x: Any) -> Any:
    """The complex conjugate: the same as `conjugate`.

    >>> convert_to_numpy(conj([1.5])).tolist()
    [1.5]
    """
    return conjugate(x)


@op("float")
def angle(x: Any) -> Any:
    """The angle of complex numbers.

    >>> convert_to_numpy(angle([1.0])).tolist()
    [0.0]
    """
    return arctan2(imag(x), real(x))


@op("same")
def isreal(x: Any) -> Any:
    """Where the imaginary part is zero.

    >>> convert_to_numpy(isreal([1.0])).tolist()
    [True]
    """
    return equal(imag(x), 0)


# Comparison and logic


@op("promote", tensors=2)
def equal(x1: Any, x2: Any) -> Any:
    """x1 == x2, elementwise.

    >>> convert_to_numpy(equal([1, 2, 3], 2)).tolist()
    [False, True, False]
    """
    return primitive_only("equal")


@op("promote", tensors=2)
def not_equal(x1: Any, x2: Any) -> Any:
    """x1 != x2, elementwise.

    >>> convert_to_numpy(not_equal([1, 2, 3], 2)).tolist()
    [True, False, True]
    """
    return primitive_only("not_equal")


@op("promote", tensors=2)
def less(x1: Any, x2: Any) -> Any:
    """x1 < x2, elementwise.

    >>> convert_to_numpy(less([1, 2, 3], 2)).tolist()
    [True, False, False]
    """
    return primitive_only("less")


@op("promote", tensors=2)
def less_equal(x1: Any, x2: Any) -> Any:
    """x1 <= x2, elementwise.

    >>> convert_to_numpy(less_equal([1, 2, 3], 2)).tolist()
    [True, True, False]
    """
    return primitive_only("less_equal")


@op("promote", tensors=2)
def greater(x1: Any, x2: Any) -> Any:
    """x1 > x2, elementwise.

    >>> convert_to_numpy(greater([1, 2, 3], 2)).tolist()
    [False, False, True]
    """
    return primitive_only("greater")


@op("promote", tensors=2)
def greater_equal(x1: Any, x2: Any) -> Any:
    """x1 >= x2, elementwise.

    >>> convert_to_numpy(greater_equal([1, 2, 3], 2)).tolist()
    [False, True, True]
    """
    return primitive_only("greater_equal")


@op("promote", tensors=2)
def logical_and(x1: Any, x2: Any) -> Any:
    """Where both hold.

    >>> convert_to_numpy(logical_and([True, True, False], [True, False, False])).tolist()
    [True, False, False]
    """
    return primitive_only("logical_and")


@op("promote", tensors=2)
def logical_or(x1: Any, x2: Any) -> Any:
    """Where one holds.

    >>> convert_to_numpy(logical_or([True, True, False], [True, False, False])).tolist()
    [True, True, False]
    """
    return primitive_only("logical_or")


@op("promote", tensors=2)
def logical_xor(x1: Any, x2: Any) -> Any:
    """Where exactly one holds.

    >>> convert_to_numpy(logical_xor([True, True, False], [True, False, False])).tolist()
    [False, True, False]
    """
    return primitive_only("logical_xor")


@op("same")
def logical_not(x: Any) -> Any:
    """Where x does not hold.

    >>> convert_to_numpy(logical_not([True, False])).tolist()
    [False, True]
    """
    return primitive_only("logical_not")


@op("promote_float", tensors=2)
def isclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Where two agree within atol + rtol * |x2|.

    >>> convert_to_numpy(isclose([1.0, 2.0], [1.0, 2.1])).tolist()
    [True, False]
    """
    bound = add(multiply(absolute(x2), rtol), atol)
    near = less_equal(absolute(subtract(x1, x2)), bound)
    close = logical_or(equal(x1, x2), logical_and(near, isfinite(x2)))
    return logical_or(close, logical_and(isnan(x1), isnan(x2))) if equal_nan else close


@op("promote_float", tensors=2)
def allclose(
    x1: Any, x2: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Whether two agree everywhere within atol + rtol * |x2|.

    >>> bool(allclose([1.0], [1.0]))
    True
    """
    return all(isclose(x1, x2, rtol, atol, equal_nan))


@op("promote", tensors=2)
def isin(x1: Any, x2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    """Where the elements of x1 are among those of x2.

    >>> convert_to_numpy(isin([1, 2, 3], [2, 5])).tolist()
    [False, True, False]
    """
    found = any(equal(expand_dims(x1, -1), ravel(x2)), axis=-1)
    return logical_not(found) if invert else found


@op("promote", tensors=2)
def bitwise_and(x: Any, y: Any) -> Any:
    """Bitwise and of integers.

    >>> convert_to_numpy(bitwise_and([1, 3], 2)).tolist()
    [0, 2]
    """
    return primitive_only("bitwise_and")


@op("promote", tensors=2)
def bitwise_or(x: Any, y: Any) -> Any:
    """Bitwise or of integers.

    >>> convert_to_numpy(bitwise_or([1, 3], 2)).tolist()
    [3, 3]
    """
    return primitive_only("bitwise_or")


@op("promote", tensors=2)
def bitwise_xor(x: Any, y: Any) -> Any:
    """Bitwise exclusive or of integers.

    >>> convert_to_numpy(bitwise_xor([1, 3], 2)).tolist()
    [3, 1]
    """
    return primitive_only("bitwise_xor")


@op("same")
def bitwise_not(x: Any) -> Any:
    """Bitwise not of integers.

    >>> convert_to_numpy(bitwise_not([0, 5])).tolist()
    [-1, -6]
    """
    return primitive_only("bitwise_not")


@op("same")
def bitwise_invert(x: Any) -> Any:
    """Bitwise not: the same as `bitwise_not`.

    >>> convert_to_numpy(bitwise_invert([0, 5])).tolist()
    [-1, -6]
    """
    return bitwise_not(x)


@op("promote_number", tensors=2)
def bitwise_left_shift(x: Any, y: Any) -> Any:
    """Shift the bits of integers to the left.

    >>> convert_to_numpy(bitwise_left_shift([1, 3], 2)).tolist()
    [4, 12]
    """
    return primitive_only("bitwise_left_shift")


@op("promote_number", tensors=2)
def left_shift(x: Any, y: Any) -> Any:
    """Shift to the left: the same as `bitwise_left_shift`.

    >>> convert_to_numpy(left_shift([1, 3], 2)).tolist()
    [4, 12]
    """
    return bitwise_left_shift(x, y)


@op("promote_number", tensors=2)
def bitwise_right_shift(x: Any, y: Any) -> Any:
    """Shift the bits of integers to the right.

    >>> convert_to_numpy(bitwise_right_shift([4, 12], 2)).tolist()
    [1, 3]
    """
    return primitive_only("bitwise_right_shift")


@op("promote_number", tensors=2)
def right_shift(x: Any, y: Any) -> Any:
    """Shift to the right: the same as `bitwise_right_shift`.

    >>> convert_to_numpy(right_shift([4, 12], 2)).tolist()
    [1, 3]
    """
    return bitwise_right_shift(x, y)


# Reductions: axis is None (all of them), a number or a tuple


@op("same")
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum; booleans and short integers add up as 32-bit integers.

    >>> convert_to_numpy(sum([[1, 2], [3, 4]], axis=0)).tolist()
    [4, 6]
    """
    return primitive_only("sum")


@op("same")
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
    """The product; booleans and short integers multiply as 32-bit integers.

    >>> convert_to_numpy(prod([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 12]
    """
    return primitive_only("prod")


@op("float")
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The arithmetic mean.

    >>> convert_to_numpy(mean([[1, 2], [3, 4]], axis=0)).tolist()
    [2.0, 3.0]
    """
    return primitive_only("mean")


@op("float")
def var(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The variance.

    >>> convert_to_numpy(var([[1, 2], [3, 4]], axis=0)).tolist()
    [1.0, 1.0]
    """
    return primitive_only("var")


@op("float")
def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The standard deviation.

    >>> convert_to_numpy(std([[1, 2], [3, 4]], axis=0)).tolist()
    [1.0, 1.0]
    """
    return sqrt(var(x, axis, keepdims))


@op("same")
def max(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
    """The largest element.

    >>> convert_to_numpy(max([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 4]
    """
    return primitive_only("max")


@op("same")
def min(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Any:
    """The smallest element.

    >>> convert_to_numpy(min([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 3]
    """
    return primitive_only("min")


@op("same")
def amax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest element: the same as `max`.

    >>> convert_to_numpy(amax([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 4]
    """
    return max(x, axis, keepdims)


@op("same")
def amin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest element: the same as `min`.

    >>> convert_to_numpy(amin([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 3]
    """
    return min(x, axis, keepdims)


@op("same")
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest element minus the smallest.

    >>> convert_to_numpy(ptp([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 1]
    """
    return subtract(max(x, axis, keepdims), min(x, axis, keepdims))


@op("same")
def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all elements hold.

    >>> convert_to_numpy(all([[True, False], [True, True]], axis=1)).tolist()
    [False, True]
    """
    return primitive_only("all")


@op("same")
def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether one element holds.

    >>> convert_to_numpy(any([[True, False], [False, False]], axis=1)).tolist()
    [True, False]
    """
    return primitive_only("any")


@op("same")
def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The index of the first largest element, over the flat tensor or along an axis.

    >>> convert_to_numpy(argmax([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 1]
    """
    return primitive_only("argmax")


@op("same")
def argmin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The index of the first smallest element, over the flat tensor or along an axis.

    >>> convert_to_numpy(argmin([[1, 2], [3, 4]], axis=1)).tolist()
    [0, 0]
    """
    return primitive_only("argmin")


@op("same")
def cumsum(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    """The running sum along an axis, or over the flat tensor.

    >>> convert_to_numpy(cumsum([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    return primitive_only("cumsum")


@op("same")
def cumprod(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    """The running product along an axis, or over the flat tensor.

    >>> convert_to_numpy(cumprod([1, 2, 3])).tolist()
    [1, 2, 6]
    """
    return primitive_only("cumprod")


@op("same")
def count_nonzero(x: Any, axis: Any = None) -> Any:
    """The number of elements that are not zero.

    >>> convert_to_numpy(count_nonzero([[0, 1], [2, 3]], axis=1)).tolist()
    [1, 2]
    """
    return sum(cast(not_equal(x, 0), "int32"), axis)


@op("float")
def average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    """The mean, weighted if there are weights.

    >>> convert_to_numpy(average([1.0, 3.0], weights=[3.0, 1.0])).tolist()
    1.5
    """
    if weights is None:
        return mean(x, axis)
    weights = cast(_beside(weights, x), dtype_of(x))
    if isinstance(axis, int) and len(shape(weights)) == 1 and len(shape(x)) > 1:
        sizes = [1] * len(shape(x))
        sizes[axis] = -1
        weights = reshape(weights, sizes)
    weights = broadcast_to(weights, shape(x))
    return divide(sum(multiply(x, weights), axis), sum(weights, axis))


@op("float")
def median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The median: the mean of the two middle elements where there are two.

    >>> convert_to_numpy(median([[1, 4, 2], [3, 9, 5]], axis=1)).tolist()
    [2.0, 5.0]
    """
    return quantile(x, 0.5, axis, keepdims=keepdims)


@op("float")
def quantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """The q-th quantiles, 0 <= q <= 1; an axis for several q comes first.

    >>> convert_to_numpy(quantile([1.0, 2.0, 4.0], [0.5, 1.0])).tolist()
    [2.0, 4.0]
    """
    return _quantile(x, q, axis, method, keepdims, None)


@op("float")
def percentile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """The q-th percentiles, 0 <= q <= 100.

    >>> convert_to_numpy(percentile([1.0, 2.0, 4.0], 50)).tolist()
    2.0
    """
    q = q / 100 if isinstance(q, int | float) else divide(_beside(q, x), 100)
    return quantile(x, q, axis, method, keepdims)


@op("same")
def nansum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum without the NaNs.

    >>> convert_to_numpy(nansum([1.0, float('nan')])).tolist()
    1.0
    """
    return sum(where(isnan(x), 0, x), axis, keepdims)


@op("same")
def nanprod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The product without the NaNs.

    >>> convert_to_numpy(nanprod([2.0, float('nan')])).tolist()
    2.0
    """
    return prod(where(isnan(x), 1, x), axis, keepdims)


@op("float")
def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean without the NaNs.

    >>> convert_to_numpy(nanmean([2.0, float('nan')])).tolist()
    2.0
    """
    count = sum(cast(logical_not(isnan(x)), dtype_of(x)), axis, keepdims)
    return divide(nansum(x, axis, keepdims), count)


@op("float")
def nanvar(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The variance without the NaNs.

    >>> convert_to_numpy(nanvar([1.0, 3.0, float('nan')])).tolist()
    1.0
    """
    return nanmean(square(subtract(x, nanmean(x, axis, True))), axis, keepdims)


@op("float")
def nanstd(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The standard deviation without the NaNs.

    >>> convert_to_numpy(nanstd([1.0, 3.0, float('nan')])).tolist()
    1.0
    """
    return sqrt(nanvar(x, axis, keepdims))


@op("same")
def nanmax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest element without the NaNs.

    >>> convert_to_numpy(nanmax([1.0, float('nan')])).tolist()
    1.0
    """
    return _nan_extremum(max, -math.inf, x, axis, keepdims)


@op("same")
def nanmin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The smallest element without the NaNs.

    >>> convert_to_numpy(nanmin([1.0, float('nan')])).tolist()
    1.0
    """
    return _nan_extremum(min, math.inf, x, axis, keepdims)


@op("same")
def nanargmax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The index of the largest element that is not NaN; -1 if all are.

    >>> convert_to_numpy(nanargmax([1.0, float('nan')])).tolist()
    0
    """
    return _nan_arg(argmax, -math.inf, x, axis, keepdims)


@op("same")
def nanargmin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The index of the smallest element that is not NaN; -1 if all are.

    >>> convert_to_numpy(nanargmin([1.0, float('nan')])).tolist()
    0
    """
    return _nan_arg(argmin, math.inf, x, axis, keepdims)


@op("same")
def nancumsum(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    """The running sum, NaNs counted as 0.

    >>> convert_to_numpy(nancumsum([1.0, float('nan'), 2.0])).tolist()
    [1.0, 1.0, 3.0]
    """
    return cumsum(where(isnan(x), 0, x), axis, dtype)


@op("same")
def nancumprod(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    """The running product, NaNs counted as 1.

    >>> convert_to_numpy(nancumprod([1.0, float('nan'), 2.0])).tolist()
    [1.0, 1.0, 2.0]
    """
    return cumprod(where(isnan(x), 1, x), axis, dtype)


@op("float")
def nanmedian(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The median without the NaNs.

    >>> convert_to_numpy(nanmedian([1.0, 3.0, float('nan')])).tolist()
    2.0
    """
    return nanquantile(x, 0.5, axis, keepdims=keepdims)


@op("float")
def nanquantile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """The quantiles without the NaNs.

    >>> convert_to_numpy(nanquantile([1.0, 3.0, float('nan')], 0.5)).tolist()
    2.0
    """
    count = sum(cast(logical_not(isnan(x)), "float32"), axis, True)
    return _quantile(x, q, axis, method, keepdims, count)


@op("float")
def nanpercentile(
    x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> Any:
    """The percentiles without the NaNs.

    >>> convert_to_numpy(nanpercentile([1.0, 3.0, float('nan')], 50)).tolist()
    2.0
    """
    return nanquantile(x, divide(_beside(q, x), 100), axis, method, keepdims)


def _nan_extremum(of: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Any:
    if not dtypes.is_float(dtype_of(x)):
        return of(x, axis, keepdims)
    empty = all(isnan(x), axis, keepdims)
    return where(empty, math.nan, of(where(isnan(x), worst, x), axis, keepdims))


def _nan_arg(of: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Any:
    if not dtypes.is_float(dtype_of(x)):
        return of(x, axis, keepdims)
    empty = all(isnan(x), axis, keepdims)
    return where(empty, -1, of(where(isnan(x), worst, x), axis, keepdims))


def _quantile(x: Any, q: Any, axis: Any, method: str, keepdims: bool, count: Any) -> Any:
    """Quantiles by sorting; `count` elements count where it is given, the NaNs sorted behind."""
    if method not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(f"unknown method {method!r}.")
    if isinstance(q, int | float) and not 0 <= q <= 1:
        raise ValueError(f"q must lie within its range, got {q} of 1")
    sizes = shape(x)
    axes = range(len(sizes)) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = sorted(_axis(a, len(sizes)) for a in axes)
    rest = [a for a in range(len(sizes)) if a not in axes]
    flat = reshape(transpose(x, rest + axes), [*(sizes[a] for a in rest), -1])
    flat = sort(cast(flat, dtypes.result_type(dtype_of(x), "float32")), -1)
    q = cast(_beside(q, x), dtype_of(flat))
    last = shape(flat)[-1] - 1
    if count is not None:
        last = maximum(subtract(reshape(count, [*(sizes[a] for a in rest), 1]), 1), 0)
    place = broadcast_to(multiply(ravel(q), last), [*shape(flat)[:-1], size(q)])
    low, high = (round(place),) * 2 if method == "nearest" else (floor(place), ceil(place))
    below, above = (take_along_axis(flat, cast(i, "int32"), -1) for i in (low, high))
    weight = subtract(place, low)
    if method != "linear":
        part = {"higher": 1.0, "midpoint": 0.5}.get(method, 0.0)
        weight = multiply(cast(not_equal(low, high), dtype_of(flat)), part)
    found = add(below, where(equal(weight, 0), 0, multiply(weight, subtract(above, below))))
    if count is None:
        found = where(any(isnan(flat), -1, True), math.nan, found)
    kept = [1 if a in axes else d for a, d in enumerate(sizes) if keepdims or a not in axes]
    return cast(reshape(moveaxis(found, -1, 0), [*shape(q), *kept]), dtype_of(x))


# Creation


@op("creation")
def zeros(shape: Any, dtype: Any = None) -> Any:
    """Zeros.

    >>> convert_to_numpy(zeros((2,))).tolist()
    [0.0, 0.0]
    """
    return full(shape, 0, dtype)


@op("creation")
def ones(shape: Any, dtype: Any = None) -> Any:
    """Ones.

    >>> convert_to_numpy(ones((2,))).tolist()
    [1.0, 1.0]
    """
    return full(shape, 1, dtype)


@op("creation")
def empty(shape: Any, dtype: Any = None) -> Any:
    """Zeros: nothing is gained by leaving memory unset.

    >>> shape(empty((2, 3)))
    (2, 3)
    """
    return zeros(shape, dtype)


@op("creation")
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Any:
    """A tensor of one value; of floatx unless a dtype is given.

    >>> convert_to_numpy(full((2,), 7, "int32")).tolist()
    [7, 7]
    """
    return primitive_only("full")


@op("same")
def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros of the shape and dtype of x.

    >>> convert_to_numpy(zeros_like([1, 2])).tolist()
    [0, 0]
    """
    return primitive_only("zeros_like")


@op("same")
def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones of the shape and dtype of x.

    >>> convert_to_numpy(ones_like([1, 2])).tolist()
    [1, 1]
    """
    return primitive_only("ones_like")


@op("same")
def empty_like(x: Any, dtype: Any = None) -> Any:
    """Zeros of the shape and dtype of x.

    >>> convert_to_numpy(empty_like([1, 2])).tolist()
    [0, 0]
    """
    return zeros_like(x, dtype)


@op("same")
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """One value in the shape and dtype of x.

    >>> convert_to_numpy(full_like([1, 2], 7)).tolist()
    [7, 7]
    """
    wanted = dtype_of(x) if dtype is None else dtype
    return broadcast_to(cast(_beside(fill_value, x), wanted), shape(x))


@op("creation")
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Any:
    """Numbers from start up to stop; integers unless an argument is a float.

    >>> convert_to_numpy(arange(1, 7, 2)).tolist()
    [1, 3, 5]
    """
    return primitive_only("arange")


@op("promote_float", tensors=2)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Numbers at equal distances from start to stop.

    >>> convert_to_numpy(linspace(0, 1, 3)).tolist()
    [0.0, 0.5, 1.0]
    """
    parts = builtins.max(num - 1 if endpoint else num, 1)
    gap = subtract(stop, start)
    steps = reshape(_positions(start, num), [-1] + [1] * len(shape(gap)))
    step = divide(gap, parts)
    out = add(start, multiply(cast(divide(steps, parts), dtype_of(start)), gap))
    if endpoint and num > 1:  # exactly stop, in spite of rounding
        out = where(equal(steps, parts), stop, out)
    out = moveaxis(out, 0, axis) if axis else out
    if dtype is not None:
        out = cast(floor(out) if dtypes.is_int(dtypes.standardize(dtype)) else out, dtype)
    return (out, step) if retstep else out


@op("promote_float", tensors=2)
def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Powers of the base, with exponents at equal distances.

    >>> convert_to_numpy(logspace(0, 2, 3, base=2)).tolist()
    [1.0, 2.0, 4.0]
    """
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    out = power(cast(_beside(base, start), dtype_of(start)), exponents)
    return out if dtype is None else cast(out, dtype)


@op("promote_float", tensors=2)
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """Numbers of equal ratios from start to stop.

    >>> convert_to_numpy(round(geomspace(1, 100, 3))).tolist()
    [1.0, 10.0, 100.0]
    """
    low, high = log(absolute(start)), log(absolute(stop))
    out = multiply(sign(start), exp(linspace(low, high, num, endpoint, axis=axis)))
    return out if dtype is None else cast(out, dtype)


@op("creation")
def eye(N: int, M: Any = None, k: int = 0, dtype: Any = None) -> Any:  # noqa: N803 - as in Keras
    """Ones on the k-th diagonal.

    >>> convert_to_numpy(eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    rows, columns = arange(N), arange(N if M is None else M)
    return cast(equal(add(expand_dims(rows, 1), k), columns), dtype)


@op("creation")
def identity(n: int, dtype: Any = None) -> Any:
    """The identity matrix.

    >>> convert_to_numpy(identity(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return eye(n, dtype=dtype)


@op("creation")
def tri(N: int, M: Any = None, k: int = 0, dtype: Any = None) -> Any:  # noqa: N803 - as in Keras
    """Ones on and below the k-th diagonal.

    >>> convert_to_numpy(tri(2)).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    rows, columns = arange(N), arange(N if M is None else M)
    return cast(greater_equal(add(expand_dims(rows, 1), k), columns), dtype)


def bartlett(x: Any) -> Any:
    """The Bartlett window of x points.

    >>> convert_to_numpy(round(bartlett(3), 3)).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.bartlett(int(x)), dtypes.standardize(None))


def blackman(x: Any) -> Any:
    """The Blackman window of x points.

    >>> convert_to_numpy(absolute(round(blackman(3), 3))).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.blackman(int(x)), dtypes.standardize(None))


def hamming(x: Any) -> Any:
    """The Hamming window of x points.

    >>> convert_to_numpy(round(hamming(3))).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.hamming(int(x)), dtypes.standardize(None))


def hanning(x: Any) -> Any:
    """The Hann window of x points.

    >>> convert_to_numpy(round(hanning(3), 3)).tolist()
    [0.0, 1.0, 0.0]
    """
    return convert_to_tensor(np.hanning(int(x)), dtypes.standardize(None))


def kaiser(x: Any, beta: float) -> Any:
    """The Kaiser window of x points.

    >>> convert_to_numpy(kaiser(3, 0.0)).tolist()
    [1.0, 1.0, 1.0]
    """
    return convert_to_tensor(np.kaiser(int(x), float(beta)), dtypes.standardize(None))


def array(x: Any, dtype: Any = None) -> Any:
    """Make a tensor.

    >>> convert_to_numpy(array([1, 2])).tolist()
    [1, 2]
    """
    return convert_to_tensor(x, dtype)


@op("same")
def copy(x: Any) -> Any:
    """A copy.

    >>> convert_to_numpy(copy([1, 2])).tolist()
    [1, 2]
    """
    return primitive_only("copy")


# Shapes


def ndim(x: Any) -> Any:
    """The number of dimensions.

    >>> ndim([[1, 2]])
    2
    """
    return len(shape(x))


def size(x: Any) -> Any:
    """The number of elements.

    >>> int(size([[1, 2]]))
    2
    """
    return math.prod(shape(x))


@op("same")
def reshape(x: Any, newshape: Any) -> Any:
    """Change the shape; one dimension may be -1.

    >>> convert_to_numpy(reshape([1, 2, 3, 4], (2, -1))).tolist()
    [[1, 2], [3, 4]]
    """
    return primitive_only("reshape")


@op("same")
def view(x: Any, dtype: Any = None) -> Any:
    """The same bits read as another dtype; the last axis grows or shrinks with its width.

    Args:
        x: the tensor.
        dtype: a dtype name; floatx by default.

    Raises:
        ValueError: the last axis does not hold a whole number of the new elements.

    >>> convert_to_numpy(view(array([1.0], "float32"), "int32")).tolist()
    [1065353216]
    """
    module = backends.load(backends.of(x) or "numpy")
    dtype = module.canonical(dtypes.standardize(dtype))
    own, new = (dtypes.to_numpy(name).itemsize for name in (dtype_of(x), dtype))
    last = shape(x)[-1] if len(x.shape) else 1
    if own != new and (not len(x.shape) or (isinstance(last, int) and last * own % new)):
        raise ValueError(f"the last axis holds no whole number of {dtype}, {new} bytes each")
    return _view(x, dtype)


@op("same")
def _view(x: Any, dtype: str) -> Any:
    """`view` as a dtype that fits."""
    return primitive_only("_view")


@op("same")
def ravel(x: Any) -> Any:
    """Flatten.

    >>> convert_to_numpy(ravel([[1, 2], [3, 4]])).tolist()
    [1, 2, 3, 4]
    """
    return reshape(x, (-1,))


@op("same")
def transpose(x: Any, axes: Any = None) -> Any:
    """Permute the axes; reverse them if none are given.

    >>> convert_to_numpy(transpose([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    return primitive_only("transpose")


@op("same")
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Move axes to other positions.

    >>> shape(moveaxis(zeros((2, 3, 4)), 0, -1))
    (3, 4, 2)
    """
    rank = len(shape(x))
    source, destination = ([a] if isinstance(a, int) else list(a) for a in (source, destination))
    to = dict(
        zip([_axis(a, rank) for a in destination], [_axis(a, rank) for a in source], strict=True)
    )
    rest = iter([a for a in range(rank) if a not in to.values()])
    return transpose(x, [to[i] if i in to else next(rest) for i in range(rank)])


@op("same")
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes.

    >>> shape(swapaxes(zeros((2, 3, 4)), 0, -1))
    (4, 3, 2)
    """
    order = list(range(len(shape(x))))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


@op("same")
def expand_dims(x: Any, axis: Any) -> Any:
    """Insert axes of size 1.

    >>> shape(expand_dims([1, 2], 0))
    (1, 2)
    """
    return primitive_only("expand_dims")


@op("same")
def squeeze(x: Any, axis: Any = None) -> Any:
    """Drop axes of size 1.

    >>> shape(squeeze([[1, 2]]))
    (2,)
    """
    return primitive_only("squeeze")


@op("same")
def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeat along axes of size 1 until the shape fits.

    >>> convert_to_numpy(broadcast_to([1, 2], (2, 2))).tolist()
    [[1, 2], [1, 2]]
    """
    return primitive_only("broadcast_to")


@op("sequence")
def stack(x: Any, axis: int = 0) -> Any:
    """Join tensors along a new axis.

    >>> convert_to_numpy(stack([[1, 2], [3, 4]], axis=1)).tolist()
    [[1, 3], [2, 4]]
    """
    return primitive_only("stack")


@op("sequence")
def concatenate(xs: Any, axis: int = 0) -> Any:
    """Join tensors along an axis.

    >>> convert_to_numpy(concatenate([[1, 2], [3]])).tolist()
    [1, 2, 3]
    """
    return primitive_only("concatenate")


@op("promote", tensors=2)
def append(x1: Any, x2: Any, axis: Any = None) -> Any:
    """Join two tensors along an axis, or flat.

    >>> convert_to_numpy(append([1, 2], [[3]])).tolist()
    [1, 2, 3]
    """
    return concatenate([ravel(x1), ravel(x2)] if axis is None else [x1, x2], axis or 0)


@op("sequence")
def hstack(xs: Any) -> Any:
    """Join along the second axis, vectors along the first.

    >>> convert_to_numpy(hstack([[1, 2], [3]])).tolist()
    [1, 2, 3]
    """
    xs = [_at_least(x, 1) for x in xs]
    return concatenate(xs, 0 if len(shape(xs[0])) == 1 else 1)


@op("sequence")
def vstack(xs: Any) -> Any:
    """Join along the first axis, vectors as rows.

    >>> convert_to_numpy(vstack([[1, 2], [3, 4]])).tolist()
    [[1, 2], [3, 4]]
    """
    return concatenate([_at_least(x, 2) for x in xs], 0)


@op("sequence")
def dstack(xs: Any) -> Any:
    """Join along the third axis.

    >>> shape(dstack([[1, 2], [3, 4]]))
    (1, 2, 2)
    """
    return concatenate([_at_least(x, 3) for x in xs], 2)


@op("same")
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into equal parts, or at indices.

    >>> [convert_to_numpy(p).tolist() for p in split([1, 2, 3, 4], 2)]
    [[1, 2], [3, 4]]
    """
    return primitive_only("split")


@op("same")
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into parts that may differ by one in size, or at indices.

    >>> [convert_to_numpy(p).tolist() for p in array_split([1, 2, 3], 2)]
    [[1, 2], [3]]
    """
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    small, more = divmod(shape(x)[axis], indices_or_sections)
    sizes = [small + 1] * more + [small] * (indices_or_sections - more)
    return split(x, np.cumsum(sizes)[:-1].tolist(), axis)


@op("same")
def hsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the second axis; vectors along the first.

    >>> len(hsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 0 if len(shape(x)) == 1 else 1)


@op("same")
def vsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the first axis.

    >>> len(vsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 0)


@op("same")
def dsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the third axis.

    >>> len(dsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 2)


@op("same")
def repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    """Repeat each element, flat or along an axis.

    >>> convert_to_numpy(repeat([1, 2], 2)).tolist()
    [1, 1, 2, 2]
    """
    return primitive_only("repeat")


@op("same")
def tile(x: Any, repeats: Any) -> Any:
    """Repeat the whole tensor.

    >>> convert_to_numpy(tile([1, 2], 2)).tolist()
    [1, 2, 1, 2]
    """
    return primitive_only("tile")


@op("same")
def flip(x: Any, axis: Any = None) -> Any:
    """Reverse along axes.

    >>> convert_to_numpy(flip([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    return primitive_only("flip")


@op("same")
def flipud(x: Any) -> Any:
    """Reverse along the first axis.

    >>> convert_to_numpy(flipud([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    return flip(x, 0)


@op("same")
def fliplr(x: Any) -> Any:
    """Reverse along the second axis.

    >>> convert_to_numpy(fliplr([[1, 2, 3]])).tolist()
    [[3, 2, 1]]
    """
    return flip(x, 1)


@op("same")
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Shift elements around, flat or along axes.

    >>> convert_to_numpy(roll([1, 2, 3], 1)).tolist()
    [3, 1, 2]
    """
    return primitive_only("roll")


@op("same")
def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """Rotate by quarter turns in the plane of two axes.

    >>> convert_to_numpy(rot90([[1, 2], [3, 4]])).tolist()
    [[2, 4], [1, 3]]
    """
    first, second = (_axis(a, len(shape(array))) for a in axes)
    if first == second:
        raise ValueError(f"the axes must differ, got {axes}.")
    if k % 4 == 2:
        return flip(array, (first, second))
    if k % 4 == 1:
        return swapaxes(flip(array, second), first, second)
    return array if k % 4 == 0 else flip(swapaxes(array, first, second), second)


@op("same")
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Any:
    """Add a border: a constant, or after numpy's modes edge, reflect, symmetric, wrap.

    >>> convert_to_numpy(pad([1, 2], (1, 0))).tolist()
    [0, 1, 2]
    """
    widths = _widths(pad_width, len(shape(x)))
    if mode == "constant":
        return _pad_constant(x, widths, 0 if constant_values is None else constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"unknown mode {mode!r}")
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = take(x, _border(x, shape(x)[axis], before, after, mode), axis)
    return x


def _widths(pad_width: Any, rank: int) -> list:
    """A pair for each axis, of numpy's shorter forms: a number, one pair, pairs or numbers."""
    given = pad_width.tolist() if hasattr(pad_width, "tolist") else pad_width
    given = [given] if isinstance(given, int) else list(given)
    if len(given) == 2 and builtins.all(isinstance(w, int) for w in given):
        given = [given]  # before and after, on every axis
    pairs = [[w] if isinstance(w, int) else list(w) for w in given]
    pairs = [[pair[0], pair[-1]] for pair in pairs]
    if len(pairs) not in (1, rank):
        raise ValueError(f"{len(pairs)} pairs of widths for {rank} dimensions")
    return pairs * rank if len(pairs) == 1 else pairs


@op("same")
def _pad_constant(x: Any, widths: list, value: Any) -> Any:
    """Padding with a value; the widths are a pair for each axis."""
    return primitive_only("_pad_constant")


def _border(x: Any, size: Any, before: int, after: int, mode: str) -> Any:
    """The places that the elements of a padded axis are copied from."""
    i = _positions(x, size + (before + after)) - before
    if mode == "edge":
        return (builtins.abs(i) - builtins.abs(i - (size - 1)) + (size - 1)) // 2
    if mode == "wrap":
        return i % size
    period = 2 * size - 2 if mode == "reflect" else 2 * size
    last = period if mode == "reflect" else period - 1
    if isinstance(period, int):
        period = builtins.max(period, 1)
    return (last - builtins.abs(2 * (i % period) - last)) // 2


@op("operands")
def meshgrid(*x: Any, indexing: str = "xy") -> Any:
    """Coordinate grids of vectors.

    >>> [convert_to_numpy(g).tolist() for g in meshgrid([1, 2], [3])]
    [[[1, 2]], [[3, 3]]]
    """
    rank, swap = len(x), indexing == "xy"
    place = [1 - i if swap and rank > 1 and i < 2 else i for i in range(rank)]
    grid = [reshape(v, [-1 if j == place[i] else 1 for j in range(rank)]) for i, v in enumerate(x)]
    sizes = [shape(g)[place[i]] for i, g in enumerate(grid)]
    full_shape = [sizes[place.index(j)] for j in range(rank)]
    return [broadcast_to(g, full_shape) for g in grid]


def _axis(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ValueError(f"The axis {axis} is out of range for {rank} dimensions.")
    return axis % rank


def _at_least(x: Any, rank: int) -> Any:
    """Axes of size 1 added the way numpy's atleast_1d, atleast_2d, atleast_3d do."""
    sizes = shape(x)
    if len(sizes) >= rank:
        return x
    front = 0 if len(sizes) == 2 else rank - len(sizes) if rank < 3 or not sizes else 1
    return reshape(x, [*([1] * front), *sizes, *([1] * (rank - len(sizes) - front))])


@op("same")
def _positions(x: Any, size: Any) -> Any:
    """The numbers below a size, beside x; the size may be a tensor in a TensorFlow graph."""
    return primitive_only("_positions")


def _beside(value: Any, x: Any) -> Any:
    """A literal as a tensor of the backend of x."""
    value = getattr(value, "_kl_value", value)
    return (
        value
        if backends.of(value)
        else backends.load(backends.of(x) or backends.backend()).convert(value)
    )


# Indexing, searching, sorting


@op("promote", tensors=3, keep=(0,))
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """x1 where the condition holds, else x2; the indices where it holds if neither is given.

    >>> convert_to_numpy(where([True, False], [1, 2], 0)).tolist()
    [1, 0]
    """
    return primitive_only("where")


@op("same")
def nonzero(x: Any) -> Any:
    """The indices of the elements that are not zero, an array for each axis.

    >>> [convert_to_numpy(i).tolist() for i in nonzero([0, 3, 4])]
    [[1, 2]]
    """
    return primitive_only("nonzero")


@op("same", tensors=2)
def take(x: Any, indices: Any, axis: Any = None) -> Any:
    """Elements by index, from the flat tensor or along an axis; negative ones count from the end.

    An index out of range is an error. In compiled code, and with torch on a GPU, it cannot be one:
    there JAX and torch give NaN (or the smallest integer), and TensorFlow on a GPU zeros.

    >>> convert_to_numpy(take([1, 2, 3], [0, 2])).tolist()
    [1, 3]
    """
    return primitive_only("take")


@op("same", tensors=2)
def take_along_axis(x: Any, indices: Any, axis: Any = None) -> Any:
    """Elements by an index each, along an axis; indices are those of `take`.

    >>> convert_to_numpy(take_along_axis([[1, 2], [3, 4]], [[1], [0]], axis=1)).tolist()
    [[2], [3]]
    """
    return primitive_only("take_along_axis")


@op("same")
def sort(x: Any, axis: Any = -1) -> Any:
    """Sort along an axis, or flat.

    >>> convert_to_numpy(sort([3, 1, 2])).tolist()
    [1, 2, 3]
    """
    return primitive_only("sort")


@op("same")
def argsort(x: Any, axis: Any = -1) -> Any:
    """The indices that sort along an axis, or flat; equal elements keep their order.

    >>> convert_to_numpy(argsort([3, 1, 2])).tolist()
    [1, 2, 0]
    """
    return primitive_only("argsort")


@op("same")
def argpartition(x: Any, kth: int, axis: Any = -1) -> Any:
    """Indices that bring the k smallest elements to the front.

    >>> convert_to_numpy(argpartition([3, 1, 2], 0)).tolist()
    [1, 2, 0]
    """
    return argsort(x, axis)


@op("promote", tensors=2)
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """Where values would be inserted into a sorted vector.

    >>> convert_to_numpy(searchsorted([1, 3, 5], [3, 4])).tolist()
    [1, 2]
    """
    return primitive_only("searchsorted")


@op("same")
def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The different elements in rising order; NaNs count as different from each other.

    Args:
        x: the tensor.
        sorted: kept for Keras code; the result is sorted in any case.
        return_index: whether the place of the first occurrence of each is returned too.
        return_inverse: whether the places that bring `x` back are returned too.
        return_counts: whether the number of occurrences is returned too.
        axis: the axis whose slices are compared; None compares the elements.
        size: how many are returned; more are cut off, and what is missing is `fill_value`, with
            the count 0 and the index of the first. Needed where the call is compiled by JAX.
        fill_value: 0 by default.

    Returns:
        The values, of `x`'s dtype, or a tuple of them and what was asked for, in int32.

    Raises:
        ValueError: the axis is out of range.

    >>> [convert_to_numpy(part).tolist() for part in unique([3, 1, 3], return_counts=True)]
    [[1, 3], [1, 2]]
    """
    slices = ravel(x) if axis is None else moveaxis(x, _axis(axis, len(x.shape)), 0)
    count, *rest = shape(slices)
    rows = reshape(slices, (count, math.prod(rest))) if rest else slices
    order = _order_of_rows(rows)
    ranked = take(rows, order, 0)
    differ = not_equal(ranked[1:], ranked[:-1])
    differ = differ if len(rows.shape) == 1 else any(differ, 1)
    first = concatenate([ones_like(order[:1], dtype="bool"), differ])
    group = cumsum(cast(first, "int32")) - 1
    if size is None:
        places = _positions(order, shape(nonzero(first)[0])[0])
    else:
        places = _positions(order, size)
    starts = searchsorted(group, places)
    missing = greater_equal(starts, count)
    index = take(order, where(missing, 0, starts))
    values = take(slices, index, 0)
    if size is not None:
        fill = cast(_beside(0 if fill_value is None else fill_value, x), dtype_of(x))
        values = where(reshape(missing, (-1, *[1] * len(rest))), fill, values)
    out = [values if axis is None else moveaxis(values, 0, axis)]
    if return_index:
        out.append(index)
    if return_inverse:
        inverse = take(group, argsort(order))
        out.append(reshape(inverse, shape(x)) if axis is None else inverse)
    if return_counts:
        out.append(searchsorted(group, places, "right") - starts)
    return out[0] if len(out) == 1 else tuple(out)


def _order_of_rows(rows: Any) -> Any:
    """The indices that sort numbers, or rows by their first column, then their second ..."""
    if len(rows.shape) == 1:
        return argsort(rows)
    from keraslite.ops.transforms import scan

    def by_column(order: Any, column: Any) -> tuple:
        return take(order, argsort(take(column, order))), None

    start = _positions(rows, shape(rows)[0])
    return scan(by_column, start, transpose(rows), reverse=True)[0]


@op("promote", tensors=2)
def digitize(x: Any, bins: Any) -> Any:
    """The number of the bin of each element.

    >>> convert_to_numpy(digitize([0.5, 3.0], [1.0, 2.0])).tolist()
    [0, 2]
    """
    return searchsorted(bins, x, "right")


@op("same")
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """Count how often each integer occurs, row by row.

    >>> convert_to_numpy(bincount([0, 2, 2])).tolist()
    [1, 0, 2]
    """
    if sparse:
        raise NotImplementedError("ops.bincount: sparse results are not supported.")
    if minlength < 0:
        raise ValueError(f"minlength must not be negative, got {minlength}")
    if not dtypes.is_int(dtype_of(x)):
        raise TypeError(f"the numbers to count must be integers, got dtype {dtype_of(x)}")
    length = builtins.max(int(max(x)) + 1 if math.prod(shape(x)) else 0, minlength)
    hits = equal(expand_dims(x, -1), _positions(x, length))
    if weights is None:
        return sum(cast(hits, "int32"), -2)
    weights = _beside(weights, x)
    return sum(where(hits, expand_dims(weights, -1), 0), -2)


@op("same")
def histogram(x: Any, bins: int = 10, range: Any = None) -> Any:
    """Counts in bins of equal width, and the edges of the bins.

    >>> [convert_to_numpy(p).tolist() for p in histogram([1.0, 2.0, 2.0], bins=2)]
    [[1, 2], [1.0, 1.5, 2.0]]
    """
    x = cast(ravel(x), dtypes.result_type(dtype_of(x), float))
    low, high = (min(x), max(x)) if range is None or range[0] == range[1] else range
    edges = cast(linspace(_beside(low, x), high, bins + 1), dtype_of(x))
    inside = logical_and(greater_equal(x, edges[0]), less_equal(x, edges[-1]))
    place = clip(subtract(searchsorted(edges, x, "right"), 1), 0, bins - 1)
    hits = logical_and(expand_dims(inside, 1), equal(expand_dims(place, 1), _positions(x, bins)))
    return sum(cast(hits, "int32"), 0), edges


@op("same")
def unravel_index(indices: Any, shape: Any) -> Any:
    """Flat indices as one array of indices for each axis.

    >>> [convert_to_numpy(i).tolist() for i in unravel_index([5], (2, 3))]
    [[1], [2]]
    """
    found = []
    for size in reversed(shape):
        found.append(mod(indices, size))
        indices = floor_divide(indices, size)
    return tuple(reversed(found))


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """From several choices, the first whose condition holds.

    >>> convert_to_numpy(select([[True, False], [True, True]], [[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        out = where(condition, choice, out)
    return out


@op("same")
def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """Differences of neighbours, n times over.

    >>> convert_to_numpy(diff([1, 4, 9])).tolist()
    [3, 5]
    """
    for _ in range(n):
        front = [slice(None)] * len(shape(a))
        back = list(front)
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        late, early = get_item(a, tuple(front)), get_item(a, tuple(back))
        a = not_equal(late, early) if dtype_of(a) == "bool" else subtract(late, early)
    return a


@op("float")
def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    """The integral by the trapezoidal rule.

    >>> convert_to_numpy(trapezoid([1.0, 2.0, 3.0])).tolist()
    4.0
    """
    y = moveaxis(y, axis, -1)
    steps = dx
    if x is not None:
        x = cast(_beside(x, y), dtype_of(y))
        steps = diff(x if len(shape(x)) == 1 else moveaxis(x, axis, -1))
    return multiply(sum(multiply(add(y[..., 1:], y[..., :-1]), steps), -1), 0.5)


@op("same")
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:  # noqa: N803
    """The Vandermonde matrix: powers of x as columns.

    >>> convert_to_numpy(vander([1, 2, 3], increasing=True)).tolist()
    [[1, 1, 1], [1, 2, 4], [1, 3, 9]]
    """
    if len(x.shape) != 1:
        raise ValueError(f"x must be a vector, got a shape of {tuple(x.shape)}")
    powers = cast(_positions(x, shape(x)[0] if N is None else N), dtype_of(x))
    return power(expand_dims(x, -1), powers if increasing else flip(powers))


# Products and matrices


@op("promote", tensors=2)
def matmul(x1: Any, x2: Any) -> Any:
    """The matrix product; batches broadcast. Two int8 tensors give int32.

    >>> convert_to_numpy(matmul([[1, 2]], [[3], [4]])).tolist()
    [[11]]
    """
    return primitive_only("matmul")


@op("operands")
def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Any:
    """The sum of products that the subscripts describe.

    >>> convert_to_numpy(einsum("ij,j->i", [[1, 2], [3, 4]], [1, 1])).tolist()
    [3, 7]
    """
    return primitive_only("einsum")


@op("promote", tensors=2)
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """Sum products over the given axes.

    >>> convert_to_numpy(tensordot([[1, 2], [3, 4]], [1, 1], axes=1)).tolist()
    [3, 7]
    """
    return primitive_only("tensordot")


@op("promote", tensors=2)
def dot(x1: Any, x2: Any) -> Any:
    """The dot product: over the last axis of x1 and the last but one of x2.

    >>> convert_to_numpy(dot([1, 2], [3, 4])).tolist()
    11
    """
    rank1, rank2 = len(shape(x1)), len(shape(x2))
    if not rank1 or not rank2:
        return multiply(x1, x2)
    if rank2 == 1 or (rank1 <= 2 and rank2 == 2):
        return cast(matmul(x1, x2), dtype_of(x1))  # matmul widens int8
    return tensordot(x1, x2, [[-1], [-2]])


@op("promote", tensors=2)
def inner(x1: Any, x2: Any) -> Any:
    """The product over the last axes of both.

    >>> convert_to_numpy(inner([1, 2], [3, 4])).tolist()
    11
    """
    return (
        tensordot(x1, x2, [[-1], [-1]]) if len(shape(x1)) and len(shape(x2)) else multiply(x1, x2)
    )


@op("promote", tensors=2)
def outer(x1: Any, x2: Any) -> Any:
    """The products of all pairs of elements.

    >>> convert_to_numpy(outer([1, 2], [3, 4])).tolist()
    [[3, 4], [6, 8]]
    """
    return multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


@op("promote", tensors=2)
def vdot(x1: Any, x2: Any) -> Any:
    """The product of two flat tensors, the first conjugated.

    >>> convert_to_numpy(vdot([1, 2], [3, 4])).tolist()
    11
    """
    return dot(ravel(conjugate(x1)), ravel(x2))


@op("promote", tensors=2)
def kron(x1: Any, x2: Any) -> Any:
    """The Kronecker product.

    >>> convert_to_numpy(kron([1, 2], [1, 10])).tolist()
    [1, 10, 2, 20]
    """
    rank = builtins.max(len(shape(x1)), len(shape(x2)))
    x1, x2 = (reshape(x, [1] * (rank - len(shape(x))) + list(shape(x))) for x in (x1, x2))
    first = reshape(x1, [d for s in shape(x1) for d in (s, 1)])
    second = reshape(x2, [d for s in shape(x2) for d in (1, s)])
    pairs = multiply(first, second)
    return reshape(pairs, [a * b for a, b in zip(shape(x1), shape(x2), strict=True)])


@op("promote", tensors=2)
def cross(
    x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    """The cross product of vectors of two or three components.

    >>> convert_to_numpy(cross([1, 0, 0], [0, 1, 0])).tolist()
    [0, 0, 1]
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1, x2 = moveaxis(x1, axisa, 0), moveaxis(x2, axisb, 0)
    if not (shape(x1)[0] in (2, 3) and shape(x2)[0] in (2, 3)):
        raise ValueError("the vectors must have two or three components.")
    if shape(x1)[0] == shape(x2)[0] == 2:
        return subtract(multiply(x1[0], x2[1]), multiply(x1[1], x2[0]))
    a, b = ([x[i] if i < shape(x)[0] else zeros_like(x[0]) for i in range(3)] for x in (x1, x2))
    parts = [
        subtract(multiply(a[i], b[j]), multiply(a[j], b[i])) for i, j in ((1, 2), (2, 0), (0, 1))
    ]
    return moveaxis(stack(parts), 0, axisc)


@op("same")
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonals of the matrices in two axes, as the last axis.

    >>> convert_to_numpy(diagonal([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    return primitive_only("diagonal")


@op("same")
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sums of the diagonals.

    >>> convert_to_numpy(trace([[1, 2], [3, 4]])).tolist()
    5
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)


@op("same")
def diag(x: Any, k: int = 0) -> Any:
    """A vector as a diagonal matrix, or the diagonal of a matrix.

    >>> convert_to_numpy(diag([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    return primitive_only("diag")


@op("same")
def diagflat(x: Any, k: int = 0) -> Any:
    """The elements as a diagonal matrix.

    >>> convert_to_numpy(diagflat([[1, 2]])).tolist()
    [[1, 0], [0, 2]]
    """
    return diag(ravel(x), k)


@op("same")
def tril(x: Any, k: int = 0) -> Any:
    """Zero above the k-th diagonal.

    >>> convert_to_numpy(tril([[1, 2], [3, 4]])).tolist()
    [[1, 0], [3, 4]]
    """
    return primitive_only("tril")


@op("same")
def triu(x: Any, k: int = 0) -> Any:
    """Zero below the k-th diagonal.

    >>> convert_to_numpy(triu([[1, 2], [3, 4]])).tolist()
    [[1, 2], [0, 4]]
    """
    return primitive_only("triu")


@op("float")
def slogdet(x: Any) -> tuple:
    """The signs and the logarithms of the absolute values of the determinants.

    >>> [convert_to_numpy(part).tolist() for part in slogdet([[1.0, 0.0], [0.0, -1.0]])]
    [-1.0, 0.0]
    """
    return primitive_only("slogdet")


@op("float")
def corrcoef(x: Any) -> Any:
    """Correlation coefficients between rows.

    >>> convert_to_numpy(round(corrcoef([[1.0, 2.0], [2.0, 1.0]]))).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = subtract(x, mean(x, -1, True))
    products = matmul(x, transpose(x)) if len(shape(x)) > 1 else dot(x, x)
    if not len(shape(products)):
        return divide(products, products)
    deviation = sqrt(diagonal(products))
    return clip(
        divide(divide(products, expand_dims(deviation, 1)), expand_dims(deviation, 0)), -1.0, 1.0
    )


@op("promote", tensors=2)
def correlate(x1: Any, x2: Any, mode: str = "valid") -> Any:
    """The cross-correlation of two vectors.

    >>> convert_to_numpy(correlate([1, 2, 3], [0, 1, 1])).tolist()
    [5]
    """
    n, m = shape(x1)[0], shape(x2)[0]
    if m > n:  # correlate(a, b) is the mirror image of correlate(b, a)
        return flip(correlate(x2, x1, mode))
    borders = {"valid": (0, 0), "same": (m // 2, m - 1 - m // 2), "full": (m - 1, m - 1)}
    if mode not in borders:
        raise ValueError(f"mode must be one of {builtins.sorted(borders)}, got {mode!r}")
    before, after = borders[mode]
    starts = expand_dims(_positions(x1, n + before + after - m + 1), 1)
    return matmul(take(pad(x1, (before, after)), add(starts, _positions(x1, m)), 0), x2)


# Functions


def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: Any = None) -> Any:
    """Make a function of scalars a function of tensors.

    >>> convert_to_numpy(vectorize(lambda a, b: a + b)(array([1, 2]), array([3, 4]))).tolist()
    [4, 6]
    """
    if excluded or signature:
        raise NotImplementedError("ops.vectorize: excluded and signature are not supported.")

    def call(*args: Any) -> Any:
        from keraslite.ops.transforms import vmap

        args = [convert_to_tensor(x) for x in args]
        whole = np.broadcast_shapes(*(shape(x) for x in args))
        flat = [ravel(broadcast_to(x, whole)) for x in args]
        return reshape(vmap(pyfunc)(*flat), whole) if whole else pyfunc(*args)

    return call


# The sizes of these depend on the values: no abstract evaluation finds them.


def _indices_spec(x: Any) -> tuple:
    from keraslite.symbolic import KerasTensor

    return tuple(KerasTensor((None,), "int32") for _ in x.shape)


def _bincount_spec(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    from keraslite.symbolic import KerasTensor

    return KerasTensor((*x.shape[:-1], None), "int32" if weights is None else dtype_of(weights))


def _unique_spec(
    x: Any, sorted: bool = True, return_index: bool = False, return_inverse: bool = False,
    return_counts: bool = False, axis: int | None = None, size: int | None = None,
    fill_value: Any = None,
) -> Any:  # fmt: skip
    from keraslite.symbolic import KerasTensor

    if size is not None:
        return None
    sizes = (None,) if axis is None else (*x.shape[: axis % len(x.shape)], None,
                                          *x.shape[axis % len(x.shape) + 1 :])  # fmt: skip
    places = KerasTensor(x.shape if axis is None else (x.shape[axis],), "int32")
    out = [KerasTensor(sizes, x.dtype)]
    out += [KerasTensor((None,), "int32")] * return_index + [places] * return_inverse
    out += [KerasTensor((None,), "int32")] * return_counts
    return out[0] if len(out) == 1 else tuple(out)


nonzero.op.spec = _indices_spec
unique.op.spec = _unique_spec
bincount.op.spec = _bincount_spec
where.op.spec = lambda condition, x1=None, x2=None: (
    _indices_spec(condition) if x1 is None and x2 is None else None
)

__all__ = [
    "abs", "absolute", "add", "all", "allclose", "amax", "amin", "angle", "any", "append", "arange",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin",
    "argpartition", "argsort", "array", "array_split", "average", "bartlett", "bincount",
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "blackman", "broadcast_to", "cbrt", "ceil", "clip",
    "concatenate", "conj", "conjugate", "copy", "corrcoef", "correlate", "cos", "cosh",
    "count_nonzero", "cross", "cumprod", "cumsum", "deg2rad", "diag", "diagflat", "diagonal",
    "diff", "digitize", "divide", "divide_no_nan", "dot", "dsplit", "dstack", "einsum", "empty",
    "empty_like", "equal", "exp", "exp2", "expand_dims", "expm1", "eye", "fabs", "flip", "fliplr",
    "flipud", "floor", "floor_divide", "fmax", "fmin", "fmod", "full", "full_like", "gcd",
    "geomspace", "greater", "greater_equal", "hamming", "hanning", "heaviside", "histogram",
    "hsplit", "hstack", "hypot", "i0", "identity", "imag", "inner", "isclose", "isfinite", "isin",
    "isinf", "isnan", "isneginf", "isposinf", "isreal", "kaiser", "kron", "lcm", "ldexp",
    "left_shift", "less", "less_equal", "linspace", "log", "log10", "log1p", "log2", "logaddexp",
    "logaddexp2", "logical_and", "logical_not", "logical_or", "logical_xor", "logspace", "matmul",
    "max", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mod", "moveaxis", "multiply",
    "nan_to_num", "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean",
    "nanmedian", "nanmin", "nanpercentile", "nanprod", "nanquantile", "nanstd", "nansum", "nanvar",
    "ndim", "negative", "nextafter", "nonzero", "not_equal", "ones", "ones_like", "outer", "pad",
    "percentile", "power", "prod", "ptp", "quantile", "rad2deg", "ravel", "real", "reciprocal",
    "repeat", "reshape", "right_shift", "roll", "rot90", "round", "searchsorted", "select", "sign",
    "signbit", "sin", "sinc", "sinh", "size", "slogdet", "sort", "split", "sqrt", "square",
    "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan",
    "tanh", "tensordot", "tile", "trace", "transpose", "trapezoid", "tri", "tril", "triu",
    "true_divide", "trunc", "unique", "unravel_index", "vander", "var", "vdot", "vectorize", "view",
    "vsplit", "vstack", "where", "zeros", "zeros_like",
]  # fmt: skip
