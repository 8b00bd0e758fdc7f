"""The command line, in this process; as a process what only that shows."""

import hashlib
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import bert_checkpoints as tiny
import numpy as np
import pytest
import text_checkpoints
import torch
import transformers
from safetensors.numpy import load_file, save_file

import hub
import keraslite as keras
from hub.cli import main
from hub.presets import table

ROOT = Path(__file__).parents[2]


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
    error = capsys.readouterr().err
    assert "hub list: family must be one of" in error
    assert "got 'gtp'" in error


def test_listing_imports_no_framework():
    code = (
        "import sys; from hub.cli import main; main(['list']); "
        "print([m for m in ('torch', 'jax', 'tensorflow', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("words", [["list"], ["info", "gpt2_base_en"]])
def test_as_a_process(words):
    command = [sys.executable, "-m", "hub", *words]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert "gpt2" in done.stdout
    assert not done.stderr
    # Whoever reads the output goes away before it comes.
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run(
        command, stdout=reader.stdin, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )
    reader.stdin.close()
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_console_script_is_the_same_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["hub"].partition(":")
    assert getattr(importlib.import_module(module), name) is main


def test_info_says_what_is_not_verified(capsys, folder):
    assert main(["info", "opt_125m_en"]) == 0
    out = capsys.readouterr().out
    assert "license: other  (not verified)" in out
    assert "parameters: 125,239,296" in out
    assert main(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "architectures: BertForSequenceClassification" in out
    assert "commit" not in out, "a folder has none"
    assert main(["info", "opt_125_en"]) == 1
    assert "Did you mean 'opt_125m_en'" in capsys.readouterr().err


def test_info_of_a_repository(capsys, folder, hub_server):
    hub_server.publish("org/mine", folder)
    old = hub_server.publish("org/mine", folder, "v1")
    count = sum(a.size for a in load_file(folder / "model.safetensors").values())
    assert main(["info", "org/mine", "--revision", "v1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert f"parameters: {count:,}" in out
    assert {"model_type: bert", "dtypes: float32", f"commit: {old}"} < set(out)
    assert "files: config.json, model.safetensors, tokenizer_config.json, vocab.txt" in out


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_pull_is_all_that_is_needed(capsys, tmp_path, hub_server, monkeypatch, kind):
    if kind == "bert":
        tiny.make(tmp_path / "made", "BertModel", max_shard_size="5KB")
    else:
        text_checkpoints.make(tmp_path / "made", kind)
    hub_server.publish("org/mine", tmp_path / "made", token="secret")
    assert main(["pull", "org/mine"]) == 1
    assert "if it is private" in capsys.readouterr().err
    assert main(["pull", "org/mine", "--token", "secret"]) == 0
    (pulled,) = capsys.readouterr().out.splitlines()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = hub.TextEmbedder if kind == "bert" else hub.load
    task = getattr(task, "from_preset", task)
    with keras.use_backend("numpy"):
        online, offline = task(tmp_path / "made"), task("org/mine")
        assert task(pulled).count_params() == online.count_params() == offline.count_params()


def damaged(folder, **changes):
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    tensors = {k: v for k, v in tensors.items() if v is not None}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_verify(capsys, folder):
    assert main(["verify", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("sound\n")
    for path in folder.iterdir():
        assert f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" in out
    damaged(folder, extra=np.zeros(1, "float32"),
            **{"classifier.bias": np.array([np.nan, np.inf], "float32")})  # fmt: skip
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "classifier.bias has 2 values that are no finite numbers" in out
    assert "Unused in the checkpoint (1): extra" in out
    assert "2 problems" in out


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bert.pooler.dense.bias": np.zeros(5, "float32")}, "bert.pooler.dense.bias (5,) for"),
        ({"bert.pooler.dense.bias": None}, "Missing in the checkpoint (1): bert.pooler.dense.bias"),
        ({"classifier.bias": None}, "Missing in the checkpoint (1): classifier.bias"),
        ({"classifier.bias": None, "classifier.weight": None}, "weights of head/kernel, head/bias"),
        ({"classifier.bias": np.zeros(3, "float32")}, "classifier.bias (3,) for"),
    ],
)
def test_verify_is_strict(capsys, folder, changes, problem):
    damaged(folder, **changes)
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert problem in out
    assert out.endswith("\n1 problems\n")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("model.safetensors", None, "holds no weights"),
        ("model.safetensors", b"\xff" * 50, "no valid safetensors file"),
        ("vocab.txt", None, "has no tokenizer"),
        ("config.json", None, "has no 'config.json'"),
        ("config.json", {"num_attention_heads": 0}, "num_attention_heads=0: expected an integer"),
        ("config.json", {"architectures": ["BertForPeace"]}, "is a BertForPeace"),
        ("config.json", {"model_type": "bird"}, "'bird' is not supported"),
    ],
)
def test_verify_finds_what_else_is_broken(capsys, folder, name, content, problem):
    if isinstance(content, dict):
        content = json.dumps({**json.loads((folder / name).read_text()), **content}).encode()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert problem in out
    assert not err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_verify_of_shards_and_of_another_dtype(capsys, tmp_path, dtype):
    tiny.make(tmp_path, "BertForMaskedLM", dtype, max_shard_size="3KB")
    assert main(["verify", str(tmp_path)]) == 0
    assert "model-00002-of-" in capsys.readouterr().out


def test_verify_finds_damage_in_the_cache(capsys, folder, hub_server):
    hub_server.publish("org/mine", folder)
    assert main(["verify", "org/mine"]) == 0
    blob = hub.presets.resolve("org/mine").path("model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1  # still a number: only the digest can tell
    blob.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", "org/mine"]) == 1
    out = capsys.readouterr().out
    assert "is damaged: its digest is" in out
    assert out.endswith("\n1 problems\n")


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


def test_run_on_every_backend(capsys, folder, backend):
    words = ["run", "text-classification", str(folder), "the movie was good"]
    assert main([*words, "--backend", backend]) == 0
    (answer,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    theirs = transformers.pipeline("text-classification", str(folder), top_k=None)
    for row in theirs(["the movie was good"])[0]:
        assert abs(answer["scores"][row["label"]] - row["score"]) < 1e-5


def test_the_backend_is_scoped_to_the_command(capsys, folder):
    with keras.use_backend("torch"):
        assert main(["run", "feature-extraction", str(folder), "x", "--backend", "numpy"]) == 0
        assert keras.backend.backend() == "torch"


@pytest.mark.parametrize(
    "config",
    [
        {"problem_type": "multi_label_classification", "num_labels": 3},
        {"problem_type": "single_label_classification", "num_labels": 3},
        {"problem_type": "regression", "num_labels": 1},
        {"problem_type": "regression", "num_labels": 2},
        {"num_labels": 1},
        {"num_labels": 3},
    ],
    ids=str,
)
def test_scores_are_what_transformers_makes_of_the_logits(capsys, tmp_path, config):
    tiny.make(tmp_path, "BertForSequenceClassification", **config)
    (answer,) = answers(capsys, "text-classification", str(tmp_path), "bad films")
    pipeline = transformers.pipeline("text-classification", str(tmp_path), top_k=None)
    (theirs,) = pipeline(["bad films"])
    assert answer["label"] == theirs[0]["label"]
    assert answer["scores"] == pytest.approx({x["label"]: x["score"] for x in theirs}, abs=1e-5)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("text-classification", "BertModel"),
        ("text-classification", "BertForMaskedLM"),
        ("text-classification", "BertForTokenClassification"),
        ("token-classification", "BertForSequenceClassification"),
        ("fill-mask", "BertModel"),
    ],
)
def test_run_refuses_a_head_that_nobody_trained(capsys, tmp_path, task, kind, backend):
    tiny.make(tmp_path, kind)
    capsys.readouterr()
    assert main(["run", task, str(tmp_path), "the [MASK]", "--backend", backend]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert f"{task} would give random answers; train it first" in err
    assert "head/" in err


def test_run_says_which_classes_have_no_name(capsys, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "7": "b"}}))
    capsys.readouterr()
    assert main(["run", "text-classification", str(folder), "x", "--backend", "numpy"]) == 1
    assert "id2label of the config must name 0 to 1, has" in capsys.readouterr().err


