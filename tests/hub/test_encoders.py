"""The encoders beside BERT against transformers, on every backend in one process."""

from functools import partial

import compare
import encoder_checkpoints as tiny
import numpy as np
import pytest
import torch
import transformers
from checkpoints import cached
from encoder_checkpoints import CONFIGS, inputs

import hub
import keraslite as keras
from hub.families import family_of

assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.mark.parametrize("family", CONFIGS)
def test_backbones_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "Model")
    batch, given = inputs(family)
    expected = theirs(**given)
    model = hub.Backbone.from_preset(folder)
    assert isinstance(model, family_of(family.partition("[")[0]).backbone)
    out = model(batch)
    valid = batch["padding_mask"][..., None]
    ours = keras.ops.convert_to_numpy(out["sequence_output"]) * valid
    assert_close(ours, expected.last_hidden_state * torch.from_numpy(valid))
    pooled = getattr(expected, "pooler_output", None)
    assert ("pooled_output" in out) == (pooled is not None)
    if pooled is not None:
        assert_close(out["pooled_output"], pooled)


@pytest.mark.parametrize("family", CONFIGS)
def test_classifiers_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "ForSequenceClassification", num_labels=4)
    batch, given = inputs(family)
    model = hub.TextClassifier.from_preset(folder, preprocessor=None)
    assert model.family == family.partition("[")[0]
    assert_close(model(batch), theirs(**given).logits)


@pytest.mark.parametrize("family", CONFIGS)
def test_masked_lms_equal(backend, checkpoints, family):
    folder, theirs = checkpoints(family, "ForMaskedLM")
    batch, given = inputs(family)
    model = hub.MaskedLM.from_preset(folder, preprocessor=None)
    assert_close(model(batch), theirs(**given).logits)


@pytest.mark.parametrize("kind", ["TextClassifier", "MaskedLM"])
@pytest.mark.parametrize("family", CONFIGS)
def test_transformers_opens_what_we_save(checkpoints, family, kind, tmp_path):
    name, _ = CONFIGS[family]
    suffix = "ForMaskedLM" if kind == "MaskedLM" else "ForSequenceClassification"
    folder, _ = checkpoints(family, suffix)
    batch, given = inputs(family)
    with keras.use_backend("numpy"):
        model = getattr(hub, kind).from_preset(folder, preprocessor=None)
        model.save_to_preset(tmp_path)
        again, info = getattr(transformers, name + suffix).from_pretrained(
            tmp_path, output_loading_info=True
        )
        assert not any(info.values()), info
        assert_close(model(batch), again.eval()(**given).logits)
        copy = hub.Backbone.from_preset(tmp_path)
        assert copy.get_config() | {"name": 0} == model.backbone.get_config() | {"name": 0}


@pytest.mark.parametrize("family", CONFIGS)
def test_a_new_head_over_a_bare_backbone(checkpoints, family):
    folder, _ = checkpoints(family, "Model")
    with keras.use_backend("numpy"):
        model = hub.TextClassifier.from_preset(folder, num_classes=3, preprocessor=None)
        assert model(inputs(family)[0]).shape == (3, 3)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_missing_tensor_is_named(checkpoints, family, tmp_path):
    folder, theirs = checkpoints(family, "Model")
    theirs.save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=r"Missing in the checkpoint \(1\): .*LayerNorm.bias"):
        hub.Backbone.from_preset(tmp_path)


def spoil(folder):
    """Leave a tensor out."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in sorted(tensors) if "LayerNorm.bias" in name))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("cls", "theirs"), [(hub.RobertaBackbone, "RobertaModel"), (hub.BertBackbone, "BertModel"),
                        (hub.AlbertBackbone, "AlbertModel"), (hub.ElectraBackbone, "ElectraModel")],
)  # fmt: skip
def test_a_model_that_was_made_here_is_opened_by_transformers(cls, theirs, tmp_path):
    narrow = {"embedding_dim": 6} if theirs in ("AlbertModel", "ElectraModel") else {}
    model = cls(40, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12, **narrow)
    model.save_to_preset(tmp_path)
    opened = getattr(transformers, theirs).from_pretrained(tmp_path).eval()
    ids = np.random.default_rng(0).integers(5, 40, (2, 7)).astype("int32")
    ours = model({"token_ids": ids, "padding_mask": ids > 0})["sequence_output"]
    assert_close(ours, opened(torch.from_numpy(ids).long()).last_hidden_state)
