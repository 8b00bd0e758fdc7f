"""Recurrent layers on every backend, against the installed Keras on TensorFlow."""

import json
import re
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_cases import assert_outputs_close, plain_config, random_weights
from rnn_cases import CASES, OWN_CELLS, X, built

import keraslite
from keraslite import Variable, layers, ops, tree

each_case = pytest.mark.parametrize("name", CASES)


def cotangents(values):
    rng = np.random.default_rng(2)
    return [rng.uniform(0.5, 1.5, tuple(v.shape)).astype("float32") for v in values]


@cache
def keras_says(name):
    """Keras's outputs, gradients, and the names and values of its weights afterwards."""
    assert keras.backend.backend() == "tensorflow"
    layer, (_, inputs, call) = built(keras, name), CASES[name]
    x = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x, **call)
        flat = keras.tree.flatten(out)
        total = sum(tf.reduce_sum(v * c) for v, c in zip(flat, cotangents(flat), strict=True))
        total += sum(layer.losses)
    gradients = tape.gradient(total, [x, *(v.value for v in layer.trainable_variables)])
    return {
        "out": keras.tree.map_structure(np.asarray, out),
        "gradients": [g if g is None else np.asarray(g) for g in gradients],
        "weights": layer.get_weights(),
        "paths": [_unnumbered(v.path) for v in layer.weights],
    }


# What differs from other cases in how outputs are merged: JAX need not compile all of it.
OUTPUTS_ALONE = [f"Bidirectional, {mode}" for mode in ("sum", "mul", "ave", "pair")]


@each_case
def test_outputs_and_gradients_are_keras(name, backend):
    theirs, (_, inputs, call) = keras_says(name), CASES[name]
    layer = built(keraslite, name)
    assert [_unnumbered(v.path) for v in layer.weights] == theirs["paths"]
    if backend == "numpy" or (backend == "jax" and name in OUTPUTS_ALONE):
        out = layer(inputs, **call)
    else:
        x = Variable(inputs)

        def loss():
            out = layer(x, **call)
            flat = tree.flatten(out)
            total = sum(
                ops.sum(ops.multiply(v, c)) for v, c in zip(flat, cotangents(flat), strict=True)
            )
            return total + sum(layer.losses), out

        variables = [x, *layer.trainable_variables]
        run = ops.value_and_grad(loss, variables=variables, has_aux=True)
        if backend == "jax":
            run = ops.jit(run, variables=[x, *layer.variables])
        (_, out), gradients = run()
        wanted = [
            np.zeros_like(v.numpy()) if g is None else g
            for g, v in zip(theirs["gradients"], variables, strict=True)
        ]
        assert_outputs_close(gradients, wanted, rtol=1e-5, atol=1e-6)
    tree.assert_same_paths(out, theirs["out"])
    out = tree.map_structure(ops.convert_to_numpy, out)
    assert_outputs_close(out, theirs["out"])
    assert_outputs_close(layer.get_weights(), theirs["weights"])


def _unnumbered(path):
    """A path below a layer, without the numbers of automatic names."""
    return [re.sub(r"_\d+$", "", part) for part in path.split("/")[1:]]


@pytest.mark.parametrize("name", [name for name in CASES if name not in OWN_CELLS])
def test_configs_are_keras(name):
    ours, theirs = (CASES[name][0](library) for library in (keraslite, keras))
    config = _plain(ours.get_config())
    assert config == _plain(theirs.get_config())
    saved = [json.loads(json.dumps(lib.layers.serialize(layer)))
             for lib, layer in ((keraslite, ours), (keras, theirs))]  # fmt: skip
    for library in (keraslite, keras):  # each reads what either has written
        for form in saved:
            again = library.layers.deserialize(form)
            assert type(again).__name__ == type(ours).__name__
            assert _plain(again.get_config()) == config


def _plain(config):
    """A config without modules, and without the numbers of automatic names."""
    text = json.dumps(plain_config(config), default=str)
    return json.loads(re.sub(r'(_?\d+)+"', '"', text))


@each_case
def test_symbolic_shapes_are_keras(name, backend):
    make, inputs, _ = CASES[name]
    steps = None if "unrolled" not in name else inputs.shape[1]
    shape = (None, steps, *inputs.shape[2:])
    theirs = keras_shapes(name, shape)
    if name == "Bidirectional, two layers":  # Keras doubles the size of the forward one
        theirs = [(None, 2 + 3)]
    outputs = make(keraslite)(keraslite.Input(batch_shape=shape))
    assert [x.shape for x in tree.flatten(outputs)] == theirs


