"""Symbolic tensors: unknown sizes, control flow, and calls that would read a value."""

import copy
import pickle

import keras as installed_keras
import numpy as np
import pytest
from symbolic_cases import LAYERS, OPS, Sym

import keraslite as keras
from keraslite import KerasTensor, layers, ops, tree

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "float32")


def each(rows):
    return pytest.mark.parametrize("row", rows, ids=[row.id for row in rows])


def symbols(structure, cls):
    return tree.map_structure(
        lambda x: cls(x.shape, x.dtype) if isinstance(x, Sym) else x, structure
    )


def of_op(library, cls, row):
    function = library
    for part in row.name.split("."):
        function = getattr(function, part)
    return function(*symbols(row.args, cls), **symbols(row.kwargs, cls))


def of_layer(library, cls, row):
    return getattr(library, row.name)(**row.kwargs)(*symbols(row.args, cls))


def assert_known_as_in_keras(ours, theirs):
    """Raise unless a size is known where Keras knows it, and then the same; dtypes are equal."""
    ours, theirs = tree.flatten(ours), installed_keras.tree.flatten(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert isinstance(a, KerasTensor)
        assert len(a.shape) == len(b.shape), f"{a.shape}, in Keras {b.shape}"
        assert all(q in (None, p) for p, q in zip(a.shape, b.shape, strict=True)), (
            f"{a.shape}, in Keras {b.shape}"
        )


def compare(of, row, ours, theirs):
    try:
        expected = of(theirs, installed_keras.KerasTensor, row)
    except ValueError:
        with pytest.raises(ValueError, match="not known"):
            of(ours, KerasTensor, row)
        return
    assert_known_as_in_keras(of(ours, KerasTensor, row), expected)


@each(OPS)
def test_ops_know_the_sizes_that_keras_knows(row, backend):
    compare(of_op, row, ops, installed_keras.ops)


@each(LAYERS)
def test_layers_know_the_sizes_that_keras_knows(row, backend):
    compare(of_layer, row, layers, installed_keras.layers)


def shape(x):
    return tree.map_structure(lambda t: t.shape, x)


def test_more_is_known_than_in_keras(backend):
    assert ops.stack([KerasTensor((None, 3)), KerasTensor((2, None))]).shape == (2, 2, 3)
    assert ops.corrcoef(KerasTensor((3, None))).shape == (3, 3)


def test_the_smaller_of_an_unknown_size_and_a_known_one_is_unknown(backend):
    assert KerasTensor((None, None))[:5].shape == (None, None)
    assert KerasTensor((None, None))[300:].shape == (None, None)
    assert layers.Lambda(lambda x: x[:, :5])(layers.Input((None, 4))).shape == (None, None, 4)
    q, r = ops.qr(KerasTensor((None, None, 3)))
    assert (q.shape, r.shape) == ((None, None, None), (None, None, 3))


def test_sizes_of_two_inputs_may_be_equal_or_not(backend):
    a, b = layers.Input((None, 4)), layers.Input((None, 4))
    assert layers.Add()([a, b]).shape == (None, None, 4)
    assert ops.matmul(a, ops.transpose(b, (0, 2, 1))).shape == (None, None, None)
    assert ops.conv(a, KerasTensor((None, 4, 5))).shape == (None, None, 5)


def test_an_unknown_size_keeps_its_identity(backend):
    x = layers.Input((None, 4))
    y = layers.Dense(3)(x)
    assert [d is e for d, e in zip(x.dims, y.dims, strict=True)] == [True, True, False]
    assert ops.transpose(y).dims[1:] == (x.dims[1], x.dims[0])
    assert ops.repeat(x, 2, axis=1).dims[1] not in x.dims
    again = pickle.loads(pickle.dumps(x.dims[0]))
    assert again is x.dims[0] is copy.deepcopy(x.dims[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.add(KerasTensor((None, 3)), KerasTensor((None, 4))),
        lambda: ops.matmul(KerasTensor((None, 3)), KerasTensor((4, None))),
        lambda: ops.concatenate([KerasTensor((None, 3, 4)), KerasTensor((None, 3, 5))], axis=1),
        lambda: layers.Reshape((3, 5))(layers.Input((4, None, 2))),
        lambda: ops.reshape(KerasTensor((None, None)), (3, 0)),
    ],
)
def test_errors_name_no_size_that_nobody_gave(call, backend):
    with pytest.raises(ValueError, match="None") as caught:
        call()
    assert not any(size in str(caught.value) for size in ("120", "60", "24", "12,"))


def test_a_fixed_batch_size_can_be_trained(trains):
    x = layers.Input(batch_shape=(2, 4))
    model = keras.Model(x, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 1)), verbose=0)
    two = [layers.Input(batch_shape=(2, 4)), layers.Input(batch_shape=(2, 4))]
    model = keras.Model(two, layers.Dense(1)(layers.Add()(two)))
    model.compile("sgd", "mse")
    model.fit([np.ones((2, 4))] * 2, np.ones((2, 1)), verbose=0)
    assert model.predict([np.ones((2, 4))] * 2, verbose=0).shape == (2, 1)
    assert model([layers.Input((4,))] * 2).shape == (2, 1)


