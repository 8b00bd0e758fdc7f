"""The losses of a detector without anchor boxes: of boxes, of their distances, and of classes.

Sources: Zheng et al., 2020, https://arxiv.org/abs/2005.03572 (complete intersection over union); Li
et al., 2020, https://arxiv.org/abs/2006.04388 (distribution focal loss); Feng et al., 2021,
https://arxiv.org/abs/2108.07755 (targets). The weights are those of YOLOv8.
"""

from typing import Any

import numpy as np

import keraslite as keras
from hub.detection.anchors import boxes_to_distances, distances_to_boxes
from hub.detection.assignment import assign
from keraslite import ops
from keraslite.ops import bounding_boxes

PARTS = ("box_loss", "class_loss", "dfl_loss")
_PADDING = -1


def _ciou(boxes: Any, predicted: Any) -> Any:
    return bounding_boxes.compute_ciou(boxes, predicted, "xyxy")


def _iou(boxes: Any, predicted: Any) -> Any:
    pairs = (ops.reshape(x, (-1, 1, 4)) for x in (boxes, predicted))
    return ops.reshape(bounding_boxes.compute_iou(*pairs, "xyxy"), ops.shape(boxes)[:-1])


OVERLAPS = {"ciou": _ciou, "iou": _iou}  # box_loss -> the overlap that it brings to 1


def detection_losses(
    outputs: dict[str, Any],
    targets: dict[str, Any],
    points: Any,
    strides: Any,
    box_loss_weight: float = 7.5,
    classification_loss_weight: float = 0.5,
    dfl_loss_weight: float = 1.5,
    box_loss: str = "ciou",
    classification_loss: str = "binary_crossentropy",
    candidates: int = 10,
) -> dict[str, Any]:
    """Return the parts of the loss of a batch, weighted; their sum is the loss.

    Each part is summed over the batch and divided by the sum of the target scores, or by 1 where
    that is less: it does not grow with the number of images. The targets are those of
    `hub.detection.assignment.assign`.

    Args:
        outputs: "boxes" (batch, positions, 4 * bins), the logits of the distances, and "classes"
            (batch, positions, classes), logits.
        targets: "boxes" (batch, objects, 4), "xyxy" in pixels, and "labels" (batch, objects), class
            numbers; -1 for rows of padding, -2 for ignored regions, -3 - c for those of
            class c.
        points: (positions, 2), x and y of the positions in pixels.
        strides: (positions,), in pixels.
        box_loss_weight: of the loss of boxes: one minus the overlap.
        classification_loss_weight: of the loss of classes.
        dfl_loss_weight: of the distribution focal loss: of the bins of the distances.
        box_loss: "ciou" or "iou", the overlap of the loss of boxes.
        classification_loss: "binary_crossentropy".
        candidates: the largest number of positions of a box.

    Returns:
        A dict of the scalars "box_loss", "class_loss" and "dfl_loss", of float32 or better.

    Raises:
        ValueError: another name of a loss.

    >>> from hub.detection.anchors import anchor_points
    >>> outputs = {"boxes": np.zeros((1, 16, 64)), "classes": np.zeros((1, 16, 2))}
    >>> targets = {"boxes": [[[0.0, 0.0, 64.0, 64.0]]], "labels": [[1]]}
    >>> losses = detection_losses(outputs, targets, *anchor_points(64, 64, (16,)))
    >>> sorted(losses)
    ['box_loss', 'class_loss', 'dfl_loss']
    """
    check_losses(box_loss, classification_loss)
    dtype = keras.backend.result_type("float32", ops.dtype(outputs["boxes"]))
    box_logits, class_logits = (ops.cast(outputs[x], dtype) for x in ("boxes", "classes"))
    boxes, labels = ops.cast(targets["boxes"], dtype), ops.cast(targets["labels"], "int32")
    points, strides = (np.asarray(x, dtype) for x in (points, strides))
    if not labels.shape[1]:
        boxes = ops.pad(boxes, ((0, 0), (0, 1), (0, 0)))
        labels = ops.pad(labels, ((0, 0), (0, 1)), constant_values=_PADDING)
    boxes = ops.where(ops.expand_dims(labels == _PADDING, -1), 0.0, boxes)  # NaN, if anything

    predicted = distances_to_boxes(ops.stop_gradient(box_logits), points, strides)
    assigned = assign(predicted, class_logits, boxes, labels, points, candidates)
    total = ops.maximum(ops.sum(assigned.scores), 1.0)

    # Few positions have a box: the losses of boxes are computed for these, and for as many others
    # as make the number that of the most there can be. The others weigh nothing.
    count = min(len(points), candidates * labels.shape[1])
    places = ops.top_k(ops.cast(assigned.is_foreground, "int32"), count)[1]
    weights, owners = (ops.take_along_axis(x, places, 1) for x in (assigned.scores, assigned.boxes))
    boxes, box_logits, own_logits = (
        ops.take_along_axis(x, ops.expand_dims(index, -1), 1)
        for x, index in ((boxes, owners), (box_logits, places), (class_logits, places))
    )
    grid = [ops.take(ops.convert_to_tensor(x), places, axis=0) for x in (points, strides)]
    overlap = OVERLAPS[box_loss](boxes, distances_to_boxes(box_logits, *grid))
    distance_loss = _distribution_focal_loss(boxes, box_logits, *grid)

    # The crossentropy of a logit is softplus(logit) - target * logit, and most targets are 0.
    labels = ops.maximum(ops.take_along_axis(labels, owners, 1), 0)
    own_logits = ops.take_along_axis(own_logits, ops.expand_dims(labels, -1), 2)[..., 0]
    background = ops.where(
        ops.expand_dims(assigned.is_ignored, -1), 0.0, ops.softplus(class_logits)
    )
    class_loss = (ops.sum(background) - ops.sum(weights * own_logits)) / total
    return {
        "box_loss": box_loss_weight * ops.sum(weights * (1 - overlap)) / total,
        "class_loss": classification_loss_weight * class_loss,
        "dfl_loss": dfl_loss_weight * ops.sum(weights * distance_loss) / total,
    }


def _distribution_focal_loss(boxes: Any, logits: Any, points: Any, strides: Any) -> Any:
    """Return the crossentropy of the two bins around each distance, mean of the four sides.

    Args:
        boxes: (batch, positions, 4), "xyxy" in pixels.
        logits: (batch, positions, 4 * bins).
        points: (batch, positions, 2).
        strides: (batch, positions).
    """
    positions, channels = logits.shape[1:]
    bins = channels // 4
    distances = boxes_to_distances(boxes, points, strides, bins)
    # The nearer of the two bins has the larger part; all others have none.
    away = ops.abs(ops.subtract(ops.expand_dims(distances, -1), np.arange(bins)))
    logits = ops.reshape(logits, (-1, positions, 4, bins))
    loss = ops.categorical_crossentropy(ops.maximum(1 - away, 0.0), logits, from_logits=True)
    return ops.mean(loss, -1)


def check_losses(box_loss: str, classification_loss: str) -> None:
    """Raise ValueError if a name of a loss is none that there is.

    Args:
        box_loss: as for `detection_losses`.
        classification_loss: likewise.
    """
    if box_loss not in OVERLAPS:
        raise ValueError(f"box_loss must be one of {sorted(OVERLAPS)}, got {box_loss!r}.")
    if classification_loss != "binary_crossentropy":
        raise ValueError(
            f"classification_loss must be 'binary_crossentropy', got {classification_loss!r}."
        )
