"""Bounding boxes that follow their image: cropped, padded, clipped, transformed."""

import math
from typing import Any

from keraslite.ops import numpy as k
from keraslite.ops.bounding_boxes.formats import (
    columns,
    convert_format,
    format_of,
    in_corners,
    like_boxes,
)
from keraslite.ops.common import as_tensor_like
from keraslite.ops.core import cast
from keraslite.ops.core import dtype as dtype_of
from keraslite.typing import Tensor


def clip_to_image_size(
    bounding_boxes: Any, height: Any = None, width: Any = None, bounding_box_format: str = "xyxy"
) -> Any:
    """Clip boxes to the image; the label of a box of which nothing is left becomes -1.

    Args:
        bounding_boxes: a dict of "boxes" (..., boxes, 4) and, if there are any, "labels"
            (..., boxes) or (..., boxes, classes); or the boxes alone.
        height: of the images in pixels; not needed for a relative format.
        width: likewise.
        bounding_box_format: the format of the boxes.

    Returns:
        As `bounding_boxes`.

    Raises:
        ValueError: height or width is missing, or the format is unknown.

    >>> out = clip_to_image_size(
    ...     {"boxes": [[-5.0, 2.0, 9.0, 4.0], [20.0, 0.0, 30.0, 9.0]], "labels": [3, 5]}, 8, 8)
    >>> out["boxes"].tolist(), out["labels"].tolist()
    ([[0.0, 2.0, 8.0, 4.0], [8.0, 0.0, 8.0, 8.0]], [3, -1])
    """
    if format_of(bounding_box_format).relative:
        # Corners between 0 and 1, whatever the size of the image.
        bounding_box_format = bounding_box_format.lower().removeprefix("rel_")
        height = width = 1
    if height is None or width is None:
        raise ValueError(
            f"height and width of the images must be set, got height={height}, width={width}."
        )

    def clip(boxes: Tensor) -> Tensor:
        return _clip(columns(boxes), like_boxes(height, boxes), like_boxes(width, boxes))

    clipped = in_corners(clip, bounding_boxes, bounding_box_format)
    if not isinstance(clipped, dict) or clipped.get("labels") is None:
        return clipped
    boxes = convert_format(clipped["boxes"], bounding_box_format, "xyxy")
    x1, y1, x2, y2 = (x[..., 0] for x in columns(boxes))
    visible = (x2 - x1) * (y2 - y1) > 0
    labels = as_tensor_like(clipped["labels"], boxes)
    if len(labels.shape) > len(visible.shape):
        visible = visible[..., None]
    return {**clipped, "labels": k.where(visible, labels, -1)}


def _clip(corners: tuple, height: Any, width: Any) -> Tensor:
    x1, y1, x2, y2 = corners
    return k.concatenate(
        [k.clip(x1, 0, width), k.clip(y1, 0, height), k.clip(x2, 0, width), k.clip(y2, 0, height)],
        -1,
    )


def _check_absolute(name: str) -> None:
    if format_of(name).relative:
        raise ValueError(
            f"bounding_box_format must be in pixels, got {name!r}: convert the boxes first with "
            "convert_format."
        )


def crop(
    boxes: Any, top: Any, left: Any, height: Any, width: Any, bounding_box_format: str = "xyxy"
) -> Any:
    """Move boxes to the coordinates of a crop of their image, and clip them to it.

    Args:
        boxes: (..., 4), or a dict whose "boxes" are this.
        top: the row of the image where the crop begins.
        left: the column where it begins.
        height: of the crop in pixels.
        width: likewise.
        bounding_box_format: the format of the boxes, one in pixels.

    Raises:
        ValueError: the format is relative or unknown.

    >>> crop([[10.0, 20.0, 50.0, 60.0]], top=10, left=20, height=40, width=25).tolist()
    [[0.0, 10.0, 25.0, 40.0]]
    """
    _check_absolute(bounding_box_format)

    def run(boxes: Tensor) -> Tensor:
        x1, y1, x2, y2 = columns(boxes)
        x, y, h, w = (like_boxes(value, boxes) for value in (left, top, height, width))
        return _clip((x1 - x, y1 - y, x2 - x, y2 - y), h, w)

    return in_corners(run, boxes, bounding_box_format)


