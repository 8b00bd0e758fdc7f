"""Models behind the interface of scikit-learn: for pipelines, searches and cross-validation."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from keraslite.models.cloning import clone_model
from keraslite.models.model import Model
from keraslite.random import default_seeds


class SKLearnEstimator(BaseEstimator):
    """The base of the estimators, which makes and trains a model.

    Args:
        model: a compiled model, or a function that returns one.
        warm_start: whether a further `fit` goes on with the weights.
        model_kwargs: arguments of the function.
        fit_kwargs: arguments of the model's `fit`.
        random_state: makes fits repeatable.
    """

    def __init__(
        self,
        model: Model | Callable[..., Model],
        warm_start: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        fit_kwargs: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ):
        self.model, self.warm_start = model, warm_start
        self.model_kwargs, self.fit_kwargs = model_kwargs, fit_kwargs
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @property
    def epoch_(self) -> int:
        """The number of epochs of the last fit."""
        return len(self.history_.epoch) if hasattr(self, "history_") else 0

    def set_fit_request(self, **kwargs: bool | str | None) -> Self:
        """Say which arguments of `fit` a pipeline or search hands on, such as `sample_weight`.

        Args:
            kwargs: for each argument True, False, None (an error if it is given), or the name that
                it has there.

        Raises:
            RuntimeError: metadata routing is not enabled.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "Arguments are routed only after sklearn.set_config(enable_metadata_routing=True)."
            )
        request = copy.deepcopy(self._get_metadata_request())
        for name, alias in kwargs.items():
            request.fit.add_request(param=name, alias=alias)
        self._metadata_request = request
        return self

    def fit(self, X: Any, y: Any, **kwargs: Any) -> Self:
        """Train a model.

        Args:
            X: (rows, features), or with more axes.
            y: (rows,) or (rows, outputs): the targets.
            kwargs: arguments of the model's `fit`, before those of `fit_kwargs`.

        Raises:
            ValueError: the data are not finite numbers of the same number of rows.
            RuntimeError: the model is not compiled.
        """
        X, y = self._checked(X, y)
        targets = self._encoded(y, kwargs.get("sample_weight"))
        seeded = self.random_state is not None
        seed = check_random_state(self.random_state).randint(2**31 - 1) if seeded else None
        with default_seeds(seed):
            model = self._new_model(X, targets)
            if not model.compiled or model.loss is None or model.optimizer is None:
                raise RuntimeError(
                    f"The model {model.name!r} must be compiled, with a loss and an optimizer: "
                    "call its compile() first."
                )
            self.history_ = model.fit(X, targets, **{**(self.fit_kwargs or {}), **kwargs})
        self.model_ = model
        return self

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        return validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True)

    def _encoded(self, y: np.ndarray, sample_weight: Any) -> np.ndarray:
        """Return the targets as the model is trained on them: a column for each output."""
        self._target_rank = y.ndim
        return y.reshape(len(y), -1)

    def _new_model(self, X: np.ndarray, y: np.ndarray) -> Model:
        if self.warm_start and hasattr(self, "model_"):
            return self.model_
        if isinstance(self.model, Model):
            return self.model if self.warm_start else clone_model(self.model)
        return self.model(X=X, y=y, **(self.model_kwargs or {}))

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what the model gives for rows, as its `predict` does."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        verbose = (self.fit_kwargs or {}).get("verbose", "auto")
        return np.asarray(self.model_.predict(X, verbose=verbose))


