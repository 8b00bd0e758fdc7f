"""Rows in random order, divided into those for training and for testing."""

from typing import Any

import numpy as np

Split = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def check_test_split(test_split: float) -> None:
    """Raise a ValueError unless a part of the rows is from 0 to below 1.

    >>> check_test_split(0.2)
    """
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split must be at least 0 and below 1, got {test_split}.")


def shuffled(seed: Any, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the rows of arrays in the order that Keras gives them for a seed.

    >>> shuffled(113, np.arange(4))[0].tolist()
    [3, 2, 0, 1]
    """
    order = np.arange(len(arrays[0]))
    np.random.RandomState(seed).shuffle(order)
    return tuple(array[order] for array in arrays)


def split(x: np.ndarray, y: np.ndarray, test_split: float) -> Split:
    """Return (x, y) of the first rows, for training, and of the others.

    >>> (x_train, _), (x_test, _) = split(np.arange(5), np.arange(5), 0.4)
    >>> x_train.tolist(), x_test.tolist()
    ([0, 1, 2], [3, 4])
    """
    at = int(len(x) * (1 - test_split))
    return (x[:at], y[:at]), (x[at:], y[at:])
