"""Ops of linear algebra: one definition each. Matrices stand in the last two axes."""

import math
from typing import Any

from keraslite.ops import numpy as knp
from keraslite.ops.core import cast, shape
from keraslite.ops.core import dtype as dtype_of
from keraslite.ops.numpy import (
    absolute,
    matmul,
    multiply,
    slogdet,  # noqa: F401 - a name of this module too
    swapaxes,
    where,
)
from keraslite.ops.op import op, primitive_only
from keraslite.ops.transforms import jvp  # noqa: F401 - a name of this module too
from keraslite.typing import Axis, Tensor


@op("float", in_float32=True)
def cholesky(x: Tensor, upper: bool = False) -> Tensor:
    """The Cholesky factor of positive definite matrices.

    >>> convert_to_numpy(cholesky([[4.0, 0.0], [0.0, 9.0]])).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    return primitive_only("cholesky")


@op("float", in_float32=True)
def cholesky_inverse(x: Tensor, upper: bool = False) -> Tensor:
    """The inverse of matrices from their Cholesky factors.

    >>> convert_to_numpy(cholesky_inverse([[2.0, 0.0], [0.0, 1.0]])).tolist()
    [[0.25, 0.0], [0.0, 1.0]]
    """
    factor = knp.triu(x) if upper else knp.tril(x)
    inverse = inv(factor)
    turned = swapaxes(inverse, -1, -2)
    return matmul(inverse, turned) if upper else matmul(turned, inverse)


@op("float", in_float32=True)
def det(x: Tensor) -> Tensor:
    """The determinants.

    >>> convert_to_numpy(det([[2.0, 0.0], [0.0, 3.0]])).tolist()
    6.0
    """
    return primitive_only("det")


@op("float", in_float32=True)
def eig(x: Tensor) -> tuple:
    """The eigenvalues and, as columns, the eigenvectors; complex numbers.

    >>> eig([[2.0, 0.0], [0.0, 3.0]])[0].shape[0]
    2
    """
    return primitive_only("eig")


@op("float", in_float32=True)
def eigh(x: Tensor) -> tuple:
    """The rising eigenvalues and, as columns, the eigenvectors of symmetric matrices.

    >>> convert_to_numpy(eigh([[3.0, 0.0], [0.0, 2.0]])[0]).tolist()
    [2.0, 3.0]
    """
    return primitive_only("eigh")


@op("float", in_float32=True)
def inv(x: Tensor) -> Tensor:
    """The inverses.

    >>> convert_to_numpy(inv([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return primitive_only("inv")


@op("float", in_float32=True)
def pinv(x: Tensor, rcond: Any = None) -> Tensor:
    """The Moore-Penrose pseudo-inverses.

    >>> convert_to_numpy(knp.round(pinv([[2.0, 0.0], [0.0, 0.0]]), 3)).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    left, values, right = svd(x, full_matrices=False)
    rcond = _tolerance(x) if rcond is None else rcond
    kept = knp.greater(values, multiply(knp.max(values, -1, True), rcond))
    inverse = where(kept, knp.divide(1, where(kept, values, 1)), 0)
    scaled = multiply(swapaxes(right, -1, -2), knp.expand_dims(inverse, -2))
    return matmul(scaled, swapaxes(left, -1, -2))


def _tolerance(x: Any) -> float:
    """The relative size below which a singular value is rounding error."""
    return max(shape(x)[-2:]) * {"float64": 2.0**-52}.get(dtype_of(x), 2.0**-23)


@op("float", in_float32=True)
def matrix_rank(x: Tensor, tol: Any = None) -> Tensor:
    """The ranks: the numbers of singular values above `tol`.

    >>> convert_to_numpy(matrix_rank([[1.0, 1.0], [1.0, 1.0]])).tolist()
    1
    """
    values = svd(x, compute_uv=False)
    tol = multiply(knp.max(values, -1, True), _tolerance(x)) if tol is None else tol
    return knp.sum(knp.greater(values, tol), -1)


@op("float", in_float32=True)
def lu_factor(x: Tensor) -> tuple:
    """The LU factors in one matrix, and the rows exchanged at each step.

    >>> [convert_to_numpy(part).tolist() for part in lu_factor([[0.0, 2.0], [1.0, 0.0]])]
    [[[1.0, 0.0], [0.0, 2.0]], [1, 1]]
    """
    return primitive_only("lu_factor")


@op("float")
def norm(x: Tensor, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors (one axis) or matrices (two); of the flat tensor by default.

    Args:
        x: the tensor.
        ord: None for the 2-norm of all elements; a number, "fro" or "nuc" as in numpy.
        axis: one axis or two.
        keepdims: whether the axes stay, with size 1.

    >>> convert_to_numpy(norm([3.0, 4.0])).tolist()
    5.0
    """
    rank = len(shape(x))
    axes = (axis,) if isinstance(axis, int) else tuple(range(rank)) if axis is None else tuple(axis)
    if ord is None or (ord == 2 and len(axes) == 1) or (ord == "fro" and len(axes) == 2):
        return knp.sqrt(knp.sum(knp.square(absolute(x)), axes, keepdims))
    if len(axes) == 1 and not isinstance(ord, str):
        return _vector_norm(absolute(x), ord, axes[0], keepdims)
    if len(axes) != 2 or ord not in (1, -1, 2, -2, math.inf, -math.inf, "nuc"):
        raise ValueError(f"no norm of order {ord!r} over the axes {axes}.")
    if ord in (2, -2, "nuc"):
        values = svd(knp.moveaxis(x, axes, (-2, -1)), compute_uv=False)
        out = {2: knp.max, -2: knp.min, "nuc": knp.sum}[ord](values, -1)
        return knp.expand_dims(out, tuple(sorted(a % rank for a in axes))) if keepdims else out
    summed, chosen = axes if abs(ord) == 1 else axes[::-1]
    out = knp.sum(absolute(x), summed, True)
    out = (knp.max if ord > 0 else knp.min)(out, chosen, True)
    return out if keepdims else knp.squeeze(out, axes)


def _vector_norm(x: Any, ord: float, axis: int, keepdims: bool) -> Any:
    if math.isinf(ord):
        return (knp.max if ord > 0 else knp.min)(x, axis, keepdims)
    if ord == 0:
        return knp.sum(cast(knp.not_equal(x, 0), dtype_of(x)), axis, keepdims)
    return knp.power(knp.sum(knp.power(x, ord), axis, keepdims), 1.0 / ord)


@op("float", in_float32=True)
def qr(x: Tensor, mode: str = "reduced") -> tuple:
    """The QR decomposition, "reduced" or "complete".

    >>> [part.shape[0] for part in qr([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])]
    [3, 2]
    """
    return primitive_only("qr")


@op("promote_float", tensors=2, in_float32=True)
def solve(a: Tensor, b: Tensor) -> Tensor:
    """Solve a x = b; b holds a vector, or columns, for each matrix.

    >>> convert_to_numpy(solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])).tolist()
    [1.0, 0.5]
    """
    return primitive_only("solve")


@op("promote_float", tensors=2, in_float32=True)
def solve_triangular(a: Tensor, b: Tensor, lower: bool = False) -> Tensor:
    """Solve a x = b for triangular matrices; the other triangle is not read.

    >>> convert_to_numpy(solve_triangular([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])).tolist()
    [1.0, 0.5]
    """
    return solve(knp.tril(a) if lower else knp.triu(a), b)


@op("promote_float", tensors=2, in_float32=True)
def lstsq(a: Tensor, b: Tensor, rcond: Any = None) -> Tensor:
    """The least-squares solution of a x = b.

    >>> convert_to_numpy(knp.round(lstsq([[1.0], [1.0]], [1.0, 3.0]), 3)).tolist()
    [2.0]
    """
    return matmul(pinv(a, rcond), b)


@op("float", in_float32=True)
def svd(x: Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """The singular value decomposition: (u, s, v transposed), or the singular values alone.

    >>> convert_to_numpy(svd([[2.0, 0.0], [0.0, 3.0]], compute_uv=False)).tolist()
    [3.0, 2.0]
    """
    return primitive_only("svd")


qr.op.minima = svd.op.minima = True


__all__ = [
    "cholesky", "cholesky_inverse", "det", "eig", "eigh", "inv", "lstsq", "lu_factor",
    "matrix_rank", "norm", "pinv", "qr", "solve", "solve_triangular", "svd",
]  # fmt: skip
