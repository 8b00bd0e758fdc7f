"""Products of tensors, and diagonals and triangles of matrices, on TensorFlow."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import tensorflow as tf

from keraslite.backend.integers import int8_product
from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.precision import SHORT, in_int32
from keraslite.backend.tensorflow.tensors import shape_of

TABLE: dict[str, Any] = {"slogdet": lambda x: tuple(tf.linalg.slogdet(x))}


def _products(fn: Callable) -> Callable:
    """Integers multiply in int32; two int8 tensors stay there."""

    @wraps(fn)
    def call(*xs: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        dtype = xs[0].dtype
        if dtype not in SHORT:
            return fn(*xs, **kwargs)
        out = fn(*(tf.cast(x, tf.int32) for x in xs), **kwargs)
        return out if dtype == tf.int8 else tf.cast(out, dtype)

    return call


def _by_floats(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    return tf.cast(_matmul(tf.cast(x1, tf.float32), tf.cast(x2, tf.float32)), tf.int32)


@primitive(TABLE)
def matmul(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    if x1.dtype == tf.int8 and x1.shape.rank and (x2.shape.rank or 0) > 1 and x2.shape[-2]:
        return int8_product(x1, x2, _by_floats)
    return _matmul(x1, x2)


@_products
def _matmul(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    rank1, rank2 = x1.shape.rank, x2.shape.rank
    if not rank1 or not rank2:
        raise ValueError("the tensors must have at least one dimension")
    if rank1 == 1 and rank2 == 1:
        return tf.tensordot(x1, x2, 1)
    if rank1 == 1:
        return tf.squeeze(_matmul(tf.expand_dims(x1, 0), x2), -2)
    if rank2 == 1:
        return tf.squeeze(_matmul(x1, tf.expand_dims(x2, 1)), -1)
    if rank2 == 2 and rank1 > 2:  # one large product instead of many small ones
        if not x1.shape.is_fully_defined():
            return tf.tensordot(x1, x2, 1)
        rows = tf.raw_ops.Reshape(tensor=x1, shape=[-1, x1.shape[-1]])
        out = tf.raw_ops.MatMul(a=rows, b=x2)
        return tf.raw_ops.Reshape(tensor=out, shape=[*x1.shape[:-1], shape_of(x2)[-1]])
    if rank1 == 2 and rank2 == 2:
        return tf.raw_ops.MatMul(a=x1, b=x2)
    return tf.matmul(x1, x2)


@primitive(TABLE)
def einsum(subscripts: str, *operands: tf.Tensor, **kwargs: Any) -> tf.Tensor:
    if any(isinstance(x, tf.RaggedTensor) for x in operands):
        return _ragged_einsum(subscripts, operands)
    return _products(lambda *xs: tf.einsum(subscripts, *xs))(*operands)


def _ragged_einsum(subscripts: str, operands: tuple) -> tf.RaggedTensor:
    """Multiply rows of any lengths, such as by "bij,jk->bik": all rows are one batch."""
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    is_ragged = [isinstance(x, tf.RaggedTensor) for x in operands]
    rows = terms[is_ragged.index(True)][:2]  # the axis of the rows, and that along them
    if (
        "." in rows
        or not output.startswith(rows)
        or any(
            term[:2] != rows or x.ragged_rank != 1 if ragged else set(term) & set(rows)
            for x, term, ragged in zip(operands, terms, is_ragged, strict=True)
        )
    ):
        raise ValueError(
            f"a product of ragged tensors must keep their rows, as 'bij,jk->bik' does, got "
            f"{subscripts!r}: pad the rows with to_tensor()"
        )
    first, *others = (x for x in operands if isinstance(x, tf.RaggedTensor))
    for other in others:
        tf.debugging.assert_equal(other.row_splits, first.row_splits, "rows differ in length")
    values = [x.values if ragged else x for x, ragged in zip(operands, is_ragged, strict=True)]
    flat = [term[ragged:] for term, ragged in zip(terms, is_ragged, strict=True)]
    return first.with_values(einsum(f"{','.join(flat)}->{output[1:]}", *values))


@primitive(TABLE)
@in_int32
def tensordot(x1: tf.Tensor, x2: tf.Tensor, axes: Any = 2) -> tf.Tensor:
    return tf.tensordot(x1, x2, axes)


@primitive(TABLE)
def diag(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    if x.shape.rank not in (1, 2):
        raise ValueError("the tensor must have one or two dimensions")
    return tf.linalg.diag(x, k=k) if x.shape.rank == 1 else diagonal(x, k)


@primitive(TABLE)
def diagonal(x: tf.Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> tf.Tensor:
    rank = x.shape.rank
    rest = [a for a in range(rank) if a not in (axis1 % rank, axis2 % rank)]
    return tf.linalg.diag_part(tf.transpose(x, [*rest, axis1 % rank, axis2 % rank]), k=offset)


def _triangle(x: tf.Tensor, k: int) -> tf.Tensor:
    rows, columns = shape_of(x)[-2:]
    return tf.range(rows)[:, None] + k >= tf.range(columns)


@primitive(TABLE)
def tril(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    if type(k) is int and k >= 0:
        return tf.linalg.band_part(x, -1, k)
    return tf.where(_triangle(x, k), x, tf.zeros((), x.dtype))


@primitive(TABLE)
def triu(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    if type(k) is int and k <= 0:
        return tf.linalg.band_part(x, -k, -1)
    return tf.where(_triangle(x, k - 1), tf.zeros((), x.dtype), x)
