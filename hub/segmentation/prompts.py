"""Prompts of a segmenter: what a user says of a picture, checked, as inputs of a network.

A set of prompts asks for one object: points that lie on it or beside it, a box around it, a mask
of it, or several of these together. A picture may have many sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

import keraslite as keras
from hub.preprocessing.segmentation import ImageGeometry, resized_size

PADDING_LABEL = -10  # of points that fill up a set, as in transformers
_LOGIT = 10.0  # of a pixel that is surely in a mask, as SAM 2 has it; its sigmoid is 1 - 5e-5


@dataclass(frozen=True)
class Prompts:
    """Sets of prompts of one picture; what was not given is None.

    Args:
        geometry: of the picture.
        points: (sets, points, 2) of float32, x and y in pixels of the input.
        labels: (sets, points) of int32: 1 on the object, 0 beside it, -10 for padding.
        padding_mask: (sets, points) of bool, False for padding; None where there is none.
        boxes: (sets, 4) of float32, "xyxy" in pixels of the input.
        masks: (sets, mask size, mask size) of float32, logits.
    """

    geometry: ImageGeometry
    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    padding_mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of sets."""
        return next(len(x) for x in (self.points, self.boxes, self.masks) if x is not None)

    def __getitem__(self, index: Any) -> "Prompts":
        """Return some of the sets: one, or those of a slice, a list of numbers or booleans."""
        index = [index] if isinstance(index, int | np.integer) else index
        fields = {
            name: value[index] for name, value in vars(self).items()
            if isinstance(value, np.ndarray)
        }  # fmt: skip
        return replace(self, **fields)

    def padded(self, sets: int | None = None, points: int | None = None) -> "Prompts":
        """Return prompts whose last set is repeated, and whose sets are filled up by padding.

        Args:
            sets: the number of sets; as many as there are by default.
            points: the number of points of each set, likewise; nothing without points.

        >>> prompts = prepare_prompts(ImageGeometry.of((64, 64), 64), [5, 6]).padded(2, 2)
        >>> prompts.labels.tolist(), prompts.padding_mask.tolist()
        ([[1, -10], [1, -10]], [[True, False], [True, False]])
        """
        rows = self[np.minimum(np.arange(sets or len(self)), len(self) - 1)]
        if points is None or rows.points is None or rows.points.shape[1] == points:
            return rows
        mask = np.ones(rows.labels.shape, bool) if rows.padding_mask is None else rows.padding_mask
        fill = ((0, 0), (0, points - mask.shape[1]))
        return replace(
            rows, points=np.pad(rows.points, (*fill, (0, 0))), padding_mask=np.pad(mask, fill),
            labels=np.pad(rows.labels, fill, constant_values=PADDING_LABEL),
        )  # fmt: skip

    def inputs(self) -> dict[str, np.ndarray]:
        """Return the inputs of the network for a batch of this picture alone.

        They are "points" (1, sets, points, 2), "labels" and "padding_mask" (1, sets, points),
        "boxes" (1, sets, 1, 2, 2) and "masks" (1, sets, mask size, mask size, 1), of those that
        are there. The point with the label -1 that published weights expect after points without a
        box is not among them: the network adds it (`pad_points`).
        """
        inputs = {
            "points": self.points, "labels": self.labels, "padding_mask": self.padding_mask,
            "boxes": None if self.boxes is None else self.boxes.reshape(-1, 1, 2, 2),
            "masks": None if self.masks is None else self.masks[..., None],
        }  # fmt: skip
        return {name: value[None] for name, value in inputs.items() if value is not None}


