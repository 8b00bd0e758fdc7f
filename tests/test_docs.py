"""The examples in docstrings, in the README and in docs/ run as they stand."""

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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SKIPPED = {"keraslite.backend.torch", "keraslite.backend.jax", "keraslite.backend.tensorflow"}


def modules() -> list[str]:
    names = []
    for package in (keraslite, hub):
        names.append(package.__name__)
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(info.name.startswith(s) for s in SKIPPED):
                names.append(info.name)
    return names


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    module = importlib.import_module(name)
    for lazy in dir(module):  # doctest walks the module while looking a name up may add to it
        getattr(module, lazy)
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


def code_blocks(page: Path, fence: str = "python") -> list[str]:
    """The code of a page, each block at its own line so that tracebacks point into the page."""
    text = page.read_text()
    matches = re.finditer(rf"^```{fence}\n(.*?)^```", text, re.S | re.M)
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in matches]


# What these pages compile takes a minute on jax and tensorflow, where tests/hub compiles it too.
TORCH_ONLY = {"detection", "diffusion", "engines", "image_data", "segmentation", "text"}
WITH_CODE = [page for page in PAGES if code_blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page, backend, monkeypatch):
    if backend == "numpy" or (page.stem in TORCH_ONLY and backend != "torch"):
        pytest.skip("the page trains models" if backend == "numpy" else "the page runs on torch")
    monkeypatch.chdir(ROOT)
    names: dict = {}
    for block in code_blocks(page):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_sound(page):
    """Code that does not run still compiles, and links lead to a file and a heading."""
    for block in code_blocks(page, "python no-run"):
        compile(block, page.name, "exec")
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_pages_have_code():
    assert {
        "README",
        "audio",
        "backends",
        "diffusion",
        "files",
        "image_data",
        "images",
        "presets",
        "speech",
        "text",
        "training",
    } <= {page.stem for page in WITH_CODE}
