"""Training with products of float8, against the installed Keras."""

import json
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_cases import assert_outputs_close, plain_config, random_weights, x
from quantization_cases import CASES, built, numpy_of

import keraslite
from keraslite import Sequential, Variable, layers, ops, quantizers
from keraslite.dtype_policies import QuantizedFloat8DTypePolicy

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
LAYERS = ("dense", "heads", "turned")
each_case = pytest.mark.parametrize("case", LAYERS)


def quantized(library, case):
    """A layer in float8 whose scales and histories are as after some steps."""
    layer = built(library, case)
    layer.quantize("float8")
    for name in ("inputs", "kernel", "outputs_grad"):
        history = np.zeros(1024, "float32")
        history[:3] = 2.0, 5.0, 3.0
        getattr(layer, f"{name}_scale").assign(0.05)
        getattr(layer, f"{name}_amax_history").assign(history)
    return layer


def named(variables):
    return {v.path.rpartition("/")[2]: v for v in variables}


@cache
def keras_says(case, training):
    """Outputs of Keras's layer, and the gradients of its inputs and variables by name."""
    layer = quantized(keras.layers, case)
    variables = named(layer.trainable_variables)

    @tf.function  # without it Keras's gradients fail
    def outputs_and_gradients(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            out = layer(inputs, training=training)
            total = tf.reduce_sum(out * out)
        return out, tape.gradient(total, [inputs, *(v.value for v in variables.values())])

    out, gradients = outputs_and_gradients(tf.constant(CASES[case][1]))
    names = ["inputs", *variables]
    return {
        "out": out.numpy(),
        "gradients": {
            n: g.numpy() for n, g in zip(names, gradients, strict=True) if g is not None
        },
        "weights": [(name, tuple(v.shape), str(v.dtype)) for name, v in variables.items()],
        "config": layer.get_config(),
    }  # fmt: skip


@each_case
def test_outputs_and_gradients_are_keras(case, backend):
    for training in (False, True):
        layer, theirs = quantized(layers, case), keras_says(case, training)
        inputs = Variable(CASES[case][1])
        assert_outputs_close(layer(inputs.value, training=training), theirs["out"], 1e-5)
        variables = named(layer.trainable_variables)
        assert [(n, v.shape, v.dtype) for n, v in variables.items()] == theirs["weights"]
        if backend == "numpy":
            continue
        loss = ops.value_and_grad(
            lambda layer=layer, inputs=inputs, training=training: ops.sum(
                ops.square(layer(inputs.value, training=training))
            ),
            variables=[inputs, *variables.values()],
        )
        gradients = dict(zip(["inputs", *variables], loss()[1], strict=True))
        for name, expected in theirs["gradients"].items():
            assert_outputs_close(gradients[name], expected, 1e-5)
        if not training:  # where Keras has none, the state is its own next value
            for name in ("inputs_scale", "kernel_amax_history"):
                assert name not in theirs["gradients"]
                np.testing.assert_array_equal(numpy_of(gradients[name]), variables[name].numpy())


def network(library, units=3):
    model = library.Sequential([
        library.Input((4, 6)), library.layers.Dense(5, activation="relu", name="first"),
        library.layers.EinsumDense("abc,cde->abde", (None, 2, units), bias_axes="e", name="last"),
    ])  # fmt: skip
    model.set_weights([w - 0.7 for w in random_weights([v.shape for v in model.weights])])
    return model


def trained(library, steps=4):
    """The losses and the variables after a few steps."""
    model = network(library)
    for layer in model.layers:
        layer.quantize("float8")
    model.compile(library.optimizers.SGD(0.05, momentum=0.9), "mse")
    data, target = x(8, 4, 6), x(8, 4, 2, 3, seed=2)
    losses = [float(np.asarray(model.train_on_batch(data, target))) for _ in range(steps)]
    return losses, [(v.path.split("/", 1)[1], np.array(v)) for v in model.trainable_variables]


def test_training_steps_are_keras(trains):
    (losses, variables), (their_losses, theirs) = trained(keraslite), _trained_by_keras()
    np.testing.assert_allclose(losses, their_losses, rtol=2e-5)
    assert [path for path, _ in variables] == [path for path, _ in theirs]
    for (path, ours), (_, expected) in zip(variables, theirs, strict=True):
        # e5m2 has two bits: a gradient may round to its other neighbour.
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5, err_msg=path)
    state = dict(variables)
    assert 0 < state["first/inputs_scale"] < 1  # it moved
    assert np.count_nonzero(state["first/outputs_grad_amax_history"]) == 4


