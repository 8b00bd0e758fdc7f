"""Shapes: axes moved, joined, split, repeated, turned and padded."""

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.ops.common import normalize_axis, positions
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.core import shape
from keraslite.ops.indexing import take
from keraslite.ops.op import Spec, op, primitive_only
from keraslite.typing import Axis, DType, Shape, Tensor


def ndim(x: Tensor) -> int:
    """The number of dimensions.

    >>> ndim([[1, 2]])
    2
    """
    return len(shape(x))


def size(x: Tensor) -> Any:
    """The number of elements.

    >>> int(size([[1, 2]]))
    2
    """
    return math.prod(shape(x))


@op("same")
def reshape(x: Tensor, newshape: int | Shape) -> Tensor:
    """Change the shape; one dimension may be -1.

    >>> convert_to_numpy(reshape([1, 2, 3, 4], (2, -1))).tolist()
    [[1, 2], [3, 4]]
    """
    return primitive_only("reshape")


@op("same")
def view(x: Tensor, dtype: DType | None = None) -> Tensor:
    """The same bits read as another dtype; the last axis grows or shrinks with its width.

    Args:
        x: the tensor.
        dtype: a dtype name; floatx by default.

    Raises:
        ValueError: the last axis does not hold a whole number of the new elements.

    >>> convert_to_numpy(view(array([1.0], "float32"), "int32")).tolist()
    [1065353216]
    """
    module = backends.module_of(x)
    dtype = module.canonical(dtypes.standardize(dtype))
    old, new = (dtypes.to_numpy(name).itemsize for name in (dtype_of(x), dtype))
    last = shape(x)[-1] if len(x.shape) else 1
    if old != new and (not len(x.shape) or (isinstance(last, int) and last * old % new)):
        raise ValueError(f"the last axis holds no whole number of {dtype}, {new} bytes each")
    return _view(x, dtype)


@op("same")
def _view(x: Any, dtype: str) -> Any:
    """`view` as a dtype that fits."""
    return primitive_only("_view")


@op("same")
def ravel(x: Tensor) -> Tensor:
    """Flatten.

    >>> convert_to_numpy(ravel([[1, 2], [3, 4]])).tolist()
    [1, 2, 3, 4]
    """
    return reshape(x, (-1,))


@op("same")
def transpose(x: Tensor, axes: Axis = None) -> Tensor:
    """Permute the axes; reverse them if none are given.

    >>> convert_to_numpy(transpose([[1, 2], [3, 4]])).tolist()
    [[1, 3], [2, 4]]
    """
    return primitive_only("transpose")


@op("same")
def moveaxis(x: Tensor, source: Any, destination: Any) -> Tensor:
    """Move axes to other positions.

    >>> shape(moveaxis(zeros((2, 3, 4)), 0, -1))
    (3, 4, 2)
    """
    rank = len(shape(x))
    source, destination = (
        [normalize_axis(a, rank) for a in ([axes] if isinstance(axes, int) else axes)]
        for axes in (source, destination)
    )
    to = dict(zip(destination, source, strict=True))
    rest = iter([a for a in range(rank) if a not in to.values()])
    return transpose(x, [to[i] if i in to else next(rest) for i in range(rank)])


@op("same")
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    >>> shape(swapaxes(zeros((2, 3, 4)), 0, -1))
    (4, 3, 2)
    """
    order = list(range(len(shape(x))))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


@op("same")
def expand_dims(x: Tensor, axis: Axis) -> Tensor:
    """Insert axes of size 1.

    >>> shape(expand_dims([1, 2], 0))
    (1, 2)
    """
    return primitive_only("expand_dims")


@op("same")
def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Drop axes of size 1.

    >>> shape(squeeze([[1, 2]]))
    (2,)
    """
    return primitive_only("squeeze")


@op("same")
def broadcast_to(x: Tensor, shape: int | Shape) -> Tensor:
    """Repeat along axes of size 1 until the shape fits.

    >>> convert_to_numpy(broadcast_to([1, 2], (2, 2))).tolist()
    [[1, 2], [1, 2]]
    """
    return primitive_only("broadcast_to")


