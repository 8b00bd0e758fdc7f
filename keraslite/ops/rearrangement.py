"""Pixels laid out as channels or patches, and back."""

from collections.abc import Sequence
from typing import Any

from keraslite.ops import numpy as k
from keraslite.ops.core import shape
from keraslite.ops.layout import as_tuple, channels_to_first, channels_to_last, is_channels_first
from keraslite.ops.op import op
from keraslite.typing import Tensor


def _blocks(x: Any, name: str, block_size: int, data_format: str | None) -> tuple[Any, bool]:
    if block_size < 2 or len(x.shape) != 4:
        raise ValueError(
            f"ops.{name} takes images (4 dimensions) and blocks of at least 2, got a shape of "
            f"{tuple(x.shape)} and {block_size}."
        )
    return (channels_to_last(x), True) if is_channels_first(data_format) else (x, False)


@op("same")
def depth_to_space(x: Tensor, block_size: int, data_format: str = "channels_last") -> Tensor:
    """Lay groups of channels out as blocks of pixels.

    >>> depth_to_space(np.zeros((1, 1, 1, 4)), 2).shape == (1, 2, 2, 1)
    True
    """
    x, first = _blocks(x, "depth_to_space", block_size, data_format)
    n, h, w, c = shape(x)
    x = k.reshape(x, (n, h, w, block_size, block_size, c // block_size**2))
    x = k.transpose(x, (0, 1, 3, 2, 4, 5))
    x = k.reshape(x, (n, h * block_size, w * block_size, c // block_size**2))
    return channels_to_first(x) if first else x


@op("same")
def space_to_depth(x: Tensor, block_size: int, data_format: str = "channels_last") -> Tensor:
    """The inverse of `depth_to_space`.

    >>> space_to_depth(np.zeros((1, 2, 2, 1)), 2).shape == (1, 1, 1, 4)
    True
    """
    x, first = _blocks(x, "space_to_depth", block_size, data_format)
    n, h, w, c = shape(x)
    x = k.reshape(x, (n, h // block_size, block_size, w // block_size, block_size, c))
    x = k.transpose(x, (0, 1, 3, 2, 4, 5))
    x = k.reshape(x, (n, h // block_size, w // block_size, c * block_size**2))
    return channels_to_first(x) if first else x


def _sliding(
    sizes: Sequence, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple, tuple, tuple, tuple]:
    """For `fold` and `unfold`: the window, padding, stride, and where each element of it starts."""
    window, step = as_tuple(kernel_size, 2, "kernel_size"), as_tuple(dilation, 2, "dilation")
    pad, stride = as_tuple(padding, 2, "padding", 0), as_tuple(stride, 2, "stride")
    count = tuple(
        (n + 2 * p - (w - 1) * d - 1) // s + 1
        for n, p, w, d, s in zip(sizes, pad, window, step, stride)
    )
    starts = tuple((i * step[0], j * step[1]) for i in range(window[0]) for j in range(window[1]))
    return pad, stride, count, starts


@op("same")
def unfold(
    x: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The sliding blocks of channels-first images (N, C, H, W), as (N, C * block, positions).

    >>> unfold(np.zeros((1, 2, 3, 3)), 2).shape == (1, 8, 4)
    True
    """
    if len(x.shape) != 4:
        raise ValueError(f"ops.unfold: x must be (N, C, H, W), got a shape of {tuple(x.shape)}.")
    n, c, *sizes = shape(x)
    pad, stride, count, starts = _sliding(sizes, kernel_size, dilation, padding, stride)
    x = k.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    ends = [(m - 1) * s + 1 for m, s in zip(count, stride)]
    taps = [x[:, :, i : i + ends[0] : stride[0], j : j + ends[1] : stride[1]] for i, j in starts]
    return k.reshape(k.stack(taps, axis=2), (n, c * len(starts), count[0] * count[1]))


@op("same")
def fold(
    x: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Add sliding blocks (N, C * block, positions) up into images (N, C, H, W).

    >>> fold(np.zeros((1, 8, 4)), 3, 2).shape == (1, 2, 3, 3)
    True
    """
    if len(x.shape) != 3:
        raise ValueError(f"ops.fold: x must be (N, C * block, L), got a shape of {tuple(x.shape)}.")
    sizes = as_tuple(output_size, 2, "output_size")
    pad, stride, count, starts = _sliding(sizes, kernel_size, dilation, padding, stride)
    n, depth, _ = shape(x)
    c, full = depth // len(starts), [size + 2 * p for size, p in zip(sizes, pad)]
    taps = k.reshape(x, (n, c, len(starts), *count))
    # Every tap with stride - 1 zeros behind each element, moved to where it starts.
    spread = k.pad(
        k.reshape(taps, (n, c, len(starts), count[0], 1, count[1], 1)),
        ((0, 0),) * 4 + ((0, stride[0] - 1), (0, 0), (0, stride[1] - 1)),
    )
    spread = k.reshape(spread, (n, c, len(starts), count[0] * stride[0], count[1] * stride[1]))
    out: Any = 0.0
    for index, (i, j) in enumerate(starts):
        tap = spread[:, :, index, : full[0] - i, : full[1] - j]
        after = [max(f - a - m * s, 0) for f, a, m, s in zip(full, (i, j), count, stride)]
        out = out + k.pad(tap, ((0, 0), (0, 0), (i, after[0]), (j, after[1])))
    return out[:, :, pad[0] : full[0] - pad[0], pad[1] : full[1] - pad[1]]


__all__ = [
    "depth_to_space", "fold", "space_to_depth", "unfold",
]  # fmt: skip
