"""Crossentropies and the CTC loss on torch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite import config
from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tensors import native
from keraslite.scopes import scopes

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _one_hot(x: Tensor, num_classes: int, axis: int, dtype: Any) -> Tensor:
    place = axis % (x.ndim + 1)
    x = x.long() if x.dtype in (torch.uint16, torch.uint32) else x
    classes = torch.arange(num_classes, device=x.device).view(-1, *[1] * (x.ndim - place))
    return (x.unsqueeze(place) == classes).to(native(dtype))


@primitive(TABLE)
def _sparse_crossentropy(target: Tensor, output: Tensor, from_logits: bool, axis: int) -> Tensor:
    # As rows of classes: F's form for images has no gradient for some strides.
    rows = output.movedim(axis, -1).reshape(-1, output.shape[axis])
    rows = rows.float() if rows.element_size() < 4 else rows
    target = target.long()
    flat = target.reshape(-1)
    flat = torch.where((flat >= 0) & (flat < rows.shape[1]), flat, -100)  # -100 counts for nothing
    if from_logits:
        loss = F.cross_entropy(rows, flat, reduction="none")
    else:
        shares = rows / rows.sum(-1, keepdim=True)
        logs = shares.clamp(config.epsilon(), 1 - config.epsilon()).log()
        loss = F.nll_loss(logs, flat, reduction="none")
    return loss.reshape(target.shape).to(output.dtype)


@primitive(TABLE)
def _ctc(
    target: Tensor, logs: Tensor, target_length: Tensor, output_length: Tensor, blank: int
) -> Tensor:
    if scopes.abstract:  # torch reads the lengths
        return logs.sum((1, 2))
    return F.ctc_loss(
        logs.transpose(0, 1), target.long(), output_length.long(), target_length.long(), blank,
        reduction="none",
    )  # fmt: skip
