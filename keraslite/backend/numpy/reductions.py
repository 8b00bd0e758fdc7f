"""Reductions and running sums on numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite.backend.numpy.precision import in_float32, quiet_in_float32
from keraslite.backend.numpy.tensors import native
from keraslite.backend.primitives import primitive


def _axis(axis: Any) -> Any:
    return tuple(axis) if type(axis) is list else axis


def _reduction(fn: Callable) -> Callable:
    @quiet_in_float32
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


def _moment(fn: Callable) -> Callable:
    """The mean or variance; of no elements it is NaN, without a warning."""

    @quiet_in_float32
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        if not x.size:
            return np.sum(x, axis=_axis(axis), keepdims=keepdims) / x.dtype.type(0)
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


def _extreme(fn: np.ufunc) -> Callable:
    @in_float32
    def call(
        x: np.ndarray, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> np.ndarray:
        last = x.ndim > 1 and axis in (-1, x.ndim - 1)
        if last and initial is None and x.size and x.flags.c_contiguous:
            # Twice as fast as `reduce` along the last axis.
            out = fn.reduceat(x.reshape(-1), np.arange(0, x.size, x.shape[-1]))
            return out.reshape(*x.shape[:-1], 1) if keepdims else out.reshape(x.shape[:-1])
        options = {} if initial is None else {"initial": initial}
        return fn.reduce(x, axis=_axis(axis), keepdims=keepdims, **options)

    return call


def _arg(fn: Callable) -> Callable:
    @in_float32
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        return fn(x, axis=axis, keepdims=keepdims).astype(np.int32)

    return call


def _running(fn: Callable) -> Callable:
    @quiet_in_float32
    def call(x: np.ndarray, axis: Any = None, dtype: Any = None) -> np.ndarray:
        default = np.int32 if x.dtype == bool else x.dtype
        return fn(x, axis=axis, dtype=default if dtype is None else native(dtype))

    return call


TABLE: dict[str, Any] = {
    "all": _reduction(np.all),
    "any": _reduction(np.any),
    "mean": _moment(np.mean),
    "var": _moment(np.var),
    "std": _moment(np.std),
    "median": _moment(np.median),
    "max": _extreme(np.maximum),
    "min": _extreme(np.minimum),
    "nanmax": _reduction(np.fmax.reduce),
    "nanmin": _reduction(np.fmin.reduce),
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "cumsum": _running(np.cumsum),
    "cumprod": _running(np.cumprod),
}


@primitive(TABLE)
@in_float32
def ptp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.ptp(x, axis=_axis(axis), keepdims=keepdims)


@primitive(TABLE)
def count_nonzero(x: np.ndarray, axis: Any = None) -> np.ndarray:
    return np.asarray(np.count_nonzero(x, _axis(axis)), np.int32)


@primitive(TABLE)
@quiet_in_float32
def quantile(
    x: np.ndarray, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False
) -> np.ndarray:
    q = np.asarray(q, x.dtype)
    return np.quantile(x, q, _axis(axis), method=method, keepdims=keepdims)


_SUMS = {"b": np.int32, "i": np.int32, "u": np.uint32}


def _sum_type(x: np.ndarray, dtype: Any) -> Any:
    if dtype is not None:
        return native(dtype)
    return _SUMS.get(x.dtype.kind) if x.dtype.itemsize < 8 else None


@primitive(TABLE)
@quiet_in_float32
def sum_(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.sum(x, axis=_axis(axis), keepdims=keepdims, dtype=_sum_type(x, None))


@primitive(TABLE)
@quiet_in_float32
def prod(x: np.ndarray, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> np.ndarray:
    return np.prod(x, axis=_axis(axis), keepdims=keepdims, dtype=_sum_type(x, dtype))
