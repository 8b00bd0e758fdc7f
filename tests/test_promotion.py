"""Result dtypes are jnp's (64 bits off) for every op, dtype and backend; Python numbers are weak."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_gaps import GAPS
from ops_cases import _HALF

import keraslite
from keraslite import dtypes, ops, tree

DTYPES = ("bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32")
INTS = ("int8", "uint8", "int32")
X = np.array([[1, 0, 2], [3, 1, 1]]).T
Y = np.array([[1, 1, 2], [2, 1, 3]]).T

_UNARY = """absolute sign square negative exp expm1 exp2 log log2 log10 log1p sqrt cbrt reciprocal
    sin cos tan tanh sinh cosh arcsinh arctan sinc floor ceil trunc round isnan isinf isfinite
    isposinf isneginf signbit logical_not real imag conj angle nan_to_num fabs deg2rad i0
    sum prod mean var std max min amax argmax argmin all any cumsum cumprod count_nonzero median
    nansum nanmean nanmax nanprod nancumsum sort argsort ptp average diff trace tril diagonal
    zeros_like ones_like ravel transpose flip bitwise_not"""
_BINARY = """add subtract multiply divide true_divide floor_divide mod fmod power maximum minimum
    fmax fmin hypot logaddexp arctan2 heaviside equal not_equal less greater_equal logical_and
    logical_xor isclose outer append bitwise_and bitwise_or bitwise_xor left_shift right_shift gcd
    lcm"""
_PRODUCTS = "dot matmul"
_INTEGRAL = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "left_shift", "right_shift",
             "gcd", "lcm")  # fmt: skip
_OTHERS = {
    "clip": lambda f, x, y: f(x, 0, 1),
    "where": lambda f, x, y: f(X > 1, x, y),
    "concatenate": lambda f, x, y: f([x, y]),
    "stack": lambda f, x, y: f([x, y], axis=1),
    "take": lambda f, x, y: f(x, np.int32([1]), axis=0),
    "pad": lambda f, x, y: f(x, 1),
    "quantile": lambda f, x, y: f(x, 0.5, axis=0),
    "linspace": lambda f, x, y: f(x[:, 0], y[:, 0], 3),
    "full_like": lambda f, x, y: f(x, 1),
    "einsum": lambda f, x, y: f("ij,kj->ik", x, y),
    "tensordot": lambda f, x, y: f(x, y, axes=2),
    "inner": lambda f, x, y: f(x, y),
}
CALLS = {
    **{name: lambda f, x, y: f(x) for name in _UNARY.split()},
    **{name: lambda f, x, y: f(x, y) for name in _BINARY.split()},
    **{name: lambda f, x, y: f(x, y[:2]) for name in _PRODUCTS.split()},
    **_OTHERS,
}
# Where Keras differs from jnp by intention, or jnp refuses: the type that jnp is given instead.
_INSTEAD = {
    **{(name, kind): "float32" for name in ("floor", "ceil") for kind in ("bool", *INTS)},
    **{(name, "int8"): "int32" for name in ("matmul", "einsum")},
    **{(name, "bool"): "int32" for name in ("round", "clip", "gcd", "lcm", "left_shift",
                                            "right_shift")},
}  # fmt: skip
_REFUSED = {
    (name, "bool") for name in ("sign", "negative", "subtract", "ptp", "gcd", "lcm", "bitwise_not")
} | {(name, kind) for name in _INTEGRAL for kind in ("float16", "bfloat16", "float32")}


def _of_jnp(name, kind):
    kind = _INSTEAD.get((name, kind), kind)
    call = CALLS[name]
    return lambda x, y: call(getattr(jnp, name), x.astype(kind), y.astype(kind))


@functools.cache
def _values(name, truth):
    """jnp's values in one wide type: they are small enough to be the same in all."""
    kind = "int32" if name in _INTEGRAL else "float32"
    x, y = (v.astype(bool).astype(kind) if truth else v.astype(kind) for v in (X, Y))
    return np.asarray(jax.jit(_of_jnp(name, kind))(jnp.asarray(x), jnp.asarray(y)))


@pytest.mark.parametrize("name", CALLS)
def test_every_dtype(name, backend):
    gap = GAPS.get((name + ".dtype", backend))
    try:
        for kind in DTYPES:
            if (name, kind) not in _REFUSED:
                assert_dtype(name, kind, backend)
    except Exception:
        if gap is None:
            raise
    else:
        assert gap is None, f"{name} works now on {backend}: take it out of GAPS ({gap})."


