"""Boxes of masks, and what was predicted in a crop at its place in the picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

EDGE_TOLERANCE = 20.0  # pixels of the picture, of the authors


def mask_boxes(masks: Any) -> np.ndarray:
    """Return the boxes of masks, (..., 4) of int64: the first and last column and row, "xyxy".

    As with the authors, the right and the bottom are those of the last pixel, not after it: a mask
    of one pixel has a box of no size. Empty masks have zeros.

    Args:
        masks: (..., height, width) of bool.

    >>> masks = np.zeros((2, 5, 6), bool)
    >>> masks[0, 1:3, 2:6] = True
    >>> mask_boxes(masks).tolist()
    [[2, 1, 5, 2], [0, 0, 0, 0]]
    """
    masks = np.asarray(masks)
    masks = masks if masks.dtype == bool else masks != 0
    left, right = _first_and_last(masks.any(-2))
    top, bottom = _first_and_last(masks.any(-1))
    return np.stack([left, top, right, bottom], -1)


def _first_and_last(is_set: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last place along the last axis; 0 where there is none."""
    first = is_set.argmax(-1)
    last = is_set.shape[-1] - 1 - is_set[..., ::-1].argmax(-1)
    return first, np.where(is_set.any(-1), last, 0)


def is_near_crop_edge(
    boxes: Any, crop_box: Sequence[int], size: Sequence[int], tolerance: float = EDGE_TOLERANCE
) -> np.ndarray:
    """Return which boxes touch an edge of their crop that is no edge of the picture.

    Their masks are cut off there; another crop has the whole object.

    Args:
        boxes: (boxes, 4), "xyxy" in pixels of the crop.
        crop_box: left, top, right and bottom of the crop in pixels of the picture.
        size: height and width of the picture.
        tolerance: up to which distance an edge is touched, in pixels.

    >>> is_near_crop_edge([[50, 60, 99, 90], [5, 60, 70, 90]], (0, 0, 100, 200), (200, 300))
    array([ True, False])
    """
    boxes = uncrop_boxes(boxes, crop_box)
    near_crop = np.abs(boxes - np.asarray(crop_box)) <= tolerance
    near_picture = np.abs(boxes - np.array([0, 0, size[1], size[0]])) <= tolerance
    return (near_crop & ~near_picture).any(-1)


def uncrop_boxes(boxes: Any, crop_box: Sequence[int]) -> np.ndarray:
    """Return boxes of a crop in pixels of the picture.

    Args:
        boxes: (..., 4), "xyxy".
        crop_box: left, top, right and bottom of the crop in pixels of the picture.

    >>> uncrop_boxes([[1, 2, 3, 4]], (10, 20, 50, 60)).tolist()
    [[11, 22, 13, 24]]
    """
    return np.asarray(boxes) + np.array([*crop_box[:2], *crop_box[:2]])


def uncrop_points(points: Any, crop_box: Sequence[int]) -> np.ndarray:
    """Return points of a crop in pixels of the picture.

    Args:
        points: (..., 2), x and y.
        crop_box: left, top, right and bottom of the crop in pixels of the picture.

    >>> uncrop_points([[1.5, 2]], (10, 20, 50, 60)).tolist()
    [[11.5, 22.0]]
    """
    return np.asarray(points) + np.array(crop_box[:2])


def uncrop_masks(masks: Any, crop_box: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Return masks of a crop in the size of the picture, with zeros around them.

    Args:
        masks: (..., height, width) of the crop; bool, or logits.
        crop_box: left, top, right and bottom of the crop in pixels of the picture.
        size: height and width of the picture.

    Raises:
        ValueError: the masks have not the size of the crop.

    >>> uncrop_masks(np.ones((1, 2), bool), (1, 0, 3, 1), (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    masks = np.asarray(masks)
    left, top, right, bottom = crop_box
    if masks.shape[-2:] != (bottom - top, right - left):
        raise ValueError(
            f"The masks of the crop {tuple(crop_box)} must be {bottom - top} x {right - left}, got "
            f"the shape {masks.shape}."
        )
    if masks.shape[-2:] == tuple(size):
        return masks
    out = np.zeros((*masks.shape[:-2], *size), masks.dtype)
    out[..., top:bottom, left:right] = masks
    return out
