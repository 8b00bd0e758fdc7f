"""Single files of Stable Diffusion against diffusers, on every backend in one process."""

import json
from functools import partial

import compare
import ldm_files
import numpy as np
import pytest
import torch
import transformers
from clip_checkpoints import tokenizer_files
from diffusion_checkpoints import channels_first, channels_last, diffusers
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras
from hub.diffusion import single_file as ldm

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
assert_close = partial(compare.assert_close, rtol=0, atol=0, share=3e-5)
RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(2, 8, 8, 9)).astype("float32")


def configs(folder, kind):
    """Write the configs of a tiny pipeline as diffusers wants them beside a single file."""
    sizes = ldm_files.TINY[kind]
    v2 = kind == "v2"
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tokenizer_files(folder / "tokenizer"))
    down = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    unet = diffusers.UNet2DConditionModel(
        sample_size=96 if v2 else 64, block_out_channels=sizes["channels"],
        cross_attention_dim=sizes["context"], down_block_types=down,
        attention_head_dim=tuple(c // 64 for c in sizes["channels"]) if v2 else 8,
        use_linear_projection=v2, upcast_attention=v2,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=sizes["vae"], layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=sizes["context"], intermediate_size=sizes["inside"],
        num_hidden_layers=sizes["blocks"], num_attention_heads=sizes["context"] // 64,
        bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1,
        hidden_act="gelu" if v2 else "quick_gelu",
    ))  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae, text, tokenizer, unet, diffusers.DDIMScheduler(steps_offset=1, clip_sample=False), None,
        None, requires_safety_checker=False,
    )  # fmt: skip
    for part in ("unet", "vae", "text_encoder"):
        (folder / part).mkdir()
        config = getattr(pipe, part).config
        config = json.loads(config.to_json_string()) if part == "text_encoder" else dict(config)
        (folder / part / "config.json").write_text(json.dumps(config))
    pipe.scheduler.save_pretrained(folder / "scheduler")
    pipe.save_config(folder)
    return len(tokenizer)


@pytest.fixture(scope="module", params=["v1", "v2"])
def made(request, tmp_path_factory):
    """The version, a single file, the folder of its configs, and diffusers' pipeline of both."""
    kind, folder = request.param, tmp_path_factory.mktemp("single")
    words = configs(folder / "configs", kind)
    shapes = ldm_files.whole(kind, {**ldm_files.TINY[kind], "words": words})
    save_file(ldm_files.drawn(shapes), folder / "model.safetensors")
    pipe = diffusers.StableDiffusionPipeline.from_single_file(
        folder / "model.safetensors", config=str(folder / "configs"), local_files_only=True
    )
    return kind, folder / "model.safetensors", folder / "configs", pipe


V1 = pytest.mark.parametrize("made", ["v1"], indirect=True)  # which alone has CLIP's own tower


def assert_same_texts(model, pipe):
    texts = ["a photo of a cat", "it is dark"]
    ids = pipe.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        assert_close(model.encode_text(texts), pipe.text_encoder(ids).last_hidden_state)


def assert_same_networks(model, pipe, context):
    """All three networks give what diffusers' give."""
    assert_same_texts(model, pipe)
    states = RNG.normal(size=(2, 5, context)).astype("float32")
    latents = LATENTS[..., :4]
    with torch.no_grad():
        noise = pipe.unet(
            channels_first(latents), torch.tensor(17), torch.from_numpy(states)
        ).sample
        image = pipe.vae.decode(channels_first(latents)).sample
        moments = pipe.vae.encode(image).latent_dist
    assert_close(
        model.unet({"latents": latents, "timestep": 17, "context": states}), channels_last(noise)
    )
    decoded = model.vae.decode(latents)
    assert_close(decoded, channels_last(image))
    assert_close(model.vae.encode(decoded)[0], channels_last(moments.mean))


def test_a_single_file(backend, made, tmp_path):
    kind, file, folder, pipe = made
    model = hub.StableDiffusion.from_single_file(file, tokenizer=folder)
    assert model.unet.backend == backend
    width = ldm_files.TINY[kind]["context"]
    assert_same_texts(model, pipe)
    if backend == "torch":  # what the networks do on the others is asked in test_unet_vae
        assert_same_networks(model, pipe, width)
    usual = {"v1": ("epsilon", "pndm", 256), "v2": ("v_prediction", "ddim", 384)}[kind]
    scheduler = model.scheduler
    assert (scheduler.config["prediction_type"], scheduler.name, model.img_height) == usual
    # And back: what diffusers opens, and we again, tensor by tensor.
    model.save_single_file(tmp_path / "ours.safetensors")
    before, after = load_file(file), load_file(tmp_path / "ours.safetensors")
    assert after.keys() == {
        name for name in before if not any(ldm.re.fullmatch(p, name) for p in ldm._IGNORED)
    }
    for name in after:
        np.testing.assert_array_equal(after[name], before[name], name)
    if backend == "torch":
        again = diffusers.StableDiffusionPipeline.from_single_file(
            tmp_path / "ours.safetensors", config=str(folder), local_files_only=True
        )
        assert_same_networks(model, again, width)


