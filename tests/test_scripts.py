"""The scripts that report on the ops: coverage of Keras's names, differences from float64, memory;
and the example that transcribes."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import ops_cases
import pytest
import speech_checkpoints
from known_gaps import GAPS

import keraslite

SCRIPTS = Path(__file__).parent.parent / "scripts"
EXAMPLES = SCRIPTS.parent / "examples"
sys.path.append(str(SCRIPTS))  # where scripts find each other


def script(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COVERED = (
    "activations", "backend", "config", "constraints", "datasets", "initializers", "layers",
    "losses", "metrics", "mixed_precision", "models", "ops", "optimizers", "preprocessing", "random",
    "regularizers", "tree", "visualization", "wrappers",
)  # fmt: skip


@pytest.mark.parametrize("namespace", [f"keras.{name}" for name in COVERED])
def test_no_name_of_keras_is_missing(namespace, capsys):
    assert script("api_coverage").main([namespace]) == 0, capsys.readouterr().out


def test_a_namespace_that_is_missing_whole_is_reported(capsys):
    main = script("api_coverage").main
    assert main(["keras.distribution"]) == 1
    assert "missing  keras.distribution.DataParallel" in capsys.readouterr().out
    for name in ("keras.nonsense", "layers"):
        assert main([name]) == 2
        assert f"no namespace '{name}'" in capsys.readouterr().out


def test_without_names_all_namespaces_are_counted(capsys):
    coverage = script("api_coverage")
    code, output = coverage.main([]), capsys.readouterr().out
    counted = re.findall(r"^keras\.(\w+): (\d+) names, (\d+) missing, 0 differ$", output, re.M)
    assert [name for name, _, _ in counted] == list(coverage.NAMESPACES)
    names, missing = (sum(int(row[i]) for row in counted) for i in (1, 2))
    assert output.endswith(
        f"In all: {names} names, {missing} missing, {1 - missing / names:.1%} are there\n"
    )
    assert code == (missing > 0)
    assert set(re.findall(r"reason   ([\w.]+):", output)) == set(coverage.REASONS)


def test_what_differs_in_a_signature_is_said():
    differences = script("api_coverage").differences
    assert not differences(lambda a, b=1, more=2: 0, lambda a, b=1: 0)
    assert "'b' defaults to 2, Keras has 1" in differences(lambda a, b=2: 0, lambda a, b=1: 0)
    assert "Keras has 'b'" in differences(lambda a, c=1: 0, lambda a, b=1: 0)[0]
    assert "Keras has 'b'" in differences(lambda a: 0, lambda a, b=1: 0)[0]
    assert "'c' is required" in differences(lambda a, c: 0, lambda a: 0)[0]


def test_a_difference_is_found_and_named():
    report = script("parity_report")
    eps = 2.0**-23
    assert report.difference(np.float32([1, 2]), np.float64([1, 2]), "float32") == (0, 0)
    assert report.difference(np.float32([1 + eps, 2]), np.float64([1, 2]), "float32") == (0.5, 1)
    assert report.difference(np.float32([np.nan]), np.float64([1]), "float32")[0] == np.inf
    assert report.difference(np.int32([1, 2]), np.int64([1, 3]), "int32") == (1, 1)
    case = ops_cases.row("add", np.float32([1, 2]), 1.0, oracle=lambda x, y: x + y + 1)
    failed, totals = [], {name: [] for name in report.BACKENDS}
    ops = {"add": [case]}
    ops_cases.by_op(ops["add"])
    subject = report.Subject("ops", ops, report.reference, report.op_results, report.brief)
    line = report.row_of(subject, "add", totals, failed)
    assert not failed
    assert all(value > 1e6 for values in totals.values() for value in values), line
    assert set(totals) == set(keraslite.backend.available()) | {"numpy"}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["value", "gradient"])
def test_memory_of_long_attention_is_linear(what, backend):
    """16,384 queries and keys: the logits alone would take 1 GB, and several times with gradients."""
    if (what, backend) == ("gradient", "numpy"):
        return  # it has none
    command = [sys.executable, SCRIPTS / "bench" / "attention.py", "--only", what, backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figure = json.loads(done.stdout)
    assert figure["unit"] == "MiB"
    assert 0 < figure["value"] < 1024, figure


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["fit.py", "--only", "loop", "predict", "deep"],
        ["build.py", "--only", "layers", "keraslite"],
    ],
)
def test_a_figure_of_small_models_is_measured(command):
    script, *arguments = command
    command = [sys.executable, SCRIPTS / "bench" / script, *arguments, "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figure = json.loads(done.stdout)
    assert figure["value"] > 0
    assert figure["goal"].startswith("<=")


@pytest.mark.slow
def test_the_example_classifies_shapes(tmp_path):
    options = {"--network": "vit", "--pictures": "10", "--epochs": "1"}
    options["--sheet"] = str(tmp_path / "a.png")
    command = [sys.executable, EXAMPLES / "classify_images.py", *sum(options.items(), ())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"Held-out accuracy: \d+\.\d%", done.stdout), done.stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_example_transcribes(tmp_path):
    speech_checkpoints.make(tmp_path / "model", "english")
    path, sound = tmp_path / "a.wav", speech_checkpoints.sound(3.0)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, speech_checkpoints.RATE, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    command = [
        sys.executable, EXAMPLES / "transcribe.py", path, "--backend", "torch", "--preset",
        tmp_path / "model", "--out", tmp_path, "--word-timestamps",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"\[ +\d+\.\d\d -> +\d+\.\d\d\]", done.stdout), done.stdout
    assert " --> 00:00:0" in (tmp_path / "out.srt").read_text()


def test_damaged_and_hostile_files_are_loaded_or_refused():
    command = [sys.executable, SCRIPTS / "stress_files.py", "--files", "60", "--seed", "20000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "60 files, 0 with faults" in done.stdout


def test_a_killed_save_leaves_the_old_or_the_new():
    command = [sys.executable, SCRIPTS / "stress_crash.py", "--only", "file", "--moments", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.slow
def test_the_example_meets_keras(tmp_path):
    command = [sys.executable, EXAMPLES / "from_keras.py", "--out", tmp_path, "--backends", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    differences = re.findall(r" by (\d\.\de[+-]\d\d)", done.stdout)
    assert len(differences) == 3, done.stdout
    assert all(float(text) < 1e-5 for text in differences), done.stdout
    assert "training goes on after step 24" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [("train_on_a_folder", "of 12 pictures"), ("detect_shapes", "unseen pictures: mAP50")],
)
def test_the_example_trains_and_draws(name, says, tmp_path):
    settings = {"EXAMPLE_EPOCHS": "1", "EXAMPLE_PICTURES": "60", "EXAMPLE_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--out", tmp_path], check=True,
        env={**os.environ, **settings}, capture_output=True, text=True,
    )  # fmt: skip
    assert says in done.stdout
    assert {"augmented.png", "history.png", "confusions.png"} <= set(os.listdir(tmp_path))


@pytest.mark.slow
def test_the_example_of_four_worlds():
    names = runpy.run_path(str(EXAMPLES / "four_worlds.py"))
    lines: list[str] = []
    losses = names["main"](epochs=2, count=128, say=lines.append)  # it compares them itself
    assert set(losses) == {"jax", "torch", "tensorflow"}
    assert losses["jax"][1] < losses["jax"][0]
    assert sum("outputs differ by" in line for line in lines) == 3


@pytest.mark.slow
def test_the_example_segments(tmp_path):
    settings = {"EXAMPLE_EPOCHS": "1", "EXAMPLE_PICTURES": "40", "EXAMPLE_BACKEND": "torch"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "segment.py", "--out", tmp_path], check=True,
        env={**os.environ, **settings}, capture_output=True, text=True,
    )  # fmt: skip
    assert 0 <= float(re.search(r"mean IoU (\S+) of \d+ clicks", done.stdout)[1]) <= 1
    assert {"history.png", "clicks_0.png", "everything.png"} <= set(os.listdir(tmp_path))


@pytest.mark.slow
def test_segmentation_is_measured():
    settings = ["--size", "small", "--rounds", "1", "--points", "3", "--backends", "torch"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench" / "segmentation.py", *settings],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(figures) == 6, done.stdout
    assert all(figure["value"] > 0 for figure in figures)


def test_few_gaps_are_known():
    pairs = {(name.partition("[")[0].partition(".")[0], backend) for name, backend in GAPS}
    names = {name for name in dir(keraslite.ops) if callable(getattr(keraslite.ops, name))}
    assert {name for name, _ in pairs} <= names | set(dir(keraslite.ops.image))
    assert len(pairs) <= 0.01 * len(names) * 4
