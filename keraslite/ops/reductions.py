"""Sums, means, extrema and quantiles; axis is None (all of them), a number or a tuple."""

import builtins
import math
from collections.abc import Callable
from typing import Any

from keraslite import dtypes
from keraslite.ops.arithmetic import add, divide, maximum, multiply, sqrt, square, subtract
from keraslite.ops.common import as_tensor_like, normalize_axis, to_common_float
from keraslite.ops.core import cast, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.elementwise import ceil, floor, isnan, round
from keraslite.ops.indexing import sort, take_along_axis
from keraslite.ops.logic import equal, logical_not, not_equal, where
from keraslite.ops.op import op, primitive_only
from keraslite.ops.shapes import broadcast_to, moveaxis, ravel, reshape, size, transpose
from keraslite.typing import Axis, DType, Tensor


@op("same")
def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum; booleans and short integers add up as 32-bit integers.

    >>> convert_to_numpy(sum([[1, 2], [3, 4]], axis=0)).tolist()
    [4, 6]
    """
    return primitive_only("sum")


@op("same")
def prod(
    x: Tensor, axis: Axis = None, keepdims: bool = False, dtype: DType | None = None
) -> Tensor:
    """The product; booleans and short integers multiply as 32-bit integers.

    >>> convert_to_numpy(prod([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 12]
    """
    return primitive_only("prod")


@op("float")
def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean.

    >>> convert_to_numpy(mean([[1, 2], [3, 4]], axis=0)).tolist()
    [2.0, 3.0]
    """
    return primitive_only("mean")


@op("float")
def var(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The variance.

    >>> convert_to_numpy(var([[1, 2], [3, 4]], axis=0)).tolist()
    [1.0, 1.0]
    """
    return primitive_only("var")


@op("float")
def std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The standard deviation.

    >>> convert_to_numpy(std([[1, 2], [3, 4]], axis=0)).tolist()
    [1.0, 1.0]
    """
    return sqrt(var(x, axis, keepdims))


@op("same")
def max(x: Tensor, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The largest element.

    >>> convert_to_numpy(max([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 4]
    """
    return primitive_only("max")


@op("same")
def min(x: Tensor, axis: Axis = None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The smallest element.

    >>> convert_to_numpy(min([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 3]
    """
    return primitive_only("min")


@op("same", primitive="max")
def amax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element: the same as `max`.

    >>> convert_to_numpy(amax([[1, 2], [3, 4]], axis=1)).tolist()
    [2, 4]
    """
    return max(x, axis, keepdims)


@op("same", primitive="min")
def amin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element: the same as `min`.

    >>> convert_to_numpy(amin([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 3]
    """
    return min(x, axis, keepdims)


@op("same")
def ptp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element minus the smallest.

    >>> convert_to_numpy(ptp([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 1]
    """
    return subtract(max(x, axis, keepdims), min(x, axis, keepdims))


@op("same")
def all(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements hold.

    >>> convert_to_numpy(all([[True, False], [True, True]], axis=1)).tolist()
    [False, True]
    """
    return primitive_only("all")


@op("same")
def any(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether one element holds.

    >>> convert_to_numpy(any([[True, False], [False, False]], axis=1)).tolist()
    [True, False]
    """
    return primitive_only("any")


@op("same")
def argmax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The index of the first largest element, over the flat tensor or along an axis.

    >>> convert_to_numpy(argmax([[1, 2], [3, 4]], axis=1)).tolist()
    [1, 1]
    """
    return primitive_only("argmax")


@op("same")
def argmin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The index of the first smallest element, over the flat tensor or along an axis.

    >>> convert_to_numpy(argmin([[1, 2], [3, 4]], axis=1)).tolist()
    [0, 0]
    """
    return primitive_only("argmin")


@op("same")
def cumsum(x: Tensor, axis: Axis = None, dtype: DType | None = None) -> Tensor:
    """The running sum along an axis, or over the flat tensor.

    >>> convert_to_numpy(cumsum([1, 2, 3])).tolist()
    [1, 3, 6]
    """
    return primitive_only("cumsum")


@op("same")
def cumprod(x: Tensor, axis: Axis = None, dtype: DType | None = None) -> Tensor:
    """The running product along an axis, or over the flat tensor.

    >>> convert_to_numpy(cumprod([1, 2, 3])).tolist()
    [1, 2, 6]
    """
    return primitive_only("cumprod")


@op("same")
def count_nonzero(x: Tensor, axis: Axis = None) -> Tensor:
    """The number of elements that are not zero.

    >>> convert_to_numpy(count_nonzero([[0, 1], [2, 3]], axis=1)).tolist()
    [1, 2]
    """
    return sum(cast(not_equal(x, 0), "int32"), axis)


@op("same")
def average(x: Tensor, axis: Axis = None, weights: Any = None) -> Tensor:
    """The mean, weighted if there are weights, with which x promotes to a float.

    >>> convert_to_numpy(average([1.0, 3.0], weights=[3.0, 1.0])).tolist()
    1.5
    """
    if weights is None:
        return mean(x, axis)
    x, weights = to_common_float(x, as_tensor_like(weights, x))
    if isinstance(axis, int) and len(shape(weights)) == 1 and len(shape(x)) > 1:
        sizes = [1] * len(shape(x))
        sizes[axis] = -1
        weights = reshape(weights, sizes)
    weights = broadcast_to(weights, shape(x))
    return divide(sum(multiply(x, weights), axis), sum(weights, axis))


@op("float")
def median(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The median: the mean of the two middle elements where there are two.

    >>> convert_to_numpy(median([[1, 4, 2], [3, 9, 5]], axis=1)).tolist()
    [2.0, 5.0]
    """
    return quantile(x, 0.5, axis, keepdims=keepdims)


@op("float")
def quantile(
    x: Tensor, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """The q-th quantiles, 0 <= q <= 1; an axis for several q comes first.

    >>> convert_to_numpy(quantile([1.0, 2.0, 4.0], [0.5, 1.0])).tolist()
    [2.0, 4.0]
    """
    return _quantile(x, q, axis, method, keepdims, None)


@op("float")
def percentile(
    x: Tensor, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """The q-th percentiles, 0 <= q <= 100.

    >>> convert_to_numpy(percentile([1.0, 2.0, 4.0], 50)).tolist()
    2.0
    """
    q = q / 100 if isinstance(q, int | float) else divide(as_tensor_like(q, x), 100)
    return quantile(x, q, axis, method, keepdims)


@op("same")
def nansum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum without the NaNs.

    >>> convert_to_numpy(nansum([1.0, float('nan')])).tolist()
    1.0
    """
    return sum(where(isnan(x), 0, x), axis, keepdims)


@op("same")
def nanprod(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product without the NaNs.

    >>> convert_to_numpy(nanprod([2.0, float('nan')])).tolist()
    2.0
    """
    return prod(where(isnan(x), 1, x), axis, keepdims)


@op("float")
def nanmean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean without the NaNs.

    >>> convert_to_numpy(nanmean([2.0, float('nan')])).tolist()
    2.0
    """
    count = sum(cast(logical_not(isnan(x)), dtype_of(x)), axis, keepdims)
    return divide(nansum(x, axis, keepdims), count)


@op("float")
def nanvar(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The variance without the NaNs.

    >>> convert_to_numpy(nanvar([1.0, 3.0, float('nan')])).tolist()
    1.0
    """
    return nanmean(square(subtract(x, nanmean(x, axis, True))), axis, keepdims)


@op("float")
def nanstd(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The standard deviation without the NaNs.

    >>> convert_to_numpy(nanstd([1.0, 3.0, float('nan')])).tolist()
    1.0
    """
    return sqrt(nanvar(x, axis, keepdims))


@op("same")
def nanmax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element without the NaNs.

    >>> convert_to_numpy(nanmax([1.0, float('nan')])).tolist()
    1.0
    """
    return _nan_extremum(max, -math.inf, x, axis, keepdims)


@op("same")
def nanmin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element without the NaNs.

    >>> convert_to_numpy(nanmin([1.0, float('nan')])).tolist()
    1.0
    """
    return _nan_extremum(min, math.inf, x, axis, keepdims)


@op("same")
def nanargmax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element that is not NaN; -1 if all are.

    >>> convert_to_numpy(nanargmax([1.0, float('nan')])).tolist()
    0
    """
    return _nan_arg(argmax, -math.inf, x, axis, keepdims)


@op("same")
def nanargmin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest element that is not NaN; -1 if all are.

    >>> convert_to_numpy(nanargmin([1.0, float('nan')])).tolist()
    0
    """
    return _nan_arg(argmin, math.inf, x, axis, keepdims)


@op("same")
def nancumsum(x: Tensor, axis: Axis = None, dtype: DType | None = None) -> Tensor:
    """The running sum, NaNs counted as 0.

    >>> convert_to_numpy(nancumsum([1.0, float('nan'), 2.0])).tolist()
    [1.0, 1.0, 3.0]
    """
    return cumsum(where(isnan(x), 0, x), axis, dtype)


@op("same")
def nancumprod(x: Tensor, axis: Axis = None, dtype: DType | None = None) -> Tensor:
    """The running product, NaNs counted as 1.

    >>> convert_to_numpy(nancumprod([1.0, float('nan'), 2.0])).tolist()
    [1.0, 1.0, 2.0]
    """
    return cumprod(where(isnan(x), 1, x), axis, dtype)


@op("float")
def nanmedian(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The median without the NaNs.

    >>> convert_to_numpy(nanmedian([1.0, 3.0, float('nan')])).tolist()
    2.0
    """
    return nanquantile(x, 0.5, axis, keepdims=keepdims)


@op("float")
def nanquantile(
    x: Tensor, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """The quantiles without the NaNs.

    >>> convert_to_numpy(nanquantile([1.0, 3.0, float('nan')], 0.5)).tolist()
    2.0
    """
    count = sum(cast(logical_not(isnan(x)), "float32"), axis, True)
    return _quantile(x, q, axis, method, keepdims, count)


@op("float")
def nanpercentile(
    x: Tensor, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False
) -> Tensor:
    """The percentiles without the NaNs.

    >>> convert_to_numpy(nanpercentile([1.0, 3.0, float('nan')], 50)).tolist()
    2.0
    """
    return nanquantile(x, divide(as_tensor_like(q, x), 100), axis, method, keepdims)


def _nan_extremum(of: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Any:
    if not dtypes.is_float(dtype_of(x)):
        return of(x, axis, keepdims)
    nan = isnan(x)
    empty = all(nan, axis, keepdims)
    return where(empty, math.nan, of(where(nan, worst, x), axis, keepdims))


def _nan_arg(of: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Any:
    if not dtypes.is_float(dtype_of(x)):
        return of(x, axis, keepdims)
    nan = isnan(x)
    empty = all(nan, axis, keepdims)
    return where(empty, -1, of(where(nan, worst, x), axis, keepdims))


def _quantile(x: Any, q: Any, axis: Any, method: str, keepdims: bool, count: Any) -> Any:
    """Quantiles by sorting; `count` elements count where it is given, the NaNs sorted behind."""
    if method not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ValueError(f"unknown method {method!r}.")
    if isinstance(q, int | float) and not 0 <= q <= 1:
        raise ValueError(f"q must lie within its range, got {q} of 1")
    sizes = shape(x)
    axes = range(len(sizes)) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = sorted(normalize_axis(a, len(sizes)) for a in axes)
    rest = [a for a in range(len(sizes)) if a not in axes]
    order = rest + axes
    flat = x if order == [*range(len(sizes))] else transpose(x, order)
    flat = reshape(flat, [*(sizes[a] for a in rest), -1]) if len(axes) != 1 else flat
    name, wide = dtype_of(x), dtypes.result_type(dtype_of(x), "float32")
    flat = sort(flat if name == wide else cast(flat, wide), -1)
    last = shape(flat)[-1] - 1
    kept = [1 if a in axes else d for a, d in enumerate(sizes) if keepdims or a not in axes]
    if count is None and isinstance(q, int | float) and isinstance(last, int) and last >= 0:
        between = _between(flat, q, last, method, wide)
        between = between if not keepdims else reshape(between, kept)
        return between if name == wide else cast(between, name)
    q = cast(as_tensor_like(q, x), wide)
    if count is not None:
        last = maximum(subtract(reshape(count, [*(sizes[a] for a in rest), 1]), 1), 0)
    place = broadcast_to(multiply(ravel(q), last), [*shape(flat)[:-1], size(q)])
    low, high = (round(place),) * 2 if method == "nearest" else (floor(place), ceil(place))
    below, above = (take_along_axis(flat, cast(i, "int32"), -1) for i in (low, high))
    weight = subtract(place, low)
    if method != "linear":
        part = {"higher": 1.0, "midpoint": 0.5}.get(method, 0.0)
        weight = multiply(cast(not_equal(low, high), dtype_of(flat)), part)
    between = add(below, where(equal(weight, 0), 0, multiply(weight, subtract(above, below))))
    if count is None:
        between = where(any(isnan(flat), -1, True), math.nan, between)
    return cast(reshape(moveaxis(between, -1, 0), [*shape(q), *kept]), name)


def _between(flat: Any, q: float, last: int, method: str, dtype: str) -> Any:
    """The quantile of one number along a sorted axis: its place is a number too."""
    number = dtypes.to_numpy(dtype).type
    place = float(number(q) * number(last))  # rounded as it is for tensors of several q
    low = math.floor(place)
    high = math.ceil(place)
    if method == "nearest":
        low = high = builtins.round(place)
    weight = place - low
    if method != "linear":
        weight = {"higher": 1.0, "midpoint": 0.5}.get(method, 0.0) if low != high else 0.0
    out = flat[..., low]
    if weight:
        out = add(out, multiply(subtract(flat[..., high], out), weight))
    return where(any(isnan(flat), -1), math.nan, out)


__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "cumprod",
    "cumsum", "max", "mean", "median", "min", "nanargmax", "nanargmin", "nancumprod", "nancumsum",
    "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod", "nanquantile", "nanstd",
    "nansum", "nanvar", "percentile", "prod", "ptp", "quantile", "std", "sum", "var",
]  # fmt: skip
