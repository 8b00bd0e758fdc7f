"""Models: graphs, sequences and subclasses; configs, copies and moves; what torch sees of them."""

import copy
import json
import pickle

import numpy as np
import pytest
from backends import INSTALLED, TRAINABLE
from compare import assert_close

import keraslite
from keraslite import backend as backends
from keraslite import layers, losses, models, ops, optimizers, registry, utils
from keraslite.layers.base import tracking

RNG = np.random.default_rng(5)
X = RNG.normal(size=(6, 4)).astype("float32")
Z = RNG.normal(size=(6, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 2])


def numbers(x):
    return keraslite.tree.map_structure(backends.to_numpy, x)


# -- graphs ---------------------------------------------------------------------------------------


def plain():
    return layers.Input((4,), name="rows"), lambda x: layers.Dense(2)(layers.Dense(3, "relu")(x)), X


def shared_layer():
    dense = layers.Dense(4)
    return layers.Input((4,)), lambda x: dense(dense(x)) + dense(x), X


def several_in_and_out():
    def build(inputs):
        a, b = inputs
        h = layers.Concatenate()([layers.Dense(3)(a), b])
        return [layers.Dense(2)(h), h]

    return [layers.Input((4,)), layers.Input((3,))], build, [X, Z]


def dict_in_and_out():
    def build(inputs):
        h = layers.Dense(5)(inputs["b"])
        return {"sum": layers.Add()([layers.Dense(5)(inputs["a"]), h]), "h": h}

    given = {"b": layers.Input((3,), name="b"), "a": layers.Input((4,), name="a")}
    return given, build, {"a": X, "b": Z}


def nested():
    def inner(name):
        return models.Sequential([layers.Input((4,)), layers.Dense(4)], name=name)

    x = layers.Input((4,))
    deeper = models.Model(x, inner("low")(x) * 2.0, name="deeper")
    return layers.Input((4,)), lambda x: layers.Dense(2)(deeper(inner("in")(x))), X


def with_ops():
    def build(x):
        y = ops.concatenate([x[:, :2], ops.expand_dims(ops.max(x, axis=1), 1)], axis=-1)
        y = ops.where(y > 0.0, y, -0.5 * y) ** 2 / 3.0
        return ops.einsum("bi,bj->bij", y, y)[..., 1:, ::2]

    return layers.Input((4,)), build, X


def embedded():
    def build(x):
        h = layers.Embedding(7, 4, mask_zero=True)(x)
        return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))

    return layers.Input((None,), dtype="int32"), build, np.array([[1, 2, 0], [3, 4, 5]])


GRAPHS = [plain, shared_layer, several_in_and_out, dict_in_and_out, nested, with_ops, embedded]


def graph(make):
    utils.set_random_seed(3)
    given, build, data = make()
    return models.Model(given, build(given)), data


@pytest.mark.parametrize("make", GRAPHS)
def test_a_graph_equals_its_config_its_clone_and_its_copies(backend, make):
    model, data = graph(make)
    want = model(data)
    config = json.loads(json.dumps(registry.serialize_keras_object(model)))
    made = registry.deserialize_keras_object(config)
    assert [w.shape for w in made.weights] == [w.shape for w in model.weights]
    assert json.loads(json.dumps(registry.serialize_keras_object(made))) == config
    for other in (made, models.clone_model(model), models.model_from_json(model.to_json())):
        assert len(other.layers) == len(model.layers)
        other.set_weights(model.get_weights())
        assert_close(other(data), want)
        assert other.weights[0] is not model.weights[0] if model.weights else True
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert_close(other(data), want)
        for a, b in zip(other.weights, model.weights, strict=True):
            assert a is not b


@pytest.mark.parametrize("make", GRAPHS)
def test_a_graph_gives_the_same_on_every_backend_it_is_moved_to(backend, make):
    model, data = graph(make)
    want = numbers(model(data))
    for name in INSTALLED:
        assert model.to_backend(name) is model
        assert model.backend == name
        assert_close(model(data), want)
        predicted = model.predict(data, verbose=0)
        assert_close(predicted, want)


@pytest.mark.parametrize("make", GRAPHS)
def test_a_graph_knows_its_shapes(backend, make):
    model, data = graph(make)
    for want, got in zip(model.outputs, keraslite.tree.flatten(model(data)), strict=True):
        assert all(a in (None, b) for a, b in zip(want.shape, got.shape, strict=True))
        assert want.dtype == keraslite.dtypes.standardize(got.dtype)


