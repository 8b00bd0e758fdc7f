"""Result dtypes are jnp's (64 bits off) for every op, dtype and backend; Python numbers are weak."""

import itertools

import jax.numpy as jnp
import ml_dtypes  # noqa: F401 - bfloat16 for numpy
import numpy as np
import pytest
from ops_cases import by_op, check, row

import keraslite
from keraslite import ops

DTYPES = ("bool", "int8", "uint8", "int32", "float16", "bfloat16", "float32")
INTS = ("int8", "uint8", "int32")
X = np.array([[1, 0, 2], [3, 1, 1]])
Y = np.array([[1, 1, 2], [2, 1, 3]])

_UNARY = """absolute sign square negative exp expm1 exp2 log log2 log10 log1p sqrt cbrt reciprocal
    sin cos tan tanh sinh cosh arcsinh arctan sinc floor ceil trunc round isnan isinf isfinite
    isposinf isneginf signbit logical_not real imag conj angle nan_to_num fabs deg2rad
    sum prod mean var std max min amax argmax argmin all any cumsum cumprod count_nonzero median
    nansum nanmean nanmax nanprod nancumsum sort argsort ptp average diff trace tril diagonal
    zeros_like ones_like ravel transpose flip"""
_BINARY = """add subtract multiply divide true_divide floor_divide mod fmod power maximum minimum
    fmax fmin hypot logaddexp arctan2 heaviside equal not_equal less greater_equal logical_and
    logical_xor isclose outer dot inner matmul tensordot append"""
# What jnp refuses or Keras does otherwise: the dtype that is computed with first, or None to skip.
_OTHERWISE = {
    **{(name, d): "float32" for name in ("floor", "ceil") for d in ("bool", *INTS)},
    **{(name, "bool"): None for name in ("sign", "negative", "subtract", "ptp", "gcd", "lcm")},
    **{(name, "int8"): "int32" for name in ("matmul", "einsum")},
    **{(name, "bool"): "int32" for name in ("round", "gcd", "lcm", "clip")},
}  # fmt: skip


def _oracle(name, kind):
    first = _OTHERWISE.get((name, kind), kind)
    fn = getattr(jnp, name, None)

    def call(*args, **kwargs):
        return fn(*(x.astype(first) if hasattr(x, "astype") else x for x in args), **kwargs)

    return call


def _rows():
    for kind in DTYPES:
        x, y = X.T.astype(kind), Y.T.astype(kind)
        for name in _UNARY.split():
            yield row(name, x, oracle=_oracle(name, kind))
        for name in _BINARY.split():
            y_ = Y.astype(kind) if name in ("matmul", "dot") else y
            yield row(name, x, y_, oracle=_oracle(name, kind))
        for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"):
            if kind in INTS or (kind == "bool" and "shift" not in name):
                yield row(name, x, y)
        if kind in INTS:
            yield row("gcd", x, y)
            yield row("bitwise_not", x)
        yield row("clip", x, 0, 1, oracle=_oracle("clip", kind))
        yield row("where", X.T > 1, x, y)
        yield row("concatenate", [x, y])
        yield row("einsum", "ij,kj->ik", x, y, oracle=lambda s, *a, k=kind: jnp.einsum(
            s, *(v.astype(_OTHERWISE.get(("einsum", k), k)) for v in a)))  # fmt: skip
        yield row("take", x, np.int32([1]), axis=0)
        yield row("pad", x, 1)
        yield row("quantile", x, 0.5, axis=0)
        yield row("linspace", x[:, 0], y[:, 0], 3)
        yield row("full_like", x, 1)
        if kind != "bool":
            yield row("top_k", x.T.copy(), 1, oracle=lambda v, k: (
                jnp.max(v, -1, keepdims=True), jnp.argmax(v, -1, keepdims=True)))  # fmt: skip


ROWS = [c for c in _rows() if _OTHERWISE.get((c.op, str(c.args[0].dtype) if hasattr(
    c.args[0], "dtype") else ""), 0) is not None]  # fmt: skip




@pytest.mark.parametrize("cases", by_op(ROWS))
def test_every_dtype(cases, backend):
    from ops_cases import assert_value

    check(assert_value, cases, backend, ".dtype")


@pytest.mark.parametrize("first", DTYPES)
def test_pairs(first, backend):
    a = keraslite.to_backend(np.ones(2, first), backend)
    for second in DTYPES:
        want = jnp.promote_types(first, second).name
        b = keraslite.to_backend(np.ones(2, second), backend)
        assert ops.dtype(ops.add(a, b)) == want
        assert ops.dtype(ops.maximum(a, b)) == want
        assert ops.dtype(ops.where(a, a, b)) == want
        assert ops.dtype(ops.stack([a, b])) == want
        assert ops.dtype(ops.equal(a, b)) == "bool"
        floating = jnp.divide(jnp.ones(2, first), jnp.ones(2, second)).dtype.name
        assert ops.dtype(ops.divide(a, b)) == floating


@pytest.mark.parametrize("name", DTYPES)
def test_python_numbers_are_weak(name, backend):
    x, theirs = keraslite.to_backend(np.ones(2, name), backend), jnp.ones(2, name)
    for number, op in itertools.product((2, 0.5), ("add", "multiply", "maximum", "power", "mod")):
        want = getattr(jnp, op)(theirs, number).dtype.name
        assert ops.dtype(getattr(ops, op)(x, number)) == want, (op, number)
        assert ops.dtype(getattr(ops, op)(number, x)) == want, (op, number)
    assert ops.dtype(ops.where(x, x, 2)) == jnp.where(theirs > 0, theirs, 2).dtype.name
    assert ops.dtype(ops.where(x, 0.5, x)) == jnp.where(theirs > 0, 0.5, theirs).dtype.name
    assert ops.dtype(ops.multiply(x, True)) == name


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
