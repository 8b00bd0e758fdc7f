"""Batches of few sizes, so that compiled backends compile few times."""

import math

import numpy as np


def round_up(rows: int) -> int:
    """Return the number of rows of a compiled call: the next power of two.

    Args:
        rows: the number of rows there are.

    >>> round_up(5)
    8
    """
    return 1 << math.ceil(math.log2(rows)) if rows > 1 else 1


def padded(inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Return inputs with their last row repeated.

    Args:
        inputs: arrays of as many rows each.
        rows: the number of rows of the result.

    >>> padded({"x": np.array([1, 2])}, 4)["x"]
    array([1, 2, 2, 2])
    """
    return {k: np.concatenate([v, np.repeat(v[-1:], rows - len(v), 0)]) for k, v in inputs.items()}