def test_convolutions_are_not_computed_for_their_shapes(backend):
    """Here their outputs would take a hundred gigabytes."""
    x = KerasTensor((None, 4096, 4096, 64))
    for padding, size in (("same", 2048), ("valid", 2047)):
        layer = layers.Conv2D(64, 3, 2, padding, groups=2, use_bias=False)
        assert layer(x).shape == (None, size, size, 64)


def test_bad_shapes_of_symbolic_tensors_are_refused():
    for bad in ((2, -1), (2.0,), (True,), ("a",)):
        with pytest.raises(ValueError, match="ints of at least 0"):
            KerasTensor(bad)
    with pytest.raises(ValueError, match="sparse and ragged"):
        KerasTensor((2,), sparse=True, ragged=True)
    assert KerasTensor((2, 3), sparse=True).sparse
    assert not KerasTensor((2, 3)).sparse


def test_weights_need_known_sizes(backend):
    for layer, x in (
        (layers.Dense(4), layers.Input((None,))),
        (layers.Conv2D(4, 3), layers.Input((8, 8, None))),
        (layers.LayerNormalization(), layers.Input((None,))),
    ):
        with pytest.raises(ValueError, match="must be known"):
            layer(x)


# -- control flow ---------------------------------------------------------------------------------


def add(a, b):
    return tree.map_structure(ops.add, a, b)


