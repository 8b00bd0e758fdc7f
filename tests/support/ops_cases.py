"""The table of cases for ops, and what is asserted of each row on every backend.

A row names an op, its arguments and an oracle: a function of the same arguments on jnp arrays,
`jnp.<op>` unless another is given. numpy arrays among the arguments become tensors of the backend.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import assert_close
from known_gaps import GAPS

import keraslite
from keraslite import ops, tree

HALF_TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True, eq=False)
class Case:
    """A row of a table.

    Args:
        op: the op's name.
        args: positional arguments.
        kwargs: keyword arguments.
        oracle: a function of the same arguments on jnp arrays; jnp's own of that name.
        rtol, atol: the tolerance.
        grad: the positions that are differentiated by, or None.
        unknown: the positions whose first dimension is unknown in the symbolic test; None for the
            first argument alone where it is the only tensor.
        symbolic: whether the op has a symbolic form with these arguments.
        jit: whether the op can be compiled with these arguments.
        graph: whether it can do without static sizes in a graph of TensorFlow.
        only_value: whether a row is about numerics alone, not about symbolic calls and graphs.
        same_dtype: whether the dtypes of the results are compared too.
        wide: whether the oracle means the same in float64, as the report of parity needs it.
        tag: what stands behind the op's name where rows are grouped, for gaps in a detail.
    """

    op: str
    args: tuple
    kwargs: dict = field(default_factory=dict)
    oracle: object = None
    rtol: float = 1e-5
    atol: float = 1e-6
    grad: tuple | None = None
    unknown: tuple | None = None
    symbolic: bool = True
    jit: bool = True
    same_dtype: bool = True
    wide: bool = True
    graph: bool = True
    only_value: bool = False
    tag: str = ""

    @property
    def name(self):
        return self.op + self.tag


def row(op, *args, oracle=None, rtol=1e-5, atol=1e-6, grad=None, unknown=None, symbolic=True,
        jit=True, same_dtype=True, wide=True, graph=True, only_value=False, tag="",
        **kwargs):  # fmt: skip
    """A Case, with the op's keyword arguments written as such; `grad=0` stands for `(0,)`."""
    grad = (grad,) if isinstance(grad, int) else grad
    return Case(op, args, kwargs, oracle, rtol, atol, grad, unknown, symbolic, jit, same_dtype, wide,
                graph, only_value, tag)  # fmt: skip


_group = {}  # the rows of the same op, by the id of a row


def by_op(rows):
    """The rows grouped by the name of their op."""
    groups = defaultdict(list)
    for case in rows:
        groups[case.name].append(case)
    for cases in groups.values():
        _group.update((id(case), cases) for case in cases if id(case) not in _group)
    return groups


def is_tensor_argument(x):
    return isinstance(x, np.ndarray)


def _map_tensors(fn, structure):
    return tree.map_structure(lambda x: fn(x) if is_tensor_argument(x) else x, structure)


def oracle_of(case):
    fn = case.oracle or getattr(jnp, case.op)
    return lambda *args: fn(*args, **case.kwargs)


def of_tensors(case, fn):
    """The tensors among a row's arguments, and fn(*arguments) as a function of them."""
    flat = tree.flatten(case.args)
    where = [i for i, x in enumerate(flat) if is_tensor_argument(x)]

    def call(tensors):
        filled = list(flat)
        for i, x in zip(where, tensors, strict=True):
            filled[i] = x
        return fn(*tree.pack_sequence_as(case.args, filled))

    return call, [flat[i] for i in where]


_results = {}


def on_jax(case, what, fn_of):
    """fn_of(case)(*arguments) on JAX, as a flat list. One program for all rows of the op: compiling
    them one by one, or op by op, takes many times as long.
    """
    if (what, id(case)) not in _results:
        cases = [case]
        if case.jit and case.symbolic:
            cases = [c for c in _group.get(id(case), cases) if c.jit and c.symbolic
                     and (c.grad is not None or "gradient" not in what)]  # fmt: skip
        calls, tensors = zip(*(of_tensors(c, fn_of(c)) for c in cases), strict=True)

        def program(tensors):
            outs = [call(t) for call, t in zip(calls, tensors, strict=True)]
            return [tree.flatten(_plain(out)) for out in outs]

        if case.jit and case.symbolic:
            program = jax.jit(program)
        for c, out in zip(cases, program([list(map(jnp.asarray, t)) for t in tensors])):
            _results[what, id(c)] = out
    return _results[what, id(case)]


def expected(case):
    """The oracle's results as numpy arrays."""
    return [np.asarray(x) for x in on_jax(case, "value", oracle_of)]


def _plain(out):
    """Named tuples as tuples."""
    return tuple(out) if isinstance(out, tuple) else out


def named(op):
    """The op of a name, which may stand in `ops.image`."""
    return getattr(ops, op, None) or getattr(ops.image, op)


def op_of(case):
    fn = named(case.op)
    return lambda *args: fn(*args, **case.kwargs)


def run(case, backend):
    """Our results as tensors."""
    if backend == "jax":
        return on_jax(case, "ours", op_of)
    args = _map_tensors(lambda x: keraslite.to_backend(x, backend), case.args)
    return tree.flatten(_plain(op_of(case)(*args)))


