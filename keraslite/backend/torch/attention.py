"""Attention by torch's fused kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.fast import attention as blocks

TABLE: dict[str, Any] = {}

_BIASES, _ACCELERATED_BIASES = 2**22, 2**26  # of pairs of query and key in memory at once


@primitive(TABLE)
def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    scale: float | None,
    is_causal: bool,
) -> Any:
    small = query.element_size() == 2 and query.shape[1] * key.shape[1] <= 2**17
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if query.is_cpu and small and trains:
        # The backward kernel for half precision on CPUs is slower than the products it saves.
        return NotImplemented
    if mask is not None:
        if is_causal:
            mask = (
                mask.bool()
                & torch.ones(
                    query.shape[1], key.shape[1], dtype=torch.bool, device=mask.device
                ).tril()
            )
            is_causal = False
        # A finite number, not -inf: a row with everything masked is uniform, not NaN.
        low = -0.7 * torch.finfo(query.dtype).max
        mask = torch.zeros((), dtype=query.dtype, device=mask.device).where(mask.bool(), low)
        bias = mask if bias is None else bias + mask
    if bias is not None and is_causal:
        hidden = torch.ones(
            query.shape[1], key.shape[1], dtype=torch.bool, device=bias.device
        ).triu(1)
        bias, is_causal = bias.masked_fill(hidden, -0.7 * torch.finfo(query.dtype).max), False
    if not is_causal and blocks.takes(query, key, value):
        return blocks.attention(query, key, value, bias, scale)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), bias,
        is_causal=is_causal, scale=scale, enable_gqa=query.shape[2] != key.shape[2],
    )  # fmt: skip
    return out.transpose(1, 2)


@primitive(TABLE)
def _fused_grid_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row_bias: Tensor,
    column_bias: Tensor,
    scale: float | None,
) -> Any:
    if query.shape[2] != key.shape[2]:
        return NotImplemented
    if blocks.takes(query, key, value):
        return blocks.attention(query, key, value, None, scale, (row_bias, column_bias))
    inputs = (*(x.transpose(1, 2) for x in (query, key, value)), row_bias, column_bias)
    limit = _BIASES if query.is_cpu else _ACCELERATED_BIASES
    count = query.shape[:3].numel() * key.shape[1]
    if count > limit and torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return NotImplemented  # which keeps no biases for the gradients
    return _in_parts(*inputs, scale, limit).transpose(1, 2)


def _in_parts(
    query: Tensor, key: Tensor, value: Tensor, row_bias: Tensor, column_bias: Tensor,
    scale: float | None, limit: int,
) -> Tensor:  # fmt: skip
    """Return `grid_attention` of tensors (batch, heads, length, n), with few biases at once."""
    sizes = query.shape[:3]
    count = sizes.numel() * key.shape[2]
    if count <= limit or sizes.numel() == 1:
        bias = (row_bias.unsqueeze(-1) + column_bias.unsqueeze(-2)).flatten(-2)
        return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)
    axis = next(i for i, size in enumerate(sizes) if size > 1)
    step = max(1, limit * sizes[axis] // count)
    by_query = [x.split(step, axis) for x in (query, row_bias, column_bias)]
    parts = len(by_query[0])
    by_key = [x.split(step, axis) if axis < 2 else (x,) * parts for x in (key, value)]
    outs = [
        _in_parts(q, k, v, rows, columns, scale, limit)
        for q, rows, columns, k, v in zip(*by_query, *by_key, strict=True)
    ]
    return torch.cat(outs, axis)
