"""Detections against true boxes: pictures out of a batch, overlaps, and which box is which.

Everything is NumPy in float64: the arrays are small, and the rules are those of COCO's evaluation
(Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and its pycocotools).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

import keraslite as keras

PADDING, ANY_CLASS = -1, -2  # labels of rows that are no box, and of regions to ignore
_LABELS = ("labels", "classes")
_SCORES = ("confidence", "scores")
_CROWD = ("ignored", "iscrowd")
_AREAS = ("areas", "area")


class PictureBoxes(NamedTuple):
    """The true boxes and the detections of one picture, without padding.

    Args:
        boxes: true boxes (M, 4), "xyxy" in pixels.
        labels: their class numbers (M,); -2 for regions that belong to no class.
        crowd: whether each is a region to ignore (M,).
        areas: of each in pixels (M,).
        detected: detected boxes (D, 4).
        detected_labels: their class numbers (D,).
        scores: their confidences (D,).
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    detected: np.ndarray
    detected_labels: np.ndarray
    scores: np.ndarray


def pictures_of(y_true: Any, y_pred: Any, bounding_box_format: str) -> Iterator[PictureBoxes]:
    """Yield the true boxes and the detections of each picture of a batch.

    Args:
        y_true: a dict of "boxes" (B, M, 4) and "labels" (B, M), or a list of such dicts, one a
            picture. Label -1 is padding, -2 a region to ignore for all classes, and -3 - c for
            class c; "ignored" (or
            "iscrowd") marks such a region of its own class, and "areas" are those of objects whose
            boxes are larger than they are.
        y_pred: a dict of "boxes", "confidence", "labels" and perhaps "num_detections", or a list.
        bounding_box_format: of both, in pixels.

    Raises:
        ValueError: the two are of different lengths, or boxes are no boxes.
    """
    truths, answers = _rows(y_true, "y_true"), _rows(y_pred, "y_pred")
    if len(truths) != len(answers):
        raise ValueError(
            f"y_true and y_pred must be of the same pictures, got {len(truths)} and {len(answers)}."
        )
    for i, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
        name = f"y_true of picture {i}"
        labels = _numbers(_value(truth, _LABELS, name), (-1,), "int64")
        boxes = _boxes(truth, len(labels), bounding_box_format, name)
        crowd = _numbers(_value(truth, _CROWD, name, np.zeros(len(labels))), (-1,), "bool")
        kept = labels != PADDING
        crowd = crowd | (labels <= ANY_CLASS)
        labels = np.where(labels < ANY_CLASS, ANY_CLASS - 1 - labels, labels)
        _check(boxes[kept], name, ordered=True)
        areas = _numbers(_value(truth, _AREAS, name, box_areas(boxes)), (-1,), "float64")

        name = f"y_pred of picture {i}"
        answer_labels = _numbers(_value(answer, _LABELS, name), (-1,), "int64")
        detected = _boxes(answer, len(answer_labels), bounding_box_format, name)
        scores = _numbers(_value(answer, _SCORES, name), (-1,), "float64")
        count = int(np.asarray(answer.get("num_detections", len(scores))))
        valid = (answer_labels >= 0) & (np.arange(len(scores)) < count)
        _check(detected[valid], name)
        if not np.isfinite(scores[valid]).all():
            raise ValueError(f"The confidences in {name} must be finite, got NaN or infinity.")
        yield PictureBoxes(
            boxes[kept], labels[kept], crowd[kept], areas[kept],
            detected[valid], answer_labels[valid], scores[valid],
        )  # fmt: skip


def _rows(batch: Any, name: str) -> list[dict[str, Any]]:
    """Return a dict for each picture of a batch, on the host."""
    if not isinstance(batch, Mapping):
        if not isinstance(batch, list | tuple) or not all(isinstance(x, Mapping) for x in batch):
            raise TypeError(
                f"{name} must be a dict of boxes and labels, or a list of such dicts, got "
                f"{type(batch).__name__}."
            )
        return [{key: _to_numpy(value) for key, value in row.items()} for row in batch]
    if "boxes" not in batch:
        raise ValueError(f"{name} must have boxes and labels, got {sorted(batch)}.")
    columns = {key: _to_numpy(value) for key, value in batch.items()}
    return [
        {key: column[i] for key, column in columns.items()} for i in range(len(columns["boxes"]))
    ]


def _to_numpy(value: Any) -> Any:
    """Return a tensor of any backend as an array; a list of them as a list."""
    if isinstance(value, list | tuple):
        return [_to_numpy(item) for item in value]
    is_tensor = hasattr(value, "shape") and not isinstance(value, np.ndarray | np.generic)
    return keras.ops.convert_to_numpy(value) if is_tensor else value


