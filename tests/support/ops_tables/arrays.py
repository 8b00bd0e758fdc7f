"""Cases of the ops on arrays: arithmetic, reductions, creation, shapes, indexing; by numpy and jnp."""

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np
from ops_cases import row

rng = np.random.default_rng(0)


def floats(*shape, low=-2.0, high=2.0):
    return rng.uniform(low, high, shape).astype("float32")


def ints(*shape, low=-5, high=6):
    return rng.integers(low, high, shape).astype("int32")


A, B, C = floats(2, 3), floats(3, 4), floats(2, 3, 4)
POS = floats(2, 3, low=0.5, high=3.0)
UNIT = floats(2, 3, low=-0.9, high=0.9)
I, J = ints(2, 3), ints(2, 3, low=1)
BOOL, BOOL2 = A > 0, floats(2, 3) > 0
NAN = np.array([[1.0, np.nan, -np.inf], [np.inf, 0.5, -0.0]], "float32")
HOLES = np.array([[1.0, np.nan, 3.0, 2.0], [np.nan, 5.0, -1.0, 0.5]], "float32")
V, W = floats(3), floats(3)
TIES = np.array([[1, 3, 3], [2, 2, 2]], "float32")
Z = (A + 1j * UNIT).astype("complex64")

UNARY = {
    "absolute": A, "abs": A, "fabs": A, "negative": A, "sign": NAN, "square": A, "sqrt": POS,
    "cbrt": A, "reciprocal": A, "exp": A, "exp2": A, "expm1": A, "log": POS, "log2": POS,
    "log10": POS, "log1p": POS, "sin": A, "cos": A, "tan": UNIT, "arcsin": UNIT, "arccos": UNIT,
    "arctan": A, "sinh": A, "cosh": A, "tanh": A, "arcsinh": A, "arccosh": POS + 0.6,
    "arctanh": UNIT, "sinc": A, "deg2rad": A, "rad2deg": A,
}  # fmt: skip
FLAT = {"floor": A, "ceil": A, "trunc": A, "round": A * 3, "isnan": NAN, "isinf": NAN,
         "isfinite": NAN, "isposinf": NAN, "isneginf": NAN, "signbit": NAN, "real": A, "imag": A,
         "conj": A, "conjugate": A, "angle": A, "isreal": A, "copy": A,
         "logical_not": BOOL, "bitwise_not": I, "bitwise_invert": I}  # fmt: skip
BINARY = {
    "add": (A, V), "subtract": (A, V), "multiply": (A, V), "divide": (A, POS),
    "true_divide": (A, POS), "power": (POS, V), "maximum": (A, V), "minimum": (A, V),
    "fmax": (A, V), "fmin": (A, V), "hypot": (A, V), "logaddexp": (A, V), "logaddexp2": (A, V),
    "arctan2": (A, POS), "outer": (V, W), "inner": (A, C[0].T[:3]), "dot": (A, B), "vdot": (V, W),
    "kron": (A, UNIT), "matmul": (A, B), "cross": (A, UNIT),
}  # fmt: skip
BINARY_FLAT = {
    "floor_divide": (A, POS), "mod": (A, POS), "fmod": (A, POS), "heaviside": (NAN, V),
    "gcd": (I, J), "lcm": (I, J), "equal": (TIES, TIES.T[:1, :1]), "not_equal": (I, J),
    "less": (A, V), "less_equal": (A, V), "greater": (A, V), "greater_equal": (A, V),
    "logical_and": (BOOL, BOOL2), "logical_or": (BOOL, BOOL2), "logical_xor": (BOOL, BOOL2),
    "bitwise_and": (I, J), "bitwise_or": (I, J), "bitwise_xor": (I, J),
    "left_shift": (J, J), "right_shift": (I, J),
}  # fmt: skip

