"""Convolutions with the batch normalization behind them folded into their weights, on the CPU.

The folded weights lie in the blocks that oneDNN's kernels read, and last as long as the variables;
they are made anew when a value was written to. This asks for the versions of tensors, as torch's
gradients do, so that writes through `.data` go unnoticed.

Which blocks a kernel reads depends on the shape of the images: for one image they are often others
than for several. Weights in other blocks are copied in each call, at several times the cost of the
convolution. So they are packed for each shape, and shapes that read the same blocks share them.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from keraslite.backend.torch.tracing import RECORDING, has_no_values, in_transform

_mkldnn = getattr(torch.ops, "mkldnn", None)
_CONV = getattr(_mkldnn, "_convolution_pointwise", None)
_PACK = getattr(_mkldnn, "_reorder_convolution_weight", None)
_LAYOUT = getattr(_mkldnn, "_get_mkldnn_serialized_md", None)
_ACTIVATIONS: dict[str | None, tuple[str, list]] = {
    None: ("none", []), "relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0]),
    "silu": ("swish", []),
}  # fmt: skip
_AFTER_SUM = (None, "relu")
_SHAPES = 8  # of images, for which the packed weights of a convolution are kept
# By the mean, since one kernel may stand before several normalizations; else by the kernel.
_folds: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def fused_conv(
    x: Tensor, kernel: Tensor, moments: list[Tensor | None], epsilon: float,
    residual: Tensor | None, steps: tuple, groups: int, activation: str | None,
) -> Any:  # fmt: skip
    """Return the convolution of channels-first data, or NotImplemented where no kernel fits.

    Args:
        x: (batch, channels, height, width), in memory with the channels last.
        kernel: a variable (height, width, channels / groups, filters), or that of a depthwise
            convolution.
        moments: mean, variance, bias of the convolution, offset and scale; without a mean there
            is no normalization.
        epsilon: added to the variance.
        residual: what is added before the activation, of the shape of the result.
        steps: padding, strides and dilation.
        groups: of channels that are convolved apart.
        activation: what is done behind it.
    """
    tensors = [kernel, *(v for v in moments if v is not None)]
    if (
        _CONV is None
        or _PACK is None
        or has_no_values()
        or in_transform()
        or activation not in _ACTIVATIONS
    ):
        return NotImplemented
    if not all(type(v) is torch.nn.Parameter and v.dtype == torch.float32 for v in tensors):
        return NotImplemented
    gradients = torch.is_grad_enabled() and any(v.requires_grad for v in (x, *tensors))
    if gradients or not x.is_cpu or x.dtype != torch.float32 or not x.numel():
        return NotImplemented
    key = kernel if moments[0] is None else moments[0]
    recording = RECORDING.get()
    with nullcontext() if recording is None else _unrecorded():
        kept = _folds.get(key)
        if kept is None or not _is_current(kept[0], tensors, epsilon):
            state = [(weakref.ref(v), v._version, v.data_ptr()) for v in tensors], epsilon
            kept = _folds[key] = state, {}
        packed = kept[1]
        if (shape := tuple(x.shape)) not in packed:
            with torch.no_grad():
                folded = _folded(kernel, *moments, epsilon, x, steps, groups)
            while len(packed) >= _SHAPES:
                del packed[next(iter(packed))]
            packed[shape] = _shared(folded, packed)
        if recording is not None:
            recording += [(v, v._version, v.data_ptr()) for v in tensors]
    weight, bias = packed[shape]
    padding, strides, dilation = steps
    if residual is None:
        name, scalars = _ACTIVATIONS[activation]
        return _CONV(x, weight, bias, padding, strides, dilation, groups, name, scalars, "")
    rest = "add", 1.0, activation, [], ""
    return _CONV.binary(x, residual, weight, bias, padding, strides, dilation, groups, *rest)


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Run operations without recording them."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def _is_current(state: tuple, tensors: list[Tensor], epsilon: float) -> bool:
    """Whether what was folded is of these tensors, as they are now."""
    folded, of_epsilon = state
    return (
        epsilon == of_epsilon
        and len(folded) == len(tensors)
        and all(
            ref() is v and version == v._version and at == v.data_ptr()
            for (ref, version, at), v in zip(folded, tensors, strict=True)
        )
    )


def _folded(
    kernel: Tensor, mean: Tensor | None, variance: Any, bias: Tensor | None, offset: Tensor | None,
    scale: Tensor | None, epsilon: float, x: Tensor, steps: tuple, groups: int,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Return the weight in oneDNN's blocks, and the bias."""
    kernel = kernel.reshape(*kernel.shape[:2], x.shape[1] // groups, -1)  # where it is depthwise
    if mean is None:
        shift = None if bias is None else bias.detach()
    else:
        factor = torch.rsqrt(variance + epsilon)
        factor = factor if scale is None else factor * scale
        shift = -mean if bias is None else bias - mean
        shift = shift * factor if offset is None else shift * factor + offset
        kernel = kernel * factor
    weight = kernel.movedim((-1, -2), (0, 1))
    weight = weight.contiguous(memory_format=torch.channels_last)
    return _PACK(weight, *steps, groups, list(x.shape)), shift


def _shared(folded: tuple, packed: dict) -> tuple:
    """Return a fold in the same blocks that is kept for another shape, or else this one."""
    if _LAYOUT is None:
        return folded
    layout = _LAYOUT(folded[0])
    return next((kept for kept in packed.values() if torch.equal(_LAYOUT(kept[0]), layout)), folded)
