"""Metrics of the four cells of the confusion matrix, at one or many thresholds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import config, ops
from keraslite.declare import REQUIRED, declare
from keraslite.losses.loss import fit_weights, squeeze_or_expand_to_same_rank
from keraslite.metrics.metric import Metric

CELLS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
NEGATIVE = -1e10  # the score of classes that are not among the top k


def evenly_spaced(count: int) -> list[float]:
    """Thresholds from 0 to 1."""
    return [0.0, *((i + 1) / (count - 1) for i in range(count - 2)), 1.0]


def are_even(thresholds: Sequence[float]) -> bool:
    """Whether thresholds lie evenly between 0 and 1."""
    count = len(thresholds)
    even = np.arange(count, dtype=np.float32) / max(count - 1, 1)
    return count > 2 and bool(np.allclose(thresholds, even, atol=config.epsilon()))


def _only_top_k(scores: Any, k: int) -> Any:
    _, best = ops.top_k(scores, k)
    kept = ops.sum(ops.one_hot(best, scores.shape[-1], dtype=ops.dtype(scores)), axis=-2)
    return scores * kept + NEGATIVE * (1.0 - kept)


def _weights(y_pred: Any, sample_weight: Any, label_weights: np.ndarray | None) -> Any:
    """One weight for each prediction, or None for ones."""
    if sample_weight is None and label_weights is None:
        return None
    weights = ops.ones_like(y_pred) if sample_weight is None else sample_weight
    if label_weights is not None:
        weights = ops.multiply(weights, label_weights[None])
    return ops.broadcast_to(weights, ops.shape(y_pred))


def _above_each(counted: Any, y_pred: Any, thresholds: np.ndarray) -> Any:
    """Count the samples predicted above each threshold.

    Args:
        counted: shape (samples, labels, 2).
        y_pred: predictions, shape (samples, labels).
        thresholds: shape (thresholds,).

    Returns:
        Shape (labels, thresholds, 2).
    """
    above = ops.greater(ops.expand_dims(y_pred, -1), thresholds)
    above = ops.expand_dims(ops.cast(above, ops.dtype(y_pred)), -1)
    return ops.sum(ops.expand_dims(counted, 2) * above, axis=0)


def _above_even(counted: Any, y_pred: Any, count: int, outside: bool) -> Any:
    """The same for evenly spaced thresholds: samples fall into buckets, which are summed up.

    Args:
        counted: shape (samples, labels, 2).
        y_pred: predictions, shape (samples, labels).
        count: the number of thresholds.
        outside: whether the first threshold is below zero, so that a prediction of 0 is above it.
    """
    labels = y_pred.shape[-1]
    bucket = ops.ceil(ops.clip(y_pred, 0.0, 1.0) * (count - 1)) - 1
    if not outside:
        counted = counted * ops.expand_dims(ops.cast(bucket >= 0, ops.dtype(counted)), -1)
    bucket = ops.cast(ops.maximum(bucket, 0.0), "int32")
    if labels > 1:
        bucket = ops.add(bucket, np.arange(labels, dtype=np.int32) * count)
    histogram = ops.segment_sum(
        ops.reshape(counted, (-1, 2)), ops.reshape(bucket, (-1,)), num_segments=count * labels
    )
    histogram = ops.reshape(histogram, (labels, count, 2))
    return ops.flip(ops.cumsum(ops.flip(histogram, axis=1), axis=1), axis=1)


def confusion(
    y_true: Any,
    y_pred: Any,
    thresholds: Sequence[float],
    sample_weight: Any = None,
    top_k: int | None = None,
    class_id: int | None = None,
    multi_label: bool = False,
    label_weights: Any = None,
    even: bool = False,
) -> dict[str, Any]:
    """The weighted cells of the confusion matrix at each threshold.

    Args:
        y_true: targets, taken as booleans, shape (samples, ...).
        y_pred: predictions of the same shape.
        thresholds: above which a prediction counts as positive.
        sample_weight: weights of samples, or None.
        top_k: if given, only the k highest predictions of a sample can be positive.
        class_id: if given, only this entry of the last axis counts.
        multi_label: whether the columns of (samples, labels) are counted apart.
        label_weights: weights of the last axis, or None.
        even: whether the thresholds are evenly spaced from 0 to 1.

    Returns:
        Each cell: shape (thresholds,), or (thresholds, labels) with `multi_label`.
    """
    y_pred, y_true = squeeze_or_expand_to_same_rank(y_pred, y_true)
    if sample_weight is not None:
        sample_weight = fit_weights(sample_weight, y_true)
    if top_k is not None:
        y_pred = _only_top_k(y_pred, top_k)
    if class_id is not None:
        if len(y_pred.shape) == 1:
            raise ValueError(
                "When class_id is provided, y_pred must be a 2D array with shape (num_samples, "
                f"num_classes), found shape: {tuple(y_pred.shape)}"
            )
        y_true, y_pred = y_true[..., class_id, None], y_pred[..., class_id, None]
    weights = _weights(y_pred, sample_weight, label_weights)
    positive = ops.cast(ops.cast(y_true, "bool"), ops.dtype(y_pred))
    counted = ops.stack([positive, 1.0 - positive], axis=-1)
    if weights is not None:
        counted = counted * ops.expand_dims(weights, -1)
    columns = y_pred.shape[-1] if multi_label else 1
    counted, y_pred = ops.reshape(counted, (-1, columns, 2)), ops.reshape(y_pred, (-1, columns))
    if even:
        above = _above_even(counted, y_pred, len(thresholds), thresholds[0] < 0.0)
    else:
        above = _above_each(counted, y_pred, np.asarray(thresholds, config.floatx()))
    below = ops.expand_dims(ops.sum(counted, axis=0), 1) - above
    cells = (above[..., 0], above[..., 1], below[..., 1], below[..., 0])
    cells = [ops.transpose(x) if multi_label else x[0] for x in cells]
    return dict(zip(CELLS, cells, strict=True))


class ConfusionMetric(Metric):
    """The base of metrics that gather cells of the confusion matrix."""

    _cells: dict[str, str] = {}  # the cell -> the variable that gathers it
    _even = False
    top_k: int | None = None
    class_id: int | None = None

    def _gather(self, thresholds: Any, cells: dict[str, str] | None = None) -> None:
        self.thresholds = thresholds
        self._cells = cells or {c: c for c in self._cells}
        self._even = are_even(thresholds)
        for name in self._cells.values():
            setattr(self, name, self.add_variable((len(thresholds),), name=name))

    def _options(self) -> dict[str, Any]:
        return {"top_k": self.top_k, "class_id": self.class_id}

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take targets and predictions of shape (samples, ...) into account."""
        values = self.to_tensors(y_true, y_pred, sample_weight, dtype=config.floatx())
        cells = confusion(
            values[0], values[1], self.thresholds, values[2], even=self._even, **self._options()
        )
        for cell, name in self._cells.items():
            getattr(self, name).assign_add(cells[cell])

    def _rate(self, part: str, other: str) -> Any:
        part, other = getattr(self, part), getattr(self, other)
        return ops.divide_no_nan(part, part + other)