def test_run_of_a_revision(capsys, tmp_path, hub_server):
    for revision, label in (("main", "new"), ("v1", "old")):
        names = {0: label, 1: label + "er"}
        tiny.make(tmp_path / revision, "BertForSequenceClassification", id2label=names)
        hub_server.publish("org/mine", tmp_path / revision, revision)
    words = ["text-classification", "org/mine", "x"]
    assert "new" in answers(capsys, *words)[0]["scores"]
    assert "old" in answers(capsys, *words, "--revision", "v1")[0]["scores"]


@pytest.mark.parametrize(
    ("kind", "task"), [("gpt2", "text-generation"), ("t5", "text2text-generation")]
)
def test_run_that_writes(capsys, tmp_path, kind, task):
    text_checkpoints.make(tmp_path, kind)
    (answer,) = answers(capsys, task, str(tmp_path), "The movie", "--max-new-tokens", "5")
    with keras.use_backend("numpy"):
        assert answer["text"] == hub.load(tmp_path).generate("The movie", max_new_tokens=5)


def test_errors_are_one_line(capsys, folder, tmp_path):
    damaged(folder, extra=np.zeros(1, "float32"))
    broken = ["run", "feature-extraction", str(folder), "x"]
    capsys.readouterr()
    for words in (
        ["run", "text-clasification", str(folder), "x"],
        ["run", "text-generation", str(folder), "x"],
        broken,
        [*broken, "--backend", "caffe"],
        ["pull", "./nowhere"],
        ["info", str(tmp_path)],
        ["convert", "./nowhere", str(tmp_path / "new")],
        ["bench", "org"],
        ["bench", str(folder), "--texts", "0"],
    ):
        assert main(words) == 1, words
        out = capsys.readouterr()
        assert not out.out
        assert out.err.startswith(f"hub {words[0]}: ")
        assert out.err.count("\n") == 1
    for words in ([], ["lisst"], ["run"], ["list", "--no"], ["bench", "x", "--texts", "many"]):
        with pytest.raises(SystemExit) as error:
            main(words)
        assert error.value.code == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_an_error_of_another_kind_is_one_line_with_its_kind(capsys, monkeypatch):
    for error, line in (
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by zero"),
        (MemoryError(), "MemoryError"),
        (ValueError(""), "ValueError"),
    ):

        def broken(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr("hub.cli.info.info", broken)
        assert main(["info", "x"]) == 1
        assert capsys.readouterr().err == f"hub info: {line}\n"


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


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_transformers_opens_what_was_converted_from_shards(capsys, tmp_path, form):
    old, new = tmp_path / "old", tmp_path / "new"
    theirs = tiny.make(old, "BertForSequenceClassification", max_shard_size="5KB")
    if form == "bin":
        index = json.loads((old / "model.safetensors.index.json").read_text())
        for shard in set(index["weight_map"].values()):
            tensors = {k: torch.from_numpy(v) for k, v in load_file(old / shard).items()}
            torch.save(tensors, old / shard.replace("model-", "pytorch_model-").replace(
                "safetensors", "bin"))  # fmt: skip
            (old / shard).unlink()
        index["weight_map"] = {
            k: v.replace("model-", "pytorch_model-").replace("safetensors", "bin")
            for k, v in index["weight_map"].items()
        }
        (old / "model.safetensors.index.json").unlink()
        (old / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert main(["convert", str(old), str(new)]) == 0
    rows = capsys.readouterr().out.splitlines()[:-1]
    state = theirs.state_dict()
    assert {r.split("  ")[0].strip() for r in rows} == set(state)
    for row in rows:
        name, dtype, shape = (part.strip() for part in row.split("  ") if part.strip())
        assert (dtype, shape) == ("float32", str(tuple(state[name].shape)))
    again = transformers.AutoModelForSequenceClassification.from_pretrained(new).state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_convert_writes_the_config_that_a_row_stands_in_for(tmp_path, hub_server, monkeypatch):
    tiny.make(tmp_path / "made", "BertModel")
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    (tmp_path / "made" / "config.json").unlink()
    row = {**table.preset_row("bert_base_en"), "repo": "org/bare", "config": config}
    monkeypatch.setattr(table, "_rows", lambda: {"bert_base_en": row})
    hub_server.publish("org/bare", tmp_path / "made")
    assert main(["convert", "bert_base_en", str(tmp_path / "new")]) == 0
    assert transformers.AutoModel.from_pretrained(tmp_path / "new").config.hidden_size == 12


def test_convert_leaves_what_is_there_alone(capsys, folder, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.safetensors").write_text("mine")
    assert main(["convert", str(folder), str(tmp_path / "new")]) == 1
    assert "holds a checkpoint; give another folder" in capsys.readouterr().err
    assert (tmp_path / "new" / "model.safetensors").read_text() == "mine"
    assert main(["convert", str(folder), str(folder / "config.json")]) == 1


def test_the_script_that_converts(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["convert_weights.py", str(folder), str(tmp_path / "new")])
    with pytest.raises(SystemExit) as error:
        runpy.run_path(str(ROOT / "scripts" / "convert_weights.py"), run_name="__main__")
    assert error.value.code == 0
    assert "57 tensors" in capsys.readouterr().out
    assert (tmp_path / "new" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("BertForSequenceClassification", r"BertTextClassifier on numpy: [\d.]+ texts/s"),
        ("BertModel", r"BertTextEmbedder on numpy: [\d.]+ texts/s"),
        ("gpt2", r"GPT2CausalLM on numpy: [\d.]+ tokens/s"),
        ("t5", r"T5Seq2SeqLM on numpy: [\d.]+ tokens/s"),
    ],
)
def test_bench(capsys, tmp_path, kind, line):
    (tiny if kind.startswith("Bert") else text_checkpoints).make(tmp_path, kind)
    capsys.readouterr()
    assert main(["bench", str(tmp_path), "--backend", "numpy", "--texts", "4"]) == 0
    assert re.fullmatch(line, capsys.readouterr().out.strip())
