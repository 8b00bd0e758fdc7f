"""Every op of ops/linalg.py on every backend, against jnp; factorizations by their products."""

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import pytest
from backends import TRAINABLE
from ops_cases import (
    assert_gradient,
    assert_graph,
    assert_symbolic,
    assert_value,
    by_op,
    check,
    row,
)

import keraslite
from keraslite import ops

rng = np.random.default_rng(1)
M = rng.normal(size=(2, 3, 3)).astype("float32") + 2 * np.eye(3, dtype="float32")
SPD = M @ M.swapaxes(-1, -2) + np.eye(3, dtype="float32")
TALL = rng.normal(size=(4, 3)).astype("float32")
FLAT = np.concatenate([TALL[:, :2], TALL[:, :1] + TALL[:, 1:2]], 1)  # of rank 2
B = rng.normal(size=(2, 3, 2)).astype("float32")
V = rng.normal(size=(2, 3)).astype("float32")
LOWER = np.tril(M)
INTS = np.int32([[2, 1], [1, 3]])

ROWS = [
    row("cholesky", SPD, oracle=jnp.linalg.cholesky, grad=0),
    row("cholesky", SPD, upper=True, oracle=jnp.linalg.cholesky),
    row("cholesky_inverse", LOWER, grad=0,
        oracle=lambda x: jnp.linalg.inv(
            jnp.tril(x) @ jnp.tril(x).swapaxes(-1, -2))),
    row("cholesky_inverse", LOWER.swapaxes(-1, -2), upper=True,
        oracle=lambda x, upper: jnp.linalg.inv(x.swapaxes(-1, -2) @ x)),
    row("det", M, oracle=jnp.linalg.det, grad=0), row("det", INTS, oracle=jnp.linalg.det, unknown=()),
    row("slogdet", M, oracle=jnp.linalg.slogdet), row("slogdet", -M[0], oracle=jnp.linalg.slogdet, unknown=()),
    row("logdet", SPD, oracle=lambda x: jnp.linalg.slogdet(x)[1], grad=0),
    row("inv", M, oracle=jnp.linalg.inv, grad=0), row("inv", INTS, oracle=jnp.linalg.inv, unknown=()),
    row("pinv", TALL, oracle=jnp.linalg.pinv, grad=0), row("pinv", FLAT, oracle=jnp.linalg.pinv, wide=False),
    row("pinv", TALL.T, 0.5, oracle=jnp.linalg.pinv),
    row("matrix_rank", M, oracle=jnp.linalg.matrix_rank),
    row("matrix_rank", FLAT, oracle=jnp.linalg.matrix_rank),
    row("matrix_rank", TALL, 1.5, oracle=lambda x, t: jnp.sum(
        jnp.linalg.svd(x, compute_uv=False) > t)),
    row("lu_factor", M, oracle=jsl.lu_factor), row("lu_factor", M[0][::-1].copy(), oracle=jsl.lu_factor, unknown=()),
    *(row("norm", TALL, oracle=jnp.linalg.norm, grad=0 if order in (None, "fro", 1) else None,
          ord=order, axis=axis, keepdims=keep)
      for order, axis in ((None, None), ("fro", None), (1, None), (-1, None), (np.inf, None),
                          (-np.inf, None), (2, None), (-2, None), ("nuc", None))
      for keep in (False, True)),
    *(row("norm", B, oracle=jnp.linalg.norm, ord=order, axis=axis)
      for order, axis in ((None, 1), (2, 0), (1, -1), (3, 1), (0, 1), (np.inf, 1), (-np.inf, 1),
                          (None, (0, 2)), ("fro", (1, 2)), (1, (0, 1)), (np.inf, (-2, -1)))),
    row("norm", B, oracle=jnp.linalg.norm), row("norm", V[0], 3, oracle=jnp.linalg.norm),
    row("norm", INTS, oracle=jnp.linalg.norm),
    row("solve", M, B, oracle=jnp.linalg.solve, grad=(0, 1), unknown=(0, 1)),
    row("solve", M, V, oracle=lambda a, b: jnp.linalg.solve(a, b[..., None])[..., 0]),
    row("solve", M[0], V[0], oracle=jnp.linalg.solve),
    *(row("solve_triangular", M, b, lower=lower, grad=(0, 1),
          oracle=lambda a, b, lower: jnp.linalg.solve(
              jnp.tril(a) if lower else jnp.triu(a), b if b.ndim == 3 else b[..., None]
          ).reshape(b.shape)) for b in (B, V) for lower in (False, True)),
    row("lstsq", TALL, rng.normal(size=(4, 2)).astype("float32"), grad=(0, 1),
        oracle=lambda a, b: jnp.linalg.pinv(a) @ b),
    row("lstsq", TALL, TALL[:, 0], oracle=lambda a, b: jnp.linalg.lstsq(a, b)[0], atol=1e-5),
    row("svd", M, compute_uv=False, oracle=jnp.linalg.svd, grad=0),
    row("svd", TALL, compute_uv=False, oracle=jnp.linalg.svd),
]  # fmt: skip
ALL = by_op(ROWS)