def _thresholds(thresholds: Any, default: float) -> list[float]:
    values = [default] if thresholds is None else thresholds
    values = list(values) if isinstance(values, list | tuple) else [values]
    wrong = [t for t in values if t is None or (thresholds is not None and not 0 <= t <= 1)]
    if wrong:
        raise ValueError(f"Threshold values must be in [0, 1]. Received: {wrong}")
    return values


class _AtThresholds(ConfusionMetric):
    """Cells, or the rate between two of them, at given thresholds."""

    def setup(self, thresholds: Any, name: Any, dtype: Any, **options: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.__dict__.update(options)
        default = 0.5 if options.get("top_k") is None else NEGATIVE
        cells = {self._counted: "accumulator"} if self._counted else None
        self._gather(_thresholds(thresholds, default), cells)

    _counted: str | None = None

    def result(self) -> Any:
        """The value so far; one a threshold if there are several."""
        if self._counted:
            result = self.accumulator.value
        else:
            result = self._rate(*self._cells)
        return result[0] if len(self.thresholds) == 1 else result

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        own = {} if self._counted else self._options()
        return super().get_config() | {"thresholds": self.init_thresholds} | own


_ABOUT = """{summary}

    Args:
        thresholds: a number or a list of numbers above which a prediction is positive; 0.5.
        {lines}name: a name for logs.
        dtype: the dtype of the result.
    """
_LINES = """top_k: if given, only the k highest predictions of a sample can be positive.
        class_id: if given, only this class counts.
        """
_LAST = {"name": None, "dtype": None}


def _count(name: str, cell: str) -> type:
    summary = f"The weighted number of {cell.replace('_', ' ')}."
    about = _ABOUT.format(summary=summary, lines="")
    return declare(_AtThresholds, name, about, {"thresholds": None} | _LAST, _counted=cell)


def _ratio(name: str, summary: str, cells: tuple[str, str]) -> type:
    about = _ABOUT.format(summary=summary, lines=_LINES)
    parameters = {"thresholds": None, "top_k": None, "class_id": None} | _LAST
    cells = {c: c for c in cells}
    return declare(_AtThresholds, name, about, parameters, _cells=cells, _direction="up")


TruePositives = _count("TruePositives", "true_positives")
FalsePositives = _count("FalsePositives", "false_positives")
TrueNegatives = _count("TrueNegatives", "true_negatives")
FalseNegatives = _count("FalseNegatives", "false_negatives")
Precision = _ratio(
    "Precision", "How many of the positive predictions are right.",
    ("true_positives", "false_positives"),
)  # fmt: skip
Recall = _ratio(
    "Recall", "How many of the positive targets are found.",
    ("true_positives", "false_negatives"),
)  # fmt: skip


_RATES = {
    "sensitivity": ("true_positives", "false_negatives"),
    "recall": ("true_positives", "false_negatives"),
    "specificity": ("true_negatives", "false_positives"),
    "precision": ("true_positives", "false_positives"),
}


class _BestRate(ConfusionMetric):
    """The highest of one rate over the thresholds where another is at least a bound."""

    _cells = {c: c for c in CELLS}
    _direction = "up"
    _bounded = _maximized = ""  # the names of the two rates

    def setup(
        self, num_thresholds: int, class_id: Any, name: Any, dtype: Any, **bound: float
    ) -> None:
        value = bound[self._bounded]
        if not 0 <= value <= 1:
            raise ValueError(
                f"Argument `{self._bounded}` must be in the range [0, 1]. "
                f"Received: {self._bounded}={value}"
            )
        if num_thresholds <= 0:
            raise ValueError(
                "Argument `num_thresholds` must be an integer > 0. "
                f"Received: num_thresholds={num_thresholds}"
            )
        super().__init__(name=name, dtype=dtype)
        self.value, self.class_id, self.num_thresholds = value, class_id, num_thresholds
        setattr(self, self._bounded, value)
        self._gather([0.5] if num_thresholds == 1 else evenly_spaced(num_thresholds))

    def result(self) -> Any:
        """The best rate so far."""
        bounded, maximized = (self._rate(*_RATES[r]) for r in (self._bounded, self._maximized))
        return ops.max(ops.where(bounded >= self.value, maximized, ops.zeros_like(maximized)))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        names = ("num_thresholds", "class_id", self._bounded)
        return super().get_config() | {n: getattr(self, n) for n in names}


def _best(name: str, maximized: str, bounded: str) -> type:
    about = f"""The best {maximized} over the thresholds where the {bounded} is at least a value.

    Args:
        {bounded}: that value, from 0 to 1.
        num_thresholds: how many thresholds are tried.
        class_id: if given, only this class counts.
        name: a name for logs.
        dtype: the dtype of the result.
    """
    parameters = {bounded: REQUIRED, "num_thresholds": 200, "class_id": None} | _LAST
    return declare(_BestRate, name, about, parameters, _bounded=bounded, _maximized=maximized)


SensitivityAtSpecificity = _best("SensitivityAtSpecificity", "sensitivity", "specificity")
SpecificityAtSensitivity = _best("SpecificityAtSensitivity", "specificity", "sensitivity")
PrecisionAtRecall = _best("PrecisionAtRecall", "precision", "recall")
RecallAtPrecision = _best("RecallAtPrecision", "recall", "precision")