def _value(row: Mapping[str, Any], keys: tuple[str, ...], name: str, default: Any = None) -> Any:
    for key in keys:
        if key in row:
            return row[key]
    if default is None:
        raise ValueError(f"{name} must have {keys[0]!r}, got {sorted(row)}.")
    return default


def _numbers(values: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(values).reshape(shape).astype(dtype)


def _boxes(row: Mapping[str, Any], count: int, source: str, name: str) -> np.ndarray:
    """Return the boxes of a picture as "xyxy"."""
    boxes = np.asarray(_value(row, ("boxes",), name)).astype("float64")
    boxes = boxes.reshape(0, 4) if not boxes.size else boxes
    if boxes.shape != (count, 4):
        raise ValueError(f"The boxes in {name} must be ({count}, 4), got {boxes.shape}.")
    if source.lower() == "xyxy":
        return boxes
    with keras.use_backend("numpy"):
        convert = keras.utils.bounding_boxes.convert_format
        return np.asarray(convert(boxes, source, "xyxy", dtype="float64"))


def _check(boxes: np.ndarray, name: str, ordered: bool = False) -> None:
    """Raise a ValueError for boxes that are not finite, or that end before they begin."""
    wrong = ~np.isfinite(boxes).all(-1)
    if ordered:
        wrong |= (boxes[:, 2:] < boxes[:, :2]).any(-1)
    if wrong.any():
        raise ValueError(
            f"The boxes in {name} must be finite, with the second corner right of and below the "
            f"first, got {boxes[wrong][0].tolist()}: is bounding_box_format right?"
        )


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes.

    Args:
        boxes: (N, 4), "xyxy".

    >>> box_areas(np.array([[1.0, 1.0, 4.0, 3.0]])).tolist()
    [6.0]
    """
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)


def overlaps(
    detected: np.ndarray, boxes: np.ndarray, crowd: np.ndarray | None = None
) -> np.ndarray:
    """Return the intersection over union of each detection with each true box, (D, M).

    Of a crowd, which a detection can only be a part of, it is that over the detection's own area.

    Args:
        detected: (D, 4), "xyxy".
        boxes: true boxes (M, 4).
        crowd: which of them are crowds (M,).

    >>> overlaps(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 3.0, 2.0]])).round(3)
    array([[0.333]])
    """
    start = np.maximum(detected[:, None, :2], boxes[None, :, :2])
    size = np.minimum(detected[:, None, 2:], boxes[None, :, 2:]) - start
    intersection = np.where((size > 0).all(-1), size.prod(-1), 0.0)
    own = box_areas(detected)[:, None]
    union = own + box_areas(boxes)[None] - intersection
    if crowd is not None:
        union = np.where(crowd[None], own, union)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def match(
    overlap: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections are right, and which are to be ignored: (D, A, T) each.

    In the order of their scores, each detection takes the free true box that it overlaps most; one
    that counts before one that is ignored. A crowd is never used up. Of boxes that are overlapped
    alike the last one is taken.

    Args:
        overlap: (D, M), detections by falling score; 0 where the classes differ.
        crowd: (M,), which true boxes may be taken again and again.
        ignored: (A, M), which true boxes do not count in each range of areas.
        thresholds: (T,), rising, the least overlap of a match.

    >>> none = np.zeros(1, bool)
    >>> right, _ = match(np.array([[0.6], [0.8]]), none, none[None], np.array([0.5, 0.75]))
    >>> right[:, 0].tolist()
    [[True, False], [False, True]]
    """
    ranges, levels = np.arange(len(ignored))[:, None], np.arange(len(thresholds))[None]
    right = np.zeros((len(overlap), len(ignored), len(thresholds)), bool)
    set_aside = right.copy()
    taken = np.zeros((len(ignored), len(thresholds), overlap.shape[1]), bool)
    candidates = overlap >= thresholds[0]
    # Only a few detections touch a box of their class: the others stay as they are.
    for d in np.flatnonzero(candidates.any(1)):
        near = np.flatnonzero(candidates[d])
        near = near[np.argsort(overlap[d, near], kind="stable")[::-1]]
        able = (~taken[..., near] | crowd[near]) & (overlap[d, near] >= thresholds[:, None])
        counted = able & ~ignored[:, None, near]
        is_right, is_matched = counted.any(-1), able.any(-1)
        place = near[np.where(is_right, counted.argmax(-1), able.argmax(-1))]
        right[d], set_aside[d] = is_right, is_matched & ~is_right
        taken[ranges, levels, place] |= is_matched
    return right, set_aside
