"""Graphs of models: what a call says of training and masks holds in every run of the graph."""

import copy
import pickle
import weakref

import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import backend as backends
from keraslite import layers, masking, models, ops, saving

RNG = np.random.default_rng(11)
X = RNG.normal(3.0, 2.0, size=(8, 4)).astype("float32")
Y = RNG.normal(size=(8, 1)).astype("float32")


def numbers(x):
    return keraslite.tree.map_structure(backends.to_numpy, x)


# -- training -------------------------------------------------------------------------------------


@saving.register_keras_serializable("graphs")
class Normalized(layers.Layer):
    """A layer that does not say whether it trains, around one that asks."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(momentum=0.5)

    def call(self, x):
        return self.norm(x)


def norm(**kwargs):
    return layers.BatchNormalization(momentum=0.5, **kwargs)


def functional():
    i = layers.Input((4,))
    return models.Model(i, norm()(layers.Dense(4)(i)))


PARTS = {
    "a layer": norm,
    "a layer around one": Normalized,
    "a functional model": functional,
    "a sequence": lambda: models.Sequential([layers.Input((4,)), norm()]),
    "a sequence without an input": lambda: models.Sequential([norm()]),
}


def over(part, *args, **kwargs):
    i = layers.Input((4,))
    return models.Model(i, layers.Dense(1)(part(i, *args, **kwargs)))


def copies(model, folder):
    saving.save_model(model, folder / "model.keras")
    yield model
    yield models.clone_model(model)
    yield saving.load_model(folder / "model.keras")


def moved(model):
    """Return whether training for a step changes a variable that is not trained."""
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(X, Y, epochs=1, verbose=0)
    after = model.get_weights()
    still = {id(v) for v in model.trainable_variables}
    return any(
        not np.array_equal(b, a)
        for b, a, v in zip(before, after, model.weights, strict=True)
        if id(v) not in still
    )


@pytest.mark.parametrize("name", PARTS)
def test_training_false_in_a_graph_holds_in_fit(trains, name, tmp_path):
    for model in copies(over(PARTS[name](), training=False), tmp_path):
        assert not moved(model)
        assert_close(numbers(model(X, training=True)), numbers(model(X, training=False)))


@pytest.mark.parametrize("name", PARTS)
def test_training_true_in_a_graph_holds_in_predict(trains, name, tmp_path):
    for model in copies(over(PARTS[name](), training=True), tmp_path):
        want = numbers(model(X, training=True))
        assert_close(model.predict(X, verbose=0), want)


@pytest.mark.parametrize("name", PARTS)
def test_a_graph_that_does_not_say_follows_the_run(trains, name, tmp_path):
    for model in copies(over(PARTS[name]()), tmp_path):
        assert moved(model)
        training, inference = (numbers(model(X, training=t)) for t in (True, False))
        assert not np.allclose(training, inference, atol=1e-3)


def test_training_by_position_holds_as_by_name(trains):
    assert not moved(over(norm(), False))


def test_frozen_statistics_inside_a_part_that_trains_stay(trains):
    inner = over(norm(), training=False)
    i = layers.Input((4,))
    assert not moved(models.Model(i, inner(i, training=True)))


# -- masks ----------------------------------------------------------------------------------------

IDS = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])


@saving.register_keras_serializable("graphs")
class Seen(layers.Layer):
    """A layer that notes whether it was given a mask, and zeroes what is masked."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seen = []

    def call(self, x, mask=None):
        self.seen.append(None if mask is None else (tuple(mask.shape), ops.dtype(mask)))
        return x if mask is None else x * ops.cast(ops.expand_dims(mask, -1), "float32")


