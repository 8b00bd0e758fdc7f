"""Normalization of layers, batches and groups on torch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite import config
from keraslite.backend.primitives import primitive
from keraslite.backend.torch.fast.planes import planes
from keraslite.backend.torch.tracing import in_transform

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def layer_normalization(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    axis: Any = -1,
    epsilon: float | None = None,
    **kwargs: Any,
) -> Tensor:
    axes = (axis,) if isinstance(axis, int) else tuple(sorted(a % x.ndim for a in axis))
    last = tuple(range(-len(axes), 0))
    moved = axes not in (last, tuple(a + x.ndim for a in last))
    rows = x.movedim(axes, last) if moved else x
    shape = rows.shape[-len(axes) :]
    epsilon = config.epsilon() if epsilon is None else epsilon
    mixed = (gamma is not None and gamma.dtype != x.dtype) or (
        beta is not None and beta.dtype != x.dtype
    )
    if mixed:
        rows = rows.float() if x.element_size() < 4 else rows
        gamma, beta = (v if v is None else v.to(rows.dtype) for v in (gamma, beta))
    gamma, beta = (v if v is None or v.shape == shape else v.reshape(shape) for v in (gamma, beta))
    if kwargs.pop("rms_scaling", False):  # what came before rms_normalization
        variance = rows.var(last, correction=0, keepdim=True)
        out = rows * torch.rsqrt(variance + epsilon)
        out = out if gamma is None else out * gamma
    elif kwargs:
        raise TypeError(f"ops.layer_normalization: unexpected arguments, got {sorted(kwargs)}.")
    else:
        out = F.layer_norm(rows, shape, gamma, beta, epsilon)
    out = out.movedim(last, axes) if moved else out
    return out.to(x.dtype) if mixed else out


@primitive(TABLE)
def _batch_normalization(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    offset: Tensor | None,
    scale: Tensor | None,
    axis: int,
    epsilon: float,
) -> Tensor:
    factor = torch.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if offset is None else offset - mean * factor
    shape = [1] * x.ndim
    shape[axis] = -1
    wide = x.to(shift.dtype) if x.element_size() < 4 else x
    shift, factor = (v.to(wide.dtype).reshape(shape) for v in (shift, factor))
    return torch.addcmul(shift, wide, factor).to(x.dtype)


@primitive(TABLE)
def _normalize_batch(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, residual: Tensor | None,
    epsilon: float, activation: str | None,
) -> Any:  # fmt: skip
    channels = x.shape[-1]
    count = x.numel() // max(channels, 1)
    if count < 2 or epsilon <= 0 or in_transform():
        return NotImplemented
    wide = torch.float32 if x.element_size() < 4 else x.dtype
    scale, offset = (v if v is None else v.to(wide) for v in (scale, offset))
    # With momentum 1 the running moments become the batch's, the variance times n / (n - 1).
    mean, variance = torch.zeros(2, channels, dtype=wide, device=x.device).unbind()
    first, other = (
        v if v is None or x.ndim == 2
        else planes(v if x.ndim == 4 else v.reshape(x.shape[0], -1, 1, channels))
        for v in (x, residual)
    )  # fmt: skip
    out = F.batch_norm(first, mean, variance, scale, offset, True, 1.0, epsilon)
    # Nothing else reads what was just made, its gradient neither: it is written over.
    out = out if other is None else out.add_(other)
    out = out if activation is None else out.relu_()
    out = out if x.ndim == 2 else out.permute(0, 2, 3, 1).reshape(x.shape)
    return out, mean, variance * ((count - 1) / count)


@primitive(TABLE)
def _normalize_groups(
    x: Tensor, scale: Tensor | None, offset: Tensor | None, groups: int, epsilon: float,
    activation: str | None,
) -> Any:  # fmt: skip
    # Only the CPU has a kernel for channels that come last; it knows no transforms.
    if x.ndim != 4 or not x.is_cpu or not x.numel() or in_transform():
        return NotImplemented
    scale, offset = (
        v if v is None or x.element_size() < 4 else v.to(x.dtype) for v in (scale, offset)
    )
    if x.element_size() < 4 and (scale is None or offset is None or scale.dtype != offset.dtype):
        return NotImplemented
    out = F.group_norm(x.permute(0, 3, 1, 2), groups, scale, offset, epsilon).permute(0, 2, 3, 1)
    # Nothing else holds what was just made, unless its gradient does.
    return out if activation is None else F.silu(out, inplace=not out.requires_grad)
