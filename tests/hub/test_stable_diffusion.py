"""The whole of Stable Diffusion against diffusers' pipelines, on every backend in one process."""

import runpy
import shutil
from functools import partial
from pathlib import Path

import compare
import numpy as np
import pytest
import torch
from diffusion_checkpoints import NEGATIVE, PROMPT, channels_first, diffusers, pipeline
from PIL import Image
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras
from hub.cli import main
from hub.diffusion.denoising import noise
from hub.diffusion.schedulers import Scheduler
from keraslite import ops

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
assert_close = partial(compare.assert_close, rtol=0, atol=0, share=1e-4)
NOISE = np.random.default_rng(0).normal(size=(2, 8, 10, 4)).astype("float32")


@pytest.fixture(scope="module", params=["v1", "v2"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    return folder, pipeline(folder, request.param)


V1 = pytest.mark.parametrize("made", ["v1"], indirect=True)


def theirs_of(pipe, **kwargs):
    """diffusers' latents, channels last."""
    with torch.no_grad():
        out = pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=6, output_type="latent",
                   num_images_per_prompt=2, **kwargs).images  # fmt: skip
    return np.moveaxis(out.numpy(), 1, -1)


def ours_of(model, **kwargs):
    return model.generate_image(
        model.encode_text(PROMPT), NEGATIVE, 2, 6, diffusion_noise=NOISE, output="latent", **kwargs
    )


def test_text_to_image(backend, made, tmp_path):
    folder, pipe = made
    model = hub.StableDiffusion.from_preset(folder, img_height=32, img_width=40)
    size = {"height": 32, "width": 40}
    expected = theirs_of(pipe, latents=channels_first(NOISE), **size)
    found = ours_of(model)
    assert_close(found, expected)
    assert_close(
        ours_of(model, unconditional_guidance_scale=3.0, guidance_rescale=0.7),
        theirs_of(
            pipe, latents=channels_first(NOISE), guidance_scale=3.0, guidance_rescale=0.7, **size
        ),
    )
    with torch.no_grad():
        images = pipe.vae.decode(channels_first(expected) / 0.18215).sample
        images = pipe.image_processor.postprocess(images, output_type="np")
    ours = model.preview(found)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - (images * 255).round().astype(int)).max() <= 1
    model.save_to_preset(tmp_path)
    again = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(
        theirs_of(again, latents=channels_first(NOISE), **size), expected, atol=1e-5
    )


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpm_solver", "unipc", "lms"])
def test_other_schedulers(backend, made, name):
    folder, pipe = made
    kind = pipe.scheduler.config.get("prediction_type", "epsilon")
    scheduler = Scheduler.from_name(name, steps_offset=1, prediction_type=kind)
    model = hub.StableDiffusion.from_preset(
        folder, img_height=32, img_width=40, scheduler=scheduler
    )
    config = scheduler.to_config()
    cls = getattr(diffusers, config["_class_name"])
    other = diffusers.StableDiffusionPipeline(
        **{**pipe.components, "scheduler": cls.from_config(config)}, requires_safety_checker=False
    )
    other.set_progress_bar_config(disable=True)
    assert_close(
        ours_of(model), theirs_of(other, latents=channels_first(NOISE), height=32, width=40)
    )
    model.scheduler = name
    assert model.scheduler.config["prediction_type"] == kind


def test_a_scheduler_by_name_keeps_what_the_preset_states(made):
    folder, _ = made
    config = diffusers.EulerDiscreteScheduler.load_config(folder / "scheduler")
    theirs = diffusers.EulerDiscreteScheduler.from_config(config)
    model = hub.StableDiffusion.from_preset(folder, scheduler="euler")
    assert model.scheduler.config == {k: theirs.config[k] for k in model.scheduler.config}
    model = hub.StableDiffusion.from_preset(folder)
    model.scheduler = "ddim"
    model.scheduler = "euler"
    assert model.scheduler.config == {k: theirs.config[k] for k in model.scheduler.config}


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_no_guidance_up_to_1(backend, made, scale):
    folder, pipe = made
    model = hub.StableDiffusion.from_preset(folder, img_height=32, img_width=40)
    assert_close(
        ours_of(model, unconditional_guidance_scale=scale),
        theirs_of(pipe, latents=channels_first(NOISE), height=32, width=40, guidance_scale=scale),
    )


def test_long_prompts_in_one_piece_as_diffusers(made):
    folder, pipe = made
    model = hub.StableDiffusion.from_preset(folder, img_height=32, img_width=40)
    text = "a photo of the old red house by the sea " * 10
    with torch.no_grad():
        expected, negative = pipe.encode_prompt(text, "cpu", 1, True, text[5:])
    assert_close(model.encode_text(text, max_pieces=1), expected.numpy())
    assert model.encode_text(text).shape[1] > expected.shape[1]
    arguments = {"num_steps": 2, "seed": 0, "output": "float"}
    images = model.text_to_image(text, text[5:], max_pieces=1, **arguments)
    encoded = model.generate_image(expected.numpy(), negative.numpy(), **arguments)
    assert images.dtype == np.float32
    assert 0 <= images.min() < images.max() <= 1
    assert_close(images, encoded)
    rounded = model.text_to_image(text, text[5:], max_pieces=1, **{**arguments, "output": "image"})
    np.testing.assert_array_equal((images * 255).round().astype("uint8"), rounded)
    with pytest.raises(ValueError, match="must be positive, got 0"):
        model.encode_text(text, max_pieces=0)