class SKLearnClassifier(ClassifierMixin, SKLearnEstimator):
    """A model as a classifier of scikit-learn.

    Args:
        model: a compiled model, which is copied for each fit; or a function that is called with X
            and y, one row with a single 1 a sample, and returns a compiled model. It has one output
            a class.
        warm_start: whether a further `fit` goes on with the weights; a model is then trained itself
            and not copied.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, which those given to this `fit` go before.
        random_state: an int or a `RandomState` that weights, dropout and orders of rows follow
            from; by default they are new for each fit.

    Attributes:
        model_: the trained model.
        history_: what its `fit` returned.
        classes_: the labels, sorted.

    >>> def perceptron(X, y):
    ...     model = Sequential([Input(X.shape[1:]), layers.Dense(y.shape[1], "softmax")])
    ...     model.compile("adam", "categorical_crossentropy")
    ...     return model
    >>> with use_backend("torch"):
    ...     classifier = SKLearnClassifier(perceptron, fit_kwargs={"verbose": 0}, random_state=0)
    ...     classifier = classifier.fit([[0.0], [1.0]], ["no", "yes"])
    >>> classifier.classes_.tolist(), classifier.predict([[0.5], [1.0], [2.0]]).shape
    (['no', 'yes'], (3,))
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # for it depends on the model
        return tags

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(self, X, y, allow_nd=True, multi_output=True)
        target = type_of_target(y)
        if target not in ("binary", "multiclass"):
            raise ValueError(
                f"Unknown label type: y must have one label a row, of two classes or more, got "
                f"{target!r} targets."
            )
        return X, column_or_1d(y, warn=True)

    def _encoded(self, y: np.ndarray, sample_weight: Any) -> np.ndarray:
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y must have two classes at least, got only one class, {self.classes_[0]!r}."
            )
        if sample_weight is not None:
            weighted = np.unique(numbers[np.asarray(sample_weight) > 0])
            if len(weighted) < 2:
                raise ValueError("sample_weight must be positive in two classes at least.")
        return np.eye(len(self.classes_), dtype="float32")[numbers]

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of the largest output for each row.

        Args:
            X: (rows, features), as for `fit`.

        Returns:
            (rows,), of the dtype of the labels.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(-1)]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the outputs of the model; of two classes how much larger the second is.

        Args:
            X: (rows, features), as for `fit`.

        Returns:
            (rows, classes), or (rows,) for two classes, as scikit-learn defines it.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
        """
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if outputs.shape[-1] == 2 else outputs


class SKLearnRegressor(RegressorMixin, SKLearnEstimator):
    """A model as a regressor of scikit-learn.

    Args:
        model: a compiled model, which is copied for each fit; or a function that is called with X
            and y, a column for each output, and returns a compiled model.
        warm_start: whether a further `fit` goes on with the weights; a model is then trained itself
            and not copied.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, which those given to this `fit` go before.
        random_state: an int or a `RandomState` that weights, dropout and orders of rows follow
            from; by default they are new for each fit.

    Attributes:
        model_: the trained model.
        history_: what its `fit` returned.

    >>> line = Sequential([Input((1,)), layers.Dense(1)])
    >>> line.compile("sgd", "mse")
    >>> regressor = SKLearnRegressor(line, fit_kwargs={"epochs": 3})
    >>> regressor.get_params()["fit_kwargs"]
    {'epochs': 3}
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # for it depends on the model
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any) -> np.ndarray:
        """Return what the model gives for each row.

        Args:
            X: (rows, features), as for `fit`.

        Returns:
            A float64 array of the rank of the targets: (rows,) or (rows, outputs).

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
        """
        outputs = self._outputs(X).astype("float64")
        is_column = self._target_rank == 1 and outputs.ndim == 2 and outputs.shape[1] == 1
        return outputs[:, 0] if is_column else outputs


class SKLearnTransformer(TransformerMixin, SKLearnEstimator):
    """A model as a transformer of scikit-learn: a step of a pipeline, such as one that embeds.

    Args:
        model: a compiled model, which is copied for each fit; or a function that is called with X
            and y, a column for each output, and returns a compiled model.
        warm_start: whether a further `fit` goes on with the weights; a model is then trained itself
            and not copied.
        model_kwargs: further arguments of the function.
        fit_kwargs: arguments of the model's `fit`, which those given to this `fit` go before.
        random_state: an int or a `RandomState` that weights, dropout and orders of rows follow
            from; by default they are new for each fit.

    Attributes:
        model_: the trained model.
        history_: what its `fit` returned.

    >>> line = Sequential([Input((1,)), layers.Dense(1)])
    >>> line.compile("sgd", "mse")
    >>> SKLearnTransformer(line, warm_start=True).get_params()["warm_start"]
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def transform(self, X: Any) -> np.ndarray:
        """Return what the model gives for each row.

        Args:
            X: (rows, features), as for `fit`.

        Returns:
            (rows, outputs), as the model's `predict`.

        Raises:
            sklearn.exceptions.NotFittedError: `fit` was not called.
        """
        return self._outputs(X)