@op("sequence")
def concatenate(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Join tensors along an axis.

    >>> convert_to_numpy(concatenate([[1, 2], [3]])).tolist()
    [1, 2, 3]
    """
    return primitive_only("concatenate")


@op("promote", tensors=2)
def append(x1: Tensor, x2: Tensor, axis: Axis = None) -> Tensor:
    """Join two tensors along an axis, or flat.

    >>> convert_to_numpy(append([1, 2], [[3]])).tolist()
    [1, 2, 3]
    """
    return concatenate([ravel(x1), ravel(x2)] if axis is None else [x1, x2], axis or 0)


@op("sequence")
def hstack(xs: Sequence[Tensor]) -> Tensor:
    """Join along the second axis, vectors along the first.

    >>> convert_to_numpy(hstack([[1, 2], [3]])).tolist()
    [1, 2, 3]
    """
    xs = [_at_least(x, 1) for x in xs]
    return concatenate(xs, 0 if len(shape(xs[0])) == 1 else 1)


@op("sequence")
def vstack(xs: Sequence[Tensor]) -> Tensor:
    """Join along the first axis, vectors as rows.

    >>> convert_to_numpy(vstack([[1, 2], [3, 4]])).tolist()
    [[1, 2], [3, 4]]
    """
    return concatenate([_at_least(x, 2) for x in xs], 0)


@op("sequence")
def dstack(xs: Sequence[Tensor]) -> Tensor:
    """Join along the third axis.

    >>> shape(dstack([[1, 2], [3, 4]]))
    (1, 2, 2)
    """
    return concatenate([_at_least(x, 3) for x in xs], 2)


@op("same")
def split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut into equal parts, or at indices.

    >>> [convert_to_numpy(p).tolist() for p in split([1, 2, 3, 4], 2)]
    [[1, 2], [3, 4]]
    """
    return primitive_only("split")


@op("same")
def array_split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut into parts that may differ by one in size, or at indices.

    >>> [convert_to_numpy(p).tolist() for p in array_split([1, 2, 3], 2)]
    [[1, 2], [3]]
    """
    if not isinstance(indices_or_sections, int):
        return split(x, indices_or_sections, axis)
    small, more = divmod(shape(x)[axis], indices_or_sections)
    sizes = [small + 1] * more + [small] * (indices_or_sections - more)
    return split(x, np.cumsum(sizes)[:-1].tolist(), axis)


@op("same")
def hsplit(x: Tensor, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the second axis; vectors along the first.

    >>> len(hsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 0 if len(shape(x)) == 1 else 1)


@op("same")
def vsplit(x: Tensor, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the first axis.

    >>> len(vsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 0)


@op("same")
def dsplit(x: Tensor, indices_or_sections: Any) -> list[Tensor]:
    """Cut along the third axis.

    >>> len(dsplit(zeros((2, 2, 2)), 2))
    2
    """
    return split(x, indices_or_sections, 2)


@op("same")
def repeat(x: Tensor, repeats: Any, axis: Axis = None) -> Tensor:
    """Repeat each element, flat or along an axis.

    >>> convert_to_numpy(repeat([1, 2], 2)).tolist()
    [1, 1, 2, 2]
    """
    return primitive_only("repeat")


def _repeat_spec(x: Any, repeats: Any, axis: Axis = None) -> Any:
    if backends.of(repeats) != "symbolic":
        return None
    sizes = list(shape(x)) if axis is not None else [None]
    sizes[normalize_axis(axis or 0, len(sizes))] = None
    return Spec(tuple(sizes), dtype_of(x))


repeat.op.spec = _repeat_spec


@op("same")
def tile(x: Tensor, repeats: Any) -> Tensor:
    """Repeat the whole tensor.

    >>> convert_to_numpy(tile([1, 2], 2)).tolist()
    [1, 2, 1, 2]
    """
    return primitive_only("tile")


@op("same")
def flip(x: Tensor, axis: Axis = None) -> Tensor:
    """Reverse along axes.

    >>> convert_to_numpy(flip([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    return primitive_only("flip")


@op("same")
def flipud(x: Tensor) -> Tensor:
    """Reverse along the first axis.

    >>> convert_to_numpy(flipud([1, 2, 3])).tolist()
    [3, 2, 1]
    """
    return flip(x, 0)


@op("same")
def fliplr(x: Tensor) -> Tensor:
    """Reverse along the second axis.

    >>> convert_to_numpy(fliplr([[1, 2, 3]])).tolist()
    [[3, 2, 1]]
    """
    return flip(x, 1)


@op("same")
def roll(x: Tensor, shift: Any, axis: Axis = None) -> Tensor:
    """Shift elements around, flat or along axes.

    >>> convert_to_numpy(roll([1, 2, 3], 1)).tolist()
    [3, 1, 2]
    """
    return primitive_only("roll")


@op("same")
def rot90(array: Tensor, k: int = 1, axes: Axis = (0, 1)) -> Tensor:
    """Rotate by quarter turns in the plane of two axes.

    >>> convert_to_numpy(rot90([[1, 2], [3, 4]])).tolist()
    [[2, 4], [1, 3]]
    """
    first, second = (normalize_axis(a, len(shape(array))) for a in axes)
    if first == second:
        raise ValueError(f"axes must differ, got {axes}.")
    if k % 4 == 2:
        return flip(array, (first, second))
    if k % 4 == 1:
        return swapaxes(flip(array, second), first, second)
    return array if k % 4 == 0 else flip(swapaxes(array, first, second), second)


@op("same")
def pad(x: Tensor, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Tensor:
    """Add a border: a constant, or after numpy's modes edge, reflect, symmetric, wrap.

    >>> convert_to_numpy(pad([1, 2], (1, 0))).tolist()
    [0, 1, 2]
    """
    widths = _widths(pad_width, len(shape(x)))
    if mode == "constant":
        return _pad_constant(x, widths, 0 if constant_values is None else constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"mode must be constant, edge, reflect, symmetric or wrap, got {mode!r}")
    if constant_values is not None:
        raise ValueError(f"constant_values must be None for mode {mode!r}, got {constant_values!r}")
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = take(x, _border(x, shape(x)[axis], before, after, mode), axis)
    return x


def _widths(pad_width: Any, rank: int) -> list:
    """A pair for each axis, of numpy's shorter forms: a number, one pair, pairs or numbers."""
    widths = pad_width.tolist() if hasattr(pad_width, "tolist") else pad_width
    widths = [widths] if isinstance(widths, int) else list(widths)
    if len(widths) == 2 and builtins.all(isinstance(w, int) for w in widths):
        widths = [widths]  # before and after, on every axis
    pairs = [[w] if isinstance(w, int) else list(w) for w in widths]
    pairs = [[pair[0], pair[-1]] for pair in pairs]
    if len(pairs) not in (1, rank):
        raise ValueError(f"{len(pairs)} pairs of widths for {rank} dimensions")
    return pairs * rank if len(pairs) == 1 else pairs


@op("same")
def _pad_constant(x: Any, widths: list, value: Any) -> Any:
    """Padding with a value; the widths are a pair for each axis."""
    return primitive_only("_pad_constant")


def _border(x: Any, size: Any, before: int, after: int, mode: str) -> Any:
    """The places that the elements of a padded axis are copied from."""
    i = positions(x, size + (before + after)) - before
    if mode == "edge":
        return (builtins.abs(i) - builtins.abs(i - (size - 1)) + (size - 1)) // 2
    if mode == "wrap":
        return i % size
    period = 2 * size - 2 if mode == "reflect" else 2 * size
    last = period if mode == "reflect" else period - 1
    if isinstance(period, int):
        period = builtins.max(period, 1)
    return (last - builtins.abs(2 * (i % period) - last)) // 2


@op("mixed_operands")
def meshgrid(*x: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Coordinate grids of vectors.

    >>> [convert_to_numpy(g).tolist() for g in meshgrid([1, 2], [3])]
    [[[1, 2]], [[3, 3]]]
    """
    rank, swap = len(x), indexing == "xy"
    place = [1 - i if swap and rank > 1 and i < 2 else i for i in range(rank)]
    grid = [reshape(v, [-1 if j == place[i] else 1 for j in range(rank)]) for i, v in enumerate(x)]
    sizes = [shape(g)[place[i]] for i, g in enumerate(grid)]
    full_shape = [sizes[place.index(j)] for j in range(rank)]
    return [broadcast_to(g, full_shape) for g in grid]


def _at_least(x: Any, rank: int) -> Any:
    """Axes of size 1 added the way numpy's atleast_1d, atleast_2d, atleast_3d do."""
    sizes = shape(x)
    if len(sizes) >= rank:
        return x
    front = 0 if len(sizes) == 2 else rank - len(sizes) if rank < 3 or not sizes else 1
    return reshape(x, [*([1] * front), *sizes, *([1] * (rank - len(sizes) - front))])


__all__ = [
    "append", "array_split", "broadcast_to", "concatenate", "dsplit", "dstack", "expand_dims",
    "flip", "fliplr", "flipud", "hsplit", "hstack", "meshgrid", "moveaxis", "ndim", "pad", "ravel",
    "repeat", "reshape", "roll", "rot90", "size", "split", "squeeze", "swapaxes", "tile",
    "transpose", "view", "vsplit", "vstack",
]  # fmt: skip
