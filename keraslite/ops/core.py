"""Ops on tensors as such: conversion, casting, shapes, indexing."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.ops.op import op


def convert_to_tensor(x: Any, dtype: Any = None, sparse: bool | None = None) -> Any:
    """Make a tensor of the current backend, or of the backend of the tensors inside `x`.

    Args:
        x: a number, list, array, tensor or variable.
        dtype: a dtype name; None keeps what `x` has (floatx for Python floats).
        sparse: kept for Keras code; False makes sparse tensors dense.

    >>> convert_to_tensor([1, 2]).shape[0]
    2
    """
    x = getattr(x, "_kl_value", x)
    name = backends.of(x)
    if name == "symbolic":
        return x if dtype is None else cast(x, dtype)
    if name is None and isinstance(x, list | tuple):
        found = {backends.of(getattr(y, "_kl_value", y)) for y in x} - {None}
        if len(found) == 1:
            from keraslite.ops.numpy import stack

            stacked = stack([convert_to_tensor(y) for y in x])
            return stacked if dtype is None else cast(stacked, dtype)
    module = backends.load(name or backends.backend())
    return module.convert(x, None if dtype is None else module.canonical(dtypes.standardize(dtype)))


@op("same")
def cast(x: Any, dtype: Any) -> Any:
    """Change the dtype.

    >>> convert_to_numpy(cast([0.5, 2.5], "int32")).tolist()
    [0, 2]
    """
    module = backends.load(backends.of(x) or backends.backend())
    return module.cast(x, module.canonical(dtypes.standardize(dtype)))


def shape(x: Any) -> tuple:
    """The shape as a tuple; under a TensorFlow graph, unknown dimensions are scalars.

    >>> shape([[1, 2, 3]])
    (1, 3)
    """
    x = getattr(x, "_kl_value", x)
    if backends.of(x) == "tensorflow":
        return backends.load("tensorflow").dynamic_shape(x)
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def dtype(x: Any) -> str:
    """The dtype's name.

    >>> dtype(1.0)
    'float32'
    """
    return dtypes.standardize(x.dtype if hasattr(x, "dtype") else dtypes.of_literal(x).dtype)


def is_tensor(x: Any) -> bool:
    """Whether a value is a tensor of a framework.

    >>> is_tensor([1.0])
    False
    """
    return backends.is_tensor(x)


def convert_to_numpy(x: Any) -> np.ndarray:
    """The values as numpy.

    >>> convert_to_numpy([1.0])
    array([1.], dtype=float32)
    """
    return backends.to_numpy(x)


@op("same")
def stop_gradient(variable: Any) -> Any:
    """Treat a value as a constant in gradients.

    >>> float(stop_gradient(1.0))
    1.0
    """
    return variable


@op("same")
def get_item(x: Any, key: Any) -> Any:
    """Index as `x[key]` does.

    >>> float(get_item([1.0, 2.0], 1))
    2.0
    """
    return x[key]


__all__ = [
    "cast", "convert_to_numpy", "convert_to_tensor", "dtype", "get_item", "is_tensor", "shape",
    "stop_gradient",
]  # fmt: skip
