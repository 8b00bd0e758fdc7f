"""LoRA files of Stable Diffusion, exchanged with diffusers both ways on every backend."""

import json
from functools import partial

import compare
import numpy as np
import peft
import pytest
import torch
from diffusion_checkpoints import diffusers, pipeline
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import hub
import keraslite as keras
from keraslite import ops

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
assert_close = partial(compare.assert_close, rtol=0, atol=0, share=1e-4)
RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(2, 8, 8, 4)).astype("float32")
FILE = "pytorch_lora_weights.safetensors"
TEXTS = ["a photo of a cat", "it is dark"]
# Dense layers, convolutions of single pixels and of nine; ranks and alphas that differ.
UNET = {
    "r": 3, "lora_alpha": 6, "rank_pattern": {r"down_blocks\.0\..*to_v": 2},
    "alpha_pattern": {"proj_in": 1.5},
    "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj",
                       "ff.net.2", "conv1", "conv_shortcut", "time_emb_proj"],
}  # fmt: skip
TEXT = {"r": 4, "lora_alpha": 2, "target_modules": ["q_proj", "v_proj", "out_proj", "fc1"]}


def adapter(folder, pipe, metadata=True):
    """Write a LoRA with random numbers, as diffusers does; gives its configs."""
    torch.manual_seed(1)
    layers, configs = {}, {}
    for part, given in (("unet", UNET), ("text_encoder", TEXT)):
        model = getattr(pipe, part)
        config = peft.LoraConfig(**given)
        model.add_adapter(config, "one")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter) * 0.2)
        layers[f"{part}_lora_layers"] = get_peft_model_state_dict(model, adapter_name="one")
        configs[f"{part}_lora_adapter_metadata"] = config.to_dict() if metadata else None
        model.delete_adapters("one") if part == "unet" else model.delete_adapter("one")
    pipe.save_lora_weights(folder, **layers, **configs)


def outputs_of(pipe):
    ids = pipe.tokenizer(TEXTS, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids).last_hidden_state
        latents = torch.from_numpy(np.moveaxis(LATENTS, -1, 1).copy())
        noise = pipe.unet(latents, torch.tensor(17), states).sample
    return states.numpy(), np.moveaxis(noise.numpy(), 1, -1)


def ours_of(model):
    states = model.encode_text(TEXTS)
    noise = model.unet({"latents": LATENTS, "timestep": 17, "context": states})
    return ops.convert_to_numpy(states), ops.convert_to_numpy(noise)


@pytest.fixture(scope="module", params=["v1", "v2"])
def made(request, tmp_path_factory):
    """The folder of a pipeline and that of a LoRA, and what diffusers gives by scale."""
    root = tmp_path_factory.mktemp("lora")
    pipe = pipeline(root / "pipeline", request.param)
    expected = {0: outputs_of(pipe)}
    adapter(root / "lora", pipe)
    for scale in (1.0, 0.4):
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(root / "pipeline")
        pipe.load_lora_weights(root / "lora")
        pipe.fuse_lora(lora_scale=scale)
        expected[scale] = outputs_of(pipe)
    pipe.unload_lora_weights()  # fused weights stay
    expected["unet"] = {n: v.clone() for n, v in pipe.unet.state_dict().items()}
    return root / "pipeline", root / "lora", expected


def moved(ours, theirs):
    return all(np.abs(a - b).max() > 0.02 * np.abs(b).max() for a, b in zip(ours, theirs))


