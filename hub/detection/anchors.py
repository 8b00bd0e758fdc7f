"""Positions of a detector's grids, and boxes as distances from them.

A detector without anchor boxes predicts at each cell of each grid how far the sides of a box are
from the cell's centre, as probabilities of whole numbers of strides (bins): Li et al., "Generalized
Focal Loss", 2020, https://arxiv.org/abs/2006.04388.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from keraslite import ops

STRIDES = (8, 16, 32)
_BELOW_LAST = 0.01  # so that a distance lies between two bins


def anchor_points(
    height: int, width: int, strides: Sequence[int] = STRIDES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of the cells of all grids, level by level and row by row.

    Args:
        height: of the network's input in pixels, a multiple of the largest stride.
        width: likewise.
        strides: pixels between two cells, of each level.

    Returns:
        (positions, 2) x and y in pixels, and the strides (positions,), read-only float32.

    Raises:
        ValueError: a stride does not divide the height or the width.

    >>> points, strides = anchor_points(32, 64, (16, 32))
    >>> points[:3].tolist(), points.shape, strides[-1].item()
    ([[8.0, 8.0], [24.0, 8.0], [40.0, 8.0]], (10, 2), 32.0)
    """
    return _anchor_points(int(height), int(width), tuple(strides))


@cache
def _anchor_points(height: int, width: int, strides: tuple) -> tuple[np.ndarray, np.ndarray]:
    points, steps = [], []
    for stride in strides:
        if height % stride or width % stride:
            raise ValueError(
                f"height and width must be multiples of the strides {strides}, got {height} and "
                f"{width}."
            )
        y, x = (np.arange(0, size, stride, "float32") + stride / 2 for size in (height, width))
        grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype("float32")
        points.append(grid)
        steps.append(np.full(len(grid), stride, "float32"))
    result = np.concatenate(points), np.concatenate(steps)
    for array in result:
        array.flags.writeable = False
    return result


def distances_to_boxes(logits: Any, points: Any, strides: Any) -> Any:
    """Return the boxes that the logits of distances stand for.

    Each distance is the mean of its bins, in strides, weighed by their probabilities.

    Args:
        logits: (batch, positions, 4 * bins), of left, top, right and bottom.
        points: (positions, 2) or (batch, positions, 2), x and y in pixels, an array or a tensor.
        strides: (positions,) or (batch, positions), in pixels, likewise.

    Returns:
        (batch, positions, 4), "xyxy" in pixels.

    >>> logits = np.zeros((1, 4, 8), "float32")  # two bins, both as likely
    >>> distances_to_boxes(logits, *anchor_points(32, 32, (16,)))[0, :2].tolist()
    [[0.0, 0.0, 16.0, 16.0], [16.0, 0.0, 32.0, 16.0]]
    """
    logits = ops.convert_to_tensor(logits)
    positions, channels = logits.shape[1:]
    bins = channels // 4
    chances = ops.softmax(ops.reshape(logits, (-1, positions, 4, bins)), -1)
    distances = ops.multiply(ops.matmul(chances, np.arange(bins)), strides[..., None])
    start = ops.subtract(points, distances[..., :2])
    return ops.concatenate([start, ops.add(points, distances[..., 2:])], -1)


def boxes_to_distances(boxes: Any, points: Any, strides: Any, bins: int = 16) -> Any:
    """Return how far the sides of boxes are from points, in strides.

    Args:
        boxes: (batch, positions, 4), "xyxy" in pixels.
        points: (positions, 2) or (batch, positions, 2), x and y in pixels, an array or a tensor.
        strides: (positions,) or (batch, positions), in pixels, likewise.
        bins: distances are clipped to just below the last of so many.

    Returns:
        (batch, positions, 4), left, top, right and bottom.

    >>> boxes = np.float32([[[0, 4, 16, 99]]])
    >>> boxes_to_distances(boxes, *anchor_points(16, 16, (16,)), bins=4).tolist()
    [[[0.5, 0.25, 0.5, 2.99...]]]
    """
    boxes = ops.convert_to_tensor(boxes)
    start = ops.subtract(points, boxes[..., :2])
    sides = ops.concatenate([start, ops.subtract(boxes[..., 2:], points)], -1)
    return ops.clip(ops.divide(sides, strides[..., None]), 0, bins - 1 - _BELOW_LAST)
