"""Hidden states of every layer, and the first layers alone, against transformers."""

import bert_checkpoints
import clip_checkpoints
import encoder_checkpoints
import numpy as np
import pytest
import text_checkpoints as tiny
import torch
import transformers
from checkpoints import cached
from compare import assert_close, to_numpy

import hub

ENCODERS = [k for k in encoder_checkpoints.CONFIGS if k != "electra[wide]"]


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return cached(encoder_checkpoints.make, tmp_path_factory)


def assert_same(ours, theirs, mask=None):
    assert len(ours) == len(theirs)
    mask = 1.0 if mask is None else mask[..., None]
    for a, b in zip(ours, theirs, strict=True):
        assert_close(to_numpy(a) * mask, b.detach().numpy() * mask, rtol=0, atol=5e-5)


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders(backend, encoders, family):
    folder, theirs = encoders(family, "Model")
    ours, batch = encoder_checkpoints.inputs(family)
    expected = theirs(**batch, output_hidden_states=True)
    model = hub.Backbone.from_preset(folder)
    assert_same(model.hidden_states(ours), expected.hidden_states, ours["padding_mask"])
    out = model(ours, output_hidden_states=True)
    assert out.keys() == model(ours).keys() | {"hidden_states"}


@pytest.mark.parametrize("kind", ["gpt2", "opt", "opt[350m]"])
def test_decoders(backend, decoders, kind):
    folder, theirs = decoders(kind)
    expected = theirs(
        tiny.long(tiny.IDS), attention_mask=tiny.long(tiny.MASK), output_hidden_states=True
    ).hidden_states
    states = hub.Backbone.from_preset(folder).hidden_states(
        {"token_ids": tiny.IDS, "padding_mask": tiny.MASK}
    )
    assert_same(states, expected, tiny.MASK)


def test_towers_of_clip(backend, tmp_path):
    """All states are raw, the last but one among them, as Stable Diffusion takes it."""
    theirs = clip_checkpoints.both_towers(tmp_path)
    ids = np.array([[5, 9, 30, 7, 38, 39, 39]], "int32")
    pixels = np.random.default_rng(1).normal(size=(2, 15, 15, 3)).astype("float32")
    model = hub.CLIPBackbone.from_preset(tmp_path)
    expected = theirs.text_model(tiny.long(ids), output_hidden_states=True).hidden_states
    assert_same(model.text_encoder.hidden_states({"token_ids": ids}), expected)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    expected = theirs.vision_model(images, output_hidden_states=True).hidden_states
    assert_same(model.vision_encoder.hidden_states(pixels), expected)


def test_encoder_with_decoder(backend, decoders):
    folder, theirs = decoders("t5")
    inputs = {"input_ids": tiny.T5_IDS, "decoder_input_ids": tiny.T5_IDS[:, :5]}
    expected = theirs(**{k: tiny.long(v) for k, v in inputs.items()}, output_hidden_states=True)
    states = hub.Backbone.from_preset(folder).hidden_states(inputs)
    assert_same(states["encoder"], expected.encoder_hidden_states)
    assert_same(states["decoder"], expected.decoder_hidden_states)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_the_first_layers_alone(backend, decoders, tmp_path, family):
    if family == "bert":
        theirs, folder = bert_checkpoints.make(tmp_path / "a"), tmp_path / "a"
        inputs = {"token_ids": bert_checkpoints.inputs()["token_ids"]}
    else:
        folder, theirs = decoders(family)
        inputs = {"input_ids": tiny.T5_IDS, "decoder_input_ids": tiny.T5_IDS[:, :5]}
        inputs = {"token_ids": tiny.IDS} if family == "gpt2" else inputs
    depth = {"num_layers": 2, "num_decoder_layers": 1} if family == "t5" else {"num_layers": 2}
    model, whole = hub.Backbone.from_preset(folder, **depth), hub.Backbone.from_preset(folder)
    assert model.get_config()["num_layers"] == 2
    # All but the last of these are not normalised at the end.
    pairs = [(model.hidden_states(inputs), whole.hidden_states(inputs))]
    if family == "t5":
        pairs = [(pairs[0][0][part], pairs[0][1][part]) for part in ("encoder",)]
    for ours, expected in pairs:
        assert len(ours) == 3
        for a, b in zip(ours[:-1], expected, strict=False):
            assert_close(a, b)
    if family == "bert":
        expected = theirs(tiny.long(inputs["token_ids"]), output_hidden_states=True).hidden_states
        assert_close(model(inputs)["sequence_output"], expected[2].detach(), atol=1e-5)
        task = hub.TextClassifier.from_preset(folder, num_layers=2, num_classes=2)
        assert task.backbone.num_layers == 2
        model.save_to_preset(tmp_path / "b")
        again, info = transformers.BertModel.from_pretrained(
            tmp_path / "b", output_loading_info=True
        )
        assert not any(info.values())
        assert len(again.encoder.layer) == 2
    with pytest.raises(ValueError, match="Missing in the checkpoint"):
        hub.Backbone.from_preset(folder, num_layers=4)
