"""Indexing by tensors, sorting and searching on torch."""

import math
from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tensors import (
    HALVES,
)

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def isclose(
    x1: Tensor, x2: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    return torch.isclose(x1, x2, rtol, atol, equal_nan)


@primitive(TABLE)
def nonzero(x: Tensor) -> tuple:
    return tuple(i.int() for i in torch.nonzero(x, as_tuple=True))


def _index(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.int64, torch.int32) else x.long()


@primitive(TABLE)
def take(x: Tensor, indices: Tensor, axis: Any = None) -> Tensor:
    indices = _index(indices)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if x.is_cuda:
        return _take_or_fill(x, indices, axis % x.ndim)
    if torch.compiler.is_compiling():  # no error is raised inside a compiled function
        if torch.compiler.is_exporting():
            indices = indices.long()  # ONNX's GatherND takes no others
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]
    try:
        if axis == 0 and x.ndim == 2:
            return torch.embedding(x, indices)
        if indices.ndim == 1:
            return torch.index_select(x, axis, indices)
        out = torch.index_select(x, axis, indices.reshape(-1))
        axis %= x.ndim
        return out.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    except (IndexError, RuntimeError):  # negative indices: slower, above all in the gradient
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]


def _take_or_fill(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Out of range stand NaN or the least integer: an error on the device would end the process."""
    size = x.shape[axis]
    valid = (indices >= -size) & (indices < size)
    indices = torch.where(valid, indices % max(size, 1), 0)
    if axis == 0 and x.ndim == 2:
        out = torch.embedding(x, indices)
    else:
        out = torch.index_select(x, axis, indices.reshape(-1))
        out = out.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    fill = math.nan if x.is_floating_point() or x.is_complex() else _least(x.dtype)
    return out.masked_fill(~valid.reshape((*valid.shape, *(1,) * (x.ndim - axis - 1))), fill)


def _least(dtype: torch.dtype) -> Any:
    return False if dtype == torch.bool else torch.iinfo(dtype).min


@primitive(TABLE)
def take_along_axis(x: Tensor, indices: Tensor, axis: Any = None) -> Tensor:
    if axis is None:
        x, indices, axis = x.reshape(-1), indices.reshape(-1), 0
    indices = indices.long()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if torch.compiler.is_exporting():  # torch's own broadcasting takes free sizes for constants
        axis %= x.ndim
        sizes = [(a if a != 1 else b) for a, b in zip(x.shape, indices.shape, strict=True)]
        source, places = list(sizes), list(sizes)
        source[axis], places[axis] = x.shape[axis], indices.shape[axis]
        return torch.gather(x.expand(source), axis, indices.expand(places))
    return torch.take_along_dim(x, indices, axis)


@primitive(TABLE)
def sort(x: Tensor, axis: Any = -1) -> Tensor:
    return torch.sort(x.reshape(-1))[0] if axis is None else torch.sort(x, axis)[0]


@primitive(TABLE)
def argsort(x: Tensor, axis: Any = -1) -> Tensor:
    x, axis = (x.reshape(-1), 0) if axis is None or not x.ndim else (x, axis)
    return torch.sort(x, dim=axis, stable=True)[1].int()


@primitive(TABLE)
def searchsorted(sorted_sequence: Tensor, values: Tensor, side: str = "left") -> Tensor:
    if sorted_sequence.ndim != 1:
        raise ValueError("the sorted sequence must have one dimension")
    if sorted_sequence.dtype is torch.bool:
        sorted_sequence, values = sorted_sequence.byte(), values.byte()
    if sorted_sequence.dtype in HALVES:
        sorted_sequence, values = sorted_sequence.float(), values.float()
    return torch.searchsorted(
        sorted_sequence.contiguous(), values.contiguous(), out_int32=True, side=side
    )
