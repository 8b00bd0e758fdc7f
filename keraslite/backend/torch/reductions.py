"""Reductions and running sums on torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tensors import convert, native_or

# What sums and products of the short types are made in, as JAX does.
_SUMS = {
    torch.bool: torch.int32, torch.int8: torch.int32, torch.int16: torch.int32,
    torch.int32: torch.int32, torch.uint8: torch.uint32, torch.uint16: torch.uint32,
    torch.uint32: torch.uint32,
}  # fmt: skip


def _reduction(fn: Callable) -> Callable:
    def call(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
        if axis is None:
            return fn(x, tuple(range(x.ndim)), True) if keepdims and x.ndim else fn(x)
        return fn(x, axis, keepdims) if type(axis) is int or len(axis) else x

    return call


def _extreme(fn: Callable, pair: Callable) -> Callable:
    reduce = _reduction(fn)

    def call(x: Tensor, axis: Any = None, keepdims: bool = False, initial: Any = None) -> Tensor:
        if initial is None:
            return reduce(x, axis, keepdims)
        start = convert(initial).to(x)
        if not x.numel():
            axes = range(x.ndim) if axis is None else (axis,) if type(axis) is int else axis
            axes = {a % x.ndim for a in axes}
            sizes = enumerate(x.shape)
            kept = [1 if i in axes else d for i, d in sizes if keepdims or i not in axes]
            return start.expand(kept)
        return pair(reduce(x, axis, keepdims), start)

    return call


def _arg(fn: Callable) -> Callable:
    def call(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
        x = x.int() if x.dtype is torch.bool else x
        if axis is None:
            out = fn(x).int()
            return out.reshape([1] * x.ndim) if keepdims else out
        return fn(x, axis, keepdims).int()

    return call


def _running(fn: Callable) -> Callable:
    def call(x: Tensor, axis: Any = None, dtype: Any = None) -> Tensor:
        dtype = native_or(dtype, torch.int32 if x.dtype is torch.bool else x.dtype)
        return fn(x.reshape(-1), 0, dtype=dtype) if axis is None else fn(x, axis, dtype=dtype)

    return call


_SUM, _ANY, _ALL = _reduction(torch.sum), _reduction(torch.any), _reduction(torch.all)
TABLE: dict[str, Any] = {
    "mean": _reduction(torch.mean),
    "nanmean": _reduction(torch.nanmean),
    "max": _extreme(torch.amax, torch.maximum),
    "min": _extreme(torch.amin, torch.minimum),
    "argmax": _arg(torch.argmax),
    "argmin": _arg(torch.argmin),
    "cumsum": _running(torch.cumsum),
    "cumprod": _running(torch.cumprod),
}


@primitive(TABLE)
def sum_(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    wide = _SUMS.get(x.dtype)
    return _SUM(x, axis, keepdims) if wide is None else _SUM(x.long(), axis, keepdims).to(wide)


@primitive(TABLE)
def any_(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _ANY(x if x.dtype is torch.bool else x.bool(), axis, keepdims)


@primitive(TABLE)
def all_(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return _ALL(x if x.dtype is torch.bool else x.bool(), axis, keepdims)


@primitive(TABLE)
def count_nonzero(x: Tensor, axis: Any = None) -> Tensor:
    return torch.count_nonzero(x, axis).int()


@primitive(TABLE)
def prod(x: Tensor, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    dtype = native_or(dtype, _SUMS.get(x.dtype, x.dtype))
    x = x.to(dtype if dtype is not torch.uint32 else torch.int64)
    axes = range(x.ndim) if axis is None else (axis,) if type(axis) is int else axis
    places = [range(x.ndim)[a] for a in axes]  # an IndexError if there is no such axis
    if len(set(places)) < len(places):
        raise ValueError(f"axis {axis} stands twice")
    for a in sorted(places)[::-1]:
        x = torch.prod(x, a, keepdims, dtype=x.dtype)
    return x.to(dtype)


@primitive(TABLE)
def var(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    if not x.ndim:
        return x * 0
    return torch.var(x, axis, correction=0, keepdim=keepdims)
