"""Whisper against transformers: outputs, steps with a cache, alignment, files both ways."""

import json
import shutil
from functools import partial

import compare
import numpy as np
import pytest
import torch
import transformers
import whisper_checkpoints as tiny
from backends import TRAINABLE
from checkpoints import cached
from compare import to_numpy
from whisper_checkpoints import HEADS, IDS, MASK

import hub
import keraslite as keras
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


# -- files and training ---------------------------------------------------------------------------


def their_logits(folder_or_model, batch):
    model = folder_or_model
    if not isinstance(model, torch.nn.Module):
        cls = transformers.WhisperForConditionalGeneration
        model, info = cls.from_pretrained(folder_or_model, output_loading_info=True)
        assert not any(info[name] for name in ("missing_keys", "unexpected_keys"))
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("form", ["one file", "sharded", "without a head"])
def test_saved_files_are_opened_by_transformers(backend, checkpoints, tmp_path, form):
    folder, theirs = checkpoints(128, d_model=18)
    if form != "one file":
        folder = tmp_path / "other"
        model = theirs.model if form == "without a head" else theirs
        model.save_pretrained(folder, max_shard_size="9KB" if form == "sharded" else "1GB")
        assert (folder / "model.safetensors.index.json").exists() == (form == "sharded")
    model = hub.Backbone.from_preset(folder)
    inputs, batch = tiny.inputs(128)
    expected = their_logits(theirs, batch)
    hidden = model(inputs)["decoder_sequence_output"]
    assert_close(shown(model.logits(hidden)), shown(expected), atol=5e-5)
    saved = tmp_path / "saved"
    model.save_to_preset(saved)
    assert_close(their_logits(saved, batch), expected, atol=1e-6)
    before, after = (json.loads((f / "config.json").read_text()) for f in (folder, saved))
    changed = {"architectures", "transformers_version", "dtype"}
    assert {key: after.get(key) for key in before.keys() - changed} == {
        key: before[key] for key in before.keys() - changed
    }
    again = hub.WhisperBackbone.from_preset(saved)
    assert again.config == model.config


def test_the_first_layers_alone(checkpoints, tmp_path):
    """As in distil-whisper, which keeps layers of the decoder."""
    folder, theirs = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder, num_layers=2, num_decoder_layers=1)
    model.save_to_preset(tmp_path)
    inputs, batch = tiny.inputs()
    config = transformers.WhisperConfig.from_pretrained(tmp_path)
    assert (config.encoder_layers, config.decoder_layers) == (2, 1)
    hidden = model(inputs)["decoder_sequence_output"]
    logits = their_logits(tmp_path, batch)
    assert_close(shown(model.logits(hidden)), shown(logits), atol=5e-5)


@pytest.mark.parametrize("changes", [
    {"activation_function": "relu"}, {"scale_embedding": True}, {"decoder_ffn_dim": 24},
    {"decoder_attention_heads": 2}, {"tie_word_embeddings": False}, {"max_source_positions": 0},
    {"encoder_layers": "3"}, {"vocab_size": 61}, {"max_target_positions": 17},
])  # fmt: skip
def test_configs_that_do_not_fit_are_refused(checkpoints, tmp_path, changes):
    folder, _ = checkpoints(80)
    config = json.loads((folder / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "model.safetensors", tmp_path)
    name = {"vocab_size": "embed_tokens", "max_target_positions": "embed_positions"}
    with pytest.raises(ValueError, match=name.get(*changes, *changes)):
        hub.WhisperBackbone.from_preset(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(backend, checkpoints, dtype):
    folder, theirs = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder, dtype=dtype)
    assert {str(v.dtype) for v in model.variables} == {dtype}
    inputs, batch = tiny.inputs()
    out = model(inputs)
    hidden = out["decoder_sequence_output"]
    assert keras.backend.standardize_dtype(hidden.dtype) == dtype
    expected, share = their_logits(theirs, batch), {"float16": 0.01, "bfloat16": 0.08}[dtype]
    assert_close(shown(model.logits(hidden)), shown(expected), share=share)
    steps = decode(model, IDS, np.ones_like(IDS, "bool"), tiny.features(), first=4)
    whole = model({name: inputs[name] for name in ("encoder_features", "decoder_token_ids")})
    assert_close(steps, whole["decoder_sequence_output"], share=share)


@pytest.mark.parametrize("backend", TRAINABLE, indirect=True)
def test_gradients_are_those_of_transformers(backend, checkpoints):
    folder, theirs = checkpoints(80)
    model = hub.WhisperBackbone.from_preset(folder)
    inputs, batch = tiny.inputs()
    labels = torch.from_numpy(np.where(MASK, IDS, -100)).long()
    theirs.zero_grad()
    theirs(**batch, labels=labels).loss.backward()

    def loss(inputs):
        logits = model.logits(model(inputs)["decoder_sequence_output"])
        losses = keras.losses.sparse_categorical_crossentropy(
            ops.convert_to_tensor(IDS), logits, from_logits=True
        )
        return ops.sum(losses * ops.convert_to_tensor(MASK, "float32")) / MASK.sum()

    variables = model.trainable_variables
    assert len(variables) == len(model.variables) - 1  # the sinusoids are not trained
    _, gradients = keras.value_and_grad(loss, variables=variables)(inputs)
    expected = {name: p.grad for name, p in theirs.model.named_parameters() if p.grad is not None}
    assert len(expected) == len(gradients)
    for variable, gradient in zip(variables, gradients, strict=True):
        name = variable.read_from[0].removeprefix("model.")
        theirs_as_ours = expected[name].permute(*reversed(range(expected[name].ndim)))
        is_kernel = variable.name == "kernel"
        other = theirs_as_ours if is_kernel else expected[name]
        assert_close(gradient, other, share=1e-4, message=name)
