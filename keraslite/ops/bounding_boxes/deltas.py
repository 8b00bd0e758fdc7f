"""Bounding boxes as differences from anchors, which is what detectors predict."""

from collections.abc import Sequence
from typing import Any

from keraslite.config import epsilon
from keraslite.ops import numpy as k
from keraslite.ops.bounding_boxes.formats import convert_format
from keraslite.ops.bounding_boxes.overlap import image_size
from keraslite.ops.common import as_tensor_like
from keraslite.ops.core import cast
from keraslite.typing import Tensor

_CENTERED = ("center_xywh", "center_yxhw")


def _check(name: str, value: str, variance: Any) -> None:
    if value not in _CENTERED:
        raise ValueError(f"{name} must be one of {_CENTERED}, got {value!r}.")
    if variance is not None and (len(variance.shape) != 1 or variance.shape[0] != 4):
        raise ValueError(f"variance must be four numbers, got a shape of {tuple(variance.shape)}.")


def encode_box_to_deltas(
    anchors: Any,
    boxes: Any,
    anchor_format: str,
    box_format: str,
    encoding_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence | None = None,
) -> Tensor:
    """Return boxes as differences from anchors.

    The centre is a distance in anchor sizes, the size the logarithm of a ratio.

    Args:
        anchors: (n, 4).
        boxes: (n, 4) or (batch, n, 4).
        anchor_format: the format of the anchors.
        box_format: the format of the boxes.
        encoding_format: "center_yxhw" or "center_xywh", the order of the result.
        variance: four numbers that the result is divided by.
        image_shape: (height, width, channels) of the images, needed for a relative format.

    Returns:
        As `boxes`.

    Raises:
        ValueError: another encoding format, or a variance that is not of four numbers.

    Source: Ren et al., "Faster R-CNN", 2015, https://arxiv.org/abs/1506.01497.

    >>> encode_box_to_deltas([[0, 0, 4, 4]], [[1, 2, 5, 6]], "xyxy", "xyxy").tolist()
    [[0.5, 0.25, 0.0, 0.0]]
    """
    height, width = image_size(image_shape)
    anchors = convert_format(anchors, anchor_format, encoding_format, height, width)
    boxes = convert_format(boxes, box_format, encoding_format, height, width)
    variance = None if variance is None else cast(as_tensor_like(variance, boxes), "float32")
    _check("encoding_format", encoding_format, variance)
    sizes = k.maximum(anchors[..., 2:], epsilon())
    ratios = k.maximum(boxes[..., 2:], epsilon()) / sizes
    deltas = k.concatenate([(boxes[..., :2] - anchors[..., :2]) / sizes, k.log(ratios)], -1)
    return deltas if variance is None else deltas / variance


def decode_deltas_to_boxes(
    anchors: Any,
    boxes_delta: Any,
    anchor_format: str,
    box_format: str,
    encoded_format: str = "center_yxhw",
    variance: Any = None,
    image_shape: Sequence | None = None,
) -> Any:
    """Return the boxes that differ from anchors as predicted.

    Args:
        anchors: (n, 4), or a dict of these by level.
        boxes_delta: (n, 4) or (batch, n, 4), or a dict of these by the same levels.
        anchor_format: the format of the anchors.
        box_format: the format of the result.
        encoded_format: "center_yxhw" or "center_xywh", the order of the differences.
        variance: four numbers that the differences are multiplied by.
        image_shape: (height, width, channels) of the images, needed for a relative format.

    Returns:
        As `boxes_delta`.

    Raises:
        ValueError: another encoded format, or a variance that is not of four numbers.

    >>> decode_deltas_to_boxes([[0, 0, 4, 4]], [[0.5, 0.25, 0, 0]], "xyxy", "xyxy").tolist()
    [[1.0, 2.0, 5.0, 6.0]]
    """
    if isinstance(anchors, dict):
        return {
            level: decode_deltas_to_boxes(
                anchor, boxes_delta[level], anchor_format, box_format, encoded_format, variance,
                image_shape,
            )
            for level, anchor in anchors.items()
        }  # fmt: skip
    height, width = image_size(image_shape)
    anchors = convert_format(anchors, anchor_format, encoded_format, height, width)
    deltas = cast(as_tensor_like(boxes_delta, anchors), "float32")
    variance = None if variance is None else cast(as_tensor_like(variance, deltas), "float32")
    _check("encoded_format", encoded_format, variance)
    if variance is not None:
        deltas = deltas * variance
    centers = deltas[..., :2] * anchors[..., 2:] + anchors[..., :2]
    boxes = k.concatenate([centers, k.exp(deltas[..., 2:]) * anchors[..., 2:]], -1)
    return convert_format(boxes, encoded_format, box_format, height, width)
