"""Sparse tensors: what ops do with them, in terms of their indices and values.

They are the frameworks' own (BCOO, sparse_coo, SparseTensor); numpy has none. Each backend says
how to take one apart and put one together, and the forms below are written once over that. An op
that is not in `FORMS` refuses a sparse tensor and says how to make it dense.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes
from keraslite.ops import core
from keraslite.ops import numpy as k
from keraslite.ops.crossentropy import SPARSE_ONE_HOT
from keraslite.ops.errors import SPARSE, sparse_module
from keraslite.ops.op import TABLE
from keraslite.typing import DType, Tensor


def make(indices: Any, values: Tensor, shape: tuple) -> Any:
    """A sparse tensor of the backend of its values.

    Args:
        indices: (elements, rank) of ints, each row once.
        values: (elements,).
        shape: the shape.
    """
    module = backends.module_of(values)
    return module.from_coo(indices, values, tuple(shape))


def parts(x: Tensor) -> tuple[Any, Any]:
    """(indices, values) of a sparse tensor."""
    return sparse_module(x).coo_parts(x)


def dense(x: Tensor) -> Any:
    """Convert a sparse tensor to a dense one.

    Args:
        x: a sparse tensor, or any other, which stays as it is.
    """
    module = sparse_module(x)
    return x if module is None else module.densify(x)


def _on_values(name: str) -> Callable:
    """Zero stays zero under the op, so only the values change."""

    def form(x: Any, *args: Any, **kwargs: Any) -> Any:
        indices, values = parts(x)
        return make(indices, TABLE[name].call(values, *args, **kwargs), x.shape)

    return form


def _at(x: Any, indices: Any, shape: tuple) -> Any:
    """The elements of a dense tensor, broadcast to a shape, at indices."""
    return k.get_item(k.broadcast_to(x, shape), tuple(indices[:, i] for i in range(len(shape))))


def _multiply(x1: Any, x2: Any) -> Any:
    x, other = (x1, x2) if sparse_module(x1) is not None else (x2, x1)
    other = dense(other)
    indices, values = parts(x)
    shape = tuple(x.shape)
    scalar = isinstance(other, int | float) or not len(np.shape(other))
    return make(indices, k.multiply(values, other if scalar else _at(other, indices, shape)), shape)


def _divide(x1: Any, x2: Any) -> Any:
    if sparse_module(x1) is None or sparse_module(x2) is not None:
        raise _refusal("divide", "a sparse divisor")
    indices, values = parts(x1)
    scalar = isinstance(x2, int | float) or not len(np.shape(x2))
    below = x2 if scalar else _at(x2, indices, tuple(x1.shape))
    return make(indices, k.divide(values, below), x1.shape)


def _add(x1: Any, x2: Any) -> Any:
    """Dense, as a sparse and a dense tensor, or two sparse ones, are in general."""
    return k.add(dense(x1), dense(x2))


def _subtract(x1: Any, x2: Any) -> Any:
    return k.subtract(dense(x1), dense(x2))


def _maximum(x1: Any, x2: Any) -> Any:
    return k.maximum(dense(x1), dense(x2))


def _minimum(x1: Any, x2: Any) -> Any:
    return k.minimum(dense(x1), dense(x2))


def _einsum(subscripts: str, *operands: Any) -> Any:
    return k.einsum(subscripts, *(dense(x) for x in operands))


def _matmul(x1: Any, x2: Any) -> Any:
    """The rows of the dense matrix at the columns of the elements, summed by their rows."""
    if sparse_module(x1) is None:
        return k.transpose(_matmul(_transpose(x2), k.transpose(x1)))
    x2 = dense(x2)
    if len(x1.shape) != 2 or len(np.shape(x2)) not in (1, 2):
        raise _refusal("matmul", f"sparse shapes {tuple(x1.shape)} and {tuple(np.shape(x2))}")
    if x1.shape[1] != x2.shape[0]:
        raise ValueError(f"ops.matmul: shapes {tuple(x1.shape)} and {tuple(x2.shape)} do not fit.")
    indices, values = parts(x1)
    rows = k.take(x2, indices[:, 1], axis=0)
    rows = k.multiply(rows, k.expand_dims(values, -1) if len(x2.shape) == 2 else values)
    return TABLE["segment_sum"].call(rows, core.cast(indices[:, 0], "int32"), x1.shape[0])


def _take(x: Any, indices: Any, axis: Any = None) -> Any:
    if sparse_module(x) is not None:
        raise _refusal("take", "elements of sparse tensors")
    return k.take(x, dense(indices), axis)


def _linear(x: Any, kernel: Any, bias: Any = None, activation: str | None = None) -> Any:
    out = _matmul(x, kernel)
    out = out if bias is None else k.add(out, bias)
    return out if activation is None else TABLE[activation].call(out)


def _sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return k.sum(dense(x), axis=axis, keepdims=keepdims)


def _transpose(x: Any, axes: Any = None) -> Any:
    rank = len(x.shape)
    order = tuple(range(rank))[::-1] if axes is None else tuple(a % rank for a in axes)
    indices, values = parts(x)
    moved = k.stack([indices[:, a] for a in order], axis=1)
    return make(moved, values, tuple(x.shape[a] for a in order))


def _reshape(x: Any, newshape: Any) -> Any:
    old, new = tuple(x.shape), [newshape] if isinstance(newshape, int) else list(newshape)
    count = int(np.prod(old))
    if -1 in new:
        new[new.index(-1)] = count // int(np.prod([n for n in new if n != -1]) or 1)
    if int(np.prod(new)) != count:
        raise ValueError(f"ops.reshape: {old} cannot become {tuple(newshape)}.")
    indices, values = parts(x)
    flat = indices[:, 0]
    for axis in range(1, len(old)):
        flat = flat * old[axis] + indices[:, axis]
    columns = []
    for size in new[::-1]:
        columns.append(k.mod(flat, size))
        flat = k.floor_divide(flat, size)
    return make(k.stack(columns[::-1], axis=1), values, tuple(new))


def _expand_dims(x: Any, axis: int) -> Any:
    place = axis % (len(x.shape) + 1)
    return _reshape(x, (*x.shape[:place], 1, *x.shape[place:]))


def _squeeze(x: Any, axis: Any = None) -> Any:
    rank = len(x.shape)
    axes = [axis] if isinstance(axis, int) else axis
    gone = (
        {i for i, n in enumerate(x.shape) if n == 1} if axes is None else {a % rank for a in axes}
    )
    return _reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


def _concatenate(xs: Any, axis: int = -1) -> Any:
    if any(sparse_module(x) is None for x in xs):
        return k.concatenate([dense(x) for x in xs], axis=axis)
    axis %= len(xs[0].shape)
    all_indices, all_values, offset = [], [], 0
    for x in xs:
        indices, values = parts(x)
        step = np.zeros((1, len(x.shape)), "int32")
        step[0, axis] = offset
        all_indices.append(k.add(core.cast(indices, "int32"), step))
        all_values.append(values)
        offset += x.shape[axis]
    shape = (*xs[0].shape[:axis], offset, *xs[0].shape[axis + 1 :])
    return make(k.concatenate(all_indices, 0), k.concatenate(all_values, 0), shape)


def one_hot(x: Tensor, num_classes: int, axis: int, dtype: DType) -> Any:
    """Make the sparse result of `ops.one_hot(..., sparse=True)`.

    Args:
        x: a tensor of ints whose shape is known.
        num_classes: the size of the new axis.
        axis: where it stands.
        dtype: of the values.
    """
    shape = tuple(core.shape(x))
    place = axis % (len(shape) + 1)
    classes = k.reshape(core.cast(x, "int32"), (-1,))
    valid = k.logical_and(classes >= 0, classes < num_classes)
    if not all(isinstance(n, int) for n in shape):
        raise ValueError(f"one_hot: the shape must be known for sparse=True, got {shape}.")
    grid = np.indices(shape).reshape(len(shape), -1).astype("int32")
    columns = [*grid[:place], k.clip(classes, 0, num_classes - 1), *grid[place:]]
    values = core.cast(valid, dtypes.standardize(dtype or config.floatx()))
    full = (*shape[:place], num_classes, *shape[place:])
    return make(k.stack(columns, axis=1), values, full)


def _cast(x: Any, dtype: Any) -> Any:
    indices, values = parts(x)
    return make(indices, core.cast(values, dtype), x.shape)


def _refusal(name: str, what: str) -> TypeError:
    return TypeError(
        f"ops.{name} has no form for {what}: make it dense with "
        "ops.convert_to_tensor(x, sparse=False)."
    )


_KEEP_ZERO = (
    "abs absolute negative sign square sqrt expm1 log1p sin tan sinh tanh arcsin arctan arcsinh "
    "arctanh floor ceil trunc round conj conjugate real imag nan_to_num relu relu6 elu selu celu "
    "gelu silu swish leaky_relu softsign tanh_shrink hard_tanh hard_shrink soft_shrink "
    "stop_gradient erf cbrt deg2rad rad2deg"
)
SPARSE.update(
    {name: _on_values(name) for name in _KEEP_ZERO.split()}
    | {
        "multiply": _multiply, "divide": _divide, "true_divide": _divide, "add": _add,
        "subtract": _subtract, "maximum": _maximum, "minimum": _minimum, "einsum": _einsum,
        "matmul": _matmul, "dot": _matmul, "take": _take,
        "linear": _linear, "sum": _sum,
        "transpose": _transpose, "reshape": _reshape, "expand_dims": _expand_dims,
        "squeeze": _squeeze, "concatenate": _concatenate, "cast": _cast,
    }
)  # fmt: skip
SPARSE_ONE_HOT.append(one_hot)
