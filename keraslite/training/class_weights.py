"""Class weights: weights of samples by the class of their label."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree


def class_weighting(class_weight: dict[int, float], output: Sequence[Any] | None) -> Callable:
    """Return a function that turns class weights into sample weights.

    Args:
        class_weight: weights by class number; classes that are not listed weigh 1.
        output: the shape of the model's output, by which one-hot rows are told from sequences of
            class numbers; None where it is unknown: a last axis then is one-hot.

    Returns:
        A function of a batch (x, y, sample_weight).

    Raises:
        ValueError: there are several outputs.

    >>> weigh = class_weighting({1: 2.0}, (None, 3))
    >>> weigh(None, np.array([0, 1]), None)[2].tolist()
    [1.0, 2.0]
    """

    def add_weights(x: Any, y: Any, sample_weight: Any) -> tuple:
        labels = _class_numbers(_one_target(y), output)
        classes, where = np.unique(labels, return_inverse=True)
        listed = [class_weight.get(int(c), 1.0) for c in classes]
        weights = np.array(listed, "float32")[where].reshape(labels.shape)
        if sample_weight is None:
            return x, y, weights
        given = backends.to_numpy(tree.flatten(sample_weight)[0])
        if given.ndim > weights.ndim and given.shape[-1] == 1:
            given = given[..., 0]
        rank = max(given.ndim, weights.ndim)
        return x, y, _with_rank(weights, rank) * _with_rank(given, rank)

    return add_weights


def _one_target(y: Any) -> np.ndarray:
    leaves = tree.flatten(y)
    if len(leaves) != 1:
        raise ValueError(
            f"class_weight must go with a single output, got {len(leaves)} targets: give weights "
            "of the rows for each output as sample_weight."
        )
    return backends.to_numpy(leaves[0])


def _class_numbers(labels: np.ndarray, output: Sequence[Any] | None) -> np.ndarray:
    """Return class numbers, shape (batch, ...), from one-hot rows or class numbers."""
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    elif labels.ndim > 1 and (output is None or len(output) == labels.ndim):
        labels = labels.argmax(axis=-1)
    return np.round(labels).astype("int64")


def _with_rank(weights: np.ndarray, rank: int) -> np.ndarray:
    return weights.reshape(weights.shape + (1,) * (rank - weights.ndim))
