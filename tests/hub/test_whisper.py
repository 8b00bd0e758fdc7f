"""Whisper against transformers: outputs, steps with a cache, alignment, files both ways."""

from functools import partial

import compare
import numpy as np
import pytest
import torch
import whisper_checkpoints as tiny
from checkpoints import cached
from compare import to_numpy
from whisper_checkpoints import HEADS, IDS, MASK

import hub
from keraslite import ops

assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


def shown(x, mask=MASK):
    """The values of tokens, and zeros for padding."""
    return to_numpy(x) * mask[..., None]


@pytest.mark.parametrize("num_mels", [80, 128])
def test_outputs_are_those_of_transformers(backend, checkpoints, num_mels):
    folder, theirs = checkpoints(num_mels)
    inputs, batch = tiny.inputs(num_mels)
    with torch.no_grad():
        expected = theirs(**batch, output_hidden_states=True)
    model = hub.WhisperBackbone.from_preset(folder)
    out = model(inputs)
    assert_close(out["encoder_sequence_output"], expected.encoder_last_hidden_state)
    hidden = out["decoder_sequence_output"]
    assert_close(shown(hidden), shown(expected.decoder_hidden_states[-1]))
    assert_close(shown(model.logits(hidden)), shown(expected.logits), atol=5e-5)
    states = model.hidden_states(inputs)
    for ours, other in zip(states["encoder"], expected.encoder_hidden_states, strict=True):
        assert_close(ours, other)
    for ours, other in zip(states["decoder"], expected.decoder_hidden_states, strict=True):
        assert_close(shown(ours), shown(other))


def test_names_of_transformers_are_taken(checkpoints):
    folder, _ = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder)
    inputs, _ = tiny.inputs()
    names = {"input_features": "encoder_features", "decoder_input_ids": "decoder_token_ids"}
    out = model({theirs: inputs[ours] for theirs, ours in names.items()})
    expected = model({ours: inputs[ours] for ours in names.values()})
    assert_close(out["decoder_sequence_output"], expected["decoder_sequence_output"], atol=0)


def decode(model, ids, attention_mask, features, first, length=14):
    """The hidden states of the first tokens at once, and of the others one by one."""
    source = model.encode(ops.convert_to_tensor(features))
    cache, mask = model.new_cache(source, length), ops.convert_to_tensor(attention_mask)
    mask = ops.pad(mask, ((0, 0), (0, length - ids.shape[1])), constant_values=True)
    hidden, cache = model.call_with_cache(ops.convert_to_tensor(ids[:, :first]), mask, cache, 0)
    states = [hidden]
    for index in range(first, ids.shape[1]):
        token = ops.convert_to_tensor(ids[:, index : index + 1])
        index = ops.convert_to_tensor(np.int32(index))
        hidden, cache = model.call_with_cache(token, mask, cache, index)
        states.append(hidden)
    return np.concatenate([to_numpy(x) for x in states], axis=1)


def test_steps_with_a_cache_are_those_of_the_whole_text(backend, checkpoints):
    folder, _ = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder)
    features = tiny.features()
    out = model({"encoder_features": features, "decoder_token_ids": IDS})
    steps = decode(model, IDS, np.ones_like(IDS, "bool"), features, first=4)
    assert_close(steps, out["decoder_sequence_output"])


def test_a_batch_padded_on_the_left_is_that_of_single_texts(backend, checkpoints):
    folder, theirs = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder)
    features, lengths = tiny.features(), MASK.sum(1)
    shift = IDS.shape[1] - lengths
    ids = np.stack([np.roll(row, n) for row, n in zip(IDS, shift, strict=True)])
    mask = np.arange(IDS.shape[1])[None] >= shift[:, None]
    steps = decode(model, ids, mask, features, first=6)
    whole = model({
        "encoder_features": features, "decoder_token_ids": ids, "decoder_padding_mask": mask,
    })  # fmt: skip
    assert_close(shown(steps, mask), shown(whole["decoder_sequence_output"], mask))
    for row, length in enumerate(lengths):
        with torch.no_grad():
            expected = theirs(
                input_features=torch.from_numpy(features[row : row + 1]).transpose(1, 2),
                decoder_input_ids=torch.from_numpy(IDS[row : row + 1, :length]).long(),
                output_hidden_states=True,
            )  # fmt: skip
        assert_close(steps[row, -length:], expected.decoder_hidden_states[-1][0])


@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_weights_are_those_of_transformers(backend, checkpoints, padded):
    folder, theirs = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder)
    inputs, batch = tiny.inputs()
    mask = MASK if padded else np.ones_like(MASK)
    batch["decoder_attention_mask"] = torch.from_numpy(mask).long()
    with torch.no_grad():
        expected = theirs(**batch, output_attentions=True, output_hidden_states=True)
    source = model.encode(ops.convert_to_tensor(inputs["encoder_features"]))
    weights, hidden = model.cross_attention_weights(
        ops.convert_to_tensor(IDS), source, HEADS, ops.convert_to_tensor(mask)
    )
    assert_close(shown(hidden, mask), shown(expected.decoder_hidden_states[-1], mask))
    their_weights = torch.stack([expected.cross_attentions[i][:, j] for i, j in HEADS], 1)
    mask = mask[:, None]
    assert_close(shown(weights, mask), shown(their_weights, mask), atol=2e-6)


@pytest.mark.parametrize("heads", [[], [(2, 0)], [(0, 3)], [(0, -1)]])
def test_heads_that_the_decoder_lacks_are_refused(checkpoints, heads):
    model = hub.WhisperBackbone.from_preset(checkpoints(80)[0])
    source = ops.zeros((1, 20, 12))
    with pytest.raises(ValueError, match="of 2 layers of 3 heads, got"):
        model.cross_attention_weights(ops.zeros((1, 2), "int32"), source, heads)


@pytest.mark.parametrize("shape", [(1, 80, 40), (1, 42, 80), (40, 80)])
def test_spectrograms_of_a_wrong_shape_are_refused(checkpoints, shape):
    model = hub.WhisperBackbone.from_preset(checkpoints(80)[0])
    with pytest.raises(ValueError, match=r"must be \(batch, frames, 80\) of at most 40 frames"):
        model({"encoder_features": np.zeros(shape, "float32"), "decoder_token_ids": IDS[:1]})


def test_texts_longer_than_the_positions_are_refused(checkpoints):
    model = hub.WhisperBackbone.from_preset(checkpoints(80)[0])
    ids = np.ones((1, 17), "int32")
    with pytest.raises(ValueError, match="17 tokens is longer than the 16 positions"):
        model({"encoder_features": tiny.features(rows=1), "decoder_token_ids": ids})
