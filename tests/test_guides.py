"""The programs in examples/guides: each learns on each backend, in the words of Keras."""

import ast
import os
import runpy
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "guides"
GUIDES = sorted(path.stem for path in FOLDER.glob("*.py"))
# What Keras has not: these two say so in their docstrings.
NOT_IN_KERAS = {
    "custom_training_loop": {"keras.jit", "keras.value_and_grad"},
    "gan": {"keras.value_and_grad"},
}


def names_of_keras(name):
    """The dotted names that a guide takes from Keras: `keras.ops.exp`, as `ops.exp` too."""
    roots, dotted = {}, set()
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            roots |= {a.asname: "keras" for a in node.names if a.name == "keraslite"}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("keraslite"):
            module = node.module.replace("keraslite", "keras")
            roots |= {a.asname or a.name: f"{module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            root, _, rest = text.partition(".")
            if root in roots and all(part.isidentifier() for part in rest.split(".")):
                dotted.add(f"{roots[root]}.{rest}")
    return dotted - {"keras.use_backend"}


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_takes_what_keras_has(name):
    def is_there(dotted):
        value = keras
        for part in dotted.split(".")[1:]:
            value = getattr(value, part, None)
        return value is not None

    names = names_of_keras(name)
    assert len(names) > 5
    assert {n for n in names if not is_there(n)} == NOT_IN_KERAS.get(name, set())


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_learns(name, trains, tmp_path, monkeypatch, capsys):
    """It says so itself; on torch it draws too."""
    path, arguments = FOLDER / f"{name}.py", []
    picture = tmp_path / "out.png"
    if trains == "torch" and "--out" in path.read_text():
        arguments = ["--out", str(picture)]
    monkeypatch.setattr(sys, "argv", [path.name, *arguments])
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) > 2
    if arguments:
        assert os.path.getsize(picture) > 1000


def test_guides_are_listed():
    page = (ROOT / "docs" / "training.md").read_text()
    assert [
        name for name in GUIDES if f"[{name}.py](../examples/guides/{name}.py)" not in page
    ] == []
