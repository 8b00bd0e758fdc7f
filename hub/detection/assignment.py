"""Task-aligned assignment: which positions of a detector learn which box.

A position is good for a box where it already predicts both the box's class and the box itself
well. Source: Feng et al., "TOOD: Task-aligned One-stage Object Detection", 2021,
https://arxiv.org/abs/2108.07755, with the complete intersection over union as overlap, as YOLOv8
has it.
"""

from typing import Any, NamedTuple

import numpy as np

from keraslite import ops
from keraslite.ops import bounding_boxes

# The label of a region whose positions give no class loss; -3 - c for one of class c.
IGNORED = -2


class Assignment(NamedTuple):
    """The training targets of the positions of a batch.

    Attributes:
        boxes: (batch, positions) int32, which box of the image; 0 where there is none.
        scores: (batch, positions) float32, the target for the box's class; 0 without a box.
        is_foreground: (batch, positions) bool, whether the position has a box.
        is_ignored: (batch, positions) bool, whether it has none and lies in an ignored region.
    """

    boxes: Any
    scores: Any
    is_foreground: Any
    is_ignored: Any


def assign(
    predicted_boxes: Any,
    class_logits: Any,
    boxes: Any,
    labels: Any,
    points: Any,
    candidates: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> Assignment:
    """Assign positions to boxes; nothing of it has a gradient.

    A box takes the `candidates` best of the positions inside it, by
    `score ** alpha * overlap ** beta`; a position that several boxes take goes to the one that it
    overlaps best. The targets of a box's positions are in proportion to this measure, and the
    largest of them is the best overlap.

    Args:
        predicted_boxes: (batch, positions, 4), "xyxy".
        class_logits: (batch, positions, classes).
        boxes: (batch, objects, 4), "xyxy", with at least one row.
        labels: (batch, objects), class numbers; -1 for rows of padding, -2 for ignored
            regions, -3 - c for those of class c.
        points: (positions, 2), x and y of the positions.
        candidates: the largest number of positions of a box.
        alpha: the exponent of the predicted score of the box's class.
        beta: the exponent of the overlap.

    >>> points = np.float32([[4, 4], [12, 4]])
    >>> predicted = np.float32([[[0, 0, 8, 8], [0, 0, 10, 8]]])
    >>> result = assign(predicted, np.zeros((1, 2, 1)), predicted[:, :1], [[0]], points)
    >>> result.scores.tolist(), result.is_foreground.tolist()
    ([[1.0, 0.0]], [[True, False]])
    """
    predicted_boxes, class_logits, boxes, labels = (
        ops.stop_gradient(ops.convert_to_tensor(x))
        for x in (predicted_boxes, class_logits, boxes, labels)
    )
    labels = ops.cast(labels, "int32")
    is_object, is_region = labels >= 0, labels <= IGNORED
    # Rows of padding may hold anything, NaN too.
    boxes = ops.where(ops.expand_dims(is_object | is_region, -1), boxes, 0.0)

    # From here on (batch, objects, positions).
    is_inside = _is_inside(boxes, points)
    is_candidate = is_inside & ops.expand_dims(is_object, -1)
    overlaps = bounding_boxes.compute_ciou(
        ops.expand_dims(boxes, 2), ops.expand_dims(predicted_boxes, 1), "xyxy"
    )
    overlaps = ops.maximum(overlaps, 0.0)
    codes = ops.one_hot(labels, class_logits.shape[-1], dtype=class_logits.dtype)
    scores = ops.sigmoid(ops.matmul(codes, ops.swapaxes(class_logits, 1, 2)))  # of the own class
    alignment = ops.where(is_candidate, scores**alpha * overlaps**beta, -1.0)

    is_taken = _is_among_largest(alignment, candidates) & is_candidate
    is_foreground = ops.any(is_taken, axis=1)
    # As argmax along the second axis, which is slow on torch.
    taken = ops.where(is_taken, overlaps, -1.0)
    numbers = np.arange(labels.shape[1], dtype="int32")[:, None]
    is_best = ops.equal(taken, ops.max(taken, axis=1, keepdims=True))
    owner = ops.min(ops.where(is_best, numbers, len(numbers)), axis=1)
    is_owned = is_taken & ops.equal(ops.expand_dims(owner, 1), numbers)

    alignment = ops.where(is_owned, alignment, 0.0)
    best_alignment = ops.take_along_axis(ops.max(alignment, axis=2), owner, 1)
    best_overlap = ops.take_along_axis(
        ops.max(ops.where(is_owned, overlaps, 0.0), axis=2), owner, 1
    )
    own_alignment = ops.max(alignment, axis=1)
    return Assignment(
        owner,
        ops.divide_no_nan(own_alignment, best_alignment) * best_overlap,
        is_foreground,
        ops.any(is_inside & ops.expand_dims(is_region, -1), axis=1) & ~is_foreground,
    )


def _is_inside(boxes: Any, points: Any) -> Any:
    """Return whether points lie inside boxes, not on an edge: (batch, objects, positions)."""
    x, y = points[:, 0], points[:, 1]
    left, top, right, bottom = (boxes[..., i : i + 1] for i in range(4))
    return ops.less(left, x) & ops.less(top, y) & ops.greater(right, x) & ops.greater(bottom, y)


def _is_among_largest(x: Any, count: int) -> Any:
    """Return whether a number is among the largest of its row, of equal ones the first."""
    size = x.shape[-1]
    values, indices = ops.top_k(x, min(count, size))
    least, last = values[..., -1:], indices[..., -1:]
    # Equal numbers are in the order of their places: those up to the last one are among them.
    return (x > least) | ((x == least) & ops.less_equal(np.arange(size, dtype="int32"), last))