CONTROL_FLOW = {
    "cond": lambda x: ops.cond(ops.sum(x) > 100, lambda: x + 1, lambda: x * 2),
    "cond of the tensor itself": lambda x: ops.cond(ops.sum(x) > 1, lambda: (x, -x), lambda: (-x, x)),
    "switch": lambda x: ops.switch(
        ops.cast(ops.min(x), "int32"), [lambda a: {"a": a + 1}, lambda a: {"a": a * 2}], x
    ),
    "while_loop": lambda x: ops.while_loop(
        lambda k, v: k < 3, lambda k, v: (k + 1, {"v": v["v"] + x}), (0, {"v": x})
    )[1],
    "while_loop of one": lambda x: ops.while_loop(lambda v: ops.max(v) < 50, lambda v: v * 2, x),
    "fori_loop": lambda x: ops.fori_loop(0, 3, lambda k, v: v + x, x),
    "fori_loop of tensors": lambda x: ops.fori_loop(
        0, ops.cast(ops.max(x), "int32"), lambda k, v: v + 1, x
    ),
    "scan": lambda x: ops.scan(
        lambda c, r: (c + r * ops.max(x), {"a": c, "b": (r,)}), ops.zeros((3,)), x
    ),
    "scan backwards": lambda x: ops.scan(lambda c, r: (c + r, c), ops.ones((3,)), x, reverse=True),
    "scan without outputs": lambda x: ops.scan(lambda c, r: (c + r, None), ops.zeros((3,)), x)[0],
    "scan without inputs": lambda x: ops.scan(lambda c, _: (c * 2, c), x, length=3),
    "map": lambda x: ops.map(lambda r: {"r": r + ops.sum(x)}, x),
    "vectorized_map": lambda x: ops.vectorized_map(lambda r: (r + 1, ops.sum(r)), x),
    "vectorized_map of two": lambda x: ops.vectorized_map(lambda r: r[0] - r[1] + x[0], (x, x * 2)),
    "associative_scan": lambda x: ops.associative_scan(add, {"a": x, "b": [x * 2]}, axis=1),
    "associative_scan over the batch": lambda x: ops.associative_scan(add, x, reverse=True),
    "nested": lambda x: ops.cond(
        ops.sum(x) > 1,
        lambda: ops.scan(lambda c, r: (c, ops.fori_loop(0, 2, lambda k, v: v + x[0], r)), 0.0, x)[1],
        lambda: x,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROL_FLOW)
def test_control_flow_in_a_functional_model(name, backend):
    function = CONTROL_FLOW[name]
    expected = tree.map_structure(ops.convert_to_numpy, function(ops.convert_to_tensor(X)))
    x = layers.Input((3,))
    outputs = function(x)
    model = keras.Model(x, outputs)
    for values in (model(X), model.predict(X, verbose=0), copy.deepcopy(model)(X)):
        tree.map_structure(
            lambda a, b: np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-6),
            tree.flatten(values), tree.flatten(expected),
        )  # fmt: skip
    for symbol, value in zip(tree.flatten(outputs), tree.flatten(expected), strict=True):
        sizes = zip(symbol.shape, value.shape, strict=True)
        assert all(a in (b, None) for a, b in sizes)
        assert symbol.dtype == value.dtype.name


def test_control_flow_knows_the_sizes_that_keras_knows(backend):
    theirs, symbol = installed_keras.ops, installed_keras.KerasTensor
    for of, cls in ((ops, KerasTensor), (theirs, symbol)):
        out = [
            of.scan(lambda c, x: (c + x, c), cls(()), cls((5,))),
            of.scan(lambda c, x: (c + x, c), cls((None,)), cls((5, None))),
            of.cond(cls((), "bool"), lambda of=of: of.ones((2,)), lambda of=of: of.zeros((2,))),
            of.while_loop(lambda x: x < 3, lambda x: x + 1, cls((None,))),
            of.fori_loop(0, 3, lambda i, x: x + 1, cls((None, 3))),
            of.associative_scan(lambda a, b: a + b, cls((5, None))),
            of.vectorized_map(lambda x: x + 1, cls((5, None))),
            of.map(lambda x: x + 1, cls((5, 2))),
            of.switch(cls((), "int32"), [lambda x: x, lambda x: x * 2], cls((None, 2))),
        ]
        if of is ops:
            ours = out
    assert_known_as_in_keras(ours, out)


class Branching(layers.Layer):
    """A layer whose call has every kind of control flow."""

    def call(self, x):
        y = ops.cond(ops.any(x > 3), lambda: x + 1, lambda: x - 1)
        y = ops.while_loop(lambda v: ops.max(v) < 100, lambda v: v * 2, y)
        c, _ = ops.scan(lambda c, r: (c + r, c), ops.zeros((3,)), y)
        y = ops.switch(ops.cast(ops.min(x), "int32"), [lambda v: v, lambda v: v + c], y)
        return ops.map(lambda r: r * 2, ops.fori_loop(0, 2, lambda k, v: v + 1.0, y))


def test_control_flow_inside_layers(backend):
    x = layers.Input((3,))
    layer = Branching()
    model = keras.Model(x, layer(x))
    assert model.output.shape == (None, 3)
    np.testing.assert_allclose(model.predict(X, verbose=0), ops.convert_to_numpy(layer(X)))


