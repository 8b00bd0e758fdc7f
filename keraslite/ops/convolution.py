"""Convolutions and pools, on channels-last data; channels_first is a transposition around."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.backend.windows import transposed_crops
from keraslite.ops import numpy as k
from keraslite.ops.activation import relu, relu6, silu
from keraslite.ops.core import dtype
from keraslite.ops.layout import as_tuple, channels_to_first, channels_to_last, is_channels_first
from keraslite.ops.normalization import batch_normalization
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Tensor


def _rank(x: Any, name: str) -> int:
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"ops.{name} takes inputs of 3 to 5 dimensions, got {tuple(x.shape)}.")
    return rank


def _padding(padding: Any, rank: int) -> Any:
    """Return "valid", "same", or a pair (before, after) for each spatial axis."""
    if isinstance(padding, str):
        if padding.lower() not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid', 'same' or pairs, got {padding!r}.")
        return padding.lower()
    pairs = tuple(tuple(int(v) for v in pair) for pair in padding)
    if len(pairs) != rank or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(f"padding must be {rank} pairs (before, after), got {padding!r}.")
    return pairs


def _fit(x: Any, window: Sequence, padding: Any, dilation: Sequence) -> None:
    """Raise a ValueError for windows larger than the padded input."""
    if padding == "same":
        return
    pairs = ((0, 0),) * len(window) if padding == "valid" else padding
    for size, w, step, (a, b) in zip(x.shape[1:-1], window, dilation, pairs):
        if size is not None and w is not None and (w - 1) * step + 1 > size + a + b:
            raise ValueError(
                f"Windows of {tuple(window)}, dilated by {tuple(dilation)}, do not fit into the "
                f"input of shape {tuple(x.shape)} (channels last), padded by {padding}."
            )


@op("promote_float", tensors=2)
def conv(
    inputs: Tensor,
    kernel: Tensor,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Tensor:
    """The 1D, 2D or 3D convolution; in groups where the kernel has fewer input channels.

    Args:
        inputs: (batch, *spatial, channels).
        kernel: (*spatial, channels / groups, filters).
        strides: one number or one for each spatial axis.
        padding: "valid", "same", or pairs (before, after) for each spatial axis.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        dilation_rate: one number or one for each spatial axis.

    >>> print(convert_to_numpy(conv([[[1.0], [2.0], [3.0]]], [[[1.0]], [[1.0]]]))[0, :, 0])
    [3. 5.]
    """
    first = is_channels_first(data_format)
    x = channels_to_last(inputs) if first else inputs
    out = _conv(x, kernel, *_settled(x, kernel, strides, padding, dilation_rate))
    return channels_to_first(out) if first else out


def _settled(x: Any, kernel: Any, strides: Any, padding: Any, dilation_rate: Any) -> tuple:
    """Return strides, padding, dilation and groups of a convolution of channels-last data."""
    rank = _rank(x, "conv")
    channels, part = x.shape[-1], kernel.shape[-2]
    if channels % part or kernel.shape[-1] % (channels // part):
        raise ValueError(
            f"A kernel of shape {tuple(kernel.shape)} does not fit {channels} input channels: they "
            "and the filters must be divisible into groups of the kernel's input channels."
        )
    padding, dilation = _padding(padding, rank), as_tuple(dilation_rate, rank, "dilation_rate")
    _fit(x, kernel.shape[:-2], padding, dilation)
    return as_tuple(strides, rank, "strides"), padding, dilation, channels // part


@op("promote_float", tensors=3)
def biased_conv(
    inputs: Tensor,
    kernel: Tensor,
    bias: Tensor,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
    activation: str | None = None,
) -> Tensor:
    """`activation(conv(...) + bias)`, in one kernel where the backend has it.

    Args:
        inputs: (batch, *spatial, channels).
        kernel: (*spatial, channels / groups, filters).
        bias: (filters,).
        strides: as for `conv`.
        padding: as for `conv`.
        data_format: as for `conv`.
        dilation_rate: as for `conv`.
        activation: None, "relu", "relu6" or "silu".

    Raises:
        ValueError: there is no such activation, or the shapes do not fit.

    >>> print(convert_to_numpy(biased_conv([[[1.0], [2.0]]], [[[3.0]]], [0.5]))[0, :, 0])
    [3.5 6.5]
    """
    if activation not in CONV_ACTIVATIONS:
        raise ValueError(
            f"biased_conv: activation must be one of {list(CONV_ACTIVATIONS)}, got {activation!r}."
        )
    first = is_channels_first(data_format)
    x = channels_to_last(inputs) if first else inputs
    settled = _settled(x, kernel, strides, padding, dilation_rate)
    out = _biased_conv(x, kernel, bias, *settled, activation)
    return channels_to_first(out) if first else out


@op("same", tensors=3)
def _biased_conv(
    x: Any, kernel: Any, bias: Any, strides: tuple, padding: Any, dilation: tuple, groups: int,
    activation: str | None,
) -> Any:  # fmt: skip
    """`biased_conv` on channels-last data with settled arguments."""
    out = k.add(_conv(x, kernel, strides, padding, dilation, groups), bias)
    return CONV_ACTIVATIONS[activation](out)


@op("same", tensors=2)
def _conv(x: Any, kernel: Any, strides: tuple, padding: Any, dilation: tuple, groups: int) -> Any:
    """`conv` on channels-last data with settled arguments."""
    return primitive_only("conv")


@op("promote_float", tensors=2)
def depthwise_conv(
    inputs: Tensor,
    kernel: Tensor,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Tensor:
    """A convolution of every channel by itself, with a kernel (*spatial, channels, multiplier).

    >>> print(convert_to_numpy(depthwise_conv([[[1.0, 2.0]]], [[[3.0], [4.0]]])))
    [[[3. 8.]]]
    """
    *spatial, channels, multiplier = kernel.shape
    if inputs.shape[1 if is_channels_first(data_format) else -1] != channels:
        raise ValueError(
            f"A depthwise kernel of shape {tuple(kernel.shape)} needs {channels} input channels, "
            f"got inputs of shape {tuple(inputs.shape)}."
        )
    kernel = k.reshape(kernel, (*spatial, 1, channels * multiplier))
    return conv(inputs, kernel, strides, padding, data_format, dilation_rate)


@op("promote_float", tensors=3)
def separable_conv(
    inputs: Tensor,
    depthwise_kernel: Tensor,
    pointwise_kernel: Tensor,
    strides: int | Sequence[int] = 1,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Tensor:
    """A depthwise convolution, then one over channels alone.

    >>> print(convert_to_numpy(separable_conv([[[1.0, 2.0]]], [[[3.0], [4.0]]], [[[1.0], [1.0]]])))
    [[[11.]]]
    """
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, 1, "valid", data_format)


@op("promote_float", tensors=2)
def conv_transpose(
    inputs: Tensor,
    kernel: Tensor,
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    output_padding: int | Sequence[int] | None = None,
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Tensor:
    """The transposed convolution, with a kernel (*spatial, filters, channels).

    With "same" the output is `strides` times as large as the input; with "valid" it holds every
    window. `output_padding` sets the size beyond the smallest one instead.

    >>> print(convert_to_numpy(conv_transpose([[[1.0], [2.0]]], [[[1.0]], [[1.0]]], 2))[0, :, 0])
    [1. 1. 2. 2.]
    """
    rank = _rank(inputs, "conv_transpose")
    first = is_channels_first(data_format)
    x = channels_to_last(inputs) if first else inputs
    if x.shape[-1] != kernel.shape[-1]:
        raise ValueError(
            f"A kernel of shape {tuple(kernel.shape)} (*spatial, filters, channels) does not fit "
            f"{x.shape[-1]} input channels."
        )
    strides, dilation = (
        as_tuple(strides, rank, "strides"),
        as_tuple(dilation_rate, rank, "dilation"),
    )
    extra = as_tuple(output_padding, rank, "output_padding", 0)
    if padding.lower() not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', got {padding!r}.")
    crops = transposed_crops(padding.lower(), kernel.shape[:-2], strides, dilation, extra)
    out = _conv_transpose(x, kernel, strides, crops, dilation)
    return channels_to_first(out) if first else out


@op("same", tensors=2)
def _conv_transpose(x: Any, kernel: Any, strides: tuple, crops: list, dilation: tuple) -> Any:
    """`conv_transpose` on channels-last data; crops are cut from the full output."""
    return primitive_only("conv_transpose")


# What may stand behind a convolution in one kernel.
CONV_ACTIVATIONS = {None: lambda x: x, "relu": relu, "relu6": relu6, "silu": silu}


@op("float", tensors=8, keep=(2, 3, 5, 6))
def normalized_conv(
    x: Tensor, kernel: Tensor, mean: Tensor = None, variance: Tensor = None, bias: Tensor = None,
    offset: Tensor = None, scale: Tensor = None, residual: Tensor = None,
    strides: int | Sequence[int] = 1, padding: str | Sequence = "valid",
    dilation_rate: int | Sequence[int] = 1, epsilon: float = 1e-3, activation: str | None = None,
    depthwise: bool = False,
) -> Tensor:  # fmt: skip
    """`conv`, `batch_normalization`, a residual and an activation: a network's block at inference.

    A backend that has one kernel for it folds the normalization into the kernel and the bias, and
    keeps those until one of the five changes.

    Args:
        x: (batch, *spatial, channels).
        kernel: (*spatial, channels / groups, filters).
        mean: of each filter; None for no normalization.
        variance: of each filter, where there is a mean.
        bias: of the convolution.
        offset: of the normalization.
        scale: of the normalization.
        residual: what is added to the result, before the activation.
        strides: as for `conv`.
        padding: as for `conv`.
        dilation_rate: as for `conv`.
        epsilon: added to the variance.
        activation: None, "relu", "relu6" or "silu".
        depthwise: whether it is `depthwise_conv`, with its kernel.

    Raises:
        ValueError: there is no such activation.

    >>> out = normalized_conv([[[3.0]]], [[[2.0]]], [1.0], [4.0], epsilon=0.0, activation="relu")
    >>> print(convert_to_numpy(out))
    [[[2.5]]]
    """
    if activation not in CONV_ACTIVATIONS:
        raise ValueError(
            f"normalized_conv: activation must be one of {list(CONV_ACTIVATIONS)}, "
            f"got {activation!r}."
        )
    rank = len(x.shape) - 2
    steps, dilation = (as_tuple(v, rank, "strides") for v in (strides, dilation_rate))
    out = _normalized_conv(
        x, kernel, mean, variance, bias, offset, scale, residual, steps, padding, dilation,
        epsilon, activation, depthwise,
    )  # fmt: skip
    if out is not NotImplemented:
        return out
    convolve = depthwise_conv if depthwise else conv
    out = convolve(x, kernel, strides, padding, "channels_last", dilation_rate)
    out = out if bias is None else out + bias
    if mean is not None:
        out = batch_normalization(out, mean, variance, -1, offset, scale, epsilon)
    return CONV_ACTIVATIONS[activation](out if residual is None else out + residual)


@op("same", tensors=8)
def _normalized_conv(
    x: Any, kernel: Any, mean: Any, variance: Any, bias: Any, offset: Any, scale: Any,
    residual: Any, strides: tuple, padding: Any, dilation: tuple, epsilon: float,
    activation: str | None, depthwise: bool,
) -> Any:  # fmt: skip
    """`normalized_conv` with settled arguments, or NotImplemented."""
    return NotImplemented


def _pool(
    name: str, inputs: Any, pool_size: Any, strides: Any, padding: Any, data_format: str | None
) -> Any:
    rank = _rank(inputs, name)
    first = is_channels_first(data_format)
    x = channels_to_last(inputs) if first else inputs
    size = as_tuple(pool_size, rank, "pool_size")
    steps = size if strides is None else as_tuple(strides, rank, "strides")
    padding = _padding(padding, rank)
    _fit(x, size, padding, (1,) * rank)
    out = _window(x, name, size, steps, padding)
    return channels_to_first(out) if first else out


@op("same")
def _window(x: Any, name: str, size: tuple, strides: tuple, padding: Any) -> Any:
    """`max_pool` and `average_pool` on channels-last data with settled arguments."""
    return primitive_only(name)


@op("same")
def max_pool(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
) -> Tensor:
    """The largest value in each window; the arguments are `conv`'s.

    >>> print(convert_to_numpy(max_pool([[[1.0], [2.0], [3.0], [0.0]]], 2))[0, :, 0])
    [2. 3.]
    """
    return _pool("max_pool", inputs, pool_size, strides, padding, data_format)


@op("float")
def average_pool(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: str | Sequence = "valid",
    data_format: str | None = None,
) -> Tensor:
    """The mean of each window, in which padding does not count; the arguments are `conv`'s.

    >>> print(convert_to_numpy(average_pool([[[1.0], [3.0], [3.0]]], 2, padding="same"))[0, :, 0])
    [2. 3.]
    """
    return _pool("average_pool", inputs, pool_size, strides, padding, data_format)


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Return the bounds (start, end) of `count` adaptive windows over `size` elements."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive(inputs: Any, output_size: Any, data_format: str | None, along: Any) -> Any:
    rank = _rank(inputs, "adaptive pool")
    start = 2 if is_channels_first(data_format) else 1
    for axis, count in enumerate(as_tuple(output_size, rank, "output_size"), start):
        size = inputs.shape[axis]
        if size is None:
            raise ValueError("Adaptive pooling needs to know the spatial sizes of its input.")
        if size != count:
            inputs = along(inputs, axis, _bins(size, count))
    return inputs


@op("float")
def adaptive_average_pool(
    inputs: Tensor, output_size: int | Sequence[int], data_format: str | None = None
) -> Tensor:
    """Average pooling to an output size.

    >>> print(convert_to_numpy(adaptive_average_pool([[[1.0], [3.0], [4.0], [6.0]]], 2))[0, :, 0])
    [2. 5.]
    """

    def along(x: Any, axis: int, bins: list) -> Any:
        weights = np.zeros((len(bins), x.shape[axis]), dtypes.to_numpy(dtype(x)))
        for row, (a, b) in zip(weights, bins, strict=True):
            row[a:b] = 1 / (b - a)
        return k.moveaxis(k.tensordot(x, weights, axes=((axis,), (1,))), -1, axis)

    return _adaptive(inputs, output_size, data_format, along)


@op("same")
def adaptive_max_pool(
    inputs: Tensor, output_size: int | Sequence[int], data_format: str | None = None
) -> Tensor:
    """Max pooling to an output size.

    >>> print(convert_to_numpy(adaptive_max_pool([[[1.0], [3.0], [4.0], [6.0]]], 2))[0, :, 0])
    [3. 6.]
    """

    def along(x: Any, axis: int, bins: list) -> Any:
        width = max(b - a for a, b in bins)
        places = np.array([[min(a + i, b - 1) for i in range(width)] for a, b in bins], "int32")
        return k.max(k.take(x, places, axis=axis), axis=axis + 1)

    return _adaptive(inputs, output_size, data_format, along)


__all__ = [
    "adaptive_average_pool", "adaptive_max_pool", "average_pool", "biased_conv", "conv",
    "conv_transpose", "depthwise_conv", "max_pool", "normalized_conv", "separable_conv",
]  # fmt: skip
