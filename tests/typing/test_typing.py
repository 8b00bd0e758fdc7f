"""The annotations of public names: user code runs as it is typed, and mistakes in it are seen."""

import importlib.util
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import text_checkpoints

ROOT = Path(__file__).parents[2]
# A mistake a line, with the code of the error that mypy is to report there.
MISTAKES = """\
import hub
import keraslite as keras

hub.BertClasifier  # attr-defined
hub.MaskedLM.from_preset("bert_base_en").fill_masks("a")  # attr-defined
hub.BertClassifier.from_preset("bert_base_en", bakend="jax", dtype=1, revision=2)  # arg-type
hub.CausalLM.from_preset("gpt2_base_en").generate("a", batch_size="8")  # call-overload
hub.CausalLM.from_preset("gpt2_base_en").generate(["a"]).upper()  # attr-defined
hub.BertClassifier.from_preset("bert_base_en").predict(["a"]).keys()  # attr-defined
hub.load("bert_base_en", hub.TextEmbedder).fill_mask("a")  # attr-defined
hub.load("bert_base_en").num_classes  # union-attr
hub.StableDiffusion.from_preset("a").text_to_image("a", num_steps="20")  # arg-type
keras.backend().use("jax")  # attr-defined
keras.use_backend(torch=True)  # call-arg
keras.Sequential().fit(epohs=3)  # call-arg
keras.layers.Dense(3).add_weight(shape=3)  # arg-type
keras.Model().to_json().weights  # attr-defined
"""


def test_user_code_runs(backend, tmp_path, monkeypatch):
    if backend == "numpy":
        pytest.skip("user code trains models")
    monkeypatch.chdir(tmp_path)
    code = runpy.run_path(str(ROOT / "tests" / "typing" / "user_code.py"))
    assert code["train"]() > 0
    code["custom_training"]()
    code["operations"]()
    code["backbone"]()
    assert code["embed"]("minilm_l6_en").shape == (2, 2)
    assert code["classify"]("minilm_l6_en", str(tmp_path / "classifier")).shape == (1, 2)
    text_checkpoints.make(tmp_path / "gpt2", "gpt2")
    assert len(code["generate"](str(tmp_path / "gpt2"))) == 1
    assert code["functional"]().count_params() > 0


def test_mistakes_are_seen(tmp_path):
    path = tmp_path / "mistakes.py"
    path.write_text(MISTAKES)
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--hide-error-context", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    errors = set(re.findall(r":(\d+): error: .*\[([\w-]+)\]$", output, re.M))
    lines = enumerate(MISTAKES.splitlines(), 1)
    assert errors == {(str(i), s.partition("  # ")[2]) for i, s in lines if "  # " in s}, output


def test_names_are_exported_to_type_checkers(tmp_path):
    """Pyright takes the imports of a typed package for private unless `__all__` has them."""
    names = "keras.Model keras.layers.Dense keras.losses.Hinge keras.optimizers.Adam keras.ops.add"
    code = "import hub\nimport keraslite as keras\n" + "\n".join(
        f"print({name})" for name in [*names.split(), "hub.BertClassifier", "keras.metrics.Mean"]
    )
    (tmp_path / "names.py").write_text(code)
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]})
    )
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "-p", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "0 errors" in done.stdout, done.stdout


def test_the_stub_of_hub_is_current(capsys):
    spec = importlib.util.spec_from_file_location("write_stub", ROOT / "scripts" / "write_stub.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--check"]) == 0, capsys.readouterr().out
