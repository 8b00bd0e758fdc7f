"""Linear algebra on torch."""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE: dict[str, Any] = {"det": torch.linalg.det, "inv": torch.linalg.inv}
TABLE |= {name: _tuple(getattr(torch.linalg, name)) for name in ("eig", "eigh")}


@primitive(TABLE)
def cholesky(x: Tensor, upper: bool = False) -> Tensor:
    return torch.linalg.cholesky(x, upper=upper)


@primitive(TABLE)
def lu_factor(x: Tensor) -> tuple:
    factors, pivots = torch.linalg.lu_factor(x)
    return factors, pivots - 1


@primitive(TABLE)
def qr(x: Tensor, mode: str = "reduced") -> tuple:
    return tuple(torch.linalg.qr(x, mode))


@primitive(TABLE)
def solve(a: Tensor, b: Tensor) -> Tensor:
    if b.ndim == a.ndim - 1:
        return torch.linalg.solve(a, b[..., None])[..., 0]
    return torch.linalg.solve(a, b)


@primitive(TABLE)
def solve_triangular(a: Tensor, b: Tensor, lower: bool = False) -> Tensor:
    if b.ndim == a.ndim - 1:
        return torch.linalg.solve_triangular(a, b[..., None], upper=not lower)[..., 0]
    return torch.linalg.solve_triangular(a, b, upper=not lower)


@primitive(TABLE)
def svd(x: Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return torch.linalg.svdvals(x)
    return tuple(torch.linalg.svd(x, full_matrices))
