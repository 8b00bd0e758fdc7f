"""Classes that a model was not trained for, against the pipeline of transformers."""

import json

import numpy as np
import pytest
import torch
import transformers
from clip_checkpoints import TEXT, both_towers, tokenizer_files
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import hub
import keraslite as keras
from hub.cli import main
from hub.presets import resolve

LABELS = ["cat", "photo", "of it", "naïve café"]
TEMPLATES = ["a photo of a {}.", "{}!", "it is {} of"]


def checkpoint(folder, kind="openai"):
    """Write a network with its tokenizer and what it says of images; gives transformers' own."""
    tokenizer_files(folder, "<|endoftext|>" if kind == "openai" else "!")
    size = len(json.loads((folder / "vocab.json").read_text()))
    ends = {"openai": {"eos_token_id": 2}, "laion": {"eos_token_id": size - 1}}[kind]
    model = both_towers(folder, kind, vocab_size=size, bos_token_id=size - 2, **ends)
    CLIPImageProcessorPil(
        size={"shortest_edge": 15}, crop_size={"height": 15, "width": 15}
    ).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def pictures():
    """Pictures of odd sizes and modes."""
    random = np.random.default_rng(2)
    made = [
        Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8))
        for h, w in ((20, 31), (40, 17), (15, 15), (9, 12), (64, 50))
    ]
    return [*made[:3], made[3].convert("L"), made[4].quantize(16)]


