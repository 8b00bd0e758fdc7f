"""New arrays on numpy."""

import operator
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.backend.numpy.precision import HALVES, quiet
from keraslite.backend.numpy.tensors import native
from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def full(shape: Any, fill_value: Any, dtype: Any = None) -> np.ndarray:
    return np.full(shape, fill_value, native(dtype))


@primitive(TABLE)
def zeros_like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    return np.zeros(np.shape(x), x.dtype if dtype is None else native(dtype))


@primitive(TABLE)
def ones_like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    return np.ones(np.shape(x), x.dtype if dtype is None else native(dtype))


@primitive(TABLE)
def full_like(x: np.ndarray, fill_value: Any, dtype: Any = None) -> np.ndarray:
    return np.full(np.shape(x), fill_value, x.dtype if dtype is None else native(dtype))


@primitive(TABLE)
def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> np.ndarray:  # noqa: N803
    return np.eye(N, M, k, native(dtype))


@primitive(TABLE)
def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = None) -> np.ndarray:  # noqa: N803
    columns = N if M is None else operator.index(M)  # np.tri takes floats
    return np.tri(operator.index(N), columns, k, native(dtype))


@primitive(TABLE)
@quiet
def linspace(
    start: np.ndarray, stop: np.ndarray, num: int = 50, endpoint: bool = True,
    retstep: bool = False, dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    half = start.dtype in HALVES
    ends = (x.astype(np.float32) if half else x for x in (start, stop))
    out, step = np.linspace(*ends, num, endpoint, True, axis=axis)
    target = start.dtype if dtype is None else native(dtype)
    out = (np.floor(out) if target.kind in "iu" else out).astype(target, copy=False)
    return (out, np.asarray(step, start.dtype)) if retstep else out


@primitive(TABLE)
def copy(x: np.ndarray) -> np.ndarray:
    return np.copy(x)


@primitive(TABLE)
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> np.ndarray:
    bounds = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in bounds)))
    start, stop = (0, start) if stop is None else (start, stop)
    return np.arange(start, stop, step).astype(dtype)
