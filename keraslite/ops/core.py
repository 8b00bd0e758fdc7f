"""Ops on tensors as such: conversion, casting, shapes, indexing."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.ops.op import op, primitive_only


def convert_to_tensor(
    x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None
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
        found = {backends.of(getattr(y, "_kl_value", y)) for y in x} - {None}
        if len(found) == 1:
            from keraslite.ops.numpy import stack

            stacked = stack([convert_to_tensor(y) for y in x])
            return stacked if dtype is None else cast(stacked, dtype)
    module = backends.load(name or backends.backend())
    if module.is_sparse(x):
        x = module.densify(x) if sparse is False else x
        return x if dtype is None else cast(x, dtype)
    return module.convert(x, None if dtype is None else module.canonical(dtypes.standardize(dtype)))


@op("same")
def cast(x: Any, dtype: Any) -> Any:
    """Change the dtype.

    >>> convert_to_numpy(cast([0.5, 2.5], "int32")).tolist()
    [0, 2]
    """
    return primitive_only("cast")


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
    return primitive_only("get_item")


@op("same")
def saturate_cast(x: Any, dtype: Any) -> Any:
    """Change the dtype, with values brought into its range first.

    >>> convert_to_numpy(saturate_cast([-3.0, 300.0], "uint8")).tolist()
    [0, 255]
    """
    from keraslite.ops.numpy import clip

    own, wanted = dtypes.standardize(x.dtype), dtypes.standardize(dtype)
    return cast(x if "bool" in (own, wanted) else clip(x, *_common_range(own, wanted)), dtype)


def limits(name: str, infinite: bool = False) -> tuple:
    """The least and the largest number of a dtype; of floats the infinities where asked for."""
    if dtypes.is_float(name):
        return (-math.inf, math.inf) if infinite else (-_LARGEST[name], _LARGEST[name])
    bits = int(name.lstrip("uint"))
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_LARGEST = {name: float(ml_dtypes.finfo(name).max) for name in dtypes.FLOATS}


def _common_range(own: str, wanted: str) -> tuple:
    """The range of both dtypes, its ends rounded towards zero to numbers of the first."""
    pairs = zip(limits(own), limits(wanted), (max, min), strict=True)
    ends = [choose(pair) for *pair, choose in pairs]
    kind = dtypes.to_numpy(own)
    if kind.kind not in "iu":
        rounded = [np.asarray(end, kind) for end in ends]
        ends = [
            float(r if abs(float(r)) <= abs(end) else np.nextafter(r, np.zeros((), kind)))
            for r, end in zip(rounded, ends, strict=True)
        ]
    return tuple(ends)


@op("same", tensors=2, raw=(1,))
def slice(inputs: Any, start_indices: Any, shape: Any) -> Any:
    """The part of a tensor that begins at `start_indices` and has the given shape.

    >>> convert_to_numpy(slice([[1, 2], [3, 4]], [1, 0], [1, 2])).tolist()
    [[3, 4]]
    """
    return primitive_only("slice")


@op("same", tensors=3, raw=(1,))
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """A copy of a tensor with the part that begins at `start_indices` replaced by `updates`.

    >>> convert_to_numpy(slice_update([1, 2, 3], [1], [9])).tolist()
    [1, 9, 3]
    """
    return primitive_only("slice_update")


@op("same", tensors=3, raw=(1,))
def overwrite(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """What `slice_update` gives, in the memory of `inputs` where the backend can write there.

    For tensors that are not used again, such as the cache of a language model; there are no
    gradients through the memory that was written.

    >>> convert_to_numpy(overwrite(np.array([1, 2, 3]), [1], np.array([9]))).tolist()
    [1, 9, 3]
    """
    return primitive_only("overwrite")


@op("same", tensors=2)
def scatter(indices: Any, values: Any, shape: Any) -> Any:
    """Zeros of the given shape with `values` added at `indices`.

    Args:
        indices: of shape (..., k): positions in the first k axes.
        values: of shape (..., *shape[k:]).
        shape: the shape of the result.

    >>> convert_to_numpy(scatter([[0], [2], [2]], [1.0, 2.0, 3.0], (4,))).tolist()
    [1.0, 0.0, 5.0, 0.0]
    """
    from keraslite.ops.numpy import reshape

    depth = indices.shape[-1]
    module = backends.load(backends.of(values) or "numpy")
    zeros = module.zeros(tuple(shape), module.dtype_of(values))
    values = reshape(values, (-1, *shape[depth:]))
    return scatter_update(zeros, reshape(indices, (-1, depth)), values, "add")


@op("same", tensors=3)
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Any:
    """A copy of a tensor with `updates` written at `indices`.

    Args:
        inputs: the tensor.
        indices: of shape (n, k): positions in the first k axes.
        updates: of shape (n, *inputs.shape[k:]).
        reduction: None writes, "add", "mul", "max" and "min" combine with what is there.

    >>> convert_to_numpy(scatter_update([1.0, 2.0, 3.0], [[0], [2]], [8.0, 9.0])).tolist()
    [8.0, 2.0, 9.0]
    """
    return primitive_only("scatter_update")


@op("same")
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list:
    """Cut into the slices along an axis.

    >>> [convert_to_numpy(row).tolist() for row in unstack([[1, 2], [3, 4]])]
    [[1, 2], [3, 4]]
    """
    from keraslite.ops.numpy import moveaxis

    x = moveaxis(x, axis, 0)
    return [x[i] for i in range(x.shape[0])]


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """Repeat `value = body_fun(i, value)` for i from `lower` up to `upper`.

    >>> int(fori_loop(0, 4, lambda i, total: total + i, convert_to_tensor(0)))
    6
    """
    from keraslite.ops.transforms import while_loop

    found = [backends.of(x) for x in tree.flatten(init_val)]
    backend = next((b for b in found if b is not None), backends.backend())
    if backend in ("torch", "numpy") and isinstance(lower, int) and isinstance(upper, int):
        for i in range(lower, upper):
            init_val = body_fun(i, init_val)
        return init_val
    state = (backends.load(backend).convert(lower, "int32"), init_val)
    return while_loop(lambda i, _: i < upper, lambda i, v: (i + 1, body_fun(i, v)), state)[1]


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Run the branch of the given number, brought into range, on the operands.

    >>> int(switch(1, [lambda x: x, lambda x: -x], convert_to_tensor(3)))
    -3
    """
    from keraslite.ops.transforms import cond

    if len(branches) == 1 or (isinstance(index, int) and index <= 0):
        return branches[0](*operands)
    if isinstance(index, int):
        return switch(0, branches[min(index, len(branches) - 1) :], *operands)
    index = convert_to_tensor(index)
    return cond(
        index <= 0,
        lambda: branches[0](*operands),
        lambda: switch(index - 1, branches[1:], *operands),
    )


def map(f: Callable, xs: Any) -> Any:
    """Apply a function to the slices along the leading axis, one after the other.

    >>> convert_to_numpy(map(lambda x: x * 2, convert_to_tensor([1, 2]))).tolist()
    [2, 4]
    """
    from keraslite.ops.transforms import scan

    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def vectorized_map(function: Callable, elements: Any) -> Any:
    """Apply a function to the slices along the leading axis, all at once.

    >>> convert_to_numpy(vectorized_map(lambda x: x * 2, convert_to_tensor([1, 2]))).tolist()
    [2, 4]
    """
    from keraslite.ops.transforms import vmap

    return vmap(function)(elements)


__all__ = [
    "cast", "convert_to_numpy", "convert_to_tensor", "dtype", "fori_loop", "get_item", "is_tensor",
    "map", "overwrite", "saturate_cast", "scatter", "scatter_update", "shape", "slice",
    "slice_update", "stop_gradient", "switch", "unstack", "vectorized_map",
]  # fmt: skip
