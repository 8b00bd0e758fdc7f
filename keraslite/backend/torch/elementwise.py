"""Elementwise ops on torch: arithmetic, comparisons, bits, exponentials, rounding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.indexing import nonzero
from keraslite.backend.torch.tensors import convert

# torch's functions taken as they are.
_AS_THEY_ARE = """add subtract multiply hypot logaddexp logaddexp2 gcd lcm fmod floor_divide
    fmax fmin logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    bitwise_not bitwise_left_shift bitwise_right_shift arctan2 exp exp2 expm1 log log2 log10 log1p
    sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh sqrt square reciprocal
    sinc deg2rad rad2deg floor ceil isnan isinf isfinite isposinf isneginf signbit i0 nextafter
    real"""
_RENAMED = {
    "divide": torch.true_divide,
    "power": torch.pow,
    "mod": torch.remainder,
    "negative": torch.neg,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
}


def _extremum(fn: Callable) -> Callable:
    """Two tensors, or a tensor and a number: a 0-d tensor, so that ties share the gradient."""

    def call(x1: Tensor, x2: Any) -> Tensor:
        if type(x2) in (float, int):
            x2 = x1.new_full((), x2)
        return fn(x1, x2)

    return call


TABLE: dict[str, Any] = {name: getattr(torch, name) for name in _AS_THEY_ARE.split()} | _RENAMED
TABLE |= {"maximum": _extremum(torch.maximum), "minimum": _extremum(torch.minimum)}


@primitive(TABLE)
def absolute(x: Tensor) -> Tensor:
    return x if x.dtype is torch.bool else torch.abs(x)


@primitive(TABLE)
def divide_no_nan(x1: Tensor, x2: Tensor) -> Tensor:
    zero = x2 == 0
    return (x1 / x2.masked_fill(zero, 1)).masked_fill(zero, 0)


@primitive(TABLE)
def sign(x: Tensor) -> Tensor:
    if x.dtype is torch.bool:
        raise TypeError("booleans must be cast to a number, or be used in a logical op")
    if not x.dtype.is_floating_point:
        return torch.sign(x)
    return torch.where(torch.isnan(x), x.detach(), torch.sign(x))  # torch makes NaN 0


@primitive(TABLE)
def heaviside(x1: Tensor, x2: Tensor) -> Tensor:
    return torch.where(torch.isnan(x1), x1, torch.heaviside(x1, x2))  # torch makes NaN 0


@primitive(TABLE)
def trunc(x: Tensor) -> Tensor:
    return torch.trunc(x) if x.dtype.is_floating_point else x


@primitive(TABLE)
def round_(x: Tensor, decimals: int = 0) -> Tensor:
    if not x.dtype.is_floating_point:
        return x if decimals >= 0 else torch.round(x.float(), decimals=decimals).to(x.dtype)
    return torch.round(x) if decimals == 0 else torch.round(x, decimals=decimals)


@primitive(TABLE)
def nan_to_num(x: Tensor, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    return torch.nan_to_num(x, nan, posinf, neginf)


@primitive(TABLE)
def imag(x: Tensor) -> Tensor:
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


@primitive(TABLE)
def conjugate(x: Tensor) -> Tensor:
    return torch.conj(x).resolve_conj() if x.is_complex() else x


@primitive(TABLE)
def clip(x: Tensor, x_min: Any, x_max: Any) -> Tensor:
    if isinstance(x_min, Tensor) != isinstance(x_max, Tensor):
        x_min, x_max = (None if m is None else convert(m).to(x.device) for m in (x_min, x_max))
    return torch.clamp(x, x_min, x_max)


@primitive(TABLE)
def where(condition: Tensor, x1: Any = None, x2: Any = None) -> Any:
    if condition.dtype is not torch.bool:
        condition = condition.bool()
    if x1 is None and x2 is None:
        return nonzero(condition)
    return torch.where(condition, x1, x2)
