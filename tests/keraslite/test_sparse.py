"""Sparse tensors of the frameworks: what ops make of them, against the same ops on dense ones."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import ops

SPARSE = ("jax", "torch", "tensorflow")
X = np.float32([[0, 2, 0], [1, 0, 0], [0, 0, -3], [0.5, 0, 0]])
W = np.float32([[1, 2], [3, 4], [5, 6]])
INDICES = np.argwhere(X).astype("int32")


@pytest.fixture(params=SPARSE)
def backend(request):
    with keras.use_backend(request.param):
        yield request.param


@pytest.fixture
def x(backend):
    indices, values = (keras.to_backend(v, backend) for v in (INDICES, X[X != 0]))
    return ops.sparse.make(indices, values, X.shape)


def is_sparse(x):
    return keras.backend.load(keras.backend.of(x)).is_sparse(x)


def numbers(x):
    return ops.convert_to_numpy(x)


def test_there_and_back(x, backend):
    assert is_sparse(x)
    assert ops.is_tensor(x)
    assert (tuple(x.shape), ops.dtype(x)) == (X.shape, "float32")
    np.testing.assert_array_equal(numbers(x), X)
    same = ops.convert_to_tensor(x)
    assert is_sparse(same)
    dense = ops.convert_to_tensor(x, sparse=False)
    assert not is_sparse(dense)
    np.testing.assert_array_equal(numbers(dense), X)
    for other in SPARSE:
        moved = keras.to_backend(x, other)
        assert is_sparse(moved)
        assert keras.backend.of(moved) == other
        np.testing.assert_array_equal(numbers(moved), X)


def test_one_hot(backend):
    for shape, axis in (((4,), -1), ((2, 2), -1), ((2, 2), 1), ((2, 2), 0)):
        ids = keras.to_backend(np.int32([2, 0, 5, -1]).reshape(shape), backend)
        made = ops.one_hot(ids, 3, axis=axis, sparse=True)
        assert is_sparse(made)
        np.testing.assert_array_equal(numbers(made), numbers(ops.one_hot(ids, 3, axis=axis)))
    assert ops.dtype(ops.one_hot(ids, 3, dtype="int32", sparse=True)) == "int32"


FORMS = {
    "absolute": ops.absolute, "sin": ops.sin, "relu": ops.relu, "gelu": ops.gelu,
    "square": ops.square, "expm1": ops.expm1, "leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "times a number": lambda x: ops.multiply(x, 3.0), "number times": lambda x: ops.multiply(3.0, x),
    "times a row": lambda x: ops.multiply(x, W[:, 0]), "over a number": lambda x: ops.divide(x, 2.0),
    "over a column": lambda x: ops.divide(x, W[:2].reshape(4, 1)),
    "transpose": ops.transpose, "reshape": lambda x: ops.reshape(x, (2, -1, 3)),
    "expand_dims": lambda x: ops.expand_dims(x, 1), "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 0), 0),
    "concatenate": lambda x: ops.concatenate([x, x], axis=1), "cast": lambda x: ops.cast(x, "float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_stay_sparse(name, x):
    made = FORMS[name](x)
    expected = FORMS[name](ops.convert_to_tensor(x, sparse=False))
    assert is_sparse(made)
    assert ops.dtype(made) == ops.dtype(expected)
    np.testing.assert_allclose(numbers(made), numbers(expected), rtol=1e-6)


DENSE = {
    "matmul": lambda x: ops.matmul(x, W), "vector": lambda x: ops.matmul(x, W[:, 0]),
    "dot": lambda x: ops.dot(x, W), "from the left": lambda x: ops.matmul(W.T[:, :2].repeat(2, 1), x),
    "add": lambda x: ops.add(x, 1.0), "subtract": lambda x: ops.subtract(W[:2].reshape(4, 1), x),
    "twice": lambda x: ops.add(x, x), "sum": ops.sum, "rows": lambda x: ops.sum(x, axis=1, keepdims=True),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_forms_that_are_dense(name, x):
    made = DENSE[name](x)
    expected = DENSE[name](ops.convert_to_tensor(x, sparse=False))
    np.testing.assert_allclose(numbers(made), numbers(expected), rtol=1e-6)


def test_gradients_and_compilation(x, backend):
    w = keras.to_backend(W, backend)

    def loss(w):
        return ops.sum(ops.square(ops.matmul(x, w)))

    slope = numbers(ops.grad(loss)(w))
    np.testing.assert_allclose(slope, 2 * X.T @ X @ W, rtol=1e-5)
    product = ops.jit(lambda x, w: ops.relu(ops.matmul(x, w)))
    np.testing.assert_allclose(numbers(product(x, w)), np.maximum(X @ W, 0), rtol=1e-6)


def test_an_embedding_looks_up_the_zeros_too(backend):
    ids = np.int32([[0, 2, 0], [1, 0, 0]])
    where = keras.to_backend(np.argwhere(ids).astype("int32"), backend)
    sparse = ops.sparse.make(where, keras.to_backend(ids[ids != 0], backend), ids.shape)
    layer = keras.layers.Embedding(3, 2)
    np.testing.assert_array_equal(numbers(layer(sparse)), numbers(layer(ids)))


def test_a_model_with_a_sparse_input(x, backend):
    inputs = keras.Input((3,), sparse=True)
    assert inputs.sparse
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    expected = numbers(model(ops.convert_to_tensor(x, sparse=False)))
    np.testing.assert_allclose(numbers(model(x)), expected, rtol=1e-5, atol=1e-6)


def test_a_dense_layer(x, backend):
    for activation in (None, "relu"):
        layer = keras.layers.Dense(2, activation=activation)
        layer.build((None, 3))
        expected = numbers(layer(ops.convert_to_tensor(x, sparse=False)))
        np.testing.assert_allclose(numbers(layer(x)), expected, rtol=1e-5, atol=1e-6)


def test_extrema_products_and_einsum_take_sparse_tensors_on_either_side(x):
    other = np.float32([[1, -1, 0], [2, 0, 1], [0, 1, -5], [0, 0, 0]])
    for name in ("maximum", "minimum", "multiply"):
        op, want = getattr(ops, name), getattr(np, name)
        np.testing.assert_array_equal(numbers(op(x, other)), want(X, other))
        np.testing.assert_array_equal(numbers(op(other, x)), want(other, X))
        np.testing.assert_array_equal(numbers(op(x, x)), want(X, X))
        np.testing.assert_array_equal(numbers(op(x, 2.0)), want(X, np.float32(2)))
    np.testing.assert_allclose(numbers(ops.einsum("ab,bc->ac", x, W)), X @ W)
    np.testing.assert_allclose(numbers(ops.einsum("ab,cb->ac", x, x)), X @ X.T)


@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "divide", "power", "mod", "floor_divide", "maximum",
             "minimum"],
)  # fmt: skip
def test_ragged_tensors_of_tensorflow_in_arithmetic(name):
    tf = pytest.importorskip("tensorflow")
    x = tf.ragged.constant([[1.0, 2.0], [3.0]])
    op, want = getattr(ops, name), getattr(np, name)
    for other, flat in ((x, x.flat_values.numpy()), (2.0, np.float32(2))):
        got = op(x, other)
        assert got.row_lengths().numpy().tolist() == [2, 1]
        np.testing.assert_allclose(got.flat_values.numpy(), want(x.flat_values.numpy(), flat))


def test_ragged_rows_of_tensorflow_in_products():
    tf = pytest.importorskip("tensorflow")
    x = tf.ragged.constant([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], ragged_rank=1)
    w = np.arange(6, dtype="float32").reshape(2, 3)
    got = ops.einsum("bij,jk->bik", x, w)
    assert got.row_lengths().numpy().tolist() == [2, 1]
    np.testing.assert_allclose(got.flat_values.numpy(), x.flat_values.numpy() @ w)
    norms = ops.einsum("bij,bij->bi", x, x)
    np.testing.assert_allclose(norms.flat_values.numpy(), [5, 25, 61])
    for subscripts, other in (("bij,jk->bk", w), ("...ij,jk->...ik", w), ("bij,bkj->bik", x)):
        with pytest.raises(ValueError, match=r"must keep their rows.*to_tensor"):
            ops.einsum(subscripts, x, other)
    apart = tf.ragged.constant([[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]], ragged_rank=1)
    with pytest.raises(ValueError, match="rows differ in length"):
        ops.einsum("bij,bij->bij", x, apart)


@pytest.mark.parametrize("name", ["exp", "cos", "sort", "argmax", "cumsum", "flip", "log_softmax"])
def test_no_form_is_said_so(name, x):
    with pytest.raises(TypeError, match=rf"ops\.{name} has no form for sparse.*sparse=False"):
        getattr(ops, name)(x)


def test_bad_shapes(x):
    with pytest.raises(ValueError, match=r"ops\.matmul: shapes \(4, 3\) and \(4, 3\) do not fit"):
        ops.matmul(x, X)
    with pytest.raises(ValueError, match=r"ops\.reshape: \(4, 3\) cannot become"):
        ops.reshape(x, (5, 2))


def test_numpy_has_none():
    with keras.use_backend("numpy"), pytest.raises(ValueError, match="has no sparse tensors"):
        ops.one_hot(np.int32([0, 1]), 2, sparse=True)
    with keras.use_backend("torch"):
        made = ops.one_hot(np.int32([0, 1]), 2, sparse=True)
    with pytest.raises(ValueError, match="numpy backend has no sparse tensors"):
        keras.to_backend(made, "numpy")
