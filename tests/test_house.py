"""The house rules, read from the code: who imports whom, private names, sizes, import cost.

All imports count, those inside functions too. Exceptions are listed here and may only shrink: an
exception that is no longer needed fails as well.
"""

import ast
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"jax", "torch", "tensorflow"}
PACKAGES = ("keraslite", "hub")
# A file imports only from its own floor and from those above it in the list.
FLOORS = {
    "keraslite": [
        ["config", "dtypes", "tree", "declare", "scopes", "typing"],
        ["backend"],
        ["naming", "masking", "registry", "dtype_policies"],
        ["variable"],
        ["ops", "probing", "symbolic", "operation"],
        ["random"],
        ["initializers", "regularizers", "constraints", "activations", "losses", "metrics"],
        ["optimizers", "quantizers", "mixed_precision"],
        ["layers"],
        ["saving"],
        ["utils"],
        ["datasets", "preprocessing", "visualization"],
        ["callbacks"],
        ["training"],
        ["export"],
        ["models"],
        ["applications", "wrappers"],
    ],
    "hub": [
        ["datasets", "families", "files"],
        ["weights"],
        ["presets"],
        ["preprocessing"],
        ["tokenizers"],
        ["blocks"],
        ["models"],
        ["generation"],
        ["diffusion"],
        ["speech"],
        ["detection"],
        ["segmentation"],
        ["tasks"],
        ["convert"],
        ["cli"],
        ["__main__"],
    ],
}
# file -> what it imports from below, and why.
UPWARD: dict[tuple[str, str], str] = {}
# file -> why it has more than 600 lines.
LONG: dict[str, str] = {}
LIMIT = 600


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def sources(*packages: str) -> list[Path]:
    return sorted(p for package in packages for p in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(p): p for p in sources(*PACKAGES)}


def imported_names(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of every import of a file; the name is None for `import module`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.module, alias.name) for alias in node.names)


def is_for_types_only(path: Path) -> set[tuple[str, str | None]]:
    """Imports below `if TYPE_CHECKING:`."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    names |= {(inner.module, alias.name) for alias in inner.names}
    return names


def imported_modules(path: Path) -> set[str]:
    """The modules of this repository that a file imports; a package stands for its `__init__`."""
    found = set()
    for module, name in set(imported_names(path)) - is_for_types_only(path):
        for candidate in (f"{module}.{name}", module):
            if candidate in MODULES:
                found.add(candidate)
                break
    return found - {module_of(path)}


def floor_of(module: str) -> int:
    package, _, rest = module.partition(".")
    top = rest.partition(".")[0]
    for i, floor in enumerate(FLOORS[package]):
        if top in floor:
            return i
    raise AssertionError(f"{module}: give {top!r} a floor in FLOORS")


@pytest.mark.parametrize("package", PACKAGES)
def test_frameworks_are_imported_in_the_backends_alone(package):
    for path in sources(package):
        if "backend" in path.relative_to(ROOT).parts:
            continue
        roots = {module.partition(".")[0] for module, _ in imported_names(path)}
        assert not roots & (FRAMEWORKS | {"keras", "transformers"}), path


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_up_the_list(package):
    upward = {
        (module, imported)
        for module, path in MODULES.items()
        if module.startswith(f"{package}.")
        for imported in imported_modules(path)
        if imported.startswith(f"{package}.") and floor_of(imported) > floor_of(module)
    }
    assert upward == {pair for pair in UPWARD if pair[0].startswith(f"{package}.")}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                result.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return result


def test_cycles_are_seen():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package):
    # What a package's `__init__` gathers for its users is no dependency of its files on it.
    graph = {
        module: {x for x in imported_modules(path) if x != package}
        for module, path in MODULES.items()
        if module.startswith(f"{package}.")
    }
    assert cycles(graph) == []


# The file that imports hub by name, when a network is asked for.
FORWARDER = ROOT / "keraslite" / "applications" / "__init__.py"


def test_keraslite_knows_nothing_of_hub():
    naming = set()
    for path in sources("keraslite"):
        assert not any(m.partition(".")[0] == "hub" for m, _ in imported_names(path)), path
        texts = (n.value for n in ast.walk(tree_of(path)) if isinstance(n, ast.Constant))
        if any(isinstance(text, str) and re.fullmatch(r"hub(\.\w*)*", text) for text in texts):
            naming.add(path)
    assert naming == {FORWARDER}


def private(name: str | None) -> bool:
    return bool(name) and name.startswith("_") and not name.startswith("__")


# Private names of other libraries: modules, and attributes of their objects.
FOREIGN = {"torch", "tf", "jax", "np", "aten", "sys"}
FOREIGN_PRIVATE = {"_base", "_version", "_schema", "_replace"}


def defined_names(path: Path) -> set[str]:
    """Names that a file defines: functions, classes, variables, attributes that it sets."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # in __slots__ or __dict__
    return names


