"""Attention without gradients by oneDNN's products, a block of queries at a time.

Where the processor runs oneDNN's products faster than MKL's (see `products`), torch's fused
attention takes 1.4 to 1.75 times as long as the two products with a softmax in between, as long as
their scores stay in the cache.
"""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.torch.fast.products import ONEDNN, PRODUCTS
from keraslite.backend.torch.tracing import in_transform

# Below so many scores of a head, or keys, the calls cost more than the faster product saves.
_LEAST_SCORES, _LEAST_KEYS = 2**16, 256
_BLOCK = 2**19  # scores at once: 2 MB
_product = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)


def takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether attention in blocks is the faster one of (batch, length, heads, n)."""
    keys = key.shape[1]
    return (
        not torch.compiler.is_compiling()  # first: sizes may be free
        and query.is_cpu
        and PRODUCTS.get(query.dtype) == ONEDNN
        and query.shape[1] * keys >= _LEAST_SCORES
        and keys >= _LEAST_KEYS
        and all(type(x) is Tensor for x in (query, key, value))
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)))
        and not in_transform()
    )


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scale: float | None,
    grid: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return softmax(query @ key * scale + bias) @ value for tensors (batch, length, heads, n).

    Args:
        query: scaled here.
        key: as many heads, or fewer that are shared.
        value: likewise.
        bias: broadcasts to (batch, heads, queries, keys).
        scale: 1 / sqrt(n) by default.
        grid: biases (batch, heads, queries, rows) and (batch, heads, queries, columns) of keys on a
            grid.
    """
    batch, queries, heads, width = query.shape
    keys, group = key.shape[1], heads // key.shape[2]
    query = query * (width**-0.5 if scale is None else scale)
    # For matrices whose rows are parts of longer ones oneDNN has only a reference kernel.
    key, value = key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()
    if bias is not None:
        bias = bias.expand(batch, heads, queries, keys)
    out = query.new_empty(batch, queries, heads, value.shape[-1])
    rows = max(_BLOCK // keys, 1)
    for i in range(batch):
        for j in range(heads):
            one_key, one_value = key[i, j // group], value[i, j // group].t()
            for k in range(0, queries, rows):
                scores = _multiply(query[i, k : k + rows, j], one_key)
                if bias is not None:
                    scores += bias[i, j, k : k + rows]
                if grid is not None:
                    by_row, by_column = (x[i, j, k : k + rows] for x in grid)
                    on_grid = scores.view(-1, by_row.shape[-1], by_column.shape[-1])
                    on_grid += by_row.unsqueeze(-1)
                    on_grid += by_column.unsqueeze(-2)
                torch.softmax(scores, -1, out=scores)
                out[i, k : k + rows, j] = _multiply(scores, one_value)
    return out


def _multiply(x: Tensor, weight: Tensor) -> Any:
    return _product(x, weight, None, "none", [], "")