@pytest.mark.parametrize("fuse", [False, True])
def test_a_lora_of_diffusers(backend, made, tmp_path, fuse):
    folder, lora, expected = made
    if backend != "torch" and folder.parent.name != "lora0":
        pytest.skip("dense layers in place of convolutions: once is enough")
    assert moved(expected[1.0], expected[0])
    assert moved(expected[1.0], expected[0.4])
    model = hub.StableDiffusion.from_preset(folder)
    before = [v.numpy() for v in model.unet.variables]
    changed = model.load_lora(lora, scale=0.4, fuse=fuse)
    names = {n.partition(".lora_")[0] for n in load_file(lora / FILE)}
    assert {n.replace(".text_model.", ".") for n in names} == set(changed)
    if backend == "torch":
        assert_close(ours_of(model), expected[0.4])
    model.save_to_preset(tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "unet" / "diffusion_pytorch_model.safetensors")
    assert merged.keys() == expected["unet"].keys()
    for name, value in merged.items():
        torch.testing.assert_close(value, expected["unet"][name], rtol=1e-5, atol=1e-5)
    if fuse:
        assert len(model.unet.variables) == len(before)
        assert all(v.trainable for v in model.unet.variables)
        for call in (model.unload_lora, lambda: model.save_lora(tmp_path)):
            with pytest.raises(ValueError, match="There is no LoRA: .* fused is part of the"):
                call()
        return
    with pytest.raises(ValueError, match="There is a LoRA already"):
        model.load_lora(lora)
    assert len(model.unet.trainable_variables) < len(model.unet.variables)
    model.save_lora(tmp_path / "ours")
    model.unload_lora()
    assert all(v.trainable for v in model.unet.variables)
    for variable, value in zip(model.unet.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    first, second = (load_file(x / FILE) for x in (lora, tmp_path / "ours"))
    second = {n.replace("text_encoder.text_model.", "text_encoder."): v for n, v in second.items()}
    first = {n.replace("text_encoder.text_model.", "text_encoder."): v for n, v in first.items()}
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)
    if backend == "torch":
        model.load_lora(lora)
        assert_close(ours_of(model), expected[1.0])
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
        pipe.load_lora_weights(tmp_path / "ours")
        assert_close(outputs_of(pipe), expected[0.4])
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "merged")
        assert_close(outputs_of(pipe), expected[0.4])


def flat(module, part):
    names = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    return names[part] + module.replace(".", "_")


def kohya(part, module, a, b, alpha):
    return {
        f"{flat(module, part)}.lora_down.weight": a, f"{flat(module, part)}.lora_up.weight": b,
        f"{flat(module, part)}.alpha": torch.tensor(alpha),
    }  # fmt: skip


def downs(part, module, a, b, alpha):
    """As of diffusers 0.20; there is no alpha."""
    start = {"unet": "unet.", "text_encoder": "text_encoder.text_model."}[part]
    end = {"unet": "lora", "text_encoder": "lora_linear_layer"}[part]
    return {f"{start}{module}.{end}.down.weight": a, f"{start}{module}.{end}.up.weight": b * 0.5}


def processors(part, module, a, b, alpha):
    """As of diffusers 0.15 for what it knew: projections of attention."""
    stem = "unet." if part == "unet" else "text_encoder.text_model."
    parent, _, name = module.removesuffix(".0").rpartition(".")
    name = {"q_proj": "to_q", "v_proj": "to_v", "out_proj": "to_out"}.get(name, name)
    if name not in ("to_q", "to_k", "to_v", "to_out"):
        return {}
    middle = ".processor" if part == "unet" else ""
    return {
        f"{stem}{parent}{middle}.{name}_lora.down.weight": a,
        f"{stem}{parent}{middle}.{name}_lora.up.weight": b,
    }


@pytest.mark.parametrize("spelling", [kohya, downs, processors])
def test_older_names(made, tmp_path, spelling):
    folder, lora, expected = made
    known = {"unet": ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "ff.net.2"),
             "text_encoder": ("q_proj", "v_proj", "out_proj")}  # fmt: skip
    given, renamed = load_file(lora / FILE), {}
    for name, a in given.items():
        part, _, module = name.replace("text_model.", "").partition(".lora_A.")[0].partition(".")
        if ".lora_A." in name and module.endswith(known[part]):
            b = given[name.replace("lora_A", "lora_B")]
            renamed |= spelling(part, module, a.clone(), b.clone(), 1.5)
    save_file(renamed, tmp_path / FILE)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipe.load_lora_weights(tmp_path)
    theirs = outputs_of(pipe)
    assert moved(theirs, expected[0])
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folder)
        changed = model.load_lora(tmp_path / FILE)
        assert len(changed) == sum(n.endswith("down.weight") for n in renamed)
        assert_close(ours_of(model), theirs)


def test_the_oldest_names_have_no_start(made, tmp_path):
    folder, lora, _ = made
    given = {n.removeprefix("unet."): v for n, v in load_file(lora / FILE).items()}
    save_file({n: v for n, v in given.items() if "blocks" in n}, tmp_path / "only.safetensors")
    with keras.use_backend("numpy"):
        model = hub.StableDiffusion.from_preset(folder)
        changed = model.load_lora(tmp_path)
        assert all(name.startswith("unet.") for name in changed)
        assert len(changed) == sum("lora_A" in n for n in given if "blocks" in n)


