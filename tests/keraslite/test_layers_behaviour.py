"""What layers do beyond one call: masks, noise, frozen states, adapters, configs, frameworks."""

import copy
import json
import pickle
import random
from functools import partial

import compare
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from backends import BACKENDS
from layer_cases import ids, mask, x

import keraslite
from keraslite import Variable, layers, masking, ops, registry, use_backend

# Keras says so of layers that end a mask; here that is not worth a warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")
TOKENS = np.array([[3, 1, 4, 0], [1, 5, 0, 0]], "int32")


def numpy_of(v):
    return ops.convert_to_numpy(v)


assert_close = partial(compare.assert_close, rtol=1e-5, atol=1e-5)


def keras_mask(v):
    found = getattr(v, "_keras_mask", None)
    return None if found is None else np.asarray(found)


# ---- masks ----


def masked_chain(library, name, **kwargs):
    """A layer behind one that masks, and what comes out of both libraries alike."""
    made = getattr(library.layers if library is keras else layers, name)(**kwargs)
    source = (keras.layers if library is keras else layers).Masking()
    data = x(2, 4, 6)
    data[0, 3], data[1, 2:] = 0, 0
    return made, source(data)


ALONE = [
    ("Activation", {"activation": "softmax"}),
    ("ActivityRegularization", {}),
    ("BatchNormalization", {}),
    ("Dense", {"units": 3}),
    ("Dropout", {"rate": 0.5}),
    ("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 3)}),
    ("ELU", {}),
    ("Flatten", {}),
    ("GaussianNoise", {"stddev": 0.5}),
    ("GlobalAveragePooling1D", {}),
    ("GlobalMaxPooling1D", {}),
    ("GroupNormalization", {"groups": 2}),
    ("Identity", {}),
    ("LayerNormalization", {}),
    ("Permute", {"dims": (2, 1)}),
    ("PReLU", {}),
    ("Reshape", {"target_shape": (6, 4)}),
    ("RMSNormalization", {}),
    ("UnitNormalization", {}),
    ("ZeroPadding1D", {}),
]


@pytest.mark.parametrize(("name", "kwargs"), ALONE, ids=[n for n, _ in ALONE])
def test_a_layer_keeps_uses_or_ends_a_mask_as_keras_does(name, kwargs, backend):
    theirs, their_input = masked_chain(keras, name, **kwargs)
    ours, our_input = masked_chain(None, name, **kwargs)
    expected, found = theirs(their_input), ours(our_input)
    ours.set_weights(theirs.get_weights())
    found = ours(our_input)
    assert_close(found, expected)
    expected, found = keras_mask(expected), masking.get_mask(found)
    assert (expected is None) == (found is None)
    if expected is not None:
        np.testing.assert_array_equal(numpy_of(found), expected)


@pytest.mark.parametrize("which", ["both", "first", "none"])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("Add", {}), ("Multiply", {}), ("Average", {}), ("Maximum", {}), ("Minimum", {}),
     ("Subtract", {}), ("Concatenate", {}), ("Concatenate", {"axis": 1}), ("Dot", {"axes": 1})],
)  # fmt: skip
def test_merging_masked_inputs(name, kwargs, which, backend):
    a, b = x(2, 4, 3), x(2, 4, 3, seed=1)
    a[0, 3], b[1, 2:] = 0, 0

    def inputs(library):
        source = library.Masking()
        return [source(a) if which != "none" else library.Identity()(a),
                source(b) if which == "both" else library.Identity()(b)]  # fmt: skip

    expected = getattr(keras.layers, name)(**kwargs)(inputs(keras.layers))
    found = getattr(layers, name)(**kwargs)(inputs(layers))
    assert_close(found, expected)
    seen, wanted = masking.get_mask(found), keras_mask(expected)
    assert (seen is None) == (wanted is None)
    if wanted is not None:
        np.testing.assert_array_equal(numpy_of(seen), wanted)


