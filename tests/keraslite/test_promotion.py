"""Result dtypes are jnp's (64 bits off) for every op, dtype and backend; Python numbers are weak."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_gaps import GAPS
from ops_cases import HALF_TOLERANCE

import keraslite
from keraslite import dtypes, ops, tree

DTYPES = (
    "bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "bfloat16", "float32",
)  # fmt: skip
INTS = tuple(name for name in DTYPES if "int" in name)
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
_PAIRS_OF_INT64 = [{"uint32", name} for name in ("int8", "int16", "int32")]
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
    tolerance = HALF_TOLERANCE.get(kind, 1e-5)
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
        both = dtypes.result_type(first, second)  # which is JAX's: see below
        both = jnp.promote_types(first, second).name if backend == "jax" else both
        floating = jax.eval_shape(jnp.divide, *_specs(first, second)).dtype.name
        arrays = [np.ones(2, dtypes.to_numpy(name)) for name in (first, second)]
        assert _dtypes_of(ours, *arrays) == [both] * 4 + ["bool", floating], second


# Ops whose rule for two dtypes is not that of `add`: the dtype of each pair is jnp's.
_MIXED = {
    "correlate": (jnp.correlate, ops.correlate),
    "average": (lambda x, y: jnp.average(x, weights=y), lambda x, y: ops.average(x, weights=y)),
    "trapezoid": (jnp.trapezoid, ops.trapezoid),
    "searchsorted": (jnp.searchsorted, ops.searchsorted),
    "power": (jnp.power, ops.power),
    "logaddexp": (jnp.logaddexp, ops.logaddexp),
    "append": (jnp.append, ops.append),
    "tensordot": (lambda x, y: jnp.tensordot(x, y, 1), lambda x, y: ops.tensordot(x, y, 1)),
    "matmul": (jnp.matmul, ops.matmul),
    "einsum": (lambda x, y: jnp.einsum("i,i", x, y), lambda x, y: ops.einsum("i,i", x, y)),
}


@pytest.mark.parametrize("name", _MIXED)
def test_pairs_of_other_rules(name, backend):
    oracle, ours = _MIXED[name]
    for first, second in itertools.product(DTYPES, DTYPES):
        want = jax.eval_shape(oracle, *_specs(first, second)).dtype.name
        if name in ("matmul", "einsum") and first == second == "int8":
            want = "int32"  # as in Keras
        if {first, second} in _PAIRS_OF_INT64 and backend != "jax" and want == "int32":
            want = "int64" if name != "searchsorted" else want  # which JAX has on request only
        arrays = [np.ones(2, dtypes.to_numpy(name)) for name in (first, second)]
        assert _dtypes_of(ours, *arrays) == [want], (first, second)


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


def test_dtypes_that_lack_kernels_of_their_own(backend):
    for name in ("float16", "bfloat16"):
        x = np.array([0.0, 0.5], dtypes.to_numpy(name))
        got = ops.erfinv(keraslite.to_backend(x, backend))
        assert ops.dtype(got) == name
        values = keraslite.backend.to_numpy(got).astype("float32")
        np.testing.assert_allclose(values, [0.0, 0.4769], 1e-2)
    for name in INTS:
        got = ops.one_hot(keraslite.to_backend(np.array([2, 0], name), backend), 3)
        np.testing.assert_array_equal(keraslite.backend.to_numpy(got), [[0, 0, 1], [1, 0, 0]])


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


# ---- the table alone, and types beyond JAX's usual ones ----

_NUMBERS = {bool: True, int: 1, float: 1.0, complex: 1j}


@pytest.mark.parametrize("first", [*dtypes.ALL, *_NUMBERS])
def test_the_table_is_that_of_jax(first):
    """All pairs of all types and weak Python numbers, with 64 bits as they are."""

    def value(kind):
        return _NUMBERS[kind] if kind in _NUMBERS else jnp.ones((), dtypes.to_numpy(kind))

    with jax.enable_x64(True):
        for second in (*dtypes.ALL, *_NUMBERS):
            if first in _NUMBERS and second in _NUMBERS:
                continue  # numbers alone follow floatx and int32 here
            try:
                want, weak = jax.dtypes.result_type(
                    value(first), value(second), return_weak_type_flag=True
                )
            except jax.dtypes.TypePromotionError:
                with pytest.raises(TypeError, match="No common data type"):
                    dtypes.result_type(first, second)
                continue
            usual = (
                {"i": "int32", "f": "float32", "c": "complex64"}[want.kind] if weak else want.name
            )
            assert dtypes.result_type(first, second) == usual, second


EXTREMES = {
    name: np.array([np.iinfo(name).min, np.iinfo(name).max, 0, 1, 7, 100], name)
    for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")
}


@pytest.mark.parametrize("name", EXTREMES)
def test_integers_wrap_around_and_order_as_in_numpy(name, backend):
    x = EXTREMES[name]
    y = np.array([1, 1, 3, 2, 3, 7], name)
    given = [keraslite.to_backend(v, backend) for v in (x, y)]
    with np.errstate(over="ignore"):
        for op in ("add", "subtract", "multiply", "floor_divide", "mod", "maximum", "minimum",
                   "bitwise_and", "bitwise_or", "bitwise_xor", "less", "greater_equal", "equal",
                   "right_shift"):  # fmt: skip
            want = getattr(np, op)(x, y)
            got = keraslite.backend.to_numpy(getattr(ops, op)(*given))
            assert got.dtype == want.dtype, op
            np.testing.assert_array_equal(got, want, err_msg=op)
        for op in ("negative", "bitwise_not", "sort", "max", "min", "argmax", "argmin", "flip"):
            want, got = getattr(np, op)(x), keraslite.backend.to_numpy(getattr(ops, op)(given[0]))
            np.testing.assert_array_equal(got, want, err_msg=op)
            assert op.startswith("arg") or got.dtype == x.dtype, op
    for op in (lambda f, x: f.cumsum(x, dtype=name), lambda f, x: f.prod(x, dtype=name)):
        got = keraslite.backend.to_numpy(op(ops, given[0]))
        np.testing.assert_array_equal(got, op(np, x))
        assert got.dtype == x.dtype
    table = keraslite.backend.to_numpy(ops.where(ops.equal(given[0], 1), given[0], given[1]))
    np.testing.assert_array_equal(table, np.where(x == 1, x, y))


@pytest.mark.parametrize("name", ["float64", "complex64", "complex128"])
def test_wide_types(name, backend):
    """Values in the type itself; on jax without 64 bits in the type that it takes for it."""
    x = np.array([[0.5, -1.25, 2.0], [3.5, -0.75, 1.0]], name)
    if name.startswith("complex"):
        x = x + np.array([[0.25, 1.0, -0.5], [1.5, 0.75, -2.0]], name) * 1j
    kept = jax.dtypes.canonicalize_dtype(name).name if backend == "jax" else name
    given = keraslite.to_backend(x, backend)
    rows = {
        "add": lambda f, x: f.add(x, x), "multiply": lambda f, x: f.multiply(x, x),
        "divide": lambda f, x: f.divide(x, x + x), "matmul": lambda f, x: f.matmul(x, f.transpose(x)),
        "sum": lambda f, x: f.sum(x, axis=0), "mean": lambda f, x: f.mean(x), "prod": lambda f, x: f.prod(x),
        "exp": lambda f, x: f.exp(x), "sin": lambda f, x: f.sin(x), "cos": lambda f, x: f.cos(x),
        "tanh": lambda f, x: f.tanh(x), "square": lambda f, x: f.square(x),
        "conj": lambda f, x: f.conj(x), "einsum": lambda f, x: f.einsum("ij,kj->ik", x, x),
        "concatenate": lambda f, x: f.concatenate([x, x]), "where": lambda f, x: f.where(f.equal(x, x), x, x),
        "absolute": lambda f, x: f.absolute(x), "real": lambda f, x: f.real(x),
        "imag": lambda f, x: f.imag(x), "angle": lambda f, x: f.angle(x),
    }  # fmt: skip
    exact = 1e-6 if kept in ("complex64", "float32") else 1e-12
    for op, call in rows.items():
        want = call(np, x)
        got = keraslite.backend.to_numpy(call(ops, given))
        wide = np.complex128 if np.iscomplexobj(want) else np.float64
        np.testing.assert_allclose(
            got.astype(wide), want.astype(wide), exact * 10, exact, err_msg=op
        )
        same = kept if np.iscomplexobj(want) or not kept.startswith("c") else {
            "complex64": "float32", "complex128": "float64"}[kept]  # fmt: skip
        assert got.dtype == same, op


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_is_for_storage(name, backend):
    """Casts there and back are exact to the type; arithmetic is refused, or computes in it."""
    x = np.array([0.0, 1.0, -1.5, 0.0625, 448.0 if "e4m3" in name else 57344.0], "float32")
    (given,) = (keraslite.to_backend(x, backend),)
    stored = ops.cast(given, name)
    assert ops.dtype(stored) == name
    np.testing.assert_array_equal(keraslite.backend.to_numpy(ops.cast(stored, "float32")), x)
    np.testing.assert_array_equal(
        keraslite.backend.to_numpy(stored).astype("float32"),
        x.astype(dtypes.to_numpy(name)).astype("float32"),
    )
    half = ops.cast(ops.cast(given, "bfloat16"), name)
    assert ops.dtype(ops.reshape(half, (5, 1))) == name


# What booleans become, on every backend: None where the op is refused.
BOOLEANS = {
    "subtract": None, "negative": None, "sign": None, "ptp": None, "bitwise_not": "bool",
    "absolute": "bool", "add": "bool", "multiply": "bool", "maximum": "bool", "square": "int32",
    "relu": "int32", "relu6": "float32", "sigmoid": "float32", "cumsum": "int32", "max": "bool",
    "power": "int32", "divide": "float32", "sort": "bool", "mean": "float32",
    "softmax": "float32", "trunc": "bool", "floor": "float32", "top_k": "bool",
    "searchsorted": "int32", "digitize": "int32", "segment_max": "bool", "segment_min": "bool",
}  # fmt: skip
_BOOLEAN_CALLS = {
    "top_k": lambda f, x, y: f(x, 2)[0], "ptp": lambda f, x, y: f(x),
    "searchsorted": lambda f, x, y: f(y, x), "digitize": lambda f, x, y: f(x, y),
    "segment_max": lambda f, x, y: f(x, np.int32([0, 1, 1]), 3),
    "segment_min": lambda f, x, y: f(x, np.int32([0, 1, 1]), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOLEANS)
def test_booleans_have_one_answer_or_one_error(name, backend):
    x, y = np.array([True, False, True]), np.array([False, True, True])
    tensors = [keraslite.to_backend(v, backend) for v in (x, y)]
    fn, oracle = getattr(ops, name), getattr(jnp, name, None)
    two = name in _BINARY.split()
    call = _BOOLEAN_CALLS.get(name) or ((lambda f, x, y: f(x, y)) if two else lambda f, x, y: f(x))
    if BOOLEANS[name] is None:
        with pytest.raises(TypeError, match=rf"ops\.{name}\(bool"):
            call(fn, *tensors)
        with pytest.raises(TypeError):
            call(oracle, x, y)
        return
    got = keraslite.backend.to_numpy(call(fn, *tensors))
    oracle = oracle or {
        "relu": jax.nn.relu, "relu6": jax.nn.relu6, "sigmoid": lambda x: jax.nn.sigmoid(x * 1.0),
        "softmax": lambda x: jax.nn.softmax(x * 1.0), "top_k": jax.lax.top_k,
        "segment_max": jax.ops.segment_max, "segment_min": jax.ops.segment_min,
    }[name]  # fmt: skip
    want = np.asarray(call(oracle, *(jnp.asarray(v) for v in (x, y))))
    assert got.dtype == BOOLEANS[name]
    np.testing.assert_allclose(got.astype("float32"), want.astype("float32"), 1e-6)


# What has no meaning for a type: an error that names the op, on every backend.
MEANINGLESS = [
    *((op, kind) for op in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "gcd", "lcm")
      for kind in ("float32", "complex64")),
    ("bitwise_not", "float32"),
    *((op, "complex64") for op in ("floor", "ceil", "floor_divide", "mod")),
]  # fmt: skip


@pytest.mark.parametrize(("op", "kind"), MEANINGLESS)
def test_types_without_meaning_are_named(op, kind, backend):
    x = keraslite.to_backend(np.ones((2, 3), kind), backend)
    binary = (
        len([p for p in ops.__dict__[op].op.parameters if p.name in ("x1", "x2", "x", "y")]) > 1
    )
    with pytest.raises(TypeError, match=rf"ops\.{op}\({kind}\(2, 3\)"):
        getattr(ops, op)(*((x, x) if binary else (x,)))


def test_limits_are_those_of_the_formats():
    import ml_dtypes

    for name in dtypes.FLOATS:
        info = ml_dtypes.finfo(dtypes.to_numpy(name))
        assert dtypes.limits(name) == (float(info.min), float(info.max)), name
    for name in dtypes.INTS:
        assert dtypes.limits(name) == (np.iinfo(name).min, np.iinfo(name).max)
