"""Batches of few sizes, so that compiled backends compile few times."""

import math

import numpy as np


def round_up(rows: int) -> int:
    """The number of rows that a compiled call is made for: a power of two.

    Args:
        rows: how many are needed.

    >>> round_up(5)
    8
    """
    return 1 << math.ceil(math.log2(rows)) if rows > 1 else 1


def padded(inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Inputs with copies of their last row behind it.

    Args:
        inputs: arrays of as many rows each.
        rows: how many are wanted.

    >>> padded({"x": np.array([1, 2])}, 4)["x"]
    array([1, 2, 2, 2])
    """
    return {k: np.concatenate([v, np.repeat(v[-1:], rows - len(v), 0)]) for k, v in inputs.items()}
