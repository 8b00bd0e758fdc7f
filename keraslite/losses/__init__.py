"""Losses: functions of (y_true, y_pred), and classes around them.

A class is a row below: its function, its default name, and the arguments it passes on.
"""

from typing import Any

from keraslite import registry
from keraslite.declare import declare
from keraslite.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_generalized_cross_entropy,
    categorical_hinge,
    circle,
    cosine_similarity,
    ctc,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from keraslite.losses.loss import Loss, squeeze_or_expand_to_same_rank


class LossFunctionWrapper(Loss):
    """A loss made of a function.

    Args:
        fn: a function of (y_true, y_pred) that gives one loss a sample.
        reduction: see `Loss`.
        name: see `Loss`.
        dtype: see `Loss`.
        kwargs: further arguments of `fn`.

    >>> float(LossFunctionWrapper(huber, delta=2.0)([[0.0]], [[4.0]]))
    6.0
    """

    _unwritten: tuple[str, ...] = ()  # arguments that Keras leaves out of configs

    def __init__(
        self,
        fn: Any,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.fn, self._fn_kwargs = fn, kwargs

    def setup(self, reduction: Any, name: Any, dtype: Any, **arguments: Any) -> None:
        LossFunctionWrapper.__init__(self, type(self).function, reduction, name, dtype, **arguments)
        self.__dict__.update(arguments)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses of samples."""
        if hasattr(y_true, "shape") and hasattr(y_pred, "shape"):
            y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self._fn_kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it."""
        if not hasattr(self, "function"):
            arguments = {"fn": self.fn} | self._fn_kwargs
            return super().get_config() | registry.serialize_keras_object(arguments)
        arguments = {
            k: v
            for k, v in self._fn_kwargs.items()
            if k not in self._unwritten or v != self._defaults[k]
        }
        return super().get_config() | arguments

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LossFunctionWrapper":
        """The loss of a config."""
        config = dict(config)
        if isinstance(config.get("fn"), str):
            config["fn"] = _TABLE.get(config["fn"]) or registry.resolve(config["fn"])
        elif isinstance(config.get("fn"), dict):
            config["fn"] = registry.deserialize_keras_object(config["fn"])
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.fn.__name__}, {self._fn_kwargs})>"


_CLASSES: dict[str, type] = {"Loss": Loss, "LossFunctionWrapper": LossFunctionWrapper}
_FUNCTIONS: dict[str, Any] = {}
_COMMON = {"reduction": "sum_over_batch_size", "name": None, "dtype": None}
_ABOUT = """{summary}

    Args:
        {lines}reduction: "sum_over_batch_size" ("mean"), "sum", "mean_with_sample_weight", "none".
        name: a name for logs.
        dtype: the dtype to compute in; floatx if None.
    """


def _loss(
    class_name: str,
    function: Any,
    parameters: dict[str, Any] | None = None,
    name: str = "",
    unwritten: tuple[str, ...] = (),
) -> type:
    """Declare the class of a loss function.

    Args:
        class_name: its name.
        function: the function.
        parameters: the function's own arguments with their defaults, in Keras's order; those
            that all losses have come last where they are not named.
        name: the default name, the function's if empty.
        unwritten: arguments that Keras leaves out of the config; written where not the default.
    """
    defaults = {k: v for k, v in (parameters or {}).items() if k not in _COMMON}
    lines = "".join(f"{a}: as in `{function.__name__}`.\n        " for a in defaults)
    cls = declare(
        LossFunctionWrapper,
        class_name,
        _ABOUT.format(summary=(function.__doc__ or "").partition("\n")[0], lines=lines),
        (parameters or {}) | {k: v for k, v in _COMMON.items() if k not in (parameters or {})}
        | {"name": name or function.__name__},
        function=staticmethod(function),
        _casts_targets=False,  # the functions cast; class numbers stay exact in half precision
        _unwritten=unwritten,
        _defaults=defaults,
    )  # fmt: skip
    _CLASSES[class_name], _FUNCTIONS[function.__name__] = cls, function
    return cls


_SMOOTH = {"from_logits": False, "label_smoothing": 0.0, "axis": -1}
_FOCAL = {"alpha": 0.25, "gamma": 2.0}
_FIRST = {"reduction": "sum_over_batch_size", "name": None}

