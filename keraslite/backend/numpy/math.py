"""Special functions and top-k on numpy."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite.backend.numpy.precision import quiet_in_float32
from keraslite.backend.primitives import primitive


def _one_by_one(name: str, fn: Callable) -> Callable:
    """scipy's function where it is installed, else one element after the other."""
    try:
        from scipy import special
    except ImportError:
        slow = np.frompyfunc(fn, 1, 1)
        return lambda x: np.asarray(slow(x)).astype(x.dtype)
    return getattr(special, name)


def _erfinv(x: float) -> float:
    if not -1 < x < 1:
        return x * math.inf if abs(x) == 1 else math.nan
    return statistics.NormalDist().inv_cdf((x + 1) / 2) / math.sqrt(2)


_SHORT = 256  # rows of so many numbers are sorted as a whole by top_k
_LONG = 2**14  # values: sorting fewer takes no longer than to find the k-th

TABLE: dict[str, Any] = {
    name: quiet_in_float32(_one_by_one(name, fn))
    for name, fn in {"erf": math.erf, "erfc": math.erfc, "erfinv": _erfinv}.items()
}


@primitive(TABLE)
@quiet_in_float32
def logsumexp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    axis = tuple(axis) if type(axis) is list else axis
    largest = np.max(x, axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, np.zeros((), x.dtype))
    total = np.sum(np.exp(x - largest), axis, keepdims=True)
    out = np.log(total) + largest
    return out if keepdims else np.squeeze(out, axis)


@primitive(TABLE)
def top_k(x: np.ndarray, k: int, sorted: bool = True) -> tuple:
    if k > x.shape[-1]:
        raise ValueError(f"k={k} is more than the size {x.shape[-1]} of the last axis")
    keys = x.astype("float32") if x.dtype.kind == "V" else x  # bfloat16, whose NaN is anywhere
    if k and keys.size and keys.shape[-1] > _SHORT and not np.isnan(keys).any():
        rows = keys.reshape(-1, keys.shape[-1])
        indices = np.stack([_largest(row, k) for row in rows]).reshape(*keys.shape[:-1], k)
    else:
        indices = _falling(keys)[..., :k]
    return np.take_along_axis(x, indices, -1), indices.astype(np.int32)


def _falling(x: np.ndarray) -> np.ndarray:
    """Return the places of falling values, of equal ones the first one first."""
    return x.shape[-1] - 1 - np.argsort(np.flip(x, -1), -1, stable=True)[..., ::-1]


def _largest(row: np.ndarray, k: int) -> np.ndarray:
    """Return what `_falling` does for the k largest alone, without sorting the others."""
    # A partition takes twenty times as long where most values are equal.
    least = np.sort(row)[-k] if len(row) < _LONG else np.partition(row, -k)[-k]
    above, equal = np.flatnonzero(row > least), np.flatnonzero(row == least)
    return np.concatenate([above[_falling(row[above])], equal[: k - len(above)]])
