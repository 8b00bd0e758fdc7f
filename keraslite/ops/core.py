"""Tensors made, joined, cast and asked for their shape and dtype: what all other ops need."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.ops.op import op, primitive_only
from keraslite.typing import DType, Tensor


def convert_to_tensor(
    x: Tensor, dtype: DType | None = None, sparse: bool | None = None, ragged: bool | None = None
) -> Any:
    """Make a tensor of the current backend, or of the backend of the tensors inside `x`.

    Args:
        x: a number, list, array, tensor or variable.
        dtype: a dtype name; None keeps what `x` has (floatx for Python floats).
        sparse: False makes a sparse tensor dense.
        ragged: kept for Keras code.

    >>> convert_to_tensor([1, 2]).shape[0]
    2
    """
    x = getattr(x, "_kl_value", x)
    name = backends.of(x)
    if name == "symbolic":
        return x if dtype is None else cast(x, dtype)
    if name is None and isinstance(x, list | tuple):
        names = {backends.of(getattr(y, "_kl_value", y)) for y in x} - {None}
        if len(names) == 1:
            stacked = stack([convert_to_tensor(y) for y in x])
            return stacked if dtype is None else cast(stacked, dtype)
    module = backends.load(name or backends.backend())
    if module.is_sparse(x):
        x = module.densify(x) if sparse is False else x
        return x if dtype is None else cast(x, dtype)
    return module.convert(x, None if dtype is None else module.canonical(dtypes.standardize(dtype)))


@op("same")
def cast(x: Tensor, dtype: DType) -> Tensor:
    """Change the dtype.

    >>> convert_to_numpy(cast([0.5, 2.5], "int32")).tolist()
    [0, 2]
    """
    return primitive_only("cast")


def shape(x: Tensor) -> tuple:
    """The shape as a tuple; under a TensorFlow graph, unknown dimensions are scalars.

    >>> shape([[1, 2, 3]])
    (1, 3)
    """
    name = backends.OF.get(type(x))
    if name is None:
        x = getattr(x, "_kl_value", x)
        name = backends.of(x)
    module = backends.MODULES.get(name or "")
    if module is not None:
        return module.shape_of(x)
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)


def dtype(x: Tensor) -> str:
    """The dtype's name.

    >>> dtype(1.0)
    'float32'
    """
    module = backends.MODULES.get(backends.OF.get(type(x)) or "")
    if module is not None:
        return module.dtype_of(x)
    return dtypes.standardize(x.dtype if hasattr(x, "dtype") else dtypes.of_literal(x).dtype)


def is_tensor(x: Tensor) -> bool:
    """Whether a value is a tensor of a framework.

    >>> is_tensor([1.0])
    False
    """
    return backends.is_tensor(x)


def convert_to_numpy(x: Tensor) -> np.ndarray:
    """The values as numpy: a copy, which may be written to and does not change with `x`.

    >>> convert_to_numpy([1.0])
    array([1.], dtype=float32)
    """
    return np.array(backends.to_numpy(x))


@op("same")
def stop_gradient(variable: Tensor) -> Tensor:
    """Treat a value as a constant in gradients.

    >>> float(stop_gradient(1.0))
    1.0
    """
    return variable


__all__ = [
    "cast", "convert_to_numpy", "convert_to_tensor", "dtype", "is_tensor", "shape", "stack",
    "stop_gradient",
]  # fmt: skip


@op("sequence")
def stack(x: Tensor, axis: int = 0) -> Tensor:
    """Join tensors along a new axis.

    >>> convert_to_numpy(stack([[1, 2], [3, 4]], axis=1)).tolist()
    [[1, 3], [2, 4]]
    """
    return primitive_only("stack")
