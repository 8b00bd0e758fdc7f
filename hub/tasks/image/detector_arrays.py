"""Ready arrays of a detector: images with their boxes in any format, and detections in one."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.preprocessing.detection_batches import DetectionBatches
from keraslite import ops
from keraslite.training.data import Mapped, StreamData, adapt
from keraslite.utils.bounding_boxes import convert_format

BATCH_SIZE = 16


def is_ready(x: Any, preprocessor: Any) -> bool:
    """Return whether data are batches, or arrays, of ready inputs.

    Args:
        x: the data.
        preprocessor: of the task; without one all inputs are ready.
    """
    return preprocessor is None or isinstance(x, DetectionBatches | StreamData | Mapped)


def ready_data(
    x: Any, y: Any, bounding_box_format: str, batch_size: int | None, shuffle: bool = False
) -> Any:
    """Return data of ready images, whose boxes are "xyxy" in pixels.

    Args:
        x: arrays (images, height, width, 3), or what yields batches of them; or a dict of "images"
            and "bounding_boxes".
        y: a dict of "boxes" and "labels", or "classes"; None where x has them.
        bounding_box_format: of the boxes.
        batch_size: images in a batch.
        shuffle: whether each epoch has an order of its own.
    """
    if isinstance(x, StreamData | Mapped):
        return x
    if isinstance(x, DetectionBatches):
        return StreamData(x)
    if isinstance(x, Mapping) and "images" in x:
        x, y = x["images"], x["bounding_boxes"]
    prepare = partial(with_targets, bounding_box_format=bounding_box_format)
    return Mapped(adapt(x, y, None, batch_size, shuffle), prepare)


def with_targets(x: Any, y: Any, sample_weight: Any, bounding_box_format: str) -> tuple:
    """Return a batch whose targets have "boxes" as "xyxy" in pixels, and "labels".

    Boxes are cut off at the edges of the images.

    Args:
        x: images, or a dict of "images" and "bounding_boxes".
        y: a dict of "boxes" and "labels" (or "classes"); None where x has them.
        sample_weight: handed on.
        bounding_box_format: of the boxes.

    Raises:
        ValueError: boxes and labels are not of as many rows, or boxes lie outside of their image.
    """
    if isinstance(x, Mapping):
        x, y = x["images"], x["bounding_boxes"]
    if not isinstance(y, Mapping) or "boxes" not in y:
        raise ValueError(
            'Targets must be a dict of "boxes" and "labels" (or "classes"), got '
            f"{type(y).__name__}."
        )
    labels = y.get("labels", y.get("classes"))
    if labels is None:
        raise ValueError(f'Targets must have "labels" or "classes", got {sorted(y)}.')
    boxes, labels = (ops.convert_to_numpy(v) for v in (y["boxes"], labels))
    if boxes.shape != (*labels.shape, 4) or labels.ndim != 2 or len(labels) != len(x):
        raise ValueError(
            f"Boxes must be (images, boxes, 4) and labels (images, boxes) for {len(x)} images, got "
            f"{boxes.shape} and {labels.shape}: pad them with the label -1."
        )
    if (labels != np.round(labels)).any():
        raise ValueError(f"Labels must be class numbers, got {labels[labels % 1 != 0][0]}.")
    height, width = x.shape[1:3]
    with keras.use_backend("numpy"):
        corners = convert_format(boxes, bounding_box_format, "xyxy", height, width)
    limits = np.array((width, height) * 2)
    counts = (labels >= 0) & np.isfinite(corners).all(-1)
    outside = (corners[..., :2] >= limits[:2]) | (corners[..., 2:] <= 0)
    small = (corners <= 1).all(-1) & (corners % 1 > 0).any(-1)
    for wrong, why in (
        (outside.any(-1), "they must lie in their image"),
        (small, "they must be in pixels, these seem to be parts of the image"),
    ):
        if (rows := np.argwhere(wrong & counts)).size:
            image, place = rows[0]
            raise ValueError(
                f"Boxes in the format {bounding_box_format!r}: {why} of {height} x {width}, got "
                f"{boxes[image, place].tolist()} in image {image} of a batch."
            )
    corners = np.where(counts[..., None], np.clip(corners, 0, limits), corners)
    targets = {"boxes": corners.astype("float32"), "labels": labels.astype("int32")}
    return x, targets, sample_weight


def check_targets(y: Mapping[str, Any], num_classes: int) -> None:
    """Raise ValueError if targets on the host cannot be right.

    Args:
        y: "boxes" (batch, boxes, 4), "xyxy", and "labels" (batch, boxes).
        num_classes: the number of classes.
    """
    boxes, labels = y["boxes"], y["labels"]
    if not isinstance(boxes, np.ndarray) or not isinstance(labels, np.ndarray):
        return
    lowest = -2 - num_classes  # an ignored region of the last class
    for wrong, message in (
        ((labels >= num_classes) | (labels < lowest),
         f"Labels must be class numbers from 0 to {num_classes - 1}, or -1 for no box"),
        ((labels >= 0) & ~np.isfinite(boxes).all(-1), "Boxes must have finite numbers"),
        ((labels >= 0) & ~(boxes[..., 2:] > boxes[..., :2]).all(-1),
         "Boxes must have a positive width and height"),
    ):  # fmt: skip
        if (rows := np.argwhere(wrong)).size:
            image, place = rows[0]
            raise ValueError(
                f"{message}, got the label {labels[image, place]} and the box "
                f"{boxes[image, place].tolist()} in image {image} of a batch."
            )


def in_format(
    detections: Mapping[str, Any], bounding_box_format: str, shape: Any
) -> dict[str, Any]:
    """Return detections with boxes in a format.

    Args:
        detections: as of `hub.detection.decoding.decode_detections`.
        bounding_box_format: of the result.
        shape: (batch, height, width, channels) of the inputs.
    """
    with keras.use_backend("numpy"):
        boxes = convert_format(detections["boxes"], "xyxy", bounding_box_format, *shape[1:3])
    exists = detections["labels"][..., None] >= 0
    return {**detections, "boxes": np.where(exists, boxes, -1)}
