"""Points and crops of a picture that is segmented as a whole.

Points lie on a regular grid; the network may look at the picture again in overlapping crops, in
layers of smaller and smaller ones (Kirillov et al., "Segment Anything", 2023, appendix B).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

OVERLAP_RATIO = 512 / 1500  # of the authors


class Crop(NamedTuple):
    """A part of a picture, and the points that are asked about there.

    Args:
        box: left, top, right and bottom in pixels of the picture; the last two lie outside.
        layer: its number, from 0 on, which is the whole picture.
        points: (points, 2), x and y in pixels of the crop, of float32.
    """

    box: tuple[int, int, int, int]
    layer: int
    points: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crop."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]


def point_grid(points_per_side: int) -> np.ndarray:
    """Return points evenly spaced in the unit square, row by row, (points_per_side ** 2, 2).

    Args:
        points_per_side: the number of points along each side.

    Raises:
        ValueError: it is not positive.

    >>> point_grid(2).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    if points_per_side < 1:
        raise ValueError(f"points_per_side must be at least 1, got {points_per_side}.")
    side = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def crop_boxes(
    size: Sequence[int], crop_n_layers: int = 0, crop_overlap_ratio: float = OVERLAP_RATIO
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of a picture and of its overlapping crops.

    Layer n has 2 ** n crops along each side. Those of layer 1 overlap by a part of the shorter
    side of the picture, those of later layers by less, as there are more of them.

    Args:
        size: height and width of the picture.
        crop_n_layers: the number of layers beside layer 0, which is the whole picture.
        crop_overlap_ratio: the overlap in layer 1, from 0 to 1.

    Returns:
        Boxes (crops, 4), "xyxy", and the layer of each (crops,), both of ints.

    Raises:
        ValueError: a value is out of range, or the crops of a layer would be empty.

    >>> boxes, layers = crop_boxes((60, 100), 1, 0.2)
    >>> boxes.tolist()
    [[0, 0, 100, 60], [0, 0, 56, 36], [0, 24, 56, 60], [44, 0, 100, 36], [44, 24, 100, 60]]
    >>> layers.tolist()
    [0, 1, 1, 1, 1]
    """
    height, width = (int(side) for side in size)
    if crop_n_layers < 0 or not 0 <= crop_overlap_ratio < 1:
        raise ValueError(
            "crop_n_layers must be at least 0, and crop_overlap_ratio from 0 to 1 without 1, got "
            f"{crop_n_layers} and {crop_overlap_ratio}."
        )
    boxes, layers = [(0, 0, width, height)], [0]
    for layer in range(1, crop_n_layers + 1):
        count = 2**layer
        overlap = int(crop_overlap_ratio * min(height, width) * 2 / count)
        # As wide as it takes to cover the side: -(-a // b) rounds up.
        crop_width = -(-(overlap * (count - 1) + width) // count)
        crop_height = -(-(overlap * (count - 1) + height) // count)
        lefts = [(crop_width - overlap) * i for i in range(count)]
        tops = [(crop_height - overlap) * i for i in range(count)]
        if max(lefts) >= width or max(tops) >= height:
            raise ValueError(
                f"A picture of {height} x {width} pixels is too small for {crop_n_layers} layers "
                f"of crops: layer {layer} has {count} along a side."
            )
        boxes += [
            (left, top, min(left + crop_width, width), min(top + crop_height, height))
            for left in lefts for top in tops
        ]  # fmt: skip
        layers += [layer] * count**2
    return np.array(boxes), np.array(layers)


def crops(
    size: Sequence[int],
    points_per_side: int = 32,
    crop_n_layers: int = 0,
    crop_overlap_ratio: float = OVERLAP_RATIO,
    crop_n_points_downscale_factor: int = 1,
) -> Iterator[Crop]:
    """Yield the crops of a picture, each with its points.

    Args:
        size: height and width of the picture.
        points_per_side: the number of points along each side of the whole picture.
        crop_n_layers: as for `crop_boxes`.
        crop_overlap_ratio: likewise.
        crop_n_points_downscale_factor: crops of layer n have `points_per_side` by this factor to
            the power of n, rounded down.

    Raises:
        ValueError: as of `crop_boxes`, or a layer would have no points.

    >>> [(crop.box, len(crop.points)) for crop in crops((60, 100), 4, 1, 0.2, 2)][:2]
    [((0, 0, 100, 60), 16), ((0, 0, 56, 36), 4)]
    >>> next(crops((60, 100), 2)).points.tolist()
    [[25.0, 15.0], [75.0, 15.0], [25.0, 45.0], [75.0, 45.0]]
    """
    factor = crop_n_points_downscale_factor
    if factor < 1:
        raise ValueError(f"crop_n_points_downscale_factor must be at least 1, got {factor}.")
    counts = [int(points_per_side / factor**layer) for layer in range(crop_n_layers + 1)]
    if min(counts, default=1) < 1:
        raise ValueError(
            f"Every layer must have points, got {counts} along a side: raise points_per_side, "
            f"{points_per_side}, or lower crop_n_points_downscale_factor, {factor}."
        )
    boxes, layers = crop_boxes(size, crop_n_layers, crop_overlap_ratio)
    grids = [point_grid(count) for count in counts]
    for box, layer in zip(boxes.tolist(), layers.tolist(), strict=True):
        left, top, right, bottom = box
        points = (grids[layer] * (right - left, bottom - top)).astype("float32")
        yield Crop((left, top, right, bottom), layer, points)
