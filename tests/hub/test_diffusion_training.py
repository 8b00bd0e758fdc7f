"""Fine-tuning of Stable Diffusion: its loss against diffusers' parts, on every backend."""

import numpy as np
import pytest
import torch
from diffusion_checkpoints import PROMPT, channels_first, pipeline
from PIL import Image

import hub
import keraslite as keras
from hub.diffusion.training import NoisePrediction, training_inputs
from keraslite import ops

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 32, 40, 3)).astype("uint8")
PROMPTS = [PROMPT, "a dog", PROMPT]


@pytest.fixture(scope="module", params=["v1", "v2"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    return folder, pipeline(folder, request.param)


V1 = pytest.mark.parametrize("made", ["v1"], indirect=True)


def loaded(folder, **how):
    return hub.TextToImage.from_preset(folder, img_height=32, img_width=40, **how)


def test_what_is_predicted(backend, made):
    """Draws of ours, all else of diffusers."""
    folder, pipe = made
    model = loaded(folder)
    with model._context():
        inputs = training_inputs(model, model._codec, IMAGES, PROMPTS)
        task = NoisePrediction(model.unet, model.scheduler, model._codec, seed=4)
        out, wanted = ops.convert_to_numpy(task(inputs))
    shape = (3, 8, 10, 4)
    with keras.use_backend("numpy"):
        draws = keras.random.SeedGenerator(4)
        drawn, noise = (keras.random.normal(shape, seed=draws) for _ in range(2))
        times = torch.from_numpy(np.asarray(keras.random.randint((3,), 0, 1000, seed=draws)))
    with torch.no_grad():
        moments = pipe.vae.encode(channels_first(IMAGES.astype("float32") / 127.5 - 1)).latent_dist
        latents = (moments.mean + moments.std * channels_first(drawn)) * 0.18215
        noisy = pipe.scheduler.add_noise(latents, channels_first(noise), times.long())
        text = torch.cat([pipe.encode_prompt(p, "cpu", 1, False)[0] for p in PROMPTS])
        theirs = pipe.unet(noisy, times, text).sample
        target = channels_first(noise)
        if pipe.scheduler.config.get("prediction_type") == "v_prediction":
            target = pipe.scheduler.get_velocity(latents, target, times.long())
    for ours, expected in ((out, theirs), (wanted, target)):
        expected = np.moveaxis(expected.numpy(), 1, -1)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


@V1
def test_losses_are_the_same_on_all_backends(made):
    folder, _ = made
    losses = []
    for backend in ("jax", "torch", "tensorflow"):
        keras.utils.set_random_seed(1)
        model = loaded(folder, backend=backend)
        model.compile(keras.optimizers.Adam(1e-3))
        before = model.unet.conv_out.bias.numpy()
        history = model.fit(IMAGES, PROMPTS, epochs=2, batch_size=3, verbose=0)
        losses.append(history.history["loss"])
        assert np.abs(model.unet.conv_out.bias.numpy() - before).max() > 0
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-5)
    assert losses[0][1] < losses[0][0]


@V1
def test_images_of_any_kind_are_fitted(made, tmp_path, capsys):
    folder, _ = made
    model = loaded(folder, backend="torch")
    Image.fromarray(IMAGES[1]).convert("L").resize((90, 50)).save(tmp_path / "grey.png")
    images = [IMAGES[0], tmp_path / "grey.png", Image.fromarray(IMAGES[2])]
    model.compile("sgd")
    history = model.fit({"images": images, "prompts": PROMPTS}, epochs=1)
    assert np.isfinite(history.history["loss"]).all()
    assert "3/3" in capsys.readouterr().out
    with model._context():
        moments = training_inputs(model, model._codec, images, PROMPTS)["moments"]
        alone = training_inputs(model, model._codec, IMAGES[:1], PROMPT)["moments"]
    np.testing.assert_allclose(moments[:1], alone, atol=1e-5)


@V1
def test_bad_input(made):
    folder, _ = made
    model = loaded(folder, backend="torch")
    with pytest.raises(RuntimeError, match="Call compile"):
        model.fit(IMAGES, PROMPTS)
    model.compile()
    for call, message in (
        (lambda: model.fit(IMAGES, PROMPTS[:2]), "3 images, but 2 texts"),
        (lambda: model.fit(IMAGES), "Expected images and their texts"),
        (lambda: model.fit({"images": IMAGES, "texts": PROMPTS}), "Expected images"),
        (
            lambda: model.fit([np.zeros((4, 4, 7))], ["a"]),
            "Image 0 must be .*got an array of shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@V1
def test_lora_alone_is_trained(made, tmp_path):
    folder, _ = made
    keras.utils.set_random_seed(1)
    model = loaded(folder, backend="torch")
    names = model.enable_lora(2, alpha=4)
    assert len(names) == 4 * 2 * 4 and names[0].endswith("attn1.to_q")
    before = {path: v.numpy() for path, v in model.unet.named_weights()}
    model.compile(keras.optimizers.Adam(1e-2))
    losses = model.fit(IMAGES, PROMPTS, epochs=8, batch_size=3, verbose=0).history["loss"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    changed = {path for path, v in model.unet.named_weights() if np.any(v.numpy() != before[path])}
    assert changed == {path for path in before if "lora_kernel" in path}
    how = {"num_steps": 2, "seed": 1, "output": "latent"}
    drawn = model.generate([PROMPT], **how)
    model.save_lora(tmp_path)
    again = loaded(folder, backend="torch")
    plain = again.generate([PROMPT], **how)
    again.load_lora(tmp_path)
    np.testing.assert_allclose(again.generate([PROMPT], **how), drawn, atol=1e-5)
    assert np.abs(plain - drawn).max() > 1e-4
    with pytest.raises(ValueError, match="There is a LoRA already"):
        model.enable_lora(2)
    model.unload_lora()
    assert all(v.trainable for v in model.unet.weights)
    with pytest.raises(ValueError, match=r"ends with \['query'\]; there are: .*'to_q'"):
        model.enable_lora(2, targets=["query"])
