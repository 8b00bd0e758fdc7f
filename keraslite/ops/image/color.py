"""Color spaces of images."""

from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.ops import numpy as k
from keraslite.ops.core import cast, dtype
from keraslite.ops.layout import is_channels_first
from keraslite.ops.op import op
from keraslite.typing import Tensor


def _channels(images: Any, name: str, data_format: str | None) -> tuple[Any, int]:
    """Check for three channels; return the images and the axis of the channels."""
    if len(images.shape) not in (3, 4):
        raise ValueError(
            f"images must have 3 dimensions, or 4 in a batch, got a shape of {tuple(images.shape)}."
        )
    axis = -3 if is_channels_first(data_format) else -1
    if images.shape[axis] not in (3, None):
        raise ValueError(
            f"{name}: images must have 3 channels on axis {axis}, got {tuple(images.shape)}."
        )
    return images, axis


@op("same")
def rgb_to_grayscale(images: Tensor, data_format: str | None = None) -> Tensor:
    """Convert RGB images to one channel: 0.2989 red + 0.587 green + 0.114 blue.

    Args:
        images: (height, width, 3), or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> rgb_to_grayscale(np.ones((4, 5, 3))).shape
    (4, 5, 1)
    """
    images, axis = _channels(images, "rgb_to_grayscale", data_format)
    name = dtype(images)
    x = images if dtypes.is_float(name) else cast(images, "float32")
    shares = np.float32([[0.2989], [0.5870], [0.1140]])
    if axis == -1:  # a product is several times as fast as a sum over three channels
        return cast(k.matmul(x, cast(shares, x.dtype)), name)
    return cast(k.sum(x * cast(shares[..., None], x.dtype), axis=axis, keepdims=True), name)


@op("float")
def rgb_to_hsv(images: Tensor, data_format: str | None = None) -> Tensor:
    """Convert RGB images to hue, saturation and value, each in [0, 1].

    Args:
        images: (height, width, 3) of red, green and blue from [0, 1], or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(rgb_to_hsv(np.float32([[[0.0, 1.0, 0.0]]])))[0, 0, 1:].tolist()
    [1.0, 1.0]
    """
    images, axis = _channels(images, "rgb_to_hsv", data_format)
    red, green, blue = (k.take(images, i, axis=axis) for i in range(3))
    value = k.maximum(k.maximum(red, green), blue)
    spread = value - k.minimum(k.minimum(red, green), blue)
    grey = spread == 0
    safe = k.where(grey, k.ones_like(spread), spread)
    saturation = k.where(value > 0, spread / k.where(value > 0, value, k.ones_like(value)), 0.0)
    hue = k.where(
        red == value,
        (green - blue) / safe,
        k.where(green == value, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    hue = k.where(grey, 0.0, hue / 6.0)
    return k.stack([k.where(hue < 0, hue + 1.0, hue), saturation, value], axis=axis)


@op("float")
def hsv_to_rgb(images: Tensor, data_format: str | None = None) -> Tensor:
    """Convert hue, saturation and value to RGB, each in [0, 1]: the inverse of `rgb_to_hsv`.

    Args:
        images: (height, width, 3) of hue, saturation and value from [0, 1], or a batch of them.
        data_format: "channels_last" or "channels_first"; the configured one by default.

    >>> np.asarray(hsv_to_rgb(np.float32([[[0.0, 1.0, 0.5]]])))[0, 0].tolist()
    [0.5, 0.0, 0.0]
    """
    images, axis = _channels(images, "hsv_to_rgb", data_format)
    hue, saturation, value = (k.take(images, i, axis=axis) for i in range(3))
    hue = k.mod(hue, 1.0) * 6.0
    shades = (
        k.clip(k.abs(hue - 3.0) - 1.0, 0.0, 1.0),
        k.clip(2.0 - k.abs(hue - 2.0), 0.0, 1.0),
        k.clip(2.0 - k.abs(hue - 4.0), 0.0, 1.0),
    )
    return k.stack([value * (1.0 - saturation + shade * saturation) for shade in shades], axis=axis)


__all__ = ["hsv_to_rgb", "rgb_to_grayscale", "rgb_to_hsv"]