@pytest.mark.parametrize("cases", ALL)
def test_value(cases, backend):
    check(assert_value, cases, backend)


@pytest.mark.parametrize("cases", by_op([c for c in ROWS if c.grad is not None]))
def test_gradient(cases, backend):
    if backend in TRAINABLE:
        check(assert_gradient, cases, backend, ".grad")


@pytest.mark.parametrize("cases", ALL)
def test_symbolic(cases, backend):
    check(assert_symbolic, cases, backend, ".symbolic")


@pytest.mark.parametrize("cases", ALL)
def test_graph_with_unknown_sizes(cases, backend):
    if backend == "tensorflow":
        check(assert_graph, cases, backend, ".graph")


def numpy_of(structure):
    return [keraslite.backend.to_numpy(x) for x in structure]


@pytest.mark.parametrize("x", [M, TALL], ids=["square", "tall"])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr_multiplies_back(backend, x, mode):
    q, r = numpy_of(ops.qr(keraslite.to_backend(x, backend), mode))
    want = np.linalg.qr(x, mode)
    assert (q.shape, r.shape) == (want[0].shape, want[1].shape)
    np.testing.assert_allclose(q @ r, x, atol=1e-5)
    np.testing.assert_allclose(np.tril(r, -1), 0, atol=1e-5)
    np.testing.assert_allclose(q.swapaxes(-1, -2) @ q, np.broadcast_to(
        np.eye(q.shape[-1]), (*q.shape[:-2], q.shape[-1], q.shape[-1])), atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("full", [False, True])
def test_svd_multiplies_back(backend, full):
    u, s, v = numpy_of(ops.svd(keraslite.to_backend(TALL, backend), full))
    want = np.linalg.svd(TALL, full)
    assert [u.shape, s.shape, v.shape] == [x.shape for x in want]
    np.testing.assert_allclose((u[:, :3] * s) @ v, TALL, atol=1e-5)


def test_eigenvectors_multiply_back(backend):
    values, vectors = numpy_of(ops.eigh(keraslite.to_backend(SPD, backend)))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(SPD), rtol=1e-4)
    np.testing.assert_allclose(SPD @ vectors, vectors * values[..., None, :], atol=1e-3)
    values, vectors = numpy_of(ops.eig(keraslite.to_backend(M, backend)))
    assert values.dtype == vectors.dtype == np.complex64
    np.testing.assert_allclose(M @ vectors, vectors * values[..., None, :], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "args"),
    [("solve", (M, B[:, :2])), ("inv", (TALL,)), ("norm", (B, "fro")), ("qr", (M, "full"))],
)
def test_bad_input_is_a_value_error_with_the_name(backend, name, args):
    args = [keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x for x in args]
    with pytest.raises(ValueError, match=f"ops.{name}"):
        getattr(ops, name)(*args)