def test_graphs_equal_those_of_keras():
    import keras

    def build(K):
        x = K.Input((4,), name="x")
        z = K.Input((3,), name="z")
        dense = K.layers.Dense(4, "tanh")
        h = K.layers.Concatenate()([dense(x), dense(dense(x)), z])
        inner = K.Sequential([K.Input((11,)), K.layers.Dense(5, "relu")])
        return K.Model({"x": x, "z": z}, [inner(h), K.ops.square(h) - 1.0])

    theirs, ours = build(keras), build(keraslite)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    want = theirs.predict({"x": X, "z": Z}, verbose=0)
    assert_close(ours.predict({"x": X, "z": Z}, verbose=0), want)
    assert ours.count_params() == theirs.count_params()


def test_inputs_may_be_given_by_name_by_place_or_in_excess(backend):
    a, b = layers.Input((4,), name="a"), layers.Input((3,), name="b")
    model = models.Model([a, b], layers.Concatenate()([a, b]))
    want = np.concatenate([X, Z], 1)
    assert_close(model([X, Z]), want)
    assert_close(model({"b": Z, "a": X, "more": Z}), want)
    with pytest.raises(ValueError, match=r"misses the inputs \['b'\]; got \['a'\]"):
        model({"a": X})
    with pytest.raises(ValueError, match="expects 2 inputs, got 1"):
        model([X])
    with pytest.raises(ValueError, match=r"'b' to have shape \(None, 3\), got \(6, 4\)"):
        model([X, X])


def test_what_cannot_be_a_graph_is_refused(backend):
    x, other = layers.Input((4,)), layers.Input((4,), name="other")
    with pytest.raises(ValueError, match=r"depend on.*other.*not among the inputs"):
        models.Model(x, layers.Add()([x, other]))
    with pytest.raises(ValueError, match="inputs of a functional model must be KerasTensors"):
        models.Model(X, layers.Dense(1)(x))
    with pytest.raises(TypeError, match="no truth value"):
        bool(layers.Dense(1)(x))


def test_a_subclass_may_be_a_graph(backend):
    class Tower(models.Model):
        def __init__(self, units, **kwargs):
            x = layers.Input((4,))
            super().__init__(x, layers.Dense(units)(x), **kwargs)
            self.units = units

        def get_config(self):
            return {"units": self.units, "name": self.name}

    model = Tower(3, name="tower")
    assert isinstance(model, Tower)
    assert [x.shape for x in (*model.inputs, *model.outputs)] == [(None, 4), (None, 3)]
    assert model.name == "tower"
    with registry.custom_object_scope({"Tower": Tower}):
        other = registry.deserialize_keras_object(registry.serialize_keras_object(model))
    assert type(other).__name__ == "Tower"
    other.set_weights(model.get_weights())
    assert_close(other(X), model(X))
    moved = copy.deepcopy(model).to_backend("numpy")
    assert_close(moved(X), model(X))
    assert registry.public_class(type(moved)) is Tower


def test_two_arguments_make_a_functional_model(backend):
    x = layers.Input((4,))
    y = layers.Dense(3)(x)
    plain = models.Model(x, y)
    assert isinstance(plain, models.Functional)
    assert isinstance(type(plain)(inputs=x, outputs=y), models.Functional)

    class Named(models.Model):
        """A class with Model's constructor."""

    named = Named(x, y, name="it")
    assert not isinstance(named, models.Functional)
    other = Named.from_config(named.get_config())
    assert (other.name, registry.public_class(type(other))) == ("it", Named)
    other.set_weights(plain.get_weights())
    assert_close(other(X), plain(X))
    with pytest.raises(TypeError, match="needs both inputs and outputs"):
        models.Model(inputs=x)


def test_a_model_without_a_graph_keeps_attributes_of_those_names(backend):
    class Pair(models.Model):
        def __init__(self):
            super().__init__()
            self.input, self.output = layers.Dense(3), layers.Dense(2)

        def call(self, x):
            return self.output(self.input(x))

    model = Pair()
    assert model(X).shape == (6, 2)
    assert len(model.weights) == 4
    assert not hasattr(model, "output_names")


