"""Sums and means over batches, and the mean of a function of targets and predictions."""

from typing import Any

from keraslite import masking, ops, registry
from keraslite.losses.loss import Loss, apply_mask, fit_weights, is_structure
from keraslite.metrics.metric import Metric


def _samplewise(values: Any, weight: Any, reduce: Any) -> tuple[Any, Any]:
    """Reduce values and weights to one a sample, and weigh the values.

    Args:
        values: shape (batch, ...).
        weight: weights of the leading axes, or None.
        reduce: `ops.sum` or `ops.mean`.
    """
    if weight is not None:
        weight = fit_weights(weight, values)
        rank = len(weight.shape)
        if len(values.shape) > rank:
            values = reduce(values, axis=list(range(rank, len(values.shape))))
        weight = ops.broadcast_to(weight, ops.shape(values))
        values = values * weight
        if rank > 1:
            weight = reduce(weight, axis=list(range(1, rank)))
    if len(values.shape) > 1:
        values = reduce(values, axis=list(range(1, len(values.shape))))
    return values, weight


def _weighted(metric: Metric, values: Any, weight: Any) -> tuple[Any, Any]:
    """Values and weights as tensors; the mask of the values, if any, goes into given weights."""
    mask = masking.get_mask(values)
    values, weight = metric.to_tensors(values, weight, dtype=metric.dtype)
    if weight is not None:  # without weights, Keras counts masked values
        weight = apply_mask(weight, mask, metric.dtype, "sum")
    return values, weight


class Sum(Metric):
    """The weighted sum of all values.

    Args:
        name: a name for logs.
        dtype: the dtype of the result.

    >>> float(Sum()([1.0, 3.0]))
    4.0
    """

    def __init__(self, name: str = "sum", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), dtype=self.dtype, name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Take values of shape (batch, ...) into account."""
        values, _ = _samplewise(*_weighted(self, values, sample_weight), ops.sum)
        self.total.assign_add(ops.sum(values))

    def result(self) -> Any:
        """The sum so far."""
        return ops.cast(self.total, self.dtype)


class Mean(Metric):
    """The weighted mean of all values.

    Args:
        name: a name for logs.
        dtype: the dtype of the result.

    >>> float(Mean()([1.0, 3.0]))
    2.0
    """

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), dtype=self.dtype, name="total")
        self.count = self.add_variable((), dtype=self.dtype, name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Take values of shape (batch, ...) into account."""
        if type(sample_weight) is int and getattr(values, "shape", None) == ():  # a loss, of rows
            (values,) = self.to_tensors(values, dtype=self.dtype)
            self.total.assign_add(values * sample_weight)
            self.count.assign_add(sample_weight)
            return
        values, weight = _samplewise(*_weighted(self, values, sample_weight), ops.mean)
        self.total.assign_add(ops.sum(values))
        if weight is not None:
            self.count.assign_add(ops.sum(weight))
        else:
            self.count.assign_add(ops.shape(values)[0] if len(values.shape) else 1)

    def result(self) -> Any:
        """The mean so far; zero where nothing was seen."""
        return ops.cast(ops.divide_no_nan(self.total, self.count), self.dtype)


class MeanMetricWrapper(Mean):
    """The mean of a function of targets and predictions.

    Args:
        fn: a function of (y_true, y_pred) that gives one value a sample.
        name: a name for logs.
        dtype: the dtype of the result.
        kwargs: further arguments of `fn`.

    >>> float(MeanMetricWrapper(lambda t, p: abs(t - p))([1.0, 2.0], [1.0, 4.0]))
    1.0
    """

    _unwritten: tuple[str, ...] = ()  # arguments that Keras leaves out of configs

    def __init__(self, fn: Any, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name=name, dtype=dtype)
        self._fn, self._fn_kwargs = fn, kwargs
        if isinstance(fn, Loss) or getattr(fn, "__module__", "") == "keraslite.losses.functions":
            self._direction = "down"

    def setup(self, name: Any, dtype: Any, **arguments: Any) -> None:
        MeanMetricWrapper.__init__(self, type(self).function, name, dtype, **arguments)
        self.__dict__.update(arguments)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take targets and predictions of shape (batch, ...) into account."""
        mask = masking.get_mask(y_pred)
        if not is_structure(y_pred) and not is_structure(y_true):
            y_true, y_pred = self.to_tensors(y_true, y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        if mask is not None:
            _, sample_weight = self.to_tensors(mask, sample_weight)
            sample_weight = apply_mask(sample_weight, mask, self.dtype, "sum")
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        if not hasattr(self, "function"):
            arguments = {"fn": self._fn} | self._fn_kwargs
            return super().get_config() | registry.serialize_keras_object(arguments)
        return super().get_config() | {
            k: v
            for k, v in self._fn_kwargs.items()
            if k not in self._unwritten or v != self._defaults[k]
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MeanMetricWrapper":
        """The metric of a config."""
        config = dict(config)
        if isinstance(config.get("fn"), str):
            config["fn"] = registry.resolve(config["fn"], "keras.metrics")
        elif isinstance(config.get("fn"), dict):
            config["fn"] = registry.deserialize_keras_object(config["fn"])
        return cls(**config)
