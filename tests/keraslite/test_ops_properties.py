"""Random shapes, axes, keys and types against numpy and JAX's promotion, on every backend."""

import string

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import keraslite
from keraslite import dtypes, ops

# JAX compiles each shape anew, so it sees fewer of them.
_COUNTS = {"jax": 12, "numpy": 60, "torch": 60, "tensorflow": 40}


def everywhere(*strategies):
    """Run a test of (draw ..., backend) over examples that are the same in every run."""

    def decorate(test):
        @pytest.mark.parametrize("backend", list(keraslite.backend.available()))
        def run(backend):
            @settings(max_examples=_COUNTS[backend], derandomize=True, deadline=None, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(st.tuples(*strategies))
            def examples(drawn):
                with keraslite.use_backend(backend):
                    test(*drawn, backend)

            examples()

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def filled(shape, kind="float32"):
    size = int(np.prod(shape))
    return ((np.arange(size) * 7 % 11).reshape(shape) - 4).astype(kind)


def same(ours, theirs, **options):
    ours = keraslite.backend.to_numpy(ours)
    assert ours.shape == np.shape(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, **options)


@st.composite
def keys(draw):
    """(shape, a key of numbers, slices, None and ...; or with one array of indices)."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=2, max_side=4))
    if draw(st.booleans()):
        return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    axis = draw(st.integers(0, len(shape) - 1))
    places = draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
    return shape, (slice(None),) * axis + (np.int32(places),)


@everywhere(keys())
def test_indexing(case, backend):
    shape, key = case
    x = filled(shape)
    same(ops.get_item(keraslite.to_backend(x, backend), key), x[key])


@st.composite
def reductions(draw):
    shape = draw(SHAPES)
    count = draw(st.integers(0, len(shape)))
    axes = draw(st.permutations(range(len(shape))))[:count]
    axes = tuple(a - len(shape) if draw(st.booleans()) else a for a in axes)
    axis = None if not axes else axes[0] if len(axes) == 1 else axes
    name = draw(st.sampled_from(["sum", "mean", "prod", "max", "min", "var", "std", "any", "all"]))
    return shape, name, axis, draw(st.booleans()), draw(st.sampled_from(["float32", "int32"]))


@everywhere(reductions())
def test_reductions(case, backend):
    shape, name, axis, keepdims, kind = case
    x = filled(shape, kind)
    want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    same(getattr(ops, name)(keraslite.to_backend(x, backend), axis=axis, keepdims=keepdims), want)


@st.composite
def rearrangements(draw):
    """(shape, a function of (module, x))."""
    shape = draw(SHAPES)
    n = len(shape)
    axis = draw(st.integers(-n, n - 1))
    order = draw(st.permutations(range(n)))
    count = draw(st.integers(0, 3))
    other = draw(st.integers(-n, n - 1))
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n)]
    leading = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    calls = [
        lambda f, x: f.transpose(x, order), lambda f, x: f.moveaxis(x, axis, other),
        lambda f, x: f.swapaxes(x, axis, other), lambda f, x: f.flip(x, axis),
        lambda f, x: f.roll(x, count, axis), lambda f, x: f.repeat(x, count, axis),
        lambda f, x: f.tile(x, (count, *[1] * (n - 1))), lambda f, x: f.pad(x, pads),
        lambda f, x: f.expand_dims(x, axis), lambda f, x: f.broadcast_to(x, (*leading, *shape)),
        lambda f, x: f.reshape(f.transpose(x, order), (-1,)), lambda f, x: f.cumsum(x, axis),
        lambda f, x: f.sort(x, axis), lambda f, x: f.concatenate([x, x], axis),
        lambda f, x: f.stack([x, x], axis), lambda f, x: f.diff(x, axis=axis),
        lambda f, x: f.take(x, np.int32([0, -1]), axis), lambda f, x: f.reshape(x, (*x.shape[::-1], 1)),
    ]  # fmt: skip
    return shape, draw(st.sampled_from(calls))


@everywhere(rearrangements())
def test_rearrangements(case, backend):
    shape, call = case
    x = filled(shape)
    same(call(ops, keraslite.to_backend(x, backend)), call(np, x))


@st.composite
def equations(draw):
    """An einsum equation and the shapes of its operands."""
    letters = string.ascii_lowercase[: draw(st.integers(2, 5))]
    sizes = {letter: draw(st.integers(1, 3)) for letter in letters}
    operands = [
        "".join(draw(st.lists(st.sampled_from(letters), min_size=1, max_size=3, unique=True)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    met = sorted(set("".join(operands)))
    out = "".join(draw(st.lists(st.sampled_from(met), max_size=3, unique=True)))
    return f"{','.join(operands)}->{out}", [tuple(sizes[c] for c in word) for word in operands]


@everywhere(equations())
def test_einsum(case, backend):
    equation, shapes = case
    arrays = [filled(shape) for shape in shapes]
    given = [keraslite.to_backend(x, backend) for x in arrays]
    same(ops.einsum(equation, *given), np.einsum(equation, *arrays))


KINDS = ("bool", "int8", "uint8", "int16", "int32", "uint16", "float16", "bfloat16", "float32")


@everywhere(
    st.sampled_from(KINDS),
    st.sampled_from([*KINDS, 2, 0.5]),
    st.booleans(),
    st.sampled_from(["add", "multiply", "maximum", "divide"]),
)
def test_promotion(first, second, turned, name, backend):
    """Two types, or one and a Python number, either way round."""
    x = np.ones(2, dtypes.to_numpy(first))
    y = second if isinstance(second, int | float) else np.ones(2, dtypes.to_numpy(second))
    pair = (y, x) if turned else (x, y)
    theirs = [jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in pair]
    ours = [keraslite.to_backend(v, backend) if isinstance(v, np.ndarray) else v for v in pair]
    want = getattr(jnp, name)(*theirs).dtype.name
    assert ops.dtype(getattr(ops, name)(*ours)) == want


@everywhere(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_broadcasting(shapes, backend):
    x, y = (filled(shape) for shape in shapes.input_shapes)
    given = [keraslite.to_backend(v, backend) for v in (x, y)]
    for name in ("add", "maximum", "less", "arctan2"):
        same(getattr(ops, name)(*given), getattr(np, name)(x, y))
    same(ops.where(ops.greater(given[0], 0), *given), np.where(x > 0, x, y))


@everywhere(
    st.lists(st.integers(0, 4), min_size=1, max_size=8), st.sampled_from(["add", "max", "min"])
)
def test_scatter_with_duplicates(places, reduction, backend):
    base, values = filled((5,)), filled((len(places),))
    want = base.copy()
    fn = {"add": np.add, "max": np.maximum, "min": np.minimum}[reduction]
    fn.at(want, places, values)
    given = [keraslite.to_backend(v, backend) for v in (base, np.int32(places)[:, None], values)]
    same(ops.scatter_update(*given, reduction=reduction), want)
