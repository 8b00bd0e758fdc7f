"""Detections out of the outputs of a detector."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hub.detection.anchors import anchor_points, distances_to_boxes
from keraslite import ops
from keraslite.utils.bounding_boxes import non_max_suppression

_POSITIONS = 1000  # with the best scores, which are looked at
_CANDIDATES = 3000  # boxes and classes that are compared, where a box may have several classes


def decode_detections(
    outputs: Mapping[str, Any],
    height: int,
    width: int,
    confidence: float = 0.25,
    iou: float = 0.7,
    max_detections: int = 300,
    class_agnostic: bool = False,
    multi_label: bool = False,
) -> dict[str, Any]:
    """Return the boxes, classes and confidences of a batch, without boxes that repeat others.

    Args:
        outputs: "boxes" (batch, positions, 4 * bins), logits of the distances to the edges, and
            "classes" (batch, positions, classes), logits.
        height: of the inputs in pixels.
        width: likewise.
        confidence: detections must have a higher one.
        iou: the largest intersection over union of two detections of a class.
        max_detections: of an image.
        class_agnostic: whether boxes of different classes are compared too.
        multi_label: whether a box may be of several classes.

    Returns:
        A dict of "boxes" (batch, max_detections, 4), "xyxy" in pixels of the inputs, "confidence"
        and "labels" (batch, max_detections), best first and padded by -1, and "num_detections"
        (batch,).

    >>> outputs = {"boxes": np.zeros((1, 336, 64)), "classes": np.full((1, 336, 2), -9.0)}
    >>> outputs["classes"][0, 0, 1] = 2.0
    >>> detections = decode_detections(outputs, 128, 128, max_detections=3)
    >>> detections["num_detections"].tolist(), detections["labels"].tolist()
    ([1], [[1, -1, -1]])
    """
    points, strides = anchor_points(height, width)
    logits = ops.cast(outputs["classes"], "float32")
    # Boxes are computed for the positions with the best scores alone.
    places = ops.top_k(ops.max(logits, axis=-1), min(_POSITIONS, len(points)))[1]
    rows = ops.expand_dims(places, -1)
    distances = ops.take_along_axis(ops.cast(outputs["boxes"], "float32"), rows, 1)
    grid = [ops.take(ops.convert_to_tensor(x), places, axis=0) for x in (points, strides)]
    boxes = distances_to_boxes(distances, *grid)
    boxes = ops.clip(boxes, 0, np.array((width, height) * 2, "float32"))
    detections = non_max_suppression(
        boxes, ops.sigmoid(ops.take_along_axis(logits, rows, 1)), iou_threshold=iou,
        score_threshold=confidence, max_output_size=max_detections, class_agnostic=class_agnostic,
        multi_label=multi_label, pre_top_k=_CANDIDATES,
    )  # fmt: skip
    del detections["indices"]
    return detections
