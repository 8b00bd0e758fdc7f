"""Edges that no table of cases holds: views, indices out of range, sizes, masked rows."""

import numpy as np
import pytest
from ops_tables.arrays import BINARY, UNARY
from ops_tables.edges import EMPTY, INF, PRODUCTS, REDUCTIONS, A, C, f32, rng

import keraslite
from keraslite import ops

VIEWS = {
    "turned": lambda f, x: f.transpose(x), "every second": lambda f, x: x[:, ::2],
    "a part": lambda f, x: x[1:, 1:],
}  # fmt: skip
WIDE = rng.uniform(0.2, 0.9, (4, 6)).astype("float32")


@pytest.mark.parametrize("view", VIEWS)
def test_non_contiguous(view, backend):
    """Views of a tensor give what copies give; only torch and numpy have such tensors."""
    seen = VIEWS[view](ops, keraslite.to_backend(WIDE, backend))
    plain = keraslite.to_backend(np.ascontiguousarray(VIEWS[view](np, WIDE)), backend)
    names = [*UNARY, *REDUCTIONS, "softmax", "relu", "gelu", "cumsum", "sort", "argsort", "ravel", "flip",
             "logsumexp", "median", "log_softmax", "tril", "diff"]  # fmt: skip
    for name in names:
        with np.errstate(invalid="ignore"):
            got, want = (keraslite.backend.to_numpy(getattr(ops, name)(x)) for x in (seen, plain))
        np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=name, equal_nan=True)
    for name, (a, _) in BINARY.items():
        if a.shape == (2, 3) and name not in PRODUCTS:
            got, want = (
                keraslite.backend.to_numpy(getattr(ops, name)(x, x)) for x in (seen, plain)
            )
            np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=name)


def test_out_of_range(backend):
    """An error in eager; -1 counts from the end."""
    x = keraslite.to_backend(A, backend)
    for index in (3, -4):
        with pytest.raises(ValueError, match=r"ops\.take\("):
            ops.take(x, np.int32([0, index]), axis=1)
    one_hot = keraslite.backend.to_numpy(ops.one_hot(np.int32([0, 3, -1]), 3))
    np.testing.assert_array_equal(one_hot, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_sizes(backend):
    for x in (C, EMPTY, f32(1).reshape(())):
        given = keraslite.to_backend(x, backend)
        assert (int(ops.size(given)), ops.ndim(given), ops.shape(given)) == (
            x.size,
            x.ndim,
            x.shape,
        )


def test_sizes_that_depend_on_values_are_unknown(backend):
    x = keraslite.KerasTensor((None, 3), "int32")
    for found in (ops.nonzero(x), ops.where(x)):
        assert [(i.shape, i.dtype) for i in found] == [((None,), "int32")] * 2
    assert ops.bincount(x).shape == (None, None)
    assert ops.where(x, x, 0.5).shape == (None, 3)


def test_a_masked_row_of_softmax(backend):
    x = keraslite.to_backend(f32([-1e9, -1e9], [-INF, 0.0]), backend)
    out = keraslite.backend.to_numpy(ops.softmax(x))
    np.testing.assert_allclose(out, [[0.5, 0.5], [0.0, 1.0]])
