"""Weights in int4, per channel and in blocks, against the installed Keras."""

import json
from functools import cache

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_cases import assert_outputs_close, plain_config, random_weights, x
from quantization_cases import CASES, IDS, built, gradients_of, numpy_of

import keraslite
from keraslite import Model, Sequential, layers, ops, quantizers
from keraslite.quantizers import Int4QuantizationConfig

# What Keras's own weights say of numpy's newest rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
BLOCKS = {"channels": None, "blocks of 3": 3}
each_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
each_case = pytest.mark.parametrize(
    "case", ["dense", "heads", "joined", "turned", "shared", "embedding", "reversible"]
)


def quantized(library, case, block, **options):
    """A layer of a case in int4."""
    layer = built(library, case)
    configs = quantizers if library is layers else keras.quantizers
    layer.quantize(config=configs.Int4QuantizationConfig(block_size=block, **options))
    return layer


def with_update(layer):
    """Enable LoRA with values that are not zero."""
    layer.enable_lora(2, lora_alpha=3)
    trained = [v for v in layer.trainable_variables if "lora" in v.path]
    for v, value in zip(trained, random_weights([v.shape for v in trained]), strict=True):
        v.assign(value - 0.7)
    return layer


@cache
def keras_says(case, block):
    """Outputs, gradients and weights of Keras's layer."""
    layer, inputs = quantized(keras.layers, case, block), tf.constant(CASES[case][1])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = layer(inputs)
        total = tf.reduce_sum(out * out)
    sources = [inputs, *(v.value for v in layer.trainable_variables)]
    gradients = [g for g in tape.gradient(total, sources) if g is not None]
    named = [(v.path.rpartition("/")[2], v.numpy()) for v in layer.weights]
    return {
        "out": out.numpy(), "gradients": [tf.convert_to_tensor(g).numpy() for g in gradients],
        "weights": named, "config": layer.get_config(), "saved": keras.layers.serialize(layer),
    }  # fmt: skip


@each_case
@each_block
def test_numbers_names_weights_and_gradients_are_keras(case, block, backend):
    layer, theirs, inputs = quantized(layers, case, block), keras_says(case, block), CASES[case][1]
    assert_outputs_close(layer(inputs), theirs["out"], 1e-5)
    assert [v.path for v in layer.weights] == [f"here/{n}" for n, _ in theirs["weights"]]
    for ours, (_, expected) in zip(layer.get_weights(), theirs["weights"], strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)
    if backend != "numpy":
        assert_outputs_close(gradients_of(layer, case), theirs["gradients"], 1e-5)


@each_case
@pytest.mark.parametrize("block", [None, 128])  # a block of weights of one sign saturates
def test_the_weight_in_floats_is_near(case, block):
    exact, layer = built(layers, case), built(layers, case)
    for made in (exact, layer):
        made.set_weights([w - 0.75 for w in made.get_weights()])
    layer.quantize(config=Int4QuantizationConfig(block_size=block))
    name = layer.adapted_weight
    weight = numpy_of(getattr(exact, name))
    near = numpy_of(layer.effective_weight())
    assert near.shape == weight.shape
    assert np.abs(near - weight).max() <= 0.6 * np.abs(weight).max() / 7


@pytest.mark.parametrize(("case", "block"), [("dense", 128), ("heads", None), ("reversible", 3)])
def test_compiled_calls(case, block, backend):
    layer = quantized(layers, case, block)
    fast = ops.jit(lambda v: layer(v), variables=layer.variables)
    out = fast(ops.convert_to_tensor(CASES[case][1]))
    assert_outputs_close(out, keras_says(case, block)["out"], 1e-5)


@each_case
def test_configs_go_both_ways(case):
    for block in BLOCKS.values():
        layer, theirs = quantized(layers, case, block), keras_says(case, block)
        assert plain_config(layer.get_config()) == plain_config(theirs["config"])
        saved = json.loads(json.dumps(layers.serialize(layer)))
        other = keras.layers.deserialize(saved)
        other.set_weights(layer.get_weights())
        assert_outputs_close(np.asarray(other(CASES[case][1])), theirs["out"], 1e-6)
        again = layers.deserialize(json.loads(json.dumps(theirs["saved"])))
        again.set_weights([value for _, value in theirs["weights"]])
        assert_outputs_close(again(CASES[case][1]), theirs["out"], 1e-5)


