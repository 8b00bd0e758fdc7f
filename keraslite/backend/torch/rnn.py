"""Recurrent layers by torch's own fused kernels, on weights in its own order."""

from typing import Any

import torch
from torch import Tensor

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tracing import levels
from keraslite.scopes import scopes

TABLE: dict[str, Any] = {}


def _fusible(x: Tensor) -> bool:
    """Whether torch's layers take a tensor: they are neither mapped nor differentiated forward.

    Where shapes alone are asked for, the loop over all steps would take seconds.
    """
    if torch.compiler.is_exporting():  # torch writes the steps of its own out one by one
        return False
    return x.shape[1] > 0 and not scopes.abstract and levels() in ([], ["Grad"])


def _weights(kernel: Tensor, recurrent_kernel: Tensor, biases: Any) -> list[Tensor]:
    """Weights with the outputs in front, and biases; on GPUs in one piece, as cuDNN wants them."""
    weights = [kernel.t(), recurrent_kernel.t(), *biases]
    if not kernel.is_cuda:
        return weights
    flat = torch.cat([w.reshape(-1) for w in weights])
    parts = flat.split([w.numel() for w in weights])
    return [part.view(w.shape) for part, w in zip(parts, weights, strict=True)]


@primitive(TABLE)
def _fused_lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor | None,
    reverse: bool,
) -> Any:
    if not _fusible(x):
        return NotImplemented
    biases = () if bias is None else (bias, torch.zeros_like(bias))
    outs, h, c = torch.lstm(
        x.flip(1) if reverse else x,
        (h[None].contiguous(), c[None].contiguous()),  # as cuDNN insists
        _weights(kernel, recurrent_kernel, biases),
        bias is not None, 1, 0.0, torch.is_grad_enabled(), False, True,
    )  # fmt: skip
    return outs[:, -1], outs, (h[0], c[0])


@primitive(TABLE)
def _fused_gru(
    x: Tensor,
    h: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor | None,
    reverse: bool,
) -> Any:
    if not _fusible(x):
        return NotImplemented
    biases = () if bias is None else (_reset_first(row) for row in bias)
    outs, h = torch.gru(
        x.flip(1) if reverse else x,
        h[None].contiguous(),
        _weights(_reset_first(kernel), _reset_first(recurrent_kernel), biases),
        bias is not None, 1, 0.0, torch.is_grad_enabled(), False, True,
    )  # fmt: skip
    return outs[:, -1], outs, (h[0],)


def _reset_first(weights: Tensor) -> Tensor:
    """Gates in torch's order: reset, update, candidate."""
    update, reset, candidate = weights.chunk(3, -1)
    return torch.cat([reset, update, candidate], -1)
