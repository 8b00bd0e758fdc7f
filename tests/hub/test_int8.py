"""Tasks whose weights are kept in int8, or in fewer bits: near the floats, trained by LoRA, saved and quantized again."""

import bert_checkpoints as tiny
import numpy as np
import pytest
import text_checkpoints
from checkpoints import cached
from text_checkpoints import IDS, MASK, T5_IDS, bare

import hub
import keraslite as keras
from keraslite import ops

TEXTS, LABELS = tiny.TEXTS * 4, [1, 0, 1] * 4


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(text_checkpoints.make, tmp_path_factory)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    tiny.make(folder, "BertForSequenceClassification", num_labels=2)
    return folder


def integers(model):
    return {p: v.numpy() for p, v in model.named_weights() if str(v.dtype) == "int8"}


def near(found, expected, share=0.15):
    found, expected = (np.asarray(ops.convert_to_numpy(v)) for v in (found, expected))
    assert 0 < np.linalg.norm(found - expected) < share * np.linalg.norm(expected)


def test_a_classifier(backend, bert, tmp_path):
    model = hub.TextClassifier.from_preset(bert)
    before = model.predict(TEXTS, verbose=0)
    size = sum(w.numpy().nbytes for w in model.weights)
    model.quantize("int8")
    after = model.predict(TEXTS, verbose=0)  # not by what was compiled before
    near(after, before)
    assert sum(w.numpy().nbytes for w in model.weights) < 0.5 * size
    floats = {p for p, v in model.named_weights() if p.endswith("kernel") and v.dtype != "int8"}
    assert not floats
    # A preset holds floats, which give the same integers again.
    model.save_to_preset(tmp_path)
    again = hub.TextClassifier.from_preset(tmp_path)
    near(again.predict(TEXTS, verbose=0), before)
    again.quantize("int8")
    kept, found = integers(model), integers(again)
    assert kept.keys() == found.keys()
    assert all((kept[name] == found[name]).all() for name in kept)
    np.testing.assert_allclose(again.predict(TEXTS, verbose=0), after, atol=2e-5)


def test_lora_over_int8(trains, bert, tmp_path):
    model = hub.TextClassifier.from_preset(bert)
    model.quantize("int8", filters=lambda layer: layer.name != "classifier")
    model.enable_lora(2, alpha=4)
    base = integers(model)
    model.compile(keras.optimizers.Adam(0.02))
    losses = model.fit(TEXTS, LABELS, epochs=8, verbose=0, batch_size=4).history["loss"]
    assert losses[-1] < losses[0]
    assert all((value == base[name]).all() for name, value in integers(model).items())
    expected = model.predict(TEXTS, verbose=0)
    model.save_adapter(tmp_path / "adapter")
    again = hub.TextClassifier.from_preset(bert)
    again.quantize("int8", filters=lambda layer: layer.name != "classifier")
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_allclose(again.predict(TEXTS, verbose=0), expected, atol=1e-5)
    model.save_to_preset(tmp_path / "whole")  # the update is in the weights
    near(hub.TextClassifier.from_preset(tmp_path / "whole").predict(TEXTS, verbose=0), expected)


@pytest.mark.parametrize("kind", ["gpt2", "opt[350m]", "t5", "t5[v1.1]"])
def test_language_models(backend, kind, checkpoints):
    folder, _ = checkpoints(kind)
    if kind.startswith("t5"):
        model = bare(hub.Seq2SeqLM, folder)
        given = {
            "encoder_token_ids": T5_IDS, "encoder_padding_mask": MASK,
            "decoder_token_ids": T5_IDS, "decoder_padding_mask": MASK,
        }  # fmt: skip
    else:
        model = bare(hub.CausalLM, folder)
        given = {"token_ids": IDS, "padding_mask": MASK}
    before = ops.convert_to_numpy(model(given))
    model.quantize("int8")
    after = ops.convert_to_numpy(model(given))
    near(after[MASK], before[MASK], 0.25)


def test_the_words_that_follow_are_those_of_the_logits(backend, checkpoints):
    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    how = {"max_new_tokens": 6, "stop_token_ids": None, "strip_prompt": True}
    model.generate("The movie was", **how)
    model.quantize("int8")
    found = model.generate("The movie was", **how)  # cached keys, one token at a time
    tokenizer = model.preprocessor.tokenizer
    ids = [int(i) for i in np.ravel(tokenizer("The movie was")["token_ids"])]
    length = len(ids)
    for _ in range(6):
        row = np.array([ids], "int32")
        scores = ops.convert_to_numpy(model({"token_ids": row, "padding_mask": row >= 0}))
        ids.append(int(scores[0, -1].argmax()))
    assert found == tokenizer.detokenize(ids[length:])


@pytest.mark.parametrize("mode", ["int4", "gptq", "awq"])
def test_fewer_bits(mode, backend, checkpoints, tmp_path):
    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    given = {"token_ids": IDS, "padding_mask": MASK}
    before = ops.convert_to_numpy(model(given))
    config = keras.quantizers.Int4QuantizationConfig(block_size=None)
    if mode != "int4":
        made = {"gptq": keras.quantizers.GPTQConfig, "awq": keras.quantizers.AWQConfig}[mode]
        tokenizer = model.preprocessor.tokenizer
        config = made(TEXTS, tokenizer, num_samples=4, sequence_length=8, group_size=8)
    model.quantize(mode, config=config)
    blocks = [x.quantization_mode for x in model.backbone.blocks[0].flatten_layers()]
    assert blocks.count(mode) == 4  # qkv, output, and the two of the feed-forward network
    after = ops.convert_to_numpy(model(given))
    near(after[MASK], before[MASK], 0.5)
    assert isinstance(model.generate("The movie was", max_new_tokens=3), str)
    model.save_to_preset(tmp_path)  # in floats
    again = hub.CausalLM.from_preset(tmp_path)
    np.testing.assert_allclose(ops.convert_to_numpy(again(given))[MASK], after[MASK], atol=1e-5)


def test_masks_are_filled(backend, bert, tmp_path):
    tiny.make(tmp_path, "BertForMaskedLM")
    model = hub.MaskedLM.from_preset(tmp_path)
    before = model.fill_mask("what an [MASK] movie", top_k=3)
    model.quantize("int8")
    after = model.fill_mask("what an [MASK] movie", top_k=3)
    assert [len(m) for m in after[0]] == [len(m) for m in before[0]]
    assert abs(after[0][0][0][1] - before[0][0][0][1]) < 0.1


def test_a_backbone_in_a_file(backend, tmp_path):
    backbone = hub.GPT2Backbone(50, num_layers=1, num_heads=2, hidden_dim=8)
    backbone.quantize("int8")
    inputs = {"token_ids": IDS % 50, "padding_mask": MASK}
    expected = ops.convert_to_numpy(backbone(inputs))
    backbone.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")  # no class has to be named
    assert integers(again).keys() == integers(backbone).keys() != set()
    np.testing.assert_allclose(ops.convert_to_numpy(again(inputs)), expected, atol=1e-6)
