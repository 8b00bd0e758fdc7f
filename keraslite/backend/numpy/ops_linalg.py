"""PRIMITIVES for ops/linalg.py on numpy."""

from typing import Any

import numpy as np

TABLE: dict[str, Any] = {"det": np.linalg.det, "inv": np.linalg.inv}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE |= {name: _tuple(getattr(np.linalg, name)) for name in ("eigh", "slogdet")}


@_primitive
def eig(x: np.ndarray) -> tuple:
    kind = np.result_type(x, np.complex64)  # numpy gives real numbers where it can
    return tuple(part.astype(kind) for part in np.linalg.eig(x))


@_primitive
def cholesky(x: np.ndarray, upper: bool = False) -> np.ndarray:
    return np.linalg.cholesky(x, upper=upper)


@_primitive
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


@_primitive
def qr(x: np.ndarray, mode: str = "reduced") -> tuple:
    return tuple(np.linalg.qr(x, mode))


@_primitive
def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if b.ndim == a.ndim - 1:
        return np.linalg.solve(a, b[..., None])[..., 0]
    return np.linalg.solve(a, b)


@_primitive
def svd(x: np.ndarray, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    out = np.linalg.svd(x, full_matrices, compute_uv)
    return tuple(out) if compute_uv else out
