"""The safety checker against diffusers': alone, and in a pipeline."""

import json

import numpy as np
import pytest
import torch
import transformers
from diffusers.pipelines.stable_diffusion import safety_checker as oracle
from diffusion_checkpoints import PROMPT, diffusers, pipeline
from safetensors.torch import load_file, save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import hub
import keraslite as keras
from hub.cli import main
from hub.presets.build import arguments

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
SIZE = {"img_height": 16, "img_width": 16}
DRAWN = {"num_steps": 2, "seed": 1}
VISION = {
    "hidden_size": 10, "intermediate_size": 14, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 15, "patch_size": 4,
}  # fmt: skip
EXPECTED = [True, True, False, False]  # the second by special care alone
FAR = 1.5  # a limit that no cosine comes to


def checker(folder, images):
    """Write a checker that flags two of four images; gives diffusers' own and the pixels."""
    torch.manual_seed(0)
    config = transformers.CLIPConfig(vision_config=VISION, projection_dim=6)
    model = oracle.StableDiffusionSafetyChecker(config).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 15}, crop_size=15)
    processor.save_pretrained(folder / "feature_extractor")
    pixels = hub.ImagePreprocessor(size=15, crop_size=15)(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        tower = model.vision_model
        tower.embeddings.patch_embedding.weight.mul_(40)  # else images are all alike
        seen = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        near = torch.nn.functional.normalize(model.visual_projection(tower(seen)[1]))
        limits, special = model.concept_embeds_weights, model.special_care_embeds_weights
        limits.fill_(FAR)
        special.fill_(FAR)
        # The vectors are those of images, whose cosine is 1: above its limit, or 0.005 below.
        model.concept_embeds[3:6] = near[:3] * 2
        limits[3:6] = torch.tensor([_between(near, 0), 1.005, 1.005])
        model.special_care_embeds[1] = near[1]
        special[1] = _between(near, 1)
    model.save_pretrained(folder / "safety_checker")
    return model, pixels


def _between(near, i):
    """A limit that one image alone is above."""
    cosines = near @ near[i]
    others = torch.cat([cosines[:i], cosines[i + 1 :]]).max()
    assert others < 0.99
    return (1 + others) / 2


def flags_of(model, pixels):
    seen = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return model(seen, np.zeros((len(pixels), 1)))[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a pipeline with a checker, its images, diffusers' checker and its pixels."""
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline(folder)
    with keras.use_backend("torch"):
        images = hub.StableDiffusion.from_preset(folder, **SIZE).text_to_image(
            PROMPT, batch_size=4, **DRAWN
        )
    theirs, pixels = checker(folder, images)
    return folder, images, theirs, pixels


def test_flags_are_those_of_diffusers(backend, made, tmp_path):
    folder, _, theirs, pixels = made
    assert flags_of(theirs, pixels) == EXPECTED
    model = hub.StableDiffusionSafetyChecker.from_preset(folder / "safety_checker")
    found = {k: keras.ops.convert_to_numpy(v) for k, v in model(pixels).items()}
    assert found["flags"].dtype == bool and found["flags"].tolist() == EXPECTED
    assert found["special_care"].tolist() == [False, True, False, False]
    assert found["concept_scores"].shape == (4, 17)
    np.testing.assert_allclose(found["concept_scores"][[1, 2], [4, 5]], [0.005, -0.005], atol=1e-6)
    model.save_to_preset(tmp_path)
    again = oracle.StableDiffusionSafetyChecker.from_pretrained(tmp_path)
    assert flags_of(again, pixels) == EXPECTED
    for ours, other in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_special_care_is_what_flags_the_second(backend, made):
    folder, _, _, pixels = made
    model = hub.StableDiffusionSafetyChecker.from_preset(folder / "safety_checker")
    model.special_care_embeds_weights.assign(np.full(3, FAR, "float32"))
    assert np.asarray(model({"images": pixels})["flags"]).tolist() == [True, False, False, False]


def test_a_score_counts_when_it_is_rounded(backend, made, tmp_path):
    """Limits 0.0002, 0.0004, 0.0006 and 0.0008 below a cosine of 1."""
    folder, _, theirs, pixels = made
    limits = theirs.concept_embeds_weights.detach().clone()
    model = hub.StableDiffusionSafetyChecker.from_preset(folder / "safety_checker")
    for below, flagged in ((2e-4, False), (4e-4, False), (6e-4, True), (8e-4, True)):
        changed = limits.clone()
        changed[3] = 1 - below
        model.concept_embeds_weights.assign(changed.numpy())
        with torch.no_grad():
            theirs.concept_embeds_weights.copy_(changed)
            expected = flags_of(theirs, pixels)
            theirs.concept_embeds_weights.copy_(limits)
        assert expected[0] is flagged
        assert np.asarray(model(pixels)["flags"]).tolist() == expected


def test_files_as_they_are_published(made, tmp_path):
    """The tower under its longer name, indices among the tensors, a config that says things twice.

    In half precision the tower is rounded, the concepts and their limits are not.
    """
    folder, _, _, pixels = made
    tensors = load_file(folder / "safety_checker" / "model.safetensors")
    start = "vision_model."
    tensors = {f"{start}{k}" if k.startswith(start) else k: v for k, v in tensors.items()}
    tensors[f"{start}{start}embeddings.position_ids"] = torch.arange(10)[None]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "safety_checker" / "config.json").read_text())
    config |= {"vision_config": {"hidden_size": 99}, "vision_config_dict": VISION}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with keras.use_backend("torch"):
        model = hub.StableDiffusionSafetyChecker.from_preset(tmp_path)
        assert np.asarray(model(pixels)["flags"]).tolist() == EXPECTED
        assert type(hub.load(tmp_path)) is type(model)
        model.save_to_preset(tmp_path / "b")
        assert set(load_file(tmp_path / "b" / "model.safetensors")) == {
            name for name in tensors if not name.endswith("position_ids")
        }
        half = hub.StableDiffusionSafetyChecker.from_preset(tmp_path / "b", dtype="float16")
        assert half.concept_embeds_weights.dtype == "float32"
        assert np.asarray(half(pixels)["flags"]).tolist()[::2] == EXPECTED[::2]
        model.save(tmp_path / "a.keras")
        kept = keras.saving.load_model(tmp_path / "a.keras")
        assert np.asarray(kept(pixels)["flags"]).tolist() == EXPECTED
    with pytest.raises(ValueError, match="use StableDiffusionSafetyChecker, not CLIPBackbone"):
        hub.CLIPBackbone.from_preset(tmp_path)


