"""Attention by torch's fused kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.fast import attention as blocks

TABLE: dict[str, Any] = {}

_MOST_BIASES = (
    2**24
)  # of queries and keys at once, 64 MB; more are added a block of queries at once


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
    if blocks.takes(query, key, value):
        return blocks.attention(query, key, value, None, scale, (row_bias, column_bias))
    if row_bias.numel() * column_bias.shape[-1] > _MOST_BIASES:
        return NotImplemented
    bias = (row_bias.unsqueeze(-1) + column_bias.unsqueeze(-2)).flatten(-2)
    return _fused_attention(query, key, value, bias, None, scale, False)
