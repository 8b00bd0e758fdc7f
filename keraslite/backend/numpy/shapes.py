"""Casts, shapes and joins of arrays on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.numpy import tensors
from keraslite.backend.numpy.precision import LARGE, quiet
from keraslite.backend.numpy.tensors import native
from keraslite.backend.primitives import primitive
from keraslite.scopes import scopes

# numpy's functions taken as they are.
_AS_THEY_ARE = """transpose moveaxis swapaxes squeeze expand_dims broadcast_to stack flip roll
    hstack vstack dstack append array_split ravel rot90"""
TABLE: dict[str, Any] = {name: getattr(np, name) for name in _AS_THEY_ARE.split()} | {
    "cast": quiet(tensors.cast)
}


@primitive(TABLE)
def _positions(x: np.ndarray, size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32)


@primitive(TABLE)
def reshape(x: np.ndarray, newshape: Any) -> np.ndarray:
    return np.reshape(x, newshape)


@primitive(TABLE)
def concatenate(xs: list, axis: int = 0) -> np.ndarray:
    if scopes.abstract and any(x.size > LARGE for x in xs):
        shapes = [list(x.shape) for x in xs]
        sizes = [shape.pop(axis) for shape in shapes]
        if all(shape == shapes[0] for shape in shapes):  # the others raise below
            shapes[0].insert(axis % xs[0].ndim, sum(sizes))
            return np.broadcast_to(np.zeros((), np.result_type(*xs)), shapes[0])
    return np.concatenate(xs, axis)


@primitive(TABLE)
def split(x: np.ndarray, indices_or_sections: Any, axis: int = 0) -> list:
    return np.split(x, indices_or_sections, axis)


@primitive(TABLE)
def tile(x: np.ndarray, repeats: Any) -> np.ndarray:
    return np.tile(x, repeats)


@primitive(TABLE)
def repeat(x: np.ndarray, repeats: Any, axis: Any = None) -> np.ndarray:
    return np.repeat(x, repeats, axis)


@primitive(TABLE)
def pad(
    x: np.ndarray, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> np.ndarray:
    options = {} if constant_values is None else {"constant_values": constant_values}
    if scopes.abstract and x.size > LARGE and mode == "constant":
        pairs = np.broadcast_to(pad_width, (x.ndim, 2)).sum(1)
        return np.broadcast_to(x[(0,) * x.ndim], tuple(int(n) for n in pairs + x.shape))
    return np.pad(x, pad_width, mode, **options)


@primitive(TABLE)
def _view(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(x.shape).view(native(dtype))
