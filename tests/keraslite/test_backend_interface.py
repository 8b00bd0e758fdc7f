"""The contract of a backend: every name, with the same parameters, and nothing used beside it."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

import keraslite
from keraslite.backend.interface import Backend

PACKAGE = Path(keraslite.__file__).parent
FUNCTIONS = {n: f for n, f in vars(Backend).items() if inspect.isfunction(f) and n[0] != "_"}
FUNCTIONS = {n: f for n, f in FUNCTIONS.items() if f.__module__ == Backend.__module__}
FLAGS = set(Backend.__annotations__)
# Taken from the framework as they are, under its parameters' names; no_grad takes no argument.
NATIVE = {("jax", "checkpoint"), ("jax", "custom_gradient")}
NATIVE |= {(name, "no_grad") for name in keraslite.backend.NAMES}


def test_the_contract_is_of_some_fifty_names():
    assert len(FUNCTIONS) + len(FLAGS) > 50
    assert all(f.__doc__ for f in FUNCTIONS.values())


def test_a_backend_gives_every_name_of_the_contract(backend):
    module = keraslite.backend.load(backend)
    missing = [name for name in (*FUNCTIONS, *FLAGS) if not hasattr(module, name)]
    assert not missing
    wrong = []
    for name, function in FUNCTIONS.items():
        if (backend, name) in NATIVE:
            assert callable(getattr(module, name))
            continue
        _, *expected = inspect.signature(function).parameters.values()  # without self
        got = inspect.signature(getattr(module, name)).parameters.values()
        if [(p.name, p.default) for p in got] != [(p.name, p.default) for p in expected]:
            wrong.append(f"{name}{inspect.signature(getattr(module, name))}")
    assert not wrong


def test_a_backend_gives_no_other_public_name(backend):
    module = keraslite.backend.load(backend)
    own = {
        name for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }  # fmt: skip
    assert own == {*FUNCTIONS, *FLAGS}


@pytest.mark.parametrize(
    "name", ["COMPILES", "COMPILES_OPS", "FUNCTIONAL", "LOOPS_IN_PYTHON", "PURE_GRADS", "TRAINS"]
)
def test_flags_are_booleans(backend, name):
    assert type(getattr(keraslite.backend.load(backend), name)) is bool


def _gives_a_module(node) -> bool:
    """Whether an expression is the module of a backend: `backends.load(...)` and its like."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "MODULES"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return False
    callee = node.func
    if isinstance(callee, ast.Name):
        return callee.id in ("engine_of", "sparse_module")
    if isinstance(callee.value, ast.Name) and callee.value.id == "backends":
        return callee.attr in ("load", "current", "module_of")
    if isinstance(callee.value, ast.Attribute) and callee.value.attr == "MODULES":
        return callee.attr == "get"
    return False


def used_names(path: Path) -> set[tuple[str, int]]:
    """The attributes of a backend's module that a file uses, as far as its names tell."""
    uses = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        called_module = isinstance(owner, ast.Name) and owner.id == "module"
        called_module |= isinstance(owner, ast.Attribute) and owner.attr in ("module", "_module")
        if called_module or _gives_a_module(owner):
            uses.add((node.attr, node.lineno))
    return uses


def test_the_rest_of_keraslite_uses_the_contract_alone():
    files = [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] != "backend"]
    uses = {(p, name, line) for p in files for name, line in used_names(p)}
    assert len({name for _, name, _ in uses}) > 30  # the search finds what it looks for
    beside = sorted(
        f"{p.relative_to(PACKAGE)}:{line} {name}" for p, name, line in uses
        if name not in FUNCTIONS and name not in FLAGS and not name.startswith("__")
    )  # fmt: skip
    assert not beside


def test_no_file_outside_the_backends_compares_the_name_of_a_framework():
    named = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "backend":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                if constants & {"jax", "torch", "tensorflow"}:
                    named.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not named


def test_errors_are_told_apart_by_their_backend(backend):
    module = keraslite.backend.load(backend)
    assert module.explain(KeyError("x")) is None
    assert module.explain(KeyboardInterrupt()) is None
    assert module.explain(IndexError("too far")) is IndexError
    assert module.explain(ValueError("a bad shape")) is ValueError
    assert module.explain(TypeError("a bad dtype")) is TypeError
    assert module.explain(TypeError("incompatible shapes")) is ValueError
    x = np.ones((2, 3), "float32")

    def error_of(op, *args):
        primitive = module.PRIMITIVES[op]
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of which class is the question
            primitive(*(module.convert(a) for a in args))
        return module.explain(caught.value)

    assert error_of("bitwise_and", x, x) is TypeError
    assert error_of("add", x, x[:, :2]) is ValueError
    assert error_of("matmul", x, x) is ValueError


def test_rows_are_taken_by_places(backend):
    module = keraslite.backend.load(backend)
    x = np.arange(12, dtype="float32").reshape(4, 3)
    rows = module.take_rows(module.convert(x), np.array([2, 0, 2]))
    np.testing.assert_array_equal(module.to_numpy(rows), x[[2, 0, 2]])
    assert module.shape_of(rows) == (3, 3)


def test_numpy_and_the_imported_frameworks_are_seeded():
    import torch

    keraslite.backend.load("torch")
    keraslite.utils.set_random_seed(3)
    first = torch.rand(2), np.random.rand()
    keraslite.utils.set_random_seed(3)
    assert torch.equal(torch.rand(2), first[0])
    assert np.random.rand() == first[1]