def assert_same(got, want, case, what="the value"):
    """Raise unless arrays agree in number, shape, dtype and value."""
    assert len(got) == len(want), f"{what} of {case}: {len(got)} results, expected {len(want)}"
    for ours, theirs in zip(got, want, strict=True):
        if case.same_dtype:
            names = keraslite.dtypes.standardize(ours.dtype), theirs.dtype.name
            assert names[0] == names[1], f"{what} of {case}: {names[0]}, expected {names[1]}"
        rtol = max(case.rtol, HALF_TOLERANCE.get(theirs.dtype.name, 0.0))
        atol = max(case.atol, HALF_TOLERANCE.get(theirs.dtype.name, 0.0))
        assert_close(ours, theirs, rtol, atol, message=f"{what} of {case}")


def assert_value(case, backend):
    """Raise unless the op gives the oracle's values, shapes and dtypes on the backend."""
    got = run(case, backend)
    owners = {keraslite.backend.of(x) or "numpy" for x in got}
    assert owners <= {backend}, f"{case} gave values of {owners}"
    assert_same(got, expected(case), case)


def _weights(case):
    return [np.cos(np.arange(x.size) + 1.0).reshape(x.shape).astype(x.dtype)
            for x in expected(case)]  # fmt: skip


def _gradient_of(case, fn, total, grad):
    """A function of a row's arguments: the gradient of a weighted sum of fn's results."""

    def call(*args):
        def scalar(*xs):
            filled = list(args)
            for i, x in zip(case.grad, xs, strict=True):
                filled[i] = x
            return total(tree.flatten(_plain(fn(*filled))), _weights(case))

        return grad(scalar, tuple(range(len(case.grad))))(*(args[i] for i in case.grad))

    return call


def _theirs(case):
    def total(out, weights):
        return sum(jnp.sum(x * w) for x, w in zip(out, weights, strict=True))

    return _gradient_of(case, oracle_of(case), total, jax.grad)


def _ours(case):
    def total(out, weights):
        return ops.sum(ops.stack([ops.sum(ops.multiply(x, w)) for x, w in zip(out, weights)]))

    return _gradient_of(case, op_of(case), total, ops.grad)


def assert_gradient(case, backend):
    """Raise unless the gradient of a weighted sum of the results is that of the oracle."""
    for other in _group.get(id(case), ()):
        expected(other)  # before it is needed inside a trace
    want = [np.asarray(x) for x in on_jax(case, "gradient", _theirs)]
    if backend == "jax":
        got = on_jax(case, "our gradient", _ours)
    else:
        args = _map_tensors(lambda x: keraslite.to_backend(x, backend), case.args)
        got = tree.flatten(tuple(_ours(case)(*args)))
    loose = Case(case.op, case.args, case.kwargs, rtol=max(case.rtol, 1e-4), atol=1e-5)
    assert_same(got, want, loose, "the gradient")


def assert_symbolic(case, backend):
    """Raise unless the symbolic call gives the oracle's shapes and dtypes, unknown sizes aside."""
    eager = expected(case)
    tensors = [i for i, x in enumerate(case.args) if is_tensor_argument(x) and x.ndim]
    unknown = case.unknown
    if unknown is None:
        nested = any(isinstance(x, list | tuple) for x in case.args)
        unknown = (0,) if tensors == [0] and not nested else ()
    for free in {(), tuple(unknown)}:
        args = [
            tree.map_structure(
                lambda x, i=i, free=free: keraslite.KerasTensor(
                    (None, *x.shape[1:]) if i in free else x.shape, x.dtype
                ) if is_tensor_argument(x) else x, x)
            for i, x in enumerate(case.args)
        ]  # fmt: skip
        specs = tree.flatten(_plain(named(case.op)(*args, **case.kwargs)))
        for spec, x in zip(specs, eager, strict=True):
            assert isinstance(spec, keraslite.KerasTensor), f"{case} gave {spec!r}"
            if case.same_dtype:
                assert spec.dtype == keraslite.dtypes.standardize(x.dtype), f"{case}: {spec!r}"
            fits = [a in (b, None) if free else a == b for a, b in zip(spec.shape, x.shape)]
            assert all(fits) and len(spec.shape) == len(x.shape), f"{case}: {spec!r}, {x.shape}"


def assert_graph(case, backend):
    """Raise unless the op gives the same when compiled by TensorFlow with all sizes but those of
    the last axis unknown. (Under JAX `run` compiles in any case.)
    """
    import tensorflow as tf

    call, tensors = of_tensors(case, op_of(case))
    tensors = [keraslite.to_backend(x, backend) for x in tensors]

    sizes = [[None] * (len(x.shape) - 1) + list(x.shape[-1:]) for x in tensors]
    sizes = [[None] if len(s) == 1 else s for s in sizes]
    specs = [tf.TensorSpec(s, x.dtype) for s, x in zip(sizes, tensors, strict=True)]
    out = tf.function(lambda *xs: call(xs), specs, autograph=False)(*tensors)
    assert_same(tree.flatten(_plain(out)), expected(case), case, "the compiled value")


def check(assertion, cases, backend, what=""):
    """Hold the rows of one op to an assertion; a known gap must fail, or it is no gap any more."""
    gap = GAPS.get((cases[0].name + what, backend))
    if gap is None:
        for case in cases:
            assertion(case, backend)
        return
    for case in cases:
        try:
            assertion(case, backend)
        except Exception:
            return
    pytest.fail(f"{(cases[0].name + what, backend)} works now: take it out of GAPS ({gap}).")
