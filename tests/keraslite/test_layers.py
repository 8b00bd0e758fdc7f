"""Every layer of the table against the installed Keras on TensorFlow, on every backend."""

import inspect
import json
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_cases import ROWS, assert_outputs_close, plain_config, random_weights

from keraslite import Variable, layers, ops, tree, use_backend

# One row after the other, so that Keras is asked once for all backends.
each_row = pytest.mark.parametrize("index", range(len(ROWS)), ids=[row.id for row in ROWS])


def floats(values):
    return [v for v in tree.flatten(values) if "float" in str(v.dtype)]


def cotangents(values):
    """A weight for each number of an output, so that no gradient cancels."""
    rng = np.random.default_rng(2)
    return [rng.uniform(0.5, 1.5, tuple(v.shape)).astype("float32") for v in values]


@cache
def keras_says(index):
    """What Keras gives for a row: names and shapes of weights, and by mode what a call does."""
    row = ROWS[index]
    layer = getattr(keras.layers, row.layer)(**row.kwargs)
    found = {"config": layer.get_config(), "saved": keras.layers.serialize(layer)}
    inputs = tree.map_structure(tf.constant, row.inputs)
    layer(*inputs, **row.call)
    found["paths"] = [v.path.partition("/")[2] for v in layer.weights]
    found["shapes"] = [tuple(v.shape) for v in layer.weights]
    for mode in (False, True) if row.training else (False,):
        layer.set_weights(random_weights(found["shapes"]))
        watched = floats(inputs)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            out = layer(*inputs, **row.call, training=mode)
            flat = floats(out)
            total = sum(tf.reduce_sum(v * c) for v, c in zip(flat, cotangents(flat), strict=True))
            total += sum(layer.losses)
        gradients = tape.gradient(total, [*watched, *(v.value for v in layer.trainable_variables)])
        found[mode] = {
            "out": tree.map_structure(np.asarray, out),
            "gradients": [g if g is None else tf.convert_to_tensor(g).numpy() for g in gradients],
            "state": layer.get_weights(),
        }
    return found


def make(index, **extra):
    return getattr(layers, ROWS[index].layer)(**ROWS[index].kwargs, **extra)


def symbols(row):
    """The inputs and keyword arguments of a row, symbolic, with an unknown batch axis."""
    batch = tree.flatten(row.inputs)[0].shape[0]

    def symbol(v):
        if not isinstance(v, np.ndarray) or v.shape[0] != batch:
            return v
        return layers.Input(batch_shape=(None, *v.shape[1:]), dtype=str(v.dtype))

    return tree.map_structure(symbol, (row.inputs, row.call))


def built(index, **extra):
    """Our layer, with the weights that Keras's had."""
    layer = make(index, **extra)
    inputs, arguments = symbols(ROWS[index])
    layer(*inputs, **arguments)
    layer.set_weights(random_weights(keras_says(index)["shapes"]))
    return layer


def modes(index):
    """Inference, and training where it is something else and draws nothing."""
    other = ROWS[index].training and "training" in inspect.signature(make(index).call).parameters
    return (False, True) if other else (False,)


def run(function, variables, backend):
    """Call a function; under jax compiled, which is quicker than op by op."""
    return ops.jit(function, variables=variables)() if backend == "jax" else function()


def outputs(layer, index, backend, training=False):
    row = ROWS[index]
    return run(lambda: layer(*row.inputs, **row.call, training=training), layer.variables, backend)


@each_row
def test_outputs_states_and_weights_are_keras(index, backend):
    row, theirs, layer = ROWS[index], keras_says(index), built(index)
    assert [v.path.partition("/")[2] for v in layer.weights] == theirs["paths"]
    for mode in modes(index):
        layer.set_weights(random_weights(theirs["shapes"]))
        assert_outputs_close(outputs(layer, index, backend, mode), theirs[mode]["out"], row.rtol)
        assert_outputs_close(layer.get_weights(), theirs[mode]["state"], row.rtol)


