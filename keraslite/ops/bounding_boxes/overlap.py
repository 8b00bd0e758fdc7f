"""The overlap of bounding boxes: intersection over union, and its complete form."""

import math
from collections.abc import Sequence
from typing import Any

from keraslite.config import epsilon, floatx
from keraslite.dtypes import result_type
from keraslite.ops import numpy as k
from keraslite.ops.bounding_boxes.formats import as_boxes, columns, convert_format
from keraslite.typing import Tensor


def image_size(image_shape: Sequence | None) -> tuple[Any, Any]:
    """Return the height and width in (height, width, channels); None for those that are unknown."""
    return (None, None) if image_shape is None else (image_shape[0], image_shape[1])


def _corners(boxes: Any, name: str, image_shape: Sequence | None) -> list[Tensor]:
    """Return left, top, right and bottom of boxes, without their last axis."""
    height, width = image_size(image_shape)
    boxes = convert_format(boxes, name, "xyxy", height, width, result_type("float32", floatx()))
    return [x[..., 0] for x in columns(boxes)]


def compute_iou(
    boxes1: Any,
    boxes2: Any,
    bounding_box_format: str,
    use_masking: bool = False,
    mask_val: float = -1,
    image_shape: Sequence | None = None,
) -> Tensor:
    """Return the intersection over union of each box of one set with each of another.

    Args:
        boxes1: (n, 4) or (batch, n, 4).
        boxes2: (m, 4) or (batch, m, 4).
        bounding_box_format: the format of both.
        use_masking: whether boxes whose numbers are all negative, which stand for none, get
            `mask_val`.
        mask_val: the value of these.
        image_shape: (height, width, channels) of the images, needed for a relative format.

    Returns:
        (n, m), or (batch, n, m) where one of the two is a batch.

    Raises:
        ValueError: boxes of another rank, or a relative format without `image_shape`.

    >>> compute_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]], "xyxy").round(3).tolist()
    [[0.333..., 0.0]]
    """
    boxes1, boxes2 = as_boxes(boxes1), as_boxes(boxes2)
    for name, boxes in (("boxes1", boxes1), ("boxes2", boxes2)):
        if len(boxes.shape) not in (2, 3):
            raise ValueError(
                f"{name} must be (boxes, 4) or (batch, boxes, 4), got {tuple(boxes.shape)}."
            )
    a = [x[..., :, None] for x in _corners(boxes1, bounding_box_format, image_shape)]
    b = [x[..., None, :] for x in _corners(boxes2, bounding_box_format, image_shape)]
    shared = _intersection(a, b)
    iou = shared / (_area(a) + _area(b) - shared + epsilon())
    if not use_masking:
        return iou
    return k.where(k.logical_or(_is_negative(a), _is_negative(b)), mask_val, iou)


def _area(corners: Sequence) -> Tensor:
    x1, y1, x2, y2 = corners
    return (x2 - x1) * (y2 - y1)


def _intersection(a: Sequence, b: Sequence) -> Tensor:
    width = k.minimum(a[2], b[2]) - k.maximum(a[0], b[0])
    height = k.minimum(a[3], b[3]) - k.maximum(a[1], b[1])
    return k.maximum(width, 0) * k.maximum(height, 0)


def _is_negative(corners: Sequence) -> Tensor:
    x1, y1, x2, y2 = corners
    return k.maximum(k.maximum(x1, y1), k.maximum(x2, y2)) < 0


def compute_ciou(
    boxes1: Any, boxes2: Any, bounding_box_format: str, image_shape: Sequence | None = None
) -> Tensor:
    """Return the complete intersection over union of pairs of boxes.

    It is the intersection over union, less the distance of the centres and the difference of the
    aspect ratios.

    Args:
        boxes1: (..., 4).
        boxes2: (..., 4), of the same shape or one that broadcasts.
        bounding_box_format: the format of both.
        image_shape: (height, width, channels) of the images, needed for a relative format.

    Returns:
        (...), 1 for equal boxes, down to less than -1 for distant ones.

    Raises:
        ValueError: a relative format without `image_shape`.

    Source: Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference for Object
    Detection and Instance Segmentation", 2020, https://arxiv.org/abs/2005.03572.

    >>> compute_ciou([[0, 0, 2, 2]], [[1, 0, 3, 2]], "xyxy").round(3).tolist()
    [0.256...]
    """
    tiny = epsilon()
    a = _corners(boxes1, bounding_box_format, image_shape)
    b = _corners(boxes2, bounding_box_format, image_shape)
    (w1, h1), (w2, h2) = ((x[2] - x[0], x[3] - x[1] + tiny) for x in (a, b))
    shared = _intersection(a, b)
    iou = shared / (w1 * h1 + w2 * h2 - shared + 2 * tiny)
    across = k.maximum(a[2], b[2]) - k.minimum(a[0], b[0])
    down = k.maximum(a[3], b[3]) - k.minimum(a[1], b[1])
    dx, dy = ((a[i] + a[i + 2] - b[i] - b[i + 2]) / 2 for i in (0, 1))
    distance = (dx**2 + dy**2) / (across**2 + down**2 + tiny)
    ratios = (4 / math.pi**2) * (k.arctan(w2 / h2) - k.arctan(w1 / h1)) ** 2
    weight = ratios / (ratios - iou + (1 + tiny))
    return iou - (distance + ratios * weight)
