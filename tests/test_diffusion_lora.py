"""LoRA files of Stable Diffusion, exchanged with diffusers both ways on every backend."""

import json

import numpy as np
import peft
import pytest
import torch
from diffusion_checkpoints import diffusers
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from test_stable_diffusion import pipeline

import hub
import keraslite as keras
from keraslite import ops

pytest_plugins = ["tests.hub_server"]
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(2, 8, 8, 4)).astype("float32")
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


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


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
    return root / "pipeline", root / "lora", expected


def moved(ours, theirs):
    return all(np.abs(a - b).max() > 0.02 * np.abs(b).max() for a, b in zip(ours, theirs))


@pytest.mark.parametrize("fuse", [False, True])
def test_a_lora_of_diffusers(backend, made, tmp_path, fuse):
    folder, lora, expected = made
    assert moved(expected[1.0], expected[0])
    assert moved(expected[1.0], expected[0.4])
    model = hub.StableDiffusion.from_preset(folder)
    count = len(model.unet.variables)
    changed = model.load_lora(lora, scale=0.4, fuse=fuse)
    names = {n.partition(".lora_")[0] for n in load_file(lora / "pytorch_lora_weights.safetensors")}
    assert {n.replace(".text_model.", ".") for n in names} == set(changed)
    close(ours_of(model), expected[0.4])
    if fuse:
        assert len(model.unet.variables) == count
        assert all(v.trainable for v in model.unet.variables)
        for call in (model.unload_lora, lambda: model.save_lora(tmp_path)):
            with pytest.raises(ValueError, match="There is no LoRA: .* fused is part of the"):
                call()
        return
    with pytest.raises(ValueError, match="There is a LoRA already"):
        model.load_lora(lora)
    model.save_lora(tmp_path)
    model.unload_lora()
    assert len(model.unet.variables) == count
    assert all(v.trainable for v in model.unet.variables)
    close(ours_of(model), expected[0])
    model.load_lora(lora)
    close(ours_of(model), expected[1.0])
    if backend == "torch":  # what was saved, by diffusers
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder)
        pipe.load_lora_weights(tmp_path)
        close(outputs_of(pipe), expected[0.4])
