"""The examples in docstrings and in the README run as they stand."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import hub
import keraslite

ROOT = Path(__file__).parent.parent
SKIPPED = {"keraslite.backend.torch", "keraslite.backend.jax", "keraslite.backend.tensorflow"}


def modules() -> list[str]:
    found = []
    for package in (keraslite, hub):
        found.append(package.__name__)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(info.name.startswith(s) for s in SKIPPED):
                found.append(info.name)
    return found


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    module = importlib.import_module(name)
    keraslite.use_backend("numpy")
    public = {k: v for k, v in vars(keraslite).items() if not k.startswith("_")}
    if name.startswith("keraslite.ops."):
        public = {**vars(keraslite.ops), **public}
    names = {**public, "np": np, "hub": hub, "keras": keraslite, **vars(module)}
    with keraslite.use_backend("numpy" if "transforms" not in name else "jax"):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs=names):
            runner.run(test, clear_globs=False)
    assert runner.failures == 0


def test_the_readme_runs():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    names: dict = {}
    with keraslite.use_backend("jax"):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
