"""The area under the ROC or precision-recall curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import config, ops
from keraslite.metrics.confusion import CELLS, ConfusionMetric, are_even, evenly_spaced

_CURVES = ("ROC", "PR", "PRGAIN")
_METHODS = ("interpolation", "majoring", "minoring")


def _one_of(value: Any, allowed: Sequence[str], what: str) -> str:
    choice = {a.lower(): a for a in allowed}.get(str(getattr(value, "value", value)).lower())
    if choice is None:
        raise ValueError(f'Invalid {what} value: "{value}". Expected values are {list(allowed)}')
    return choice


class AUC(ConfusionMetric):
    """The area under a curve of rates, approximated by a sum over thresholds.

    Args:
        num_thresholds: how many thresholds.
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: "interpolation", "majoring" or "minoring".
        name: a name for logs.
        dtype: the dtype of the result.
        thresholds: the thresholds themselves, beside 0 and 1.
        multi_label: whether the columns of (samples, labels) have a curve each.
        num_labels: the number of columns, if known.
        label_weights: weights of the columns.
        from_logits: whether predictions are logits.

    >>> float(AUC()([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.75
    """

    _cells = {c: c for c in CELLS}
    _direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ):
        super().__init__(name=name, dtype=dtype)
        self.curve = _one_of(curve, _CURVES, "AUC curve")
        self.summation_method = _one_of(summation_method, _METHODS, "AUC summation method")
        if thresholds is None and num_thresholds <= 1:
            raise ValueError(
                "Argument `num_thresholds` must be an integer > 1. "
                f"Received: num_thresholds={num_thresholds}"
            )
        if num_labels and not multi_label:
            raise ValueError("`num_labels` is needed only when `multi_label` is True.")
        self._thresholds_argument = thresholds
        spaced = (
            evenly_spaced(num_thresholds) if thresholds is None else [0, *sorted(thresholds), 1]
        )
        # The ends lie outside, so that predictions of 0 and 1 are above and below them.
        edge = config.epsilon()
        self.thresholds = [0.0 - edge, *(float(t) for t in spaced[1:-1]), 1.0 + edge]
        self._even = are_even(spaced)
        self.num_thresholds = len(self.thresholds)
        self.multi_label, self.num_labels = multi_label, num_labels
        self.label_weights, self._from_logits = label_weights, from_logits
        self._built = False
        if not multi_label or num_labels:
            self._build(num_labels)

    def _build(self, labels: int | None) -> None:
        shape = (self.num_thresholds, labels) if self.multi_label else (self.num_thresholds,)
        for name in CELLS:
            setattr(self, name, self.add_variable(shape, name=name))
        self._built = True

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"multi_label": self.multi_label}
        if self.label_weights is not None and not self.multi_label:
            options["label_weights"] = self._label_weights()
        return options

    def _label_weights(self) -> Any:
        return np.asarray(self.label_weights, config.floatx())

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take targets and predictions of shape (samples, ...) into account."""
        y_true, y_pred = self.to_tensors(y_true, y_pred)
        if not self._built:
            if len(y_pred.shape) != 2:
                raise ValueError(
                    "`y_pred` must have rank 2 when `multi_label=True`. "
                    f"Full shape received for `y_pred`: {tuple(y_pred.shape)}"
                )
            self._build(y_pred.shape[1])
        super().update_state(
            y_true, ops.sigmoid(y_pred) if self._from_logits else y_pred, sample_weight
        )

    def _curve(self) -> tuple[Any, Any]:
        """The points of the curve, one a threshold."""
        tp, fp, tn, fn = (getattr(self, c).value for c in CELLS)
        recall = ops.divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            return ops.divide_no_nan(fp, fp + tn), recall
        if self.curve == "PR":
            return recall, ops.divide_no_nan(tp, tp + fp)
        scale = ops.divide_no_nan(tp + fn, tn + fp)
        none = ops.equal(tp, 0.0)
        gains = [1.0 - scale * ops.divide_no_nan(wrong, tp) for wrong in (fn, fp)]
        x = ops.maximum(ops.where(none, ops.zeros_like(tp), gains[0]), 0.0)
        return x, ops.where(none, ops.ones_like(tp), gains[1])

    def _interpolated_pr(self) -> Any:
        """The areas between thresholds where precision is interpolated as Davis & Goadrich do."""
        tp, fp, _, fn = (getattr(self, c).value for c in CELLS)
        dtp, p = tp[:-1] - tp[1:], tp + fp
        slope = ops.divide_no_nan(dtp, ops.maximum(p[:-1] - p[1:], 0.0))
        intercept = tp[1:] - slope * p[1:]
        ratio = ops.where(
            ops.logical_and(p[:-1] > 0, p[1:] > 0),
            ops.divide_no_nan(p[:-1], ops.maximum(p[1:], 0.0)),
            ops.ones_like(p[1:]),
        )
        area = slope * (dtp + intercept * ops.log(ratio))
        return ops.divide_no_nan(area, ops.maximum(tp[1:] + fn[1:], 0.0))

    def result(self) -> Any:
        """The area so far; the mean over labels with `multi_label`."""
        if (self.curve, self.summation_method) == ("PR", "interpolation"):
            areas = self._interpolated_pr()
        else:
            x, y = self._curve()
            height = {
                "interpolation": lambda a, b: (a + b) / 2.0,
                "minoring": ops.minimum,
                "majoring": ops.maximum,
            }[self.summation_method](y[:-1], y[1:])
            areas = (x[:-1] - x[1:]) * height
        if not self.multi_label:
            return ops.sum(areas)
        areas = ops.sum(areas, axis=0)
        if self.label_weights is None:
            return ops.mean(areas)
        weights = self._label_weights()
        return ops.divide_no_nan(ops.sum(ops.multiply(areas, weights)), float(weights.sum()))

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        names = ("num_thresholds", "curve", "summation_method", "multi_label", "num_labels",
                 "label_weights")  # fmt: skip
        arguments = {name: getattr(self, name) for name in names} | {
            "from_logits": self._from_logits
        }
        if self._thresholds_argument is not None:
            arguments["thresholds"] = self.thresholds[1:-1]
        return super().get_config() | arguments