@pytest.mark.parametrize("tied", [True, False])
@each_block
def test_scores_of_a_reversible_embedding(tied, block, backend):
    vectors, results = x(2, 3, 5), []
    for library, configs in ((layers, quantizers), (keras.layers, keras.quantizers)):
        for policy in ("float32", f"int4/{block or -1}_from_float32"):
            layer = library.ReversibleEmbedding(6, 5, tie_weights=tied, dtype=policy)
            layer.build((None, None))
            if policy == "float32":
                layer.set_weights(random_weights([w.shape for w in layer.weights]))
                layer.quantize(config=configs.Int4QuantizationConfig(block_size=block))
                weights = layer.get_weights()
            else:  # whose inputs are quantized: nothing says otherwise
                layer.set_weights(weights)
            results.append((layer(vectors, reverse=True), layer(IDS), layer.get_weights()))
    for (scores, rows, ours), (their_scores, their_rows, theirs) in zip(
        results[:2], results[2:], strict=True
    ):
        assert_outputs_close(scores, np.asarray(their_scores), 1e-5)
        assert_outputs_close(rows, np.asarray(their_rows), 1e-5)
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", ["dense", "heads"])
def test_the_quantizers_can_be_chosen(case, backend):
    outputs = []
    for library, configs in ((layers, quantizers), (keras.layers, keras.quantizers)):
        coarse = configs.AbsMaxQuantizer(axis=0, value_range=(-8, 7), epsilon=0.1)
        both = {"activation_quantizer": configs.AbsMaxQuantizer(value_range=(-15, 15))}
        if case == "dense":  # which Keras's EinsumDense does not look at
            both["weight_quantizer"] = coarse
        layer = quantized(library, case, None, **both)
        outputs.append(np.asarray(numpy_of(layer(CASES[case][1]))))
    assert_outputs_close(outputs[0], outputs[1], 1e-5)


def test_half_precision(backend):
    for case in ("dense", "heads", "embedding"):
        layer = built(layers, case, dtype="mixed_bfloat16")
        layer.quantize(config=Int4QuantizationConfig(block_size=3))
        out = layer(CASES[case][1])
        assert ops.dtype(out) == "bfloat16"
        assert layer.dtype_policy.name == "int4/3_from_mixed_bfloat16"
        assert_outputs_close(ops.cast(out, "float32"), keras_says(case, 3)["out"], 0.05, 0.02)


# ---- files ----

STORED = {"int8": {}, "int4": {"block_size": None}, "int4 in blocks": {"block_size": 3}}


@pytest.mark.parametrize("case", ["dense", "heads", "embedding"])
@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("lora", [False, True])
def test_what_a_layer_saves_is_keras(case, how, lora):
    """With LoRA the update is merged; both read what the other one saved."""
    stores, made = [], []
    for library, configs in ((layers, quantizers), (keras.layers, keras.quantizers)):
        name = "Int8QuantizationConfig" if how == "int8" else "Int4QuantizationConfig"
        layer, store = built(library, case), {}
        layer.quantize(config=getattr(configs, name)(**STORED[how]))
        layer = with_update(layer) if lora else layer
        layer.save_own_variables(store)
        stores.append({key: np.asarray(value) for key, value in store.items()})
        made.append(layer)
    ours, theirs = stores
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype
        # Both merge in float32, so that a number may round to its other neighbour.
        assert np.allclose(value, theirs[key], rtol=1e-5, atol=1e-6)
    made[0].load_own_variables(theirs)
    made[1].load_own_variables(ours)
    inputs = CASES[case][1]
    assert_outputs_close(made[0](inputs), np.asarray(made[1](inputs)), 1e-5)
    with pytest.raises(ValueError, match="variables to load"):
        made[0].load_own_variables({"0": theirs["0"]})


def network(library):
    inputs = library.Input((None,), dtype="int32")
    hidden = library.layers.Embedding(6, 5)(inputs)
    hidden = library.layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de")(hidden)
    hidden = library.layers.EinsumDense("abde,def->abf", (None, 4))(hidden)
    return library.Model(inputs, library.layers.Dense(3, name="head")(hidden))