MeanSquaredError = _loss("MeanSquaredError", mean_squared_error)
MeanAbsoluteError = _loss("MeanAbsoluteError", mean_absolute_error)
MeanAbsolutePercentageError = _loss("MeanAbsolutePercentageError", mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _loss("MeanSquaredLogarithmicError", mean_squared_logarithmic_error)
CosineSimilarity = _loss("CosineSimilarity", cosine_similarity, {"axis": -1}, unwritten=("axis",))
Huber = _loss("Huber", huber, {"delta": 1.0}, "huber_loss", unwritten=("delta",))
LogCosh = _loss("LogCosh", log_cosh)
KLDivergence = _loss("KLDivergence", kl_divergence)
Poisson = _loss("Poisson", poisson)
Hinge = _loss("Hinge", hinge)
SquaredHinge = _loss("SquaredHinge", squared_hinge)
CategoricalHinge = _loss("CategoricalHinge", categorical_hinge)
BinaryCrossentropy = _loss("BinaryCrossentropy", binary_crossentropy, _SMOOTH)
BinaryFocalCrossentropy = _loss(
    "BinaryFocalCrossentropy",
    binary_focal_crossentropy,
    {"apply_class_balancing": False} | _FOCAL | _SMOOTH,
)
CategoricalCrossentropy = _loss("CategoricalCrossentropy", categorical_crossentropy, _SMOOTH)
CategoricalFocalCrossentropy = _loss(
    "CategoricalFocalCrossentropy", categorical_focal_crossentropy, _FOCAL | _SMOOTH
)
SparseCategoricalCrossentropy = _loss(
    "SparseCategoricalCrossentropy",
    sparse_categorical_crossentropy,
    {"from_logits": False, "ignore_class": None, "reduction": "sum_over_batch_size", "axis": -1},
    unwritten=("axis",),
)
CategoricalGeneralizedCrossEntropy = _loss(
    "CategoricalGeneralizedCrossEntropy", categorical_generalized_cross_entropy, {"q": 0.5}
)
Dice = _loss("Dice", dice, _FIRST | {"axis": None})
Tversky = _loss("Tversky", tversky, {"alpha": 0.5, "beta": 0.5} | _FIRST | {"axis": None})
CTC = _loss("CTC", ctc)
Circle = _loss("Circle", circle, {"gamma": 80.0, "margin": 0.4, "remove_diagonal": True})

_ALIASES = {
    "bce": binary_crossentropy,
    "kld": kl_divergence,
    "mae": mean_absolute_error,
    "mse": mean_squared_error,
    "mape": mean_absolute_percentage_error,
    "msle": mean_squared_logarithmic_error,
}
_TABLE = _CLASSES | _FUNCTIONS | _ALIASES | {k.upper(): v for k, v in _ALIASES.items()}


def serialize(loss: Any) -> Any:
    """The config of a loss, or the name of a loss function."""
    return registry.serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: Any = None) -> Any:
    """The loss of a config or name."""
    if isinstance(name, str):
        return get(name)
    return registry.deserialize_keras_object(name, custom_objects)


def get(identifier: Any) -> Any:
    """A loss from a name, a config, a class, a function, or None.

    >>> get("mse").__name__, type(get("MeanSquaredError")).__name__
    ('mean_squared_error', 'MeanSquaredError')
    """
    return registry.get(identifier, _TABLE, "loss")


__all__ = [
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CTC", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "CategoricalGeneralizedCrossEntropy", "CategoricalHinge",
    "Circle", "CosineSimilarity", "Dice", "Hinge", "Huber", "KLDivergence", "LogCosh", "Loss",
    "LossFunctionWrapper", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson", "SparseCategoricalCrossentropy", "SquaredHinge",
    "Tversky", "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge",
    "circle", "cosine_similarity", "ctc", "deserialize", "dice", "get", "hinge", "huber",
    "kl_divergence", "log_cosh", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "poisson", "serialize",
    "sparse_categorical_crossentropy", "squared_hinge", "squeeze_or_expand_to_same_rank",
    "tversky",
]  # fmt: skip
