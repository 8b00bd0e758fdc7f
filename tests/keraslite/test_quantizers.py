"""Weights in int8: numbers, gradients, configs and files, against the installed Keras."""

import copy
import inspect
import json
import pickle
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import BACKENDS
from layer_cases import assert_outputs_close, plain_config, random_weights, x
from quantization_cases import CASES, IDS, built, gradients_of, numpy_of

import keraslite
from keraslite import Model, Sequential, Variable, dtype_policies, layers, ops, quantizers, tree

# What Keras's own weights say of numpy's newest rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")
each_case = pytest.mark.parametrize("case", CASES)


def quantized(library, case, lora=False, **extra):
    """An int8 layer of a case."""
    layer = built(library, case, **extra)
    layer.quantize("int8")
    if lora:
        layer.enable_lora(2, lora_alpha=3)
        trained = [v for v in layer.trainable_variables if "lora" in v.path]
        for v, value in zip(trained, random_weights([v.shape for v in trained]), strict=True):
            v.assign(value)
    return layer


@cache
def keras_says(case, lora=False, **extra):
    """What Keras gives for a case: outputs, gradients, weights, config."""
    layer, inputs = quantized(keras.layers, case, lora, **extra), tf.constant(CASES[case][1])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = layer(inputs)
        total = tf.reduce_sum(out * out)
    sources = [inputs, *(v.value for v in layer.trainable_variables)]
    gradients = [g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(total, sources)]
    return {
        "out": out.numpy(), "gradients": [g if g is None else g.numpy() for g in gradients],
        "weights": layer.get_weights(), "names": [v.path.rpartition("/")[2] for v in layer.weights],
        "config": layer.get_config(), "saved": keras.layers.serialize(layer),
    }  # fmt: skip


@each_case
def test_numbers_names_and_weights_are_keras(case, backend):
    layer, theirs, inputs = quantized(layers, case), keras_says(case), CASES[case][1]
    assert_outputs_close(layer(inputs), theirs["out"], 1e-5)
    assert [v.path for v in layer.weights] == [f"here/{n}" for n in theirs["names"]]
    for ours, expected in zip(layer.get_weights(), theirs["weights"], strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)
    fast = ops.jit(lambda v: layer(v), variables=layer.variables)
    assert_outputs_close(fast(ops.convert_to_tensor(inputs)), theirs["out"], 1e-5)
    out = layer(layers.Input(batch_shape=(None, *inputs.shape[1:]), dtype=str(inputs.dtype)))
    assert (out.shape, out.dtype) == ((None, *theirs["out"].shape[1:]), "float32")


# Where Keras multiplies the right axes, and sums are not too long to compare.
LORA = ("dense", "dense relu", "dense of zeros", "heads", "joined", "embedding")


@pytest.mark.parametrize(("case", "lora"), [(c, False) for c in CASES] + [(c, True) for c in LORA])
def test_gradients_are_keras(case, lora, backend):
    layer, theirs = quantized(layers, case, lora), keras_says(case, lora)
    assert [v.path.rpartition("/")[2] for v in layer.weights] == theirs["names"]
    assert_outputs_close(layer(CASES[case][1]), theirs["out"], 1e-5)
    if backend != "numpy":
        expected = [g for g in theirs["gradients"] if g is not None]
        assert_outputs_close(gradients_of(layer, case), expected, 1e-5)


@each_case
def test_an_update_of_low_rank_is_added_to_the_dequantized_weight(case, backend):
    layer, inputs = quantized(layers, case, lora=True), CASES[case][1]
    if case == "dense tall":  # whose errors add up
        return
    exact = built(layers, case)
    name = layer.adapted_weight
    near = numpy_of(layer.effective_weight())
    update = numpy_of(ops.matmul(*(getattr(layer, f"lora_{name}_{s}") for s in "ab"))) * 1.5
    bound = np.abs(numpy_of(getattr(exact, name))).max() / 127
    assert np.abs(near - update - numpy_of(getattr(exact, name))).max() <= 0.51 * bound
    getattr(exact, name).assign(near)
    expected = numpy_of(exact(inputs))
    assert np.abs(numpy_of(layer(inputs)) - expected).max() <= 0.03 * (np.abs(expected).max() + 1)


