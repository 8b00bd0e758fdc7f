"""What holds for ops as such: Keras's signatures, primitives that take the op's parameters, errors,
dispatch, and torch.compile without graph breaks.
"""

import ast
import graphlib
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ops_tables import KERAS, TABLES

import keraslite
from keraslite import ops
from keraslite.ops.op import TABLE

MODULES = (
    "arithmetic", "casting", "core", "creation", "ctc", "einops", "elementwise", "exponential",
    "indexing", "linalg", "logic", "math", "products", "reductions", "searching", "shapes", "signal",
    "slicing",
)  # fmt: skip
NAMES = [n for m in MODULES for n in __import__(f"keraslite.ops.{m}", fromlist=["_"]).__all__]
_OURS = {"erfcinv", "overwrite"}  # what Keras has not


def test_there_are_many_and_none_leaks():
    assert len(NAMES) == len(set(NAMES)) >= 230
    leaked = {"Any", "np", "Callable", "primitive_only", "backends", "dtypes", "builtins"}
    assert not leaked & set(dir(ops))


FOLDER = Path(ops.__file__).parent
# What stands below ops: nothing else of keraslite may be imported there.
BELOW = {
    f"keraslite.{name}"
    for name in ("backend", "config", "dtypes", "ops", "scopes", "tree", "typing", "variable")
}


