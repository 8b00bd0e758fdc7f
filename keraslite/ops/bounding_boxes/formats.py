"""The formats of bounding boxes as one table, and the conversion between any two of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keraslite.ops import numpy as k
from keraslite.ops.common import as_tensor_like
from keraslite.ops.core import cast, convert_to_tensor
from keraslite.ops.core import dtype as dtype_of
from keraslite.typing import Tensor


class Format(NamedTuple):
    """A format of bounding boxes: what its four numbers are.

    Args:
        start: the first point: the "corner" at the top left, or the "center".
        end: the other two numbers: the "corner" at the bottom right, or the "size".
        y_first: whether y comes before x, and the height before the width.
        relative: whether they are fractions of the height and width of the image.
    """

    start: str
    end: str
    y_first: bool
    relative: bool


_ABSOLUTE = {
    "xyxy": ("corner", "corner", False),
    "yxyx": ("corner", "corner", True),
    "xywh": ("corner", "size", False),
    "center_xywh": ("center", "size", False),
    "center_yxhw": ("center", "size", True),
}
FORMATS = {
    prefix + name: Format(*row, relative=bool(prefix))
    for prefix in ("", "rel_")
    for name, row in _ABSOLUTE.items()
}


def format_of(name: str) -> Format:
    """Return the row of a format.

    Raises:
        ValueError: the name is no format.

    >>> format_of("rel_xyxy").relative
    True
    """
    if name.lower() not in FORMATS:
        raise ValueError(f"The format of boxes must be one of {sorted(FORMATS)}, got {name!r}.")
    return FORMATS[name.lower()]


def columns(boxes: Any) -> tuple[Any, Any, Any, Any]:
    """Return the four numbers of boxes, each with a last axis of size one."""
    return boxes[..., 0:1], boxes[..., 1:2], boxes[..., 2:3], boxes[..., 3:4]


def map_boxes(function: Callable, bounding_boxes: Any) -> Any:
    """Apply a function to boxes, or to the "boxes" of a dict whose other entries are kept."""
    if isinstance(bounding_boxes, dict):
        return {**bounding_boxes, "boxes": function(bounding_boxes["boxes"])}
    return function(bounding_boxes)


def as_boxes(boxes: Any) -> Tensor:
    """Return boxes as a tensor.

    Raises:
        ValueError: the last axis is not of size 4.
    """
    boxes = convert_to_tensor(boxes)
    if not len(boxes.shape) or boxes.shape[-1] not in (4, None):
        raise ValueError(f"boxes must have a shape of (..., 4), got {tuple(boxes.shape)}.")
    return boxes


def like_boxes(size: Any, boxes: Any) -> Any:
    """Return a number as it is, and anything else as a tensor of the backend and dtype of boxes."""
    if isinstance(size, int | float):
        return size
    return cast(as_tensor_like(size, boxes), dtype_of(boxes))


def convert_format(
    boxes: Any,
    source: str,
    target: str,
    height: Any = None,
    width: Any = None,
    dtype: str = "float32",
) -> Any:
    """Convert bounding boxes from one format to another.

    The formats, in any case: "xyxy" (left, top, right, bottom), "yxyx" (top, left, bottom, right),
    "xywh" (left, top, width, height), "center_xywh" and "center_yxhw" (a centre and a size), and
    each with "rel_" before it, as fractions of the image's height and width.

    Args:
        boxes: (..., 4), or a dict whose "boxes" are this.
        source: the format they are in.
        target: the format they are brought to.
        height: of the images in pixels, where one format is relative; a number, or a tensor that
            broadcasts against (..., 1).
        width: likewise.
        dtype: of the result.

    Returns:
        The boxes, or a dict with all entries of `boxes`.

    Raises:
        ValueError: an unknown format, a shape that does not end in 4, or a relative format
            without height and width.

    >>> convert_format([[10.0, 20.0, 30.0, 60.0]], "xyxy", "center_xywh").tolist()
    [[20.0, 40.0, 20.0, 40.0]]
    >>> convert_format([[5.0, 2.0, 10.0, 8.0]], "xywh", "rel_yxyx", height=20, width=20).tolist()
    [[0.1..., 0.25, 0.5, 0.75]]
    """
    before, after = format_of(source), format_of(target)
    if (before.relative or after.relative) and (height is None or width is None):
        raise ValueError(
            f"height and width of the images must be set to convert from {source!r} to "
            f"{target!r}, got height={height}, width={width}."
        )

    def convert(boxes: Any) -> Tensor:
        boxes = cast(as_boxes(boxes), dtype)
        if before == after:
            return boxes
        numbers = _to_corners(columns(boxes), before)
        w, h = (None if size is None else like_boxes(size, boxes) for size in (width, height))
        if before.relative and not after.relative:
            x1, y1, x2, y2 = numbers
            numbers = (x1 * w, y1 * h, x2 * w, y2 * h)
        numbers = _from_corners(numbers, after)
        if after.relative and not before.relative:
            a, b, c, d = numbers
            w, h = (h, w) if after.y_first else (w, h)
            numbers = (a / w, b / h, c / w, d / h)
        return k.concatenate(numbers, -1)

    return map_boxes(convert, boxes)


def _swap(numbers: Sequence) -> tuple:
    """Exchange x and y of both points."""
    a, b, c, d = numbers
    return b, a, d, c


def _to_corners(numbers: Sequence, layout: Format) -> Sequence:
    a, b, c, d = _swap(numbers) if layout.y_first else numbers
    if layout.start == "center":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return (a, b, a + c, b + d) if layout.end == "size" else (a, b, c, d)


def _from_corners(corners: Sequence, layout: Format) -> Sequence:
    x1, y1, x2, y2 = corners
    if layout.end == "size":
        x2, y2 = x2 - x1, y2 - y1
    if layout.start == "center":
        x1, y1 = x1 + x2 / 2, y1 + y2 / 2
    return _swap((x1, y1, x2, y2)) if layout.y_first else (x1, y1, x2, y2)


def in_corners(function: Callable, boxes: Any, name: str, height: Any = None, width: Any = None):
    """Apply a function of "xyxy" boxes to boxes of another format, and convert the result back.

    Args:
        function: takes boxes and returns them.
        boxes: (..., 4), or a dict whose "boxes" are this.
        name: their format.
        height: of the images; needed for a relative format.
        width: likewise.
    """
    dtype = "float32"

    def run(boxes: Any) -> Tensor:
        boxes = as_boxes(boxes)
        if name == "xyxy":
            return function(boxes)
        corners = convert_format(boxes, name, "xyxy", height, width, dtype)
        return convert_format(function(corners), "xyxy", name, height, width, dtype)

    return map_boxes(run, boxes)