def test_the_published_sizes():
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
             "num_hidden_layers": 24, "patch_size": 14}  # fmt: skip
    family = hub.families.family_of("StableDiffusionSafetyChecker")
    made = arguments(family, {"projection_dim": 768, "vision_config": tower})
    # OpenAI's tower of 303 179 776 (ViT-L/14), its projection, 20 concepts and their limits.
    count = hub.StableDiffusionSafetyChecker(**made).count_params()
    assert count == 303_179_776 + 1024 * 768 + 20 * 769


def test_a_pipeline_gives_flags_and_changes_no_image(backend, made):
    folder, images, _, _ = made
    model = hub.StableDiffusion.from_preset(folder, safety_checker=True, **SIZE)
    found, flags = model.text_to_image(PROMPT, batch_size=4, **DRAWN)
    assert np.abs(found.astype(int) - images).max() <= 2
    assert flags.dtype == bool and flags.tolist() == EXPECTED
    assert model.check_safety(images).tolist() == EXPECTED
    latents = model.text_to_image(PROMPT, batch_size=4, output="latent", **DRAWN)
    np.testing.assert_array_equal(model.preview(latents), found)


def test_every_way_to_an_image_gives_flags(made):
    folder, images, _, _ = made
    with keras.use_backend("torch"):
        parts = {"safety_checker": True, **SIZE}
        model = hub.StableDiffusion.from_preset(folder, **parts)
        mask = np.ones((16, 16), bool)
        for drawn, flags in (
            model.image_to_image(PROMPT, images, **DRAWN),
            model.inpaint(PROMPT, images, mask, **DRAWN),
            model.text_to_image(PROMPT, batch_size=4, output="pil", **DRAWN),
        ):
            assert isinstance(flags, np.ndarray)
            assert flags.tolist() == model.check_safety(drawn).tolist()
        task = hub.TextToImage.from_preset(folder, **parts)
        one, flag = task.generate(PROMPT, **DRAWN)
        assert flag is True and one.shape == (16, 16, 3)
        several, flags = task.generate([PROMPT] * 4, **DRAWN)
        assert several.shape == (4, 16, 16, 3) and flags.tolist() == EXPECTED
        assert task.generate(PROMPT, output="latent", **DRAWN).shape == (4, 4, 4)
        inputs = {"images": images[0], "prompts": PROMPT, "masks": mask}
        for cls in (hub.ImageToImage, hub.Inpaint):
            given = {k: v for k, v in inputs.items() if cls is hub.Inpaint or k != "masks"}
            one, flag = cls.from_preset(folder, **parts).generate(given, **DRAWN)
            assert one.shape == (16, 16, 3) and isinstance(flag, bool)


def test_it_is_off_unless_asked_for(made, tmp_path):
    folder, images, _, _ = made
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folder, **SIZE)
        assert model.text_to_image(PROMPT, **DRAWN).shape == (1, 16, 16, 3)
        with pytest.raises(ValueError, match=r"no safety checker.*safety_checker=True"):
            model.check_safety(images)
        model.save_to_preset(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert index["safety_checker"] == index["feature_extractor"] == [None, None]
        assert index["requires_safety_checker"] is False
        with pytest.raises(FileNotFoundError, match="has no folder 'safety_checker'"):
            hub.StableDiffusion.from_preset(tmp_path, safety_checker=True)


def test_it_is_pulled_when_it_is_asked_for(made, hub_server, monkeypatch, capsys):
    folder, images, _, _ = made
    hub_server.publish("stable-diffusion-v1-5/stable-diffusion-v1-5", folder)
    assert main(["pull", "stable_diffusion_v1.5", "--safety-checker"]) == 0
    assert main(["verify", "stable_diffusion_v1.5", "--safety-checker"]) == 0
    assert capsys.readouterr().out.count("\nsound") == 4
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nothing is missing now
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(
            "stable_diffusion_v1.5", safety_checker=True, **SIZE
        )
        assert model.check_safety(images).tolist() == EXPECTED


def test_diffusers_opens_the_pipeline_with_its_checker(made, tmp_path):
    folder, images, _, _ = made
    with keras.use_backend("torch"):
        checker = hub.StableDiffusionSafetyChecker.from_preset(folder / "safety_checker")
        plain = hub.StableDiffusion.from_preset(folder, **SIZE)
        names = ("text_encoder", "unet", "vae", "tokenizer", "scheduler")
        parts = {name: getattr(plain, name) for name in names}
        model = hub.StableDiffusion(**SIZE, **parts, safety_checker=checker)
        assert model.check_safety(images).tolist() == EXPECTED
        model.save_to_preset(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["requires_safety_checker"] is True
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    given = images.astype("float32") / 255
    _, flags = pipe.run_safety_checker(given, "cpu", torch.float32)
    assert flags == EXPECTED
