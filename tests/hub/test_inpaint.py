"""Inpainting, and the tasks with `generate`, against diffusers on every backend."""

import json

import diffusion_checkpoints as tiny
import numpy as np
import pytest
import torch
from compare import assert_close
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusion_checkpoints import NEGATIVE, PROMPT, channels_first, diffusers, pipeline
from PIL import Image

import hub
import keraslite as keras
from hub.cli import main
from hub.diffusion.denoising import noise
from hub.diffusion.latents import LatentCodec
from hub.diffusion.schedulers import Scheduler
from keraslite import ops

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (2, 32, 40, 3)).astype("uint8")
MASKS = np.zeros((2, 32, 40), bool)
MASKS[0, 5:22, 9:31] = MASKS[1, :17, 20:] = True
CASES = [("v1", "euler", 0.6), ("v1", "heun", 1.0), ("inpainting", "ddim", 1.0),
         ("inpainting", "dpm_solver", 0.5)]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in ("v1", "inpainting"):
        made[kind] = tmp_path_factory.mktemp(kind)
        pipeline(made[kind], kind)
    return made


def drawn(call):
    """Our draws for seeds 3 and 4, as torch has them."""
    with keras.use_backend("numpy"):
        return channels_first(np.asarray(noise(np.array([3, 4], "int32"), call, (8, 10, 4))))


def theirs_of(folder, name, strength, monkeypatch):
    """diffusers' latents with our draws in place of its own."""
    config = Scheduler.from_name(name, steps_offset=1).to_config()
    pipe = diffusers.StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
    pipe.set_progress_bar_config(disable=True)
    four = pipe.unet.config.in_channels == 4
    draws = [drawn(-1), drawn(-2)] if four or strength < 1 else [drawn(-2)]
    module = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *args, **kwargs: drawn(0))
    monkeypatch.setattr(
        DiagonalGaussianDistribution, "sample",
        lambda self, generator=None: self.mean + self.std * draws.pop(0),
    )  # fmt: skip
    with torch.no_grad():
        out = pipe(
            [PROMPT] * 2, channels_first(IMAGES.astype("float32") / 255),
            torch.from_numpy(MASKS[:, None].astype("float32")), negative_prompt=[NEGATIVE] * 2,
            strength=strength, num_inference_steps=8, output_type="latent", height=32, width=40,
        ).images  # fmt: skip
    assert not draws
    return np.moveaxis(out.numpy(), 1, -1)


@pytest.fixture(scope="module")
def expected(folders):
    with pytest.MonkeyPatch.context() as patch:
        return {case: theirs_of(folders[case[0]], *case[1:], patch) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inpaint(backend, folders, expected, case):
    kind, name, strength = case
    scheduler = Scheduler.from_name(name, steps_offset=1)
    model = hub.StableDiffusion.from_preset(folders[kind], scheduler=scheduler)
    found = model.inpaint(
        PROMPT, IMAGES, MASKS, NEGATIVE, strength, num_steps=8, seed=3, output="latent"
    )
    assert_close(found, expected[case], rtol=0, atol=0, share=1e-4)


def test_tasks(folders):
    """The tasks are the pipeline in other words, and take what a user has."""
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folders["v1"], img_height=32, img_width=40)
        how = {"num_steps": 2, "seed": 3}
        tasks = {
            cls: getattr(hub, f"StableDiffusion{cls}").from_preset(
                folders["v1"], img_height=32, img_width=40
            )
            for cls in ("TextToImage", "ImageToImage", "Inpaint")
        }
        drawn = model.text_to_image(PROMPT, NEGATIVE, **how)
        text = tasks["TextToImage"]
        one = text.generate({"prompts": PROMPT, "negative_prompts": NEGATIVE}, **how)
        np.testing.assert_array_equal(one, drawn[0])
        assert text.generate([PROMPT, "a dog"], **how).shape == (2, 32, 40, 3)
        how["output"] = "latent"
        three = model.text_to_image(iter([PROMPT]), [NEGATIVE], batch_size=3, **how)
        alone = model.text_to_image(PROMPT, NEGATIVE, **how)
        np.testing.assert_allclose(three[:1], alone, rtol=0, atol=2e-5 * np.abs(alone).max())
        del how["output"]
        photos = [Image.fromarray(image) for image in IMAGES]
        masks = [Image.fromarray(mask.astype("uint8") * 255) for mask in MASKS]
        changed = tasks["ImageToImage"].generate(
            {"images": photos, "prompts": PROMPT}, strength=0.9, **how
        )
        np.testing.assert_array_equal(changed, model.image_to_image(PROMPT, IMAGES, 0.9, **how))
        patched = tasks["Inpaint"].generate(
            {"images": photos[0], "masks": masks[0], "prompts": PROMPT}, output="pil", **how
        )
        assert isinstance(patched, Image.Image) and patched.size == (40, 32)
        again = model.inpaint(PROMPT, IMAGES[0], MASKS[0], **how)
        np.testing.assert_array_equal(np.asarray(patched), again[0])
        with pytest.raises(ValueError, match=r"expected \['images', 'prompts'\]"):
            tasks["ImageToImage"].generate(PROMPT)
        with pytest.raises(ValueError, match="expected"):
            text.generate({"prompts": PROMPT, "images": photos})
        painter = hub.Inpaint.from_preset(folders["inpainting"])
        with pytest.raises(ValueError, match="give image and mask"):
            painter.draw(PROMPT, num_steps=2)