@cache
def _trained_by_keras():
    return trained(keras)


def test_it_learns_and_goes_through_a_file(trains, tmp_path):
    policy = "float8_from_mixed_bfloat16"
    keraslite.utils.set_random_seed(0)
    data = x(64, 8)
    target = data @ x(8, 2, seed=3)
    model = Sequential([
        layers.Input((8,)), layers.Dense(16, "tanh", dtype=policy), layers.Dense(2, dtype=policy),
    ])  # fmt: skip
    model.compile(keraslite.optimizers.Adam(0.03), "mse")
    losses = model.fit(data, target, epochs=12, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    model.save(tmp_path / "m.keras")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert again.layers[0].dtype_policy == model.layers[0].dtype_policy
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = float(again.layers[0].kernel_scale.numpy())
    again.fit(data, target, epochs=1, batch_size=32, verbose=0)
    assert float(again.layers[0].kernel_scale.numpy()) != before


def test_the_length_of_the_history_and_the_order_of_files():
    stores, made = [], []
    for library in (layers, keras.layers):
        policies = keras.dtype_policies if library is keras.layers else keraslite.dtype_policies
        policy = policies.QuantizedFloat8DTypePolicy("float8", "float32", 8)
        layer = library.Dense(3, dtype=policy, name="d")
        layer.build((None, 4))
        layer.set_weights([np.full(v.shape, i, "float32") for i, v in enumerate(layer.weights)])
        store = {}
        layer.save_own_variables(store)
        stores.append({key: np.asarray(value) for key, value in store.items()})
        made.append(layer)
    assert [v.path for v in made[0].weights] == [v.path for v in made[1].weights]
    assert {k: v.tolist() for k, v in stores[0].items()} == {
        k: v.tolist() for k, v in stores[1].items()
    }
    assert plain_config(made[0].get_config()) == plain_config(made[1].get_config())
    saved = json.loads(json.dumps(layers.serialize(made[0])))
    assert keras.layers.deserialize(saved).inputs_amax_history.shape == (8,)
    assert layers.deserialize(saved).dtype_policy == QuantizedFloat8DTypePolicy(
        "float8", "float32", 8
    )


def test_configs_are_keras():
    for case in ("dense", "heads"):
        layer = quantized(layers, case)
        assert plain_config(layer.get_config()) == plain_config(keras_says(case, True)["config"])
    assert quantizers.Float8QuantizationConfig().get_config() == {}


def test_lora_over_float8_trains(trains):
    model = network(keraslite, units=2)
    model.quantize("float8")
    for layer in model.layers:
        layer.enable_lora(2)
    before = model.layers[0].base_weight.numpy()
    model.compile(keraslite.optimizers.Adam(0.03), "mse")
    data = x(16, 4, 6)
    target = np.repeat(data[..., :2, None], 2, axis=-1)
    losses = model.fit(data, target, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_array_equal(model.layers[0].base_weight.numpy(), before)


def test_embeddings_have_no_float8():
    for library in (layers, keras.layers):
        layer = library.Embedding(4, 2)
        layer.build((None,))
        with pytest.raises(NotImplementedError, match="int8"):
            layer.quantize("float8")
    assert layer.quantization_mode is None
