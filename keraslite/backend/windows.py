"""Arithmetic of sliding windows, for the backends whose kernels do not do it themselves."""

from collections.abc import Sequence
from typing import Any


def padding_pairs(
    padding: str | Sequence,
    sizes: Sequence,
    window: Sequence,
    strides: Sequence,
    dilation: Sequence,
) -> list[tuple[Any, Any]]:
    """Return the padding before and after each spatial axis; "same" puts the odd element after.

    Args:
        padding: "valid", "same" or the pairs themselves.
        sizes: the spatial sizes of the input.
        window: the sizes of the kernel or pool.
        strides: the steps between windows.
        dilation: the steps inside a window.

    >>> padding_pairs("same", [5], [2], [1], [1])
    [(0, 1)]
    """
    if padding == "valid":
        return [(0, 0)] * len(window)
    if padding != "same":
        return [(int(a), int(b)) for a, b in padding]
    pairs = []
    for size, k, stride, step in zip(sizes, window, strides, dilation, strict=True):
        total = (-(-size // stride) - 1) * stride + (k - 1) * step + 1 - size
        total = (abs(total) + total) // 2  # at least 0, for a scalar of a graph too
        pairs.append((total // 2, total - total // 2))
    return pairs


def output_size(size: int, window: int, stride: int, step: int = 1) -> int:
    """Return the number of windows that fit into a padded axis.

    >>> output_size(5, 3, 2)
    2
    """
    return (size - (window - 1) * step - 1) // stride + 1


def transposed_crops(
    padding: str, window: Sequence, strides: Sequence, dilation: Sequence, extra: Sequence
) -> list[tuple[int, int]]:
    """Return the elements a transposed convolution cuts from each end of its full output.

    A negative number adds elements. The full output of an axis has
    `(size - 1) * stride + (window - 1) * dilation + 1` elements.

    Args:
        padding: "valid" or "same".
        window: the sizes of the kernel.
        strides: the strides.
        dilation: the steps inside the kernel.
        extra: Keras's output_padding of each axis, or None.

    >>> transposed_crops("same", [3], [2], [1], [None])
    [(0, 1)]
    """
    crops = []
    for k, stride, step, more in zip(window, strides, dilation, extra, strict=True):
        k = (k - 1) * step + 1
        if padding == "valid":
            crops.append((0, -(max(stride - k, 0) if more is None else more)))
            continue
        total = stride + k - 2 if more is None else k + k % 2 - 2 + more
        left = min(total // 2 + total % 2, k - 1)
        crops.append((k - 1 - left, k - 1 - (total - left)))
    return crops