def test_a_deep_graph_is_no_deep_recursion(backend):
    x = y = layers.Input((4,))
    for _ in range(150):
        y = y + layers.Activation("tanh")(y)
    model = models.Model(x, y)
    config = model.get_config()
    assert sum(len(entry["inbound_nodes"]) for entry in config["layers"]) == 300
    want = model(X[:1])
    assert_close(copy.deepcopy(model)(X[:1]), want)
    assert_close(models.Model.from_config(config)(X[:1]), want)


# -- sequences ------------------------------------------------------------------------------------


def test_a_sequence_is_built_by_an_input_a_shape_or_a_call(backend):
    def make(*first):
        utils.set_random_seed(1)
        return models.Sequential([*first, layers.Dense(3, "relu"), layers.Dense(2)])

    by_input, by_shape, by_call, by_keyword = make(layers.Input((4,))), make(), make(), None
    assert by_input.built
    assert not by_shape.built
    assert not by_call.weights
    by_shape.build((None, 4))
    by_call(X)
    utils.set_random_seed(1)
    by_keyword = models.Sequential()
    by_keyword.add(layers.Dense(3, "relu", input_shape=(4,)))
    by_keyword.add(layers.Dense(2))
    for model in (by_input, by_shape, by_call, by_keyword):
        assert model.built
        assert model.output_shape == (None, 2)
        assert len(model.layers) == 2
        assert_close(model(X), by_input(X))
        assert [p for p, _ in tracking.variable_paths(model)] == [
            p for p, _ in tracking.variable_paths(by_input)
        ]


def test_layers_are_put_on_and_taken_off(backend):
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, name="a")])
    model.add(layers.Dense(2, name="b"))
    assert model.output_shape == (None, 2)
    assert model.pop().name == "b"
    assert model.output_shape == (None, 3)
    assert model(X).shape == (6, 3)
    with pytest.raises(ValueError, match=r"names are unique.*'a'"):
        model.add(layers.Dense(1, name="a"))
    with pytest.raises(ValueError, match="Sequential takes layers"):
        model.add("dense")
    assert model.get_layer("a") is model.get_layer(index=0) is model.layers[0]
    with pytest.raises(ValueError, match=r"has no layer 'c'. It has: \['a'\]"):
        model.get_layer("c")


def test_a_sequence_round_trips_built_or_not(backend):
    built = models.Sequential([layers.Input((4,)), layers.Dropout(0.5), layers.Dense(2)])
    unbuilt = models.Sequential([layers.Dense(2)])
    for model in (built, unbuilt):
        other = models.Sequential.from_config(json.loads(json.dumps(model.get_config())))
        assert other.built == model.built
        other(X)
        model(X)
        other.set_weights(model.get_weights())
        assert_close(other(X), model(X))


def test_a_sequence_passes_masks_and_training_on(backend):
    model = models.Sequential(
        [
            layers.Embedding(5, 3, mask_zero=True),
            layers.Dropout(0.9),
            layers.GlobalAveragePooling1D(),
        ]
    )
    ids = np.array([[1, 2, 0, 0]])
    table = model.layers[0]
    want = numbers(table(ids))[:, :2].mean(1)
    assert_close(model(ids), want)
    assert not np.allclose(numbers(model(ids, training=True)), want)


# -- subclasses -----------------------------------------------------------------------------------


class Block(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(units), {"norm": layers.LayerNormalization()}]
        self.scales = {}

    def build(self, input_shape):
        self.scales["a"] = self.add_weight(shape=(), initializer="ones", name="a")

    def call(self, x):
        return self.parts[1]["norm"](self.parts[0](x)) * self.scales["a"]


class Net(models.Model):
    def __init__(self, units=3):
        super().__init__()
        self.blocks = [Block(units), Block(units)]
        self.heads = {"out": layers.Dense(2)}
        self.drop = layers.Dropout(0.5, seed=3)

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        return self.heads["out"](self.drop(x, training=training))


def net():
    utils.set_random_seed(2)
    model = Net()
    model(X)
    return model