def attended(library, which):
    embed = library.Embedding(6, 8, mask_zero=True, weights=x(6, 8))

    def inputs():  # anew for each call: Keras's layers take the masks off what they are given
        return [embed(TOKENS), embed(TOKENS[:, ::-1].copy())]

    if which == "Attention":
        return library.Attention(use_scale=True)(inputs())
    if which == "grouped":
        layer = library.GroupQueryAttention(4, 4, 2)
    else:
        layer = library.MultiHeadAttention(2, 4)
    layer(*inputs())
    layer.set_weights([x(*w.shape) for w in layer.get_weights()])
    return layer(*inputs(), use_causal_mask=which == "causal")


@pytest.mark.parametrize("which", ["heads", "causal", "grouped", "Attention"])
def test_attention_reads_the_masks_of_its_inputs(which, backend):
    found, expected = attended(layers, which), attended(keras.layers, which)
    assert_close(found, expected)
    np.testing.assert_array_equal(numpy_of(masking.get_mask(found)), TOKENS != 0)


def test_masks_reach_the_layers_of_a_functional_model(backend):
    from keraslite import models

    inputs = layers.Input((4,), dtype="int32")
    hidden = layers.Embedding(6, 8, mask_zero=True)(inputs)
    hidden = layers.Dense(5)(layers.LayerNormalization()(hidden))
    model = models.Model(inputs, layers.GlobalAveragePooling1D()(hidden))
    longer = np.concatenate([TOKENS, np.zeros_like(TOKENS)[:, :0]], 1)
    changed = longer.copy()
    np.testing.assert_array_equal(numpy_of(model(longer)), numpy_of(model(changed)))
    embedding, norm, dense = (model.layers[i] for i in (1, 2, 3))
    steps = numpy_of(dense(norm(embedding(TOKENS))))
    seen = (TOKENS != 0)[..., None]
    assert_close(model(TOKENS), (steps * seen).sum(1) / seen.sum(1))


def test_masks_survive_the_cast_of_a_half_precision_layer(backend):
    hidden = layers.Embedding(6, 8, mask_zero=True)(TOKENS)
    out = layers.Dense(3, dtype="mixed_bfloat16")(hidden)
    np.testing.assert_array_equal(numpy_of(masking.get_mask(out)), TOKENS != 0)


def test_embedding_mask_and_way_back(backend):
    layer = layers.ReversibleEmbedding(6, 3, mask_zero=True)
    out = layer(TOKENS)
    np.testing.assert_array_equal(numpy_of(masking.get_mask(out)), TOKENS != 0)
    logits = layer(out, reverse=True)
    assert_close(logits, numpy_of(out) @ layer.embeddings.numpy().T)


def test_softmax_refuses_a_mask_that_enlarges(backend):
    with pytest.raises(ValueError, match="broadcastable"):
        layers.Softmax()(x(2, 1), mask=np.ones((2, 3), bool))


# ---- noise ----


NOISE = {
    "Dropout": {"rate": 0.4},
    "SpatialDropout1D": {"rate": 0.4},
    "AlphaDropout": {"rate": 0.4},
    "GaussianDropout": {"rate": 0.4},
    "GaussianNoise": {"stddev": 0.4},
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_the_same_on_every_backend(name):
    found = []
    for backend in BACKENDS:
        with use_backend(backend):
            layer = getattr(layers, name)(**NOISE[name], seed=7)
            found.append([numpy_of(layer(x(3, 5, 4), training=True)) for _ in range(2)])
    assert not np.allclose(found[0][0], found[0][1]), "the next call draws anew"
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)


def test_dropout_scales_what_is_left(backend):
    data = np.ones((200, 500), "float32")
    out = numpy_of(layers.Dropout(0.3, seed=1)(data, training=True))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((out == 0).mean() - 0.3) < 0.005
    assert not numpy_of(layers.Dropout(1.0)(data, training=True)).any()


def test_dropout_masks_are_shared_along_axes_of_size_one(backend):
    data = np.ones((8, 5, 9), "float32")
    out = numpy_of(layers.Dropout(0.5, noise_shape=(None, 1, None), seed=1)(data, training=True))
    assert (out == out[:, :1]).all()
    assert 0 < (out == 0).mean() < 1
    out = numpy_of(layers.SpatialDropout1D(0.5, seed=1)(data, training=True))
    assert (out == out[:, :1]).all()
    images = np.ones((4, 7, 3, 3), "float32")
    for form, channels in (("channels_first", 1), ("channels_last", 3)):
        layer = layers.SpatialDropout2D(0.5, data_format=form, seed=1)
        out = np.moveaxis(numpy_of(layer(images, training=True)), channels, -1)
        assert (out == out[:, :1, :1]).all()