def test_inputs_that_are_summed_alone(backend):
    """Keras has no gradient here: it is that of the weight in floats."""
    inputs, made = x(2, 5, 4), []
    for library in (layers, keras.layers):
        layer = library.EinsumDense("abc,cd->ad", 3, bias_axes="d")
        layer(inputs)
        layer.set_weights(random_weights([w.shape for w in layer.weights]))
        layer.quantize("int8")
        made.append(layer)
    layer, theirs = made
    assert_outputs_close(layer(inputs), np.asarray(theirs(inputs)), 1e-5)
    for ours, expected in zip(layer.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    if backend != "numpy":
        watched, upstream = Variable(inputs), x(2, 3, seed=5)
        loss = ops.value_and_grad(
            lambda: ops.sum(ops.multiply(layer(watched), upstream)), variables=[watched]
        )
        kernel = numpy_of(layer.effective_weight())
        expected = np.broadcast_to((upstream @ kernel.T)[:, None], inputs.shape)
        assert_outputs_close(loss()[1], [expected], 1e-5)


def test_configs_are_keras_and_either_is_read():
    for case in CASES:
        layer, theirs = quantized(layers, case), keras_says(case)
        assert plain_config(layer.get_config()) == plain_config(theirs["config"])
        for saved in (layers.serialize(layer), theirs["saved"]):
            again = layers.deserialize(json.loads(json.dumps(saved)))
            assert plain_config(again.get_config()) == plain_config(theirs["config"])
            assert again.dtype_policy == layer.dtype_policy
            assert [w.dtype for w in again.weights] == [w.dtype for w in layer.weights]


@pytest.mark.parametrize("case", ["dense", "heads", "embedding"])
def test_the_quantizers_can_be_chosen(case, backend):
    coarse = {"value_range": (-31, 31)}

    for given in (
        lambda source: {"activation_quantizer": None},
        lambda source: {"activation_quantizer": source.AbsMaxQuantizer(**coarse)},
    ):
        ours, theirs = (built(library, case) for library in (layers, keras.layers))
        ours.quantize(config=quantizers.Int8QuantizationConfig(**given(quantizers)))
        theirs.quantize(config=keras.quantizers.Int8QuantizationConfig(**given(keras.quantizers)))
        inputs = CASES[case][1]
        assert_outputs_close(ours(inputs), np.asarray(theirs(inputs)), 1e-5)
        assert plain_config(ours.get_config()) == plain_config(theirs.get_config())
        again = layers.deserialize(json.loads(json.dumps(layers.serialize(ours))))
        again.set_weights(ours.get_weights())
        assert_outputs_close(again(inputs), np.asarray(theirs(inputs)), 1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_scores_of_a_reversible_embedding(tied, backend):
    vectors, found = x(2, 3, 4), []
    for library in (layers, keras.layers):
        layer = library.ReversibleEmbedding(6, 4, tie_weights=tied, logit_soft_cap=2.0)
        layer.build((None, None))
        layer.set_weights(random_weights([w.shape for w in layer.weights]))
        layer.quantize("int8")
        found.append((layer(vectors, reverse=True), layer.get_weights()))
    (ours, weights), (theirs, expected) = found
    assert_outputs_close(ours, np.asarray(theirs), 1e-5)
    assert all((a == b).all() for a, b in zip(weights, expected, strict=True))
    layer = layers.ReversibleEmbedding(6, 4, tie_weights=tied)
    layer.build((None, None))
    layer.set_weights(random_weights([w.shape for w in layer.weights]))
    layer.quantize("int8")
    plain_scores = numpy_of(layer(vectors, reverse=True))
    layer.enable_lora(2, b_initializer="ones")
    update = numpy_of(ops.matmul(layer.lora_embeddings_a, layer.lora_embeddings_b))
    added = vectors @ update.T if tied else 0
    assert_outputs_close(layer(vectors, reverse=True), plain_scores + added, 1e-5)


def test_products_of_int8_are_exact(backend):
    rng = np.random.default_rng(0)
    for length in (1, 100, 1024, 1025, 5000):
        a = rng.integers(-128, 128, (3, length)).astype("int8")
        b = rng.integers(-128, 128, (length, 4)).astype("int8")
        a[0], b[:, 0], b[:, 1] = -128, -128, 127
        found = ops.matmul(ops.convert_to_tensor(a), ops.convert_to_tensor(b))
        assert ops.dtype(found) == "int32"
        np.testing.assert_array_equal(numpy_of(found), a.astype("int64") @ b.astype("int64"))


@pytest.mark.parametrize("case", ["dense", "einsum"])
def test_kernels_on_torch_lie_by_outputs_once(case, monkeypatch):
    from keraslite.backend.torch import products

    monkeypatch.setattr(products, "_int8_kernel", lambda: True)
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")

    def outputs(backend):
        with keraslite.use_backend(backend), keraslite.no_grad():
            keraslite.utils.set_random_seed(0)
            layer = layers.Dense(6) if case == "dense" else layers.EinsumDense(
                "abc,cde->abde", (None, 2, 3)
            )  # fmt: skip
            layer.build(x.shape)
            layer.quantize("int8")
            kernel = layer.kernel.numpy()
            out = keraslite.ops.convert_to_numpy(layer(x))
            np.testing.assert_array_equal(layer.kernel.numpy(), kernel)
            return layer, out

    layer, out = outputs("torch")
    np.testing.assert_allclose(out, outputs("numpy")[1], rtol=1e-5, atol=1e-6)
    kernel = layer.kernel.value
    assert kernel.reshape(8, -1).t().is_contiguous()
    with keraslite.no_grad():
        layer(x)
    assert layer.kernel.value.data_ptr() == kernel.data_ptr()


def test_half_precision(backend):
    for case in ("dense", "heads", "embedding"):
        layer = quantized(layers, case, dtype="mixed_bfloat16")
        out = layer(CASES[case][1])
        assert ops.dtype(out) == "bfloat16"
        assert layer.dtype_policy.name == "int8_from_mixed_bfloat16"
        assert_outputs_close(ops.cast(out, "float32"), keras_says(case)["out"], 0.05, 0.02)


def test_an_unknown_batch_in_a_tensorflow_graph():
    with keraslite.use_backend("tensorflow"):
        for case in CASES:
            layer, (_, inputs, _) = quantized(layers, case), CASES[case]
            spec = tf.TensorSpec((None, *inputs.shape[1:]), inputs.dtype)
            graph = tf.function(layer, input_signature=[spec], autograph=False)
            assert_outputs_close(graph(inputs), keras_says(case)["out"], 1e-5)


# ---- functions and policies ----


@pytest.mark.parametrize("axis", [0, -1, (0, 2)])
@pytest.mark.parametrize("to_numpy", [False, True])
def test_abs_max(axis, to_numpy, backend):
    data = x(3, 4, 5)
    for given in ({}, {"value_range": (-8, 7), "epsilon": 1e-3}):
        found = quantizers.abs_max_quantize(data, axis, to_numpy=to_numpy, **given)
        expected = keras.quantizers.abs_max_quantize(data, axis, to_numpy=to_numpy, **given)
        again = quantizers.AbsMaxQuantizer(axis, **given)(ops.convert_to_tensor(data))
        for ours, same, theirs in zip(found, again, expected, strict=True):
            assert ops.dtype(ours) == theirs.dtype.name
            np.testing.assert_array_equal(numpy_of(ours), np.asarray(theirs))
            np.testing.assert_array_equal(numpy_of(same), np.asarray(theirs))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8(dtype, backend):
    data = x(40) * 1000
    for scale in (1.0, 0.05):
        found = quantizers.quantize_and_dequantize(data, scale, dtype, "float32")
        expected = keras.quantizers.quantize_and_dequantize(data, scale, dtype, "float32")
        assert_outputs_close(found, np.asarray(expected), 1e-6)
    history = np.array([4.0, 2.0, 1.0], "float32")
    found = quantizers.compute_float8_amax_history(data, history)
    assert_outputs_close(
        found, np.asarray(keras.quantizers.compute_float8_amax_history(data, history)), 0
    )
    for amax in (3.0, 0.0, np.inf, np.nan):
        given = (np.float32(amax), np.float32(2.0), np.float32(448.0), 1)
        found = quantizers.compute_float8_scale(*given)
        assert_outputs_close(found, np.asarray(keras.quantizers.compute_float8_scale(*given)), 1e-6)


def test_signatures_configs_and_names_are_keras():
    for name, ours in vars(quantizers).items():
        theirs = getattr(keras.quantizers, name, None)
        if theirs is None or name.startswith("_") or name in ("get", "serialize"):
            continue
        ours, theirs = (inspect.signature(f).parameters for f in (ours, theirs))
        assert [(p.name, p.default) for p in ours.values()] == [
            (p.name, p.default) for p in theirs.values()
        ], name
    for made in ({}, {"axis": 1}, {"value_range": (-3, 3), "epsilon": 0.1}):
        config = quantizers.AbsMaxQuantizer(**made).get_config()
        assert config == keras.quantizers.AbsMaxQuantizer(**made).get_config()
        assert quantizers.AbsMaxQuantizer.from_config(config).get_config() == config
    assert type(quantizers.get("AbsMaxQuantizer")) is quantizers.AbsMaxQuantizer
    saved = quantizers.serialize(quantizers.AbsMaxQuantizer(0))
    assert quantizers.deserialize(saved).axis == (0,)
    with pytest.raises(ValueError, match=r"within \[-128, 127\]"):
        quantizers.AbsMaxQuantizer(value_range=(-200, 200))
    with pytest.raises(ValueError, match="output_dtype='int8'"):
        quantizers.Int8QuantizationConfig(quantizers.Quantizer("int4"))


def test_policies_are_keras():
    for source in ("float32", "mixed_bfloat16", "bfloat16"):
        policy = dtype_policies.get(f"int8_from_{source}")
        theirs = keras.dtype_policies.get(f"int8_from_{source}")
        for name in ("name", "compute_dtype", "variable_dtype", "quantization_mode"):
            assert getattr(policy, name) == getattr(theirs, name)
        assert policy.get_config() == theirs.get_config()
        assert repr(policy) == repr(theirs)
        assert policy == dtype_policies.QuantizedDTypePolicy("int8", source) != source
        for saved in (keras.dtype_policies.serialize(theirs), policy.get_config()):
            assert dtype_policies.get(saved) == policy
    assert dtype_policies.QuantizedDTypePolicy("int8").name == "int8_from_float32"
    for bad in ("int8_from_float16", "int8_from_mixed_float16", "int3_from_float32"):
        with pytest.raises(ValueError, match="uantization mode"):
            dtype_policies.get(bad)


# ---- models ----


class Classifier(Model):
    """A model whose layers its config does not list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = layers.Embedding(6, 8)
        self.attend = layers.MultiHeadAttention(2, 4)
        self.heads = [layers.Dense(3, name="head"), layers.Dense(2)]

    def call(self, tokens):
        hidden = self.embed(tokens)
        hidden = self.attend(hidden, hidden)
        return [head(hidden) for head in self.heads]


class Around(layers.Wrapper):
    """A layer in whose config another one stands."""

    def call(self, inputs):
        return self.layer(inputs)


def functional():
    inputs = layers.Input((3, 8))
    hidden = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    hidden = Around(layers.Dense(4, activation="relu", name="inner"))(hidden)
    return Model(inputs, layers.Dense(2, name="head")(hidden))


MODELS = {
    "sequential": (lambda: Sequential([layers.Dense(4, name="first"), layers.Dense(2)]), x(5, 3)),
    "functional": (functional, x(2, 3, 8)),
    "subclass": (Classifier, IDS),
}
each_model = pytest.mark.parametrize("which", MODELS)


def outputs(model, data):
    return [numpy_of(v) for v in tree.flatten(model(data))]


def made(which):
    make, data = MODELS[which]
    model = make()
    model(data)
    return model, data


@each_model
def test_a_quantized_model_is_near_and_goes_through_a_file_to_any_backend(which, backend, tmp_path):
    model, data = made(which)
    before = outputs(model, data)
    size = sum(w.numpy().nbytes for w in model.weights)
    model.quantize("int8")
    after = outputs(model, data)
    for a, b in zip(after, before, strict=True):
        assert 0 < np.abs(a - b).max() < 0.1 * np.abs(b).max()
    assert sum(w.numpy().nbytes for w in model.weights) < 0.75 * size
    assert model.get_weights()  # all of them made
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "w.safetensors")
    custom = {"Classifier": Classifier, "Around": Around}
    for target in BACKENDS:
        again = keraslite.saving.load_model(tmp_path / "model.keras", custom, backend=target)
        assert [w.dtype for w in again.weights] == [w.dtype for w in model.weights]
        assert_outputs_close(outputs(again, data), after, 1e-5)
        again.to_backend(backend)
        assert_outputs_close(outputs(again, data), after, 1e-5)
        again.save(tmp_path / "second.keras")  # what was loaded can be saved again
        third = keraslite.saving.load_model(tmp_path / "second.keras", custom, backend=target)
        assert_outputs_close(outputs(third, data), after, 1e-5)
    with pytest.raises(ValueError, match="does not fit"):
        made(which)[0].load_weights(tmp_path / "w.safetensors")


@each_model
def test_copies(which, backend):
    model, data = made(which)
    model.quantize("int8")
    after = outputs(model, data)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_outputs_close(outputs(again, data), after, 1e-6)


def test_filters(backend):
    def names(**given):
        model, _ = made("functional")
        model.quantize("int8", **given)
        return [x.name for x in model.flatten_layers() if x.quantization_mode is not None]

    every = ["query", "key", "value", "attention_output", "inner", "head"]
    assert names() == every
    assert names(filters="^head$") == ["head"]
    assert names(filters=["^in", "query"]) == ["query", "inner"]
    assert names(filters=lambda layer: layer.name != "head") == every[:-1]
    with pytest.raises(ValueError, match="`filters` must be"):
        names(filters=3)
    with pytest.warns(UserWarning, match="no layer to quantize"):
        assert names(filters="nothing") == []


def test_bad_calls_say_so_and_change_nothing(backend):
    layer = layers.Dense(2)
    with pytest.raises(ValueError, match="isn't yet built"):
        layer.quantize("int8")
    layer.build((None, 3))
    for mode in ("int5", None):
        with pytest.raises(ValueError, match="Invalid quantization mode"):
            layer.quantize(mode)
    with pytest.raises(ValueError, match="must be a QuantizationConfig"):
        layer.quantize("int8", config={"mode": "int8"})
    with pytest.raises(ValueError, match="Contradictory"):
        layer.quantize("float8", config=quantizers.Int8QuantizationConfig())
    layer.quantize("int8")
    with pytest.raises(ValueError, match="already quantized"):
        layer.quantize("int8")
    half = layers.Dense(2, dtype="float16")
    half.build((None, 3))
    with pytest.raises(ValueError, match="float16"):
        half.quantize("int8")
    assert half.kernel.dtype == "float16"
    with pytest.raises(NotImplementedError, match="no quantized form"):
        layers.Dropout(0.5).quantize("int8")
    model, _ = made("sequential")
    with pytest.raises(ValueError, match="Invalid quantization mode"):
        model.quantize("int5")
    with pytest.raises(ValueError, match="does not know"):
        model.quantize("int8", surprise=1)
    model.layers[1].quantize("int8")
    with pytest.raises(ValueError, match="already quantized"):
        model.quantize("int8")
    assert model.layers[0].quantization_mode is None
    with pytest.raises(ValueError, match="isn't yet built"):
        Sequential([layers.Dense(2)]).quantize("int8")


class Doubled(layers.Dense):
    """Reads the kernel itself."""

    def call(self, inputs):
        return 2 * ops.matmul(inputs, self.kernel)


def test_a_subclass_is_left_alone_unless_asked_for(backend):
    model = Sequential([Doubled(3), layers.Dense(2)])
    model(x(5, 4))
    with pytest.raises(NotImplementedError, match="no quantized form"):
        model.layers[0].quantize("int8")
    with pytest.warns(UserWarning, match="left as it is"):
        model.quantize("int8")
    assert [layer.quantization_mode for layer in model.layers] == [None, "int8"]
    model.layers[0].quantize("int8", type_check=False)
    assert model.layers[0].kernel.dtype == "int8"


def test_a_layer_whose_weight_another_one_reads_is_left_alone(backend):
    normal = layers.SpectralNormalization(layers.Dense(3))
    model = Sequential([layers.Input((4,)), normal, layers.Dense(2)])
    with pytest.warns(UserWarning, match="shares its weight"):
        model.quantize("int8")
    assert normal.layer.quantization_mode is None
    assert model.layers[1].quantization_mode == "int8"


def fitted(model, epochs):
    data = x(64, 8)
    target = data @ x(8, 2, seed=3)
    return model.fit(data, target, epochs=epochs, batch_size=32, verbose=0).history["loss"]


def regression():
    return Sequential([layers.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(2)])


@pytest.mark.parametrize("first", ["lora", "int8"])
def test_lora_over_int8_trains_and_the_base_stays(first, backend):
    if backend == "numpy":
        return
    model = regression()
    if first == "int8":
        model.quantize("int8")
    for layer in model.layers:
        layer.enable_lora(4)
    if first == "lora":
        model.quantize("int8")
    base = [layer.base_weight.numpy() for layer in model.layers]
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.compile("adam", "mse")
    model.optimizer.learning_rate = 0.03
    losses = fitted(model, 30)
    assert losses[-1] < 0.2 * losses[0]
    for layer, before in zip(model.layers, base, strict=True):
        assert layer.base_weight.dtype == "int8"
        np.testing.assert_array_equal(layer.base_weight.numpy(), before)


def test_lora_rank_in_the_constructor_of_a_quantized_layer(backend, tmp_path):
    layer = layers.Dense(3, dtype="int8_from_float32", lora_rank=2, lora_alpha=4)
    model = Sequential([layers.Input((5,)), layer])
    layer.lora_kernel_b.assign(np.ones((2, 3), "float32"))
    assert [w.dtype for w in layer.weights] == ["float32"] * 3 + ["int8", "float32"]
    model.save(tmp_path / "m.keras")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert again.layers[0].lora_alpha == 4
    assert_outputs_close(again(x(2, 5)), numpy_of(model(x(2, 5))), 1e-6)


def test_a_model_in_training_is_quantized_and_goes_on(backend, tmp_path):
    if backend == "numpy":
        return
    model = regression()
    model.compile("adam", "mse")
    fitted(model, 2)
    before = model.predict(x(4, 8), verbose=0)
    model.quantize("int8")
    after = model.predict(x(4, 8), verbose=0)  # not by what was compiled before
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    assert_outputs_close(after, numpy_of(model(x(4, 8))), 1e-5)
    losses = fitted(model, 3)  # the biases are left
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m.keras")
    again = keraslite.saving.load_model(tmp_path / "m.keras")
    assert_outputs_close(again.predict(x(4, 8), verbose=0), model.predict(x(4, 8), verbose=0), 1e-6)
    assert int(again.optimizer.iterations) == 6


def test_setting_a_policy_takes_names_and_quantizes(backend):
    layer = layers.Dense(2)
    layer.build((None, 3))
    layer.dtype_policy = "mixed_bfloat16"
    assert (layer.compute_dtype, layer.variable_dtype) == ("bfloat16", "float32")
    layer.dtype_policy = "float32"
    x = np.arange(6, dtype="float32").reshape(2, 3)
    expected = ops.convert_to_numpy(layer(x))
    layer.dtype_policy = "int8_from_float32"
    assert layer.kernel.dtype == "int8" and layer.quantization_mode == "int8"
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=0.1)
    fresh = layers.Dense(2)
    fresh.dtype_policy = "int8_from_mixed_bfloat16"
    fresh.build((None, 3))
    assert fresh.kernel.dtype == "int8"


def test_a_policy_without_a_name_is_the_global_one():
    keraslite.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert keraslite.dtype_policies.DTypePolicy().name == "mixed_bfloat16"
        assert keraslite.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keraslite.config.set_dtype_policy(None)
    assert keraslite.FloatDTypePolicy("float32") == keraslite.dtype_policies.DTypePolicy()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 3), 0), ((5, 3), 0), ((3, 5, 2), 1), ((2, 7), -1)]
)
def test_integers_of_four_bits_are_packed_as_by_keras(backend, shape, axis, dtype):
    low = -8 if dtype == "int8" else 0
    values = np.random.default_rng(0).integers(low, low + 16, shape).astype(dtype)
    packed, packed_shape, size = quantizers.pack_int4(ops.convert_to_tensor(values), axis, dtype)
    want, want_shape, want_size = keras.quantizers.pack_int4(values, axis, dtype)
    np.testing.assert_array_equal(ops.convert_to_numpy(packed), want.numpy())
    assert (packed_shape, size) == (want_shape, want_size)
    again = quantizers.unpack_int4(packed, size, axis, dtype)
    assert ops.dtype(again) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(again), values)


def test_what_is_packed_is_checked():
    with pytest.raises(ValueError, match="'int8' or 'uint8'"):
        quantizers.pack_int4(np.ones(2, "int8"), dtype="int16")
    for function in (quantizers.pack_int4, lambda x: quantizers.unpack_int4(x, 2)):
        with pytest.raises(TypeError, match="a tensor of int8, got float32"):
            function(np.ones(2, "float32"))
