"""Layers that move pixels by one projective matrix a picture, and boxes and masks by the same.

Boxes are measured from edge to edge: pixel i reaches from i to i + 1 and its centre is at i + 1/2,
where the matrix, which is for centres, has i.
"""

from typing import Any

import numpy as np

from keraslite import ops
from keraslite.layers.preprocessing.image.base import BaseImagePreprocessingLayer, ImageSize
from keraslite.layers.preprocessing.image.draws import between, check_option, chosen, read_range
from keraslite.ops.image.warping import homography
from keraslite.typing import Tensor

_FILL_MODES = ("reflect", "wrap", "constant", "nearest")
_FLIPS = {
    "horizontal": ("horizontal",),
    "vertical": ("vertical",),
    "horizontal_and_vertical": ("horizontal", "vertical"),
}
_INTERPOLATIONS = ("nearest", "bilinear")


class RandomFlip(BaseImagePreprocessingLayer):
    """Flip half of the images in training, at random.

    Each picture is flipped with a probability of 1/2 along each axis, independently.

    Args:
        mode: "horizontal" (left and right change places), "vertical", or
            "horizontal_and_vertical".
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
    >>> RandomFlip("horizontal", seed=1)(x, training=False).shape
    (1, 2, 2, 1)
    """

    draws = 2

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        if mode not in _FLIPS:
            raise ValueError(f"`mode` must be one of {sorted(_FLIPS)}, got mode={mode!r}.")
        self.set_arguments(locals())
        self._axes = _FLIPS[mode]

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Say which pictures are flipped along which axis."""
        flips = dict(zip(("horizontal", "vertical"), [ops.less(u, 0.5) for u in units]))
        flips = {axis: flips[axis] for axis in self._axes}
        return {**flips, "height": size.height, "width": size.width}

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Flip images by reversing them."""
        for axis in self._axes:
            flipped = ops.flip(images, 2 if axis == "horizontal" else 1)
            which = ops.reshape(transformation[axis], (-1, 1, 1, 1))
            images = ops.where(which, flipped, images)
        return images

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Flip masks as the images."""
        return self.change_images(masks, transformation)

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Flip boxes with the images."""
        height, width = transformation["height"], transformation["width"]

        def flip(boxes: Tensor) -> Tensor:
            x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
            w, h = ops.cast(width, boxes.dtype), ops.cast(height, boxes.dtype)
            if "horizontal" in self._axes:
                flipped = ops.reshape(transformation["horizontal"], (-1, 1))
                x1, x2 = ops.where(flipped, w - x2, x1), ops.where(flipped, w - x1, x2)
            if "vertical" in self._axes:
                flipped = ops.reshape(transformation["vertical"], (-1, 1))
                y1, y2 = ops.where(flipped, h - y2, y1), ops.where(flipped, h - y1, y2)
            return ops.stack([x1, y1, x2, y2], axis=-1)

        return self.move_boxes(bounding_boxes, flip, (height, width), (height, width))


