"""Special functions, log-sum-exp and top-k on torch."""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {name: getattr(torch, name) for name in ("rsqrt", "erf", "erfc", "erfinv")}


@primitive(TABLE)
def logsumexp(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


@primitive(TABLE)
def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple:
    if x.is_cuda:  # its topk takes ties in any order
        values, indices = (y[..., :k] for y in torch.sort(x, descending=True, stable=True))
    else:
        values, indices = torch.topk(x, k, sorted=sorted)
    return values, indices.int()
