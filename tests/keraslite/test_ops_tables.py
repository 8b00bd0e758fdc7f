"""Every op of the tables on every backend: values and dtypes, gradients, symbolic calls, graphs."""

import jax
import pytest
from backends import BACKENDS, TRAINABLE
from ops_cases import (
    assert_gradient,
    assert_graph,
    assert_symbolic,
    assert_value,
    by_op,
    check,
)
from ops_tables import TABLES

# Their many programs are compiled without XLA's optimizer, which takes most of the time of these
# tests and changes nothing that they assert.
UNOPTIMIZED = ("nn", "edges")
# numpy's, in an oracle
MARKS = {"edges": pytest.mark.filterwarnings("ignore::RuntimeWarning")}


@pytest.fixture(autouse=True)
def _compile_quickly(table):
    jax.config.update("jax_disable_most_optimizations", table in UNOPTIMIZED)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def each_op(tested, backends=BACKENDS):
    """The rows of each op in each table that a test is for, on the backends that it is for."""
    parameters = [
        pytest.param(table, rows, name, id=f"{table}-{op}-{name}", marks=MARKS.get(table, ()))
        for table, cases in TABLES.items()
        for op, rows in by_op(filter(tested, cases)).items()
        for name in BACKENDS if name in backends
    ]  # fmt: skip
    return pytest.mark.parametrize(("table", "rows", "backend"), parameters, indirect=["backend"])


@each_op(lambda case: True)
def test_value(rows, backend):
    check(assert_value, rows, backend)


@each_op(lambda case: case.grad is not None, TRAINABLE)
def test_gradient(rows, backend):
    check(assert_gradient, rows, backend, ".grad")


@each_op(lambda case: case.symbolic and not case.only_value)
def test_symbolic(rows, backend):
    check(assert_symbolic, rows, backend, ".symbolic")


@each_op(lambda case: case.jit and case.graph and not case.only_value, ["tensorflow"])
def test_graph_with_unknown_sizes(rows, backend):
    check(assert_graph, rows, backend, ".graph")
