"""The notebooks, cell by cell, with small models: one that is installed, or those they train."""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import keraslite as keras

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
SAYS = {
    "text_classification": "largest difference between the backends",
    "token_classification": "words right",
    "summarization_t5": "log-probabilities of the new headlines",
    "causal_lm_lora": "the same scores again: True",
    "text_to_image_lora": "the same images again: True",
    "speech_to_text": "word error rate of the other voice",
    "image_classification": "held-out pictures:",
    "object_detection": "mAP50 on unseen pictures",
    "image_segmentation": "mean IoU on unseen pictures",
}
# Those whose presets must be downloaded train a small model instead, and say so.
SMALL = ("summarization_t5", "causal_lm_lora", "text_to_image_lora")
SETTINGS = {"PRESET": "small", "SMALL_EPOCHS": 1, "STEPS": 2}
LARGEST = 400_000  # bytes of a notebook with its outputs


def cells(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_all_are_run():
    assert {p.stem for p in FOLDER.glob("*.ipynb")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_outputs_and_curves_are_stored(name):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))  # in one run
    outputs = [o for cell in code for o in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert SAYS[name] in "".join("".join(o.get("text", "")) for o in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("name", SMALL)
def test_outputs_of_a_small_model_are_said_to_be(name):
    texts = ["".join(c["source"]) for c in cells(name) if c["cell_type"] == "markdown"]
    assert any("stored in this notebook are not those of" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAYS)
def test_notebook(name, tmp_path, monkeypatch, capsys):
    if name in SMALL:
        for setting, value in SETTINGS.items():
            monkeypatch.setenv(f"EXAMPLE_{setting}", str(value))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("EXAMPLE_TEXTS", "240")
    monkeypatch.setenv("EXAMPLE_PICTURES", "60")
    monkeypatch.setenv("EXAMPLE_EPOCHS", "3")
    names: dict = {}
    with keras.use_backend("torch"):
        for cell in cells(name):
            code = "".join(cell["source"])
            draws = "import matplotlib" in code  # of the extra `notebook`, not of the tests
            if cell["cell_type"] == "code" and not (draws and find_spec("matplotlib") is None):
                exec(compile(code, name, "exec"), names)
    assert SAYS[name] in capsys.readouterr().out
    if name == "text_classification":
        assert names["whole"]["loss"] < names["frozen"]["loss"]
        assert names["whole"]["accuracy"] > 0.7
    if name == "speech_to_text":
        losses = names["history"].history["loss"]
        assert losses[-1] < 0.7 * losses[0]