def test_image_to_image(backend, made):
    folder, pipe = made
    model = hub.StableDiffusion.from_preset(folder, scheduler="ddim")
    images = np.random.default_rng(1).integers(0, 255, (2, 32, 40, 3)).astype("uint8")
    found = model.image_to_image(
        PROMPT, images, 0.6, NEGATIVE, num_steps=10, seed=3, output="latent"
    )
    again = model.image_to_image(
        PROMPT, images[1], 0.6, NEGATIVE, num_steps=10, seed=4, output="latent"
    )
    np.testing.assert_allclose(found[1:], again, atol=2e-5 * np.abs(again).max())
    # The same by hand, over diffusers' parts.
    with model._context():
        eps, first_noise = (
            ops.convert_to_numpy(
                noise(ops.convert_to_tensor(np.array([3, 4], "int32")), call, (8, 10, 4))
            )
            for call in (-1, 0)
        )
    with torch.no_grad():
        moments = pipe.vae.encode(channels_first(images.astype("float32") / 127.5 - 1)).latent_dist
        latents = (moments.mean + moments.std * channels_first(eps)) * 0.18215
        config = model.scheduler.to_config()
        scheduler = diffusers.DDIMScheduler.from_config(config)
        scheduler.set_timesteps(10)
        x = scheduler.add_noise(latents, channels_first(first_noise), scheduler.timesteps[4:5])
        text, unwanted = pipe.encode_prompt(PROMPT, "cpu", 2, True, NEGATIVE)
        for t in scheduler.timesteps[4:]:
            out = pipe.unet(torch.cat([x] * 2), t, torch.cat([unwanted, text])).sample
            bad, good = out.chunk(2)
            x = scheduler.step(bad + 7.5 * (good - bad), t, x).prev_sample
    assert_close(found, np.moveaxis(x.numpy(), 1, -1))


@V1
def test_seeds(made):
    """An image depends on its seed alone: neither on its batch nor on the backend."""
    folder, _ = made
    found = {}
    for backend in ("jax", "torch", "tensorflow", "numpy"):
        model = hub.StableDiffusion.from_preset(
            folder, img_height=24, img_width=32, backend=backend, scheduler="euler_ancestral"
        )
        calls = []
        many = model.text_to_image(
            PROMPT, batch_size=3, num_steps=3, seed=7, callback=lambda *x, to=calls: to.append(x)
        )
        assert [given[:2] for given in calls] == [(0, 3), (1, 3), (2, 3)]
        assert many.shape == (3, 24, 32, 3)
        one = model.text_to_image([PROMPT], num_steps=3, seed=[8])
        assert np.abs(many[1].astype(int) - one[0]).max() <= 2
        assert np.abs(many[0].astype(int) - many[1]).max() > 2
        found[backend] = many.astype(int)
    for images in found.values():
        assert np.abs(images - found["jax"]).max() <= 2


@V1
def test_bad_input(made, tmp_path):
    folder, _ = made
    with pytest.raises(ValueError, match="img_width must be a positive multiple of 4, got 30"):
        hub.StableDiffusion.from_preset(folder, img_width=30)
    model = hub.StableDiffusion.from_preset(folder, img_height=16, img_width=16)
    for call, message in (
        (lambda: model.text_to_image(["a", "b"], batch_size=3), "2 prompts"),
        (lambda: model.text_to_image(["a"] * 3, ["b", "c"]), "2 negative prompts for 3"),
        (lambda: model.text_to_image("a", output="jpeg"), "output must be one of .* got 'jpeg'"),
        (
            lambda: model.inpaint("a", np.zeros((8, 8, 3)), np.zeros((4, 4))),
            r"mask must have the shape \(8, 8\), got",
        ),
        (
            lambda: model.generate_image(model.encode_text("a"), mask=np.zeros((4, 4))),
            "needs an image",
        ),
        (lambda: model.text_to_image("a", batch_size=2, seed=[1]), "1 seeds for 2"),
        (lambda: model.text_to_image("a", num_steps=0), "between 1 and 1000"),
        (lambda: model.image_to_image("a", np.zeros((8, 8, 3)), 0.0), "at least one step"),
        (lambda: model.image_to_image("a", np.zeros((9, 8, 3))), "multiples of 4"),
        (
            lambda: model.image_to_image("a", np.full((8, 8, 3), -1.0)),
            "image must have .*got float64 from -1.0",
        ),
        (
            lambda: model.image_to_image("a", np.full((8, 8, 3), 256)),
            "image must have .*got int64 from 256",
        ),
        (lambda: model.generate_image(np.zeros((2, 77, 10)), batch_size=3), "2 texts for 3"),
        (
            lambda: model.generate_image(model.encode_text("a"), diffusion_noise=np.zeros((1, 4))),
            "diffusion_noise has the shape",
        ),
        (lambda: setattr(model, "scheduler", "odd"), "must be one of .*got 'odd'"),
        (lambda: model.preview(np.full((1, 4, 4, 4), np.nan, "float32")), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "FluxTransformer"]}')
    with pytest.raises(ValueError, match="text_encoder of .* must be a CLIPTextModel"):
        hub.StableDiffusion.from_preset(tmp_path)


