"""F-scores: harmonic means of precision and recall."""

from typing import Any

from keraslite import config, ops
from keraslite.metrics.metric import Metric


class FBetaScore(Metric):
    """The weighted harmonic mean of precision and recall of each class.

    Args:
        average: None (one score a class), "micro", "macro" or "weighted".
        beta: how much more recall counts than precision.
        threshold: above which a prediction is positive; None takes the highest of a sample.
        name: a name for logs.
        dtype: the dtype of the result.

    >>> round(float(FBetaScore("macro", 2.0, 0.5)([[1.0], [0.0]], [[0.9], [0.8]])), 3)
    0.833
    """

    _direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ValueError(
                "Invalid `average` argument value. Expected one of: "
                f"{{None, 'micro', 'macro', 'weighted'}}. Received: average={average}"
            )
        if not isinstance(beta, float) or beta <= 0.0:
            raise ValueError(
                "Invalid `beta` argument value. It should be a Python float > 0. "
                f"Received: beta={beta} of type '{type(beta)}'"
            )
        if threshold is not None and not (isinstance(threshold, float) and 0.0 < threshold <= 1.0):
            raise ValueError(
                "Invalid `threshold` argument value. It should be a Python float with "
                f"0 < threshold <= 1. Received: threshold={threshold}"
            )
        self.average, self.beta, self.threshold = average, beta, threshold
        self._built = False

    def _build(self, y_true: Any, y_pred: Any) -> None:
        if len(y_pred.shape) != 2 or len(y_true.shape) != 2 or y_pred.shape[-1] is None:
            raise ValueError(
                f"{type(self).__name__} expects 2D inputs with shape (batch_size, output_dim). "
                f"Received input shapes: y_pred.shape={tuple(y_pred.shape)} and "
                f"y_true.shape={tuple(y_true.shape)}."
            )
        shape = () if self.average == "micro" else (y_pred.shape[-1],)
        for name in (
            "true_positives", "false_positives", "false_negatives", "intermediate_weights"
        ):  # fmt: skip
            setattr(self, name, self.add_variable(shape, dtype=self.dtype, name=name))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take one-hot or multi-hot targets and scores of shape (batch, classes) into account."""
        y_true, y_pred, weight = self.to_tensors(y_true, y_pred, sample_weight, dtype=self.dtype)
        if not self._built:
            self._build(y_true, y_pred)
        if self.threshold is None:
            best = y_pred >= ops.max(y_pred, axis=-1, keepdims=True)
            y_pred = ops.logical_and(best, ops.abs(y_pred) > 1e-9)
        else:
            y_pred = y_pred > self.threshold
        y_pred = ops.cast(y_pred, self.dtype)
        axis = None if self.average == "micro" else 0
        for variable, values in (
            (self.true_positives, y_pred * y_true),
            (self.false_positives, y_pred * (1 - y_true)),
            (self.false_negatives, (1 - y_pred) * y_true),
            (self.intermediate_weights, y_true),
        ):
            values = values if weight is None else values * ops.expand_dims(weight, 1)
            variable.assign_add(ops.sum(values, axis=axis))

    def result(self) -> Any:
        """The score so far."""
        if not self._built:
            return ops.zeros((), dtype=self.dtype)
        tp, epsilon = self.true_positives.value, config.epsilon()
        precision = tp / (tp + self.false_positives.value + epsilon)
        recall = tp / (tp + self.false_negatives.value + epsilon)
        square = self.beta**2
        score = precision * recall / (square * precision + recall + epsilon) * (1 + square)
        if self.average == "weighted":
            weights = self.intermediate_weights.value
            return ops.sum(score * (weights / (ops.sum(weights) + epsilon)))
        return score if self.average is None else ops.mean(score)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        arguments = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return super().get_config() | arguments


class F1Score(FBetaScore):
    """The harmonic mean of precision and recall of each class.

    Args:
        average: None (one score a class), "micro", "macro" or "weighted".
        threshold: above which a prediction is positive; None takes the highest of a sample.
        name: a name for logs.
        dtype: the dtype of the result.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average=average, threshold=threshold, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        return {k: v for k, v in super().get_config().items() if k != "beta"}