def test_alpha_dropout_keeps_mean_and_variance(backend):
    data = np.random.default_rng(0).standard_normal((300, 300)).astype("float32")
    out = numpy_of(layers.AlphaDropout(0.3, seed=1)(data, training=True))
    assert abs(out.mean()) < 0.02
    assert abs(out.std() - 1) < 0.02


def test_the_state_of_a_generator_is_no_weight_but_moves_on(backend):
    layer = layers.Dropout(0.5, seed=3)
    assert layer.weights == []
    assert len(layer.non_trainable_variables) == 1
    before = np.array(layer.seed_generator.state.numpy())
    layer(x(2, 3))
    np.testing.assert_array_equal(layer.seed_generator.state.numpy(), before)
    layer(x(2, 3), training=True)
    assert (layer.seed_generator.state.numpy() != before).any()


def test_attention_dropout_is_off_in_inference_and_equal_on_every_backend():
    found = []
    for backend in BACKENDS:
        with use_backend(backend):
            layer = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=5, kernel_initializer="ones")
            plain = layers.MultiHeadAttention(2, 4, kernel_initializer="ones")
            data = x(2, 5, 8)
            assert_close(layer(data, data), numpy_of(plain(data, data)))
            found.append(numpy_of(layer(data, data, training=True)))
            assert not np.allclose(found[-1], numpy_of(plain(data, data)))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-5)


def test_dropout_in_a_tensorflow_graph_with_an_unknown_batch():
    with use_backend("tensorflow"):
        layer = layers.Dropout(0.5, seed=1)
        call = tf.function(
            lambda v: layer(v, training=True), input_signature=[tf.TensorSpec([None, 4])]
        )
        assert (call(tf.ones((100, 4))).numpy() == 0).any()


# ---- states ----


def test_frozen_batch_normalization_runs_as_in_inference(backend):
    layer = layers.BatchNormalization()
    layer(x(4, 3), training=True)
    layer.trainable = False
    state = layer.get_weights()
    assert layer.trainable_variables == []
    assert_close(layer(x(4, 3), training=True), numpy_of(layer(x(4, 3), training=False)))
    for before, after in zip(state, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_batch_normalization_of_half_precision_keeps_its_statistics_in_float32(backend):
    layer = layers.BatchNormalization(dtype="mixed_float16")
    out = layer(x(64, 3) * 300, training=True)  # the squares overflow in float16
    assert ops.dtype(out) == "float16"
    assert np.isfinite(numpy_of(ops.cast(out, "float32"))).all()
    assert [ops.dtype(v) for v in layer.weights] == ["float32"] * 4


def test_weights_are_the_same_on_every_backend():
    found = []
    for backend in BACKENDS:
        with use_backend(backend):
            layer = layers.Conv2D(3, 2, kernel_initializer=init("HeNormal"))
            layer.build((None, 4, 4, 2))
            found.append(layer.kernel.numpy())
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6)


def init(name):
    from keraslite import initializers

    return getattr(initializers, name)(seed=4)


def test_projections_of_one_attention_start_apart(backend):
    layer = layers.MultiHeadAttention(2, 4)
    layer.build((None, 3, 8), (None, 3, 8))
    query, key = layer.query_dense.kernel.numpy(), layer.key_dense.kernel.numpy()
    assert not np.allclose(query, key)
    limit = np.sqrt(6 / (8 + 8))  # Glorot: 8 inputs, and 2 heads of 4 outputs
    assert 0.8 * limit < np.abs(query).max() <= limit


def test_build_by_hand_names_and_finishes_a_layer(backend):
    class Block(layers.Layer):
        def build(self, input_shape):
            self.inner = layers.Dense(3, name="inner")
            self.inner.build(input_shape)
            assert self.inner.built

        def call(self, inputs):
            return self.inner(inputs)

    block = Block(name="block")
    block.build((None, 4))
    assert block.built
    assert [v.path for v in block.weights] == ["block/inner/kernel", "block/inner/bias"]
    kernel = block.inner.kernel
    assert block(x(2, 4)).shape == (2, 3)
    assert block.inner.kernel is kernel


