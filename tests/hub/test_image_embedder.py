"""Vectors of images, against transformers and timm."""

import json

import numpy as np
import pytest
import torch
import transformers
from image_checkpoints import OF_TIMM, OF_TRANSFORMERS, timm_checkpoint, transformers_checkpoint
from PIL import Image
from safetensors.torch import load_file
from timm_oracle import import_timm

import hub
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
