"""How tests compare numbers: one function, whose tolerances each test states."""

from typing import Any

import numpy as np

from keraslite import backend, tree


def to_numpy(x: Any) -> np.ndarray:
    """Return a tensor of any framework, or a list of numbers, as an array."""
    return np.asarray(backend.to_numpy(x))


def largest(structure: Any, least: float = 0.0) -> float:
    """Return the largest absolute value in a structure of arrays, and not less than `least`."""
    return max([least, *(np.abs(to_numpy(x)).max(initial=0.0) for x in tree.flatten(structure))])


def assert_close(
    ours: Any, theirs: Any, rtol: float = 1e-5, atol: float = 1e-6, share: float = 0.0,
    message: str = "",
) -> None:  # fmt: skip
    """Raise unless two tensors, or two structures of them, have the same shapes and close values.

    Args:
        ours: a tensor of any framework, an array, a number, or a structure of these.
        theirs: what is expected, likewise.
        rtol: the difference allowed of a value, relative to that value.
        atol: the difference allowed beside that.
        share: the difference allowed beside that, relative to the largest value of an array.
        message: what is compared, for the error.
    """
    if not (tree.is_nested(ours) and tree.is_nested(theirs)):  # a list may stand for an array
        ours, theirs = [to_numpy(ours)], [to_numpy(theirs)]
    ours, theirs = (list(map(to_numpy, tree.flatten(x))) for x in (ours, theirs))
    assert len(ours) == len(theirs), f"{message}: {len(ours)} arrays, expected {len(theirs)}"
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        where = f"{message} (array {index} of {len(ours)})" if len(ours) > 1 else message
        assert a.shape == b.shape, f"{where}: shape {a.shape}, expected {b.shape}"
        wide = np.complex128 if "c" in a.dtype.kind + b.dtype.kind else np.float64
        np.testing.assert_allclose(
            a.astype(wide), b.astype(wide), rtol=rtol, err_msg=where,
            atol=atol + share * np.abs(b).max(initial=0.0) if share else atol,
        )  # fmt: skip