def prepare_prompts(
    geometry: ImageGeometry,
    points: Any = None,
    labels: Any = None,
    boxes: Any = None,
    masks: Any = None,
    bounding_box_format: str = "xyxy",
    mask_size: int = 256,
) -> Prompts:
    """Check prompts of a picture, and return them in pixels of the input.

    Args:
        geometry: of the picture.
        points: in pixels of the picture: [x, y], a point; [[x, y], ...], the points of one set; or
            [[[x, y], ...], ...], those of several sets, which may have different numbers of points.
        labels: 1 for points on the object and 0 for points beside it, nested like the points, or
            one number for all; 1 by default.
        boxes: in pixels of the picture: (4,), or (sets, 4). What lies outside is cut off.
        masks: of bool or integers, (height, width) of the picture or (sets, height, width); or
            logits of an earlier answer, (mask_size, mask_size), (sets, mask_size, mask_size), or
            with another axis of size 1 after the sets or at the end.
        bounding_box_format: the format of the boxes, as for `keras.utils.bounding_boxes`.
        mask_size: the size of masks that the network reads.

    Raises:
        ValueError: there is no prompt, or one is not valid: points outside the picture, labels that
            are not those of the points, boxes without an inside, numbers that are not finite, masks
            of another size, or kinds of prompts with different numbers of sets.

    >>> prompts = prepare_prompts(ImageGeometry.of((600, 800)), [[400, 300], [10, 20]], [1, 0])
    >>> prompts.points[0].tolist(), prompts.labels.tolist()
    ([[512.0, 384.0], [12.8..., 25.6...]], [[1, 0]])
    >>> prompts = prepare_prompts(ImageGeometry.of((600, 800)), boxes=[[0, 0, 100, 50]])
    >>> prompts.inputs()["boxes"].tolist()
    [[[[[0.0, 0.0], [128.0, 64.0]]]]]
    """
    if points is None and boxes is None and masks is None:
        raise ValueError(
            "There must be a prompt: points, boxes or masks; got none. To segment everything in a "
            "picture, generate its masks from a grid of points."
        )
    if labels is not None and points is None:
        raise ValueError("labels are of points, got labels without points.")
    fields: dict[str, Any] = {}
    if points is not None:
        sets = _point_sets(points, geometry)
        if boxes is None and masks is None and not all(map(len, sets)):
            raise ValueError(
                "Every set must have a point where there are neither boxes nor masks, got sets of "
                f"{[len(x) for x in sets]} points."
            )
        fields |= _padded(sets, _label_sets(labels, [len(x) for x in sets]), geometry)
    if boxes is not None:
        fields["boxes"] = geometry.to_input(_checked_boxes(boxes, geometry, bounding_box_format))
    if masks is not None:
        fields["masks"] = _mask_logits(masks, geometry, mask_size)
    counts = {name: len(x) for name, x in fields.items() if name in ("points", "boxes", "masks")}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "Points, boxes and masks must be of the same sets, one for each object, got "
            f"{', '.join(f'{count} of {name}' for name, count in counts.items())}. Points of one "
            "object are [[x, y], ...], those of several objects [[[x, y], ...], ...]."
        )
    return Prompts(geometry, **fields)


def stack_prompts(rows: Sequence[Prompts]) -> tuple[dict[str, np.ndarray], list[int]]:
    """Return the inputs of the network for a batch of pictures, and the number of sets of each.

    Pictures with fewer sets repeat their last one, pictures with fewer points are padded.

    Args:
        rows: the prompts of each picture, of the same kinds.

    Returns:
        A dict as of `Prompts.inputs`, with a row for each picture; and the numbers of sets that
        are not repeated.

    Raises:
        ValueError: there are none, or pictures have different kinds of prompts.

    >>> geometry = ImageGeometry.of((64, 64), 64)
    >>> rows = [prepare_prompts(geometry, [5, 6]), prepare_prompts(geometry, [[[1, 2]], [[3, 4]]])]
    >>> inputs, counts = stack_prompts(rows)
    >>> inputs["points"].tolist(), counts
    ([[[[5.0, 6.0]], [[5.0, 6.0]]], [[[1.0, 2.0]], [[3.0, 4.0]]]], [1, 2])
    """
    kinds = [
        [name for name in ("points", "boxes", "masks") if getattr(row, name) is not None]
        for row in rows
    ]
    if not kinds or any(names != kinds[0] for names in kinds):
        raise ValueError(
            f"The pictures of a batch must have prompts of the same kinds, got {kinds}: pass the "
            "others one by one."
        )
    counts = [len(row) for row in rows]
    most = max(counts)
    width = max((row.points.shape[1] for row in rows if row.points is not None), default=None)
    same = [row.padded(most, width) for row in rows]
    if any(row.padding_mask is not None for row in same):  # then of all pictures
        same = [
            replace(row, padding_mask=np.ones(row.labels.shape, bool))
            if row.padding_mask is None and row.labels is not None else row
            for row in same
        ]  # fmt: skip
    inputs = [row.inputs() for row in same]
    return {name: np.concatenate([row[name] for row in inputs]) for name in inputs[0]}, counts


