"""The coefficient of determination."""

from typing import Any

from keraslite import ops
from keraslite.losses.loss import squeeze_or_expand_to_same_rank
from keraslite.metrics.metric import Metric

_AGGREGATIONS = (None, "uniform_average", "variance_weighted_average")


class R2Score(Metric):
    """The coefficient of determination, R2: the explained share of the targets' variance.

    Args:
        class_aggregation: "uniform_average", "variance_weighted_average", or None for one score
            an output.
        num_regressors: the number of predictors, for the adjusted score; 0 for the plain one.
        name: a name for logs.
        dtype: the dtype of the result.

    >>> float(R2Score()([[1.0], [2.0], [3.0]], [[1.0], [2.0], [3.0]]))
    1.0
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        if class_aggregation not in _AGGREGATIONS:
            raise ValueError(
                f"Invalid value for argument `class_aggregation`. Expected one of {_AGGREGATIONS}. "
                f"Received: class_aggregation={class_aggregation}"
            )
        if num_regressors < 0:
            raise ValueError(
                "Invalid value for argument `num_regressors`. Expected a value >= 0. "
                f"Received: num_regressors={num_regressors}"
            )
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors
        self.num_samples = self.add_variable((), name="num_samples")
        self._built = False

    def _build(self, shapes: tuple) -> None:
        if any(len(s) != 2 or s[-1] is None for s in shapes):
            raise ValueError(
                "R2Score expects 2D inputs with shape (batch_size, output_dim). "
                f"Received input shapes: y_true.shape={shapes[0]} and y_pred.shape={shapes[1]}."
            )
        for name in ("squared_sum", "sum", "total_mse", "count"):
            label = "residual" if name == "total_mse" else name
            setattr(self, name, self.add_variable((shapes[1][-1],), name=label))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take targets and predictions of shape (batch, outputs) into account."""
        y_true, y_pred, weight = self.to_tensors(y_true, y_pred, sample_weight, dtype=self.dtype)
        y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        if not self._built:
            self._build((tuple(y_true.shape), tuple(y_pred.shape)))
        weight = ops.ones_like(y_true) if weight is None else weight
        weight = ops.expand_dims(weight, 1) if len(weight.shape) == 1 else weight
        weight = ops.broadcast_to(weight, ops.shape(y_true))
        self.sum.assign_add(ops.sum(y_true * weight, axis=0))
        self.squared_sum.assign_add(ops.sum(y_true * y_true * weight, axis=0))
        self.total_mse.assign_add(ops.sum(ops.square(y_true - y_pred) * weight, axis=0))
        self.count.assign_add(ops.sum(weight, axis=0))
        self.num_samples.assign_add(ops.sum(ops.ones_like(y_true)))

    def result(self) -> Any:
        """The score so far."""
        if not self._built:
            return ops.zeros((), dtype=self.dtype)
        mean = ops.divide(self.sum.value, self.count.value)
        total = self.squared_sum.value - self.sum.value * mean
        scores = 1.0 - ops.divide(self.total_mse.value, total)
        scores = ops.where(ops.isinf(scores), ops.zeros_like(scores), scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.divide(ops.sum(total * scores), ops.sum(total))
        if not self.num_regressors:
            return scores
        samples = self.num_samples.value
        left = samples - self.num_regressors - 1.0
        adjusted = 1.0 - ops.divide_no_nan((1.0 - scores) * (samples - 1.0), left)
        # With too few samples the plain score stands.
        return ops.where(left > 0, adjusted, scores)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        names = ("class_aggregation", "num_regressors")
        return super().get_config() | {name: getattr(self, name) for name in names}
