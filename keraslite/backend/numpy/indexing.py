"""Indexing by arrays, sorting and searching on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.numpy.precision import in_float32
from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def nonzero(x: np.ndarray) -> tuple:
    return tuple(i.astype(np.int32) for i in np.nonzero(x))


def _signed(indices: np.ndarray) -> np.ndarray:
    return indices if indices.dtype.kind == "i" else indices.astype(np.int64)


@primitive(TABLE)
def take(x: np.ndarray, indices: np.ndarray, axis: Any = None) -> np.ndarray:
    return np.take(x, _signed(indices), axis)


@primitive(TABLE)
def take_along_axis(x: np.ndarray, indices: np.ndarray, axis: Any = None) -> np.ndarray:
    indices = _signed(indices)
    if axis is None:
        return np.take_along_axis(x, indices.reshape(-1), None)
    sizes = [np.shape(x), indices.shape]
    if len(sizes[0]) == len(sizes[1]):
        place = range(len(sizes[0]))[axis]
        before, behind = slice(place), slice(place + 1, None)
        if sizes[0][before] == sizes[1][before] and sizes[0][behind] == sizes[1][behind]:
            return np.take_along_axis(x, indices, axis)
        if sizes[0][before] == sizes[1][before] and set(sizes[1][behind]) == {1}:  # whole slices
            lead = sizes[1][before]
            places = (i[..., None] for i in np.indices(lead, sparse=True))
            return x[(*places, indices.reshape(*lead, -1))]
    whole = np.broadcast_shapes(*((*s[: axis % x.ndim], 1, *s[axis % x.ndim + 1 :]) for s in sizes))
    x, indices = (
        np.broadcast_to(a, (*whole[: axis % x.ndim], a.shape[axis], *whole[axis % x.ndim + 1 :]))
        for a in (x, indices)
    )
    return np.take_along_axis(x, indices, axis)


@primitive(TABLE)
@in_float32
def sort(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.sort(x, axis)


@primitive(TABLE)
@in_float32
def argsort(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.argsort(x, axis if np.ndim(x) else None, stable=True).astype(np.int32)


@primitive(TABLE)
@in_float32
def searchsorted(sorted_sequence: np.ndarray, values: np.ndarray, side: str = "left") -> np.ndarray:
    return np.searchsorted(sorted_sequence, values, side).astype(np.int32)