# ---- adapters ----


@pytest.mark.parametrize(
    ("name", "args", "data"),
    [("Dense", (3,), x(2, 4)), ("EinsumDense", ("ab,bc->ac", 3), x(2, 4)),
     ("Embedding", (6, 4), ids(2, 5)), ("Conv1D", (3, 2), x(2, 5, 4))],
)  # fmt: skip
def test_lora_changes_nothing_at_first_and_trains_two_small_matrices(name, args, data, backend):
    layer = getattr(layers, name)(*args)
    before = numpy_of(layer(data))
    with pytest.raises(ValueError, match="isn't yet built"):
        getattr(layers, name)(*args).enable_lora(2)
    layer.enable_lora(2, lora_alpha=4)
    assert_close(layer(data), before)
    big = "embeddings" if name == "Embedding" else "kernel"
    trained = {v.name for v in layer.trainable_variables}
    assert {f"lora_{big}_a", f"lora_{big}_b"} <= trained
    assert big not in trained
    getattr(layer, f"lora_{big}_b").assign(
        np.ones(getattr(layer, f"lora_{big}_b").shape, "float32")
    )
    a, b = (getattr(layer, f"lora_{big}_{s}").numpy() for s in "ab")
    changed = numpy_of(layer(data))
    merged = getattr(layers, name)(*args)
    merged(data)
    rest = [v.numpy() for v in layer.weights if v.name == "bias"]
    merged.set_weights([layer.base_weight.numpy() + a @ b * 2, *rest])
    assert_close(changed, numpy_of(merged(data)))
    assert_close(numpy_of(getattr(layer, big)), numpy_of(getattr(merged, big)))
    assert layer.get_config()["lora_rank"] == 2
    with pytest.raises(ValueError, match="already enabled"):
        layer.enable_lora(2)
    layer.disable_lora(merge=True)
    assert_close(numpy_of(layer(data)), changed)
    assert getattr(layer, big) is layer.base_weight
    assert big in {v.name for v in layer.trainable_variables}
    assert len(layer.weights) == len(merged.weights)
    assert "lora_rank" not in layer.get_config()
    with pytest.raises(ValueError, match="is not enabled"):
        layer.disable_lora()
    getattr(layer, big).trainable = False
    layer.enable_lora(3, b_initializer="ones")
    layer.disable_lora()
    assert_close(numpy_of(layer(data)), changed)
    assert big not in {v.name for v in layer.trainable_variables}


def test_code_that_reads_a_kernel_takes_the_update_along(trains):
    class Scaled(layers.Dense):
        def call(self, x):
            return ops.matmul(x, self.kernel) * 2.0

    layer, data = Scaled(3, use_bias=False), x(2, 4)
    with pytest.raises(AttributeError, match="has no 'kernel' before it is built"):
        layer.kernel
    assert not hasattr(layer, "kernel")
    layer(data)
    layer.enable_lora(2, b_initializer="ones")
    want = data @ (layer.base_weight.numpy() + layer.lora_kernel_a.numpy() @ np.ones((2, 3))) * 2.0
    assert_close(numpy_of(layer(data)), want.astype("float32"))
    model = keraslite.Sequential([layer])
    model.compile("sgd", "mse")
    before = layer.base_weight.numpy()
    update = layer.lora_kernel_b.numpy()
    model.fit(data, np.ones((2, 3)), verbose=0)
    assert_close(layer.base_weight, before)
    assert np.abs(layer.lora_kernel_b.numpy() - update).min() > 0
    layer.base_weight.assign(np.zeros((4, 3)))
    assert_close(numpy_of(layer.kernel), numpy_of(layer.weight_update()))


def test_int8_weights_are_read_in_floats_with_an_update(backend):
    layer = layers.Dense(3)
    layer(x(2, 4))
    before = layer.kernel.numpy()
    layer.quantize("int8")
    assert layer.kernel.dtype == "int8"
    layer.enable_lora(2)
    assert layer.base_weight.dtype == "int8"
    assert_close(numpy_of(layer.kernel), before, rtol=0, atol=np.abs(before).max() / 127)