ROWS = [
    *(row(name, x, grad=0) for name, x in UNARY.items()),
    *(row(name, x) for name, x in FLAT.items()),
    *(row(name, a, b, grad=(0, 1)) for name, (a, b) in BINARY.items()),
    *(row(name, a, b) for name, (a, b) in BINARY_FLAT.items()),
    row("bitwise_left_shift", J, J, oracle=jnp.left_shift),
    row("bitwise_right_shift", I, J, oracle=jnp.right_shift),
    row("sign", A), row("sign", I), row("absolute", I), row("negative", I), row("square", I),
    row("floor", I, oracle=lambda x: jnp.floor(x.astype("float32"))),
    row("ceil", I, oracle=lambda x: jnp.ceil(x.astype("float32"))),
    row("round", A * 10, decimals=1), row("round", A * 100, decimals=-1),
    row("round", np.array([0.5, 1.5, 2.5, -0.5], "float32")),
    row("round", I * 7, decimals=-1,
        oracle=lambda x, decimals: jnp.round(x / 10).astype(x.dtype) * 10),
    row("absolute", Z), row("real", Z), row("imag", Z), row("conj", Z), row("angle", Z),
    row("nan_to_num", NAN, wide=False), row("nan_to_num", A), row("nan_to_num", NAN, nan=7.0, posinf=1.0, neginf=-1.0),
    row("maximum", NAN, A), row("minimum", NAN, A), row("fmax", NAN, A), row("fmin", A, NAN),
    row("maximum", TIES, 2.0, grad=0, tag="[ties]"),
    row("minimum", 2.0, TIES, grad=1, tag="[ties]"),
    row("add", A, 2), row("subtract", 1.0, A, grad=1), row("divide", 1, A, grad=1),
    row("power", A, 2, grad=0), row("power", 2.0, A, grad=1), row("power", I, 2),
    row("mod", I, 3), row("mod", A, 0.7), row("floor_divide", I, 3), row("floor_divide", A, -0.7),
    row("fmod", I, 3), row("fmod", A, -0.7), row("less", A, 0.5), row("equal", I, 1),
    row("divide", I, J), row("i0", A, grad=0), row("nextafter", A, V, wide=False), row("arctan2", I, J),
    row("divide_no_nan", A, BOOL.astype("float32"), grad=0,
        oracle=lambda a, b: jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))),
    row("ldexp", A, I), row("hypot", np.float32([0, 3]), np.float32([0, 4])),
    row("clip", A, -0.5, 0.5, grad=0), row("clip", A, np.float32(-1.0), V, grad=(0,)),
    row("clip", I, -2, 2), row("clip", A, 0.0, V + 2),
    row("isclose", A, A + 1e-6), row("isclose", NAN, NAN), row("isclose", NAN, NAN, equal_nan=True),
    row("isclose", A, A + 0.01, 1e-5, 0.1),
    row("allclose", A, A), row("allclose", A, B.T[:2]),
    row("isin", I, np.int32([1, 2])), row("isin", I, np.int32([1, 2]), invert=True),
    row("where", BOOL, A, UNIT, grad=(1, 2)), row("where", BOOL, A, 0.0, grad=1),
    row("where", BOOL, 1, I), row("where", BOOL, V, 2), row("where", I, A, UNIT),
    row("select", [BOOL, BOOL2], [A, UNIT], symbolic=False, jit=False,
        oracle=lambda c, x: jnp.select(list(c), list(x), 0)),
    # Reductions
    *(row(name, A, grad=0, **kwargs)
      for name in ("sum", "mean", "var", "std", "prod", "max", "min")
      for kwargs in ({}, {"axis": 1}, {"axis": -1, "keepdims": True})),
    *(row(name, C, grad=0, axis=(0, 2), keepdims=keep)
      for name in ("sum", "mean", "var", "std", "prod", "max", "min") for keep in (False, True)),
    *(row(name, C, keepdims=True) for name in ("sum", "mean", "var", "prod", "max", "argmax")),
    *(row(name, A, axis=1) for name in ("amax", "amin", "ptp")),
    row("sum", C, axis=()), row("sum", C, axis=[0, 1], oracle=lambda x, axis: jnp.sum(x, (0, 1))),
    row("sum", np.array(2.0, "float32")), row("mean", np.array(2.0, "float32")), row("var", np.array(2.0, "float32")),
    row("max", TIES, grad=0, tag="[ties]"), row("max", TIES, axis=1, grad=0, tag="[ties]"), row("min", NAN, axis=0),
    row("max", A, axis=1, initial=0.5), row("min", A, initial=-0.5),
    row("max", np.zeros((0, 3), "float32"), axis=0, initial=0.0, symbolic=False),
    row("prod", I, dtype="float32"), row("mean", I, axis=0), row("var", I, axis=0),
    row("all", BOOL), row("all", BOOL, axis=0), row("any", BOOL, axis=1, keepdims=True),
    row("any", I), row("all", A, axis=(0, 1)),
    *(row(name, x, **kwargs) for name in ("argmax", "argmin") for x in (A, TIES, I)
      for kwargs in ({}, {"axis": 1}, {"axis": 0, "keepdims": True})),
    row("argmax", BOOL, axis=1), row("argmax", HOLES, axis=1, tag="[nan]"), row("argmin", HOLES, axis=1, tag="[nan]"),
    *(row(name, A, grad=0, **kwargs) for name in ("cumsum", "cumprod")
      for kwargs in ({}, {"axis": 1}, {"axis": -2})),
    row("cumsum", I, axis=0, dtype="float32"), row("cumprod", I, axis=1),
    row("count_nonzero", I), row("count_nonzero", I, axis=1), row("count_nonzero", C, axis=(0, 1)),
    row("average", A, grad=0), row("average", A, axis=1, weights=POS, grad=0, unknown=()),
    row("average", A, axis=1, weights=[1.0, 2.0, 3.0],
        oracle=lambda x, axis, weights: jnp.average(x, axis, jnp.array(weights))),
    row("median", A), row("median", C, axis=1, grad=0), row("median", C, axis=(0, 2)),
    row("median", HOLES, axis=1), row("median", A, axis=1, keepdims=True), row("median", I, axis=1),
    *(row("quantile", C, q, axis=1, method=method) for q in (0.3, np.float32([0.1, 0.75]))
      for method in ("linear", "lower", "higher", "midpoint")),
    row("quantile", C, 0.3, keepdims=True), row("quantile", C, 0.3, axis=(0, 2), keepdims=True),
    row("quantile", C, np.float32([[0.1], [0.9]]), axis=-1, unknown=(),
        oracle=lambda x, q, axis: jnp.quantile(x, q[:, 0], axis)[:, None]),
    row("quantile", C, 0.3, axis=1, grad=0), row("percentile", C, 30, axis=1),
    *(row(name, HOLES, **kwargs)
      for name in ("nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin",
                   "nanargmax", "nanargmin", "nanmedian")
      for kwargs in ({}, {"axis": 1}, {"axis": 0, "keepdims": True})),
    *(row(name, I, axis=1) for name in ("nansum", "nanmean", "nanmax", "nanargmax", "nancumsum")),
    row("nanmax", NAN * np.float32(np.nan), axis=0),
    row("nancumsum", HOLES, axis=1), row("nancumprod", HOLES),
    row("nanquantile", HOLES, 0.4, axis=1), row("nanquantile", HOLES, np.float32([0.2, 0.7])),
    row("nanpercentile", HOLES, 40.0, axis=0),
    # Creation
    row("zeros", (2, 3), symbolic=False), row("zeros", 2, dtype="int32", symbolic=False),
    row("ones", (2, 3), dtype="bool", symbolic=False), row("ones", (), symbolic=False),
    row("empty", (2,), symbolic=False, oracle=jnp.zeros),
    row("full", (2,), 7, symbolic=False, oracle=lambda s, v: jnp.full(s, v, "float32")),
    row("full", (2, 3), V, dtype="float32", symbolic=False, unknown=()),
    row("full", (2,), True, dtype="bool", symbolic=False),
    row("zeros_like", A), row("ones_like", I), row("ones_like", I, dtype="float32"),
    row("empty_like", A, oracle=jnp.zeros_like), row("full_like", A, 2), row("full_like", I, 2.7),
    row("full_like", A, V), row("arange", 5, symbolic=False), row("arange", 1, 9, 3, symbolic=False),
    row("arange", 3.0, symbolic=False), row("arange", 5, 0, -2, symbolic=False),
    row("arange", 0, 1, 0.25, symbolic=False), row("arange", 5, dtype="float16", symbolic=False),
    row("linspace", 0, 1, 5, symbolic=False), row("linspace", 2.0, -1.0, 4, symbolic=False),
    row("linspace", 0, 10, 5, endpoint=False, dtype="int32", symbolic=False),
    row("linspace", V, 1.0, 4), row("linspace", V, W, 4, axis=-1, grad=(0, 1)),
    row("linspace", 0, 1, 5, retstep=True, symbolic=False,
        oracle=lambda *a, retstep: (jnp.linspace(*a), jnp.float32(0.25))),
    row("linspace", 3.0, 4.0, 1, symbolic=False),
    row("logspace", 0, 2, 4, symbolic=False), row("geomspace", 1, 1000, 4, symbolic=False),
    row("eye", 3, symbolic=False), row("eye", 2, 4, k=1, dtype="int32", symbolic=False),
    row("eye", 3, k=-1, symbolic=False), row("identity", 3, symbolic=False),
    row("tri", 3, symbolic=False), row("tri", 3, 4, k=1, symbolic=False),
    *(row(name, 5, symbolic=False) for name in ("bartlett", "blackman", "hamming", "hanning")),
    row("kaiser", 5, 3.0, symbolic=False), row("array", [[1, 2]], symbolic=False),
    row("array", A, "float16"),
    # Shapes
    row("reshape", A, (3, 2), grad=0, unknown=()), row("reshape", A, -1),
    row("reshape", C, (-1, 4)), row("ravel", C), row("transpose", C, grad=0),
    row("transpose", C, (1, 0, -1)), row("transpose", C, axes=[2, 0, 1]),
    row("moveaxis", C, 0, -1), row("moveaxis", C, (0, 1), (-1, 0), grad=0),
    row("swapaxes", C, 0, -1), row("expand_dims", A, 1), row("expand_dims", A, -1),
    row("expand_dims", A, (0, -1)), row("squeeze", A[:, None]), row("squeeze", A[:1], unknown=()),
    row("squeeze", A[None, :, None], axis=(0, 2), unknown=()), row("squeeze", A[:, None], axis=1),
    row("broadcast_to", V, (2, 3), grad=0, unknown=()), row("broadcast_to", V[:1], 3, unknown=()),
    row("stack", [A, UNIT], grad=0), row("stack", [A, UNIT], axis=-1),
    row("concatenate", [A, UNIT], axis=1, grad=0), row("concatenate", [A, UNIT]),
    row("concatenate", [I, A]), row("stack", [I, BOOL, A]),
    row("append", A, UNIT, grad=0), row("append", A, UNIT, axis=1), row("append", A, UNIT, axis=0),
    *(row(name, [A, UNIT]) for name in ("hstack", "vstack", "dstack")),
    *(row(name, [V, W]) for name in ("hstack", "vstack", "dstack")),
    row("split", C, 2, axis=2, grad=0), row("split", C, [1, 3], axis=-1),
    row("split", C, [1], axis=0), row("array_split", C, 3, axis=2),
    row("hsplit", C, 3), row("vsplit", C, 2), row("dsplit", C, [1]), row("hsplit", V, 3),
    row("repeat", A, 2, grad=0), row("repeat", A, 2, axis=1), row("repeat", A, [1, 2], axis=0,
        unknown=(), oracle=lambda x, r, axis: jnp.repeat(x, np.array(r), axis)),
    row("tile", A, 2), row("tile", A, (2, 1), grad=0), row("tile", A, (2, 1, 2)),
    row("tile", C, (2,)), row("flip", A), row("flip", A, axis=1, grad=0),
    row("flip", C, axis=(0, -1)), row("flipud", A), row("fliplr", A),
    row("roll", A, 1), row("roll", A, -1, axis=1, grad=0), row("roll", C, (1, 2), axis=(0, 2)),
    row("roll", C, 1, axis=(0, 2)), *(row("rot90", A, k) for k in range(4)),
    row("rot90", C, axes=(1, 2)),
    row("pad", A, 1), row("pad", A, (1, 2)), row("pad", A, ((1, 0), (0, 2)), grad=0),
    row("pad", A, ((1, 0), (0, 2)), constant_values=2.0), row("pad", I, 1, "constant", 3, oracle=lambda x, n, mode, v: jnp.pad(x, n, mode, constant_values=v)),
    *(row("pad", C, ((0, 0), (1, 2), (2, 1)), mode=mode, grad=0, tag=f"[{mode}]")
      for mode in ("edge", "reflect", "symmetric", "wrap")),
    row("meshgrid", V, W[:2]), row("meshgrid", V, W[:2], V[:2], indexing="ij", grad=(0, 1)),
    row("meshgrid", V, W[:2], V[:2]), row("meshgrid", V),
    # Indexing, searching, sorting
    row("nonzero", I, symbolic=False, jit=False),
    row("where", BOOL, symbolic=False, jit=False),
    row("take", A, I % 6, unknown=()), row("take", C, np.int32([1, 0]), axis=0, grad=0),
    row("take", C, np.int32([[0, 2], [1, -1]]), axis=1, grad=0), row("take", C, 1, axis=-1),
    row("take", C, np.int64([1]), axis=2, jit=False, symbolic=False),
    row("take", V, np.int32(1), axis=0), row("take", C, np.uint8([1, 0]), axis=1), row("take", C, [0, 2], axis=-2, unknown=(),
        oracle=lambda x, i, axis: jnp.take(x, jnp.array(i), axis)),
    row("take_along_axis", A, np.int32([[0, 2], [1, -1]]), axis=1, grad=0),
    row("take_along_axis", C, np.int32([[[1]], [[0]]]), axis=0), row("take_along_axis", A, np.int32([1, 5, 0]), oracle=lambda x, i: jnp.take_along_axis(x, i, None)),
    row("take_along_axis", C, np.int32([[[0], [1], [3]]]), axis=2),
    row("take_along_axis", C, np.int32([[[0], [-1]], [[1], [1]]]), axis=1, grad=0),
    *(row(name, x, axis=axis) for name in ("sort", "argsort") for x in (C, TIES, I)
      for axis in (-1, 0, None)),
    row("sort", C, axis=1, grad=0), row("argsort", BOOL), row("sort", BOOL), row("sort", HOLES),
    row("argsort", HOLES), row("argpartition", A, 1, oracle=lambda x, k: jnp.argsort(x)),
    *(row("searchsorted", np.float32([-1, 0, 0, 1]), TIES - 1, side=side, unknown=())
      for side in ("left", "right")),
    row("searchsorted", np.int32([1, 3]), 2, unknown=()),
    row("digitize", A, np.float32([-1, 0, 1])), row("digitize", I, [0, 2],
        oracle=lambda x, b: jnp.digitize(x, jnp.array(b)), unknown=()),
    row("bincount", np.int32([0, 3, 3, 1]), symbolic=False, jit=False),
    row("bincount", np.int32([0, 3, 3, 1]), minlength=6, symbolic=False, jit=False),
    row("bincount", np.int32([0, 3, 3, 1]), weights=np.float32([1, 2, 3, 4]), symbolic=False,
        jit=False),
    row("histogram", A, 4, oracle=lambda x, b: (jnp.histogram(x, b)[0].astype("int32"),
                                                jnp.histogram(x, b)[1])),
    row("histogram", A, 4, (-1.0, 1.0), oracle=lambda x, b, r: (
        jnp.histogram(x, b, r)[0].astype("int32"), jnp.histogram(x, b, r)[1])),
    row("unravel_index", np.int32([0, 5, 3]), (2, 3)),
    row("diff", A), row("diff", C, 2, axis=1, grad=0), row("diff", BOOL), row("diff", I, axis=0),
    row("trapezoid", A, grad=0), row("trapezoid", A, dx=0.5, axis=0),
    row("trapezoid", A, x=np.float32([0, 1, 3])),
    row("vander", V, unknown=()), row("vander", V, 2, increasing=True),
    # Products and matrices
    row("matmul", V, B), row("matmul", A, V), row("matmul", V, W), row("matmul", C, B.T[:, :3]),
    row("matmul", C, C.transpose(0, 2, 1), grad=(0, 1), unknown=(0, 1)), row("matmul", C[0], C.transpose(0, 2, 1)),
    row("matmul", I, I.T), row("dot", C, B.T), row("dot", 2.0, A), row("dot", C, floats(2, 4, 2)),
    row("einsum", "ij,jk->ik", A, B, grad=(1, 2)), row("einsum", "bij,bkj->bik", C, C, unknown=(1, 2)),
    row("einsum", "ii->i", B[:, :3], unknown=()), row("einsum", "ij,jk,k->i", A, B, floats(4)),
    row("einsum", "...j,j", C, floats(4)), row("einsum", "ij,kj->ik", I, J),
    row("tensordot", C, B.T, axes=1, grad=(0, 1)), row("tensordot", C, C, axes=((1, 2), (1, 2))),
    row("tensordot", C, floats(4), axes=([-1], [-1])), row("tensordot", V, W, axes=0),
    row("inner", V, W), row("inner", I, J), row("outer", I, J), row("vdot", Z, Z),
    row("cross", floats(3, 2), floats(3, 2), unknown=()), row("cross", A, UNIT[0, :2]),
    row("cross", A.T, UNIT.T, axis=0),
    row("diag", V, unknown=()), row("diag", V, k=1, unknown=()), row("diag", V, k=-2, unknown=()),
    row("diag", B, k=1, unknown=()), row("diag", B, k=-1, grad=0, unknown=()), row("diagflat", A, unknown=()),
    row("diagonal", C, axis1=1, axis2=2, grad=0), row("diagonal", C, 1, 0, 2, unknown=()), row("diagonal", B, -1, unknown=()),
    row("trace", B, grad=0), row("trace", C, 1, 1, 2), row("trace", I),
    *(row(name, B, grad=0, k=k) for name in ("tril", "triu") for k in (-1, 0, 2)),
    row("tril", C), row("triu", I), row("corrcoef", A), row("corrcoef", V),
    *(row("correlate", floats(5), floats(3), mode=mode) for mode in ("valid", "same", "full")),
    row("correlate", V, floats(5), mode="full"),
    # ops/math.py
    row("erf", A, grad=0, oracle=jsp.erf), row("erfc", A, grad=0, oracle=jsp.erfc),
    row("erfinv", UNIT, grad=0, oracle=jsp.erfinv), row("rsqrt", POS, grad=0, oracle=jax.lax.rsqrt),
    *(row("logsumexp", A, grad=0, oracle=jsp.logsumexp, **kwargs)
      for kwargs in ({}, {"axis": 1}, {"axis": (0, 1), "keepdims": True})),
    row("logsumexp", A * 0 + np.float32([-np.inf, 1000, 0]), axis=0, oracle=jsp.logsumexp),
    row("top_k", C, 2, oracle=lambda x, k: tuple(jax.lax.top_k(x, k)), grad=None),
    row("top_k", I[:, :2] * 2 + np.int32([0, 1]), 1, oracle=lambda x, k: tuple(jax.lax.top_k(x, k))),
    row("in_top_k", np.int32([1, 0]), A, 1, unknown=(0, 1),
        oracle=lambda t, p, k: jnp.argmax(p, -1) == t),
    *(row(f"segment_{name}", A.T, np.int32([0, 2, 0]), 4, grad=0, unknown=(0, 1),
          oracle=getattr(jax.ops, f"segment_{name}")) for name in ("sum", "max", "min")),
    row("segment_prod", A.T, np.int32([0, 2, 0]), 4, oracle=jax.ops.segment_prod),
    row("segment_sum", I.T, np.int32([0, 2, 0]), oracle=lambda d, i: jax.ops.segment_sum(d, i, 3),
        symbolic=False, jit=False),
    row("cdist", A, UNIT, grad=(0, 1), oracle=lambda a, b: jnp.sqrt(
        jnp.sum((a[:, None] - b[None]) ** 2, -1))),
    row("extract_sequences", C, 2, 2, oracle=lambda x, n, s: jnp.stack([x[..., :2], x[..., 2:]], -2)),
    # ops/core.py
    row("cast", A, "int32", oracle=lambda x, d: x.astype(d)),
    row("cast", A, "bool", oracle=lambda x, d: x.astype(d)),
    row("cast", I, "float16", oracle=lambda x, d: x.astype(d)),
    row("stop_gradient", A, oracle=jax.lax.stop_gradient),
    row("saturate_cast", A * 200, "uint8", oracle=lambda x, d: jnp.clip(x, 0, 255).astype(d)),
    row("saturate_cast", A * 1e10, "int32", oracle=lambda x, d: jnp.clip(
        x, -(2.0**31), np.nextafter(np.float32(2**31), np.float32(0))).astype(d)),
    row("saturate_cast", I * 100, "int8", oracle=lambda x, d: jnp.clip(x, -128, 127).astype(d)),
    row("slice", C, [0, 1, 2], [2, 2, 1], grad=0, unknown=(),
        oracle=lambda x, i, s: x[0:2, 1:3, 2:3]),
    row("slice", C, [0, 2, 2], [2, 2, 1], unknown=(), oracle=lambda x, i, s: x[0:2, 1:3, 2:3]),
    row("slice_update", C, [0, 1, 2], C[:, :2, :1] * 2, grad=(0, 2), unknown=(),
        oracle=lambda x, i, u: x.at[0:2, 1:3, 2:3].set(u)),
    row("scatter", np.int32([[0], [2], [2]]), floats(3, 2), (4, 2), grad=1, unknown=(0, 1),
        oracle=lambda i, v, s: jnp.zeros(s).at[i[:, 0]].add(v)),
    *(row("scatter_update", C, np.int32([[0, 1], [1, -1]]), floats(2, 4), reduction=name,
          grad=None if name == "mul" else (0, 2),
          unknown=(1, 2), oracle=lambda x, i, u, reduction, name=name:
          getattr(x.at[i[:, 0], i[:, 1]], {"mul": "multiply", None: "set"}.get(name, name))(u))
      for name in (None, "add", "mul", "max", "min")),
    row("scatter_update", A, np.int32([[0, 1], [0, 1]]), np.float32([3.0, 4.0]), reduction="add",
        oracle=lambda x, i, u, reduction: x.at[0, 1].add(7.0)),
    row("unstack", C, axis=1, oracle=lambda x, axis: list(jnp.unstack(x, axis=axis))),
]  # fmt: skip

_KEYS = {
    "number": 1, "negative": -1, "slice": slice(1, None), "step": slice(None, None, 2),
    "backwards": slice(None, None, -1), "ellipsis": (..., 0), "new": (None, 1),
    "mixed": (1, ..., slice(None, 2)), "backwards_mixed": (0, slice(None, None, -2), None, ...),
    "array": (slice(None), np.int32([0, 2])), "two_arrays": (np.int32([0, 1]), np.int32([1, 2])),
    "apart": (np.int32([0, 1]), slice(None), np.int32([3, 0])), "behind": (..., np.int32([[0], [1]])),
    "later": (slice(None), np.int32([0, 2]), np.int32([-1, 0])), "list": ([1, 0],),
    "number_and_array": (1, slice(None), np.int32([0, 2])),
}  # fmt: skip
ROWS += [
    row("get_item", C, key, grad=0, unknown=(), oracle=lambda x, k: jnp.asarray(x)[
        tuple(np.asarray(i) if isinstance(i, list) else i for i in k)
        if isinstance(k, tuple) else k])
    for key in _KEYS.values()
]  # fmt: skip
