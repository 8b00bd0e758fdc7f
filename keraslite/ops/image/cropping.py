"""Images cropped, padded and cut into patches."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite.backend.windows import padding_pairs
from keraslite.ops import numpy as k
from keraslite.ops.common import positions
from keraslite.ops.core import shape
from keraslite.ops.image.formats import as_batch, check_choice
from keraslite.ops.layout import as_tuple
from keraslite.ops.op import op
from keraslite.typing import Tensor


def _margins(dimension: str, size: Any, before: Any, after: Any, target: Any, sign: int) -> tuple:
    """(before, after) of an axis from two of three, for a crop (sign -1) or a pad (1)."""
    sides = ("top", "bottom") if dimension == "height" else ("left", "right")
    names = (*sides, f"target_{dimension}")
    is_set = [v is not None for v in (before, after, target)]
    if sum(is_set) != 2:
        raise ValueError(f"Exactly two of {', '.join(names)} must be set, got {sum(is_set)}.")
    if target is not None:
        if size is None:
            raise ValueError(f"The {dimension} of the images must be known for {names[2]}.")
        rest = sign * (target - size)
        before = rest - after if before is None else before
        after = rest - before if after is None else after
    for name, value in zip(names, (before, after)):
        if isinstance(value, int) and value < 0:
            raise ValueError(
                f"{name} must not be negative, got {value} for a {dimension} of {size}."
            )
    left = size if size is None or sign > 0 else size - before - after
    if isinstance(left, int) and left < 0:
        raise ValueError(
            f"Cropping must leave some of a {dimension} of {size}, got {before} and {after}."
        )
    return before, after


@op("same")
def crop_images(
    images: Tensor,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Crop images: two of top, bottom and height are needed, and two of left, right and width.

    Args:
        images: (height, width, channels), or a batch of them.
        top_cropping: the number of rows cut at the top.
        left_cropping: the number of columns cut on the left.
        bottom_cropping: the number of rows cut at the bottom.
        right_cropping: the number of columns cut on the right.
        target_height: the number of rows of the result.
        target_width: the number of columns of the result.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> crop_images(np.ones((4, 5, 1)), 1, 1, target_height=2, target_width=3).shape
    (2, 3, 1)
    """
    x, undo = as_batch(images, data_format)
    height, width = x.shape[1:3]
    top, bottom = _margins("height", height, top_cropping, bottom_cropping, target_height, -1)
    left, right = _margins("width", width, left_cropping, right_cropping, target_width, -1)
    return undo(x[:, top : -bottom or None, left : -right or None])


@op("same")
def pad_images(
    images: Tensor,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Pad images by zeros: two of top, bottom and height are needed, and two of left, right, width.

    Args:
        images: (height, width, channels), or a batch of them.
        top_padding: the number of rows added at the top.
        left_padding: the number of columns added on the left.
        bottom_padding: the number of rows added at the bottom.
        right_padding: the number of columns added on the right.
        target_height: the number of rows of the result.
        target_width: the number of columns of the result.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> pad_images(np.ones((4, 5, 1)), 1, 0, target_height=6, target_width=7).shape
    (6, 7, 1)
    """
    x, undo = as_batch(images, data_format)
    height, width = x.shape[1:3]
    rows = _margins("height", height, top_padding, bottom_padding, target_height, 1)
    columns = _margins("width", width, left_padding, right_padding, target_width, 1)
    return undo(k.pad(x, ((0, 0), rows, columns, (0, 0))))


@op("same")
def extract_patches(
    images: Tensor,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Cut images into patches, whose pixels become channels.

    Args:
        images: (height, width, channels), or a batch of them; with a `size` of three, volumes.
        size: (height, width) of a patch, or one number for both.
        strides: the steps from patch to patch; `size` by default.
        dilation_rate: the steps inside a patch.
        padding: "valid", or "same", which pads with zeros.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> extract_patches(np.ones((2, 9, 9, 3)), 3).shape
    (2, 3, 3, 27)
    """
    rank = 3 if not isinstance(size, int) and len(size) == 3 else 2
    return _patches(images, size, strides, dilation_rate, padding, data_format, rank)


@op("same")
def extract_patches_3d(
    volumes: Tensor,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Tensor:
    """Cut volumes into patches, whose voxels become channels.

    Args:
        volumes: (depth, height, width, channels), or a batch of them.
        size: (depth, height, width) of a patch, or one number for all.
        strides: the steps from patch to patch; `size` by default.
        dilation_rate: the steps inside a patch.
        padding: "valid", or "same", which pads with zeros.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> extract_patches_3d(np.ones((2, 4, 4, 4, 3)), 2).shape
    (2, 2, 2, 2, 24)
    """
    return _patches(volumes, size, strides, dilation_rate, padding, data_format, 3)


def _patches(
    images: Any, size: Any, strides: Any, dilation: Any, padding: str, data_format: Any, rank: int
) -> Any:
    check_choice("padding", padding, ("valid", "same"))
    size = as_tuple(size, rank, "size")
    strides = size if strides is None else as_tuple(strides, rank, "strides")
    dilation = as_tuple(dilation, rank, "dilation_rate")
    x, undo = as_batch(images, data_format, rank + 2)
    if padding == "same":
        pairs = padding_pairs("same", shape(x)[1:-1], size, strides, dilation)
        x = k.pad(x, ((0, 0), *pairs, (0, 0)))
    batch, *spatial, channels = shape(x)
    counts = []
    for axis, (n, window, stride, step) in enumerate(zip(spatial, size, strides, dilation), 1):
        if isinstance(n, int) and n < (window - 1) * step + 1:
            raise ValueError(
                f"Patches must fit into the images, got {size} for {tuple(images.shape)}."
            )
        count = (n - (window - 1) * step - 1) // stride + 1
        starts = k.expand_dims(positions(x, count), 1) * stride
        places = k.reshape(k.add(starts, np.arange(window, dtype="int32") * step), (-1,))
        x = k.take(x, places, axis=axis)
        counts.append(count)
    split = [v for pair in zip(counts, size, strict=True) for v in pair]
    x = k.reshape(x, (batch, *split, channels))
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    x = k.transpose(x, order)
    return undo(k.reshape(x, (batch, *counts, math.prod(size) * channels)))


__all__ = ["crop_images", "extract_patches", "extract_patches_3d", "pad_images"]