def test_the_example_draws(tmp_path, monkeypatch, capsys):
    path = Path(__file__).parents[2] / "examples" / "text_to_image.py"
    monkeypatch.setattr("sys.argv", [str(path), "--backend", "torch", "--out", str(tmp_path),
                                     "--steps", "2", "--images", "2"])  # fmt: skip
    runpy.run_path(str(path), run_name="__main__")
    assert "images.png: 2 images of 128x128" in capsys.readouterr().out
    with Image.open(tmp_path / "images.png") as image:
        assert image.size == (256, 128)


@V1
def test_it_comes_from_the_hub_by_its_name(made, hub_server, monkeypatch, capsys):
    folder, _ = made
    hub_server.publish("stable-diffusion-v1-5/stable-diffusion-v1-5", folder)
    assert main(["pull", "stable_diffusion_v1.5"]) == 0
    pulled = capsys.readouterr().out.strip()
    assert main(["verify", "stable_diffusion_v1.5"]) == 0
    assert capsys.readouterr().out.count("\nsound") == 3
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nothing is missing now
    with keras.use_backend("torch"):
        model = hub.StableDiffusion(img_width=32, img_height=24)
        images = model.text_to_image(PROMPT, batch_size=2, num_steps=2, seed=1)
        for other in (hub.load("stable_diffusion_v1.5"), hub.load(pulled), hub.load(folder)):
            other.img_width, other.img_height = 32, 24
            again = other.text_to_image(PROMPT, batch_size=2, num_steps=2, seed=1)
            np.testing.assert_array_equal(again, images)


@V1
def test_what_was_compiled_for_a_scheduler_is_not_used_for_another(backend, made):
    folder, _ = made
    model = hub.StableDiffusion.from_preset(folder, img_height=16, img_width=16)

    def drawn():
        return model.text_to_image(PROMPT, num_steps=3, seed=1).astype(int)

    kind = model.scheduler.config["prediction_type"]
    found = {}
    for end in (0.012, 0.03, 0.012):  # of the same name and times
        model.scheduler = Scheduler.from_name("ddim", beta_end=end, prediction_type=kind)
        found.setdefault(end, []).append(drawn())
    np.testing.assert_array_equal(*found[0.012])
    assert np.abs(found[0.012][0] - found[0.03][0]).max() > 1
    model.unet.quantize("int8")
    assert np.abs(drawn() - found[0.012][0]).max() > 0


@V1
def test_torch_compiles_where_it_is_asked_to(made, monkeypatch):
    folder, _ = made
    asked, images = [], []
    monkeypatch.setattr(torch, "compile", lambda fn: asked.append(fn) or fn)
    for how in ({}, {"jit_compile": True}):
        model = hub.StableDiffusion.from_preset(
            folder, img_height=16, img_width=16, backend="torch", **how
        )
        images.append(model.text_to_image(PROMPT, num_steps=3, seed=1))
        assert len(asked) == len(images) - 1  # the step, once
    np.testing.assert_array_equal(*images)


@V1
def test_a_variant_of_the_weights(made, tmp_path):
    folder, _ = made
    shutil.copytree(folder, tmp_path / "both")
    for part in ("unet", "vae", "text_encoder"):
        [path] = (tmp_path / "both" / part).glob("*.safetensors")
        halves = {k: v.astype("float16") for k, v in load_file(path).items()}
        save_file(halves, path.with_name(f"{path.stem}.fp16.safetensors"))
    with keras.use_backend("numpy"):
        whole = hub.StableDiffusion.from_preset(tmp_path / "both")
        half = hub.StableDiffusion.from_preset(tmp_path / "both", variant="fp16")
        for part in ("unet", "vae", "text_encoder"):
            a, b = (dict(getattr(model, part).named_weights()) for model in (whole, half))
            for path, weight in b.items():
                rounded = a[path].numpy().astype("float16")
                np.testing.assert_array_equal(weight.numpy(), rounded.astype("float32"), path)
        with pytest.raises(FileNotFoundError, match="of the variant 'fp8'"):
            hub.StableDiffusion.from_preset(tmp_path / "both", variant="fp8")
