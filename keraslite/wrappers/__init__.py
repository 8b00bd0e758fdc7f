"""Keras models as estimators of scikit-learn, which is imported when one of them is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keraslite.wrappers.estimators import (
        SKLearnClassifier,
        SKLearnRegressor,
        SKLearnTransformer,
    )

__all__ = ["SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    try:
        module = import_module("keraslite.wrappers.estimators")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"keras.wrappers.{name} is an estimator of scikit-learn, which is not installed: pip "
            "install scikit-learn."
        ) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
