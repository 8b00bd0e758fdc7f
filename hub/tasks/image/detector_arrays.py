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
    prepare = partial(_with_targets, bounding_box_format=bounding_box_format)
    return Mapped(adapt(x, y, None, batch_size, shuffle), prepare)


def _with_targets(x: Any, y: Any, sample_weight: Any, bounding_box_format: str) -> tuple:
    """Return a batch whose targets have "boxes" as "xyxy" in pixels, and "labels"."""
    if isinstance(x, Mapping):
        x, y = x["images"], x["bounding_boxes"]
    if not isinstance(y, Mapping) or "boxes" not in y:
        raise ValueError(
            'Targets must be a dict of "boxes" and "labels" (or "classes"), got '
            f"{type(y).__name__}."
        )
    labels = y["labels"] if "labels" in y else y["classes"]
    boxes, labels = (ops.convert_to_numpy(v) for v in (y["boxes"], labels))
    with keras.use_backend("numpy"):
        boxes = convert_format(boxes, bounding_box_format, "xyxy", *x.shape[1:3])
    return x, {"boxes": boxes, "labels": labels.astype("int32")}, sample_weight


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
