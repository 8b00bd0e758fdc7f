"""Every op of ops/linalg.py on every backend, against jnp; factorizations by their products."""

import numpy as np
import pytest
from ops_tables.linalg import SPD, TALL, B, M

import keraslite
from keraslite import ops


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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [
    "cholesky", "cholesky_inverse", "det", "eigh", "inv", "logdet", "lu_factor", "matrix_rank",
    "pinv", "qr", "slogdet", "svd",
])  # fmt: skip
def test_half_precision_is_computed_in_float32(name, dtype, backend):
    """The float32 results, which are compared with jnp's elsewhere, rounded to the input's dtype."""
    x = ops.cast(keraslite.to_backend(SPD, backend), dtype)
    call = getattr(ops, name, None) or getattr(ops.linalg, name)
    got, want = (result if isinstance(result, tuple) else (result,)
                 for result in (call(x), call(ops.cast(x, "float32"))))  # fmt: skip
    for half, wide in zip(got, want, strict=True):
        is_float = ops.dtype(wide) == "float32"
        assert ops.dtype(half) == (dtype if is_float else ops.dtype(wide))
        rounded = ops.cast(wide, dtype) if is_float else wide
        np.testing.assert_array_equal(*numpy_of([half, rounded]))


@pytest.mark.parametrize("name", ["solve", "solve_triangular", "lstsq"])
def test_half_precision_is_solved_in_float32(name, backend):
    a, b = (ops.cast(keraslite.to_backend(x, backend), "float16") for x in (SPD, SPD))
    got = getattr(ops, name)(a, b)
    assert ops.dtype(got) == "float16"
    wide = [ops.cast(x, "float32") for x in (a, b)]
    np.testing.assert_array_equal(*numpy_of([got, ops.cast(getattr(ops, name)(*wide), "float16")]))
