"""Edges that no table of cases holds: views, indices out of range, sizes, masked rows."""

import numpy as np
import pytest
from ops_tables.arrays import BINARY, UNARY
from ops_tables.edges import EMPTY, INF, PRODUCTS, REDUCTIONS, A, C, f32, rng

import keraslite
from keraslite import ops
from keraslite.dtypes import to_numpy

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


MIXED = [np.nan, np.inf, 1, -np.inf, np.nan, np.inf]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_nan_is_the_largest(dtype, compiled, backend):
    """In the order of JAX: the first of equal values first, and NaN behind infinity."""
    x = ops.convert_to_tensor(MIXED, dtype=dtype)

    def run(function):
        outputs = (keraslite.jit(function) if compiled else function)(x)
        return [ops.convert_to_numpy(y).tolist() for y in keraslite.tree.flatten(outputs)]

    assert run(ops.argsort) == [[3, 2, 1, 5, 0, 4]]
    np.testing.assert_array_equal(run(ops.sort), [[-np.inf, 1, np.inf, np.inf, np.nan, np.nan]])
    values, indices = run(lambda x: ops.top_k(x, 3))
    np.testing.assert_array_equal(values, [np.nan, np.nan, np.inf])
    assert indices == [0, 4, 1]
    assert np.isnan(run(ops.median)).all()


def test_equal_values_keep_their_order(backend):
    rows = np.array([[4, 4, 2, 4, 0], [1, 2, 3, 4, 5], [0, 3, 3, 3, 3]])
    for dtype in ("int32", "float32", "float64"):
        values, indices = ops.top_k(ops.convert_to_tensor(rows, dtype=dtype), 3)
        assert ops.convert_to_numpy(indices).tolist() == [[0, 1, 3], [4, 3, 2], [1, 2, 3]]
        assert ops.convert_to_numpy(values).tolist() == [[4, 4, 4], [5, 4, 3], [3, 3, 3]]
    values, indices = ops.top_k(ops.convert_to_tensor([False, True, False, True]), 3)
    assert ops.convert_to_numpy(values).tolist() == [True, True, False]
    assert ops.convert_to_numpy(indices).tolist() == [1, 3, 0]


def test_gradients_flow_through_sorted_values(trains):
    x = ops.convert_to_tensor([[3.0, 1.0, 2.0], [5.0, 6.0, 4.0]])
    weights = ops.convert_to_tensor([[1.0, 10.0, 100.0]])
    by_sort = keraslite.grad(lambda x: ops.sum(ops.sort(x) * weights))(x)
    assert ops.convert_to_numpy(by_sort).tolist() == [[100, 1, 10], [10, 100, 1]]
    by_columns = keraslite.grad(lambda x: ops.sum(ops.sort(x, axis=0)[0]))(x)
    assert ops.convert_to_numpy(by_columns).tolist() == [[1, 1, 1], [0, 0, 0]]
    largest = keraslite.grad(lambda x: ops.sum(ops.top_k(x, 2)[0] * weights[:, :2]))(x)
    assert ops.convert_to_numpy(largest).tolist() == [[1, 0, 10], [10, 1, 0]]


def test_rows_of_no_segment_are_dropped(backend):
    data, ids = np.array([1.0, 2, 3, 4], "float32"), np.array([0, -1, 1, 5])
    expected = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf}
    for name, empty in expected.items():
        out = getattr(ops, f"segment_{name}")(data, ids, num_segments=3)
        assert ops.convert_to_numpy(out).tolist() == [1, 3, empty]


def test_a_value_on_an_edge_counts_in_the_bin_that_begins_there(backend):
    counts, edges = ops.histogram(np.array([0, 2, 4, 8, 10], "float32"), bins=5)
    assert ops.convert_to_numpy(edges).tolist() == [0, 2, 4, 6, 8, 10]
    assert ops.convert_to_numpy(counts).tolist() == [1, 1, 1, 0, 2]


@pytest.mark.parametrize("call", [
    lambda: ops.eye(3.0), lambda: ops.eye(2, 1.5), lambda: ops.tri(3.0), lambda: ops.tri(2, 1.5),
    lambda: ops.identity(3.0),
])  # fmt: skip
def test_sizes_are_integers(call, backend):
    with pytest.raises((TypeError, ValueError), match=r"ops\.(eye|tri|identity)\("):
        call()
    assert ops.shape(ops.eye(np.int64(2))) == (2, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_nextafter_at_the_edges(dtype, backend):
    numbers = np.array([0, -0.0, 1, -1, 1, -1, 1e-7, INF, np.nan, 6.0e4]).astype(to_numpy(dtype))
    toward = np.array([1, -1, 2, -2, 0, 0, 0, 0, 1, INF]).astype(to_numpy(dtype))
    got = ops.nextafter(*(keraslite.to_backend(x, backend) for x in (numbers, toward)))
    got, want = keraslite.backend.to_numpy(got), np.nextafter(numbers, toward)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype("float64"), want.astype("float64"))


def test_dtypes_that_jax_keeps(backend):
    """Grids and activations without fractions have the dtypes of their tensors."""
    integers, floats = (
        keraslite.to_backend(np.array([-3, 2], t), backend) for t in ("int8", "float32")
    )
    assert [ops.dtype(x) for x in ops.meshgrid(integers, floats)] == ["int8", "float32"]
    for got, want in ((ops.hard_tanh(integers), [-1, 1]), (ops.threshold(integers, 1, 0), [0, 2])):
        assert ops.dtype(got) == "int8"
        np.testing.assert_array_equal(keraslite.backend.to_numpy(got), want)
    np.testing.assert_array_equal(
        keraslite.backend.to_numpy(
            ops.bincount(keraslite.to_backend(np.array([True, False, True]), backend))
        ),
        [1, 2],
    )


def test_updates_of_a_wider_dtype_are_cast(backend):
    """Arrays of numpy too, where the framework has no kernel for the dtype."""
    with keraslite.use_backend(backend):
        got = ops.scatter_update(np.zeros(3, "uint16"), [[1]], np.array([5], "uint32"))
    assert ops.dtype(got) == "uint16"
    np.testing.assert_array_equal(keraslite.backend.to_numpy(got), [0, 5, 0])