def test_weights_of_keras_files(tmp_path):
    """The layers' groups in an h5 file are what `load_own_variables` takes, and the other way."""
    path = str(tmp_path / "w.weights.h5")
    theirs, ours = network(keras), network(keraslite)
    for layer in theirs.layers[1:]:
        layer.quantize(config=keras.quantizers.Int4QuantizationConfig(block_size=2))
    ours.quantize(config=Int4QuantizationConfig(block_size=2))
    groups = ("embedding", "einsum_dense", "einsum_dense_1", "dense")
    theirs.save_weights(path)
    with h5py.File(path, "r") as file:
        for layer, group in zip(ours.layers[1:], groups, strict=True):
            layer.load_own_variables(file[f"layers/{group}/vars"])
    assert_outputs_close(ours(IDS), np.asarray(theirs(IDS)), 1e-5)
    for layer in ours.layers[1:]:
        layer.set_weights([w + np.ones_like(w) for w in layer.get_weights()])
    with h5py.File(path, "r+") as file:
        for layer, group in zip(ours.layers[1:], groups, strict=True):
            store = {}
            layer.save_own_variables(store)
            for key, value in store.items():
                file[f"layers/{group}/vars"][key][...] = value
    theirs.load_weights(path)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def attention_model():
    inputs = layers.Input((3, 8))
    hidden = layers.MultiHeadAttention(2, 4, name="heads")(inputs, inputs)
    return Model(inputs, layers.Dense(2, name="head")(hidden))


def test_a_model_goes_through_a_file(backend, tmp_path):
    keraslite.utils.set_random_seed(0)
    model, data = attention_model(), x(2, 3, 8)
    before = numpy_of(model(data))
    model.quantize("int4")
    after = numpy_of(model(data))
    assert 0 < np.abs(after - before).max() < 0.3 * np.abs(before).max()
    model.save(tmp_path / "model.keras")
    again = keraslite.saving.load_model(tmp_path / "model.keras")
    assert [(w.path, w.dtype) for w in again.weights] == [(w.path, w.dtype) for w in model.weights]
    assert_outputs_close(again(data), after, 1e-6)


def test_a_policy_makes_and_quantizes_layers(backend):
    for policy, shapes in (
        ("int4_from_float32", [(5,), (7, 3), (5,)]),
        ("int4/-1_from_float32", [(5,), (7, 3), (5,)]),
        ("int4/3_from_float32", [(5,), (7, 3), (3, 5), (3, 5), (7,)]),
    ):
        for library in (layers, keras.layers):
            layer = library.Dense(5, dtype=policy)
            layer.build((None, 7))
            assert [tuple(w.shape) for w in layer.weights] == shapes
    layer = built(layers, "dense")
    layer.dtype_policy = "int4/3_from_float32"
    assert_outputs_close(layer(CASES["dense"][1]), keras_says("dense", 3)["out"], 1e-5)
    assert layer.dtype_policy.name == "int4/3_from_float32"


def test_bad_configs_are_refused():
    for configs in (quantizers, keras.quantizers):
        with pytest.raises(ValueError, match="block_size must be None"):
            configs.Int4QuantizationConfig(block_size=0)
        quantizer = configs.AbsMaxQuantizer()
        with pytest.raises(ValueError, match="quantizers"):
            configs.Int4QuantizationConfig(activation_quantizer=quantizer)
        with pytest.raises(ValueError, match=r"value_range=\(-8, 7\)"):
            configs.Int4QuantizationConfig(quantizer, block_size=None)
        config = configs.Int4QuantizationConfig(block_size=7).get_config()
        assert config["block_size"] == 7
        del config["block_size"]  # as in older files, which have no blocks
        assert configs.Int4QuantizationConfig.from_config(config).block_size is None


def test_lora_over_int4_trains_and_goes_through_a_file(trains, tmp_path):
    keraslite.utils.set_random_seed(0)
    data = x(64, 8)
    target = data @ x(8, 2, seed=3)
    model = Sequential([layers.Input((8,)), layers.Dense(16, "tanh"), layers.Dense(2)])
    model.quantize("int4")
    for layer in model.layers:
        layer.enable_lora(4)
        assert layer.lora_kernel_a.shape == (layer.weight_shape("kernel")[0], 4)
    base = [layer.base_weight.numpy() for layer in model.layers]
    model.compile(keraslite.optimizers.Adam(0.03), "mse")
    losses = model.fit(data, target, epochs=20, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.4 * losses[0]
    for layer, before in zip(model.layers, base, strict=True):
        np.testing.assert_array_equal(layer.base_weight.numpy(), before)
    model.save(tmp_path / "m.keras")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert_outputs_close(again(data), numpy_of(model(data)), 1e-6)
