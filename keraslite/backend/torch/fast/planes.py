"""Channels-first views of channels-last data, of which the gradients can be summed in place.

Autograd adds to a gradient in place where nothing else holds its memory. A view holds its base as
well, so that each sum with the gradient of a view would take new memory.
"""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.torch.tracing import in_transform

_LARGE = 2**18  # numbers: below, calling back into Python costs more than it saves


class _Planes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        rows = grad.movedim(1, -1)
        return rows if torch.is_grad_enabled() else rows.data


def planes(x: Tensor) -> Tensor:
    """Return channels-last data (batch, *spatial, channels) as (batch, channels, *spatial)."""
    large = x.requires_grad and x.numel() >= _LARGE and torch.is_grad_enabled()
    if large and not torch.compiler.is_compiling() and not in_transform():
        return _Planes.apply(x)
    return x.movedim(-1, 1)
