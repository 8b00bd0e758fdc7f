"""Ops of mathematics that numpy has not: one definition each."""

from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.ops.common import as_tensor_like, positions
from keraslite.ops.core import cast, shape, stop_gradient
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.numpy import (
    add,
    broadcast_to,
    divide,
    exp,
    expand_dims,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    logical_and,
    max,
    multiply,
    reshape,
    slogdet,
    sqrt,
    square,
    subtract,
    sum,
    take,
    take_along_axis,
    where,
)
from keraslite.ops.op import Spec, op, primitive_only
from keraslite.ops.slicing import scatter_update
from keraslite.typing import Axis, Tensor


@op("float")
def erf(x: Tensor) -> Tensor:
    """The error function.

    >>> convert_to_numpy(erf([0.0])).tolist()
    [0.0]
    """
    return primitive_only("erf")


@op("float")
def erfc(x: Tensor) -> Tensor:
    """1 - erf(x), precise for large x.

    >>> convert_to_numpy(erfc([0.0])).tolist()
    [1.0]
    """
    return primitive_only("erfc")


@op("float")
def erfinv(x: Tensor) -> Tensor:
    """The inverse of the error function.

    >>> convert_to_numpy(erfinv([0.0])).tolist()
    [0.0]
    """
    return primitive_only("erfinv")


@op("float")
def rsqrt(x: Tensor) -> Tensor:
    """One over the square root.

    >>> convert_to_numpy(rsqrt([4.0])).tolist()
    [0.5]
    """
    return divide(1, sqrt(x))


@op("float")
def logsumexp(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The logarithm of the sum of exponentials, safe for large values.

    >>> convert_to_numpy(logsumexp([1000.0])).tolist()
    1000.0
    """
    high = stop_gradient(max(x, axis, True))
    high = where(isfinite(high), high, 0)
    total = log(sum(exp(subtract(x, high)), axis, keepdims))
    return add(total, high if keepdims else reshape(high, shape(total)))


@op("same")
def top_k(x: Tensor, k: int, sorted: bool = True) -> tuple:
    """The k largest elements along the last axis in falling order, and their indices.

    >>> [convert_to_numpy(part).tolist() for part in top_k([5, 9, 7], 2)]
    [[9, 7], [1, 2]]
    """
    return primitive_only("top_k")


@op("same", tensors=2)
def in_top_k(targets: Tensor, predictions: Tensor, k: int) -> Tensor:
    """Whether the prediction of the target class is among the k largest of its row.

    >>> convert_to_numpy(in_top_k([1, 0], [[0.1, 0.9], [0.1, 0.9]], 1)).tolist()
    [True, False]
    """
    score = take_along_axis(predictions, expand_dims(targets, -1), -1)
    score = where(isnan(score), -np.inf, score)
    return less_equal(add(sum(greater(predictions, score), -1), 1), k)


@op("same", tensors=2)
def segment_sum(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """The sums of the rows with the same segment number; zero for a segment without rows.

    >>> convert_to_numpy(segment_sum([1, 2, 3], [0, 0, 1], 2)).tolist()
    [3, 3]
    """
    return _segments(data, segment_ids, num_segments, "add")


@op("same", tensors=2)
def segment_prod(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """The products of the rows with the same segment number; one for a segment without rows.

    >>> convert_to_numpy(segment_prod([1, 2, 3], [0, 0, 1], 2)).tolist()
    [2, 3]
    """
    return _segments(data, segment_ids, num_segments, "mul")


@op("same", tensors=2)
def segment_max(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """The largest of the rows with the same segment number; the least number where there is none.

    >>> convert_to_numpy(segment_max([1, 2, 3], [0, 0, 1], 2)).tolist()
    [2, 3]
    """
    return _segments(data, segment_ids, num_segments, "max")


@op("same", tensors=2)
def segment_min(
    data: Tensor, segment_ids: Tensor, num_segments: int | None = None, sorted: bool = False
) -> Tensor:
    """The smallest of the rows with the same segment number; the largest number where none is.

    >>> convert_to_numpy(segment_min([1, 2, 3], [0, 0, 1], 2)).tolist()
    [1, 3]
    """
    return _segments(data, segment_ids, num_segments, "min")


def _check_segment_ids(segment_ids: Any) -> None:
    if len(segment_ids.shape) != 1:
        raise ValueError(f"segment_ids must be a vector, got a shape of {tuple(segment_ids.shape)}")
    if not dtypes.is_int(dtype_of(segment_ids)):
        raise TypeError(f"segment_ids must be integers, got dtype {dtype_of(segment_ids)}")


def _segments(data: Any, segment_ids: Any, num_segments: int | None, reduction: str) -> Any:
    _check_segment_ids(segment_ids)
    if num_segments is None:
        num_segments = int(max(segment_ids)) + 1
    boolean = dtype_of(data) == "bool"
    low, high = (False, True) if boolean else dtypes.limits(dtype_of(data), infinite=True)
    start = {"add": 0, "mul": 1, "max": low, "min": high}[reduction]
    base = cast(as_tensor_like(start, data), dtype_of(data))
    # Rows of other numbers than those of segments go to one more, which is dropped.
    base = broadcast_to(base, (num_segments + 1, *shape(data)[1:]))
    is_segment = logical_and(greater_equal(segment_ids, 0), less(segment_ids, num_segments))
    places = where(is_segment, segment_ids, num_segments)
    return scatter_update(base, expand_dims(places, -1), data, reduction)[:num_segments]


def _segments_spec(
    data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False
) -> Any:
    _check_segment_ids(segment_ids)
    return Spec((None, *shape(data)[1:]), dtype_of(data)) if num_segments is None else None


segment_sum.op.spec = segment_prod.op.spec = _segments_spec
segment_max.op.spec = segment_min.op.spec = _segments_spec


@op("promote_float", tensors=2)
def cdist(x: Tensor, y: Tensor) -> Tensor:
    """The distances between the rows of x and the rows of y.

    >>> convert_to_numpy(cdist([[0.0, 0.0]], [[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    gaps = subtract(expand_dims(x, -2), expand_dims(y, -3))
    return sqrt(sum(square(gaps), -1))


@op("same")
def extract_sequences(x: Tensor, sequence_length: int, sequence_stride: int) -> Tensor:
    """The windows of a signal along the last axis.

    >>> convert_to_numpy(extract_sequences([1, 2, 3, 4], 2, 2)).tolist()
    [[1, 2], [3, 4]]
    """
    if sequence_stride < 1:
        raise ValueError(f"sequence_stride must be at least 1, got {sequence_stride}")
    count = (shape(x)[-1] - sequence_length) // sequence_stride + 1
    starts = multiply(expand_dims(positions(x, count), 1), sequence_stride)
    return take(x, add(starts, positions(x, sequence_length)), -1)


@op("float", in_float32=True)
def logdet(x: Tensor) -> Tensor:
    """The logarithm of the absolute determinant.

    >>> convert_to_numpy(logdet([[1.0, 0.0], [0.0, 1.0]])).tolist()
    0.0
    """
    return slogdet(x)[1]


__all__ = [
    "cdist", "erf", "erfc", "erfinv", "extract_sequences", "in_top_k", "logdet", "logsumexp",
    "rsqrt", "segment_max", "segment_min", "segment_prod", "segment_sum", "top_k",
]  # fmt: skip