@each_row
def test_gradients_are_keras(index, backend):
    if backend == "numpy":
        return
    row, layer, mode = ROWS[index], built(index), ROWS[index].training
    filled = tree.map_structure(lambda v: Variable(v) if v.dtype == "float32" else v, row.inputs)
    watched = [v for v in tree.flatten(filled) if isinstance(v, Variable)]

    def loss():
        out = floats(layer(*filled, **row.call, training=mode))
        total = sum(ops.sum(ops.multiply(v, c)) for v, c in zip(out, cotangents(out), strict=True))
        return total + sum(layer.losses)

    if not watched + layer.trainable_variables:
        return
    variables = watched + layer.trainable_variables
    grads = ops.value_and_grad(loss, variables=variables)
    found = run(grads, watched + layer.variables, backend)[1]
    theirs = keras_says(index)[mode]["gradients"]
    for place, value in enumerate(theirs):  # one backend says zeros where the other says nothing
        if value is None:
            assert found[place] is None or not np.any(ops.convert_to_numpy(found[place]))
    kept = [(a, b) for a, b in zip(found, theirs, strict=True) if b is not None]
    assert_outputs_close([a for a, _ in kept], [b for _, b in kept], rtol=1e-4, atol=1e-5)


@each_row
def test_configs_are_keras(index):
    layer = make(index, name="here")
    config = layer.get_config()
    assert plain_config(config) == plain_config({**keras_says(index)["config"], "name": "here"})
    saved = json.loads(json.dumps(layers.serialize(layer)))
    theirs = json.loads(json.dumps(keras_says(index)["saved"]))
    for form in (saved, theirs):  # what either library has written can be read
        form["config"]["name"] = "here"
        again = layers.deserialize(form)
        assert type(again) is type(layer)
        assert plain_config(again.get_config()) == plain_config(config)


@each_row
def test_symbolic_shapes_and_dtypes_are_real_ones(index, backend):
    inputs, arguments = symbols(ROWS[index])
    found = tree.flatten(make(index)(*inputs, **arguments))
    for a, b in zip(found, tree.flatten(keras_says(index)[False]["out"]), strict=True):
        assert (a.shape, a.dtype) == ((None, *b.shape[1:]), str(b.dtype))


@each_row
def test_unknown_batch_in_a_tensorflow_graph(index):
    row = ROWS[index]
    with use_backend("tensorflow"):
        layer = built(index)
        batch = tree.flatten(row.inputs)[0].shape[0]

        def spec(v):
            return tf.TensorSpec(
                [None if v.shape[0] == batch else v.shape[0], *v.shape[1:]], v.dtype
            )

        arrays = {k: v for k, v in row.call.items() if isinstance(v, np.ndarray)}
        rest = {k: v for k, v in row.call.items() if k not in arrays}
        signature = tree.map_structure(spec, (row.inputs, arrays))
        graph = tf.function(
            lambda a, k: layer(*a, **k, **rest), input_signature=signature, autograph=False
        )
        assert_outputs_close(graph(row.inputs, arrays), keras_says(index)[False]["out"], row.rtol)


def test_signatures_are_keras():
    for name, cls in vars(layers).items():
        theirs = getattr(keras.layers, name, None)
        if not isinstance(cls, type) or theirs is None or name in ("Layer", "InputLayer"):
            continue
        ours, theirs = (inspect.signature(c.__init__).parameters for c in (cls, theirs))
        assert list(ours) == list(theirs), name
        assert [p.default for p in ours.values()] == [p.default for p in theirs.values()], name
        assert cls.__doc__.strip(), name


@each_row
def test_mixed_precision(index, backend):
    exact = floats(keras_says(index)[False]["out"])
    half = floats(outputs(built(index, dtype="mixed_bfloat16"), index, backend))
    for a, b in zip(half, exact, strict=True):
        assert ops.dtype(a) == ("bfloat16" if ROWS[index].bfloat16 else "float32")
        assert_outputs_close(ops.cast(a, "float32"), b, rtol=0.05, atol=0.02)