@cache
def keras_shapes(name, shape):
    outputs = CASES[name][0](keras)(keras.Input(batch_shape=shape))
    return [tuple(x.shape) for x in keras.tree.flatten(outputs)]


def sentence_model(library):
    """Masks from an embedding on, through recurrent layers of each sort."""
    lib = library.layers
    ids = library.Input((5,), dtype="int32")
    x = lib.Embedding(7, 3, mask_zero=True)(ids)
    x = lib.Bidirectional(lib.GRU(2, return_sequences=True))(x)
    x = lib.TimeDistributed(lib.Dense(3, activation="tanh"))(x)
    x, h, c = lib.LSTM(3, return_sequences=True, return_state=True)(x)
    # Keras forgets the mask of the sequences where there is an initial state too.
    mask = {"mask": library.ops.not_equal(ids, 0)} if library is keras else {}
    x = lib.LSTM(3)(x, initial_state=[c, h], **mask)
    model = library.Model(ids, lib.Dense(1)(x))
    optimizer = library.optimizers.SGD(0.5)
    model.compile(optimizer, "mse", run_eagerly=library is keras)
    return model


IDS = np.array([[1, 2, 3, 0, 0], [0, 4, 5, 6, 0]], "int32")
TARGETS = np.array([[1.0], [-1.0]], "float32")


@cache
def keras_trains():
    model = sentence_model(keras)
    before = random_weights([v.shape for v in model.weights])
    model.set_weights(before)
    loss = model.train_on_batch(IDS, TARGETS)
    return before, float(loss), model.get_weights()


def test_a_training_step_is_keras(trains):
    before, loss, after = keras_trains()
    model = sentence_model(keraslite)
    model.set_weights(before)
    np.testing.assert_allclose(float(model.train_on_batch(IDS, TARGETS)), loss, rtol=1e-5)
    assert_outputs_close(model.get_weights(), after)


@cache
def keras_states():
    layer = keras.layers.LSTM(2, stateful=True, return_state=True)
    layer.build(X.shape)
    weights = layer.get_weights()
    runs = [[np.asarray(v) for v in layer(x)] for x in (X, 2 * X)]
    return weights, runs


def test_stateful_layers_go_on_where_they_stopped(backend):
    weights, runs = keras_states()
    sequences = layers.Input(batch_shape=X.shape)
    layer = layers.LSTM(2, stateful=True, return_state=True)
    model = keraslite.Model(sequences, layer(sequences))
    assert [v.name for v in layer.non_trainable_variables].count("rnn_state") == 2
    assert len(layer.weights) == 3  # the states are none
    assert not any("state" in path for path, _ in layer.named_weights())
    model.set_weights(weights)
    for call in (lambda x: model.predict_on_batch(x), layer):
        for x, wanted in zip((X, 2 * X), runs, strict=True):
            assert_outputs_close(call(x), wanted)
        assert_outputs_close([v.numpy() for v in layer.states], runs[1][1:])
        layer.reset_state()
        assert not any(v.numpy().any() for v in layer.states)
    with pytest.raises(ValueError, match=r"stateful: its batch size must be 2"):
        layer(X[:1])
    both = layers.Bidirectional(layers.GRU(2, stateful=True))
    first, second = (ops.convert_to_numpy(both(X)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3 and len(both.states) == 2
    both.reset_state()
    assert_outputs_close(both(X), first)


def stateful_model(library):
    lib = library.layers
    model = library.Sequential([
        library.Input(batch_shape=X.shape), lib.GRU(2, stateful=True), lib.Dense(1),
    ])  # fmt: skip
    model.compile(library.optimizers.SGD(0.5), "mse", run_eagerly=library is keras)
    return model


@cache
def keras_trains_with_states():
    model = stateful_model(keras)
    before = random_weights([v.shape for v in model.weights])
    model.set_weights(before)
    for x in (X, 2 * X):
        model.train_on_batch(x, TARGETS)
    return before, model.get_weights(), [v.numpy() for v in model.layers[0].states]


def test_training_steps_with_states_are_keras(trains):
    before, after, states = keras_trains_with_states()
    model = stateful_model(keraslite)
    model.set_weights(before)
    for x in (X, 2 * X):
        model.train_on_batch(x, TARGETS)
    assert_outputs_close(model.get_weights(), after)
    assert_outputs_close([v.numpy() for v in model.layers[0].states], states)
