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


@primitive(TABLE)
def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple:
    # Its topk takes equal values in any order, where the others take the first.
    if not (x.is_cuda or traced() or in_transform()):
        values, indices = torch.topk(x, k, sorted=sorted)
        if not _has_ties(x, values):
            return values, indices.int()
    values, indices = (y[..., :k] for y in torch.sort(x, descending=True, stable=True))
    return values, indices.int()


def _has_ties(x: Tensor, largest: Tensor) -> bool:
    """Return whether some of the largest values are equal, or equal to one that was left out."""
    if not largest.shape[-1]:
        return False
    last = largest.amin(-1, keepdim=True)
    if x.is_floating_point():
        x, last, largest = (v.nan_to_num(nan=torch.inf) for v in (x, last, largest))
    ordered = largest.sort(-1).values
    among = bool((ordered[..., 1:] == ordered[..., :-1]).any())
    return among or bool(((x == last).sum(-1) > 1).any())
