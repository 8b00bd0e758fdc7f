"""Non-maximum suppression: of boxes that overlap, those with the highest scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.config import epsilon
from keraslite.ops import numpy as k
from keraslite.ops.bounding_boxes.formats import as_boxes, convert_format
from keraslite.ops.bounding_boxes.overlap import compute_iou, image_size
from keraslite.ops.common import as_tensor_like, positions
from keraslite.ops.control_flow import while_loop
from keraslite.ops.core import cast
from keraslite.ops.math import top_k
from keraslite.typing import Tensor

_BLOCK = 64  # candidates that are compared with each other at a time on the host: bits of a word


def non_max_suppression(
    boxes: Any,
    scores: Any,
    labels: Any = None,
    iou_threshold: float = 0.7,
    score_threshold: float = 0.25,
    max_output_size: int = 300,
    bounding_box_format: str = "xyxy",
    class_agnostic: bool = False,
    multi_label: bool = False,
    pre_top_k: int | None = 1000,
    image_shape: Sequence | None = None,
) -> dict[str, Tensor]:
    """Select the boxes with the highest scores, none of which overlaps a better one too much.

    The boxes are taken from the best to the worst, of equal scores the first one first; a box is
    left out where its intersection over union with one taken before exceeds `iou_threshold`.
    Shapes are static, so that it runs under `jit`.

    Args:
        boxes: (batch, boxes, 4), or (boxes, 4) of one image.
        scores: (batch, boxes, classes), of which a box has its best class; or (batch, boxes).
            Without the batch axis for one image.
        labels: (batch, boxes), the classes of the boxes where a box has one score.
        iou_threshold: the largest overlap of two boxes that are both selected.
        score_threshold: boxes must have a higher score.
        max_output_size: the largest number of boxes selected for an image.
        bounding_box_format: the format of the boxes.
        class_agnostic: whether boxes of different classes suppress each other.
        multi_label: whether a box is a candidate for every class above `score_threshold`, instead
            of for its best one.
        pre_top_k: how many of the best candidates are compared; None for all.
        image_shape: (height, width, channels) of the images, needed for a relative format.

    Returns:
        A dict of "boxes" (batch, max_output_size, 4) in their format and dtype, "confidence",
        "labels" and "indices" (batch, max_output_size), all best first and padded by -1, and
        "num_detections" (batch,). "indices" are places among `boxes`.

    Raises:
        ValueError: shapes that do not match, a size that is not positive, or a relative format
            without `image_shape`.

    >>> boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]]
    >>> out = non_max_suppression(boxes, [0.6, 0.9, 0.8], max_output_size=4)
    >>> out["indices"].tolist(), int(out["num_detections"])
    ([1, 2, -1, -1], 2)
    """
    boxes = as_boxes(boxes)
    scores = as_tensor_like(scores, boxes)
    labels = None if labels is None else cast(as_tensor_like(labels, boxes), "int32")
    _check(boxes, scores, labels, max_output_size, pre_top_k)
    if len(boxes.shape) == 2:
        batch = (None if x is None else x[None] for x in (boxes, scores, labels))
        out = non_max_suppression(
            *batch, iou_threshold, score_threshold, max_output_size, bounding_box_format,
            class_agnostic, multi_label, pre_top_k, image_shape,
        )  # fmt: skip
        return {name: x[0] for name, x in out.items()}

    best, indices, labels = _best(scores, labels, multi_label, score_threshold, pre_top_k)
    own = k.take_along_axis(boxes, indices[..., None], 1)
    corners = convert_format(own, bounding_box_format, "xyxy", *image_size(image_shape))
    module = None if backends.of(boxes) == "symbolic" else backends.module_of(boxes)
    select = _select if module is None or module.is_traced(boxes) else _select_on_host
    places = select(
        corners, None if class_agnostic else labels, best > score_threshold, iou_threshold,
        max_output_size,
    )  # fmt: skip

    chosen, safe = places >= 0, k.maximum(places, 0)
    columns = {"confidence": best, "labels": labels, "indices": indices}
    return {
        "boxes": k.where(chosen[..., None], k.take_along_axis(own, safe[..., None], 1), -1),
        **{name: k.where(chosen, k.take_along_axis(x, safe, 1), -1) for name, x in columns.items()},
        "num_detections": k.sum(cast(chosen, "int32"), 1),
    }


def _check(boxes: Tensor, scores: Tensor, labels: Any, size: int, pre_top_k: int | None) -> None:
    outline, rank = tuple(boxes.shape), len(boxes.shape)
    if rank not in (2, 3):
        raise ValueError(f"boxes must be (batch, boxes, 4) or (boxes, 4), got {outline}.")
    if len(scores.shape) not in (rank - 1, rank) or tuple(scores.shape)[: rank - 1] != outline[:-1]:
        raise ValueError(
            f"scores must be {outline[:-1]} or {outline[:-1]} and classes, for boxes of "
            f"{outline}, got {tuple(scores.shape)}."
        )
    if labels is not None and not tuple(labels.shape) == tuple(scores.shape) == outline[:-1]:
        raise ValueError(
            "labels are for boxes with one score each: labels and scores must be "
            f"{outline[:-1]}, got {tuple(labels.shape)} and {tuple(scores.shape)}."
        )
    for name, value in (("max_output_size", size), ("pre_top_k", pre_top_k)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive, got {value}.")


def _best(
    scores: Tensor, labels: Any, multi_label: bool, threshold: float, count: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, boxes and classes (batch, candidates) of the best candidates, best first."""
    has_classes = len(scores.shape) == 3
    candidates = scores
    if has_classes and multi_label:
        candidates = k.reshape(scores, (-1, scores.shape[1] * scores.shape[2]))
    elif has_classes:
        candidates = k.max(scores, -1)
    candidates = k.where(candidates > threshold, candidates, -np.inf)
    size = candidates.shape[1]
    best, indices = top_k(candidates, size if count is None else min(count, size))
    if has_classes and multi_label:
        classes = scores.shape[2]
        return best, indices // classes, indices % classes
    if has_classes:
        rows = k.take_along_axis(scores, indices[..., None], 1)
        return best, indices, cast(k.argmax(rows, -1), "int32")
    labels = k.zeros_like(indices) if labels is None else k.take_along_axis(labels, indices, 1)
    return best, indices, labels