def a_tokenizer():
    return hub.CLIPTokenizer({"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}, [])


REAL = {
    "v1": (686 + 248 + 196, 859_520_964 + 83_653_863 + 123_060_480, 512),
    "v2": (686 + 248 + 372, 865_910_724 + 83_653_863 + 340_387_840, 768),
}


@pytest.mark.parametrize("kind", REAL)
def test_files_of_the_published_size(kind, tmp_path):
    """Every name and shape of the real files fits; in their own dtype nothing is converted."""
    shapes = ldm_files.whole(kind, ldm_files.REAL[kind])
    file = ldm_files.sparse(tmp_path / f"{kind}.safetensors", shapes)
    with keras.use_backend("numpy"):
        tokenizer = a_tokenizer()
        model = hub.StableDiffusion.from_single_file(file, tokenizer=tokenizer, dtype="float16")
    networks = (model.unet, model.vae, model.text_encoder)
    tensors, parameters, size = REAL[kind]
    assert sum(len(x.variables) for x in networks) == tensors
    assert sum(x.count_params() for x in networks) == parameters
    assert model.img_height == model.img_width == size
    heads = {"v1": (8,) * 4, "v2": (5, 10, 20, 20)}[kind]
    assert tuple(model.unet.config["attention_head_dim"]) == heads


def test_the_names_are_those_of_diffusers(made):
    """diffusers' own conversion of a file gives the names that ours come from."""
    kind, file, folder, pipe = made
    theirs_utils = diffusers.loaders.single_file_utils
    weights = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
    version = ldm.VERSIONS[ldm_files.TINY[kind]["context"]]
    unet, vae = (json.loads((folder / x / "config.json").read_text()) for x in ("unet", "vae"))
    text = (
        theirs_utils.convert_open_clip_checkpoint(pipe.text_encoder, dict(weights))
        if kind == "v2" else theirs_utils.convert_ldm_clip_checkpoint(dict(weights))
    )  # fmt: skip
    text = {n.removeprefix("text_model."): v for n, v in text.items()}
    text = {n: v for n, v in text.items() if "position_ids" not in n and "text_proj" not in n}
    for part, config, converted in (
        ("unet", unet, theirs_utils.convert_ldm_unet_checkpoint(dict(weights), unet)),
        ("vae", vae, theirs_utils.convert_ldm_vae_checkpoint(dict(weights), vae)),
        ("text_encoder", {}, text),
    ):
        names = ldm.ldm_names(converted, part, version, config)
        fused = ("q_proj", "k_proj", "v_proj") if (kind, part) == ("v2", "text_encoder") else ()
        for name, value in converted.items():
            expected = weights[names[name]]
            layer = name.split(".")[-2]
            if layer in fused:
                expected = expected.chunk(3)[fused.index(layer)]
            assert torch.equal(value, expected.reshape(value.shape)), name


def test_the_last_block_of_open_clip_is_left_out(backend, tmp_path):
    sizes = {**ldm_files.TINY["v2"], "words": 30}
    shapes = ldm_files.open_clip(30, 24, 1024, 4)
    shapes |= {n: s for n, s in ldm_files.whole("v2", sizes).items() if "cond_stage" not in n}
    file = ldm_files.sparse(tmp_path / "a.safetensors", shapes)
    tokenizer = a_tokenizer()
    model = hub.StableDiffusion.from_single_file(file, tokenizer=tokenizer)
    assert model.tokenizer is tokenizer
    assert model.text_encoder.config["num_layers"] == 23


def test_arguments(made, tmp_path):
    kind, file, folder, _ = made
    with keras.use_backend("numpy"):
        model = hub.StableDiffusion.from_single_file(
            file, tokenizer=folder / "tokenizer", prediction_type="epsilon", scheduler="euler",
            img_height=64, dtype="bfloat16", backend="torch",
        )  # fmt: skip
        assert (model.img_height, model.img_width) == (64, 256)
        assert model.scheduler.name == "euler"
        assert model.scheduler.config["prediction_type"] == "epsilon"
        assert model.unet.backend == "torch"
        assert model.vae.variable_dtype == "bfloat16"
        images = model.text_to_image("a cat", num_steps=1, seed=0)
        assert images.shape == (1, 64, 256, 3)
        # Parts of others, where the file has none.
        weights = load_file(file)
        alone = {n: v for n, v in weights.items() if n.startswith("model.diffusion_model")}
        save_file(alone, tmp_path / "unet.safetensors")
        other = hub.StableDiffusion.from_single_file(
            tmp_path / "unet.safetensors", tokenizer=model.tokenizer, vae=model.vae,
            text_encoder=model.text_encoder, scheduler=model.scheduler,
        )  # fmt: skip
        assert other.vae is model.vae
        assert other.scheduler is model.scheduler
        with pytest.raises(ValueError, match=r"no first_stage_model\.encoder"):
            hub.StableDiffusion.from_single_file(
                tmp_path / "unet.safetensors", text_encoder=model.text_encoder
            )


@V1
def test_files_of_the_hub(made, hub_server):
    _, file, folder, _ = made
    files = {"model.safetensors": file.read_bytes()}
    hub_server.publish("someone/fine-tuned", files)
    # The tokenizer comes from here.
    hub_server.publish("stable-diffusion-v1-5/stable-diffusion-v1-5", folder)
    with keras.use_backend("numpy"):
        for handle in ("hf://someone/fine-tuned@main/model.safetensors",
                       "someone/fine-tuned/model.safetensors"):  # fmt: skip
            model = hub.StableDiffusion.from_single_file(handle)
            assert model.tokenizer("a cat")["token_ids"].shape[-1] > 2
        with pytest.raises(FileNotFoundError, match=r"has no 'odd\.safetensors'; it has: model"):
            hub.StableDiffusion.from_single_file("someone/fine-tuned/odd.safetensors")


def test_files_that_do_not_fit(made, tmp_path):
    kind, file, folder, _ = made
    weights, path = load_file(file), tmp_path / "bad.safetensors"
    block = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    middle = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    changes = (
        ({block: None, "control_model.odd.weight": weights["betas"]},
         r"(?s)Missing in the file \(1\): .*input_blocks\.1\.1.*Unknown in the file \(1\): control"),
        ({block: weights[block][:, :5].copy()}, "1 tensors have a wrong shape"),
        ({middle: weights[middle][:, :99].copy()}, "width 99, which is neither"),
        ({"model.diffusion_model.out.2.weight": np.zeros((), "float32")}, r"has the shape \(\)"),
        ({n: None for n in weights if n.startswith("model.")},
         "no single file of Stable Diffusion 1 or 2: it has no model"),
    )  # fmt: skip
    with keras.use_backend("numpy"):
        for change, message in changes:
            save_file({n: v for n, v in {**weights, **change}.items() if v is not None}, path)
            with pytest.raises(ValueError, match=message):
                hub.StableDiffusion.from_single_file(path, tokenizer=folder)
        with pytest.raises(FileNotFoundError, match="there is no file './none"):
            hub.StableDiffusion.from_single_file("./none.safetensors")
        with pytest.raises(TypeError, match="expected the path of a file"):
            hub.StableDiffusion.from_single_file(3)
        model = hub.StableDiffusion.from_single_file(file, tokenizer=folder)
        with pytest.raises(ValueError, match=r"must end with '\.safetensors'"):
            model.save_single_file(tmp_path / "a.ckpt")
        model.unet.config["norm_num_groups"] = 16
        with pytest.raises(
            ValueError, match=r"cannot say \['norm_num_groups'\] of the unet: \[16\]"
        ):
            model.save_single_file(tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()


def test_an_inpainting_network_has_nine_channels(tmp_path):
    shapes = ldm_files.whole("v1", {**ldm_files.TINY["v1"], "words": 30}, inputs=9)
    file = ldm_files.sparse(tmp_path / "a.safetensors", shapes)
    networks = ldm.read_networks(ldm.open_file(*ldm.resolve_file(file)), "the file")[1]
    assert networks["unet"].config["in_channels"] == 9


@V1
def test_a_level_that_some_files_leave_out(made, tmp_path):
    _, file, folder, pipe = made
    weights = {n.replace("transformer.text_model", "transformer"): v
               for n, v in load_file(file).items()}  # fmt: skip
    save_file(weights, tmp_path / "a.safetensors")
    with keras.use_backend("numpy"):
        model = hub.StableDiffusion.from_single_file(tmp_path / "a.safetensors", tokenizer=folder)
        assert_same_texts(model, pipe)
