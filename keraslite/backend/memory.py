"""Memory of our own for arrays that frameworks take over: aligned, contiguous, filled once."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

_ALIGNED = 64  # bytes, as XLA and TensorFlow want it
_COLUMNS = 16  # of a transposed array that are copied together: their lines stay in the cache
_WORKERS = min(os.cpu_count() or 1, 8)
_LARGE = 2**18  # elements, from which threads gain more than they cost


def owned(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A contiguous copy of an array in memory that nobody else has.

    Args:
        value: the array; a transposed one is copied several times as fast as numpy does it.
        dtype: the dtype of the copy.

    >>> owned(np.arange(6.0).reshape(2, 3).T, np.dtype("float32")).tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    size = value.size * dtype.itemsize
    raw = np.empty(size + _ALIGNED, np.uint8)
    start = -raw.ctypes.data % _ALIGNED
    array = raw[start : start + size].view(dtype).reshape(value.shape)
    if value.ndim < 2 or value.flags.c_contiguous:
        array[...] = value
        return array

    def band(first: int) -> None:
        for i in range(first, min(first + width, columns), _COLUMNS):
            array[..., i : i + _COLUMNS] = value[..., i : i + _COLUMNS]

    columns = value.shape[-1]
    width = -(-columns // (_WORKERS * _COLUMNS)) * _COLUMNS or _COLUMNS
    starts = range(0, columns, width)
    list((_threads().map if value.size >= _LARGE else map)(band, starts))
    return array


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, "keraslite-copy")


# A child of `fork` has none of the threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)
