"""Convolutions and pools on torch.

Spatial data stays channels-last: a permuted NHWC tensor is exactly torch's channels_last NCHW, so
the kernels take it and give it back without a copy. One spatial axis is treated as two, one of
size 1.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.fast.convolution import fused_conv
from keraslite.backend.torch.fast.linear import linear
from keraslite.backend.torch.fast.planes import planes
from keraslite.backend.torch.tracing import is_variable
from keraslite.backend.windows import output_size, padding_pairs

TABLE: dict[str, Any] = {}
_IN_PLACE = {
    "relu": torch.relu_, "relu6": partial(F.relu6, inplace=True),
    "silu": partial(F.silu, inplace=True),
}  # fmt: skip
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the rank


def _planes(x: Tensor) -> Tensor:
    """Channels-last data as channels-first in memory format channels_last."""
    return planes(x.unsqueeze(1) if x.ndim == 3 else x)


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


@primitive(TABLE)
def _conv(
    x: Tensor, kernel: Tensor, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> Tensor:
    return _biased_conv(x, kernel, None, strides, padding, dilation, groups, None)


@primitive(TABLE)
def _biased_conv(
    x: Tensor, kernel: Tensor, bias: Tensor | None, strides: tuple, padding: Any, dilation: tuple,
    groups: int, activation: str | None,
) -> Tensor:  # fmt: skip
    rank, window = len(strides), kernel.shape[:-2]
    pointwise = groups == 1 and max(window) == 1 and _no_padding(padding)
    if pointwise and x.is_cpu and (rank != 2 or torch.get_num_threads() == 1):
        # A product over channels. Of images, torch's convolution has slow kernels in one thread,
        # and faster ones in several.
        x = x[(slice(None), *(slice(None, None, s) for s in strides))]
        out = linear(x, kernel.reshape(kernel.shape[-2:]), bias)
        return out if activation is None else _IN_PLACE[activation](out)
    pairs = padding_pairs(padding, x.shape[1:-1], window, strides, dilation)
    if any(a != b for a, b in pairs):
        x, pairs = _pad(x, pairs), [(0, 0)] * rank
    fn = F.conv3d if rank == 3 else F.conv2d
    before = _two([a for a, _ in pairs], 0)
    out = fn(
        _planes(x), _filters(kernel), bias, _two(strides, 1), before, _two(dilation, 1), groups
    )
    # Nothing else has seen the result, and the gradient of a convolution does not need it.
    return _rows(out if activation is None else _IN_PLACE[activation](out), rank)


@primitive(TABLE)
def _normalized_conv(
    x: Tensor, kernel: Tensor, mean: Tensor | None, variance: Tensor | None, bias: Tensor | None,
    offset: Tensor | None, scale: Tensor | None, residual: Tensor | None, strides: tuple,
    padding: Any, dilation: tuple, epsilon: float, activation: str | None, depthwise: bool,
) -> Any:  # fmt: skip
    if x.ndim != 4:
        return NotImplemented
    pairs = padding_pairs(padding, x.shape[1:-1], kernel.shape[:-2], strides, dilation)
    if any(a != b for a, b in pairs):
        x, pairs = _pad(x, pairs), [(0, 0)] * 2
    steps = [a for a, _ in pairs], strides, dilation
    groups = x.shape[-1] // (1 if depthwise else kernel.shape[-2])
    other = None if residual is None else _planes(residual)
    moments = [mean, variance, bias, offset, scale]
    out = fused_conv(_planes(x), kernel, moments, epsilon, other, steps, groups, activation)
    return out if out is NotImplemented else _rows(out, 2)


def _filters(kernel: Tensor) -> Tensor:
    """A kernel (*spatial, inputs, outputs) as torch's (outputs, inputs, *spatial).

    The kernels of torch want it contiguous with the inputs last, and copy any other at each call,
    forward and backward. A variable is laid out in this order once, for all steps; what is no
    variable is transposed as one matrix, several times faster than the copy that torch would make.
    """
    spatial = kernel.unsqueeze(0) if kernel.ndim == 3 else kernel
    filters = spatial.movedim((-1, -2), (0, 1))
    if kernel.numel() < 2**8 or filters.is_contiguous(memory_format=_LAST[filters.ndim]):
        return filters
    variable = is_variable(kernel)
    if not variable and not kernel.is_contiguous():
        return filters
    if kernel.is_contiguous():
        *inner, outputs = spatial.shape
        matrix = (kernel.detach() if variable else kernel).reshape(-1, outputs)
        ordered = matrix.t().contiguous().view(outputs, *inner)
    else:
        ordered = filters.detach().movedim(1, -1).contiguous()
    if not variable:
        return ordered.movedim(-1, 1)
    kernel.data = ordered.movedim(0, -1).view(kernel.shape)
    spatial = kernel.unsqueeze(0) if kernel.ndim == 3 else kernel
    return spatial.movedim((-1, -2), (0, 1))


@primitive(TABLE)
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


@primitive(TABLE)
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
