"""Layers that even the histograms of images out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import dtypes, ops
from keraslite.layers.preprocessing.image.adjust import from_bytes, to_bytes
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer
from keraslite.layers.preprocessing.image.draws import read_value_range
from keraslite.typing import Tensor


def equalize(images: Tensor, value_range: Sequence[float], bins: int = 256) -> Tensor:
    """Even the histogram of each channel of each image out.

    Args:
        images: a channels-last batch of float32 images.
        value_range: the least and the largest value of a pixel.
        bins: the number of bins.
    """
    batch, height, width, channels = ops.shape(images)
    levels = to_bytes(images, value_range)
    places = ops.cast(ops.clip(levels * ((bins - 1) / 255.0), 0, bins - 1), "int32")
    counts, places = _counts(places, (batch, channels), bins)
    total = ops.cumsum(counts, axis=-1)
    # The darkest level that occurs becomes 0, the brightest 255.
    least = ops.min(ops.where(total > 0, total, height * width), axis=-1, keepdims=True)
    spread = height * width - least
    table = ops.round((total - least) * 255.0 / ops.cast(ops.maximum(spread, 1), "float32"))
    table = ops.clip(table, 0.0, 255.0)
    evened = ops.take(ops.reshape(table, (-1,)), places)
    # An image of one level stays.
    flat = ops.reshape(spread == 0, (batch, 1, 1, channels))
    return from_bytes(ops.where(flat, levels, evened), value_range)


def _counts(places: Tensor, groups: tuple, bins: int) -> tuple[Tensor, Tensor]:
    """Count how often each bin occurs in each channel of each image.

    Args:
        places: (batch, height, width, channels) integers, the bins of pixels.
        groups: (batch, channels).
        bins: the number of bins.

    Returns:
        The counts (batch, channels, bins), as float32, and the places in them, flattened.
    """
    batch, channels = groups
    first = ops.reshape(ops.arange(batch * channels, dtype="int32") * bins, (batch, 1, 1, channels))
    places = places + first
    flat = ops.reshape(places, (-1,))
    ones = ops.ones_like(flat, dtype="float32")
    counts = ops.segment_sum(ones, flat, batch * channels * bins)
    return ops.reshape(counts, (batch, channels, bins)), places


class Equalization(BaseImagePreprocessingLayer):
    """Even the histogram of each channel of each image out, in training.

    Args:
        value_range: the least and the largest value of a pixel.
        bins: the number of bins of a histogram.
        data_format: "channels_last" or "channels_first".

    >>> Equalization()(np.float32([[[5], [10], [10]]]))[0, :, 0].tolist()
    [0.0, 255.0, 255.0]
    """

    compiles = True

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        bins: int = 256,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.value_range = read_value_range(value_range)

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any] | None:
        """Return an empty transformation in training: nothing is random."""
        return {} if training else None

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Even the histograms of images out."""
        return equalize(ops.cast(images, "float32"), self.value_range, self.bins)


class ContrastLimitedAdaptiveHistogramEqualization(BaseImagePreprocessingLayer):
    """Even the histograms of the parts of images out, in training and elsewhere (CLAHE).

    Source: Zuiderveld, "Contrast limited adaptive histogram equalization", 1994. The images keep
    their dtype.

    Args:
        value_range: the least and the largest value of a pixel.
        clip_limit: how often a level may occur in a part, as a multiple of the average; what is
            above is given to all levels. 0 sets no limit.
        tile_grid_size: the numbers of parts down and across.
        data_format: "channels_last" or "channels_first".

    >>> layer = ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2))
    >>> layer(np.ones((1, 8, 8, 3), "uint8")).shape
    (1, 8, 8, 3)
    """

    def __init__(
        self,
        value_range: Sequence[float] = (0, 255),
        clip_limit: float = 4.0,
        tile_grid_size: Sequence[int] = (8, 8),
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def transform_images(
        self, images: Tensor, transformation: Any = None, training: bool = True
    ) -> Tensor:
        """Even the histograms of the parts of images out."""
        name = ops.dtype(images)
        out = self.in_channels_last(self._even, images)
        return ops.cast(out if dtypes.is_float(name) else ops.round(out), name)

    def _even(self, images: Tensor) -> Tensor:
        levels = to_bytes(ops.cast(images, "float32"), tuple(self.value_range))
        height, width = ops.shape(levels)[1:3]
        down, across = self.tile_grid_size
        tall, wide = -(-height // down), -(-width // across)
        pads = ((0, 0), (0, tall * down - height), (0, wide * across - width), (0, 0))
        levels = ops.cast(ops.clip(ops.pad(levels, pads, mode="symmetric"), 0, 255), "int32")
        tables = self._tables(levels, tall, wide)
        out = _interpolated(tables, levels, (tall, wide))[:, :height, :width]
        return from_bytes(out, tuple(self.value_range))

    def _tables(self, levels: Tensor, tall: Any, wide: Any) -> Tensor:
        """Return what each level becomes: (batch, tiles down, across, channels, 256)."""
        batch, channels = ops.shape(levels)[0], levels.shape[-1]
        down, across = self.tile_grid_size
        tiles = ops.reshape(levels, (batch, down, tall, across, wide, channels))
        tiles = ops.reshape(ops.transpose(tiles, (0, 1, 3, 2, 4, 5)), (-1, tall, wide, channels))
        counts, _ = _counts(tiles, (batch * down * across, channels), 256)
        area = ops.cast(tall * wide, "float32")
        if self.clip_limit > 0:
            kept = ops.minimum(counts, self.clip_limit * area / 256.0)
            counts = kept + ops.sum(counts - kept, axis=-1, keepdims=True) / 256.0
        total = ops.cumsum(counts, axis=-1)
        least = ops.min(total, axis=-1, keepdims=True)
        spread = area - least
        table = (total - least) * 255.0 / ops.where(spread == 0, 1.0, spread)
        return ops.reshape(ops.clip(table, 0, 255), (batch, down, across, channels, 256))


def _interpolated(tables: Tensor, levels: Tensor, tile: tuple) -> Tensor:
    """Look levels up in the four nearest tables, and interpolate."""
    batch, down, across, channels, _ = ops.shape(tables)
    near = []  # for rows, then columns: the tiles before and after, and the weight of the latter
    for count, size, axis in ((down, tile[0], 1), (across, tile[1], 2)):
        at = ops.arange(count * size, dtype="float32")
        at = (at - ops.cast(size, "float32") / 2.0) / ops.cast(size, "float32")
        low = ops.floor(at)
        shape = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
        ends = [ops.cast(ops.clip(v, 0, count - 1), "int32") for v in (low, low + 1.0)]
        near.append([ops.reshape(v, shape) for v in (*ends, at - low)])
    (top, bottom, below), (left, right, beside) = near
    flat = ops.reshape(tables, (-1,))
    image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1)) * (down * across)
    channel = ops.convert_to_tensor(np.arange(channels, dtype="int32")) * 256 + levels

    def look_up(row: Tensor, column: Tensor) -> Tensor:
        return ops.take(flat, (image + row * across + column) * (channels * 256) + channel)

    upper = look_up(top, left) * (1.0 - beside) + look_up(top, right) * beside
    lower = look_up(bottom, left) * (1.0 - beside) + look_up(bottom, right) * beside
    return upper * (1.0 - below) + lower * below
