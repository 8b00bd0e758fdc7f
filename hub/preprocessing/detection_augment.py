"""Augmentation of pictures with boxes by a seed, in workers: in Pillow, with one warp a picture.

`keraslite.layers` has the same as layers (`Mosaic`, `RandomAffine`, `RandomHSV`, `RandomFlip`,
`MixUp`), for batches on any backend; on NumPy they take an order of magnitude longer.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hub.preprocessing.letterbox import GREY, clip_boxes

Objects = dict[str, np.ndarray]
_MIXUP = 32.0  # the parameter of the Beta distribution, as the published recipe has it
_MAX_ASPECT = 100.0


@dataclasses.dataclass(frozen=True)
class DetectionAugment:
    """The augmentation that YOLO detectors are trained with, as a function of samples and a seed.

    Four pictures are put together around a random point (a mosaic), moved by one affine transform,
    changed in colour, flipped, and mixed with another such picture. Boxes go along: they are cut
    off at the edges, and left out if too little of them is left.

    Args:
        mosaic: the probability of four pictures in one.
        mixup: the probability that a mosaic is mixed with another one.
        degrees: the largest angle of a rotation, to either side.
        translate: the largest shift, as a part of the size.
        scale: the size is changed by a factor from 1 - scale to 1 + scale.
        shear: the largest angle of a shear in degrees, along either axis.
        hue: the largest turn of the hue, as a part of the colour circle.
        saturation: the saturation is changed by a factor from 1 - saturation to 1 + saturation.
        value: likewise the value, the largest of the three colours.
        flip: the probability that left and right change places.
        min_area: the part of a box that must be left.
        min_side: the width and height in pixels that must be left.
        fill: the value of the borders.

    Raises:
        ValueError: a value is none that the argument may have.

    >>> augment = DetectionAugment()
    >>> sample = Image.new("RGB", (32, 24)), {"boxes": [[0, 0, 30, 20]], "labels": [3]}
    >>> pixels, objects = augment([sample] * augment.pictures(seed=1), seed=1, size=(32, 32))
    >>> pixels.shape, objects["boxes"].shape[1], sorted(objects)
    ((32, 32, 3), 4, ['boxes', 'ignored', 'labels'])
    """

    mosaic: float = 1.0
    mixup: float = 0.0
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4
    flip: float = 0.5
    min_area: float = 0.1
    min_side: float = 2.0
    fill: int = GREY

    def __post_init__(self):
        limits = {"degrees": 180, "shear": 89, "scale": 0.99, "min_side": math.inf, "fill": 255}
        for name, value in dataclasses.asdict(self).items():
            limit = limits.get(name, 1)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= limit:
                raise ValueError(f"{name} must be a number from 0 to {limit}, got {value!r}.")

    def pictures(self, seed: int, closed: bool = False) -> int:
        """Return how many samples a call with a seed takes: 1, or 4 or 8 with a mosaic.

        Args:
            seed: of the call.
            closed: as for the call.
        """
        return math.prod(self._draw(np.random.default_rng(seed), closed))

    def __call__(
        self,
        samples: Sequence[tuple[Any, Mapping[str, Any]]],
        seed: int,
        size: tuple[int, int],
        closed: bool = False,
    ) -> tuple[np.ndarray, Objects]:
        """Return pixels (height, width, 3) of uint8, and the boxes that are in them.

        Args:
            samples: `pictures(seed)` of them, the first of which is that of the call: a Pillow
                image in RGB, or an array of uint8, no larger than the size, and its "boxes"
                (objects, 4) as "xyxy", "labels" (objects,) and, if there are any, which are
                "ignored" (objects,).
            seed: an int, from which all random numbers follow.
            size: the height and width of the result.
            closed: whether pictures are no longer put together, as in the last epochs.

        Raises:
            ValueError: there are fewer or more samples.
        """
        random = np.random.default_rng(seed)
        tiles, layers = self._draw(random, closed)
        if len(samples) != tiles * layers:
            raise ValueError(f"Expected {tiles * layers} samples, got {len(samples)}.")
        out = [
            self._picture([*samples[i * tiles : (i + 1) * tiles]], size, random)
            for i in range(layers)
        ]
        if layers == 1:
            return np.asarray(out[0][0]), out[0][1]
        mixed = Image.blend(out[1][0], out[0][0], random.beta(_MIXUP, _MIXUP))
        return np.asarray(mixed), _joined([objects for _, objects in out])

    def _draw(self, random: np.random.Generator, closed: bool) -> tuple[int, int]:
        """Return the numbers of pictures in a mosaic, and of mosaics that are mixed."""
        mosaic, mixup = random.random(2) < (self.mosaic, self.mixup)
        tiles = 4 if mosaic and not closed else 1
        return tiles, 2 if mixup and tiles == 4 else 1

    def _picture(
        self, samples: list[tuple], size: tuple[int, int], random: np.random.Generator
    ) -> tuple[Image.Image, Objects]:
        """Return one picture of four or of one, moved and changed in colour, and its boxes."""
        height, width = size
        whole = (2 * height, 2 * width) if len(samples) == 4 else size
        canvas = Image.new("RGB", whole[::-1], (self.fill,) * 3)
        x, y = (int(random.uniform(0.25, 0.75) * side) for side in whole[::-1])
        rows = []
        for place, (picture, objects) in enumerate(samples):
            if not isinstance(picture, Image.Image):
                picture = Image.fromarray(np.asarray(picture))
            if len(samples) == 1:
                left, top = (width - picture.width) // 2, (height - picture.height) // 2
            else:  # each touches the point with one of its corners
                left = x if place % 2 else x - picture.width
                top = y if place // 2 else y - picture.height
            canvas.paste(picture, (left, top))
            rows.append(_moved(objects, (left, top), whole))
        objects = _joined(rows)
        matrix, offset = self._affine(whole, size, random)
        picture = _warped(canvas, matrix, offset, size, self.fill)
        return self._colored(picture, random), self._visible(objects, matrix, offset, size)

    def _affine(
        self, whole: tuple[int, int], size: tuple[int, int], random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the matrix (2, 2) and the offset (2,) from points of a canvas to the result."""
        turn, across, down = np.radians(
            random.uniform(-1, 1, 3) * (self.degrees, self.shear, self.shear)
        )
        factor = random.uniform(1 - self.scale, 1 + self.scale)
        cos, sin = factor * math.cos(turn), factor * math.sin(turn)
        shear = np.array([[1, math.tan(across)], [math.tan(down), 1]])
        matrix = shear @ np.array([[cos, sin], [-sin, cos]])
        if random.random() < self.flip:
            matrix[0] *= -1
        shift = random.uniform(0.5 - self.translate, 0.5 + self.translate, 2)
        return matrix, shift * size[::-1] - matrix @ (np.array(whole[::-1]) / 2)

    def _colored(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        """Return a picture with another hue, saturation and value."""
        turn, saturation, value = random.uniform(-1, 1, 3) * (
            self.hue, self.saturation, self.value
        )  # fmt: skip
        if not (self.hue or self.saturation or self.value):
            return picture
        levels = np.arange(256)
        tables = [
            (levels + turn * 256) % 256,
            np.clip(levels * (1 + saturation), 0, 255),
            np.clip(levels * (1 + value), 0, 255),
        ]
        table = np.concatenate(tables).astype("uint8").tolist()
        return picture.convert("HSV").point(table).convert("RGB")

    def _visible(
        self, objects: Objects, matrix: np.ndarray, offset: np.ndarray, size: tuple[int, int]
    ) -> Objects:
        """Return boxes around the moved corners of boxes, without those that are hardly left."""
        corners = objects["boxes"][:, [[0, 1], [2, 1], [0, 3], [2, 3]]] @ matrix.T + offset
        moved = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        boxes = clip_boxes(moved, *size).astype("float32")
        sides, before = boxes[:, 2:] - boxes[:, :2], moved[:, 2:] - moved[:, :2]
        kept = (sides > self.min_side).all(axis=1)
        kept &= sides.prod(axis=1) > self.min_area * before.prod(axis=1)
        kept &= sides.max(axis=1) < _MAX_ASPECT * sides.min(axis=1)
        return {name: rows[kept] for name, rows in {**objects, "boxes": boxes}.items()}


def _warped(
    canvas: Image.Image, matrix: np.ndarray, offset: np.ndarray, size: tuple[int, int], fill: int
) -> Image.Image:
    """Return a picture of a size, whose points are those of the canvas moved by a matrix."""
    back = np.linalg.inv(matrix)
    columns = np.column_stack([back, -back @ offset])
    return canvas.transform(
        size[::-1], Image.Transform.AFFINE, columns.ravel().tolist(), Image.Resampling.BILINEAR,
        fillcolor=(fill,) * 3,
    )  # fmt: skip


def _moved(objects: Mapping[str, Any], by: tuple[int, int], size: tuple[int, int]) -> Objects:
    """Return objects moved to the right and down, and cut off at the edges of a canvas."""
    boxes = np.asarray(objects["boxes"], "float32").reshape(-1, 4)
    labels = np.asarray(objects["labels"], "int32")
    ignored = np.asarray(objects.get("ignored", np.zeros(len(labels))), bool)
    moved = clip_boxes(boxes + np.array(by * 2, "float32"), *size)
    kept = (moved[:, 2:] > moved[:, :2]).all(axis=1)
    return {"boxes": moved[kept], "labels": labels[kept], "ignored": ignored[kept]}


def _joined(rows: Sequence[Objects]) -> Objects:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
