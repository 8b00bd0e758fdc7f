"""The metrics that are means of a function: a row each."""

from typing import Any

from keraslite import ops
from keraslite.declare import declare
from keraslite.losses import functions as losses
from keraslite.losses.loss import pair
from keraslite.metrics import functions
from keraslite.metrics.reduction import Mean, MeanMetricWrapper

_ABOUT = """{summary}

    The value is the weighted mean over all samples.

    Args:
        {lines}name: a name for logs.
        dtype: the dtype of the result.
    """


def _mean(
    class_name: str,
    function: Any,
    direction: str,
    name: str = "",
    first: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    unwritten: tuple[str, ...] = (),
) -> type:
    """Declare the metric class of the mean of a function.

    Args:
        class_name: its name.
        function: a function of (y_true, y_pred).
        direction: "up" where larger is better, "down" where smaller is.
        name: the default name, the function's if empty.
        first: the function's arguments that stand before name and dtype, with their defaults.
        last: those that stand after.
        unwritten: arguments that are written into a config only where they are not the default.
    """
    first, last = first or {}, last or {}
    lines = "".join(f"{a}: as in `{function.__name__}`.\n        " for a in first | last)
    return declare(
        MeanMetricWrapper,
        class_name,
        _ABOUT.format(summary=(function.__doc__ or "").partition("\n")[0], lines=lines),
        first | {"name": name or function.__name__, "dtype": None} | last,
        function=staticmethod(function),
        _direction=direction,
        _unwritten=unwritten,
        _defaults=first | last,
    )


_K = {"k": 5}
_LOGITS = {"from_logits": False}
_SMOOTH = _LOGITS | {"label_smoothing": 0}
_AXIS = {"axis": -1}

Accuracy = _mean("Accuracy", functions.accuracy, "up")
BinaryAccuracy = _mean("BinaryAccuracy", functions.binary_accuracy, "up", last={"threshold": 0.5})
CategoricalAccuracy = _mean("CategoricalAccuracy", functions.categorical_accuracy, "up")
SparseCategoricalAccuracy = _mean(
    "SparseCategoricalAccuracy", functions.sparse_categorical_accuracy, "up"
)
TopKCategoricalAccuracy = _mean(
    "TopKCategoricalAccuracy", functions.top_k_categorical_accuracy, "up", first=_K
)
SparseTopKCategoricalAccuracy = _mean(
    "SparseTopKCategoricalAccuracy",
    functions.sparse_top_k_categorical_accuracy,
    "up",
    first=_K,
    last={"from_sorted_ids": False},
    unwritten=("from_sorted_ids",),
)
MeanSquaredError = _mean("MeanSquaredError", losses.mean_squared_error, "down")
MeanAbsoluteError = _mean("MeanAbsoluteError", losses.mean_absolute_error, "down")
MeanAbsolutePercentageError = _mean(
    "MeanAbsolutePercentageError", losses.mean_absolute_percentage_error, "down"
)
MeanSquaredLogarithmicError = _mean(
    "MeanSquaredLogarithmicError", losses.mean_squared_logarithmic_error, "down"
)
CosineSimilarity = _mean(
    "CosineSimilarity", functions.cosine_similarity, "up", last=_AXIS, unwritten=("axis",)
)
LogCoshError = _mean("LogCoshError", losses.log_cosh, "down", "logcosh")
KLDivergence = _mean("KLDivergence", losses.kl_divergence, "down")
Poisson = _mean("Poisson", losses.poisson, "down")
Hinge = _mean("Hinge", losses.hinge, "down")
SquaredHinge = _mean("SquaredHinge", losses.squared_hinge, "down")
CategoricalHinge = _mean("CategoricalHinge", losses.categorical_hinge, "down")
BinaryCrossentropy = _mean("BinaryCrossentropy", losses.binary_crossentropy, "down", last=_SMOOTH)
CategoricalCrossentropy = _mean(
    "CategoricalCrossentropy", losses.categorical_crossentropy, "down", last=_SMOOTH | _AXIS
)
SparseCategoricalCrossentropy = _mean(
    "SparseCategoricalCrossentropy",
    losses.sparse_categorical_crossentropy,
    "down",
    last=_LOGITS | {"ignore_class": None} | _AXIS,
)
PearsonCorrelation = _mean("PearsonCorrelation", functions.pearson_correlation, "up", last=_AXIS)
ConcordanceCorrelation = _mean(
    "ConcordanceCorrelation", functions.concordance_correlation, "up", last=_AXIS
)


class RootMeanSquaredError(Mean):
    """The root of the mean of `(y_true - y_pred) ** 2`.

    Args:
        name: a name for logs.
        dtype: the dtype of the result.

    >>> float(RootMeanSquaredError()([0.0, 0.0], [3.0, 3.0]))
    3.0
    """

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take targets and predictions of shape (batch, ...) into account."""
        y_true, y_pred = pair(*self.to_tensors(y_true, y_pred, dtype=self.dtype))
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self) -> Any:
        """The error so far."""
        return ops.sqrt(super().result())
