"""CLIP's towers, whole networks and tokenizer against transformers, on every backend."""

import json
from functools import partial

import compare
import numpy as np
import pytest
import torch
import transformers
from clip_checkpoints import KINDS, TEXT, VISION, both_towers, text_tower, tokenizer_files
from safetensors.torch import load_file, save_file

import hub
import keraslite as keras
from hub.presets import resolve

HARD = [
    "A photo of a Cat", "", "  two   spaces  ", "it's they'll we've 'tis", "naïve café ÅNGSTRÖM",
    "漢字かな交じり文 한국어", "👩‍👩‍👧‍👦 and 🤦🏽‍♀️!", "1234567 3.14 x2y3", "!!!??? --- ... ((", "tab\tnew\nline",
    "<|endoftext|> inside <|startoftext|>", "e\u0301 combining", "İstanbul ﬁ ß", "zero\u200bwidth",
    "supercalifragilisticexpialidocious " * 12, "a\x00b\x07c", "trailing \u00a0",
]  # fmt: skip
IDS = np.array([[5, 9, 30, 7, 38, 39, 39], [5, 38, 39, 39, 39, 39, 39]], "int32")
assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


def images(count=3, size=15):
    return np.random.default_rng(1).normal(size=(count, size, size, 3)).astype("float32")


def their_answer(model, pixels, ids=IDS):
    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(ids).long(),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        )


def assert_same(model, theirs, pixels=None):
    """Logits and vectors are those of transformers."""
    pixels = images() if pixels is None else pixels
    expected = their_answer(theirs, pixels)
    found = model({"images": pixels, "token_ids": IDS})
    for ours, name in {
        "vision_logits": "logits_per_image", "text_logits": "logits_per_text",
        "image_embeddings": "image_embeds", "text_embeddings": "text_embeds",
    }.items():  # fmt: skip
        assert_close(found[ours], getattr(expected, name))


@pytest.mark.parametrize("kind", KINDS)
def test_text_tower(backend, kind, tmp_path):
    theirs = text_tower(tmp_path / "a", kind)
    model = hub.CLIPTextEncoder.from_preset(tmp_path / "a")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS).long(), output_hidden_states=True)
    out = model({"token_ids": IDS})
    assert_close(out["sequence_output"], expected.last_hidden_state)
    assert_close(out["pooled_output"], expected.pooler_output)
    mask = np.array([[1] * 6 + [0], [1] * 3 + [0] * 4])
    with torch.no_grad():
        masked = theirs(torch.from_numpy(IDS).long(), torch.from_numpy(mask))
    ours = model({"token_ids": IDS, "padding_mask": mask})
    assert_close(ours["pooled_output"], masked.pooler_output)
    skipped = model({"token_ids": IDS}, skip=1)["sequence_output"]
    assert_close(skipped, theirs.final_layer_norm(expected.hidden_states[-2]))
    model.save_to_preset(tmp_path / "b")
    again = transformers.CLIPTextModel.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        assert_close(out["pooled_output"], again(torch.from_numpy(IDS).long()).pooler_output)


@pytest.mark.parametrize(("kind", "dtype"), [("openai", "float32"), ("laion", "float16")])
def test_both_towers(backend, kind, dtype, tmp_path):
    theirs = both_towers(tmp_path / "a", kind, dtype)
    model = hub.CLIPBackbone.from_preset(tmp_path / "a")
    assert_same(model, theirs)
    pixels, ids = torch.from_numpy(images()).permute(0, 3, 1, 2), torch.from_numpy(IDS).long()
    with torch.no_grad():
        assert_close(
            model.get_vision_embeddings(images()), theirs.get_image_features(pixels).pooler_output
        )
        assert_close(model.get_text_embeddings(IDS), theirs.get_text_features(ids).pooler_output)
    # Each tower alone, out of the folder of both.
    vision = hub.CLIPVisionEncoder.from_preset(tmp_path / "a")
    text = hub.CLIPTextEncoder.from_preset(tmp_path / "a")
    with torch.no_grad():
        seen = theirs.vision_model(pixels)
        read = theirs.text_model(ids)
    out = vision({"images": images()})
    assert_close(out["sequence_output"], seen.last_hidden_state)
    assert_close(out["pooled_output"], seen.pooler_output)
    assert_close(text({"token_ids": IDS})["pooled_output"], read.pooler_output)
    model.save_to_preset(tmp_path / "b")
    again, loading = transformers.CLIPModel.from_pretrained(
        tmp_path / "b", output_loading_info=True
    )
    assert not any(loading.values())
    assert_same(model, again.eval())
    vision.save_to_preset(tmp_path / "c")
    tower, loading = transformers.CLIPVisionModel.from_pretrained(
        tmp_path / "c", output_loading_info=True
    )
    assert not any(loading.values())
    with torch.no_grad():
        assert_close(out["pooled_output"], tower.eval()(pixels).pooler_output)


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_vision_tower_of_its_own_file(kind, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(transformers, kind)(transformers.CLIPVisionConfig(**VISION)).eval()
    theirs.save_pretrained(tmp_path)
    with keras.use_backend("numpy"):
        model = hub.CLIPVisionEncoder.from_preset(tmp_path)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(images()).permute(0, 3, 1, 2))
        assert_close(model(images())["sequence_output"], expected.last_hidden_state)