class Around(layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def through(*parts):
    """Return the outputs of parts over embedded ids, drawn as a graph, and the embedding."""
    i = layers.Input((4,), dtype="int32")
    embedding = layers.Embedding(5, 3, mask_zero=True)
    x = embedding(i)
    for part in parts:
        x = part(x)
    return models.Model(i, x), embedding


MASKED = {
    "at once": lambda seen: [seen],
    "behind layers that pass masks on": lambda seen: [
        layers.Dropout(0.5), layers.Dense(3), seen
    ],
    "inside a layer": lambda seen: [Around(seen)],
    "behind another that has an argument for it": lambda seen: [Seen(), seen],
    "inside a sequence": lambda seen: [models.Sequential([layers.Activation("relu"), seen])],
    "inside a functional model": lambda seen: [inside_a_graph(seen)],
}  # fmt: skip


def inside_a_graph(seen):
    i = layers.Input((4, 3))
    return models.Model(i, seen(layers.Dense(3)(i)))


@pytest.mark.parametrize("name", MASKED)
def test_masks_travel_while_a_graph_is_drawn(backend, name):
    seen = Seen()
    parts = MASKED[name](seen)
    seen.seen.clear()
    model, embedding = through(*parts)
    shape, dtype = seen.seen[-1]  # of an abstract value; a sequence first draws its own graph
    assert len(shape) == 2 and shape[1] == 4 and dtype == "bool"
    seen.seen.clear()
    graph = numbers(model(IDS))
    assert seen.seen == [((2, 4), "bool")]
    x = embedding(IDS)
    for part in parts:
        x = part(x)
    assert_close(graph, numbers(x))
    assert np.all(graph[:, 2:] == 0)


def test_a_symbolic_tensor_has_the_mask_that_its_layer_computes(backend):
    i = layers.Input((4,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True)(i)
    mask = masking.get_mask(layers.Concatenate(axis=1)([x, layers.Dense(3)(x)]))
    assert mask.shape == (None, 8) and mask.dtype == "bool"
    assert masking.get_mask(layers.GlobalAveragePooling1D()(x)) is None


def test_a_mask_that_is_an_input_stays_one(backend):
    x, mask = layers.Input((4, 3)), layers.Input((4,), dtype="bool")
    model = models.Model([x, mask], Seen()(x, mask=mask))
    data = np.ones((2, 4, 3), "float32")
    out = numbers(model([data, IDS > 0]))
    assert_close(out, data * (IDS > 0)[..., None])
    assert_close(numbers(models.clone_model(model)([data, IDS > 0])), out)


# -- inputs and outputs ---------------------------------------------------------------------------


@saving.register_keras_serializable("graphs")
class Join(layers.Layer):
    """The sum of the entries of a dict."""

    def call(self, inputs):
        return inputs["a"] + inputs["b"]


def doubled(shape=(3,), dtype="float32"):
    i = layers.Input(shape, dtype=dtype)
    return models.Model(i, ops.add(i, i))


def test_inputs_and_outputs_by_position_or_name_make_a_model(backend):
    i = layers.Input((3,))
    o = layers.Dense(1)(i)
    made = [models.Model(i, o), models.Model(i, outputs=o), models.Model(inputs=i, outputs=o),
            models.Model(outputs=o, inputs=i, name="net")]  # fmt: skip
    for model in made:
        assert isinstance(model, models.Functional)
        assert_close(numbers(model(np.ones((2, 3)))), numbers(made[0](np.ones((2, 3)))))


def test_a_model_may_begin_in_the_middle_of_a_graph(backend, tmp_path):
    i = layers.Input((3,))
    drop = layers.Dropout(0.5)
    middle = layers.Dense(4)(i)
    end = layers.Dense(2)
    model = models.Model(middle, end(drop(middle, training=False)))
    x = np.ones((2, 4), "float32")
    want = numbers(end(x))
    assert_close(numbers(model(x, training=True)), want)
    assert [type(x).__name__ for x in model.layers] == ["InputLayer", "Dropout", "Dense"]
    assert len(model.weights) == 2 and model.input_shape == (None, 4)
    saving.save_model(model, tmp_path / "model.keras")
    assert_close(numbers(saving.load_model(tmp_path / "model.keras")(x)), want)
    assert models.Model(i, end(drop(middle))).layers[1] is not None  # the first graph is whole


@pytest.mark.parametrize("wanted", ["float32", "float16", "int32"])
@pytest.mark.parametrize("given", ["float64", "float32", "int64"])
def test_inputs_have_the_dtype_of_their_symbol(backend, wanted, given):
    out = doubled(dtype=wanted)(np.ones((2, 3), given))
    assert ops.dtype(out) == wanted
    assert np.all(numbers(out) == 2)


def test_a_mixed_policy_does_not_round_what_the_graph_takes_as_it_is(backend):
    x = np.full((1, 1), 1 + 2**-20, "float32")
    i = layers.Input((1,))
    model = models.Model(i, ops.add(i, 0.0), dtype="mixed_float16")
    assert numbers(model(x)) == x


@pytest.mark.parametrize("sequence", [False, True])
def test_a_last_axis_of_one_more_or_less_is_put_right(backend, sequence):
    def make(shape):
        if sequence:
            return models.Sequential([layers.Input(shape), layers.Activation("linear")])
        return doubled(shape)

    assert tuple(make((3,))(np.ones((2, 3, 1))).shape) == (2, 3)
    assert tuple(make((3, 1))(np.ones((2, 3))).shape) == (2, 3, 1)
    with pytest.raises(ValueError, match=r"shape \(None, 3\), got \(2, 3, 2\)"):
        make((3,))(np.ones((2, 3, 2)))


def test_tuples_stay_tuples_in_copies(backend, tmp_path):
    a, b = layers.Input((3,)), layers.Input((3,))
    model = models.Model((a, b), (layers.Add()([a, b]), {"x": [a, (b,)]}))
    x = np.ones((2, 3), "float32")
    for other in copies(model, tmp_path):
        out = other((x, x))
        assert isinstance(out, tuple) and isinstance(out[1]["x"], list)
        assert isinstance(out[1]["x"][1], tuple) and isinstance(other.input, tuple)
        assert isinstance(other.predict((x, x), verbose=0), tuple)


def test_surplus_keys_are_named_in_a_warning(backend):
    a = layers.Input((3,), name="a")
    x = np.ones((2, 3), "float32")
    model = models.Model({"a": a}, ops.add(a, a))
    with pytest.warns(UserWarning, match=r"ignores the inputs \['b'\]: it takes \['a'\]"):
        assert_close(numbers(model({"a": x, "b": x})), x + x)


def test_a_mask_that_a_model_is_given_reaches_its_layers(backend):
    seen = Seen()
    i = layers.Input((4, 3))
    x, mask = np.ones((2, 4, 3), "float32"), IDS > 0
    assert_close(numbers(models.Model(i, seen(i))(x, mask=mask)), x * mask[..., None])


# -- sequences ------------------------------------------------------------------------------------


def functional_first():
    i = layers.Input((3,))
    return models.Model(i, layers.Dense(4)(i))


def sequence_first():
    inner = models.Sequential([layers.Dense(4)])
    inner.build((None, 3))
    return inner


@pytest.mark.parametrize("make", [functional_first, sequence_first])
def test_a_sequence_is_built_where_its_first_part_has_a_graph(backend, make, tmp_path):
    model = models.Sequential([make(), layers.Dense(2)])
    assert model.built and len(model.weights) == 4
    assert model.input_shape == (None, 3) and model.output_shape == (None, 2)
    x = np.ones((2, 3), "float32")
    want = numbers(model(x))
    for other in copies(model, tmp_path):
        assert len(other.weights) == 4
    assert_close(numbers(other(x)), want)
    model.pop()
    assert model.built and model.output_shape == (None, 4)
    model.pop()
    assert not model.built


def test_a_sequence_is_built_where_its_first_part_takes_a_dict(backend, tmp_path):
    inputs = {name: layers.Input((3,), name=name) for name in ("a", "b")}
    first = models.Model(inputs, Join()(inputs))
    model = models.Sequential([first, layers.Dense(2)])
    assert len(model.weights) == 2 and model.input_shape == {"a": (None, 3), "b": (None, 3)}
    x = {name: np.ones((2, 3), "float32") for name in ("a", "b")}
    want = numbers(model(x))
    *_, loaded = copies(model, tmp_path)
    assert_close(numbers(loaded(x)), want)
    assert_close(model.predict(x, verbose=0), want)


def test_a_sequence_takes_dicts_and_lists(trains, tmp_path):
    x = np.ones((4, 3), "float32")
    cases = [(Join(), {"a": x, "b": x}), (layers.Add(), [x, x]), (layers.Add(), (x, x))]
    for first, data in cases:
        model = models.Sequential([first, layers.Dense(1)])
        want = numbers(model(data))
        assert want.shape == (4, 1)
        model.compile("sgd", "mse")
        assert_close(model.predict(data, verbose=0), want)
        model.fit(data, np.ones((4, 1)), verbose=0)
        saving.save_model(model, tmp_path / "model.keras")
        loaded = saving.load_model(tmp_path / "model.keras")
        assert_close(numbers(loaded(data)), numbers(model(data)))


# -- the parts of a graph -------------------------------------------------------------------------


def test_layers_tell_the_tensors_of_their_first_call(backend):
    i, dense = layers.Input((4,), name="rows"), layers.Dense(3)
    x = dense(i)
    y = layers.Add()([x, x * 2.0])
    model = models.Model(i, dense(layers.Dense(4)(y)))
    assert dense.input is i and dense.output is x
    assert model.get_layer("rows").output is i
    add = next(layer for layer in model.layers if isinstance(layer, layers.Add))
    assert add.output is y and [t.shape for t in add.input] == [(None, 3)] * 2
    assert model.input is i and model.output.shape == (None, 3)
    features = models.Model(model.inputs, [layer.output for layer in model.layers])
    got = numbers(features(X))
    assert_close(got[0], X)
    assert_close(got[1], numbers(dense(X)))


def test_the_inside_of_a_sequence_makes_a_model(backend):
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, name="d"), layers.ReLU()])
    inside = models.Model(model.inputs, model.get_layer("d").output)
    assert_close(numbers(ops.relu(inside(X))), numbers(model(X)))