def _imports(path):
    """The modules of keraslite that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                as_path = FOLDER.parent.parent.joinpath(*inner.split("."))
                is_module = as_path.with_suffix(".py").is_file() or as_path.is_dir()
                names.add(inner if is_module else node.module)
    return {name for name in names if name.startswith("keraslite")}


def test_ops_import_each_other_without_circles_and_nothing_from_above():
    graph = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER.parent.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = _imports(path)
        above = {n for n in graph[name] if ".".join(n.split(".")[:2]) not in BELOW}
        assert not above, f"{path} imports {sorted(above)}"
    assert len(graph) > 30
    assert graph["keraslite.ops.core"] >= {"keraslite.ops.op"}
    assert {n for n in graph["keraslite.ops.core"] if "ops" in n} == {"keraslite.ops.op"}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names it


def test_signatures_are_those_of_keras():
    import keras

    differ = []
    for name in NAMES:
        theirs = getattr(keras.ops, name, None)
        if theirs is None and name in _OURS:
            continue
        if theirs is None:
            differ.append(f"keras.ops has no {name}")
            continue
        want, got = (
            [(p.name, p.default, p.kind) for p in inspect.signature(f).parameters.values()]
            for f in (theirs, getattr(ops, name))
        )
        if want != got:
            differ.append(f"{name}: {got}, Keras has {want}")
    assert not differ


def test_primitives_take_the_parameters_of_the_op(backend):
    """By name, by position and with the same default: a native function may have others."""
    table = keraslite.backend.load(backend).PRIMITIVES
    wrong = []
    for name in NAMES:
        row, fn = TABLE.get(name), table.get(name)
        if row is None or fn is None or len(row.parameters) == row.tensors:
            continue
        try:
            theirs = list(inspect.signature(fn).parameters.values())
        except ValueError:
            wrong.append(f"{name}: a native function without a signature: write an adapter")
            continue
        for i, want in enumerate(row.parameters):
            if i < row.tensors or want.kind is want.VAR_KEYWORD:
                continue
            got = theirs[i] if i < len(theirs) else None
            if got is None or (got.name, got.default) != (want.name, want.default):
                wrong.append(f"{name}: {want} is {got}")
    assert not wrong


def test_every_name_of_a_primitive_is_an_op(backend):
    table = keraslite.backend.load(backend).PRIMITIVES
    assert not {name for name in table if not name.startswith("_")} - set(TABLE)


def test_a_primitive_lies_in_the_file_of_its_topic(backend):
    """That of `ops/` which defines its op, or the one that backend/primitives.py names for it."""
    from keraslite.backend.primitives import MERGED

    folder = Path(keraslite.backend.load(backend).__file__).parent
    misplaced, names = [], []
    for path in sorted(folder.glob("*.py")):
        module = importlib.import_module(f"keraslite.backend.{backend}.{path.stem}")
        for name in getattr(module, "TABLE", ()):
            topic = TABLE[name].body.__module__.removeprefix("keraslite.ops.").partition(".")[0]
            names.append(name)
            if MERGED.get(topic, topic) != path.stem:
                misplaced.append(f"{path.name}: {name} is of the topic {topic}")
    assert not misplaced
    assert sorted(names) == sorted(keraslite.backend.load(backend).PRIMITIVES)


X = np.ones((2, 3), "float32")
_BAD = {
    "add": (X, X[:, :2]), "where": (X > 0, X, X[:, :2]), "matmul": (X, X), "reshape": (X, (4, 2)),
    "sum": (X, 2), "mean": (X, (0, 5)), "max": (X, -3), "argmax": (X, 4), "cumsum": (X, 2),
    "concatenate": ([X, X[:, :2]],), "stack": ([X, X[:, :2]],), "split": (X, 2, 1),
    "squeeze": (X, 0), "expand_dims": (X, 5), "transpose": (X, (0, 0)), "broadcast_to": (X, (3, 3)),
    "take_along_axis": (X, np.int32([[0, 0]]), 0), "einsum": ("ij,jk", X, X), "dot": (X, X),
    "tensordot": (X, X, 1), "moveaxis": (X, 0, 2), "swapaxes": (X, 0, 2), "diag": (X[..., None],),
    "sort": (X, 2), "flip": (X, 3), "cross": (X[:, :1], X[:, :1]), "quantile": (X, 0.5, None, "no"),
    "searchsorted": (X, X), "slice": (X, [0, 0], [3, 3]), "unstack": (X, None, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", _BAD)
def test_bad_shapes_are_value_errors_with_the_name(name, backend):
    args = keraslite.tree.map_structure(
        lambda x: keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x, _BAD[name]
    )
    with pytest.raises(ValueError, match=rf"ops\.{name}\(.*float32\(2, "):
        getattr(ops, name)(*args)


@pytest.mark.parametrize(
    ("name", "args"), [("bitwise_and", (X, X)), ("ldexp", (X, X)), ("gcd", (X, X))]
)
def test_bad_dtypes_are_type_errors_with_the_name(name, args, backend):
    args = [keraslite.to_backend(x, backend) for x in args]
    with pytest.raises(TypeError, match=rf"ops\.{name}"):
        getattr(ops, name)(*args)


def test_a_missing_argument_is_named(backend):
    with pytest.raises(TypeError, match="x2"):
        ops.add(1.0)
    with pytest.raises(TypeError, match="nonsense"):
        ops.sum([1.0], nonsense=1)


def test_tensors_by_keyword(backend):
    x = keraslite.to_backend(X, backend)
    assert ops.shape(ops.add(x1=x, x2=1.0)) == (2, 3)
    assert ops.shape(ops.sum(x=x, axis=0)) == (3,)
    assert ops.shape(ops.concatenate(xs=[x, x], axis=0)) == (4, 3)
    assert ops.shape(ops.where(x > 0, x1=x, x2=0.0)) == (2, 3)
    assert ops.shape(ops.clip(x=x, x_min=0.0, x_max=1.0)) == (2, 3)


INTS = np.ones((2, 3), "int32")
# Calls with numbers, lists, integers, keywords: all of one framework and with one result dtype.
SHORT_WAY = {
    "add": lambda f, x, n, m: [
        f.add(x, x), f.add(x, 2), f.add(x, 2.0), f.add(1.0, x), f.add(n, 1), f.add(x1=x, x2=x),
    ],
    "floor_divide": lambda f, x, n, m: [f.floor_divide(n, n), f.floor_divide(n, 2)],
    "bitwise_or": lambda f, x, n, m: [f.bitwise_or(n, 3), f.left_shift(n, 2)],
    "square": lambda f, x, n, m: [f.square(n), f.round(n), f.exp(x)],
    "where": lambda f, x, n, m: [f.where(m, x, x), f.where(m, x, 0.0), f.where(m, 1.0, x),
                                 f.where(m, n, 0), f.where(m)],
    "clip": lambda f, x, n, m: [f.clip(x, 0.0, 1), f.clip(n, 0, 1), f.clip(x, x_min=0.0, x_max=x)],
    "concatenate": lambda f, x, n, m: [f.concatenate([x, x]), f.stack((n, n)), f.hstack([x, x])],
    "einsum": lambda f, x, n, m: [f.einsum("ij,ij->i", x, x), f.matmul(x, f.transpose(x))],
    "take": lambda f, x, n, m: [f.take(x, n[0]), f.sum(x, axis=[0, 1]), f.reshape(x, [-1])],
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT_WAY)
def test_common_arguments_are_not_converted(name, backend, monkeypatch):
    """The general way, which converts and promotes each argument, takes several times as long."""
    from keraslite.ops import op as dispatch

    x, n, mask = (keraslite.to_backend(a, backend) for a in (X, INTS, X > 0))
    SHORT_WAY[name](ops, x, n, mask)  # the first tensor of a class is looked at closely
    calls, general = [], dispatch._run_prepared

    def record(row, args, kwargs):
        calls.append(row.name)
        return general(row, args, kwargs)

    monkeypatch.setattr(dispatch, "_run_prepared", record)
    monkeypatch.setattr(dispatch, "_run_list", lambda row, *_: calls.append(row.name))
    SHORT_WAY[name](ops, x, n, mask)
    assert not calls


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float16", "bfloat16", "float32"])
def test_numbers_take_the_dtype_of_the_tensor_beside_them(dtype, backend):
    import jax.numpy as jnp

    x = ops.cast(keraslite.to_backend(INTS, backend), dtype)
    want = jnp.asarray(INTS, dtype)
    mask = keraslite.to_backend(X > 0, backend)
    for got, expected in (
        (ops.add(x, 2), want + 2), (ops.subtract(2, x), 2 - want), (ops.multiply(x, 2.5), want * 2.5),
        (ops.maximum(3, x), jnp.maximum(3, want)), (ops.divide(1, x), 1 / want),
        (ops.clip(x, 0, 1), jnp.clip(want, 0, 1)), (ops.where(mask, 2, x), jnp.where(X > 0, 2, want)),
        (ops.where(mask, x, 0.5), jnp.where(X > 0, want, 0.5)), (ops.fmin(2.0, x), jnp.fmin(2.0, want)),
    ):  # fmt: skip
        assert ops.dtype(got) == expected.dtype.name
        got = ops.convert_to_numpy(ops.cast(got, "float32"))
        np.testing.assert_allclose(got, np.asarray(expected, "float32"), rtol=1e-2)


def test_numpy_does_not_warn_and_keeps_the_error_state_of_the_user():
    with keraslite.use_backend("numpy"), np.errstate(all="raise"):
        x = np.float32([0.0, -1.0])
        assert np.isinf(ops.divide(1.0, x)[0])
        assert np.isnan(ops.sqrt(x)[1])
        assert np.isinf(ops.exp(np.float16([1e4]))[0])
        with pytest.raises(FloatingPointError):
            np.sqrt(x)
        assert np.geterr()["divide"] == "raise"


def test_the_data_chooses_the_backend():
    with keraslite.use_backend("numpy"):
        for name in keraslite.backend.available():
            x = keraslite.to_backend(X, name)
            for out in (
                ops.add(x, 1.0), ops.quantile(x, 0.5), ops.digitize(x, [0.5]), ops.pad(x, 1),
                ops.linspace(x, 2.0, 3), ops.full_like(x, 2.0), ops.diag(x[0]), ops.tril(x),
                ops.histogram(x)[1], ops.segment_sum(x, [0, 1], 2), ops.scatter([[0]], x[:1], (2, 3)),
                ops.einsum("ij,kj->ik", x, X), ops.vander(x[0]), ops.average(x, 0, [1.0, 2.0]),
                ops.extract_sequences(x, 2, 1), ops.select([x > 0], [x], 0.0), ops.top_k(x, 1)[0],
                ops.trapezoid(x, [0.0, 1.0, 2.0]), ops.saturate_cast(x, "uint8"), ops.arange(x[0, 0]),
            ):  # fmt: skip
                assert (keraslite.backend.of(out) or "numpy") == name


def test_compiles_on_torch_without_graph_breaks():
    torch = pytest.importorskip("torch")

    def step(x, y, i):
        h = ops.maximum(ops.matmul(x, ops.transpose(y)), 0.0)
        h = ops.where(ops.greater(h, 0.5), h, 0.0) + ops.sum(h, axis=-1, keepdims=True)
        h = ops.concatenate([h, ops.exp(-h)], axis=1)
        h = ops.einsum("ij,kj->ik", h, h) / ops.sqrt(ops.mean(ops.square(h)) + 1.0)
        h = ops.pad(h, ((0, 0), (1, 1)), mode="reflect") + ops.zeros((4,)) + ops.arange(4)
        h = h + ops.linspace(h[0], 1.0, 2) + ops.quantile(h, 0.5, axis=0)
        return ops.take(h, i, axis=0), ops.clip(ops.get_item(h, (..., 0)), 0.0, 1.0)

    given = [keraslite.to_backend(v, "torch") for v in (X, X * 2 + 1, np.int32([1, 0]))]
    with keraslite.use_backend("torch"):
        compiled = torch.compile(step, fullgraph=True, backend="eager")
        for got, want in zip(compiled(*given), step(*given), strict=True):
            torch.testing.assert_close(got, want)


def test_control_flow(backend):
    x = keraslite.to_backend(X, backend)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.fori_loop(0, 3, lambda i, v: v + 1.0, x)), X + 3
    )
    for lower, upper in ((np.int32(0), np.int64(3)), (np.int64(0), np.int32(3))):
        ends = (keraslite.to_backend(v, backend) for v in (lower, upper))
        got = ops.fori_loop(*ends, lambda i, v: v + 1.0, x)
        np.testing.assert_allclose(ops.convert_to_numpy(got), X + 3)
    doubled = ops.convert_to_numpy(ops.map(lambda row: row * 2, x))
    np.testing.assert_allclose(doubled, X * 2)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.vectorized_map(lambda r: r * 2, x)), X * 2)
    branches = [lambda v: v, lambda v: v + 1.0, lambda v: v + 2.0]
    for index, more in ((-1, 0), (0, 0), (1, 1), (2, 2), (7, 2)):
        picked = ops.switch(ops.convert_to_tensor(index), branches, x)
        np.testing.assert_allclose(ops.convert_to_numpy(picked), X + more)
        np.testing.assert_allclose(ops.convert_to_numpy(ops.switch(index, branches, x)), X + more)
    apply = ops.vectorize(lambda a, b: a * b + 1.0)
    np.testing.assert_allclose(ops.convert_to_numpy(apply(x, x[0])), X * X[0] + 1)


# Ops that take functions, give what is no tensor, or need an oracle beside a row: they have tests of
# their own, which call them by name.
OWN_TESTS = {
    "associative_scan", "cond", "convert_to_numpy", "convert_to_tensor", "ctc_decode", "custom_gradient",
    "dtype", "eig", "eigh", "elastic_transform", "fft", "fori_loop", "gru", "is_tensor", "jvp",
    "lstm", "overwrite",
    "map", "ndim", "qr", "scan", "shape", "size", "sobel_edges", "switch", "vectorize", "vectorized_map",
    "view_as_complex", "view_as_real", "while_loop",
}  # fmt: skip


def test_every_op_has_three_cases():
    """In the tables, unless it has tests of its own; a new op of `TABLE` without them fails here."""
    import keras

    spaces = keras.ops, keras.ops.image
    names = {n for space in spaces for n in dir(space) if callable(getattr(space, n))} | {*TABLE}
    cases = Counter(case.op for rows in TABLES.values() for case in rows)
    cases.update(op for op, *_ in KERAS)
    few = {name: cases[name] for name in names if name[0] != "_" and cases[name] < 3}
    assert few.keys() == OWN_TESTS, few
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert set(re.findall(r"\b(?:keras|keraslite|ops|image)\.(\w+)", tests)) >= OWN_TESTS