def pad(
    boxes: Any,
    top: Any,
    left: Any,
    height: Any = None,
    width: Any = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """Move boxes to the coordinates of an image that was padded at the top and on the left.

    Args:
        boxes: (..., 4), or a dict whose "boxes" are this.
        top: the number of rows added at the top.
        left: the number of columns added on the left.
        height: kept for Keras code.
        width: kept for Keras code.
        bounding_box_format: the format of the boxes, one in pixels.

    Raises:
        ValueError: the format is relative or unknown.

    >>> pad([[10.0, 20.0, 50.0, 60.0]], top=1, left=2).tolist()
    [[12.0, 21.0, 52.0, 61.0]]
    """
    _check_absolute(bounding_box_format)

    def run(boxes: Tensor) -> Tensor:
        x1, y1, x2, y2 = columns(boxes)
        x, y = like_boxes(left, boxes), like_boxes(top, boxes)
        return k.concatenate([x1 + x, y1 + y, x2 + x, y2 + y], -1)

    return in_corners(run, boxes, bounding_box_format)


def affine_transform(
    boxes: Any,
    angle: Any,
    translate_x: Any,
    translate_y: Any,
    scale: Any,
    shear_x: Any,
    shear_y: Any,
    height: Any,
    width: Any,
    center_x: Any = None,
    center_y: Any = None,
    bounding_box_format: str = "xyxy",
) -> Any:
    """Transform boxes as their images are: the boxes around the four transformed corners.

    Args:
        boxes: (batch, boxes, 4) with arguments of shape (batch,), or (boxes, 4) with numbers; or
            a dict whose "boxes" are these.
        angle: of the rotation, in degrees.
        translate_x: the way to the right, as a fraction of the width less one.
        translate_y: the way down, as a fraction of the height less one.
        scale: the factor of the size.
        shear_x: the angle of the shear along x, in degrees.
        shear_y: likewise along y.
        height: of the images in pixels.
        width: likewise.
        center_x: the centre of the transformation, as a fraction of the width less one; the
            middle by default.
        center_y: likewise of the height.
        bounding_box_format: the format of the boxes.

    Source: the parametrisation is that of torchvision's `affine`.

    >>> boxes = [[0.0, 0.0, 4.0, 2.0]]
    >>> affine_transform(boxes, 0, translate_x=0.25, translate_y=0, scale=1, shear_x=0, shear_y=0,
    ...                  height=5, width=5).tolist()
    [[1.0, 0.0, 5.0, 2.0]]
    """
    center_x = 0.5 if center_x is None else center_x
    center_y = 0.5 if center_y is None else center_y

    def run(boxes: Tensor) -> Tensor:
        boxes = boxes if "float" in dtype_of(boxes) else cast(boxes, "float32")

        def number(value: Any) -> Tensor:
            """As a tensor that broadcasts against (batch, boxes)."""
            value = cast(as_tensor_like(value, boxes), dtype_of(boxes))
            return value[..., None] if len(value.shape) else value

        rows, cols = number(height) - 1, number(width) - 1
        cx, cy = number(center_x) * cols, number(center_y) * rows
        tx, ty = number(translate_x) * cols, number(translate_y) * rows
        turn, sx, sy = (number(value) * (-math.pi / 180) for value in (angle, shear_x, shear_y))
        factor = number(scale)
        xx = k.cos(turn - sy) / k.cos(sy)
        yx = -k.sin(turn - sy) / k.cos(sy)
        xy = xx * k.tan(sx) + k.sin(turn)
        yy = k.cos(turn) - yx * k.tan(sx)

        x1, y1, x2, y2 = (x[..., 0] for x in columns(boxes))
        corners = []
        for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
            x, y = x - cx + tx, y - cy + ty
            corners.append(((yy * x - xy * y) * factor + cx, (xx * y - yx * x) * factor + cy))
        xs, ys = (k.stack(values, -1) for values in zip(*corners, strict=True))
        return k.stack([k.min(xs, -1), k.min(ys, -1), k.max(xs, -1), k.max(ys, -1)], -1)

    return in_corners(run, boxes, bounding_box_format, height, width)
