"""Tasks in one file, by `save` and `ModelCheckpoint`, with their preprocessors and tokenizers."""

import subprocess
import sys

import bert_checkpoints as tiny
import numpy as np
import pytest
import text_checkpoints
from checkpoints import cached

import hub
import keraslite as keras

LOAD = """
import sys, numpy as np, keraslite as keras
if sys.argv[2]: import hub
model = keras.saving.load_model(sys.argv[1], backend="numpy")
np.save(sys.argv[1] + ".npy", model.predict(sys.argv[3:], verbose=0))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    make = cached(tiny.make, tmp_path_factory)
    return make("BertForSequenceClassification", id2label={0: "bad", 1: "good", 2: "odd"})[0]


def _in_a_fresh_process(path, imported):
    command = [sys.executable, "-c", LOAD, str(path), imported, *tiny.TEXTS]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_saved_task_reads_texts_in_a_fresh_process(backend, folder, tmp_path):
    path = tmp_path / "task.keras"
    model = hub.BertTextClassifier.from_preset(folder, sequence_length=12)
    model.save(path)
    result = _in_a_fresh_process(path, "hub")
    assert result.returncode == 0, result.stderr
    expected = model.predict(tiny.TEXTS, verbose=0)
    np.testing.assert_allclose(np.load(f"{path}.npy"), expected, atol=1e-5)
    loaded = keras.saving.load_model(path)
    assert loaded.preprocessor.sequence_length == 12
    loaded.save_to_preset(tmp_path / "preset")
    again = hub.load(tmp_path / "preset")
    assert again.config_json()["id2label"] == {"0": "bad", "1": "good", "2": "odd"}


def test_a_task_of_no_family_is_saved(backend, folder, tmp_path):
    path = tmp_path / "task.keras"
    model = hub.BertTextClassifier.from_preset(folder)
    task = hub.TextClassifier(model.backbone, num_classes=2, preprocessor=model.preprocessor)
    task.save(path)
    result = _in_a_fresh_process(path, "hub")
    assert result.returncode == 0, result.stderr
    expected = task.predict(tiny.TEXTS, verbose=0)
    np.testing.assert_allclose(np.load(f"{path}.npy"), expected, atol=1e-5)
    assert type(keras.saving.load_model(path)).__name__ == "TextClassifier"


def test_without_hub_the_error_says_to_import_it(folder, tmp_path):
    path = tmp_path / "task.keras"
    hub.BertTextClassifier.from_preset(folder).save(path)
    error = _in_a_fresh_process(path, "").stderr
    assert "`import hub`" in error


def test_a_checkpoint_of_training_loads_with_its_preprocessor(trains, folder, tmp_path):
    path = tmp_path / "best.keras"
    model = hub.BertTextClassifier.from_preset(folder)
    saver = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    model.fit(tiny.TEXTS, [0, 1, 2], epochs=1, verbose=0, callbacks=[saver])
    loaded = keras.saving.load_model(path)
    expected = model.predict(tiny.TEXTS, verbose=0)
    np.testing.assert_allclose(loaded.predict(tiny.TEXTS, verbose=0), expected, atol=1e-5)
    loaded.fit(tiny.TEXTS, [0, 1, 2], epochs=1, verbose=0)


def test_a_saved_task_keeps_its_adapter(backend, folder, tmp_path):
    model = hub.BertTextClassifier.from_preset(folder)
    paths = model.enable_lora(2, alpha=6)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "lora" in weight.path:
            weight.assign(random.normal(size=weight.shape))
    model.save(tmp_path / "adapted.keras")
    loaded = keras.saving.load_model(tmp_path / "adapted.keras")
    expected = model.predict(tiny.TEXTS, verbose=0)
    np.testing.assert_allclose(loaded.predict(tiny.TEXTS, verbose=0), expected, atol=1e-5)
    assert loaded.get_config()["adapter"] == {"rank": 2, "alpha": 6, "layers": paths}
    trained = [[v.shape for v in m.trainable_variables] for m in (loaded, model)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_saved_generator_of_texts_goes_on_as_before(backend, kind, tmp_path):
    text_checkpoints.make(tmp_path / kind, kind)
    model = hub.load(tmp_path / kind)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.sampling == model.sampling
    texts = text_checkpoints.PROMPTS
    assert loaded.generate(texts, max_new_tokens=5) == model.generate(texts, max_new_tokens=5)


@pytest.mark.parametrize("style", ["albert", "xlm-roberta"])
def test_a_unigram_tokenizer_keeps_the_style_of_its_family(style):
    special = ["<pad>", "<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "<mask>"]
    pieces = [(token, 0.0) for token in special] + [("\u2581", -2.0), ("a", -1.0)]
    tokenizer = hub.UnigramTokenizer(pieces, style, unk_id=3)
    again = keras.saving.deserialize_keras_object(tokenizer.serialized())
    assert (
        again.encode_batch("a aa")[0][0].tolist() == tokenizer.encode_batch("a aa")[0][0].tolist()
    )
    assert again.special_tokens == tokenizer.special_tokens
