"""PRIMITIVES for ops/nn.py on torch.

Spatial data stays channels-last: a permuted NHWC tensor is exactly torch's channels_last NCHW, so
the kernels take it and give it back without a copy. One spatial axis is treated as two, one of
size 1.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite import config
from keraslite.backend.torch.fast.linear import linear
from keraslite.backend.torch.tensors import native
from keraslite.backend.torch.tracing import in_transform
from keraslite.backend.windows import output_size, padding_pairs

TABLE: dict[str, Any] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "silu": F.silu,
    "log_sigmoid": F.logsigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "tanh_shrink": F.tanhshrink,
    "hard_tanh": F.hardtanh,
    "leaky_relu": lambda x, negative_slope=0.2: F.leaky_relu(x, negative_slope),
    "glu": lambda x, axis=-1: F.glu(x, axis),
    "hard_shrink": lambda x, threshold=0.5: F.hardshrink(x, threshold),
    "soft_shrink": lambda x, threshold=0.5: F.softshrink(x, threshold),
    "threshold": lambda x, threshold, default_value: F.threshold(x, threshold, default_value),
    "gelu": lambda x, approximate=True: F.gelu(x, approximate="tanh" if approximate else "none"),
    "linear": linear,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


@_primitive
def softmax(x: Tensor, axis: Any = -1) -> Tensor:
    if isinstance(axis, int):
        return torch.softmax(x, axis)
    return log_softmax(x.float() if x.element_size() < 4 else x, axis).exp().to(x.dtype)


@_primitive
def log_softmax(x: Tensor, axis: Any = -1) -> Tensor:
    if isinstance(axis, int):
        return torch.log_softmax(x, axis)
    return x - torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdim=True)


@_primitive
def _one_hot(x: Tensor, num_classes: int, axis: int, dtype: Any) -> Tensor:
    place = axis % (x.ndim + 1)
    classes = torch.arange(num_classes, device=x.device).view(-1, *[1] * (x.ndim - place))
    return (x.unsqueeze(place) == classes).to(native(dtype))


@_primitive
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


@_primitive
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
        raise TypeError(f"ops.layer_normalization knows no argument {sorted(kwargs)}.")
    else:
        out = F.layer_norm(rows, shape, gamma, beta, epsilon)
    out = out.movedim(last, axes) if moved else out
    return out.to(x.dtype) if mixed else out


@_primitive
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


@_primitive
def _normalize_batch(x: Tensor, scale: Tensor | None, offset: Tensor | None, epsilon: float) -> Any:
    channels = x.shape[-1]
    count = x.numel() // max(channels, 1)
    if count < 2 or epsilon <= 0 or in_transform():
        return NotImplemented
    wide = torch.float32 if x.element_size() < 4 else x.dtype
    scale, offset = (v if v is None else v.to(wide) for v in (scale, offset))
    # With momentum 1 the running moments become the batch's, the variance times n / (n - 1).
    mean, variance = torch.zeros(2, channels, dtype=wide, device=x.device).unbind()
    planes = x if x.ndim == 2 else x.reshape(x.shape[0], -1, 1, channels).permute(0, 3, 1, 2)
    out = F.batch_norm(planes, mean, variance, scale, offset, True, 1.0, epsilon)
    out = out if x.ndim == 2 else out.permute(0, 2, 3, 1).reshape(x.shape)
    return out, mean, variance * ((count - 1) / count)


@_primitive
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


@_primitive
def _ctc(
    target: Tensor, logs: Tensor, target_length: Tensor, output_length: Tensor, blank: int
) -> Tensor:
    return F.ctc_loss(
        logs.transpose(0, 1), target.long(), output_length.long(), target_length.long(), blank,
        reduction="none",
    )  # fmt: skip


# ---- convolutions and pools ----


def _planes(x: Tensor) -> Tensor:
    """Channels-last data as channels-first in memory format channels_last."""
    x = x.unsqueeze(1) if x.ndim == 3 else x
    return x.movedim(-1, 1)


def _rows(x: Tensor, rank: int) -> Tensor:
    """The inverse of `_planes`."""
    x = x.movedim(1, -1)
    return x.squeeze(1) if rank == 1 else x


def _pad(x: Tensor, pairs: list, value: float = 0.0) -> Tensor:
    """Pad the spatial axes of channels-last data."""
    return F.pad(x, [0, 0, *(v for pair in reversed(pairs) for v in pair)], value=value)


def _two(values: Any, fill: Any) -> tuple:
    """Arguments of one spatial axis as those of two."""
    return (fill, *values) if len(values) == 1 else tuple(values)


def _no_padding(padding: Any) -> bool:
    """Whether a window of size 1 gets none: "same" adds none to it."""
    return isinstance(padding, str) or not any(a or b for a, b in padding)


@_primitive
def _conv(
    x: Tensor, kernel: Tensor, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> Tensor:
    rank, window = len(strides), kernel.shape[:-2]
    if x.is_cpu and groups == 1 and not any(k > 1 for k in window) and _no_padding(padding):
        # A product over channels, which may go to the faster kernel.
        x = x[(slice(None), *(slice(None, None, s) for s in strides))]
        return linear(x, kernel.reshape(kernel.shape[-2:]))
    pairs = padding_pairs(padding, x.shape[1:-1], window, strides, dilation)
    if any(a != b for a, b in pairs):
        x, pairs = _pad(x, pairs), [(0, 0)] * rank
    fn = F.conv3d if rank == 3 else F.conv2d
    before = _two([a for a, _ in pairs], 0)
    out = fn(
        _planes(x), _filters(kernel), None, _two(strides, 1), before, _two(dilation, 1), groups
    )
    return _rows(out, rank)


def _filters(kernel: Tensor) -> Tensor:
    """A kernel (*spatial, inputs, outputs) as torch's (outputs, inputs, *spatial).

    Torch needs it contiguous in a memory format. One transposition of a matrix gives channels_last,
    several times faster than the general copy that torch would make. A checkpoint's weight seen as
    our kernel is in order already.
    """
    kernel = kernel.unsqueeze(0) if kernel.ndim == 3 else kernel
    if kernel.is_contiguous() and kernel.numel() >= 2**15:
        *inner, outputs = kernel.shape
        matrix = kernel.reshape(-1, outputs).t().contiguous()
        return matrix.view(outputs, *inner).movedim(-1, 1)
    return kernel.movedim((-1, -2), (0, 1))


@_primitive
def _conv_transpose(
    x: Tensor, kernel: Tensor, strides: tuple, crops: list, dilation: tuple
) -> Tensor:
    rank = len(strides)
    weight = (kernel.unsqueeze(0) if rank == 1 else kernel).movedim((-1, -2), (0, 1))
    both = [max(0, min(pair)) for pair in crops]  # what torch can cut from both ends alike
    fn = F.conv_transpose3d if rank == 3 else F.conv_transpose2d
    out = fn(_planes(x), weight, None, _two(strides, 1), _two(both, 0), 0, 1, _two(dilation, 1))
    rest = [(cut - a, cut - b) for cut, (a, b) in zip(both, crops, strict=True)]
    out = _rows(out, rank)
    return _pad(out, rest) if any(a or b for a, b in rest) else out


@_primitive
def _window(x: Tensor, kind: str, size: tuple, strides: tuple, padding: Any) -> Tensor:
    rank = len(size)
    pairs = padding_pairs(padding, x.shape[1:-1], size, strides, (1,) * rank)
    inside = all(a == b and 2 * a <= s for (a, b), s in zip(pairs, size, strict=True))
    if x.is_cuda and kind != "max_pool" and any(a for a, _ in pairs):
        inside = False  # torch's gradient is wrong there where channels come last
    before = _two([a for a, _ in pairs], 0) if inside else 0
    steps = (_two(size, 1), _two(strides, 1), before)
    if kind == "max_pool":
        if not inside:
            low = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
            x = _pad(x, pairs, low)
        return _rows((F.max_pool3d if rank == 3 else F.max_pool2d)(_planes(x), *steps), rank)
    pool = F.avg_pool3d if rank == 3 else F.avg_pool2d
    if rank == 3 and x.dtype in (torch.float16, torch.bfloat16) and x.device.type == "cpu":
        return _window(x.float(), kind, size, strides, padding).to(x.dtype)  # it has no such kernel
    if inside:
        return _rows(pool(_planes(x), *steps, count_include_pad=False), rank)
    sums = _rows(pool(_planes(_pad(x, pairs)), *steps, divisor_override=1), rank)
    return sums / _counts(x, size, strides, pairs)


def _counts(x: Tensor, size: tuple, strides: tuple, pairs: list) -> Tensor:
    """How many elements of the input each window covers, over the spatial axes and a last one."""
    counts = torch.ones((), dtype=x.dtype, device=x.device)
    for n, k, s, (a, b) in zip(x.shape[1:-1], size, strides, pairs, strict=True):
        starts = torch.arange(output_size(n + a + b, k, s), device=x.device) * s - a
        inside = (starts + k).clamp(max=n) - starts.clamp(min=0)
        counts = counts.unsqueeze(-1) * inside.to(x.dtype)
    return counts.unsqueeze(-1)


# ---- attention ----


@_primitive
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
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), bias,
        is_causal=is_causal, scale=scale, enable_gqa=query.shape[2] != key.shape[2],
    )  # fmt: skip
    return out.transpose(1, 2)
