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
    falling = np.argsort(np.flip(keys, -1), -1, stable=True)[..., ::-1][..., :k]
    indices = x.shape[-1] - 1 - falling
    return np.take_along_axis(x, indices, -1), indices.astype(np.int32)
