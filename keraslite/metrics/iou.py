"""Intersection over union of segmentation masks, from a confusion matrix over classes."""

from collections.abc import Sequence
from typing import Any

from keraslite import config, ops
from keraslite.declare import REQUIRED, declare
from keraslite.metrics.metric import Metric


class IoU(Metric):
    """The mean over some classes of intersection over union.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the classes that count.
        name: a name for logs.
        dtype: the dtype of the counts, int32 if None.
        ignore_class: a label whose entries do not count.
        sparse_y_true: whether targets are class numbers; otherwise one-hot along `axis`.
        sparse_y_pred: whether predictions are class numbers; otherwise scores along `axis`.
        axis: the axis of classes.

    >>> round(float(IoU(2, [0])([0, 0, 1, 1], [0, 1, 0, 1])), 3)
    0.333
    """

    _direction = "up"
    _arguments: tuple[str, ...] = (
        "num_classes", "target_class_ids", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis",
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ):
        super().__init__(name=name, dtype=dtype or "int32")
        if max(target_class_ids) >= num_classes:
            raise ValueError(
                f"Target class id {max(target_class_ids)} is out of range, "
                f"which is [0, {num_classes})."
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.total_cm = self.add_variable(
            (num_classes, num_classes), dtype=self.dtype, name="total_confusion_matrix"
        )

    def setup(self, num_classes: int, **arguments: Any) -> None:
        # The special cases below: all classes unless some are named, one-hot targets unless said.
        arguments.setdefault("target_class_ids", list(range(num_classes)))
        IoU.__init__(self, num_classes, **(self._fixed | arguments))

    _fixed: dict[str, Any] = {}

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take masks of any shape into account."""
        y_true, y_pred, weight = self.to_tensors(y_true, y_pred, sample_weight)
        y_true = y_true if self.sparse_y_true else ops.argmax(y_true, axis=self.axis)
        y_pred = y_pred if self.sparse_y_pred else ops.argmax(y_pred, axis=self.axis)
        y_true, y_pred = (ops.reshape(ops.cast(y, "int32"), (-1,)) for y in (y_true, y_pred))
        count = self.num_classes
        valid = ops.logical_and(
            ops.logical_and(y_true >= 0, y_true < count),
            ops.logical_and(y_pred >= 0, y_pred < count),
        )
        if self.ignore_class is not None:
            valid = ops.logical_and(valid, ops.not_equal(y_true, self.ignore_class))
        counted = ops.cast(valid, self.dtype)
        if weight is not None:
            weight = ops.cast(weight, self.dtype)
            weight = ops.reshape(weight, (-1,)) if len(weight.shape) else weight
            counted = counted * weight
        cell = ops.where(valid, y_true * count + y_pred, ops.zeros_like(y_true))
        cells = ops.segment_sum(counted, cell, num_segments=count * count)
        self.total_cm.assign_add(ops.reshape(cells, (count, count)))

    def result(self) -> Any:
        """The mean so far, over the classes that occurred."""
        matrix = ops.cast(self.total_cm, "float32")
        both = ops.diag(matrix)
        either = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - both
        both, either = (ops.take(x, self.target_class_ids, axis=0) for x in (both, either))
        occurred = ops.cast(either > 1e-9, "float32")
        shares = occurred * both / (either + config.epsilon())
        return ops.sum(shares) / (ops.sum(occurred) + config.epsilon())

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return super().get_config() | {a: getattr(self, a) for a in self._arguments}


class BinaryIoU(IoU):
    """Intersection over union of class 0, class 1 or both, of predictions above a threshold.

    Args:
        target_class_ids: the classes that count.
        threshold: above or at which a prediction is class 1.
        name: a name for logs.
        dtype: the dtype of the counts.
    """

    _arguments = ("target_class_ids", "threshold")

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take masks of any shape into account."""
        y_true, y_pred = self.to_tensors(y_true, y_pred)
        super().update_state(y_true, y_pred >= self.threshold, sample_weight)


_ABOUT = """{summary}

    Args:
        {lines}name: a name for logs.
        dtype: the dtype of the counts.
        ignore_class: a label whose entries do not count.
        {sparse}axis: the axis of classes.
    """
_LINES = {
    "num_classes": "how many classes there are.",
    "target_class_ids": "the classes that count.",
    "sparse_y_true": "whether targets are class numbers.",
    "sparse_y_pred": "whether predictions are class numbers.",
}


def _iou(name: str, summary: str, first: tuple[str, ...], sparse: dict[str, bool]) -> type:
    lines = ["".join(f"{a}: {_LINES[a]}\n        " for a in names) for names in (first, sparse)]
    parameters = dict.fromkeys(first, REQUIRED) | {"name": None, "dtype": None}
    parameters |= {"ignore_class": None} | sparse | {"axis": -1}
    return declare(
        IoU, name, _ABOUT.format(summary=summary, lines=lines[0], sparse=lines[1]), parameters,
        _fixed={} if "sparse_y_true" in sparse else {"sparse_y_true": False},
        _arguments=(*first, "ignore_class", *sparse, "axis"),
    )  # fmt: skip


MeanIoU = _iou(
    "MeanIoU",
    "Intersection over union, the mean over all classes.",
    ("num_classes",),
    {"sparse_y_true": True, "sparse_y_pred": True},
)
OneHotIoU = _iou(
    "OneHotIoU",
    "`IoU` of one-hot targets.",
    ("num_classes", "target_class_ids"),
    {"sparse_y_pred": False},
)
OneHotMeanIoU = _iou(
    "OneHotMeanIoU",
    "`MeanIoU` of one-hot targets.",
    ("num_classes",),
    {"sparse_y_pred": False},
)