@pytest.mark.parametrize("kind", ["openai", "laion"])
def test_answers_are_those_of_the_pipeline(backend, kind, tmp_path, pictures):
    theirs = checkpoint(tmp_path / "a", kind)
    model = hub.CLIPZeroShotClassifier.from_preset(tmp_path / "a")
    pipe = transformers.pipeline(
        "zero-shot-image-classification", model=theirs,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(tmp_path / "a"),
        image_processor=CLIPImageProcessorPil.from_pretrained(tmp_path / "a"),
    )  # fmt: skip
    scores = model.predict(pictures, labels=LABELS, template="This is a photo of {}.", verbose=0)
    assert scores.shape == (5, 4)
    assert scores.dtype == np.float32
    found = model.classify(pictures, LABELS, "This is a photo of {}.")
    for picture, row, best in zip(pictures, scores, found, strict=True):
        expected = pipe(picture, candidate_labels=LABELS)
        by_label = {answer["label"]: answer["score"] for answer in expected}
        np.testing.assert_allclose(row, [by_label[k] for k in LABELS], rtol=0, atol=2e-5)
        assert [d["label"] for d in best] == [d["label"] for d in expected]
        assert [d["score"] for d in best] == sorted((float(p) for p in row), reverse=True)
    top = model.classify(pictures[0], LABELS, "This is a photo of {}.", top_k=2)
    assert [d["label"] for d in top[0]] == [d["label"] for d in found[0][:2]]
    # What we save, transformers opens.
    model.save_to_preset(tmp_path / "b")
    again = transformers.CLIPModel.from_pretrained(tmp_path / "b").eval()
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path / "b")
    texts = [f"a photo of a {label}." for label in LABELS]
    inputs = processor(text=texts, images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = again(**inputs).logits_per_image.softmax(-1).numpy()
    np.testing.assert_allclose(
        model.predict(pictures, LABELS, verbose=0), expected, rtol=0, atol=2e-5
    )
    other = hub.load(tmp_path / "b")
    assert isinstance(other, hub.CLIPZeroShotClassifier)
    np.testing.assert_array_equal(
        other.predict(pictures, LABELS, verbose=0), model.predict(pictures, LABELS, verbose=0)
    )


@pytest.fixture
def model(tmp_path):
    checkpoint(tmp_path / "a")
    with keras.use_backend("torch"):
        return hub.ZeroShotImageClassifier.from_preset(tmp_path / "a")


def test_vectors_of_several_templates_are_averaged(backend, tmp_path, pictures):
    theirs = checkpoint(tmp_path)
    model = hub.CLIPZeroShotClassifier.from_preset(tmp_path)
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path)

    def unit(vectors):
        return vectors / vectors.norm(dim=-1, keepdim=True)

    with torch.no_grad():
        means = []
        for label in LABELS:
            texts = [template.format(label) for template in TEMPLATES]
            inputs = processor(text=texts, return_tensors="pt", padding=True)
            means.append(unit(theirs.get_text_features(**inputs).pooler_output).mean(0))
        texts = unit(torch.stack(means))
        inputs = processor(images=pictures, return_tensors="pt")
        seen = unit(theirs.get_image_features(**inputs).pooler_output)
        expected = (theirs.logit_scale.exp() * seen @ texts.T).softmax(-1)
    found = model.predict(pictures, LABELS, TEMPLATES, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(model.encode_labels(LABELS, TEMPLATES), texts, rtol=0, atol=2e-5)
    np.testing.assert_allclose(model.encode_images(pictures), seen, rtol=0, atol=2e-5)


def test_batches_make_no_difference(backend, tmp_path, pictures):
    checkpoint(tmp_path)
    model = hub.CLIPZeroShotClassifier.from_preset(tmp_path)
    labels = [f"label {i}" for i in range(41)]
    at_once = model.predict(pictures, labels, verbose=0)
    parts = model.predict(pictures, labels, batch_size=2, verbose=0)
    np.testing.assert_allclose(parts, at_once, rtol=0, atol=2e-6)
    vectors = model.encode_labels(labels)
    np.testing.assert_array_equal(model.predict(pictures, vectors, verbose=0), at_once)


@pytest.mark.parametrize("how", ["assign", "set_weights", "lora", "int8", "moved"])
def test_labels_follow_the_weights(model, pictures, how):
    before = model.encode_labels(LABELS)
    if how == "assign":
        bias = model.backbone.text_encoder.blocks[0].intermediate.bias
        bias.assign(bias.numpy() + np.arange(20, dtype="float32"))
    elif how == "set_weights":
        model.set_weights([w * 1.1 + 0.1 for w in model.get_weights()])
    elif how == "lora":
        model.enable_lora(2)
        for path, weight in model.named_weights():
            if "lora" in path:
                weight.assign(keras.ops.ones(weight.shape))
    elif how == "int8":
        model.quantize("int8")
    else:
        model.to_backend("jax")
    after = model.encode_labels(LABELS)
    apart = np.abs(after - before).max()
    assert apart < 1e-5 if how == "moved" else apart > 1e-4
    with keras.use_backend(model.backend):
        packed = model.preprocessor({"texts": [f"a photo of a {label}." for label in LABELS]})
        fresh = model.backbone.get_text_embeddings(packed["token_ids"])
        fresh = keras.ops.convert_to_numpy(keras.ops.normalize(fresh, axis=-1, order=2))
    np.testing.assert_allclose(after, fresh, rtol=0, atol=1e-5)


def test_inputs_of_the_preprocessor_are_the_backbones(model, pictures):
    inputs = model.preprocessor(
        {"images": pictures, "texts": [f"a photo of a {x}." for x in LABELS]}
    )
    with keras.use_backend("torch"):
        logits = keras.ops.convert_to_numpy(model(inputs))
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(model.predict(pictures, LABELS, verbose=0), scores, atol=2e-6)
    with pytest.raises(ValueError, match=r"dict of images and texts, got \['image'\]"):
        model.preprocessor({"image": pictures})


def test_a_bar_for_many_images(model, capsys):
    model.predict([np.zeros((4, 4), "uint8")] * 40, ["cat"], verbose=1)
    assert "40/40" in capsys.readouterr().out
    model.predict([np.zeros((4, 4), "uint8")] * 40, ["cat"], verbose=0)
    assert not capsys.readouterr().out


BAD = [
    ({"labels": "cat"}, TypeError, "labels must be a list of names"),
    ({"labels": None}, TypeError, "labels must be a list of names"),
    ({"labels": ["cat", 3]}, TypeError, "labels must be a list of names"),
    ({"labels": []}, ValueError, "There are no labels"),
    ({"labels": np.ones((2, 7))}, ValueError, r"vectors \(labels, 6\).*shape \(2, 7\)"),
    ({"template": "a photo"}, ValueError, "A template is a text with {} for the label"),
    ({"template": []}, ValueError, "A template"),
    ({"images": []}, ValueError, "Expected images: .*got none"),
    ({"images": ["/nowhere.png"]}, FileNotFoundError, r"Image 0: there is no file /nowhere\.png"),
    ({"images": [np.zeros((4, 4))] * 3 + [np.ones((2, 2)) * 7]}, ValueError, "Image 3 must have"),
    ({"batch_size": 0}, ValueError, "batch_size must be positive"),
]


@pytest.mark.parametrize(("given", "error", "problem"), BAD)
def test_bad_questions(model, given, error, problem):
    usual = {"images": np.zeros((4, 4)), "labels": ["cat"], "batch_size": 2, "verbose": 0}
    with pytest.raises(error, match=problem):
        model.predict(**{**usual, **given})


def test_bad_tasks(model, tmp_path):
    with pytest.raises(ValueError, match="top_k must be positive"):
        model.classify(np.zeros((4, 4)), ["cat"], top_k=0)
    with pytest.raises(ValueError, match="no preprocessor"):
        hub.CLIPZeroShotClassifier(model.backbone).predict(np.zeros((4, 4)), ["cat"])
    with pytest.raises(ValueError, match="There is no TextClassifier for clip"):
        hub.TextClassifier.from_preset(tmp_path / "a")
    (tmp_path / "a" / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json"):
        hub.CLIPZeroShotClassifier.from_preset(tmp_path / "a")


def test_made_from_parts(tmp_path, pictures):
    checkpoint(tmp_path)
    with keras.use_backend("torch"):
        expected = hub.CLIPZeroShotClassifier.from_preset(tmp_path)
        backbone = hub.CLIPBackbone.from_preset(tmp_path)
        tokenizer = hub.CLIPTokenizer.from_files(resolve(tmp_path))
        images = hub.ImagePreprocessor("CLIP", size=15, crop_size=15)
        most = TEXT["max_position_embeddings"]
        model = hub.CLIPZeroShotClassifier(
            backbone, hub.ImageTextPreprocessor(tokenizer, images, most)
        )
    np.testing.assert_array_equal(
        model.predict(pictures, LABELS, verbose=0), expected.predict(pictures, LABELS, verbose=0)
    )
    long = ["cat " * 90]
    assert model.encode_labels(long).shape == (1, 6), "texts that are too long are cut"


def test_half_precision(tmp_path, pictures):
    checkpoint(tmp_path)
    with keras.use_backend("torch"):
        wide = hub.CLIPZeroShotClassifier.from_preset(tmp_path)
        half = hub.CLIPZeroShotClassifier.from_preset(tmp_path, dtype="bfloat16")
    found = half.predict(pictures, LABELS, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wide.predict(pictures, LABELS, verbose=0), atol=0.05)


def test_command_line(tmp_path, pictures, capsys, monkeypatch, hub_server):
    checkpoint(tmp_path / "a")
    names = [str(tmp_path / f"{i}.png") for i in range(2)]
    for name, picture in zip(names, pictures, strict=False):
        picture.save(name)
    hub_server.publish("org/mine", tmp_path / "a")
    assert main(["pull", "org/mine"]) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    capsys.readouterr()
    words = ["run", "zero-shot-image-classification", "org/mine", "--backend", "numpy", *names]
    assert main(words) == 1
    assert "--label cat" in capsys.readouterr().err
    assert main([*words, "--label", "cat", "--label", "photo"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with keras.use_backend("numpy"):
        model = hub.load(tmp_path / "a")
    for answer, scores in zip(
        answers, model.predict(names, ["cat", "photo"], verbose=0), strict=True
    ):
        np.testing.assert_allclose(
            [answer["scores"]["cat"], answer["scores"]["photo"]], scores, rtol=0, atol=2e-6
        )
        assert answer["label"] == ("cat", "photo")[scores.argmax()]
    assert main(["verify", "org/mine"]) == 0
    assert "read as ZeroShotImageClassifier" in capsys.readouterr().out
    card = hub.model_card(tmp_path / "a")
    assert 'pipeline_tag: "zero-shot-image-classification"' in card
    assert "hub.ZeroShotImageClassifier.from_preset" in card
    assert "AutoProcessor" in card
