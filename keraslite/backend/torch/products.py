"""Products of tensors, and diagonals and triangles of matrices, on torch."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.integers import int8_product
from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tracing import is_variable


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE: dict[str, Any] = {"kron": torch.kron, "slogdet": _tuple(torch.linalg.slogdet)}


@primitive(TABLE)
def matmul(x1: Tensor, x2: Tensor) -> Tensor:
    dtype = x1.dtype
    if dtype.is_floating_point or dtype.is_complex:
        return torch.matmul(x1, x2)
    if dtype is torch.int8 and x1.ndim and x2.ndim > 1:
        if x2.ndim == 2 and x1.is_cpu and x1.numel() and _int8_kernel():
            out = torch._int_mm(x1.reshape(-1, x1.shape[-1]), _by_outputs(x2))
            return out.reshape(*x1.shape[:-1], x2.shape[1])
        return int8_product(x1, x2, _by_floats)
    wide = torch.float64 if x1.is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
    return torch.matmul(x1.to(wide), x2.to(wide)).to(_product(dtype))


def _by_floats(x1: Tensor, x2: Tensor) -> Tensor:
    return torch.matmul(x1.float(), x2.float()).to(torch.int32)


@cache
def _int8_kernel() -> bool:
    """Whether this processor multiplies int8 in hardware; without, floats are quicker."""
    return getattr(torch.cpu, "_is_vnni_supported", lambda: False)()


def _by_outputs(kernel: Tensor) -> Tensor:
    """A kernel (inputs, outputs) of int8, in memory one output after the other.

    The product of few rows reads it so at twice to six times the rate. A variable is laid out once,
    for all calls.
    """
    variable = kernel if kernel._base is None else kernel._base
    by_inputs = kernel.is_contiguous() and variable.is_contiguous()
    if not (by_inputs and is_variable(variable) and variable.numel() == kernel.numel()):
        return kernel
    ordered = kernel.t().contiguous().t()
    variable.data = ordered.view(variable.shape)
    return ordered


def _product(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype is torch.int8 else dtype


@primitive(TABLE)
def cross(
    x1: Tensor, x2: Tensor, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Tensor:
    if axis is not None:
        axisa = axisb = axisc = axis
    x1 = x1 if axisa == -1 else x1.movedim(axisa, -1)
    x2 = x2 if axisb == -1 else x2.movedim(axisb, -1)
    sizes = x1.shape[-1], x2.shape[-1]
    if not (sizes[0] in (2, 3) and sizes[1] in (2, 3)):
        raise ValueError("the vectors must have two or three components.")
    if sizes == (2, 2):
        return x1[..., 0] * x2[..., 1] - x1[..., 1] * x2[..., 0]
    x1, x2 = (x if x.shape[-1] == 3 else F.pad(x, (0, 1)) for x in (x1, x2))
    out = torch.linalg.cross(*((x1, x2) if x1.ndim == x2.ndim else torch.broadcast_tensors(x1, x2)))
    return out if axisc == -1 else out.movedim(-1, axisc)


@primitive(TABLE)
def einsum(subscripts: str, *operands: Tensor, **kwargs: Any) -> Tensor:
    dtype = operands[0].dtype
    if dtype.is_floating_point or dtype.is_complex:
        return torch.einsum(subscripts, *operands)
    wide = torch.float64 if operands[0].is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
    return torch.einsum(subscripts, *(x.to(wide) for x in operands)).to(_product(dtype))


@primitive(TABLE)
def tensordot(x1: Tensor, x2: Tensor, axes: Any = 2) -> Tensor:
    if not isinstance(axes, int):
        axes = [[a] if isinstance(a, int) else list(a) for a in axes]
    dtype = x1.dtype
    if not dtype.is_floating_point and not dtype.is_complex:
        wide = torch.float64 if x1.is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
        return torch.tensordot(x1.to(wide), x2.to(wide), axes).to(dtype)
    return torch.tensordot(x1, x2, axes)


@primitive(TABLE)
def diag(x: Tensor, k: int = 0) -> Tensor:
    return torch.diag(x, k)


@primitive(TABLE)
def diagonal(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return torch.diagonal(x, offset, axis1, axis2)


@primitive(TABLE)
def tril(x: Tensor, k: int = 0) -> Tensor:
    return torch.tril(x, k)


@primitive(TABLE)
def triu(x: Tensor, k: int = 0) -> Tensor:
    return torch.triu(x, k)