def test_a_model_with_control_flow_is_trained(trains):
    x = layers.Input((3,))
    dense = layers.Dense(3)
    hidden = dense(x)
    out = ops.cond(ops.sum(hidden) > 0, lambda: dense(hidden), lambda: hidden * 2)
    out = ops.scan(lambda c, r: (c, r + c), ops.zeros((3,)), out)[1]
    model = keras.Model(x, out)
    model.compile("sgd", "mse")
    before = model.evaluate(X, X, verbose=0)
    model.fit(X, X, epochs=3, verbose=0)
    assert model.evaluate(X, X, verbose=0) < before


def test_branches_and_steps_of_other_shapes_are_refused(backend):
    x = KerasTensor((3,))
    with pytest.raises(ValueError, match="true_fn and false_fn must have the same"):
        ops.cond(KerasTensor((), "bool"), lambda: x, lambda: x[:2])
    with pytest.raises(ValueError, match="results of the branches must have the same"):
        ops.switch(KerasTensor((), "int32"), [lambda: x, lambda: ops.cast(x, "int32")])
    with pytest.raises(ValueError, match="loop_vars and what the body makes of them"):
        ops.while_loop(lambda v: ops.sum(v) < 3, lambda v: ops.concatenate([v, v]), x)
    with pytest.raises(ValueError, match="init_val and what body_fun makes of it"):
        ops.fori_loop(0, 3, lambda i, v: v[:2], x)
    with pytest.raises(ValueError, match="init and the carry"):
        ops.scan(lambda c, r: (c[:2], r), x, KerasTensor((5,)))


# -- calls that would read a value ----------------------------------------------------------------


def test_layers_draw_random_numbers_symbolically(backend):
    for layer in (layers.Dropout(0.5), layers.GaussianNoise(0.5), layers.SpatialDropout1D(0.5)):
        x = layers.Input((4, 3))
        assert layer(x, training=True).shape == (None, 4, 3)


def test_slices_take_tensor_starts_and_remainders(backend):
    x = ops.convert_to_tensor(np.arange(25.0).reshape(5, 5))
    tail = ops.convert_to_numpy(ops.slice(x, (1, 2), (-1, -1)))
    np.testing.assert_array_equal(tail, np.arange(25.0).reshape(5, 5)[1:, 2:])
    starts = layers.Input(batch_shape=(2,), dtype="int32")
    whole = layers.Input(batch_shape=(5, 5))
    model = keras.Model([whole, starts], ops.slice(whole, starts, (2, 3)))
    assert model.output.shape == (2, 3)
    part = ops.convert_to_numpy(model([x, np.array([3, 1], "int32")]))
    np.testing.assert_array_equal(part, np.arange(25.0).reshape(5, 5)[3:5, 1:4])
    parts = ops.slice(whole, [starts[0], 1], (2, 3))
    assert parts.shape == (2, 3)


def test_sizes_that_depend_on_values_are_unknown(backend):
    x, mask = layers.Input((3,)), layers.Input((), dtype="bool")
    counts, n = KerasTensor((3,), "int32"), layers.Input(batch_shape=(), dtype="int32")
    assert ops.repeat(x, counts, axis=1).shape == (None, None)
    assert ops.repeat(x, counts).shape == (None,)
    assert x[n].shape == (3,)
    model = keras.Model([x, mask, n], [x[mask], ops.arange(n)])
    assert shape(model.outputs) == [(None, 3), (None,)]
    assert model.outputs[1].dtype == "int32"
    rows, numbers = model([X, np.array([False, True]), ops.convert_to_tensor(4)])
    np.testing.assert_array_equal(ops.convert_to_numpy(rows), X[1:])
    np.testing.assert_array_equal(ops.convert_to_numpy(numbers), np.arange(4))


def test_unstack_by_number(backend):
    assert shape(ops.unstack(KerasTensor((None, 3)), num=2)) == [(3,), (3,)]
    with pytest.raises(ValueError, match="num"):
        ops.unstack(KerasTensor((4, 3)), num=2)
    with pytest.raises(ValueError, match="num"):
        ops.unstack(ops.ones((4, 3)), num=2)