def test_layers_in_lists_and_dicts_are_found(backend):
    model = net()
    paths = [path for path, _ in tracking.variable_paths(model)]
    assert paths[:5] == [
        "blocks/0/scales/a", "blocks/0/parts/0/kernel", "blocks/0/parts/0/bias",
        "blocks/0/parts/1/norm/gamma", "blocks/0/parts/1/norm/beta",
    ]  # fmt: skip
    assert paths[-1].startswith("drop/")
    assert len(model.weights) == 12
    assert len(model.trainable_variables) == 12
    assert len(model.non_trainable_variables) == 1  # the state of the dropout
    assert [x.name for x in model.layers] == [*(b.name for b in model.blocks),
                                              model.heads["out"].name, model.drop.name]  # fmt: skip
    model.blocks[0].trainable = False
    assert len(model.trainable_variables) == 7
    assert len({v.path for v in model.weights}) == 12


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_model_is_copied_with_all_its_state(trains, how):
    model = net()
    model.compile(optimizers.Adam(0.01), losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, LABELS % 2, epochs=2, verbose=0)
    other = how(model)
    assert other.backend == trains
    assert type(other) is type(model)
    before = model.get_weights()
    first = [other.train_on_batch(X, LABELS % 2) for _ in range(3)]
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    second = [model.train_on_batch(X, LABELS % 2) for _ in range(3)]
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_moved_model_is_of_the_other_framework(trains):
    model = net()
    want = numbers(model(X))
    for name in TRAINABLE:
        model.to_backend(name)
        assert {layer.backend for layer in model.flatten_layers()} == {name}
        assert backends.of(model(X)) == name
        assert_close(model(X), want)
        if name == "torch":
            import torch

            assert isinstance(model, torch.nn.Module)
        if name == "tensorflow":
            import tensorflow as tf

            assert isinstance(model, tf.Module)
        assert isinstance(model, Net)


def test_models_of_several_backends_live_side_by_side():
    made = {}
    for name in INSTALLED:
        with keraslite.use_backend(name):
            made[name] = net()
    outputs = {name: numbers(model(X)) for name, model in made.items()}
    for name, value in outputs.items():
        assert backends.of(made[name](X)) == (None if name == "numpy" else name)
        assert_close(value, outputs["numpy"])


# -- the table ------------------------------------------------------------------------------------

SEQUENTIAL = """\
Model: "small"
┏━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┓
┃ Layer (type)          ┃ Output Shape      ┃   Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━┩
│ a (Dense)             │ (None, 300)       │     1,500 │
├───────────────────────┼───────────────────┼───────────┤
│ b                     │ (None, 300)       │     1,200 │
│ (BatchNormalization)  │                   │           │
└───────────────────────┴───────────────────┴───────────┘
 Total params: 2,700 (10.55 KB)
 Trainable params: 2,100 (8.20 KB)
 Non-trainable params: 600 (2.34 KB)"""

BRANCHED = """\
Model: "branched"
┏━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┓
┃ Layer (type)        ┃ Output Shape     ┃     Param # ┃ Connected to     ┃
┡━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━┩
│ x (InputLayer)      │ (None, 4)        │           0 │ -                │
├─────────────────────┼──────────────────┼─────────────┼──────────────────┤
│ d (Dense)           │ (None, 4)        │          20 │ x[0][0], d[0][0] │
├─────────────────────┼──────────────────┼─────────────┼──────────────────┤
│ add (op)            │ (None, 4)        │           0 │ d[1][0], x[0][0] │
└─────────────────────┴──────────────────┴─────────────┴──────────────────┘
 Total params: 20 (80.00 B)
 Trainable params: 20 (80.00 B)
 Non-trainable params: 0 (0.00 B)"""

NESTED = """\
Model: "outer"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━┳━━━━━━━━━━━┓
┃ Layer (type)             ┃ Output Shape          ┃     Param # ┃ Trainable ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━╇━━━━━━━━━━━┩
│ inner (Sequential)       │ (None, 3)             │          15 │     N     │
├──────────────────────────┼───────────────────────┼─────────────┼───────────┤
│    └ first (Dense)       │ (None, 3)             │          15 │     N     │
├──────────────────────────┼───────────────────────┼─────────────┼───────────┤
│ drop (Dropout)           │ (None, 3)             │           0 │     -     │
└──────────────────────────┴───────────────────────┴─────────────┴───────────┘
 Total params: 15 (60.00 B)
 Trainable params: 0 (0.00 B)
 Non-trainable params: 15 (60.00 B)"""


