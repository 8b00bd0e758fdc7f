"""Special functions, log-sum-exp and top-k on torch."""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tracing import in_transform, traced

TABLE: dict[str, Any] = {name: getattr(torch, name) for name in ("rsqrt", "erf", "erfc", "erfinv")}


@primitive(TABLE)
def logsumexp(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


# Of so few numbers sorting all is faster than finding the largest and comparing them.
_FEW = 64


@primitive(TABLE)
def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple:
    numbers = x.byte() if x.dtype == torch.bool else x
    indices = _first_largest(numbers, k)
    return x.gather(-1, indices), indices.int()


def _first_largest(x: Tensor, k: int) -> Tensor:
    """Return the places of the largest values; of equal ones torch's own takes any."""
    size = x.shape[-1]
    if not traced() and not in_transform():
        if k <= size and x.numel() <= _FEW:
            return torch.sort(x, dim=-1, descending=True, stable=True).indices[..., :k]
        values, indices = torch.topk(x, min(k + 1, size))
        if bool((values[..., 1:] < values[..., :-1]).all()):  # all differ, and none is NaN
            return indices[..., :k]
    least = torch.topk(x, k).values[..., -1:]
    nan, least_is_nan = x != x, least != least  # NaN counts as the largest
    above = (x > least) | (nan & ~least_is_nan)
    equal = (x == least) | (nan & least_is_nan)
    # Different integers: those above the least first, then its equals, each by their places.
    rank = torch.where(above, 2 * size, torch.where(equal, size, 0))
    indices = torch.topk(rank - torch.arange(size, device=x.device), k).indices
    order = torch.sort(x.gather(-1, indices), dim=-1, descending=True, stable=True).indices
    return indices.gather(-1, order)