def test_layers_without_a_symbolic_call_have_neither_input_nor_output(backend):
    class Own(models.Model):
        def call(self, x):
            return x

    dense, own = layers.Dense(3), Own(name="own")
    dense(X)
    assert dense.compute_output_shape((2, 4)) == (2, 3)
    for part, name in ((dense, "input"), (dense, "output"), (own, "output")):
        with pytest.raises(AttributeError, match=f"has no '{name}'"):
            getattr(part, name)
    i = layers.Input((4,))
    assert own(i) is own.output and own.input is i
    with pytest.raises(AttributeError, match="has no 'outputs'"):
        own.outputs


def test_attributes_of_these_names_come_first(backend):
    class Pair(layers.Layer):
        def __init__(self):
            super().__init__()
            self.input, self.output = layers.Dense(3), layers.Dense(2)

        def call(self, x):
            return self.output(self.input(x))

    pair = Pair()
    pair(layers.Input((4,)))
    assert pair(X).shape == (8, 2) and pair.output.units == 2


def test_copies_of_a_graph_tell_their_own_tensors(backend, tmp_path):
    i = layers.Input((4,))
    model = models.Model(i, layers.Dense(2)(layers.Dense(3, name="d")(i)))
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), *copies(model, tmp_path)]
    for other in others:
        dense = other.get_layer("d")
        assert dense.output.node.operation is dense
        assert_close(numbers(models.Model(other.input, dense.output)(X)), numbers(dense(X)))
    alone = copy.deepcopy(model.get_layer("d"))
    assert not hasattr(alone, "output")
    assert_close(numbers(alone(X)), numbers(model.get_layer("d")(X)))