def test_creation_takes_symbolic_values(backend):
    x = layers.Input(())
    model = keras.Model(x, ops.full((2, 3), ops.max(x)))
    assert model.output.shape == (2, 3)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(np.array([1.0, 4.0]))), np.full((2, 3), 4.0)
    )


def test_layers_refuse_axes_that_their_inputs_have_not(backend):
    for layer in (layers.Softmax(axis=3), layers.Softmax(axis=-3)):
        with pytest.raises(ValueError, match="softmax"):
            layer(layers.Input((4,)))


def test_bad_segments_and_counts_are_refused_without_values():
    with pytest.raises(ValueError, match="must be a vector"):
        ops.segment_sum(KerasTensor((2, 3)), KerasTensor((2, 3), "int32"))
    with pytest.raises(TypeError, match="must be integers"):
        ops.bincount(KerasTensor((3,)))


# -- operations of one's own ----------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_symbolic")
class Scale(keras.Operation):
    def __init__(self, factor, name=None):
        super().__init__(name=name)
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Spread(keras.Operation):
    def call(self, x):
        return x, ops.ones(3)

    def compute_output_spec(self, x):
        return x + 0, KerasTensor((3,))


def test_operations_are_called_with_tensors_and_symbols(backend):
    np.testing.assert_array_equal(ops.convert_to_numpy(Scale(3.0)(ops.convert_to_tensor(X))), X * 3)
    x = layers.Input((3,))
    model = keras.Model(x, Spread()(Scale(2.0)(x)))
    assert shape(model.outputs) == [(None, 3), (3,)]
    out = tree.map_structure(ops.convert_to_numpy, tree.flatten(model(X)))
    np.testing.assert_array_equal(out[0], X * 2)
    np.testing.assert_array_equal(out[1], np.ones(3))


def test_operations_are_saved(backend):
    x = layers.Input((3,))
    model = keras.Model(x, Scale(2.0, name="twice")(x))
    again = keras.models.clone_model(model)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(X)), X * 2)
    assert Scale.from_config(Scale(4.0, name="four").get_config()).name == "four"


def test_layers_are_operations(backend):
    assert isinstance(layers.Dense(2), keras.Operation)
    assert keras.Operation().name.startswith("operation")
    with pytest.raises(ValueError, match="without a slash"):
        Scale(1.0, name="a/b")
    with pytest.raises(NotImplementedError, match=r"call\(\)"):
        keras.Operation()(X)


class Halved(layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask)[:, ::2]


@pytest.mark.parametrize(("make", "dtypes"), [
    (layers.BatchNormalization, ("float32", "int32")),
    (Halved, ("float32",)),
    (lambda **kwargs: layers.Activation("relu", **kwargs), ("float32", "int32")),
    (lambda **kwargs: layers.Activation(keras.activations.glu, **kwargs), ("float32",)),
])  # fmt: skip
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_layers_that_keep_shapes(make, dtypes, policy, backend):
    """Symbolic outputs have the shape and dtype of real ones, in subclasses with a call too."""
    for dtype in dtypes:
        layer = make(dtype=policy)
        symbol, out = layer(KerasTensor((None, None, 6), dtype)), layer(ops.ones((3, 4, 6), dtype))
        assert (symbol.shape[0], symbol.shape[-1]) == (None, out.shape[-1])
        assert symbol.dtype == ops.dtype(out)


def test_large_results_are_not_computed_for_their_shapes(backend):
    """numpy has no abstract values: 10 GB would be written here."""
    x = KerasTensor((None, None, None, 2**14))
    for out in (x + 1.0, ops.exp(x), x * ops.ones((2**14,)), layers.Add()([x, x])):
        assert (out.shape, out.dtype) == ((None, None, None, 2**14), "float32")
    assert (x > 0).dtype == "bool"
