"""Linear algebra on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive


def _tuple(fn: Any) -> Any:
    return lambda x: tuple(fn(x))


TABLE: dict[str, Any] = {"det": tf.linalg.det, "inv": tf.linalg.inv}
TABLE |= {name: _tuple(getattr(tf.linalg, name)) for name in ("eig", "eigh")}


@primitive(TABLE)
def cholesky(x: tf.Tensor, upper: bool = False) -> tf.Tensor:
    factor = tf.linalg.cholesky(x)
    return tf.linalg.adjoint(factor) if upper else factor


@primitive(TABLE)
def lu_factor(x: tf.Tensor) -> tuple:
    factors, order = tf.linalg.lu(x)
    # From the final order of the rows to the exchanges that led to it.
    steps, rows = min(x.shape[-2:]), x.shape[-2]
    current, exchanges = tf.broadcast_to(tf.range(rows), tf.shape(order)), []
    for i in range(steps):
        place = tf.argmax(tf.equal(current, order[..., i : i + 1]), -1, tf.int32)[..., None]
        exchanges.append(place[..., 0])
        row, target = current[..., i : i + 1], tf.equal(tf.range(rows), place)
        current = tf.where(
            target, row, tf.where(tf.range(rows) == i, order[..., i : i + 1], current)
        )
    return factors, tf.stack(exchanges, -1)


@primitive(TABLE)
def qr(x: tf.Tensor, mode: str = "reduced") -> tuple:
    if mode not in ("reduced", "complete"):
        raise ValueError(f"the mode is reduced or complete, not {mode!r}")
    return tuple(tf.linalg.qr(x, full_matrices=mode == "complete"))


@primitive(TABLE)
def solve(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    if b.shape.rank == a.shape.rank - 1:
        return tf.linalg.solve(a, b[..., None])[..., 0]
    return tf.linalg.solve(a, b)


@primitive(TABLE)
def solve_triangular(a: tf.Tensor, b: tf.Tensor, lower: bool = False) -> tf.Tensor:
    if b.shape.rank == a.shape.rank - 1:
        return tf.linalg.triangular_solve(a, b[..., None], lower)[..., 0]
    return tf.linalg.triangular_solve(a, b, lower)


@primitive(TABLE)
def svd(x: tf.Tensor, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    if not compute_uv:
        return tf.linalg.svd(x, compute_uv=False)
    values, left, right = tf.linalg.svd(x, full_matrices=full_matrices)
    return left, values, tf.linalg.adjoint(right)