def test_convolutions_that_would_not_use_an_update_have_none(backend):
    for name in ("DepthwiseConv1D", "SeparableConv1D", "Conv1DTranspose"):
        args = (2,) if name == "DepthwiseConv1D" else (3, 2)
        assert not hasattr(getattr(layers, name)(*args), "enable_lora")
        with pytest.raises(ValueError, match="lora_rank"):
            getattr(layers, name)(*args, lora_rank=2)
        with pytest.raises(ValueError, match="lora_rank"):
            getattr(keras.layers, name)(*args, lora_rank=2)


def test_spectral_normalization_takes_the_weight_itself(trains):
    inner = layers.Dense(3)
    inner(x(2, 4))
    inner.enable_lora(2)
    layer, before = (
        layers.SpectralNormalization(inner, power_iterations=50),
        inner.base_weight.numpy(),
    )
    layer(x(2, 4), training=True)
    assert layer.kernel is inner.base_weight
    assert_close(inner.base_weight.numpy(), before / np.linalg.norm(before, 2))


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
def test_rms_scaling_scales_and_never_shifts(backend, options):
    data = x(2, 4)
    with pytest.warns(UserWarning, match="rms_scaling"):
        theirs = keras.layers.LayerNormalization(rms_scaling=True, **options)
    with pytest.warns(UserWarning, match="rms_scaling"):
        want = theirs(data)
    ours = layers.LayerNormalization(rms_scaling=True, **options)
    assert_close(numpy_of(ours(data)), np.asarray(want))
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights] == ["gamma"]
    assert ours.beta is None and ours.get_config()["center"] == theirs.get_config()["center"]


# ---- functions as layers ----


@registry.register_keras_serializable("layer_tests")
def doubled(v, by=2.0):
    return v * by


def test_lambda_passes_arguments_mask_and_training(backend):
    assert_close(layers.Lambda(doubled, arguments={"by": 3.0})(x(2, 3)), x(2, 3) * 3)
    seen = {}

    def function(v, mask=None, training=None):
        seen.update(mask=mask, training=training)
        return v

    layers.Lambda(function)(layers.Masking()(x(2, 4, 3)), training=True)
    assert seen["mask"].shape == (2, 4)
    assert seen["training"] is True


def test_a_registered_function_can_be_loaded():
    layer = layers.Lambda(doubled, arguments={"by": 3.0}, output_shape=(3,))
    again = layers.deserialize(json.loads(json.dumps(layers.serialize(layer))))
    assert again.function is doubled
    assert again.arguments == {"by": 3.0}


def test_bytecode_is_refused_unless_it_is_allowed():
    factor = 5.0
    layer = layers.Lambda(lambda v, bias=1.0: v * factor + bias)
    config = json.loads(json.dumps(layer.get_config()))
    theirs = keras.layers.Lambda(layer.function).get_config()["function"]
    assert config["function"]["config"]["code"] == theirs["config"]["code"]
    with pytest.raises(ValueError, match="arbitrary code"):
        layers.Lambda.from_config(config)
    with pytest.raises(ValueError, match="arbitrary code"):
        layers.deserialize({**layers.serialize(layer), "config": config})
    with pytest.warns(UserWarning, match="runs bytecode"):
        again = layers.Lambda.from_config(config, safe_mode=False)
    assert_close(again(x(2, 3)), x(2, 3) * 5 + 1)
    token = registry.safe_mode.set(True)
    try:
        registry.enable_unsafe_deserialization()
        with pytest.warns(UserWarning, match="runs bytecode"):
            again = layers.Lambda.from_config(config)
        assert_close(again(x(2, 3)), x(2, 3) * 5 + 1)
    finally:
        registry.safe_mode.reset(token)


# ---- errors ----