def _select(corners: Tensor, labels: Any, is_valid: Tensor, threshold: float, size: int) -> Tensor:
    """Return the places (batch, size) of the boxes that are kept, padded by -1.

    A box is kept where no kept one before it overlaps it. Repeated for all boxes at once, this is
    right for one more box each time at least, and seldom takes more than a few rounds.
    """
    count = corners.shape[1]
    overlaps = compute_iou(corners, corners, "xyxy") > threshold
    if labels is not None:
        overlaps = k.logical_and(overlaps, labels[:, :, None] == labels[:, None, :])
    overlaps = k.logical_and(overlaps, np.tri(count, k=-1, dtype=bool))  # with those before it

    def step(kept: Tensor, changed: Any) -> tuple:
        suppressed = k.any(k.logical_and(overlaps, kept[:, None, :]), -1)
        new = k.logical_and(is_valid, k.logical_not(suppressed))
        return new, k.any(new != kept)

    kept, _ = while_loop(lambda kept, changed: changed, step, (is_valid, k.any(is_valid)), count)
    # The kept ones in their order: each has a different rank, those before a higher one.
    ranks = k.where(kept, count - positions(corners, count), 0)
    ranks, places = top_k(ranks, min(size, count))
    places = k.where(ranks > 0, places, -1)
    return k.pad(places, ((0, 0), (0, size - places.shape[1])), constant_values=-1)


def _select_on_host(
    corners: Tensor, labels: Any, is_valid: Tensor, threshold: float, size: int
) -> Tensor:
    """Do what `_select` does one image and one box after the other, on the CPU."""
    counts = backends.to_numpy(is_valid).sum(1)  # the valid ones come first
    columns = backends.to_numpy(corners).transpose(0, 2, 1)
    classes = None if labels is None else backends.to_numpy(labels)
    places = np.full((len(columns), size), -1, "int32")
    for i, count in enumerate(counts):
        own = None if classes is None else classes[i, :count]
        kept = _greedy(np.ascontiguousarray(columns[i, :, :count]), own, threshold, size)
        places[i, : len(kept)] = kept
    return as_tensor_like(places, corners)


def _greedy(corners: np.ndarray, labels: Any, threshold: float, size: int) -> list[int]:
    """Return the places of the boxes of an image that are kept, `size` at most.

    Args:
        corners: (4, boxes), best first.
        labels: (boxes,), or None where classes make no difference.
        threshold: of the intersection over union.
        size: the largest number of boxes.
    """
    if labels is not None and (labels == labels[:1]).all():
        labels = None
    areas = (corners[2] - corners[0]) * (corners[3] - corners[1])

    def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if labels is None:
            return _iou(corners[:, first, None], areas[first, None], corners[:, second],
                        areas[second]) > threshold  # fmt: skip
        overlaps = labels[first, None] == labels[second]
        rows, columns = np.nonzero(overlaps)  # few of many pairs are of one class
        i, j = first[rows], second[columns]
        overlaps[rows, columns] = _iou(corners[:, i], areas[i], corners[:, j], areas[j]) > threshold
        return overlaps

    kept: list[int] = []
    for start in range(0, corners.shape[1], _BLOCK):
        block = np.arange(start, min(start + _BLOCK, corners.shape[1]))
        if kept:
            block = block[~overlap(block, np.array(kept)).any(1)]
        # The bits of a word say which boxes one suppresses.
        overlaps = np.zeros((len(block), _BLOCK), bool)
        overlaps[:, : len(block)] = overlap(block, block)
        words = np.packbits(overlaps, axis=1, bitorder="little").view("<u8")[:, 0].tolist()
        suppressed = 0
        for i, place in enumerate(block.tolist()):
            if not suppressed >> i & 1:
                suppressed |= words[i]
                kept.append(place)
                if len(kept) == size:
                    return kept
    return kept


def _iou(a: np.ndarray, a_areas: np.ndarray, b: np.ndarray, b_areas: np.ndarray) -> np.ndarray:
    """Return the intersection over union of corners (4, ...) that broadcast."""
    zero = np.float32(0)  # a number of Python is slower
    shared = np.minimum(a[2], b[2])
    shared -= np.maximum(a[0], b[0])
    np.maximum(shared, zero, out=shared)
    height = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    np.maximum(height, zero, out=height)
    shared *= height
    union = np.add(a_areas, b_areas, out=height)
    union -= shared
    union += np.float32(epsilon())
    shared /= union
    return shared