class GeometricLayer(BaseImagePreprocessingLayer):
    """Move the pixels of images by a matrix each: `draw` gives it as "matrix" (batch, 8).

    The matrix takes a pixel of the result to a point of the image, as for
    `ops.image.affine_transform`; the transformation has the "height" and "width" too.
    """

    compiles = True
    fill_mode = "constant"

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Check the ways of filling and of interpolation."""
        for name, choices in (("fill_mode", _FILL_MODES), ("interpolation", _INTERPOLATIONS)):
            check_option(name, arguments.get(name, choices[0]), choices)
        super().set_arguments(arguments)

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: Any = None
    ) -> dict[str, Any] | None:
        """Draw a matrix a picture."""
        out = super().get_random_transformation(data, training, seed)
        if out is None:
            return None
        size = self.size_of(data)
        return {**out, "height": size.height, "width": size.width}

    def change_images(self, images: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Warp images."""
        return self._warp(ops.cast(images, "float32"), transformation, self.interpolation)

    def change_masks(self, masks: Tensor, transformation: dict[str, Any]) -> Tensor:
        """Warp masks as the images, without values between those they have."""
        return self._warp(masks, transformation, "nearest")

    def _warp(self, images: Tensor, transformation: dict[str, Any], interpolation: str) -> Tensor:
        return ops.image.affine_transform(
            images, transformation["matrix"], interpolation, self.fill_mode, self.fill_value,
            "channels_last",
        )  # fmt: skip

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return the boxes around the warped corners of boxes."""
        size = transformation["height"], transformation["width"]
        return self.move_boxes(
            bounding_boxes, lambda x: move_corners(x, transformation["matrix"]), size, size
        )


def move_corners(boxes: Tensor, matrix: Tensor) -> Tensor:
    """Return the smallest boxes around the corners of boxes after a warp of their images.

    Args:
        boxes: (batch, boxes, 4) as "xyxy".
        matrix: (batch, 8), from pixels of the result to those of the image.
    """
    a, b, c, d, e, f, g, h = (ops.reshape(matrix[:, i], (-1, 1, 1)) for i in range(8))
    left, top, right, bottom = (boxes[..., i] - 0.5 for i in range(4))
    x = ops.stack([left, right, left, right], axis=-1)
    y = ops.stack([top, top, bottom, bottom], axis=-1)
    # The inverse of a 3x3 matrix up to its scale, which is divided out.
    below = (d * h - e * g) * x + (b * g - a * h) * y + (a * e - b * d)
    moved_x = ((e - f * h) * x + (c * h - b) * y + (b * f - c * e)) / below + 0.5
    moved_y = ((f * g - d) * x + (a - c * g) * y + (c * d - a * f)) / below + 0.5
    corners = [moved_x, moved_y]
    return ops.stack(
        [ops.min(v, axis=-1) for v in corners] + [ops.max(v, axis=-1) for v in corners], axis=-1
    )


def _matrix(*rows: Any) -> Tensor:
    """Stack the eight numbers of matrices, each (batch,) or a plain number."""
    like = next(x for x in rows if hasattr(x, "shape"))
    return ops.stack([x if hasattr(x, "shape") else ops.full_like(like, x) for x in rows], axis=-1)


class RandomRotation(GeometricLayer):
    """Rotate images about their centre in training, each by an angle of its own.

    Args:
        factor: the range of the angle, in full turns: a number for (-factor, factor), or a pair
            from [-1, 1]. A positive angle turns counter-clockwise.
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "wrap" (the
            image again), "constant" or "nearest" (the last pixel).
        interpolation: "bilinear" or "nearest".
        seed: an int.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first".

    >>> RandomRotation(0.1)(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    draws = 1

    def __init__(
        self,
        factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "angle" in degrees, and the "matrix"."""
        angle = between(units[0], [360.0 * turns for turns in self.factor])
        return {"angle": angle, "matrix": rotation_matrix(angle, size.height, size.width)}


def rotation_matrix(angle: Tensor, height: Any, width: Any) -> Tensor:
    """Return the matrices (batch, 8) that rotate images about their centre by degrees."""
    turn = angle * (3.141592653589793 / 180.0)
    cos, sin = ops.cos(turn), ops.sin(turn)
    x, y = ((ops.cast(n, "float32") - 1.0) * 0.5 for n in (width, height))
    return _matrix(cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos, 0.0, 0.0)


class RandomTranslation(GeometricLayer):
    """Shift images in training, each by a distance of its own.

    Args:
        height_factor: the range of the shift down, as a part of the height: a number for
            (-factor, factor), or a pair from [-1, 1].
        width_factor: likewise to the right.
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "wrap" (the
            image again), "constant" or "nearest" (the last pixel).
        interpolation: "bilinear" or "nearest".
        seed: an int.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first".

    >>> RandomTranslation(0.1, 0.1)(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    draws = 2

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self._height = read_range(height_factor, -1, 1, "height_factor")
        self._width = read_range(width_factor, -1, 1, "width_factor")

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "translations" (batch, 2) to the right and down, and the "matrix"."""
        down = between(units[0], self._height) * ops.cast(size.height, "float32")
        right = between(units[1], self._width) * ops.cast(size.width, "float32")
        return {
            "translations": ops.stack([right, down], axis=1),
            "matrix": _matrix(1.0, 0.0, -right, 0.0, 1.0, -down, 0.0, 0.0),
        }


class RandomZoom(GeometricLayer):
    """Zoom into images or out of them in training, each by a factor of its own.

    Args:
        height_factor: the range of the change of the height: a number for (-factor, factor), or a
            pair from (-1, 1]. Positive ones zoom out, negative ones in.
        width_factor: likewise of the width; None keeps the aspect ratio.
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "wrap" (the
            image again), "constant" or "nearest" (the last pixel).
        interpolation: "bilinear" or "nearest".
        seed: an int.
        fill_value: the constant.
        data_format: "channels_last" or "channels_first".

    >>> RandomZoom((-0.2, 0.0))(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    draws = 2

    def __init__(
        self,
        height_factor: Any,
        width_factor: Any = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self._ranges = [
            read_range(value, -1, 1, name)
            for name, value in (("height_factor", height_factor), ("width_factor", width_factor))
            if value is not None
        ]
        if any(low <= -1 for low, _ in self._ranges):
            raise ValueError(
                "`height_factor` and `width_factor` must be greater than -1, got "
                f"{height_factor!r} and {width_factor!r}."
            )

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "height_zoom" and the "width_zoom", and the "matrix"."""
        zooms = [
            between(unit, (1.0 + low, 1.0 + high))
            for unit, (low, high) in zip(units, self._ranges, strict=False)
        ]
        down, across = zooms[0], zooms[-1]
        x, y = ((ops.cast(n, "float32") - 1.0) * 0.5 for n in (size.width, size.height))
        offsets = x * (1.0 - across), y * (1.0 - down)
        matrix = _matrix(across, 0.0, offsets[0], 0.0, down, offsets[1], 0.0, 0.0)
        return {"height_zoom": down, "width_zoom": across, "matrix": matrix}


class RandomShear(GeometricLayer):
    """Shear images in training, each by factors of its own, to either side.

    Args:
        x_factor: the range of the shift to the right for each pixel down: a number for
            (-factor, factor), or a pair from [-1, 1].
        y_factor: likewise of the shift down for each pixel to the right.
        interpolation: "bilinear" or "nearest".
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "wrap" (the
            image again), "constant" or "nearest" (the last pixel).
        fill_value: the constant.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    >>> RandomShear(0.2)(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    draws = 3

    def __init__(
        self,
        x_factor: Any = 0.0,
        y_factor: Any = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        self.x_factor = read_range(x_factor, -1, 1, "x_factor")
        self.y_factor = read_range(y_factor, -1, 1, "y_factor")

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "shear_factor" (batch, 2) along x and y, and the "matrix"."""
        sign = ops.where(ops.greater(units[2], 0.5), -1.0, 1.0)
        x = between(units[0], self.x_factor) * sign
        y = between(units[1], self.y_factor) * sign
        return {
            "shear_factor": ops.stack([x, y], axis=1),
            "matrix": _matrix(1.0, x, 0.0, y, 1.0, 0.0, 0.0, 0.0),
        }


class RandomAffine(GeometricLayer):
    """Rotate, scale, shear and shift images in training, by one warp each.

    Args:
        degrees: the range of the angle, counter-clockwise: a number for (-degrees, degrees), or a
            pair.
        translate: the range of the shifts to the right and down, as parts of the width and height:
            a number for (-translate, translate), or a pair from [-1, 1].
        scale: the range of the change of the size: a number from [0, 1) for
            (1 - scale, 1 + scale), or a pair of factors.
        shear: the range of the angles of shear along either axis, in degrees: a number for
            (-shear, shear), or a pair from (-90, 90).
        min_area: the part of its area that a box must keep to be in the result.
        interpolation: "bilinear" or "nearest".
        fill_mode: what stands beyond the edges: "reflect" (the image about its edge), "wrap" (the
            image again), "constant" or "nearest" (the last pixel).
        fill_value: the constant.
        data_format: "channels_last" or "channels_first".
        seed: an int.

    Raises:
        ValueError: an argument is out of its range.

    >>> layer = RandomAffine(degrees=10.0, translate=0.1, scale=0.5, fill_value=114.0)
    >>> layer(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    draws = 6

    def __init__(
        self,
        degrees: Any = 0.0,
        translate: Any = 0.1,
        scale: Any = 0.5,
        shear: Any = 0.0,
        min_area: float = 0.1,
        interpolation: str = "bilinear",
        fill_mode: str = "constant",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not 0 <= min_area < 1:
            raise ValueError(f"`min_area` must be a number from [0, 1), got min_area={min_area!r}.")
        self.set_arguments(locals())
        pair = scale if isinstance(scale, list | tuple) else (1 - scale, 1 + scale)
        self._ranges = [
            read_range(degrees, -360, 360, "degrees"),
            read_range(translate, -1, 1, "translate"),
            read_range(translate, -1, 1, "translate"),
            read_range(pair, 1e-3, 1e3, "scale"),
            read_range(shear, -89, 89, "shear"),
            read_range(shear, -89, 89, "shear"),
        ]

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "angle", "translations", "scale" and "shear", and the "matrix"."""
        angle, right, down, factor, across, along = (
            between(unit, limits) for unit, limits in zip(units, self._ranges, strict=True)
        )
        width, height = (ops.cast(n, "float32") for n in (size.width, size.height))
        right, down = right * width, down * height
        turn, across_y, along_x = (v * np.float32(np.pi / 180) for v in (angle, across, along))
        cos, sin = factor * ops.cos(turn), factor * ops.sin(turn)
        x_by_y, y_by_x = ops.tan(across_y), ops.tan(along_x)
        # From the image to the result: the rotation, then the shear.
        a, b = cos - x_by_y * sin, sin + x_by_y * cos
        c, d = y_by_x * cos - sin, y_by_x * sin + cos
        scale = 1.0 / (a * d - b * c)
        a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
        x, y = (width - 1.0) * 0.5, (height - 1.0) * 0.5
        left = x - a * (x + right) - b * (y + down)
        top = y - c * (x + right) - d * (y + down)
        return {
            "angle": angle, "translations": ops.stack([right, down], axis=1), "scale": factor,
            "shear": ops.stack([across, along], axis=1),
            "matrix": _matrix(a, b, left, c, d, top, 0.0, 0.0),
        }  # fmt: skip

    def change_boxes(
        self, bounding_boxes: dict[str, Tensor], transformation: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Return boxes around the moved corners of boxes, without those that are hardly left."""
        size = transformation["height"], transformation["width"]
        matrix = transformation["matrix"]
        return self.move_boxes(
            bounding_boxes, lambda x: move_corners(x, matrix), size, size, self.min_area
        )


class RandomPerspective(GeometricLayer):
    """Look at images from another side in training: their corners move at random.

    Args:
        factor: the probability that a picture is changed: a number for (0, factor), or the range
            it is drawn from itself.
        scale: how far a corner moves at most, from 0 to 1, as a part of its distance from the
            corner at the top left, to either side of 1/2 of that.
        interpolation: "bilinear" or "nearest".
        fill_value: the value beyond the edges.
        seed: an int.
        data_format: "channels_last" or "channels_first".

    >>> RandomPerspective(scale=0.3)(np.ones((2, 4, 4, 3), "float32")).shape
    (2, 4, 4, 3)
    """

    factor_bounds = (0, 1)
    draws = 10

    def __init__(
        self,
        factor: Any = 1.0,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        if not 0 <= scale <= 1:
            raise ValueError(f"`scale` must be a number from [0, 1], got scale={scale!r}.")
        self.set_arguments(locals())

    def parameters(self, size: ImageSize, *units: Tensor) -> dict[str, Any]:
        """Return the "start_points" and "end_points" (batch, 4, 2), and the "matrix"."""
        applied = chosen(*units[:2], self.factor)
        moves = [between(unit, (-0.5 * self.scale, 0.5 * self.scale)) for unit in units[2:]]
        right, bottom = (ops.cast(n, "float32") - 1.0 for n in (size.width, size.height))
        corners = [(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)]
        zero = ops.zeros_like(moves[0])
        start = ops.stack([zero + v for point in corners for v in point], axis=1)
        end = start * (1.0 + ops.stack(moves, axis=1))
        start, end = (ops.reshape(v, (-1, 4, 2)) for v in (start, end))
        identity = ops.convert_to_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], "float32")
        matrix = ops.where(ops.expand_dims(applied, 1), homography(end, start), identity)
        return {
            "apply_perspective": applied, "start_points": start, "end_points": end,
            "matrix": matrix,
        }  # fmt: skip