def test_summaries_are_as_they_were(capsys):
    with keraslite.use_backend("numpy"):
        dense, norm = layers.Dense(300, name="a"), layers.BatchNormalization(name="b")
        model = models.Sequential([layers.Input((4,)), dense, norm], name="small")
        model.summary(line_length=57)
        assert capsys.readouterr().out.rstrip("\n") == SEQUENTIAL
        x, dense = layers.Input((4,), name="x"), layers.Dense(4, name="d")
        model = models.Model(x, ops.add(dense(dense(x)), x), name="branched")
        found = []
        model.summary(line_length=75, print_fn=found.append)
        assert found == [BRANCHED]
        first = layers.Dense(3, name="first")
        inner = models.Sequential([layers.Input((4,)), first], name="inner")
        inner.trainable = False
        outer = models.Sequential(
            [layers.Input((4,)), inner, layers.Dropout(0.1, name="drop")], name="outer"
        )
        outer.summary(line_length=78, expand_nested=True, show_trainable=True)
        assert capsys.readouterr().out.rstrip("\n") == NESTED


def test_summaries_of_all_kinds_of_models(trains):
    from keraslite.utils.summary import summary_table

    unbuilt = models.Sequential([layers.Dense(2, name="later")], name="s")
    text = summary_table(unbuilt)
    assert "later (Dense)" in text
    assert "0 (unbuilt)" in text
    text = summary_table(net())
    assert "(6, 2)" in text  # the head; blocks of one's own tell their shapes as well
    assert "Total params: 49" in text
    model, data = graph(nested)
    model.compile("adam", "mse")
    model.fit(data, np.zeros((6, 2)), verbose=0)
    text = summary_table(model, expand_nested=True)
    assert "└ dense" in text
    assert "Optimizer params: " in text
    for make in GRAPHS:
        lines = summary_table(graph(make)[0]).splitlines()
        table = [line for line in lines if line[0] in "┏┃┡│├└"]
        assert len({len(line) for line in table}) == 1
    with pytest.raises(ValueError, match="too short"):
        summary_table(model, 20)


# -- what torch sees ------------------------------------------------------------------------------

torch = pytest.importorskip("torch") if "torch" in backends.available() else None
needs_torch = pytest.mark.skipif(torch is None, reason="needs torch")


@pytest.fixture
def on_torch():
    """Torch, which is the current backend."""
    with keraslite.use_backend("torch"):
        yield torch


@needs_torch
@pytest.mark.parametrize("make", [net, lambda: graph(plain)[0], lambda: graph(nested)[0]],
                         ids=["subclassed", "functional", "nested"])  # fmt: skip
def test_a_model_is_a_module(on_torch, make):
    model = make()
    assert isinstance(model, torch.nn.Module)
    named = dict(model.named_parameters())
    assert all(isinstance(p, torch.nn.Parameter) for p in named.values())
    trained = {id(v._kl_raw) for v in model.trainable_variables}
    assert {id(p) for p in named.values() if p.requires_grad} == trained
    assert len(list(model.modules())) == len(model.flatten_layers())
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert set(state) == {*named, *dict(model.named_buffers())}
    want = model(X).detach()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert not torch.allclose(model(X), want)
    assert str(model.load_state_dict(state)) == "<All keys matched successfully>"
    assert torch.equal(model(X), want)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})


@needs_torch
def test_torch_trains_a_model_inside_a_module_of_its_own(on_torch):
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ours = net()
            self.theirs = torch.nn.Linear(2, 3)

        def forward(self, x):
            return self.theirs(self.ours(x))

    torch.manual_seed(0)
    model = Outer()
    assert any(name.startswith("ours.blocks_0.parts_0") for name, _ in model.named_parameters())
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)
    x, y = torch.from_numpy(X), torch.from_numpy(LABELS)
    found = []
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert np.mean(found[-10:]) < 0.7 * found[0]
    other = copy.deepcopy(model)
    assert other.ours.blocks[0].parts[0].kernel is not model.ours.blocks[0].parts[0].kernel
    model.eval()
    other.eval()
    assert torch.equal(other(x), model(x))
    state = model.state_dict()
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.load_state_dict(state)
    assert torch.equal(other(x), model(x))


