"""Products of matrices, and what lies on their diagonals."""

import builtins
from collections.abc import Collection
from typing import Any

from keraslite.ops.arithmetic import add, clip, divide, multiply, sqrt, subtract
from keraslite.ops.common import positions
from keraslite.ops.core import cast, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.creation import zeros_like
from keraslite.ops.elementwise import conjugate
from keraslite.ops.indexing import take
from keraslite.ops.op import op, primitive_only
from keraslite.ops.reductions import mean, sum
from keraslite.ops.shapes import (
    concatenate,
    expand_dims,
    flip,
    moveaxis,
    pad,
    ravel,
    reshape,
    transpose,
)
from keraslite.typing import Axis, Tensor


@op("promote", tensors=2)
def matmul(x1: Tensor, x2: Tensor) -> Tensor:
    """The matrix product; batches broadcast. Two int8 tensors give int32.

    >>> convert_to_numpy(matmul([[1, 2]], [[3], [4]])).tolist()
    [[11]]
    """
    return primitive_only("matmul")


@op("operands")
def einsum(subscripts: str, *operands: Tensor, **kwargs: Any) -> Tensor:
    """The sum of products that the subscripts describe.

    >>> convert_to_numpy(einsum("ij,j->i", [[1, 2], [3, 4]], [1, 1])).tolist()
    [3, 7]
    """
    return primitive_only("einsum")


def _undo_widening(product: Tensor, names: Collection[str]) -> Tensor:
    """Give booleans and int8 together the dtype int8: only two int8 tensors are widened."""
    return cast(product, "int8") if set(names) == {"bool", "int8"} else product


matmul.op.finish_mixed = einsum.op.finish_mixed = _undo_widening


@op("promote", tensors=2)
def tensordot(x1: Tensor, x2: Tensor, axes: Axis = 2) -> Tensor:
    """Sum products over the given axes.

    >>> convert_to_numpy(tensordot([[1, 2], [3, 4]], [1, 1], axes=1)).tolist()
    [3, 7]
    """
    return primitive_only("tensordot")


@op("promote", tensors=2)
def dot(x1: Tensor, x2: Tensor) -> Tensor:
    """The dot product: over the last axis of x1 and the last but one of x2.

    >>> convert_to_numpy(dot([1, 2], [3, 4])).tolist()
    11
    """
    rank1, rank2 = len(shape(x1)), len(shape(x2))
    if not rank1 or not rank2:
        return multiply(x1, x2)
    if rank2 == 1 or (rank1 <= 2 and rank2 == 2):
        product = matmul(x1, x2)
        return cast(product, "int8") if dtype_of(x1) == "int8" else product  # matmul widens it
    return tensordot(x1, x2, [[-1], [-2]])


@op("promote", tensors=2)
def inner(x1: Tensor, x2: Tensor) -> Tensor:
    """The product over the last axes of both.

    >>> convert_to_numpy(inner([1, 2], [3, 4])).tolist()
    11
    """
    return (
        tensordot(x1, x2, [[-1], [-1]]) if len(shape(x1)) and len(shape(x2)) else multiply(x1, x2)
    )


@op("promote", tensors=2)
def outer(x1: Tensor, x2: Tensor) -> Tensor:
    """The products of all pairs of elements.

    >>> convert_to_numpy(outer([1, 2], [3, 4])).tolist()
    [[3, 4], [6, 8]]
    """
    return multiply(reshape(x1, (-1, 1)), reshape(x2, (1, -1)))


@op("promote", tensors=2)
def vdot(x1: Tensor, x2: Tensor) -> Tensor:
    """The product of two flat tensors, the first conjugated.

    >>> convert_to_numpy(vdot([1, 2], [3, 4])).tolist()
    11
    """
    return dot(reshape(conjugate(x1), (-1,)), reshape(x2, (-1,)))


@op("promote", tensors=2)
def kron(x1: Tensor, x2: Tensor) -> Tensor:
    """The Kronecker product.

    >>> convert_to_numpy(kron([1, 2], [1, 10])).tolist()
    [1, 10, 2, 20]
    """
    rank = builtins.max(len(shape(x1)), len(shape(x2)))
    x1, x2 = (reshape(x, [1] * (rank - len(shape(x))) + list(shape(x))) for x in (x1, x2))
    first = reshape(x1, [d for s in shape(x1) for d in (s, 1)])
    second = reshape(x2, [d for s in shape(x2) for d in (1, s)])
    pairs = multiply(first, second)
    return reshape(pairs, [a * b for a, b in zip(shape(x1), shape(x2), strict=True)])


