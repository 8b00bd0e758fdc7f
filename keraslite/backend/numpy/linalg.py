"""Linear algebra on numpy."""

from functools import wraps
from typing import Any

import numpy as np

from keraslite.backend.primitives import primitive


def _nan_if_singular(fn: Any) -> Any:
    """NaN where numpy raises, as on JAX; a matrix that is not square remains an error."""

    @wraps(fn)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        try:
            return fn(x, *args, **kwargs)
        except np.linalg.LinAlgError as error:
            if "square" in str(error):
                raise
            like = args[0] if args and isinstance(args[0], np.ndarray) else x
            return np.full(like.shape, np.nan, like.dtype)

    return call


TABLE: dict[str, Any] = {
    "det": np.linalg.det,
    "inv": _nan_if_singular(np.linalg.inv),
    "eigh": lambda x: tuple(np.linalg.eigh(x)),
}


@primitive(TABLE)
def eig(x: np.ndarray) -> tuple:
    dtype = np.result_type(x, np.complex64)  # numpy gives real numbers where it can
    return tuple(part.astype(dtype) for part in np.linalg.eig(x))


@primitive(TABLE)
@_nan_if_singular
def cholesky(x: np.ndarray, upper: bool = False) -> np.ndarray:
    return np.linalg.cholesky(x, upper=upper)


@primitive(TABLE)
def lu_factor(x: np.ndarray) -> tuple:
    rows, columns = x.shape[-2:]
    steps = min(rows, columns)
    factors = x.reshape(-1, rows, columns).copy()
    pivots = np.zeros((len(factors), steps), np.int32)
    for a, exchanged in zip(factors, pivots, strict=True):
        for i in range(steps):
            exchanged[i] = i + np.argmax(np.abs(a[i:, i]))
            a[[i, exchanged[i]]] = a[[exchanged[i], i]]
            a[i + 1 :, i] /= a[i, i]
            a[i + 1 :, i + 1 :] -= np.outer(a[i + 1 :, i], a[i, i + 1 :])
    return factors.reshape(x.shape), pivots.reshape(*x.shape[:-2], steps)


@primitive(TABLE)
def qr(x: np.ndarray, mode: str = "reduced") -> tuple:
    if mode not in ("reduced", "complete"):
        raise ValueError(f"the mode is reduced or complete, not {mode!r}")
    return tuple(np.linalg.qr(x, mode))


@primitive(TABLE)
@_nan_if_singular
def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if b.ndim == a.ndim - 1:
        return np.linalg.solve(a, b[..., None])[..., 0]
    return np.linalg.solve(a, b)


@primitive(TABLE)
def svd(x: np.ndarray, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    out = np.linalg.svd(x, full_matrices, compute_uv)
    return tuple(out) if compute_uv else out