def private_uses(path: Path) -> Iterator[str]:
    """Names with an underscore that a file takes from another file of this repository."""
    aliases = {}
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            name = None if isinstance(node, ast.Import) else alias.name
            module = alias.name if isinstance(node, ast.Import) else node.module or ""
            if module.partition(".")[0] not in PACKAGES:
                continue
            if private(name) or any(map(private, module.split("."))):
                yield f"{module}.{name}"
            full = f"{module}.{name}" if name else module
            if full in MODULES:
                aliases[alias.asname or (name or full)] = full
    defined = defined_names(path)
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Attribute) or not private(node.attr):
            continue
        owner = ast.unparse(node.value)
        if owner in aliases:
            yield f"{aliases[owner]}.{node.attr}"
        # `_kl_` is the package's own prefix; a subclass may use what its base protects.
        elif (
            node.attr not in defined
            and not node.attr.startswith("_kl_")
            and owner.partition(".")[0] not in {"self", "cls", *FOREIGN}
            and node.attr not in FOREIGN_PRIVATE
        ):
            yield f"{owner}.{node.attr}"


def test_private_names_stay_in_their_file():
    uses = {f"{module}: {use}" for module, path in MODULES.items() for use in private_uses(path)}
    assert sorted(uses) == []


def test_long_files_have_a_reason():
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources(*PACKAGES)}
    long = {name: count for name, count in lines.items() if count > LIMIT}
    assert set(long) == set(LONG), long


def run(code: str) -> str:
    # Compiled files may be kept.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_an_import_brings_no_framework_and_no_architecture(package):
    modules = json.loads(run(f"import {package}, json, sys; print(json.dumps([*sys.modules]))"))
    heavy = {
        *FRAMEWORKS,
        "keras",
        "transformers",
        "huggingface_hub",
        "tokenizers",
        "PIL",
        "h5py",
        "matplotlib",
        "sklearn",
    }
    assert not heavy & set(modules)
    if package == "keraslite":
        assert not any(module.partition(".")[0] == "hub" for module in modules)
    if package == "hub":
        loaded = {m for m in modules if m.startswith(("hub.models.", "hub.tasks."))}
        assert loaded == set()


def test_an_import_is_quick():
    def seconds(statement: str) -> float:
        code = (
            "import time; start = time.process_time(); "  # which other work does not stretch
            f"{statement}; print(time.process_time() - start)"
        )
        return float(run(code))

    # What it costs is seen by scripts/bench/imports.py; the limits leave room for a noisy machine.
    limits = {"hub": 0.5, "keraslite": 3.2}
    runs = [[seconds(f"import {name}") for name in ("numpy", *limits)] for _ in range(7)]
    for i, (name, limit) in enumerate(limits.items(), 1):
        ratio = statistics.median(times[i] / times[0] for times in runs)  # of times under one load
        assert ratio < limit, f"{name}: {ratio:.2f} times the CPU time of numpy"


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
