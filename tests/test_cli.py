"""The command line, in this process; and that listing imports no framework."""

import json
import subprocess
import sys

import bert_checkpoints as tiny
import numpy as np
import pytest
import text_checkpoints
import torch
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras
from hub.cli import main

pytest_plugins = ["tests.hub_server"]


@pytest.fixture
def folder(tmp_path):
    labels = {0: "bad", 1: "good"}
    tiny.make(tmp_path / "bert", "BertForSequenceClassification", id2label=labels)
    return tmp_path / "bert"


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in hub.list_presets():
        assert name in out
    assert main(["list", "gpt2"]) == 0
    assert "124,439,808" in capsys.readouterr().out
    assert main(["list", "gtp"]) == 1
    assert "hub list: unknown family 'gtp'" in capsys.readouterr().err


def test_listing_imports_no_framework():
    code = (
        "import sys; from hub.cli import main; main(['list']); "
        "print([m for m in ('torch', 'jax', 'tensorflow', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_info_says_what_is_not_verified(capsys, folder):
    assert main(["info", "opt_125m_en"]) == 0
    out = capsys.readouterr().out
    assert "license: other  (not verified)" in out
    assert "parameters: 125,239,296" in out
    assert main(["info", str(folder)]) == 0
    assert "architectures: BertForSequenceClassification" in capsys.readouterr().out
    assert main(["info", "opt_125_en"]) == 1
    assert "Did you mean 'opt_125m_en'" in capsys.readouterr().err


def test_pull(capsys, folder, hub_server):
    hub_server.publish("org/mine", folder)
    assert main(["pull", "org/mine"]) == 0
    before = len(hub_server.paths())
    assert "snapshots" in capsys.readouterr().out
    assert {p.rpartition("/")[2] for p in hub_server.paths() if "/resolve/" in p} >= {
        "config.json", "model.safetensors", "vocab.txt",
    }  # fmt: skip
    with keras.use_backend("numpy"):
        hub.TextClassifier.from_preset("org/mine")
    assert not any("/cdn/" in p for p in hub_server.paths()[before:])


def test_verify(capsys, folder):
    assert main(["verify", str(folder)]) == 0
    assert "sound" in capsys.readouterr().out
    tensors = dict(load_file(folder / "model.safetensors"))
    tensors["classifier.bias"] = np.array([np.nan, 0], "float32")
    tensors["extra"] = np.zeros(1, "float32")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "classifier.bias has 1 values that are no finite numbers" in out
    assert "Unused in the checkpoint (1): extra" in out
    assert "2 problems" in out


def answers(capsys, *words):
    assert main(["run", *words, "--backend", "numpy"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_run_on_texts(capsys, folder, tmp_path):
    first, second = answers(
        capsys, "text-classification", str(folder), "the movie was good", "bad films"
    )
    with keras.use_backend("numpy"):
        model = hub.TextClassifier.from_preset(folder)
        logits = model.predict(["the movie was good", "bad films"], verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for answer, row in zip((first, second), expected, strict=True):
        np.testing.assert_allclose(list(answer["scores"].values()), row, atol=1e-5)
        assert answer["label"] == ("bad", "good")[row.argmax()]
    (vector,) = answers(capsys, "feature-extraction", str(folder), "bad")
    assert len(vector["vector"]) == 12
    tiny.make(tmp_path / "lm", "BertForMaskedLM")
    (masks,) = answers(capsys, "fill-mask", str(tmp_path / "lm"), "the [MASK] was good")
    assert len(masks["masks"][0]) == 5
    tiny.make(tmp_path / "ner", "BertForTokenClassification")
    (found,) = answers(capsys, "token-classification", str(tmp_path / "ner"), "the movie")
    assert found["entities"]


@pytest.mark.parametrize(
    ("kind", "task"), [("gpt2", "text-generation"), ("t5", "text2text-generation")]
)
def test_run_that_writes(capsys, tmp_path, kind, task):
    text_checkpoints.make(tmp_path, kind)
    (answer,) = answers(capsys, task, str(tmp_path), "The movie", "--max-new-tokens", "5")
    with keras.use_backend("numpy"):
        assert answer["text"] == hub.load(tmp_path).generate("The movie", max_new_tokens=5)


def test_errors_are_one_line(capsys, folder):
    capsys.readouterr()
    for words in (
        ["run", "text-clasification", str(folder), "x"],
        ["run", "text-generation", str(folder), "x"],
        ["pull", "./nowhere"],
        ["bench", "org"],
    ):
        assert main(words) == 1
        out = capsys.readouterr()
        assert not out.out
        assert out.err.startswith(f"hub {words[0]}: ")
        assert out.err.count("\n") == 1


def test_convert(capsys, tmp_path):
    theirs = text_checkpoints.make(tmp_path / "opt", "opt")
    torch.save(theirs.state_dict(), tmp_path / "opt" / "pytorch_model.bin")
    (tmp_path / "opt" / "model.safetensors").unlink()
    assert main(["convert", str(tmp_path / "opt"), str(tmp_path / "new")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(theirs.state_dict()) + 1
    assert any("decoder.embed_tokens.weight" in x and "(307, 12)" in x for x in lines)
    assert (tmp_path / "new" / "model.safetensors").exists()
    with keras.use_backend("numpy"):
        old, new = (hub.load(tmp_path / f) for f in ("opt", "new"))
        assert old.generate("An", max_new_tokens=5) == new.generate("An", max_new_tokens=5)
    assert main(["convert", str(tmp_path / "opt"), str(tmp_path / "new")]) == 1
    assert "holds a checkpoint" in capsys.readouterr().err


def test_bench(capsys, folder):
    assert main(["bench", str(folder), "--backend", "numpy", "--texts", "4"]) == 0
    assert "BertTextClassifier on numpy" in capsys.readouterr().out