def test_text_tower_with_its_projection(tmp_path):
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(vocab_size=40, bos_token_id=38, eos_token_id=39, **TEXT)
    theirs = transformers.CLIPTextModelWithProjection(config).eval()
    theirs.save_pretrained(tmp_path)
    with keras.use_backend("numpy"):
        model = hub.CLIPTextEncoder.from_preset(tmp_path)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(IDS).long()).last_hidden_state
        assert_close(model({"token_ids": IDS})["sequence_output"], expected)


def rewritten(folder, **changes):
    """Change tensors of a file; None takes one away."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_older_files(tmp_path):
    """Positions stand in the file, and configs leave out what is usual, or say it twice."""
    theirs = both_towers(tmp_path)
    rewritten(tmp_path, **{
        "vision_model.embeddings.position_ids": torch.arange(10)[None],
        "text_model.embeddings.position_ids": torch.arange(30)[None],
    })  # fmt: skip
    config = json.loads((tmp_path / "config.json").read_text())
    short = {k: v for k, v in config["text_config"].items()
             if k not in ("hidden_act", "layer_norm_eps", "attention_dropout", "model_type")}  # fmt: skip
    twice = {"text_config": {"hidden_size": 99}, "text_config_dict": short}
    for changes in ({"text_config": short}, twice, {"text_config_dict": None}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        with keras.use_backend("numpy"):
            model = hub.CLIPBackbone.from_preset(tmp_path)
            assert_same(model, theirs)
            text = hub.CLIPTextEncoder.from_preset(tmp_path)
            assert text.get_config() == {**text.get_config(), **model.text_encoder.config}
            model.save_to_preset(tmp_path / "b")
        assert_same(model, transformers.CLIPModel.from_pretrained(tmp_path / "b").eval())


def test_defaults_are_those_of_transformers():
    """Of a config that says nothing, the sizes are those that transformers takes."""
    from hub.presets.build import arguments

    config = transformers.CLIPConfig()
    for family, stated in (("clip_text_model", config.text_config),
                           ("clip_vision_model", config.vision_config)):  # fmt: skip
        family = hub.families.family_of(family)
        assert set(family.defaults) == set(family.config.values())
        assert arguments(family, {}) == arguments(family, stated.to_dict())
        assert {key: getattr(stated, key) for key in family.defaults} == family.defaults


BROKEN = [
    ({"vision_model.pre_layrnorm.bias": None}, r"Missing.*\(1\): vision_model\.pre_layrnorm\.bias"),
    ({"logit_scale": None}, r"Missing.*logit_scale"),
    ({"text_model.other": torch.ones(2)}, r"Unused.*\(1\): text_model\.other"),
    ({"vision_model.embeddings.patch_embedding.bias": torch.ones(10)}, r"Unused.*patch_embedding"),
    ({"visual_projection.weight": torch.ones(6, 11)}, r"visual_projection\.weight \(6, 11\)"),
    ({"vision_model.embeddings.position_embedding.weight": torch.ones(11, 10)},
     r"position_embedding\.weight \(11, 10\) for vision_encoder/position_embedding"),
    ({"vision_model.embeddings.class_embedding": torch.ones(1, 1, 11)}, "class_embedding"),
    ({"vision_model.embeddings.patch_embedding.weight": torch.ones(10, 3, 3, 4)},
     r"patch_embedding\.weight \(10, 3, 3, 4\)"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem"), BROKEN)
def test_strict(changes, problem, tmp_path):
    both_towers(tmp_path)
    rewritten(tmp_path, **changes)
    with keras.use_backend("numpy"), pytest.raises(ValueError, match=f"(?s){problem}"):
        hub.CLIPBackbone.from_preset(tmp_path)


def test_strict_towers(tmp_path):
    """Of a tower alone nothing else may be missing or be there than of both."""
    both_towers(tmp_path)
    rewritten(tmp_path, **{"text_model.other": torch.ones(2)})
    with keras.use_backend("numpy"):
        hub.CLIPVisionEncoder.from_preset(tmp_path)
        with pytest.raises(ValueError, match=r"Unused.*text_model\.other"):
            hub.CLIPTextEncoder.from_preset(tmp_path)
        with pytest.raises(ValueError, match="is a clip checkpoint: use CLIPBackbone, not Bert"):
            hub.BertBackbone.from_preset(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "float16"])
def test_half_precision(backend, dtype, tmp_path):
    theirs = both_towers(tmp_path / "a")
    model = hub.CLIPBackbone.from_preset(tmp_path / "a", dtype=dtype)
    inputs = {"images": images(), "token_ids": IDS}
    found = {k: keras.ops.convert_to_numpy(v) for k, v in model(inputs).items()}
    expected = their_answer(theirs, images())
    np.testing.assert_allclose(found["vision_logits"], expected.logits_per_image, atol=0.15)
    scale = theirs.logit_scale.exp().item()  # is not rounded
    cosines = found["image_embeddings"] @ found["text_embeddings"].T
    np.testing.assert_allclose(found["vision_logits"], scale * cosines, rtol=0, atol=2e-5)
    model.save_to_preset(tmp_path / "b")
    transformers.CLIPModel.from_pretrained(tmp_path / "b")


def test_gradients_reach_both_towers():
    tower = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
    with keras.use_backend("torch"):
        model = hub.CLIPBackbone(
            {**tower, "image_size": 15, "patch_size": 4}, {**tower, "vocabulary_size": 40}, 6
        )
        out = model({"images": images(2), "token_ids": IDS}, training=True)
        keras.ops.mean(keras.ops.diagonal(out["vision_logits"])).backward()
        for name, parameter in model.named_parameters():
            if "key.bias" not in name:  # changes no probability
                assert parameter.grad.abs().max() > 0, name


def test_made_again_and_kept(backend, tmp_path):
    theirs = both_towers(tmp_path / "a")
    model = hub.CLIPBackbone.from_preset(tmp_path / "a")
    model.save(tmp_path / "a.keras")
    assert_same(keras.saving.load_model(tmp_path / "a.keras"), theirs)
    given = hub.CLIPBackbone(
        hub.CLIPVisionEncoder(**model.vision_encoder.config),
        hub.CLIPTextEncoder(**model.text_encoder.config),
        6,
    )
    given.set_weights(model.get_weights())
    assert_same(given, theirs)


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"])
def test_tokenizer(pad, tmp_path):
    folder = tokenizer_files(tmp_path / "a", pad)
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = hub.CLIPTokenizer.from_files(resolve(folder))
    for text in HARD:
        expected = theirs(text, truncation=True, max_length=77)["input_ids"]
        assert ours(text, sequence_length=77)["token_ids"].ravel().tolist() == expected, text
    assert ours.pad_token_id == theirs.pad_token_id
    found = ours(HARD, sequence_length=77)["token_ids"]
    expected = theirs(HARD, truncation=True, max_length=77, padding="longest")["input_ids"]
    np.testing.assert_array_equal(found, expected)
    (tmp_path / "b").mkdir()
    ours.save(tmp_path / "b")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    assert (
        again(HARD, truncation=True, max_length=77)["input_ids"]
        == (theirs(HARD, truncation=True, max_length=77)["input_ids"])
    )
    made = hub.CLIPTokenizer(folder / "vocab.json", folder / "merges.txt")
    assert made("a photo of a cat")["token_ids"].tolist() == (
        ours("a photo of a cat")["token_ids"].tolist()
    )
    assert ours.detokenize(ours("a photo of a cat")["token_ids"].ravel()) == "a photo of a cat"


def test_detokenize(tmp_path):
    """A tokenizer.json as it is published, whose decoder knows bytes alone."""
    folder = tokenizer_files(tmp_path / "a")
    transformers.CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "b")
    content = json.loads((tmp_path / "b/tokenizer.json").read_text("utf-8"))
    content["decoder"] = {
        "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
    }  # fmt: skip
    (tmp_path / "b/tokenizer.json").write_text(json.dumps(content), "utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = hub.CLIPTokenizer.from_files(resolve(tmp_path / "b"))
    for text in ("hello, world", "a photo of a cat", "x"):
        ids = theirs(text)["input_ids"]
        assert (
            ours.detokenize(ids)
            == theirs.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ).strip()
        )
    assert ours.detokenize(theirs("hello, world")["input_ids"]) == "hello , world"


COUNTS = {
    123_060_480: {"vocabulary_size": 49408, "num_layers": 12, "num_heads": 12, "hidden_dim": 768,
                  "intermediate_dim": 3072},
    340_387_840: {"vocabulary_size": 49408, "num_layers": 23, "num_heads": 16, "hidden_dim": 1024,
                  "intermediate_dim": 4096, "activation": "gelu"},
}  # fmt: skip


@pytest.mark.parametrize("count", COUNTS)
def test_parameters_of_the_published_towers(count):
    assert hub.CLIPTextEncoder(**COUNTS[count]).count_params() == count  # nothing is allocated


def test_bad_input(backend):
    model = hub.CLIPTextEncoder(9, 1, 1, 4, 4, max_sequence_length=5)
    with pytest.raises(ValueError, match="longer than the 5 positions"):
        model({"token_ids": np.ones((1, 6), "int32")})
    with pytest.raises(ValueError, match="skip must be from 0 to 0.*got 1"):
        model({"token_ids": np.ones((1, 3), "int32")}, skip=1)
    vision = hub.CLIPVisionEncoder(1, 1, 4, 4, image_size=8, patch_size=4)
    with pytest.raises(ValueError, match=r"shape \(batch, 8, 8, 3\), got \(1, 8, 9, 3\)"):
        vision(np.ones((1, 8, 9, 3), "float32"))
    with pytest.raises(ValueError, match="patch_size must be from 1 to 8, got 9"):
        hub.CLIPVisionEncoder(1, 1, 4, 4, image_size=8, patch_size=9)
