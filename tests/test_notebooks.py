"""The notebooks, cell by cell: with the small model that is installed, or a tiny one made here."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import text_checkpoints
from diffusion_checkpoints import pipeline

import keraslite as keras

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
KINDS = {"summarization_t5": "t5[v1.1]", "causal_lm_lora": "gpt2"}
SAYS = {
    "text_classification": "largest difference between the backends",
    "token_classification": "words right",
    "summarization_t5": "log-probabilities of the headlines",
    "causal_lm_lora": "the same scores again: True",
    "text_to_image_lora": "the same images again: True",
}
STORED = ("text_classification", "token_classification")


def test_all_are_run():
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == set(SAYS)


@pytest.mark.parametrize("name", STORED)
def test_outputs_and_curves_are_stored(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert SAYS[name] in "".join("".join(o.get("text", "")) for o in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_notebook(name, tmp_path, monkeypatch, capsys):
    if name in KINDS:
        longer = {"n_positions": 128} if KINDS[name] == "gpt2" else {}
        text_checkpoints.make(tmp_path, KINDS[name], scale=0.1, **longer)
        monkeypatch.setenv("EXAMPLE_PRESET", str(tmp_path))
    if name == "text_to_image_lora":
        pipeline(tmp_path)
        for setting, value in {"PRESET": tmp_path, "SIZE": 16, "STEPS": 2}.items():
            monkeypatch.setenv(f"EXAMPLE_{setting}", str(value))
    monkeypatch.setenv("EXAMPLE_TEXTS", "240")
    monkeypatch.setenv("EXAMPLE_EPOCHS", "3")
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    names: dict = {}
    with keras.use_backend("torch"):
        for cell in notebook["cells"]:
            code = "".join(cell["source"])
            draws = "import matplotlib" in code  # of the extra `notebook`, not of the tests
            if cell["cell_type"] == "code" and not (draws and find_spec("matplotlib") is None):
                exec(compile(code, name, "exec"), names)
    assert SAYS[name] in capsys.readouterr().out
    if name == "text_classification":
        assert names["whole"]["loss"] < names["frozen"]["loss"]
        assert names["whole"]["accuracy"] > 0.7
