"""Layers that blur, distort and erase parts of images in training."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import ops, random
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.layers.preprocessing.image.draws import (
    between,
    check_option,
    chosen,
    per_image,
    read_range,
    streams,
    uniform,
)
from keraslite.ops.image.warping import warp
from keraslite.typing import Tensor


class RandomGaussianBlur(BaseImagePreprocessingLayer):
    """Blur images in training, each by a width of its own.

    Args:
        factor: the probability of an image: a number for (0, factor), or the range it is drawn
            from itself.
        kernel_size: the size of the filter, odd; a number, or one across and one down.
        sigma: the range of its width in pixels, across and down: a number for (0, sigma), or a
            pair from [0, 1].
        value_range: the least and the largest value of a pixel.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomGaussianBlur()(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    compiles = True
    factor_bounds = (0, 1)
    draws = 4

    def __init__(
        self,
        factor: Any = 1.0,
        kernel_size: Any = 3,
        sigma: Any = 1.0,
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        sizes = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(sizes) != 2 or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(
                f"`kernel_size` must be an odd number, or two of them, got {kernel_size!r}."
            )
        self.kernel_size = sizes
        self.sigma = read_range(sigma, 0, 1, "sigma")

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "blur_factor" (batch, 2) across and down, and which images are blurred."""
        widths = [between(unit, self.sigma) for unit in units[2:]]
        return {
            "should_apply_blur": chosen(*units[:2], self.factor),
            "blur_factor": ops.stack(widths, axis=1) + 1e-6,
        }

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Blur the chosen images."""
        images = ops.cast(images, "float32")
        blurred = images
        for i, axis in enumerate((2, 1)):
            sigma = transformation["blur_factor"][:, i]
            blurred = _blur_along(blurred, axis, self.kernel_size[i], sigma)
        applied = per_image(transformation["should_apply_blur"])
        return ops.clip(ops.where(applied, blurred, images), *self.value_range)


def _blur_along(images: Tensor, axis: int, length: int, sigma: Tensor) -> Tensor:
    """Blur each image along an axis by a Gaussian of its own; beyond the edges are zeros."""
    steps = np.arange(length, dtype="float32") - np.float32((length - 1) / 2)
    weights = ops.exp(-0.5 * ops.square(ops.divide(steps, ops.expand_dims(sigma, 1))))
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    pads = [(0, 0)] * 4
    pads[axis] = (length // 2, length // 2)
    padded, size = ops.pad(images, pads), ops.shape(images)[axis]
    total = None
    for i in range(length):
        part = padded[:, i : i + size] if axis == 1 else padded[:, :, i : i + size]
        part = part * per_image(weights[:, i])
        total = part if total is None else total + part
    return total


class RandomElasticTransform(BaseImagePreprocessingLayer):
    """Distort images by smooth random displacements in training (Simard et al., 2003).

    Args:
        factor: the probability of an image: a number for (0, factor), or the range it is drawn
            from itself.
        scale: the range of the strength: a number for (0, scale), or a pair from [0, 1].
        interpolation: "bilinear" or "nearest".
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "mirror"
            (about its last pixel), "wrap" (the image again), "constant" or "nearest".
        fill_value: the constant.
        value_range: the least and the largest value of a pixel.
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> RandomElasticTransform()(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    compiles = True
    factor_bounds = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = 1.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        check_option("interpolation", interpolation, ("nearest", "bilinear"))
        check_option("fill_mode", fill_mode, ("constant", "nearest", "wrap", "mirror", "reflect"))
        self.set_arguments(locals())
        self.scale = read_range(scale, 0, 1, "scale")

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "rows" and "columns" (batch, height, width) where pixels are taken from."""
        first, second = streams(seed, 2)
        *choice, unit = uniform(first, size.batch, 3)
        applied, strength = chosen(*choice, self.factor), between(unit, self.scale)
        height, width = (ops.cast(n, "float32") for n in size[1:3])
        alpha = 0.1 * strength * ops.maximum(height, width)
        sigma = 0.05 * strength * ops.minimum(height, width) + 1e-6
        noise = random.normal((2, size.batch, *size[1:3]), dtype="float32", seed=second)
        noise = noise * ops.reshape(sigma, (1, -1, 1, 1))
        down, across = (_gaussians(n, sigma) for n in size[1:3])
        smooth = ops.matmul(ops.matmul(down, noise), across)
        # A picture that stays has no displacements.
        moved = smooth * ops.reshape(ops.where(applied, alpha, 0.0), (1, -1, 1, 1))
        rows, columns = (ops.arange(n, dtype="float32") for n in size[1:3])
        return {"rows": ops.expand_dims(rows, 1) + moved[1], "columns": columns + moved[0]}

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Distort images."""
        warped = self._warp(ops.cast(images, "float32"), transformation, self.interpolation)
        return ops.clip(warped, *self.value_range)

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Distort masks as the images, without values between those they have."""
        return self._warp(masks, transformation, "nearest")

    def _warp(self, images: Tensor, transformation: dict[str, Any], interpolation: str) -> Tensor:
        name = ops.dtype(images)
        warped = warp(
            ops.cast(images, "float32"), transformation["rows"], transformation["columns"],
            interpolation, self.fill_mode, self.fill_value,
        )  # fmt: skip
        return ops.cast(warped, name)

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return the boxes around all pixels that come from inside of boxes."""
        rows, columns = transformation["rows"], transformation["columns"]
        size = ops.shape(rows)[1:]

        def move(boxes: Tensor) -> Tensor:
            x1, y1, x2, y2 = (ops.expand_dims(boxes[..., i : i + 1], -1) for i in range(4))
            x, y = ops.expand_dims(columns, 1) + 0.5, ops.expand_dims(rows, 1) + 0.5
            inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)  # (batch, boxes, height, width)
            ends = [_extent(ops.any(inside, axis=axis)) for axis in (2, 3)]
            return ops.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], axis=-1)

        return self.move_boxes(bounding_boxes, move, size, size)


def _gaussians(length: Any, sigma: Tensor) -> Tensor:
    """Return (batch, length, length) matrices that blur an axis, each by a width of its own."""
    at = ops.arange(length, dtype="float32")
    distance = ops.expand_dims(at, 1) - at
    sigma = ops.reshape(sigma, (-1, 1, 1))
    # Cut off at three widths. The weights of a whole kernel sum to 1: beyond the edges are zeros.
    reach = ops.floor(3.0 * sigma)
    weights = ops.where(
        ops.abs(distance) <= reach, ops.exp(-0.5 * ops.square(distance / sigma)), 0.0
    )
    half = ops.where(at <= reach[..., 0], ops.exp(-0.5 * ops.square(at / sigma[..., 0])), 0.0)
    total = 2.0 * ops.sum(half, axis=-1) - 1.0
    return weights / ops.reshape(total, (-1, 1, 1))


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and one past the last True of each row of (..., length); 0, 0 if none."""
    length = ops.shape(used)[-1]
    at = ops.arange(length, dtype="float32")
    last = ops.max(ops.where(used, at + 1.0, 0.0), axis=-1)
    first = ops.min(ops.where(used, at, ops.cast(length, "float32")), axis=-1)
    return ops.minimum(first, last), last


class RandomErasing(BaseImagePreprocessingLayer):
    """Erase a rectangle of images in training, each of a size and place of its own.

    Source: https://arxiv.org/abs/1708.04896

    Args:
        factor: the probability of an image: a number for (0, factor), or the range it is drawn
            from itself.
        scale: the range of the area, as a part of the image's: a number for (0, scale), or a pair
            from [0, 1].
        fill_value: a number, one for each of three channels, or None for noise.
        value_range: the least and the largest value of a pixel.
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> RandomErasing(fill_value=0)(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    compiles = True
    factor_bounds = (0, 1)

    def __init__(
        self,
        factor: Any = 1.0,
        scale: Any = (0.02, 0.33),
        fill_value: Any = None,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        if not (fill_value is None or np.shape(fill_value) in ((), (3,))):
            raise ValueError(
                f"`fill_value` must be a number, three of them or None, got {fill_value!r}."
            )
        self.set_arguments(locals())
        self.scale = read_range(scale, 0, 1, "scale")

    def draw(self, size: ImageSize, seed: Any) -> dict[str, Any]:
        """Draw the "rectangles" (batch, 4), which images lose them, and what noise they get."""
        first, second = streams(seed, 2)
        units = uniform(first, size.batch, 6)
        sides = [ops.sqrt(between(unit, self.scale)) for unit in units[2:4]]
        out = {
            "apply_erasing": chosen(*units[:2], self.factor),
            "rectangles": random_rectangles(size, *sides, *units[4:]),
        }
        if self.fill_value is None:
            out["noise"] = self._noise(size, second)
        return out

    def _noise(self, size: ImageSize, seed: Any) -> Tensor:
        """Return noise for the images: repeated, but no value twice in the largest rectangle."""
        part = max(math.sqrt(self.scale[1]), 1e-2)
        height, width = (
            math.ceil(n * part) if isinstance(n, int)
            else ops.cast(ops.ceil(ops.cast(n, "float32") * part), "int32")
            for n in size[1:3]
        )  # fmt: skip
        shape = size.batch, height, width, size.channels
        noise = random.normal(shape, dtype="float32", seed=seed)
        noise = ops.clip(noise * self.value_range[1], *self.value_range)
        repeats = math.ceil(1 / part)
        return ops.tile(noise, (1, repeats, repeats, 1))[:, : size.height, : size.width]

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Erase the rectangles of the chosen images."""
        images = ops.cast(images, "float32")
        fill = transformation.get("noise")
        if fill is None:
            fill = np.clip(np.asarray(self.fill_value, "float32"), *self.value_range)
            fill = ops.convert_to_tensor(fill)
        height, width = ops.shape(images)[1:3]
        inside = inside_rectangles(transformation["rectangles"], height, width)
        erased = ops.logical_and(inside, per_image(transformation["apply_erasing"]))
        return ops.where(erased, fill, images)


def random_rectangles(
    size: ImageSize, across: Tensor, down: Tensor, left: Tensor, top: Tensor
) -> Tensor:
    """Return rectangles (batch, 4) as "xyxy" in images.

    Args:
        size: of the images.
        across: the widths, as parts of the image's.
        down: the heights, likewise.
        left: where they are, from 0 (at the left) to 1 (at the right).
        top: likewise, from the top.
    """
    height, width = (ops.cast(n, "float32") for n in size[1:3])
    wide, tall = across * width, down * height
    x, y = left * (width - wide), top * (height - tall)
    return ops.stack([x, y, x + wide, y + tall], axis=1)


def inside_rectangles(rectangles: Tensor, height: Any, width: Any) -> Tensor:
    """Return which pixels begin inside of a rectangle, as booleans (batch, height, width, 1).

    Args:
        rectangles: (batch, 4) as "xyxy".
        height: of the images.
        width: likewise.
    """
    x1, y1, x2, y2 = (per_image(rectangles[:, i]) for i in range(4))
    rows = ops.reshape(ops.arange(height, dtype="float32"), (1, -1, 1, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32"), (1, 1, -1, 1))
    rows = ops.logical_and(rows >= y1, rows < y2)
    return ops.logical_and(rows, ops.logical_and(columns >= x1, columns < x2))
