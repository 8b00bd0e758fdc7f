"""Colours as pure functions of a channels-last batch of images and one number a picture.

Images are float32 in `value_range`, a pair of the least and the largest value, and so are results;
numbers are (batch,), or any shape of as many elements.
"""

from collections.abc import Sequence

from keraslite import ops
from keraslite.layers.preprocessing.image.draws import per_image
from keraslite.typing import Tensor


def brightness(images: Tensor, delta: Tensor, value_range: Sequence[float]) -> Tensor:
    """Add a number to each image."""
    return ops.clip(ops.add(images, per_image(delta)), *value_range)


def contrast(images: Tensor, factor: Tensor, value_range: Sequence[float]) -> Tensor:
    """Scale the distances from the mean of each channel."""
    mean = ops.mean(images, axis=(1, 2), keepdims=True)
    factor = per_image(factor)
    return ops.clip(images * factor + mean * (1.0 - factor), *value_range)


def degenerate(images: Tensor, factor: Tensor, value_range: Sequence[float]) -> Tensor:
    """Mix images with their grey: 0 keeps their colours, 1 leaves none."""
    grey = _grey(images)
    return ops.clip(images + per_image(factor) * (grey - images), *value_range)


def grayscale(images: Tensor, applied: Tensor) -> Tensor:
    """Make chosen images grey, in as many channels."""
    return ops.where(per_image(applied), _grey(images), images)


def _grey(images: Tensor) -> Tensor:
    """Return the grey of images, in one channel; of grey images these themselves."""
    return images if images.shape[-1] == 1 else ops.image.rgb_to_grayscale(images, "channels_last")


def _channels(images: Tensor) -> list[Tensor]:
    """Return the three channels of images, each with a last axis of size one."""
    if images.shape[-1] != 3:
        raise ValueError(f"Images must have 3 channels, got a shape of {tuple(images.shape)}.")
    return [images[..., i : i + 1] for i in range(3)]


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hues of images by a part of the colour circle."""
    red, green, blue = (channel[..., 0] for channel in _channels(images))
    top = ops.maximum(ops.maximum(red, green), blue)
    low = ops.minimum(ops.minimum(red, green), blue)
    spread = top - low
    safe = ops.where(spread > 0, spread, 1.0)
    sixth = ops.where(
        red == top,
        (green - blue) / safe,
        ops.where(green == top, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    sixth = ops.mod(sixth + per_image(shift)[..., 0] * 6.0, 6.0)
    shades = (
        ops.abs(sixth - 3.0) - 1.0,
        2.0 - ops.abs(sixth - 2.0),
        2.0 - ops.abs(sixth - 4.0),
    )
    return ops.stack([low + ops.clip(shade, 0.0, 1.0) * spread for shade in shades], axis=-1)


def saturation(images: Tensor, factor: Tensor, value_range: Sequence[float]) -> Tensor:
    """Multiply the saturation of images, up to that of a pure colour.

    With hue and value as they are, all distances from the largest channel grow alike.
    """
    red, green, blue = _channels(images)
    top = ops.maximum(ops.maximum(red, green), blue)
    spread = top - ops.minimum(ops.minimum(red, green), blue)
    largest = (top - value_range[0]) / ops.where(spread > 0, spread, 1.0)
    return top - (top - images) * ops.minimum(ops.maximum(per_image(factor), 0.0), largest)


def value(images: Tensor, factor: Tensor, value_range: Sequence[float]) -> Tensor:
    """Multiply the largest channel of each pixel, up to the largest value, with hue and saturation
    as they are.
    """
    low, high = value_range
    red, green, blue = _channels(images)
    top = ops.maximum(ops.maximum(red, green), blue) - low
    largest = (high - low) / ops.where(top > 0, top, 1.0)
    return (images - low) * ops.minimum(per_image(factor), largest) + low


def sharpness(images: Tensor, factor: Tensor, value_range: Sequence[float]) -> Tensor:
    """Mix images with smoothed ones: 0 takes these, 1 the images, and more sharpens them."""
    padded = ops.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    # Weights of 1/13 around 5/13.
    smooth = total * (1.0 / 13.0) + images * (4.0 / 13.0)
    return ops.clip(smooth + per_image(factor) * (images - smooth), *value_range)


def invert(images: Tensor, applied: Tensor, value_range: Sequence[float]) -> Tensor:
    """Turn chosen images into their negatives."""
    return ops.where(per_image(applied), value_range[1] - images, images)


def posterize(images: Tensor, shift: Tensor, value_range: Sequence[float]) -> Tensor:
    """Drop the lowest bits of images, of 8."""
    step = per_image(ops.exp2(ops.cast(shift, "float32")))
    return from_bytes(ops.floor(to_bytes(images, value_range) / step) * step, value_range)


def solarize(
    images: Tensor, addition: Tensor, threshold: Tensor, value_range: Sequence[float]
) -> Tensor:
    """Add a number from [0, 255], then invert what is not below a threshold from [0, 255]."""
    levels = ops.clip(to_bytes(images, value_range) + per_image(addition), 0.0, 255.0)
    levels = ops.where(ops.less(levels, per_image(threshold)), levels, 255.0 - levels)
    return from_bytes(levels, value_range)


def autocontrast(images: Tensor, value_range: Sequence[float]) -> Tensor:
    """Stretch each channel of each image to the whole range of values; one colour stays."""
    low = ops.min(images, axis=(1, 2), keepdims=True)
    spread = ops.max(images, axis=(1, 2), keepdims=True) - low
    flat = ops.equal(spread, 0)
    scale = (value_range[1] - value_range[0]) / ops.where(flat, 1.0, spread)
    stretched = ops.clip((images - low) * scale + value_range[0], *value_range)
    return ops.where(flat, images, stretched)


def to_bytes(images: Tensor, value_range: Sequence[float]) -> Tensor:
    """Scale images to [0, 255]."""
    low, high = value_range
    return images if (low, high) == (0, 255) else (images - low) * (255.0 / (high - low))


def from_bytes(images: Tensor, value_range: Sequence[float]) -> Tensor:
    """Scale images from [0, 255] to their range."""
    low, high = value_range
    return images if (low, high) == (0, 255) else images * ((high - low) / 255.0) + low
