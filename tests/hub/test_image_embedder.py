"""Vectors of images, against transformers and timm."""

import json

import numpy as np
import pytest
import torch
import transformers
from clip_checkpoints import both_towers
from image_checkpoints import OF_TIMM, OF_TRANSFORMERS, timm_checkpoint, transformers_checkpoint
from PIL import Image
from safetensors.torch import load_file
from timm_oracle import import_timm
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import hub
import keraslite as keras
from hub.cli import main

IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 70, 91, 3), dtype="uint8"))


def embeddings_of(oracle, pixels):
    """Return the features of the oracle's own pooling, before its classifier."""
    with torch.no_grad():
        inputs = torch.tensor(pixels).permute(0, 3, 1, 2)
        if hasattr(oracle, "forward_head"):
            return oracle.forward_head(oracle.forward_features(inputs), pre_logits=True).numpy()
        outputs = oracle.base_model(inputs)
    kind = oracle.config.model_type
    if kind in ("vit", "deit"):  # their poolers are no part of the classifier
        return outputs.last_hidden_state[:, : 2 if kind == "deit" else 1].mean(1).numpy()
    return outputs.pooler_output.flatten(1).numpy()


@pytest.mark.parametrize("name", [*OF_TRANSFORMERS, *OF_TIMM])
def test_vectors_are_those_of_the_library_that_wrote_the_weights(backend, name, tmp_path):
    write = transformers_checkpoint if name in OF_TRANSFORMERS else timm_checkpoint
    oracle = write(tmp_path / "all", name)
    model = hub.ImageEmbedder.from_preset(tmp_path / "all", normalize=False)
    vectors = model.predict(IMAGES, verbose=0)
    expected = embeddings_of(oracle, model.preprocessor(IMAGES))
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["vit", "resnet18"])
def test_it_is_saved_without_a_classifier(name, tmp_path):
    write = transformers_checkpoint if name in OF_TRANSFORMERS else timm_checkpoint
    write(tmp_path / "all", name)
    model = hub.ImageEmbedder.from_preset(tmp_path / "all")
    assert type(model).__name__ == {"vit": "ViTImageEmbedder"}.get(name, "ResNetImageEmbedder")
    vectors = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)
    model.save_to_preset(tmp_path / "saved")
    if name in OF_TIMM:
        config = json.loads((tmp_path / "saved" / "config.json").read_text())
        theirs = import_timm().create_model(name, num_classes=config["num_classes"])
        tensors = load_file(tmp_path / "saved" / "model.safetensors")
        missing, unexpected = theirs.load_state_dict(tensors, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    else:
        theirs = transformers.AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
        with torch.no_grad():
            inputs = torch.tensor(model.preprocessor(IMAGES)).permute(0, 3, 1, 2)
            tokens = theirs.eval()(inputs).last_hidden_state[:, 0]
        np.testing.assert_allclose(
            vectors, torch.nn.functional.normalize(tokens), rtol=1e-4, atol=1e-5
        )
    again = hub.ImageEmbedder.from_preset(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), vectors)


def test_command_line(tmp_path, capsys):
    transformers_checkpoint(tmp_path / "vit", "vit")
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    command = ["run", "image-feature-extraction", str(tmp_path / "vit"), str(tmp_path / "a.png")]
    assert main(command) == 0
    vector = json.loads(capsys.readouterr().out.splitlines()[-1])["vector"]
    assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-4)


def clip_checkpoint(folder):
    oracle = both_towers(folder)
    size = {"size": {"shortest_edge": 15}, "crop_size": {"height": 15, "width": 15}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return oracle


def test_vectors_of_clip_are_the_image_features_of_transformers(backend, tmp_path):
    oracle = clip_checkpoint(tmp_path / "clip")
    model = hub.ImageEmbedder.from_preset(tmp_path / "clip", normalize=False)
    inputs = torch.tensor(model.preprocessor(IMAGES)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = oracle.get_image_features(inputs).pooler_output.numpy()
    vectors = model.predict(IMAGES, verbose=0)
    assert vectors.shape == (3, 6)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    model.save_to_preset(tmp_path / "saved")
    theirs = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        theirs = theirs.eval()(inputs).image_embeds.numpy()
    np.testing.assert_allclose(theirs, expected, rtol=1e-5, atol=1e-6)
    again = hub.load(tmp_path / "saved")
    assert type(again).__name__ == "CLIPVisionEncoderImageEmbedder"
    unit = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), unit, rtol=1e-4, atol=1e-5)
    zero_shot = hub.CLIPBackbone.from_preset(tmp_path / "clip")
    pixels = model.preprocessor(IMAGES)
    raw = keras.ops.convert_to_numpy(zero_shot.get_vision_embeddings(pixels))
    np.testing.assert_allclose(raw, vectors, rtol=1e-5, atol=1e-5)


def test_the_encoder_of_clip_without_a_projection(tmp_path):
    clip_checkpoint(tmp_path / "clip")
    with keras.use_backend("numpy"):
        hub.CLIPVisionEncoder.from_preset(tmp_path / "clip").save_to_preset(tmp_path / "encoder")
        model = hub.ImageEmbedder.from_preset(tmp_path / "encoder", preprocessor=None)
        assert model.projection is None
        x = np.random.default_rng(0).normal(size=(2, 15, 15, 3)).astype("float32")
        with torch.no_grad():
            theirs = transformers.CLIPVisionModel.from_pretrained(tmp_path / "encoder").eval()
            pooled = theirs(torch.tensor(x).permute(0, 3, 1, 2)).pooler_output
            expected = torch.nn.functional.normalize(pooled).numpy()
        np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
        model.save_to_preset(tmp_path / "again")
        config = json.loads((tmp_path / "again" / "config.json").read_text())
        assert config["architectures"] == ["CLIPVisionModel"]
        again = hub.ImageEmbedder.from_preset(tmp_path / "again", preprocessor=None)
        np.testing.assert_array_equal(again(x), model(x))


def test_clip_from_the_command_line(tmp_path, capsys):
    clip_checkpoint(tmp_path / "clip")
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    command = ["run", "image-feature-extraction", str(tmp_path / "clip"), str(tmp_path / "a.png")]
    assert main(command) == 0
    vector = json.loads(capsys.readouterr().out.splitlines()[-1])["vector"]
    assert len(vector) == 6 and np.linalg.norm(vector) == pytest.approx(1, rel=1e-4)
