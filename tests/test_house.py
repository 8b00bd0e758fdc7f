"""The house rules, read from the code: who imports whom, what frameworks stand where, sizes."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"jax", "torch", "tensorflow"}
# From the ground up: a file may import only from its own line and the lines above it.
FLOORS = [
    ["config", "dtypes", "tree", "typing", "declare", "scopes"],
    ["backend"],
    ["variable", "naming", "masking", "registry", "dtype_policies"],
    ["ops", "symbolic"],
    ["random"],
    ["initializers", "regularizers", "constraints", "activations", "losses", "metrics"],
    ["optimizers", "quantizers"],
    ["layers"],
    ["utils", "callbacks", "training", "models", "saving"],
]
HUB_FLOORS = [
    ["datasets", "families", "files", "weights", "presets", "tokenizers", "preprocessing"],
    ["blocks"],
    ["models"],
    ["generation"],
    ["diffusion"],
    ["tasks"],
    ["convert"],
    ["cli"],
    ["__main__"],
]


def imports(path: Path, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ["keraslite", "hub"])
def test_frameworks_are_imported_in_the_backends_alone(package):
    for path in sources(package):
        if "backend" in path.relative_to(ROOT).parts:
            continue
        roots = {name.partition(".")[0] for name in imports(path)}
        assert not roots & (FRAMEWORKS | {"keras", "transformers"}), path


@pytest.mark.parametrize(
    ("package", "floors"), [("keraslite", FLOORS), ("hub", HUB_FLOORS)], ids=["keraslite", "hub"]
)
def test_a_file_imports_only_from_below(package, floors):
    level = {name: i for i, floor in enumerate(floors) for name in floor}
    for path in sources(package):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        if parts == ("__init__",):
            continue
        assert parts[0] in level, f"{path}: give {parts[0]!r} a floor"
        for name in imports(path, top_level=True):
            pieces = name.split(".")
            if pieces[0] == package and len(pieces) > 1 and pieces[1] in level:
                assert level[pieces[1]] <= level[parts[0]], f"{path} imports {name}"


def test_keraslite_knows_nothing_of_hub():
    for path in sources("keraslite"):
        assert not any(n.partition(".")[0] == "hub" for n in imports(path)), path


@pytest.mark.parametrize("package", ["keraslite", "hub"])
def test_an_import_brings_no_framework_and_is_quick(package):
    code = (
        "import sys, time; start = time.process_time(); "
        f"import {package}; took = time.process_time() - start; "
        "bad = {'jax', 'torch', 'tensorflow', 'keras', 'transformers', 'huggingface_hub'} "
        "& set(sys.modules); print(took, sorted(bad))"
    )
    # The processor's time, which other work does not stretch; compiled files may be kept.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=environment,
        )
        for _ in range(4)
    ]  # fmt: skip
    times, modules = zip(*(r.stdout.split(" ", 1) for r in runs), strict=True)
    assert set(modules) == {"[]\n"}
    assert min(map(float, times)) < 0.3, times


def test_every_public_name_has_a_docstring():
    import keraslite
    from keraslite.ops.op import TABLE

    missing = [name for name, row in TABLE.items() if not row.body.__doc__]
    doors = ["layers", "losses", "metrics", "optimizers", "callbacks", "initializers", "models"]
    for door in doors:
        module = getattr(keraslite, door)
        for name, value in vars(module).items():
            if isinstance(value, type) and not name.startswith("_") and not value.__doc__:
                missing.append(f"{door}.{name}")
    assert missing == []