@needs_torch
def test_train_and_eval_switch_dropout_as_torch_users_expect(on_torch):
    model = net()
    as_usual = model(X)
    assert torch.equal(model(X), as_usual)  # without a word: not in training, as in Keras
    assert model.train() is model
    assert not torch.equal(model(X), as_usual)
    assert not torch.equal(model(X), model(X))
    model.eval()
    assert torch.equal(model(X), as_usual)
    assert not torch.equal(model(X, training=True), as_usual)  # what is said in the call holds
    model.train()
    assert torch.equal(model(X, training=False), as_usual)
    assert torch.equal(torch.from_numpy(model.predict(X, verbose=0)), as_usual.detach())


@needs_torch
def test_torch_moves_and_freezes_the_parameters_of_a_model(on_torch):
    model = net()
    model.requires_grad_(False)
    assert not model(X).requires_grad
    model.requires_grad_(True)
    model(X).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    buffers = dict(model.named_buffers())
    assert set(buffers) == {"drop.seed_generator_seed_generator_state"}
    before = model(X)
    model.to("meta").to_empty(device="cpu")  # every tensor is replaced, and the variables with it
    model.load_state_dict(net().state_dict())
    assert torch.equal(model(X), before)
    model.bfloat16()
    assert {v.value.dtype for v in model.weights} == {torch.bfloat16}


@needs_torch
def test_a_compiled_model_has_no_graph_break(on_torch):
    utils.set_random_seed(1)
    model = models.Sequential([
        layers.Input((5,), dtype="int32"), layers.Embedding(11, 8), layers.LayerNormalization(),
        layers.Dense(8, "gelu"), layers.Dropout(0.3), layers.Dense(3, "softmax"),
    ])  # fmt: skip
    ids = torch.from_numpy(RNG.integers(0, 11, (4, 5)).astype("int32"))
    want = model(ids)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids), want)
    torch.testing.assert_close(compiled(ids), want)
    state = model.layers[3].seed_generator.state.numpy().copy()
    one, two = compiled(ids, training=True), compiled(ids, training=True)
    assert not torch.equal(one, two)
    model.layers[3].seed_generator.state.assign(state)
    torch.testing.assert_close(model(ids, training=True), one)
    one.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@needs_torch
@pytest.mark.parametrize("make", [net, lambda: graph(plain)[0], lambda: graph(nested)[0]],
                         ids=["subclassed", "functional", "nested"])  # fmt: skip
def test_models_of_all_kinds_compile_without_a_graph_break(on_torch, make):
    model = make()
    want = model(X)
    x = torch.from_numpy(X)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), want)


@needs_torch
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_fit_can_compile_its_step(on_torch, monkeypatch):
    compile = torch.compile  # by Dynamo alone: what follows it needs a C++ compiler
    monkeypatch.setattr(torch, "compile", lambda f: compile(f, backend="eager"))

    def losses_of(**arguments):
        utils.set_random_seed(2)
        model = graph(plain)[0]
        model.compile(optimizers.SGD(0.1), "mse", **arguments)
        return model.fit(X, X[:, :2], epochs=3, verbose=0, shuffle=False).history["loss"]

    np.testing.assert_allclose(losses_of(jit_compile=True), losses_of(), rtol=1e-4)


# -- what TensorFlow sees -------------------------------------------------------------------------


@pytest.mark.skipif("tensorflow" not in backends.available(), reason="needs tensorflow")
def test_a_model_is_a_tensorflow_module():
    import tensorflow as tf

    with keraslite.use_backend("tensorflow"):
        model = net()
        assert isinstance(model, tf.Module)
        want = model(X)
        call = tf.function(lambda x: model(x))
        assert_close(call(tf.constant(X)), want)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(call(tf.constant(X)))
        grads = tape.gradient(loss, model.trainable_variables)
        assert all(g is not None for g in grads)


def test_variables_in_expressions_have_gradients(trains):
    """Operators of a framework's tensors with a variable on the right record gradients, too."""

    class Own(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(4,), initializer="ones")

        def call(self, x):
            return ops.sum(x * self.w + X[0] * self.w - self.w / 2.0)

    layer = Own()
    layer(X)
    _, grads = keraslite.value_and_grad(lambda: layer(X), variables=layer.trainable_variables)()
    assert_close(grads[0], X.sum(0) + 6 * X[0] - 3.0, rtol=1e-4, atol=1e-4)