WRONG = [
    (lambda: layers.Dense(0), "units"),
    (lambda: layers.Dense("3"), "units"),
    (lambda: layers.Dense(3, sizes=2), "sizes"),
    (lambda: layers.Dense(3)(x(4)), "rank at least 2"),
    (lambda: layers.Embedding(-1, 3), "input_dim"),
    (lambda: layers.EinsumDense("ab->ab", 3)(x(2, 3)), "Invalid einsum equation"),
    (lambda: layers.EinsumDense("ab,cd->ad", 3)(x(2, 3)), "'c'"),
    (lambda: layers.EinsumDense("ab,bc->ac", 3, bias_axes="z")(x(2, 3)), "Bias"),
    (lambda: layers.ReLU(max_value=-1), "max_value"),
    (lambda: layers.LeakyReLU(negative_slope=-1), "negative_slope"),
    (lambda: layers.LayerNormalization(axis="last"), "axis"),
    (lambda: layers.GroupNormalization(0), "groups"),
    (lambda: layers.GroupNormalization(4)(x(2, 6)), "multiple"),
    (lambda: layers.BatchNormalization(synchronized=True), "synchronized"),
    (lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"max": 1}), "renorm_clipping"),
    (lambda: layers.BatchNormalization()(x(2, 3), mask=mask(2, 3)), "one dimension less"),
    (lambda: layers.Dropout(1.5), "rate"),
    (lambda: layers.Dropout(0.5, noise_shape=(0, 1)), "noise_shape"),
    (lambda: layers.Reshape((-1, -1)), "target_shape"),
    (lambda: layers.Reshape((5,))(x(2, 3)), "total size"),
    (lambda: layers.Permute((0, 1)), "dims"),
    (lambda: layers.RepeatVector(0), "positive"),
    (lambda: layers.ZeroPadding2D((1, 2, 3)), "2 elements"),
    (lambda: layers.Cropping1D(3)(x(2, 5, 3)), "cropping"),
    (lambda: layers.UpSampling1D(1.5), "integer"),
    (lambda: layers.MaxPooling2D((2, 2, 2)), "pool_size"),
    (lambda: layers.MaxPooling2D(2)(x(2, 3, 4)), "rank 4"),
    (lambda: layers.Conv2D(0, 2), "filters"),
    (lambda: layers.Conv2D(4, 2, padding="causal"), "padding"),
    (lambda: layers.Conv2D(4, 2, data_format="first"), "data_format"),
    (lambda: layers.Conv2D(4, 2, groups=3), "groups"),
    (lambda: layers.Conv2D(4, 2, groups=2)(x(1, 4, 4, 3)), "divisible"),
    (lambda: layers.Conv2D(4, 2, strides=2, dilation_rate=2), "dilation_rate"),
    (lambda: layers.Conv2D(4, 9)(x(1, 4, 4, 3)), "do not fit"),
    (lambda: layers.Conv1DTranspose(4, 2, strides=2, output_padding=2), "output_padding"),
    (lambda: layers.Add()(x(2, 3)), "list"),
    (lambda: layers.Add()([x(2, 3), x(2, 4)]), "incompatible"),
    (lambda: layers.Subtract()([x(2, 3)] * 3), "exactly 2"),
    (lambda: layers.Concatenate()([x(2, 3), x(3, 3)]), "matching shapes"),
    (lambda: layers.Dot(axes=1)([x(2, 3), x(2, 4)]), "Incompatible"),
    (lambda: layers.Dot(axes="b"), "axes"),
    (lambda: layers.MultiHeadAttention(0, 4), "num_heads"),
    (lambda: layers.MultiHeadAttention(2, 4, sliding_window=0), "sliding_window"),
    (lambda: layers.MultiHeadAttention(2, 4, dropout=0.1, flash_attention=True), "flash"),
    (lambda: layers.GroupedQueryAttention(4, 3, 2), "divisible"),
    (lambda: layers.Attention(score_mode="sum"), "score_mode"),
    (lambda: layers.Attention()(x(2, 3, 4)), "list of inputs"),
    (lambda: layers.Wrapper(3), "layer"),
]


@pytest.mark.parametrize(("wrong", "match"), WRONG, ids=[m for _, m in WRONG])
def test_errors_name_what_is_wrong(wrong, match):
    with use_backend("numpy"), pytest.raises((ValueError, TypeError), match=match):
        wrong()


# ---- other ways in and out ----


def test_gelu(backend):
    data = x(2, 3)
    assert_close(layers.GELU()(data), keras.activations.gelu(data, approximate=False))
    assert_close(
        layers.GELU(approximate=True)(data), keras.activations.gelu(data, approximate=True)
    )