def assert_dtype(name, kind, backend):
    """Raise unless one op on tensors of one dtype gives jnp's dtype, and values that fit."""
    x, y = (v.astype(dtypes.to_numpy(kind)) for v in (X, Y))
    want = jax.eval_shape(_of_jnp(name, kind), x, y)
    fn = lambda x, y: CALLS[name](getattr(ops, name), x, y)  # noqa: E731
    if backend == "jax":  # values are jnp's own; compiling them all takes long
        got = jax.eval_shape(fn, x, y)
        assert got.dtype == want.dtype, f"{name} of {kind}: {got.dtype}, expected {want.dtype}"
        return
    got = keraslite.backend.to_numpy(fn(*(keraslite.to_backend(v, backend) for v in (x, y))))
    assert got.dtype == want.dtype, f"{name} of {kind}: {got.dtype}, expected {want.dtype}"
    values = _values(name, kind == "bool")
    if want.dtype == bool:
        values = values.astype(bool)
    elif want.dtype.kind in "iu":
        values = values.astype("int64").astype(want.dtype)
    tolerance = _HALF.get(kind, 1e-5)
    np.testing.assert_allclose(got.astype("float64"), values.astype("float64"), tolerance,
                               tolerance, err_msg=f"{name} of {kind}")  # fmt: skip


def _specs(*names):
    return [jax.ShapeDtypeStruct((2,), name) for name in names]


def _dtypes_of(fn, *arrays):
    """The dtypes of fn's results; on jax abstractly, which needs no compilation."""
    if keraslite.backend.backend() == "jax":
        return [x.dtype.name for x in tree.flatten(jax.eval_shape(fn, *arrays))]
    tensors = [keraslite.to_backend(x, keraslite.backend.backend()) for x in arrays]
    return [ops.dtype(x) for x in tree.flatten(fn(*tensors))]


@pytest.mark.parametrize("first", DTYPES)
def test_pairs(first, backend):
    def ours(a, b):
        return (ops.add(a, b), ops.maximum(a, b), ops.where(a, a, b), ops.stack([a, b]),
                ops.equal(a, b), ops.divide(a, b))  # fmt: skip

    for second in DTYPES:
        both = jnp.promote_types(first, second).name
        floating = jax.eval_shape(jnp.divide, *_specs(first, second)).dtype.name
        arrays = [np.ones(2, dtypes.to_numpy(name)) for name in (first, second)]
        assert _dtypes_of(ours, *arrays) == [both] * 4 + ["bool", floating], second


@pytest.mark.parametrize("name", DTYPES)
def test_python_numbers_are_weak(name, backend):
    array = np.ones(2, dtypes.to_numpy(name))
    for op, number in itertools.product(("add", "multiply", "maximum", "power", "mod"), (2, 0.5)):
        ours, theirs = getattr(ops, op), getattr(jnp, op)
        want = jax.eval_shape(lambda x, f=theirs, n=number: f(x, n), array).dtype.name
        both = lambda x, f=ours, n=number: (f(x, n), f(n, x))  # noqa: E731
        assert _dtypes_of(both, array) == [want] * 2, (op, number)
    for number in (2, 0.5):
        where = lambda x, n=number: jnp.where(True, x, n)  # noqa: E731
        ours = lambda x, n=number: (ops.where(x, x, n), ops.where(x, n, x))  # noqa: E731
        want = jax.eval_shape(where, array).dtype.name
        assert _dtypes_of(ours, array) == [want] * 2, number
    assert _dtypes_of(lambda x: ops.multiply(x, True), array) == [name]


def test_literals_alone(backend):
    assert ops.dtype(ops.add(1, 2)) == "int32"
    assert ops.dtype(ops.add(1, 2.0)) == "float32"
    assert ops.dtype(ops.add([True], True)) == "bool"
    assert ops.dtype(ops.exp(1)) == "float32"
    assert ops.dtype(ops.add(np.float16(1), 2)) == "float16"


def test_floatx_decides_what_integers_become(backend):
    before = keraslite.config.floatx()
    keraslite.config.set_floatx("float16")
    try:
        assert ops.dtype(ops.exp(ops.arange(3))) == "float16"
        assert ops.dtype(ops.zeros(2)) == "float16"
        assert ops.dtype(ops.multiply(ops.arange(3), 0.5)) == "float16"
    finally:
        keraslite.config.set_floatx(before)
