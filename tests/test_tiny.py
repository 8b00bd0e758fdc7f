"""A test of everything in small, from an op to a denoised image, on every backend."""

from pathlib import Path

import numpy as np
import pytest
from backends import TRAINABLE

import hub
import keraslite as keras
from keraslite import layers, ops

PRESET = Path(__file__).parent / "data" / "v1" / "preset"
TEXTS = ["a good film", "bad films", "b", "a bad film"]
LABELS = [1, 0, 2, 0]
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(32, 4)).astype("float32")
Y = X[:, :1] * X[:, 1:2]
IDS = GENERATOR.integers(1, 30, (2, 5)).astype("int32")


def numbers(x):
    return np.asarray(ops.convert_to_numpy(x))


def cross_entropy(logits, labels):
    logits = logits.astype("float64")
    chosen = logits[np.arange(len(labels)), labels]
    return np.mean(np.log(np.exp(logits).sum(1)) - chosen)


def trained_regressor():
    """A model with dropout after three epochs, and its losses."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(8, "gelu"), layers.Dropout(0.1), layers.Dense(1),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(0.03), "mse")
    return model, model.fit(X, Y, epochs=3, batch_size=8, verbose=0).history["loss"]


def tiny_pipeline():
    """Stable Diffusion with few channels, new weights and a vocabulary of four tokens."""
    keras.utils.set_random_seed(2)
    vocabulary = {"a</w>": 0, "cat</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}
    return hub.StableDiffusion(
        text_encoder=hub.CLIPTextEncoder(4, 1, 2, 8, 16, max_sequence_length=6, end_token_id=3),
        unet=hub.UNet2DConditionModel(
            block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8,
            attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), norm_num_groups=4, sample_size=8,
        ),
        vae=hub.AutoencoderKL(
            block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, sample_size=16,
        ),
        tokenizer=hub.CLIPTokenizer(vocabulary, []),
        scheduler="ddim",
    )  # fmt: skip


@pytest.fixture(scope="module")
def numpy_tokens_and_image():
    """The text and the image of the numpy backend, which those of the others must equal."""
    with keras.use_backend("numpy"):
        return generated_tokens(), generated_image()


def generated_tokens():
    keras.utils.set_random_seed(3)
    backbone = hub.GPT2Backbone(30, 1, 2, 8, max_sequence_length=16)
    model = hub.CausalLM(backbone, preprocessor=None)
    rows = {"token_ids": IDS, "padding_mask": IDS > 0}
    return model.generate(rows, max_new_tokens=4, stop_token_ids=None)["token_ids"]


def generated_image():
    model = tiny_pipeline()
    return model.text_to_image("a cat", num_steps=2, seed=5)


def test_an_op_and_its_gradient(backend):
    x = keras.to_backend(X, backend)
    np.testing.assert_allclose(numbers(ops.mean(ops.sin(x), axis=0)), np.sin(X).mean(0), rtol=1e-5)
    if backend in TRAINABLE:
        gradient = ops.grad(lambda x: ops.sum(ops.sin(x) * 2.0))(x)
        np.testing.assert_allclose(numbers(gradient), 2 * np.cos(X), rtol=1e-5, atol=1e-6)


def test_a_layer(backend):
    layer = layers.Dense(3, "relu", bias_initializer="ones")
    out = numbers(layer(X))
    kernel, bias = layer.get_weights()
    assert (kernel.shape, bias.tolist()) == ((4, 3), [1.0, 1.0, 1.0])
    np.testing.assert_allclose(out, np.maximum(X @ kernel + bias, 0), rtol=1e-5, atol=1e-6)


def test_fit_gives_equal_losses_on_all_backends():
    losses = {}
    for name in TRAINABLE:
        with keras.use_backend(name):
            losses[name] = trained_regressor()[1]
    for name, curve in losses.items():
        assert curve[-1] < curve[0], (name, curve)
        np.testing.assert_allclose(curve, next(iter(losses.values())), rtol=1e-4, err_msg=name)


def test_a_saved_model_is_loaded(backend, tmp_path):
    if backend in TRAINABLE:
        model, _ = trained_regressor()
    else:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.safetensors")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected, rtol=1e-6)
    new = keras.models.clone_model(model)
    assert not np.allclose(new.predict(X, verbose=0), expected)
    new.load_weights(tmp_path / "model.safetensors")
    np.testing.assert_allclose(new.predict(X, verbose=0), expected, rtol=1e-6)


def test_a_model_moves_between_backends(backend):
    if backend not in TRAINABLE:
        return
    model, losses = trained_regressor()
    expected = model.predict(X, verbose=0)
    for name in keras.backend.available():
        model.to_backend(name)
        predicted = model.predict(X, verbose=0)
        np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    model.to_backend(backend)
    assert model.fit(X, Y, batch_size=8, verbose=0).history["loss"][0] < losses[0]


def test_a_pretrained_classifier_predicts_and_is_fine_tuned(backend):
    model = hub.BertClassifier.from_preset(PRESET)
    before = model.predict(TEXTS, verbose=0)
    assert before.shape == (4, 3)
    if backend in TRAINABLE:
        model.compile(keras.optimizers.AdamW(1e-2))
        model.fit(TEXTS * 8, LABELS * 8, batch_size=4, verbose=0)
        after = model.predict(TEXTS, verbose=0)
        assert cross_entropy(after, LABELS) < cross_entropy(before, LABELS)


def test_tokens_are_generated(backend, numpy_tokens_and_image):
    tokens = generated_tokens()
    assert tokens.shape == (2, 9)
    np.testing.assert_array_equal(tokens[:, :5], IDS)
    np.testing.assert_array_equal(tokens, numpy_tokens_and_image[0])


def test_an_image_is_denoised(backend, numpy_tokens_and_image):
    image = generated_image()
    assert (image.shape, image.dtype) == ((1, 16, 16, 3), np.uint8)
    assert image.std() > 1
    difference = np.abs(image.astype(int) - numpy_tokens_and_image[1].astype(int))
    assert difference.max() <= 1
