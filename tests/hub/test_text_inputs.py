"""Inputs of text models: names of transformers, ids out of range, texts instead of arrays."""

import json
import shutil

import bert_checkpoints
import numpy as np
import pytest
import text_checkpoints as tiny
import torch
import transformers
from backends import TRAINABLE
from checkpoints import cached
from compare import assert_close

import hub
import keraslite as keras

IDS = np.array([[2, 5, 6, 3], [2, 7, 3, 0]], "int32")
MASK = IDS > 0


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


def bert(**changes):
    return hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8, dropout=0.0, **changes)


def with_id(value, name="token_ids"):
    inputs = {"token_ids": IDS.copy(), "segment_ids": IDS * 0, "padding_mask": MASK}
    inputs[name][1, 2] = value
    return inputs


@pytest.mark.parametrize(
    ("name", "value", "size"),
    [("token_ids", 9, 9), ("token_ids", -5, 9), ("segment_ids", 2, 2), ("segment_ids", -1, 2)],
)
@pytest.mark.parametrize("way", ["call", "predict", "predict_on_batch", "task", "task.predict"])
def test_an_id_without_an_embedding_is_named(backend, way, name, value, size):
    model = bert()
    model = hub.TextClassifier(model, num_classes=2) if way.startswith("task") else model
    run = {"call": model, "task": model, "predict_on_batch": model.predict_on_batch}.get(
        way, lambda x: model.predict(x, verbose=0)
    )
    run(with_id(0))
    message = rf"{name} must be from 0 to {size - 1}.* {size} embeddings.* got {value} at \[1, 2\]"
    with pytest.raises(ValueError, match=message):
        run(with_id(value, name))


@pytest.mark.parametrize("name", TRAINABLE)
def test_an_id_without_an_embedding_is_named_in_training(name):
    with keras.use_backend(name):
        model = hub.TextClassifier(bert(), num_classes=2)
        labels, message = np.array([0, 1]), r"got 10 at \[1, 2\]"
        with pytest.raises(ValueError, match=message):
            model.fit(with_id(10), labels, shuffle=False, verbose=0)
        with pytest.raises(ValueError, match=message):
            model.evaluate(with_id(10), labels, verbose=0)
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(with_id(10), labels)


def test_an_id_without_an_embedding_is_named_in_generation(backend):
    model = hub.CausalLM(hub.GPT2Backbone(9, num_layers=1, num_heads=2, hidden_dim=8))
    with pytest.raises(ValueError, match=r"token_ids must be from 0 to 8.* got 9 at \[0, 1\]"):
        model.generate({"token_ids": np.array([[1, 9]])}, max_new_tokens=2)
    model = hub.Seq2SeqLM(hub.T5Backbone(9, 1, 2, hidden_dim=8, intermediate_dim=8))
    with pytest.raises(ValueError, match=r"encoder_token_ids must be .* got -1 at \[0, 1\]"):
        model.generate({"encoder_token_ids": np.array([[1, -1]])}, max_new_tokens=2)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_tokenizer_with_more_ids_than_the_embedding_is_refused(checkpoints, tmp_path, kind):
    folder, _ = checkpoints(kind)
    shutil.copytree(folder, tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    task = hub.CausalLM if kind == "gpt2" else hub.Seq2SeqLM
    size = task.from_preset(folder).preprocessor.tokenizer.vocabulary_size()
    config["vocab_size"] = size - 1
    (tmp_path / "a/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"ids up to {size - 1} .* for {size - 1} tokens"):
        task.from_preset(tmp_path / "a", load_weights=False)


def test_bert_takes_the_names_of_transformers(backend, tmp_path):
    theirs = bert_checkpoints.make(tmp_path)
    batch = bert_checkpoints.for_torch(bert_checkpoints.inputs())
    expected = theirs(**batch)
    mask = batch["attention_mask"].numpy()[..., None]
    batch = transformers.BatchEncoding({name: value.numpy() for name, value in batch.items()})
    model = hub.BertBackbone.from_preset(tmp_path)
    for out in (model(batch), model.predict(dict(batch), verbose=0)):
        hidden = keras.ops.convert_to_numpy(out["sequence_output"])
        assert_close(hidden * mask, expected.last_hidden_state.detach().numpy() * mask, atol=1e-5)
    # As in transformers all ids are tokens, and of the first segment, where nothing else is said.
    ids = {"input_ids": batch["input_ids"]}
    expected = theirs(input_ids=torch.from_numpy(batch["input_ids"])).pooler_output
    assert_close(model(ids)["pooled_output"], expected.detach(), atol=1e-5)


def test_decoders_take_the_names_of_transformers(backend, checkpoints):
    folder, theirs = checkpoints("gpt2")
    expected = theirs.transformer(tiny.long(tiny.IDS)).last_hidden_state.detach()
    out = hub.GPT2Backbone.from_preset(folder)({"input_ids": tiny.IDS})
    assert_close(out, expected, atol=2e-5)
    folder, theirs = checkpoints("t5")
    inputs = {"input_ids": tiny.T5_IDS, "decoder_input_ids": tiny.T5_IDS[:, :5]}
    expected = theirs(**{name: tiny.long(ids) for name, ids in inputs.items()})
    out = hub.T5Backbone.from_preset(folder)(inputs)["encoder_sequence_output"]
    assert_close(out, expected.encoder_last_hidden_state.detach(), atol=2e-5)


def test_a_model_that_is_called_on_texts_says_what_to_do(backend):
    for model in (bert(), hub.TextClassifier(bert(), num_classes=2)):
        for texts in ("hello", ["a", "b"], np.array(["a"])):
            with pytest.raises(TypeError, match="must be called on arrays, got texts"):
                model(texts)


@pytest.mark.parametrize("length", [0, -1, 2.5, "a"])
def test_a_sequence_length_must_be_positive(checkpoints, length):
    folder, _ = checkpoints("gpt2")
    message = f"sequence_length must be an integer, at least 1, got {length!r}"
    with pytest.raises(ValueError, match=message):
        hub.CausalLM.from_preset(folder, sequence_length=length)
    with pytest.raises(ValueError, match=message):
        hub.TextPreprocessor(None, sequence_length=length)
    if length in (0, -1):
        with pytest.raises(ValueError, match=f"truncate to must be at least 1, got {length}"):
            hub.Tokenizer.from_preset(folder)("a", sequence_length=length)
