"""Searching, counting, and differences of neighbours."""

import builtins
import math
from typing import Any

from keraslite import dtypes
from keraslite.ops.arithmetic import (
    absolute,
    add,
    clip,
    floor_divide,
    mod,
    multiply,
    power,
    subtract,
    true_divide,
)
from keraslite.ops.common import as_tensor_like, normalize_axis, positions, to_common_float
from keraslite.ops.control_flow import scan
from keraslite.ops.core import cast, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.creation import arange, ones_like
from keraslite.ops.elementwise import isfinite, isnan
from keraslite.ops.indexing import argsort, nonzero, take
from keraslite.ops.logic import (
    equal,
    greater_equal,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    where,
)
from keraslite.ops.op import Spec, op, primitive_only
from keraslite.ops.reductions import all, any, cumsum, max, min, sum
from keraslite.ops.shapes import (
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    ravel,
    reshape,
    transpose,
)
from keraslite.ops.slicing import get_item
from keraslite.typing import Shape, Tensor


@op("promote_float", tensors=2)
def isclose(
    x1: Tensor, x2: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |x1 - x2| <= atol + rtol * |x2|, element by element.

    >>> convert_to_numpy(isclose([1.0, 2.0], [1.0, 2.1])).tolist()
    [True, False]
    """
    bound = add(multiply(absolute(x2), rtol), atol)
    near = less_equal(absolute(subtract(x1, x2)), bound)
    close = logical_or(equal(x1, x2), logical_and(near, isfinite(x2)))
    return logical_or(close, logical_and(isnan(x1), isnan(x2))) if equal_nan else close


@op("promote_float", tensors=2)
def allclose(
    x1: Tensor, x2: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |x1 - x2| <= atol + rtol * |x2| for all elements.

    >>> bool(allclose([1.0], [1.0]))
    True
    """
    return all(isclose(x1, x2, rtol, atol, equal_nan))


@op("promote", tensors=2)
def isin(x1: Tensor, x2: Tensor, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element of x1 is one of those of x2.

    >>> convert_to_numpy(isin([1, 2, 3], [2, 5])).tolist()
    [False, True, False]
    """
    is_member = any(equal(expand_dims(x1, -1), ravel(x2)), axis=-1)
    return logical_not(is_member) if invert else is_member


@op("promote", tensors=2)
def searchsorted(sorted_sequence: Tensor, values: Tensor, side: str = "left") -> Tensor:
    """Return the indices at which values would be inserted into a sorted vector.

    >>> convert_to_numpy(searchsorted([1, 3, 5], [3, 4])).tolist()
    [1, 2]
    """
    return primitive_only("searchsorted")


@op("same")
def unique(
    x: Tensor,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The different elements in rising order; NaNs count as different from each other.

    Args:
        x: the tensor.
        sorted: kept for Keras code; the result is sorted in any case.
        return_index: whether the place of the first occurrence of each is returned too.
        return_inverse: whether the places that bring `x` back are returned too.
        return_counts: whether the number of occurrences is returned too.
        axis: the axis whose slices are compared; None compares the elements.
        size: how many are returned; more are cut off, and what is missing is `fill_value`, with
            the count 0 and the index of the first. Needed where the call is compiled by JAX.
        fill_value: 0 by default.

    Returns:
        The values, of `x`'s dtype, or a tuple of them and what was asked for, in int32.

    Raises:
        ValueError: the axis is out of range.

    >>> [convert_to_numpy(part).tolist() for part in unique([3, 1, 3], return_counts=True)]
    [[1, 3], [1, 2]]
    """
    slices = ravel(x) if axis is None else moveaxis(x, normalize_axis(axis, len(x.shape)), 0)
    count, *rest = shape(slices)
    rows = reshape(slices, (count, math.prod(rest))) if rest else slices
    order = _order_of_rows(rows)
    ranked = take(rows, order, 0)
    differ = not_equal(ranked[1:], ranked[:-1])
    differ = differ if len(rows.shape) == 1 else any(differ, 1)
    first = concatenate([ones_like(order[:1], dtype="bool"), differ])
    group = cumsum(cast(first, "int32")) - 1
    if size is None:
        places = positions(order, shape(nonzero(first)[0])[0])
    else:
        places = positions(order, size)
    starts = searchsorted(group, places)
    missing = greater_equal(starts, count)
    index = take(order, where(missing, 0, starts))
    values = take(slices, index, 0)
    if size is not None:
        fill = cast(as_tensor_like(0 if fill_value is None else fill_value, x), dtype_of(x))
        values = where(reshape(missing, (-1, *[1] * len(rest))), fill, values)
    out = [values if axis is None else moveaxis(values, 0, axis)]
    if return_index:
        out.append(index)
    if return_inverse:
        inverse = take(group, argsort(order))
        out.append(reshape(inverse, shape(x)) if axis is None else inverse)
    if return_counts:
        out.append(searchsorted(group, places, "right") - starts)
    return out[0] if len(out) == 1 else tuple(out)


def _order_of_rows(rows: Any) -> Any:
    """The indices that sort numbers, or rows by their first column, then their second ..."""
    if len(rows.shape) == 1:
        return argsort(rows)

    def by_column(order: Any, column: Any) -> tuple:
        return take(order, argsort(take(column, order))), None

    start = positions(rows, shape(rows)[0])
    return scan(by_column, start, transpose(rows), reverse=True)[0]


@op("promote", tensors=2)
def digitize(x: Tensor, bins: Tensor) -> Tensor:
    """The number of the bin of each element.

    >>> convert_to_numpy(digitize([0.5, 3.0], [1.0, 2.0])).tolist()
    [0, 2]
    """
    return searchsorted(bins, x, "right")


@op("same")
def bincount(x: Tensor, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """Count how often each integer occurs, row by row.

    >>> convert_to_numpy(bincount([0, 2, 2])).tolist()
    [1, 0, 2]
    """
    _check_bincount(x, minlength, sparse)
    x = cast(x, "int32") if dtype_of(x) == "bool" else x
    length = builtins.max(int(max(x)) + 1 if math.prod(shape(x)) else 0, minlength)
    hits = equal(expand_dims(x, -1), positions(x, length))
    if weights is None:
        return sum(cast(hits, "int32"), -2)
    weights = as_tensor_like(weights, x)
    return sum(where(hits, expand_dims(weights, -1), 0), -2)


@op("same")
def histogram(x: Tensor, bins: int = 10, range: Any = None) -> tuple[Tensor, Tensor]:
    """Counts in bins of equal width, and the edges of the bins.

    >>> [convert_to_numpy(p).tolist() for p in histogram([1.0, 2.0, 2.0], bins=2)]
    [[1, 2], [1.0, 1.5, 2.0]]
    """
    x = cast(ravel(x), dtypes.result_type(dtype_of(x), float))
    low, high = (min(x), max(x)) if range is None or range[0] == range[1] else range
    low, high = (cast(as_tensor_like(edge, x), dtype_of(x)) for edge in (low, high))
    # Not by linspace, whose steps are rounded in other ways on each backend.
    steps = multiply(arange(bins, dtype=dtype_of(x)), true_divide(subtract(high, low), bins))
    edges = concatenate([add(low, steps), expand_dims(high, 0)])
    inside = logical_and(greater_equal(x, edges[0]), less_equal(x, edges[-1]))
    place = clip(subtract(searchsorted(edges, x, "right"), 1), 0, bins - 1)
    hits = logical_and(expand_dims(inside, 1), equal(expand_dims(place, 1), positions(x, bins)))
    return sum(cast(hits, "int32"), 0), edges


@op("same")
def unravel_index(indices: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    """Flat indices as one array of indices for each axis.

    >>> [convert_to_numpy(i).tolist() for i in unravel_index([5], (2, 3))]
    [[1], [2]]
    """
    coordinates = []
    for size in reversed(shape):
        coordinates.append(mod(indices, size))
        indices = floor_divide(indices, size)
    return tuple(reversed(coordinates))


@op("same")
def diff(a: Tensor, n: int = 1, axis: int = -1) -> Tensor:
    """Differences of neighbours, n times over.

    >>> convert_to_numpy(diff([1, 4, 9])).tolist()
    [3, 5]
    """
    for _ in range(n):
        front = [slice(None)] * len(shape(a))
        back = list(front)
        front[axis], back[axis] = slice(1, None), slice(None, -1)
        late, early = get_item(a, tuple(front)), get_item(a, tuple(back))
        a = not_equal(late, early) if dtype_of(a) == "bool" else subtract(late, early)
    return a


@op("same")
def trapezoid(y: Tensor, x: Tensor = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral by the trapezoidal rule.

    >>> convert_to_numpy(trapezoid([1.0, 2.0, 3.0])).tolist()
    4.0
    """
    if x is None:
        y = cast(y, dtypes.result_type(dtype_of(y), float))
    else:
        y, x = to_common_float(y, as_tensor_like(x, y))
    y = moveaxis(y, axis, -1)
    steps = dx if x is None else diff(x if len(shape(x)) == 1 else moveaxis(x, axis, -1))
    return multiply(sum(multiply(add(y[..., 1:], y[..., :-1]), steps), -1), 0.5)


@op("same")
def vander(x: Tensor, N: Any = None, increasing: bool = False) -> Tensor:  # noqa: N803
    """The Vandermonde matrix: powers of x as columns.

    >>> convert_to_numpy(vander([1, 2, 3], increasing=True)).tolist()
    [[1, 1, 1], [1, 2, 4], [1, 3, 9]]
    """
    if len(x.shape) != 1:
        raise ValueError(f"x must be a vector, got a shape of {tuple(x.shape)}")
    powers = cast(positions(x, shape(x)[0] if N is None else N), dtype_of(x))
    return power(expand_dims(x, -1), powers if increasing else flip(powers))


def _check_bincount(x: Any, minlength: int, sparse: bool) -> None:
    if sparse:
        raise NotImplementedError("ops.bincount: sparse results are not supported.")
    if minlength < 0:
        raise ValueError(f"minlength must not be negative, got {minlength}")
    if not dtypes.is_int(dtype_of(x)) and dtype_of(x) != "bool":
        raise TypeError(f"the numbers to count must be integers, got dtype {dtype_of(x)}")


def _bincount_spec(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    _check_bincount(x, minlength, sparse)
    return Spec((*x.shape[:-1], None), "int32" if weights is None else dtype_of(weights))


def _unique_spec(
    x: Any, sorted: bool = True, return_index: bool = False, return_inverse: bool = False,
    return_counts: bool = False, axis: int | None = None, size: int | None = None,
    fill_value: Any = None,
) -> Any:  # fmt: skip
    if size is not None:
        return None
    sizes = (None,) if axis is None else (*x.shape[: axis % len(x.shape)], None,
                                          *x.shape[axis % len(x.shape) + 1 :])  # fmt: skip
    places = Spec(x.shape if axis is None else (x.shape[axis],), "int32")
    out = [Spec(sizes, x.dtype)]
    out += [Spec((None,), "int32")] * return_index + [places] * return_inverse
    out += [Spec((None,), "int32")] * return_counts
    return out[0] if len(out) == 1 else tuple(out)


unique.op.spec = _unique_spec


bincount.op.spec = _bincount_spec


__all__ = [
    "allclose", "bincount", "diff", "digitize", "histogram", "isclose", "isin", "searchsorted",
    "trapezoid", "unique", "unravel_index", "vander",
]  # fmt: skip