# -- points and labels --------------------------------------------------------------------------


def _depth(x: Any) -> int:
    """Return how deep numbers lie in an argument: 0 for a number."""
    if hasattr(x, "ndim"):
        return int(x.ndim)
    return 1 + max(map(_depth, x), default=0) if isinstance(x, list | tuple) else 0


def _array(name: str, x: Any, dtype: str) -> np.ndarray:
    """Return numbers as an array; what are none, or of rows of different lengths, is an error."""
    try:
        if hasattr(x, "shape") and not isinstance(x, np.ndarray):
            x = keras.ops.convert_to_numpy(x)
        return np.asarray(x).astype(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {x!r}.") from error


def _point_sets(points: Any, geometry: ImageGeometry) -> list[np.ndarray]:
    """Return the points (points, 2) of each set in pixels of the picture."""
    depth = _depth(points)
    if depth not in (1, 2, 3):
        raise ValueError(
            "points must be [x, y], [[x, y], ...], or [[[x, y], ...], ...] for several sets, got "
            f"{points!r}."
        )
    sets = [[points]] if depth == 1 else [points] if depth == 2 else points
    out = []
    for number, row in enumerate(sets):
        values = _array("points", row, "float64")
        values = values.reshape(0, 2) if values.size == 0 else values
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(
                f"points must be [x, y] each, got the shape {values.shape} in set {number}."
            )
        _check_inside("points", values, number, geometry)
        out.append(values)
    return out


def _check_inside(name: str, points: np.ndarray, number: int, geometry: ImageGeometry) -> None:
    height, width = geometry.size
    wrong = ~((points >= 0) & (points <= (width, height))).all(-1)  # also of NaN
    if wrong.any():
        x, y = points[wrong.argmax()]
        raise ValueError(
            f"{name} must be finite, x from 0 to {width} and y from 0 to {height}, in pixels of "
            f"the picture, got x = {x:g}, y = {y:g} in set {number}."
        )


def _label_sets(labels: Any, counts: list[int]) -> list[np.ndarray]:
    """Return the labels (points,) of each set."""
    depth = 0 if labels is None else _depth(labels)
    if depth == 0:
        rows = [np.full(count, 1 if labels is None else labels) for count in counts]
    elif depth == 1 and len(counts) == 1:
        rows = [_array("labels", labels, "float64")]
    elif depth == 1:  # one for the only point of each set
        rows = list(_array("labels", labels, "float64")[:, None])
    else:
        rows = [_array("labels", row, "float64").reshape(-1) for row in labels]
    lengths = [len(row) for row in rows]
    if lengths != counts:
        raise ValueError(
            "There must be a label for each point, nested like the points: expected sets of "
            f"{counts} labels, got {lengths}."
        )
    for number, row in enumerate(rows):
        if not np.isin(row, (0, 1)).all():
            raise ValueError(
                "labels must be 1, for points on the object, or 0, for points beside it, got "
                f"{np.asarray(row).tolist()} in set {number}."
            )
    return rows


def _padded(
    points: list[np.ndarray], labels: list[np.ndarray], geometry: ImageGeometry
) -> dict[str, np.ndarray]:
    """Return the fields of `Prompts` for the points of sets."""
    counts = np.array([len(row) for row in points])
    most = max(int(counts.max()), 1)
    out = np.zeros((len(points), most, 2), "float32")
    numbers = np.full((len(points), most), PADDING_LABEL, "int32")
    for i, count in enumerate(counts.tolist()):
        out[i, :count] = geometry.to_input(points[i])
        numbers[i, :count] = labels[i]
    fields = {"points": out, "labels": numbers}
    return fields if (counts == most).all() else {**fields, "padding_mask": numbers >= 0}


# -- boxes --------------------------------------------------------------------------------------


def _checked_boxes(boxes: Any, geometry: ImageGeometry, bounding_box_format: str) -> np.ndarray:
    """Return boxes (sets, 4) as "xyxy" in pixels of the picture."""
    values = _array("boxes", boxes, "float32")
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != 4 or not len(values):
        raise ValueError(f"boxes must be (4,) or (sets, 4), got the shape {np.shape(boxes)}.")
    height, width = geometry.size
    with keras.use_backend("numpy"):
        convert = keras.utils.bounding_boxes.convert_format
        corners = np.asarray(convert(values, bounding_box_format, "xyxy", height, width))
    clipped = np.clip(corners, 0, np.array((width, height) * 2, "float32"))
    is_finite = np.isfinite(values).all(-1)
    has_size = (corners[:, 2:] > corners[:, :2]).all(-1)
    is_inside = (clipped[:, 2:] > clipped[:, :2]).all(-1)
    for is_right, fault in (
        (is_finite, "must be finite"),
        (has_size, f'must have a width and a height in the format "{bounding_box_format}"'),
        (is_inside, f"must lie in the picture of {width} pixels in width and {height} in height"),
    ):
        if not is_right.all():
            number = int(is_right.argmin())
            raise ValueError(f"Boxes {fault}, got {values[number].tolist()} in set {number}.")
    return clipped


# -- masks --------------------------------------------------------------------------------------


def _mask_logits(masks: Any, geometry: ImageGeometry, mask_size: int) -> np.ndarray:
    """Return logits (sets, mask_size, mask_size) of masks of either sort."""
    if isinstance(masks, list | tuple):
        shapes = sorted({np.shape(mask) for mask in masks})
        if len(shapes) != 1:
            raise ValueError(f"masks must be of one size, got the shapes {shapes}.")
        masks = np.stack([np.asarray(mask) for mask in masks])
    elif hasattr(masks, "shape") and not isinstance(masks, np.ndarray):
        masks = keras.ops.convert_to_numpy(masks)
    values = np.asarray(masks)
    if values.dtype.kind in "biu":
        if values.ndim not in (2, 3) or values.shape[-2:] != geometry.size:
            raise ValueError(
                "masks of bool or integers must have the size of the picture, (height, width) or "
                f"(sets, height, width) with {geometry.size}, got the shape {values.shape}."
            )
        values = values.reshape(-1, *geometry.size) != 0
        return np.stack([encode_mask(mask, mask_size) for mask in values])
    shape = values.shape
    values = values[..., 0] if values.ndim > 2 and shape[-1] == 1 else values
    values = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[1:] != (mask_size, mask_size):
        raise ValueError(
            f"masks of floats must be logits of the shape ({mask_size}, {mask_size}), or (sets, "
            f"{mask_size}, {mask_size}), as an earlier answer has them, got {shape}; give a mask "
            "of the picture as bool."
        )
    values = values.astype("float32")
    if not np.isfinite(values).all():
        raise ValueError("masks must be finite, got NaN or infinity.")
    return values


def encode_mask(mask: Any, mask_size: int = 256) -> np.ndarray:
    """Return a mask of a picture as the logits that a network reads, (mask_size, mask_size).

    It is resized like the picture; pixels that are surely in the mask or not get 10 and -10, those
    of which a part is in it values between, and the padding -10.

    Args:
        mask: (height, width) of bool.
        mask_size: the size of the result.

    >>> encode_mask(np.array([[True, False], [True, False], [False, False]]), 3).round(1)
    array([[ 10., -10., -10.],
           [ 10., -10., -10.],
           [-10., -10., -10.]], dtype=float32)
    """
    mask = np.asarray(mask, bool)
    height, width = resized_size(*mask.shape, mask_size)
    picture = Image.fromarray(mask.astype("float32"))
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    out = np.full((mask_size, mask_size), -_LOGIT, "float32")
    out[:height, :width] = (2 * resized - 1) * _LOGIT
    return out