def test_merging_functions(backend):
    a, b = x(2, 3), x(2, 3, seed=1)
    assert_close(layers.add([a, b]), a + b)
    assert_close(layers.subtract([a, b]), a - b)
    assert_close(layers.concatenate([a, b], axis=0), np.concatenate([a, b]))
    assert_close(layers.dot([a, b]), (a * b).sum(1, keepdims=True))


def test_spectral_normalization_follows_keras(backend):
    theirs = keras.layers.SpectralNormalization(keras.layers.Dense(3), power_iterations=2)
    ours = layers.SpectralNormalization(layers.Dense(3), power_iterations=2)
    data = x(5, 4)
    theirs(data), ours(data)
    state = [x(*w.shape) for w in theirs.get_weights()]
    for layer in (ours, theirs):
        layer.set_weights(state)
    for training in (True, True, False):
        assert_close(ours(data, training=training), theirs(data, training=training))
    again = layers.deserialize(json.loads(json.dumps(layers.serialize(ours))))
    assert again.power_iterations == 2
    assert again.layer.units == 3


def subclasses(library):
    """Layers of three classes that describe themselves in different ways."""

    class Scaled(library.layers.Dense):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def get_config(self):
            return super().get_config() | {"factor": self.factor}

    class Recorded(library.layers.Layer):
        def __init__(self, units, scale=2.0, **kwargs):
            super().__init__(**kwargs)

    class Written(library.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def get_config(self):
            return super().get_config() | {"units": self.units}

    changed = library.layers.Dense(3, activation="relu", name="changed")
    changed.activation, changed.units = library.activations.tanh, 4
    return [
        Scaled(2.0, units=3, activation="relu", name="scaled"),
        Recorded(3, name="recorded"), Recorded(3, 1.5, trainable=False, name="passed"),
        Written(5, dtype="float64", name="written"), changed,
    ]  # fmt: skip


def test_configs_of_subclasses_and_of_changed_attributes_are_keras():
    def plain(config):
        config["dtype"] = config["dtype"]["config"]["name"]
        inner = {k: v for k, v in config.items() if isinstance(v, dict)}
        return config | {k: (v["class_name"], v["config"]) for k, v in inner.items()}

    for ours, theirs in zip(subclasses(keraslite), subclasses(keras), strict=True):
        expected = plain(theirs.get_config())
        assert plain(ours.get_config()) == expected
        for again in (
            copy.deepcopy(ours),
            type(ours).from_config(json.loads(json.dumps(ours.get_config()))),
        ):
            assert plain(again.get_config()) == expected


def test_kept_arguments_may_change_until_the_constructor_is_through():
    class Sized(layers.Layer):
        def __init__(self, units, width=None, **kwargs):
            config = self.keep_config(locals())
            config["width"] = width or 2 * units
            super().__init__(**kwargs)

    class Sub(Sized):
        def __init__(self, size):
            super().__init__(units=size, name="sub")

    assert Sized(3, name="sized").get_config().items() >= {"units": 3, "width": 6}.items()
    assert Sub(4).get_config().items() >= {"units": 4, "width": 8, "name": "sub"}.items()
    assert "size" not in Sub(4).get_config()


def test_layers_can_be_copied_and_pickled(backend):
    layer = layers.MaxPooling2D(3)
    assert pickle.loads(pickle.dumps(layer)).pool_size == (3, 3)
    dense = layers.Dense(3)
    before = numpy_of(dense(x(2, 4)))
    twin = copy.deepcopy(dense)
    dense.set_weights([np.zeros((4, 3)), np.zeros(3)])
    assert_close(twin(x(2, 4)), before)


def test_a_live_layer_moves_between_backends():
    data = x(2, 5, 8)
    for start in BACKENDS:
        with use_backend(start):
            layer = layers.MultiHeadAttention(2, 4)
            before = numpy_of(layer(data, data))
        for name in BACKENDS:
            layer.to_backend(name)
            np.testing.assert_allclose(numpy_of(layer(data, data)), before, rtol=1e-4, atol=1e-5)


def test_under_torch_a_layer_is_a_module():
    random.seed(0)
    torch.manual_seed(0)
    with use_backend("torch"):
        layer = layers.MultiHeadAttention(2, 4)
        net = torch.nn.Sequential(
            torch.nn.Linear(6, 8), layers.Dense(8), layers.LayerNormalization()
        )
        data = torch.tensor(x(2, 5, 6))
        hidden = net(data)
        layer(hidden, hidden)
        names = [n for n, _ in layer.named_parameters()]
        assert names[:2] == ["query_dense.kernel", "query_dense.bias"]
        optimizer = torch.optim.SGD([*net.parameters(), *layer.parameters()], lr=0.01)
        losses = []
        for _ in range(5):
            hidden = net(data)
            loss = layer(hidden, hidden).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses == sorted(losses, reverse=True)


def test_code_written_for_keras_private_names(backend):
    class Cached(layers.MultiHeadAttention):
        """As KerasHub's: it asks for the projections and computes attention itself."""

        def call(self, query, value):
            query, key = self._query_dense(query), self._key_dense(value)
            out, _ = self._compute_attention(query, key, self._value_dense(value))
            return self._output_dense(out)

    ours, data = Cached(2, 4), x(2, 5, 8)
    plain = layers.MultiHeadAttention(2, 4)
    ours(data, data), plain(data, data)
    plain.set_weights(ours.get_weights())
    assert_close(ours(data, data), numpy_of(plain(data, data)))


def test_an_empty_batch_passes(backend):
    for layer, shape in (
        (layers.Flatten(), (0, 3, 4)),
        (layers.Reshape((-1, 2)), (0, 3, 4)),
        (layers.Dense(2), (0, 4)),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (0, 3, 4)),
    ):
        assert layer(np.zeros(shape, "float32")).shape[0] == 0


