"""PRIMITIVES for ops/linalg.py on torch."""

from typing import Any

import torch

_AS_THEY_ARE = "det inv"
TABLE: dict[str, Any] = {name: getattr(torch.linalg, name) for name in _AS_THEY_ARE.split()}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE |= {name: _tuple(getattr(torch.linalg, name)) for name in ("eig", "eigh", "slogdet")}


@_primitive
def cholesky(x: torch.Tensor, upper: bool = False) -> torch.Tensor:
    return torch.linalg.cholesky(x, upper=upper)


@_primitive
def lu_factor(x: torch.Tensor) -> tuple:
    factors, pivots = torch.linalg.lu_factor(x)
    return factors, pivots - 1


@_primitive
def qr(x: torch.Tensor, mode: str = "reduced") -> tuple:
    return tuple(torch.linalg.qr(x, mode))


@_primitive
def solve(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if b.ndim == a.ndim - 1:
        return torch.linalg.solve(a, b[..., None])[..., 0]
    return torch.linalg.solve(a, b)


@_primitive
def solve_triangular(a: torch.Tensor, b: torch.Tensor, lower: bool = False) -> torch.Tensor:
    if b.ndim == a.ndim - 1:
        return torch.linalg.solve_triangular(a, b[..., None], upper=not lower)[..., 0]
    return torch.linalg.solve_triangular(a, b, upper=not lower)


@_primitive
def svd(x: torch.Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return torch.linalg.svdvals(x)
    return tuple(torch.linalg.svd(x, full_matrices))
