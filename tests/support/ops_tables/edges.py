"""Edges: no elements, no axes, one element, broadcasting, extremes, and where frameworks differ.

Every backend gives one answer: NumPy's, or jnp's for dtypes.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np
from ops_cases import row

from ops_tables.arrays import BINARY, BINARY_FLAT, FLAT, UNARY

rng = np.random.default_rng(5)
INF, NAN = np.inf, np.nan
A = rng.uniform(0.1, 0.9, (2, 3)).astype("float32")
C = rng.uniform(0.1, 0.9, (2, 3, 4)).astype("float32")
M = A[:, :2] + 2 * np.eye(2, dtype="float32")
SPD = M @ M.T + np.eye(2, dtype="float32")
BATCH = np.stack([SPD, SPD * 2])
I = np.int32([[3, -2, 0], [1, 5, -7]])


def f32(*values):
    return np.array(values, "float32")


def edges(x):
    """No axes, no elements, and rank 4, of the kind of x."""
    flat = x.ravel()
    return [flat[0].reshape(()), np.zeros((0, 3), x.dtype), np.resize(flat, (1, 2, 1, 3))]


def pairs(a, b):
    """Two arrays that broadcast: (2, 1) with (3,), no elements, no axes."""
    x, y = np.resize(a, (2, 1)).astype(a.dtype), np.resize(b, (3,)).astype(b.dtype)
    nothing, one = np.zeros((0, 3), a.dtype), np.resize(b, ()).astype(b.dtype)
    return [(x, y), (nothing, y), (one.astype(a.dtype), y)]


PRODUCTS = {"outer", "inner", "dot", "vdot", "kron", "matmul", "cross"}
EMPTY = np.zeros((0, 3), "float32")
REDUCTIONS = ("sum", "mean", "prod", "any", "all", "amax", "amin", "max", "min", "var", "std")
ROWS = [
    *(row(name, e) for table in (UNARY, FLAT) for name, x in table.items() for e in edges(x)),
    *(row(name, x, y) for table in (BINARY, BINARY_FLAT) for name, (a, b) in table.items()
      if name not in PRODUCTS for x, y in pairs(a, b)),
    *(row(f"bitwise_{name}", np.int32([[4], [9]]), np.int32([1, 0, 2]), oracle=getattr(jnp, name))
      for name in ("left_shift", "right_shift") for _ in range(2)),
    *(row(name, C, axis=axis, keepdims=keep) for name in REDUCTIONS
      for axis, keep in ((-1, False), ((0, -1), True), (1, False))),
    *(row(name, EMPTY, axis=axis) for name in ("sum", "prod", "any", "all") for axis in (None, 0, 1)),
    *(row(name, EMPTY, axis=1) for name in ("max", "min", "argmax", "mean")),
    *(row(name, C, axis=axis) for name in ("ptp", "argmax", "count_nonzero", "nancumsum",
                                           "nancumprod") for axis in (-1, 0)),
    *(row(name, f32([1, NAN, 3], [NAN, 5, 2]), 40.0, axis=axis) for name in ("nanpercentile",)
      for axis in (0, -1)),
    *(row("percentile", C, 30.0, axis=axis) for axis in (0, -1)), row("nanquantile", A, 0.5),
    # Products
    row("outer", f32(1), f32(2, 3)), row("outer", A, A), row("inner", C, A[0, :1].repeat(4)),
    row("dot", C, rng.normal(size=(4,)).astype("float32")), row("vdot", A, A), row("vdot", EMPTY, EMPTY),
    row("kron", f32(1, 2), f32(3, 4)), row("kron", A, f32(1, 2)), row("kron", A[0], A),
    row("matmul", EMPTY, np.ones((3, 2), "float32")), row("matmul", np.ones((2, 0), "float32"), np.ones((0, 3), "float32")),
    row("cross", f32([1, 2, 3], [4, 5, 6]), f32(1, 0, 0), unknown=()),
    row("diagflat", f32(1, 2), unknown=()), row("diagflat", f32(1), 2, unknown=()),
    row("vander", f32(2), unknown=()), row("corrcoef", C[0]), row("select", [A > 0.5], [A], default=2.0,
        oracle=lambda c, x, default: jnp.where(c[0], x[0], default), symbolic=False, jit=False),
    row("select", [A > 0.5, A > 0.3], [A, 1 - A], symbolic=False, jit=False,
        oracle=lambda c, x: jnp.select(list(c), list(x), 0)),
    # Shapes
    row("ravel", EMPTY), row("ravel", f32(1)), row("copy", C), row("swapaxes", A, 0, 1),
    row("swapaxes", C, -1, 0), row("moveaxis", C, -1, 0), row("broadcast_to", f32(1), (2, 0, 1), unknown=()),
    row("flipud", C), row("flipud", EMPTY), row("fliplr", C), row("fliplr", EMPTY),
    row("array_split", A, 2, axis=1), row("array_split", f32(1, 2, 3, 4), 3, symbolic=False),
    row("hsplit", C, [1]), row("hsplit", A, 3), row("vsplit", C, [1]), row("vsplit", A, 2),
    row("dsplit", C, 2), row("dsplit", C, [1, 3]), row("hstack", [EMPTY, EMPTY]),
    row("vstack", [EMPTY, A]), row("dstack", [A, A]), row("unstack", A, axis=-1,
        oracle=lambda x, axis: list(jnp.unstack(x, axis=axis))),
    row("unstack", C, axis=2, oracle=lambda x, axis: list(jnp.unstack(x, axis=axis))),
    *(row(name, x) for name in ("zeros_like", "ones_like") for x in (EMPTY, f32(1).reshape(()))),
    *(row("empty_like", x, oracle=jnp.zeros_like) for x in (EMPTY, EMPTY[:, :0])),
    row("empty", (0, 2), symbolic=False, oracle=jnp.zeros), row("empty", (), symbolic=False, oracle=jnp.zeros),
    *(row(name, size, symbolic=False) for name in ("zeros", "ones") for size in ((), (0, 2), (2, 1))),
    row("identity", 0, symbolic=False), row("identity", 2, "int32", symbolic=False),
    row("tri", 2, k=-1, symbolic=False), row("tri", 0, symbolic=False),
    row("array", f32(1, 2)), row("array", I, "float32"),
    *(row(name, n, symbolic=False) for name in ("bartlett", "blackman", "hamming", "hanning")
      for n in (1, 2, 8)),
    *(row("kaiser", n, beta, symbolic=False, atol=1e-5) for n, beta in ((1, 3.0), (8, 0.0), (9, 14.0))),
    row("logspace", 0, 1, 1, symbolic=False), row("logspace", 0, 3, 4, base=2, symbolic=False),
    row("geomspace", 8, 1, 4, symbolic=False), row("geomspace", 1, 16, 5, endpoint=False, symbolic=False),
    # Indexing and searching
    row("nonzero", f32(0, 1, NAN), symbolic=False, jit=False), row("nonzero", A > 2, symbolic=False, jit=False),
    row("argpartition", f32(3, 1, 2), 0, oracle=lambda x, k: jnp.argsort(x)),
    row("argpartition", A, 2, axis=-1, oracle=lambda x, k, axis: jnp.argsort(x, axis)),
    row("unravel_index", np.int32([[0, 7]]), (2, 4)), row("unravel_index", np.int32(5), (2, 3), unknown=()),
    row("isin", A, f32(2)), row("digitize", f32(0, 1, 2, 3), f32(1, 2)),
    row("histogram", f32(0, 1, 1, 5), 2, oracle=lambda x, b: (
        jnp.histogram(x, b)[0].astype("int32"), jnp.histogram(x, b)[1])),
    row("in_top_k", np.int32([2, 0]), A, 3, unknown=(0, 1), oracle=lambda t, p, k: jnp.ones(2, bool)),
    row("in_top_k", np.int32([2, 0]), f32([1, 3, 2], [0, 3, 2]), 2, unknown=(0, 1),
        oracle=lambda t, p, k: jnp.array([True, False])),
    row("top_k", f32(1, 3, 3, 2), 3, oracle=lambda x, k: tuple(jax.lax.top_k(x, k)), unknown=()),
    row("top_k", np.float32(np.arange(600).reshape(2, 300) % 7), 60, unknown=(),
        oracle=lambda x, k: tuple(jax.lax.top_k(x, k))),
    *(row(f"segment_{name}", A.T, np.int32([1, 3, 1]), 5, oracle=getattr(jax.ops, f"segment_{name}"),
          unknown=(0, 1)) for name in ("sum", "max", "min", "prod")),
    *(row(f"segment_{name}", A[0], np.int32([0, 0, 0]), 1, unknown=(0, 1),
          oracle=getattr(jax.ops, f"segment_{name}")) for name in ("sum", "max", "min", "prod")),
    *(row("scatter", np.int32(where), values, (4,), unknown=(0, 1),
          oracle=lambda i, v, s: jnp.zeros(s).at[i[:, 0]].add(v))
      for where, values in (([[3], [3], [3]], f32(1, 2, 4)), ([[0]], f32(1)))),
    row("slice", A, [0, 0], [2, 3], oracle=lambda x, i, s: x), row("slice", A, [1, 2], [1, 1], unknown=(),
        oracle=lambda x, i, s: x[1:, 2:]),
    *(row("slice_update", A, [i, 0], A[:1] * 0, unknown=(), oracle=lambda x, i, u: x.at[i[0] : i[0] + 1].set(u))
      for i in (0, 1)),
    row("allclose", f32(INF, NAN), f32(INF, NAN)), row("allclose", f32(1), f32(1.1), rtol=0.2),
    row("divide_no_nan", f32(1, 0), f32(0, 0), oracle=lambda a, b: jnp.zeros(2)),
    row("divide_no_nan", f32(1), f32(4), oracle=jnp.divide),
    *(row("ldexp", x, np.int32([1, -2, 0])) for x in (f32(1, 3, 5), f32(0, INF, -1))),
    # ops/math.py, ops/linalg.py
    *(row(name, e, oracle=fn) for name, fn in (("erf", jsp.erf), ("erfc", jsp.erfc), ("erfinv", jsp.erfinv),
                                               ("rsqrt", jax.lax.rsqrt), ("stop_gradient", lambda x: x)) for e in edges(A)[:2]),
    row("cdist", A, A[:1], oracle=lambda a, b: jnp.sqrt(jnp.sum((a[:, None] - b) ** 2, -1)), atol=1e-5),
    row("cdist", C, C, oracle=lambda a, b: jnp.sqrt(jnp.sum((a[:, :, None] - b[:, None]) ** 2, -1)),
        atol=1e-5, unknown=()),
    row("extract_sequences", f32(1, 2, 3, 4, 5), 3, 1, oracle=lambda x, n, s: jnp.stack([x[:3], x[1:4], x[2:]]), unknown=()),
    row("extract_sequences", A, 2, 1, oracle=lambda x, n, s: jnp.stack([x[:, :2], x[:, 1:]], 1)),
    *(row(name, x, oracle=getattr(jnp.linalg, name), atol=1e-5) for name in ("det", "inv", "cholesky")
      for x in (BATCH, SPD[:1, :1])),
    *(row("logdet", x, oracle=lambda x: jnp.linalg.slogdet(x)[1]) for x in (BATCH, SPD[:1, :1])),
    row("slogdet", BATCH, oracle=jnp.linalg.slogdet), row("svd", BATCH, compute_uv=False, oracle=jnp.linalg.svd),
    row("cholesky_inverse", np.linalg.cholesky(BATCH), oracle=lambda x: jnp.linalg.inv(x @ x.mT), atol=1e-5),
    row("lstsq", M, M[:, :1], oracle=lambda a, b: jnp.linalg.solve(a, b), atol=1e-5),
    row("lu_factor", SPD[:1, :1], oracle=jax.scipy.linalg.lu_factor, unknown=()),
    row("i0", f32(0, -3)), row("i0", EMPTY), row("nextafter", f32(0, 1), f32(1, 0), wide=False), row("nextafter", f32(INF), f32(0), wide=False),
    # The product over what frameworks disagree on
    *(row(name, f32(-7.5, -7, 7, 7.5, -0.0, 5), f32(2, 3, -3, -2, 3, INF)) for name in ("floor_divide", "mod", "fmod")),
    *(row(name, np.int32([-7, 7, -7, 0]), np.int32([3, -3, -3, 5])) for name in ("floor_divide", "mod", "fmod")),
    row("round", f32(0.5, 1.5, 2.5, -0.5, -1.5)), row("round", f32(0.125, 0.375), decimals=2),
    row("sign", f32(NAN, -0.0, INF, -INF)), row("maximum", f32(NAN, 1, -0.0), f32(1, NAN, 0.0)),
    row("power", f32(0, 0, 2, -2, INF), f32(0, 1, -1, 3, -1)), row("power", f32(-8), f32(1 / 3)),
    row("log", f32(0, INF, NAN)), row("log1p", f32(-1, 0, 1e-10)), row("expm1", f32(1e-10, -INF, 50)),
    row("logaddexp", f32(-INF, -INF, 1000, INF), f32(-INF, 1, 999, INF)),
    row("arctan2", f32(0, -0.0, 0, -0.0, INF), f32(1, 1, -1, -1, INF)), row("hypot", f32(INF, 3e20), f32(NAN, 4e20)),
    row("argmax", f32([1, 3, 3], [2, 2, 2]), axis=1), row("argmin", f32([1, 1, 3]), axis=-1),
    *(row(name, f32(2, 1, 2, 1, 2), axis=0) for name in ("sort", "argsort")),
    row("nansum", f32([NAN, NAN])), row("nanmax", f32([NAN, 1], [2, NAN]), axis=0), row("nanmean", f32(NAN, 3)),
    *(row("cumsum", np.array([1, 2, 3], kind), axis=0) for kind in ("bool", "int8", "uint8", "float16")),
    *(row("logsumexp", x, oracle=jsp.logsumexp) for x in (f32(-INF, -INF), f32(-INF, 0), f32(INF, 1), f32(1000, 1000))),
    row("quantile", f32(1, NAN, 2), 0.5), row("median", f32(3, NAN)), row("searchsorted", f32(1, 2, 2, 3), f32(2, 0, 4, 2), unknown=()),
    row("isclose", f32(INF, -INF, INF), f32(INF, INF, 1)), row("nan_to_num", f32(1, -2), nan=0.0),
    row("clip", f32(NAN, -5, 5), -1.0, 1.0), row("clip", f32(0, 1), 2.0, 1.0), row("take", A, np.int32([-1]), axis=1),
    row("floor_divide", np.int32([5]), 2), row("minimum", f32(-0.0, 0.0), f32(0.0, -0.0)),
]  # fmt: skip
# Of nothing there is no largest, and no mean but NaN.
_NONE = {"amax", "amin", "max", "min", "argmax", "mean"}
ROWS = [
    replace(r, only_value=True)
    for r in ROWS
    if not (r.op in _NONE and r.args[0].size == 0 and r.kwargs.get("axis") != 1)
]