def test_inputs_of_whole_numbers_and_variables(backend):
    assert ops.dtype(layers.Rescaling(2)(np.array([1, 2]))) == "float32"
    assert ops.dtype(layers.Embedding(6, 2)(np.array([[1.0, 2.0]]))) == "float32"
    assert layers.Dense(2)(Variable(x(3, 4))).shape == (3, 2)


@pytest.mark.parametrize("training", [False, True])
def test_torch_compiles_layers_without_a_graph_break(training):
    with use_backend("torch"):
        stack = [
            layers.Embedding(6, 8),
            layers.Dropout(0.5, seed=1),
            layers.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"),
            layers.Reshape((-1, 8)),
            layers.LayerNormalization(),
            layers.Conv1D(8, 2, padding="causal", activation="gelu"),
            layers.BatchNormalization(),
            layers.MaxPooling1D(2),
            layers.ZeroPadding1D(1),
            layers.PReLU(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
        attention = layers.MultiHeadAttention(2, 4)

        def call(tokens):
            hidden = stack[0](tokens)
            hidden = layers_add([hidden, attention(hidden, hidden, use_causal_mask=True)])
            for layer in stack[1:]:
                hidden = layer(hidden, training=training)
            return hidden

        layers_add = layers.Add()
        tokens = torch.tensor(ids(2, 6))
        call(tokens)
        state = [np.array(v.numpy()) for layer in stack for v in layer.variables]

        def again(function):
            for v, value in zip([v for x in stack for v in x.variables], state, strict=True):
                v.assign(value)
            return function(tokens)

        expected = again(call)
        assert_close(
            again(torch.compile(call, backend="eager", fullgraph=True)), numpy_of(expected)
        )


def test_a_normalized_kernel_is_trained(trains):
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    layer = layers.SpectralNormalization(layers.Dense(3, use_bias=False))
    model = keraslite.Sequential([layers.Input((4,)), layer])
    model.compile(keraslite.optimizers.SGD(0.1), "mse")
    kernel, u = (np.array(v.numpy()) for v in (layer.layer.kernel, layer.vector_u))
    model.train_on_batch(rows, rows[:, :3])
    v = u @ kernel.T / np.linalg.norm(u @ kernel.T)
    u = v @ kernel / np.linalg.norm(v @ kernel)
    normalized = kernel / (v @ kernel @ u.T)
    gradient = 2 / (6 * 3) * rows.T @ (rows @ normalized - rows[:, :3])
    assert_close(layer.layer.kernel.numpy(), normalized - 0.1 * gradient)
