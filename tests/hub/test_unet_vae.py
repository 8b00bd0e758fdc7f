"""The networks of latent diffusion against diffusers, on every backend in one process."""

import json
from functools import partial

import compare
import diffusion_checkpoints as tiny
import numpy as np
import pytest
import torch
from diffusion_checkpoints import channels_first, channels_last
from safetensors.torch import load_file, save_file

import hub
import keraslite as keras
from keraslite import ops

assert_close = partial(compare.assert_close, rtol=0, atol=0, share=2e-5)
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype("float32")


LATENTS, CONTEXT = normal(2, 9, 12, 9), normal(2, 5, 14)
IMAGES = normal(2, 20, 24, 3)


@pytest.fixture(scope="module", params=tiny.UNETS)
def unet(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    return folder, tiny.unet(folder, request.param)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    return folder, tiny.vae(folder)


def test_unet(backend, unet, tmp_path):
    folder, theirs = unet
    model = hub.UNet2DConditionModel.from_preset(folder)
    latents = LATENTS[..., : theirs.config.in_channels]
    context = CONTEXT[..., : theirs.config.cross_attention_dim]
    for timestep in (np.array([3, 981]), 17):
        with torch.no_grad():
            expected = theirs(
                channels_first(latents), torch.as_tensor(timestep), torch.from_numpy(context)
            ).sample
        inputs = {"latents": latents, "timestep": timestep, "context": context}
        out = tiny.called(model, inputs)
        assert_close(out, channels_last(expected))
    model.save_to_preset(tmp_path)
    before, after = (
        load_file(f / "diffusion_pytorch_model.safetensors") for f in (folder, tmp_path)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    opened = type(theirs).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        again = opened(
            channels_first(latents), torch.as_tensor(17), torch.from_numpy(context)
        ).sample
    assert_close(out, channels_last(again))
    for name, value in theirs.config.items():
        if not name.startswith("_"):
            assert json.dumps(opened.config[name]) == json.dumps(value)


def test_vae(backend, vae, tmp_path):
    folder, theirs = vae
    model = hub.AutoencoderKL.from_preset(folder)
    mean, logvar = model.encode(IMAGES)
    with torch.no_grad():
        moments = theirs.encode(channels_first(IMAGES)).latent_dist
        expected = theirs.decode(moments.mean).sample
    assert_close(mean, channels_last(moments.mean))
    assert_close(logvar, channels_last(moments.logvar))
    assert_close(model.decode(mean), channels_last(expected))
    assert_close(model(IMAGES), channels_last(expected))
    model.save_to_preset(tmp_path)
    with torch.no_grad():
        again = type(theirs).from_pretrained(tmp_path).eval().decode(moments.mean).sample
    assert torch.equal(again, expected)


def test_older_names_of_the_attention(backend, vae, tmp_path):
    folder, theirs = vae
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for half in ("encoder", "decoder"):
        for today, before in new.items():
            name = f"{half}.mid_block.attentions.0."
            weights[f"{name}{before}.bias"] = weights.pop(f"{name}{today}.bias")
            weight = weights.pop(f"{name}{today}.weight")
            # In the very oldest files they are convolutions.
            weights[f"{name}{before}.weight"] = weight[:, :, None, None].contiguous()
    save_file(weights, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    model = hub.AutoencoderKL.from_preset(tmp_path)
    with torch.no_grad():
        expected = theirs.decode(theirs.encode(channels_first(IMAGES)).latent_dist.mean).sample
    assert_close(model(IMAGES), channels_last(expected))


COUNTS = {
    859_520_964: lambda: hub.UNet2DConditionModel(),
    865_910_724: lambda: hub.UNet2DConditionModel(
        cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    ),
    83_653_863: lambda: hub.AutoencoderKL(),
}


@pytest.mark.parametrize("count", COUNTS)
def test_parameters_of_the_published_networks(count):
    assert COUNTS[count]().count_params() == count  # nothing is allocated


@pytest.mark.parametrize("kind", tiny.UNETS)
def test_training_lowers_the_loss(trains, kind, tmp_path):
    tiny.unet(tmp_path, kind, layers_per_block=1)
    model = hub.UNet2DConditionModel.from_preset(tmp_path)
    config = model.get_config()
    inputs = {
        "latents": LATENTS[..., : config["in_channels"]],
        "context": CONTEXT[..., : config["cross_attention_dim"]],
        "timestep": np.array([3, 500], "int32"),
    }
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    losses = model.fit(inputs, normal(2, 9, 12, 4), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("class_embed_type", "timestep"), ("down_block_types", ["AttnDownBlock2D"] * 3),
     ("time_cond_proj_dim", 8), ("attention_head_dim", [1, 2]), ("act_fn", "gelu")],
)  # fmt: skip
def test_options_that_are_not_supported(unet, tmp_path, key, value):
    config = json.loads((unet[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ValueError, match=key if key != "down_block_types" else "AttnDownBlock2D"):
        hub.UNet2DConditionModel.from_preset(tmp_path, load_weights=False)


def test_bad_input(vae, backend):
    model = hub.AutoencoderKL.from_preset(vae[0])
    with pytest.raises(ValueError, match="multiples of 4"):
        model.encode(IMAGES[:, :19])
    with pytest.raises(ValueError, match="4 channels"):
        model.decode(IMAGES)
    network = hub.UNet2DConditionModel(
        block_out_channels=(4,), down_block_types=("DownBlock2D",), norm_num_groups=2,
        up_block_types=("UpBlock2D",), cross_attention_dim=6, attention_head_dim=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="`context` must have 6 channels"):
        network({"latents": LATENTS[..., :4], "timestep": 1, "context": CONTEXT})
    with pytest.raises(ValueError, match="`latents` must have 4 channels"):
        network({"latents": LATENTS, "timestep": 1, "context": CONTEXT[..., :6]})


def test_half_precision_is_near(backend, unet):
    model = hub.UNet2DConditionModel.from_preset(unet[0], dtype="mixed_bfloat16")
    latents = LATENTS[..., : unet[1].config.in_channels]
    context = CONTEXT[..., : unet[1].config.cross_attention_dim]
    with torch.no_grad():
        expected = unet[1](
            channels_first(latents), torch.as_tensor(17), torch.from_numpy(context)
        ).sample
    out = tiny.called(model, {"latents": latents, "timestep": 17, "context": context})
    assert ops.dtype(out) == "bfloat16"
    assert_close(ops.cast(out, "float32"), channels_last(expected), share=0.05)


def test_tiles(backend, tmp_path):
    theirs = tiny.vae(
        tmp_path, layers_per_block=1, block_out_channels=(8, 12), sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    theirs.enable_tiling()
    ours = hub.AutoencoderKL.from_preset(tmp_path)
    ours.tiling = True
    images = np.random.default_rng(0).uniform(-1, 1, (2, 36, 24, 3)).astype("float32")
    latents = np.random.default_rng(1).normal(size=(2, 18, 12, 4)).astype("float32")
    with torch.no_grad():
        mean = theirs.encode(channels_first(images)).latent_dist.mean
        wanted = theirs.decode(channels_first(latents)).sample
    assert_close(ours.encode(images)[0], channels_last(mean))
    assert_close(ours.decode(latents), channels_last(wanted))
    whole = ops.convert_to_numpy(ours.decode(latents))
    ours.tiling = False
    assert np.abs(whole - ops.convert_to_numpy(ours.decode(latents))).max() > 1e-3