def test_operations_are_layers_and_ops_in_order(backend):
    i, dense = layers.Input((4,), name="rows"), layers.Dense(4, name="d")
    y = ops.relu(dense(dense(i)) + 1.0) + i
    model = models.Model(i, y)
    operations = model.operations
    assert [x.name for x in operations] == ["rows", "d", "add", "relu", "add_1"]
    assert all(isinstance(x, keraslite.Operation) for x in operations)
    assert operations[1] is dense
    assert operations[-1].output is y and operations[-1].input[1] is i
    assert_close(numbers(operations[3](-X)), np.maximum(-X, 0.0))


def test_a_function_is_what_leads_from_tensors_to_tensors(backend):
    i = layers.Input((4,))
    middle = layers.Dense(3, name="d")(i)
    out = {"y": ops.tanh(middle) + 1.0}
    whole, end = keraslite.Function(i, out), keraslite.Function([middle], out, name="end")
    dense = whole.operations[1]
    want = np.tanh(numbers(dense(X))) + 1.0
    assert_close(numbers(whole(X))["y"], want)
    assert_close(numbers(end([dense(X)]))["y"], want)
    assert end.name == "end" and end.inputs == [middle] and end.outputs == [out["y"]]
    assert [x.name for x in end.operations] == ["tanh", "add"]
    assert whole.compute_output_shape((5, 4)) == {"y": (5, 3)}
    model = models.Model(j := layers.Input((4,)), whole(j)["y"] * 2.0)
    assert_close(numbers(model(X)), want * 2.0)
    a, b = keraslite.KerasTensor((2, 3)), keraslite.KerasTensor((2, 3))
    add = keraslite.Function([a, b], a + b)
    ones = np.ones((2, 3), "float32")
    assert_close(numbers(add([ones, ones])), ones * 2.0)
    with pytest.raises(ValueError, match="Expected inputs and outputs"):
        keraslite.Function([], out)
    with pytest.raises(ValueError, match="not among the inputs"):
        keraslite.Function(a, a + b)


def test_models_of_configs_take_custom_objects(backend):
    class Twice(layers.Layer):
        def call(self, x):
            return x * 2.0

    i = layers.Input((4,))
    for model in (models.Model(i, Twice()(i)), models.Sequential([i, Twice()])):
        other = type(model).from_config(model.get_config(), custom_objects={"Twice": Twice})
        assert_close(numbers(other(X)), X * 2.0)
        with pytest.raises((TypeError, ValueError), match="Twice"):
            type(model).from_config(model.get_config())


def test_add_variable_is_add_weight(backend):
    layer = layers.Layer(name="own")
    v = layer.add_variable((2,), "ones", "float32", False, name="v")
    assert (v.path, v.shape, v.trainable) == ("own/v", (2,), False)
    assert layer.non_trainable_variables == [v]


# -- memory ---------------------------------------------------------------------------------------


def test_values_of_a_graph_are_dropped_after_their_last_use(backend):
    alive, kept = [], []

    class Watched(layers.Layer):
        def call(self, x):
            alive.append(sum(ref() is not None for ref in kept))
            x = x + 1.0
            kept.append(weakref.ref(x))
            return x

    i = layers.Input((4,))
    x = first = Watched()(i)
    for _ in range(5):
        x = Watched()(x)
    model = models.Model(i, layers.Add()([first, x]))
    alive.clear(), kept.clear()
    out = model(ops.convert_to_tensor(X))
    assert alive == [0, 1, 2, 2, 2, 2]  # the first one, which is added at the end, and the last
    assert_close(numbers(out), 2 * X + 7)