@op("promote", tensors=2)
def cross(
    x1: Tensor, x2: Tensor, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Axis = None
) -> Tensor:
    """The cross product of vectors of two or three components.

    >>> convert_to_numpy(cross([1, 0, 0], [0, 1, 0])).tolist()
    [0, 0, 1]
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x1 = x1 if axisa == -1 else moveaxis(x1, axisa, -1)
    x2 = x2 if axisb == -1 else moveaxis(x2, axisb, -1)
    sizes = shape(x1)[-1], shape(x2)[-1]
    if not (sizes[0] in (2, 3) and sizes[1] in (2, 3)):
        raise ValueError("the vectors must have two or three components.")
    if sizes == (2, 2):
        return subtract(multiply(x1[..., 0], x2[..., 1]), multiply(x1[..., 1], x2[..., 0]))
    a, b = _twice(x1), _twice(x2)
    out = subtract(multiply(a[..., 1:4], b[..., 2:5]), multiply(a[..., 2:5], b[..., 1:4]))
    return out if axisc == -1 else moveaxis(out, -1, axisc)


def _twice(x: Any) -> Any:
    """The components x, y, z, x, y along the last axis; z is 0 where there are two."""
    if shape(x)[-1] == 2:
        return concatenate([x, zeros_like(x[..., :1]), x], -1)
    return concatenate([x, x[..., :2]], -1)


@op("same")
def diagonal(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonals of the matrices in two axes, as the last axis.

    >>> convert_to_numpy(diagonal([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    return primitive_only("diagonal")


@op("same")
def trace(x: Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sums of the diagonals.

    >>> convert_to_numpy(trace([[1, 2], [3, 4]])).tolist()
    5
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)


@op("same")
def diag(x: Tensor, k: int = 0) -> Tensor:
    """A vector as a diagonal matrix, or the diagonal of a matrix.

    >>> convert_to_numpy(diag([1, 2])).tolist()
    [[1, 0], [0, 2]]
    """
    return primitive_only("diag")


@op("same")
def diagflat(x: Tensor, k: int = 0) -> Tensor:
    """The elements as a diagonal matrix.

    >>> convert_to_numpy(diagflat([[1, 2]])).tolist()
    [[1, 0], [0, 2]]
    """
    return diag(ravel(x), k)


@op("same")
def tril(x: Tensor, k: int = 0) -> Tensor:
    """Zero above the k-th diagonal.

    >>> convert_to_numpy(tril([[1, 2], [3, 4]])).tolist()
    [[1, 0], [3, 4]]
    """
    return primitive_only("tril")


@op("same")
def triu(x: Tensor, k: int = 0) -> Tensor:
    """Zero below the k-th diagonal.

    >>> convert_to_numpy(triu([[1, 2], [3, 4]])).tolist()
    [[1, 2], [0, 4]]
    """
    return primitive_only("triu")


@op("float", in_float32=True)
def slogdet(x: Tensor) -> tuple:
    """The signs and the logarithms of the absolute values of the determinants.

    >>> [convert_to_numpy(part).tolist() for part in slogdet([[1.0, 0.0], [0.0, -1.0]])]
    [-1.0, 0.0]
    """
    return primitive_only("slogdet")


@op("float")
def corrcoef(x: Tensor) -> Tensor:
    """Correlation coefficients between rows.

    >>> convert_to_numpy(round(corrcoef([[1.0, 2.0], [2.0, 1.0]]))).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = subtract(x, mean(x, -1, True))
    products = matmul(x, transpose(x)) if len(shape(x)) > 1 else dot(x, x)
    if not len(shape(products)):
        return divide(products, products)
    deviation = sqrt(diagonal(products))
    return clip(
        divide(divide(products, expand_dims(deviation, 1)), expand_dims(deviation, 0)), -1.0, 1.0
    )


@op("promote_float", tensors=2)
def correlate(x1: Tensor, x2: Tensor, mode: str = "valid") -> Tensor:
    """The cross-correlation of two vectors; integers become floats.

    >>> convert_to_numpy(correlate([1, 2, 3], [0, 1, 1])).tolist()
    [5.0]
    """
    n, m = shape(x1)[0], shape(x2)[0]
    if m > n:  # correlate(a, b) is the mirror image of correlate(b, a)
        return flip(correlate(x2, x1, mode))
    borders = {"valid": (0, 0), "same": (m // 2, m - 1 - m // 2), "full": (m - 1, m - 1)}
    if mode not in borders:
        raise ValueError(f"mode must be one of {builtins.sorted(borders)}, got {mode!r}")
    before, after = borders[mode]
    starts = expand_dims(positions(x1, n + before + after - m + 1), 1)
    return matmul(take(pad(x1, (before, after)), add(starts, positions(x1, m)), 0), x2)


diag.op.minima = diagonal.op.minima = True


__all__ = [
    "corrcoef", "correlate", "cross", "diag", "diagflat", "diagonal", "dot", "einsum", "inner",
    "kron", "matmul", "outer", "slogdet", "tensordot", "trace", "tril", "triu", "vdot",
]  # fmt: skip