def test_images_from_the_command_line(folders, tmp_path, capsys):
    words = ["run", "text-to-image", str(folders["v1"]), "a cat", "a dog", "--backend", "torch",
             "--steps", "2", "--out", str(tmp_path / "new")]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "step 3 of 3" in said.err  # PNDM calls the network once more
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["input"] for line in lines] == ["a cat", "a dog"]
    for line in lines:
        with Image.open(line["image"]) as image:
            assert image.size == (32, 32)


def test_saved_inpainting_opens_in_diffusers(folders, tmp_path):
    hub.Inpaint.from_preset(folders["inpainting"]).save_to_preset(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == (
        "StableDiffusionInpaintPipeline"
    )
    pipe = diffusers.StableDiffusionInpaintPipeline.from_pretrained(tmp_path)
    assert pipe.unet.config.in_channels == 9


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")  # numpy's own
def test_an_overflow_in_half_precision_is_mended_once(backend, tmp_path):
    """Numbers too large for float16 in the middle of the decoder, as published weights give."""
    theirs = tiny.vae(tmp_path / "vae", layers_per_block=1)
    with torch.no_grad():
        theirs.decoder.conv_in.weight.mul_(2e4)
    theirs.save_pretrained(tmp_path / "vae")
    latents = RNG.normal(size=(1, 4, 4, 4)).astype("float32")
    with torch.no_grad():
        wanted = theirs.decode(channels_first(latents) / 0.18215).sample
    wanted = np.moveaxis(((wanted / 2 + 0.5).clamp(0, 1) * 255).round().numpy(), 1, -1)
    vae = hub.AutoencoderKL.from_preset(tmp_path / "vae", dtype="float16")
    unet = hub.UNet2DConditionModel(
        block_out_channels=(8,), down_block_types=("DownBlock2D",), cross_attention_dim=8,
        up_block_types=("UpBlock2D",), norm_num_groups=4, attention_head_dim=2,
    )  # fmt: skip
    model = hub.StableDiffusion(
        16, 16, vae=vae, unet=unet, tokenizer=object(), text_encoder=object(), scheduler="ddim"
    )
    with pytest.warns(UserWarning, match="overflowed in float16"):
        found = model.preview(latents)
    assert np.abs(found - wanted).max() <= 2  # its weights were rounded
    np.testing.assert_array_equal(model.preview(latents), found)  # and nothing is said again
    with torch.no_grad():
        theirs.encoder.conv_in.weight.mul_(8e4)
        theirs.save_pretrained(tmp_path / "vae")
        image = channels_first(IMAGES[:1, :16, :16].astype("float32") / 127.5 - 1)
        wanted = theirs.encode(image).latent_dist.mean
    codec = LatentCodec(hub.AutoencoderKL.from_preset(tmp_path / "vae", dtype="float16"))
    with pytest.warns(UserWarning, match="overflowed in float16"):
        moments = ops.convert_to_numpy(codec.moments(np.moveaxis(image.numpy(), 1, -1)))
    wanted = np.moveaxis(wanted.numpy(), 1, -1)
    np.testing.assert_allclose(moments[..., :4], wanted, rtol=0, atol=0.01 * np.abs(wanted).max())
    assert ops.dtype(vae.decode(latents)) == "float16"