def test_images_follow_the_scale(backend, tmp_path):
    """What was compiled with one scale is not used with another; what was trained here is saved."""
    tokenizer = hub.CLIPTokenizer({"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}, [])
    model = hub.StableDiffusion(
        16, 16, tokenizer=tokenizer, scheduler="ddim",
        text_encoder=hub.CLIPTextEncoder(3, 1, 1, 4, 4), vae=hub.AutoencoderKL(
            block_out_channels=(4,), layers_per_block=1, norm_num_groups=2
        ),
        unet=hub.UNet2DConditionModel(
            block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
            cross_attention_dim=4, down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
        ),
    )  # fmt: skip

    def drawn():
        return model.text_to_image("a", num_steps=1, seed=1, output="latent")

    layer = model.unet.mid.attentions[0].proj_in
    layer.enable_lora(2, 3.0)
    layer.lora_kernel_b.assign(RNG.normal(size=layer.lora_kernel_b.shape).astype("float32"))
    model.save_lora(tmp_path)
    model.unload_lora()
    found = []
    for scale in (1.0, 0.2):
        assert model.load_lora(tmp_path, scale=scale) == ["unet.mid_block.attentions.0.proj_in"]
        assert layer.lora_alpha == 3.0 * scale
        found.append(drawn())
        model.unload_lora()
    assert np.abs(found[0] - found[1]).max() > 1e-3
    model.load_lora(tmp_path, fuse=True)
    np.testing.assert_allclose(drawn(), found[0], atol=2e-4 * np.abs(found[0]).max())


def test_over_int8(made):
    folder, lora, expected = made
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folder)
        model.unet.quantize("int8")
        with pytest.raises(ValueError, match="kept in int8, which holds no update"):
            model.load_lora(lora, fuse=True)
        before = ours_of(model)[1]
        model.load_lora(lora)
        layer = model.unet.mid.attentions[0].block.attn1.query
        with pytest.raises(ValueError, match="cannot be merged into a quantized weight"):
            layer.disable_lora(merge=True)
        noise, wanted = ours_of(model)[1], expected[1.0][1]
        assert np.abs(noise - wanted).max() < 0.3 * np.abs(before - wanted).max()


def test_files_that_do_not_fit(made, tmp_path):
    folder, lora, expected = made
    given = load_file(lora / FILE)
    a = next(n for n in given if "down_blocks.0" in n and "attn1.to_q.lora_A" in n)
    twice = a.replace("lora_A", "lora.down")
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folder)
        before = ours_of(model)

        def refused(message, tensors, said=None):
            metadata = None if said is None else {"lora_adapter_metadata": said}
            save_file(tensors, tmp_path / FILE, metadata)
            with pytest.raises(ValueError, match=message):
                model.load_lora(tmp_path)
            assert_close(ours_of(model), before)
            assert not any("lora" in v.path for v in model.unet.variables)

        refused(
            r"(?s)nothing was changed.*Unknown \(1\): unet\.odd.*Missing \(1\): A of "
            r"unet\.down_blocks\.0.*Of another shape \(1\): unet.*a\(3, 1\)",
            {**{n: v for n, v in given.items() if n != a}, "unet.odd.lora_A.weight": given[a],
             a.replace("to_q", "to_k"): torch.zeros(3, 1)},
        )  # fmt: skip
        refused(r"Unknown \(1\): unet.*lora_A", {**given, twice: given[a].clone()})
        refused(r"(?s)Unknown \(0\): none.*Missing \(0\)", {})
        refused("use_dora=True, which is not supported", given, json.dumps({"unet.use_dora": True}))
        refused("is not JSON", given, "{")
        refused("must be an object", given, "[]")
        for call, message in (
            (lambda: model.load_lora(lora, scale=float("nan")), "scale=nan"),
            (model.unload_lora, "There is no LoRA"),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="neither pytorch_lora_weights"):
            model.load_lora(tmp_path / "empty")


def test_files_of_the_hub(made, hub_server):
    folder, lora, _ = made
    hub_server.publish("someone/style", {"style.safetensors": (lora / FILE).read_bytes()})
    with keras.use_backend("numpy"):
        model = hub.StableDiffusion.from_preset(folder)
        for handle in ("someone/style", "someone/style/style.safetensors",
                       "hf://someone/style@main/style.safetensors"):  # fmt: skip
            assert model.load_lora(handle)
            model.unload_lora()
        with pytest.raises(FileNotFoundError, match="has no 'odd"):
            model.load_lora("someone/style/odd.safetensors")
