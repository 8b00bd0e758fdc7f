"""Elementwise ops on numpy: arithmetic, comparisons, bits, exponentials, rounding."""

from typing import Any

import numpy as np

from keraslite.backend.numpy.indexing import nonzero
from keraslite.backend.numpy.precision import LARGE, in_float32, outline, quiet_in_float32
from keraslite.backend.primitives import primitive
from keraslite.scopes import scopes

# numpy's functions taken as they are, but for half precision.
_AS_THEY_ARE = """add subtract multiply divide power mod fmod floor_divide absolute negative sign
    square sqrt cbrt reciprocal maximum minimum fmax fmin gcd lcm hypot heaviside logaddexp
    logaddexp2 arctan2 exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh
    cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg floor ceil trunc isnan isinf isfinite
    signbit i0 real imag angle equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    bitwise_not"""
TABLE: dict[str, Any] = {
    name: quiet_in_float32(getattr(np, name)) for name in _AS_THEY_ARE.split()
} | {
    "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
    "nextafter": np.nextafter,
}


@primitive(TABLE)
def conjugate(x: np.ndarray) -> np.ndarray:
    return np.conjugate(x) if x.dtype.kind == "c" else x


@primitive(TABLE)
def clip(x: np.ndarray, x_min: Any, x_max: Any) -> np.ndarray:
    return np.minimum(np.maximum(x, x_min), x_max)


@primitive(TABLE)
@in_float32
def round_(x: np.ndarray, decimals: int = 0) -> np.ndarray:
    return np.round(x, decimals)


@primitive(TABLE)
@in_float32
def nan_to_num(
    x: np.ndarray, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> np.ndarray:
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@primitive(TABLE)
def where(condition: np.ndarray, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None and x2 is None:
        return nonzero(condition)
    if scopes.abstract and condition.size > LARGE:
        return outline(np.where, condition, x1, x2)
    return np.where(condition, x1, x2)
