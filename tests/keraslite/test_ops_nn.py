"""Every op of ops/nn.py on every backend, against jax.nn, lax, plain definitions, and Keras."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import keras
import numpy as np
import ops_cases
import pytest
from backends import TRAINABLE
from jax import lax
from jax import nn as jnn
from ops_cases import (
    assert_gradient,
    assert_graph,
    assert_symbolic,
    assert_value,
    by_op,
    check,
)

import keraslite
from keraslite import ops, tree
from keraslite.ops import attention, nn

rng = np.random.default_rng(0)
HALVES = ("float16", "bfloat16")


def floats(*shape, low=-3.0, high=3.0):
    return rng.uniform(low, high, shape).astype("float32")


VALUE = {"only_value": True}  # rows on numerics alone
_only_value, _no_graph = set(), set()


def row(op, *args, only_value=False, graph=True, **options):
    """A row of the table; `graph` says whether it can do without static sizes in TensorFlow."""
    case = ops_cases.row(op, *args, **options)
    if only_value:
        _only_value.add(id(case))
    if not graph:
        _no_graph.add(id(case))
    return case


def half(x, name="bfloat16"):
    return np.asarray(jnp.asarray(x).astype(name))


def wide(fn):
    """An oracle that computes in float32 and returns the dtype of its first float argument."""

    def call(*args, **kwargs):
        halves = [x.dtype for x in args if getattr(x, "dtype", None) in ("float16", jnp.bfloat16)]
        if not halves:  # widened already
            return fn(*args, **kwargs)
        name = halves[0]
        args = [x.astype("float32") if getattr(x, "dtype", None) == name else x for x in args]
        return jax.tree.map(lambda x: x.astype(name), fn(*args, **kwargs))

    return call


# ---- activations ----

X = floats(4, 6)
CUBE = floats(2, 3, 4)
KINK = np.array([-6.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0], "float32")
FAR = np.array([-1e4, -200.0, -30.0, 30.0, 200.0, 1e4], "float32")


_PLAIN = {
    "relu": jnn.relu, "relu6": jnn.relu6, "sigmoid": jnn.sigmoid, "softplus": jnn.softplus,
    "sparse_sigmoid": jnn.sparse_sigmoid, "softsign": jnn.soft_sign, "silu": jnn.silu,
    "swish": jnn.silu, "log_sigmoid": jnn.log_sigmoid, "hard_sigmoid": jnn.hard_sigmoid,
    "hard_silu": jnn.hard_silu, "hard_swish": jnn.hard_silu, "elu": jnn.elu, "selu": jnn.selu,
    "celu": jnn.celu, "glu": jnn.glu, "gelu": jnn.gelu, "tanh_shrink": lambda x: x - jnp.tanh(x),
    "hard_tanh": jnn.hard_tanh, "squareplus": jnn.squareplus, "sparse_plus": jnn.sparse_plus,
    "softmax": jnn.softmax, "log_softmax": jnn.log_softmax,
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.2 * x),
    "hard_shrink": lambda x: jnp.where(jnp.abs(x) > 0.5, x, 0.0),
    "soft_shrink": lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0.0),
}  # fmt: skip


def simplex(x, axis=-1):
    """The projection onto the simplex by bisection of its threshold."""
    low, high = jnp.max(x, axis, keepdims=True) - 1, jnp.max(x, axis, keepdims=True)
    fixed = lax.stop_gradient(x)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        over = jnp.sum(jnp.maximum(fixed - middle, 0), axis, keepdims=True) > 1
        return jnp.where(over, middle, low), jnp.where(over, high, middle)

    low, _ = lax.fori_loop(0, 40, halve, lax.stop_gradient((low, high)))
    support = lax.stop_gradient((x > low).astype(x.dtype))
    tau = (jnp.sum(x * support, axis, keepdims=True) - 1) / jnp.sum(support, axis, keepdims=True)
    return (x - tau) * support


ACTIVATIONS = [
    *(row(name, X, oracle=fn, grad=0) for name, fn in _PLAIN.items()),
    *(row(name, FAR, oracle=fn, grad=0, **VALUE) for name, fn in _PLAIN.items()
      if name not in ("squareplus", "softmax", "log_softmax", "glu", "swish", "hard_swish")),
    *(row(name, half(X), oracle=wide(fn), **VALUE) for name, fn in _PLAIN.items()),
    row("relu", KINK, oracle=jnn.relu, grad=0),
    row("relu", np.array([-1, 0, 2], "int32"), oracle=jnn.relu),
    row("relu6", np.array([-1, 0, 9], "int32"), oracle=lambda x: jnp.clip(x, 0, 6)),
    row("sigmoid", np.array([-1, 0, 2], "int32"),
        oracle=lambda x: jnn.sigmoid(x.astype("float32"))),
    row("leaky_relu", X, 0.1, oracle=lambda x, s: jnp.where(x > 0, x, s * x), grad=0),
    row("elu", X, 0.5, oracle=jnn.elu, grad=0),
    row("celu", X, 0.5, oracle=jnn.celu, grad=0),
    row("gelu", X, False, oracle=lambda x, a: jnn.gelu(x, approximate=a), grad=0),
    row("gelu", FAR, False, oracle=lambda x, a: jnn.gelu(x, approximate=a), grad=0),
    row("glu", X, 0, oracle=jnn.glu, grad=0),
    row("threshold", np.asarray(X[0, 0]), -0.5, 0.0, oracle=lambda x, t, v: jnp.where(x > t, x, v)),
    row("threshold", CUBE[:, :0], 1.0, 7.0, oracle=lambda x, t, v: jnp.where(x > t, x, v)),
    row("threshold", X, 1.0, 0.25, oracle=lambda x, t, v: jnp.where(x > t, x, v), grad=0),
    row("hard_shrink", X, 1.0, oracle=lambda x, t: jnp.where(jnp.abs(x) > t, x, 0), grad=0),
    row("soft_shrink", X, 1.0, grad=0,
        oracle=lambda x, t: jnp.sign(x) * jnp.maximum(jnp.abs(x) - t, 0)),
    row("squareplus", X, 2.0, oracle=lambda x, b: (x + jnp.sqrt(x * x + b)) / 2, grad=0),
    *(row(name, CUBE, axis=axis, oracle=fn, grad=0)
      for name, fn in (("softmax", jnn.softmax), ("log_softmax", jnn.log_softmax))
      for axis in (0, 1, (1, 2), (0, -1), None)),
    row("softmax", FAR, oracle=jnn.softmax, grad=0),
    row("log_softmax", FAR, oracle=jnn.log_softmax, grad=0, rtol=1e-5),
    row("sparsemax", X, oracle=simplex, grad=0),
    row("sparsemax", CUBE, 1, oracle=simplex, grad=0),
    row("sparsemax", CUBE * 0.1, -2, oracle=simplex, grad=0),
]  # fmt: skip

# ---- codes of classes ----

LABELS = np.array([[0, 2, 5], [-1, 4, 7]], "int32")


def hot(x, n, axis=-1, dtype="float32"):
    return jnn.one_hot(x, n, axis=axis, dtype=dtype)


CODES = [
    row("one_hot", LABELS, 6, oracle=hot),
    row("one_hot", LABELS.astype("int64"), 6, 0, oracle=hot),
    row("one_hot", LABELS.astype("uint8"), 6, 1, "int32", oracle=hot),
    row("one_hot", LABELS[:, 0], 6, -2, "bool", oracle=hot),
    row("one_hot", LABELS.astype("float32"), 6, oracle=lambda x, n: hot(x.astype("int32"), n)),
    row("multi_hot", LABELS, 6, oracle=lambda x, n: jnp.max(hot(x, n), axis=1)),
    row("multi_hot", LABELS[0], 6, oracle=lambda x, n: jnp.max(hot(x, n), axis=0)),
]

# ---- losses ----

CHANCES, SHARES = floats(3, 5, low=0.02, high=0.98), rng.dirichlet(np.ones(5), 3).astype("float32")
CERTAIN = np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.25]], "float32")
CLASSES = np.array([0, 4, 2], "int32")
LOGITS = floats(3, 5)
EPS = 1e-7


def bce(t, x, from_logits=False):
    if from_logits:
        return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))
    x = jnp.clip(x, EPS, 1 - EPS)
    return -(t * jnp.log(x) + (1 - t) * jnp.log(1 - x))


def logs(x, from_logits, axis):
    if from_logits:
        return jnn.log_softmax(x, axis)
    return jnp.log(jnp.clip(x / jnp.sum(x, axis, keepdims=True), EPS, 1 - EPS))


def cce(t, x, from_logits=False, axis=-1):
    return -jnp.sum(t * logs(x, from_logits, axis), axis)


def scce(t, x, from_logits=False, axis=-1):
    return cce(jnn.one_hot(t, x.shape[axis], axis=axis), x, from_logits, axis)


_TALL = np.moveaxis(floats(2, 3, 4, 5), -1, 1)  # classes along axis 1
_MANY = rng.integers(0, 5, (2, 3, 4)).astype("int64")
LOSSES = [
    row("binary_crossentropy", SHARES, CHANCES, oracle=bce, grad=(0, 1)),
    row("binary_crossentropy", SHARES, LOGITS, True, oracle=bce, grad=(0, 1)),
    row("binary_crossentropy", CERTAIN, CERTAIN, oracle=bce, rtol=1e-4),
    row("binary_crossentropy", CERTAIN.repeat(2, 1), FAR[None].repeat(2, 0), True, oracle=bce,
        grad=1),
    row("binary_crossentropy", (SHARES > 0.2).astype("int32"), CHANCES, oracle=bce, grad=1),
    row("binary_crossentropy", half(SHARES), half(LOGITS), True, oracle=wide(bce), **VALUE),
    row("categorical_crossentropy", SHARES, CHANCES, oracle=cce, grad=(0, 1)),
    row("categorical_crossentropy", SHARES, LOGITS, True, oracle=cce, grad=(0, 1)),
    row("categorical_crossentropy", SHARES, LOGITS * 1e4, True, oracle=cce, grad=1, **VALUE),
    row("categorical_crossentropy", SHARES, LOGITS, True, 0, oracle=cce, grad=(0, 1)),
    row("categorical_crossentropy", SHARES, CHANCES, False, 0, oracle=cce, grad=(0, 1)),
    row("categorical_crossentropy", half(SHARES), half(LOGITS), True, oracle=wide(cce), **VALUE),
    row("categorical_crossentropy", half(SHARES, "float16"), half(CHANCES, "float16"),
        oracle=wide(cce), **VALUE),
    row("sparse_categorical_crossentropy", CLASSES, CHANCES, oracle=scce, grad=(1,)),
    row("sparse_categorical_crossentropy", CLASSES, LOGITS, True, oracle=scce, grad=(1,)),
    row("sparse_categorical_crossentropy", CLASSES[:, None], LOGITS, True, grad=(1,), graph=False,
        oracle=lambda t, x, f: scce(t[:, 0], x, f)),
    row("sparse_categorical_crossentropy", CLASSES.astype("float32"), LOGITS, True, grad=(1,),
        oracle=lambda t, x, f: scce(t.astype("int32"), x, f)),
    row("sparse_categorical_crossentropy", _MANY, _TALL, True, 1, oracle=scce, grad=(1,)),
    row("sparse_categorical_crossentropy", _MANY, np.exp(_TALL), False, 1, oracle=scce, grad=(1,)),
    row("sparse_categorical_crossentropy", np.array(3, "int32"), LOGITS[0], True, oracle=scce,
        grad=(1,)),
    row("sparse_categorical_crossentropy", np.array([-1, 4, 9], "int32"), LOGITS, True, oracle=scce,
        grad=(1,)),
    row("sparse_categorical_crossentropy", CLASSES, half(LOGITS), True, oracle=wide(scce), **VALUE),
    *(row("psnr", a, b, top, grad=(0, 1),
          oracle=lambda a, b, m: 20 * jnp.log10(m) - 10 * jnp.log10(jnp.mean((a - b) ** 2)))
      for a, b, top in ((X, X + 0.5 * np.roll(X, 1), 4.0), (CUBE, CUBE[::-1].copy(), 1.0),
                        (X[0], X[1], 255.0))),
]  # fmt: skip

# ---- normalisations ----

OFFSET = CUBE + 5.0
G4, B4, M4 = floats(4), floats(4), floats(4)
V4 = floats(4, low=0.1, high=3.0)
G34, B34 = floats(3, 4), floats(3, 4)


def moment(x, axes, keepdims=False):
    return jnp.mean(x, axes, keepdims=keepdims), jnp.var(x, axes, keepdims=keepdims)


def bn(x, m, v, axis, offset=None, scale=None, epsilon=1e-3):
    s = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
    out = (x - m.reshape(s)) / jnp.sqrt(v.reshape(s) + epsilon)
    out = out if scale is None else out * scale.reshape(s)
    return out if offset is None else out + offset.reshape(s)


def ln(x, gamma=None, beta=None, axis=-1, epsilon=EPS, rms_scaling=False):
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    s = [d if a in [b % x.ndim for b in axes] else 1 for a, d in enumerate(x.shape)]
    mean = 0 if rms_scaling else jnp.mean(x, axes, keepdims=True)
    out = (x - mean) / jnp.sqrt(jnp.var(x, axes, keepdims=True) + epsilon)
    out = out if gamma is None else out * gamma.reshape(s)
    return out if beta is None or rms_scaling else out + beta.reshape(s)


def rms(x, scale=None, axis=-1, epsilon=EPS):
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    s = [d if a in [b % x.ndim for b in axes] else 1 for a, d in enumerate(x.shape)]
    out = x / jnp.sqrt(jnp.mean(x * x, axes, keepdims=True) + epsilon)
    return out if scale is None else out * scale.reshape(s)


def unit(x, axis=-1, order=2, epsilon=EPS):
    norm = jnp.sum(jnp.abs(x) ** order, axis, keepdims=True) ** (1 / order)
    return x / jnp.maximum(norm, epsilon)


def batch(x, scale=None, offset=None, axis=-1, epsilon=1e-3):
    axes = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    m, v = moment(x, axes)
    out = bn(x, m, v, axis, offset, scale, epsilon)
    return out, lax.stop_gradient(m), lax.stop_gradient(v)


def groups(x, scale=None, offset=None, groups=32, axis=-1, epsilon=1e-3, activation=None):
    x = jnp.moveaxis(x, axis, -1)
    split = x.reshape(*x.shape[:-1], groups, -1)
    m, v = moment(split, (*range(1, x.ndim - 1), x.ndim), True)
    out = ((split - m) * lax.rsqrt(v + epsilon)).reshape(x.shape)
    out = out if scale is None else out * scale
    out = out if offset is None else out + offset
    out = out if activation is None else jax.nn.silu(out)
    return jnp.moveaxis(out, -1, axis)


NORMS = [
    row("moments", OFFSET, (0, 1), oracle=moment, grad=0),
    row("moments", OFFSET, [1], True, oracle=moment, grad=0, graph=False),
    row("moments", OFFSET, -1, oracle=moment, grad=0),
    row("moments", half(OFFSET), (0, 1), oracle=wide(moment), **VALUE),
    row("moments", half(CUBE * 100, "float16"), (0, 1), oracle=wide(moment), **VALUE),
    row("batch_normalization", CUBE, M4, V4, -1, oracle=bn, grad=(0, 1, 2)),
    row("batch_normalization", CUBE, M4, V4, 2, B4, G4, 1e-5, oracle=bn, grad=(0, 1, 2, 4, 5)),
    row("batch_normalization", CUBE, M4[:3], V4[:3], 1, None, G4[:3], oracle=bn, grad=(0, 5)),
    row("batch_normalization", half(CUBE), M4, V4, -1, B4, G4, oracle=wide(bn), **VALUE),
    row("normalize_batch", OFFSET, oracle=batch, grad=0),
    row("normalize_batch", OFFSET, G4, B4, oracle=batch, grad=(0, 1, 2), rtol=2e-5, atol=2e-6),
    row("normalize_batch", OFFSET[None], G4, None, -1, 1e-6, oracle=batch, grad=(0, 1), rtol=5e-5,
        atol=5e-6),
    row("normalize_batch", OFFSET[0], G4, B4, oracle=batch, grad=(0, 1, 2), rtol=2e-5, atol=2e-6),
    row("normalize_batch", OFFSET, G4[:3], B4[:3], 1, oracle=batch, grad=(0, 1, 2), rtol=2e-5,
        atol=2e-6),
    row("normalize_groups", CUBE, groups=2, oracle=groups, grad=0),
    row("normalize_groups", CUBE[None], G4, B4, 2, oracle=groups, grad=(0, 1, 2)),
    row("normalize_groups", CUBE[None], G4[:3], B4[:3], 3, 2, oracle=groups, grad=(0, 1, 2)),
    row("normalize_groups", half(CUBE[None]), G4, B4, 4, -1, 1e-2, oracle=wide(groups), **VALUE),
    row("normalize_groups", CUBE[None], G4, B4, 2, activation="silu", oracle=groups, grad=(0, 1, 2)),
    row("normalize_groups", CUBE, groups=2, activation="silu", oracle=groups, grad=0),
    row("layer_normalization", OFFSET, oracle=ln, grad=0, rtol=5e-5, atol=5e-6),
    row("layer_normalization", CUBE, G4, B4, oracle=ln, grad=(0, 1, 2)),
    row("layer_normalization", CUBE, G34, B34, (1, 2), 1e-3, oracle=ln, grad=(0, 1, 2)),
    row("layer_normalization", CUBE, G4[:3], B4[:3], 1, oracle=ln, grad=(0, 1, 2)),
    row("layer_normalization", CUBE, G34.reshape(2, 6)[:, :4], None, [0, 2], oracle=ln,
        grad=(0, 1)),
    row("layer_normalization", CUBE, G4, None, oracle=ln, grad=0, rms_scaling=True),
    row("layer_normalization", half(OFFSET), half(G4), half(B4), oracle=wide(ln), **VALUE),
    row("layer_normalization", half(OFFSET), G4, B4, oracle=wide(ln), **VALUE),
    row("layer_normalization", half(OFFSET * 1000, "float16"), oracle=wide(ln), **VALUE),
    row("rms_normalization", CUBE, oracle=rms, grad=0),
    row("rms_normalization", CUBE, G4, -1, 1e-3, oracle=rms, grad=(0, 1)),
    row("rms_normalization", CUBE, G34, (1, 2), oracle=rms, grad=(0, 1)),
    row("rms_normalization", CUBE, G4[:3], 1, oracle=rms, grad=(0, 1)),
    row("rms_normalization", half(CUBE * 1000, "float16"), half(G4, "float16"), oracle=wide(rms),
        **VALUE),
    row("normalize", CUBE, oracle=unit, grad=0),
    row("normalize", CUBE, (0, 1), oracle=unit, grad=0),
    row("normalize", CUBE, 1, 1, oracle=unit, grad=0),
    row("normalize", CUBE, 1, 3, oracle=unit, grad=0),
    row("normalize", half(CUBE * 1000, "float16"), oracle=wide(unit), **VALUE),
]  # fmt: skip

# ---- products ----

K46, B6 = floats(4, 6), floats(6)


def affine(x, w, b=None, activation=None):
    out = jnp.matmul(x, w, precision="highest")
    out = out if b is None else out + b
    exact = lambda v: jnn.gelu(v, approximate=False)  # noqa: E731
    return {None: lambda v: v, "relu": jnn.relu, "gelu": exact}[activation](out)


PRODUCTS = [
    row("linear", CUBE, K46, oracle=affine, grad=(0, 1)),
    row("linear", CUBE, K46, B6, oracle=affine, grad=(0, 1, 2)),
    row("linear", CUBE[0], K46, B6, "relu", oracle=affine, grad=(0, 1, 2)),
    row("linear", CUBE[None], K46, None, "gelu", oracle=affine, grad=(0, 1)),
    row("linear", half(CUBE), half(K46), half(B6), "gelu", oracle=wide(affine), **VALUE),
    row("linear", CUBE[0], K46.T.copy().T, B6, oracle=affine),
]

# ---- rearrangements ----

IMAGE = floats(2, 4, 6, 8)


def deep(x, b):
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * b, w * b, c // b**2)


def fold_in(x, b, data_format=None):
    x = x.transpose(0, 2, 3, 1) if data_format == "channels_first" else x
    n, h, w, c = x.shape
    x = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, h // b, w // b, c * b * b)
    return x.transpose(0, 3, 1, 2) if data_format == "channels_first" else x


def patches(x, kernel_size, dilation=1, padding=0, stride=1):
    pair = lambda v: (v, v) if isinstance(v, int) else v  # noqa: E731
    out = lax.conv_general_dilated_patches(
        x, pair(kernel_size), pair(stride), [(p, p) for p in pair(padding)],
        rhs_dilation=pair(dilation),
    )  # fmt: skip
    return out.reshape(*out.shape[:2], -1)


def refold(x, size, *args):
    _, back = jax.vjp(lambda y: patches(y, *args), jnp.zeros((x.shape[0], 2, *size), x.dtype))
    return back(x)[0]


_SLIDES = [(3, 1, 0, 1), ((3, 2), 1, 1, 2), (2, 2, 1, 1), (2, 1, 0, 3), (2, (1, 2), (1, 0), (2, 1))]
REARRANGED = [
    row("depth_to_space", IMAGE, 2, oracle=deep, grad=0),
    row("depth_to_space", IMAGE.transpose(0, 3, 1, 2), 2, "channels_first", grad=0,
        oracle=lambda x, b, f: deep(x.transpose(0, 2, 3, 1), b).transpose(0, 3, 1, 2), graph=False),
    row("space_to_depth", np.asarray(deep(IMAGE, 2)), 2, grad=0, oracle=fold_in),
    *(row("unfold", IMAGE[:, :2], *s, oracle=patches, grad=0, graph=False) for s in _SLIDES),
    *(row("fold", np.asarray(patches(jnp.asarray(IMAGE[:, :2]), *s)), (6, 8), *s, oracle=refold,
          grad=0, graph=False) for s in _SLIDES),
    *(row("polar", a, b, oracle=lambda a, b: a * jnp.exp(1j * b))
      for a, b in ((np.abs(X), X), (np.abs(X[:, :1]), X[0]), (X[:0], X[:0]))),
    *(row(name, X[:0], oracle=jnn.silu if name == "swish" else jnn.hard_silu)
      for name in ("swish", "hard_swish")),
    row("depth_to_space", IMAGE[..., :4], 2, oracle=deep),
    *(row("space_to_depth", x, 2, *more, oracle=lambda x, b, *f: fold_in(x, b, *f), graph=not more)
      for x, *more in ((IMAGE[:, :, :, :3],), (IMAGE.transpose(0, 3, 1, 2), "channels_first"))),
]  # fmt: skip

# ---- convolutions, pools ----

_SPATIAL = ("W", "HW", "DHW")
SIZES = (9, 8, 7)


def image(rank, channels=4):
    return np.random.default_rng(rank).normal(size=(2, *SIZES[:rank], channels)).astype("float32")


def kernel(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


def conv(x, w, strides=1, padding="valid", data_format=None, dilation_rate=1):
    rank = x.ndim - 2
    s = _SPATIAL[rank - 1]
    each = lambda v: (v,) * rank if isinstance(v, int) else v  # noqa: E731
    last = data_format != "channels_first"
    layout = f"N{s}C" if last else f"NC{s}"
    return lax.conv_general_dilated(
        x, w, each(strides), padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=each(dilation_rate), dimension_numbers=(layout, f"{s}IO", layout),
        feature_group_count=x.shape[-1 if last else 1] // w.shape[-2], precision="highest",
    )  # fmt: skip


def depthwise(x, w, *args):
    return conv(x, w.reshape(*w.shape[:-2], 1, -1), *args)


def separable(x, w, p, *args):
    return conv(depthwise(x, w, *args), p)


def windows(kind, x, pool_size, strides=None, padding="valid", data_format=None):
    rank = x.ndim - 2
    each = lambda v: (v,) * rank if isinstance(v, int) else v  # noqa: E731
    size, steps = each(pool_size), each(strides or pool_size)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], size, steps, padding.upper())
    args = ((1, *size, 1), (1, *steps, 1), ((0, 0), *padding, (0, 0)))
    if kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, *args)
    count = lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *args)
    return lax.reduce_window(x, 0.0, lax.add, *args) / count


def adaptive(reduce, x, output_size, data_format=None):
    for axis, count in zip(range(1, x.ndim - 1), output_size, strict=True):
        n = x.shape[axis]
        parts = [
            lax.slice_in_dim(x, i * n // count, -(-(i + 1) * n // count), axis=axis)
            for i in range(count)
        ]
        x = jnp.concatenate([reduce(p, axis=axis, keepdims=True) for p in parts], axis)
    return x


_CONVS = [  # strides, padding, dilation, groups
    (1, "valid", 1, 1), (1, "same", 1, 1), (2, "same", 1, 1), (3, "valid", 1, 1), (1, "same", 2, 1),
    (2, "same", 2, 1), (2, "same", 1, 2), (1, "valid", 1, 4), (2, "valid", 2, 4),
]  # fmt: skip
_ODD = ((3,), (3, 2), (2, 3, 2))
_POOLS = [(2, None, "valid"), (3, 1, "same"), (3, 2, "same"), (2, 3, "valid")]
MAX, MEAN = functools.partial(windows, "max"), functools.partial(windows, "average")
_PAIRS = ((1, 1), (0, 2))
WINDOWS = [
    *(row("conv", image(r), kernel(*_ODD[r - 1], 4 // g, 8), s, p, None, d, oracle=conv,
          grad=(0, 1) if r < 3 or g * d == 1 else None, rtol=3e-5, atol=1e-5, graph=False)
      for r in (1, 2, 3) for s, p, d, g in (_CONVS if r == 2 else _CONVS[2:7:2])),
    row("conv", image(2), kernel(3, 3, 4, 6), (2, 1), _PAIRS, oracle=conv, grad=(0, 1), graph=False,
        rtol=3e-5, atol=1e-5),
    row("conv", image(2), kernel(1, 1, 4, 6), oracle=conv, grad=(0, 1), graph=False, atol=1e-5),
    row("conv", image(2), kernel(1, 1, 4, 6), 2, "same", oracle=conv, grad=(0, 1), graph=False,
        atol=1e-5),
    row("conv", image(2).transpose(0, 3, 1, 2), kernel(3, 3, 4, 6), 1, "same", "channels_first",
        oracle=conv, grad=(0, 1), graph=False, rtol=3e-5, atol=1e-5),
    row("conv", image(2, 48), kernel(3, 3, 48, 80), 1, "same", oracle=conv, grad=(0, 1),
        graph=False, rtol=1e-4, atol=1e-4),
    row("conv", image(1, 96), kernel(4, 96, 90), oracle=conv, graph=False, rtol=1e-4, atol=1e-4),
    row("conv", half(image(2)), half(kernel(3, 3, 4, 6)), oracle=wide(conv), **VALUE),
    *(row("depthwise_conv", image(2), kernel(3, 3, 4, 2), s, p, None, d, oracle=depthwise,
          grad=(0, 1), graph=False, atol=1e-5)
      for s, p, d in ((1, "same", 1), (2, "valid", 1), ((1, 2), "same", 1), (1, "same", 2),
                      (2, "same", 2))),
    row("depthwise_conv", image(1), kernel(3, 4, 1), 2, "same", oracle=depthwise, grad=(0, 1),
        graph=False, atol=1e-5),
    *(row("separable_conv", image(2), kernel(3, 3, 4, 2), kernel(1, 1, 8, 5), stride, padding,
          oracle=separable, grad=(0, 1, 2), graph=False, rtol=3e-5, atol=1e-5)
      for stride, padding in ((2, "same"), (1, "valid"), (1, "same"))),
    *(row(name, image(r), *p, oracle=fn, grad=0 if r == 2 else None, graph=False)
      for name, fn in (("max_pool", MAX), ("average_pool", MEAN)) for r in (1, 2, 3)
      for p in (_POOLS if r == 2 else _POOLS[1:3])),
    row("max_pool", image(2), (2, 3), 2, _PAIRS, oracle=MAX, grad=0, graph=False),
    row("average_pool", image(2), (2, 3), 2, _PAIRS, oracle=MEAN, grad=0, graph=False),
    row("max_pool", half(image(2)), 3, 2, "same", oracle=wide(MAX), **VALUE),
    row("average_pool", half(image(2)), 3, 2, "same", oracle=wide(MEAN), **VALUE),
    *(row(f"adaptive_{name}_pool", image(rank), size, grad=0 if rank == 2 else None, graph=False,
          oracle=functools.partial(adaptive, fn))
      for name, fn in (("average", jnp.mean), ("max", jnp.max))
      for rank, size in ((2, (3, 5)), (1, (4,)), (2, (1, 1)))),
]  # fmt: skip

# ---- attention ----


def attend(q, k, v, bias=None, mask=None, scale=None, is_causal=False, flash=None, cap=None):
    """The definition, in float64 where jax allows it."""
    groups = q.shape[2] // k.shape[2]
    k, v = jnp.repeat(k, groups, 2), jnp.repeat(v, groups, 2)
    x = jnp.einsum("btnh,bsnh->bnts", q, k, precision="highest")
    x = x * (scale or 1 / math.sqrt(q.shape[-1]))
    x = x if cap is None else cap * jnp.tanh(x / cap)
    x = x if bias is None else x + bias
    seen = jnp.ones(x.shape, bool) if mask is None else jnp.broadcast_to(mask, x.shape)
    seen = seen & jnp.tri(*x.shape[-2:], dtype=bool) if is_causal else seen
    weights = jnn.softmax(jnp.where(seen, x, -1e30), -1)
    return jnp.einsum("bnts,bsnh->btnh", weights, v, precision="highest")


Q, KEY, VALUES = floats(2, 5, 4, 8), floats(2, 7, 4, 8), floats(2, 7, 4, 6)
BIAS = floats(1, 4, 5, 7)
SEEN = rng.random((2, 1, 5, 7)) > 0.4
SEEN[..., 0] = True
NOTHING = SEEN.copy()
NOTHING[0, 0, 2] = False
ATTENTION = [
    row("dot_product_attention", Q, KEY, *rest, oracle=attend, grad=grad, graph=False)
    for *rest, grad in [
        (VALUES, (0, 1, 2)),
        (VALUES, BIAS, None),
        (VALUES, None, SEEN, (0, 1, 2)),
        (VALUES, None, SEEN[:, :, :1], None),
        (VALUES, None, SEEN[0, 0], None),
        (VALUES, BIAS, SEEN, 0.3, (0, 1, 2, 3)),
        (VALUES, None, None, None, True, (0, 1, 2)),
        (VALUES, None, SEEN, None, True, None),
        (VALUES, BIAS, None, None, True, (0, 1, 2, 3)),
        (VALUES, None, NOTHING, None),  # a row that sees nothing is the mean, also with causality
        (VALUES, BIAS, NOTHING, None, True, None),
        (VALUES, None, SEEN, None, False, False, None),
        (VALUES, BIAS, SEEN, None, True, None, 2.0, (0, 1, 2, 3)),
    ]
]  # fmt: skip
ATTENTION += [
    row("dot_product_attention", Q, KEY[:, :, :heads], VALUES[:, :, :heads], None, SEEN,
        oracle=attend, grad=(0, 1, 2) if heads == 2 else None, graph=False) for heads in (1, 2)
]  # fmt: skip
ATTENTION += [
    row("dot_product_attention", Q, KEY[:, :, :2], VALUES[:, :, :2], BIAS, SEEN, None, True, False,
        oracle=attend, grad=(0, 1, 2), graph=False),
    row("dot_product_attention", half(Q), half(KEY), half(VALUES), None, SEEN,
        oracle=wide(attend), **VALUE),
    row("dot_product_attention", half(Q, "float16"), half(KEY, "float16"), half(VALUES, "float16"),
        None, SEEN, oracle=wide(attend), rtol=1e-2, atol=1e-2, **VALUE),
]  # fmt: skip

ROWS = [*ACTIVATIONS, *CODES, *LOSSES, *NORMS, *PRODUCTS, *REARRANGED, *WINDOWS, *ATTENTION]


@pytest.fixture(autouse=True, scope="module")
def _compile_quickly():
    """XLA's optimizer takes most of the time of these tests, and changes nothing they assert."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("cases", by_op(ROWS))
def test_values(cases, backend):
    check(assert_value, cases, backend)


@pytest.mark.parametrize("cases", by_op([r for r in ROWS if r.grad]))
def test_gradients(cases, backend):
    if backend in TRAINABLE:
        check(assert_gradient, cases, backend, ".grad")


@pytest.mark.parametrize("cases", by_op([r for r in ROWS if id(r) not in _only_value]))
def test_symbolic(cases, backend):
    check(assert_symbolic, cases, backend, ".symbolic")


@pytest.mark.parametrize("cases", by_op([r for r in ROWS if id(r) not in _only_value | _no_graph]))
def test_graph_with_unknown_sizes(cases, backend):
    if backend == "tensorflow":
        check(assert_graph, cases, backend, ".graph")


# ---- what the rows do not reach ----


def gradient(fn, backend, positions=0):
    """`ops.grad`, under JAX as one program rather than one an op."""
    return jax.jit(ops.grad(fn, positions)) if backend == "jax" else ops.grad(fn, positions)


def of(backend, *arrays):
    return [keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x for x in arrays]


NAMES = {n for n, v in vars(nn).items() if callable(v) and n[0] != "_"} - {"ctc_decode"}


def test_signatures_are_keras():
    for name in NAMES:
        if not hasattr(keras.ops, name):
            assert name in ("linear", "normalize_batch", "normalize_groups"), (
                f"{name} is neither Keras's nor ours"
            )
            continue
        theirs = inspect.signature(getattr(keras.ops, name)).parameters.values()
        ours = inspect.signature(getattr(nn, name)).parameters.values()
        ours = [(p.name, p.default, p.kind) for p in ours]
        more = 2 if name == "dot_product_attention" else 0  # dropout_rate and seed
        assert ours[: len(ours) - more] == [(p.name, p.default, p.kind) for p in theirs], name


def test_every_op_has_rows():
    tested = {case.op for case in ROWS} | {"conv_transpose", "ctc_loss"}
    assert tested == NAMES


CHANNELS = {"depthwise_conv": 2, "conv": -2}
KERAS = [  # op, arguments: values against keras.ops where our definition above is our own
    *(("conv_transpose", image(r), kernel(*k[:r], 6, 4), s, p, o, "channels_last", d)
      for r in (1, 2, 3) for k in ((3, 2, 3), (4, 3, 5)) for s, p, o, d in (
          (1, "valid", None, 1), (2, "same", None, 1), (2, "valid", None, 1), (4, "same", None, 1),
          (3, "valid", None, 1), (2, "same", 1, 1), (2, "valid", 1, 1))),
    ("conv_transpose", image(2), kernel(3, 2, 6, 4), (2, 1), "same", None, "channels_last"),
    ("conv", image(2), kernel(3, 3, 2, 6), 2, "same", "channels_last"),
    ("average_pool", image(2), 3, 2, "same", "channels_last"),
    ("max_pool", image(2), 3, 2, "same", "channels_last"),
    ("batch_normalization", CUBE, M4, V4, -1, B4, G4),
    ("layer_normalization", CUBE, G34, B34, (1, 2)),
    ("normalize", CUBE, 1, 3),
    ("moments", CUBE, (0, 2)),
    ("gelu", X),
    ("one_hot", LABELS, 6),
    ("multi_hot", LABELS, 6),
    ("binary_crossentropy", SHARES, CHANCES),
    ("categorical_crossentropy", SHARES, CHANCES),
    ("sparse_categorical_crossentropy", CLASSES, CHANCES),
    ("dot_product_attention", Q, KEY, VALUES[..., :6], BIAS, NOTHING, None, True),
    ("unfold", image(2).transpose(0, 3, 1, 2), 2, 1, 1, 2),
    ("ctc_loss", np.array([[1, 2, 2, 3], [3, 1, 0, 0], [2, 2, 2, 2], [1, 0, 0, 0]], "int32"),
     floats(4, 10, 5), np.array([4, 2, 3, 1], "int32"), np.array([10, 7, 10, 3], "int32")),
    ("ctc_loss", np.array([[1, 1]], "int32"), floats(1, 3, 3), np.array([2], "int32"), np.array([3], "int32")),
    ("ctc_loss", np.array([[2, 1, 0]], "int32"), floats(1, 6, 4), np.array([2], "int32"), np.array([5], "int32"), 3),
]  # fmt: skip


@pytest.mark.parametrize("op", sorted({op for op, *_ in KERAS}))
def test_values_are_keras(op, backend):
    for name, *args in KERAS:
        if name == op:
            theirs = getattr(keras.ops, op)(*args)
            ours = getattr(ops, op)(*of(backend, *args))
            for a, b in zip(tree.flatten(ours), tree.flatten(theirs), strict=True):
                np.testing.assert_allclose(
                    keraslite.backend.to_numpy(a), np.asarray(b), rtol=3e-5, atol=1e-5,
                    err_msg=f"{op} {args[2:]}",
                )  # fmt: skip


@pytest.mark.parametrize("op", ["conv_transpose", "ctc_loss"])
def test_gradients_of_written_forms(op, backend):
    """These have no oracle in jax: the backends agree with jax's, and that with differences."""
    if backend not in TRAINABLE:
        return
    rows = {
        "conv_transpose": (
            [image(2), kernel(3, 2, 6, 4)],
            [(2, "same"), (1, "valid", None, None, 2), (3, "valid"), (2, "same", 1)],
        ),
        "ctc_loss": ([KERAS[-1][2]], [()]),
    }
    tensors, settings = rows[op]
    for rest in settings:

        def loss(*xs, rest=rest):
            if op == "ctc_loss":
                target, _, *lengths = KERAS[-1][1:]
                out = ops.ctc_loss(target, *xs, *lengths)
            else:
                out = ops.conv_transpose(*xs, *rest)
            return ops.sum(ops.sin(out * 0.1))

        both = tuple(range(len(tensors)))
        got = gradient(loss, backend, both)(*of(backend, *tensors))
        want = gradient(loss, "jax", both)(*of("jax", *tensors)) if backend != "jax" else got
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(
                keraslite.backend.to_numpy(a), np.asarray(b), rtol=1e-3, atol=1e-5
            )
        if backend == "jax":
            step = [np.sin(np.arange(x.size)).reshape(x.shape).astype("float32") for x in tensors]
            there, here = (
                float(jax.jit(loss)(*of("jax", *(x + t * s for x, s in zip(tensors, step)))))
                for t in (1e-2, -1e-2)
            )
            slope = sum(float(np.vdot(g, s)) for g, s in zip(want, step, strict=True))
            assert abs((there - here) / 2e-2 - slope) < 2e-2 * max(1, abs(slope))


def test_kinks(backend):
    """The derivative where a piecewise function bends is the same on every backend."""
    if backend not in TRAINABLE:
        return
    want = {
        "relu": (0, [0.0]), "relu6": (0, [0.0, 6.0]), "leaky_relu": (0.2, [0.0]),
        "hard_tanh": (0, [-1.0, 1.0]), "hard_sigmoid": (0, [-3.0, 3.0]), "elu": (1, [0.0]),
        "selu": (1.7580993408473766, [0.0]), "hard_shrink": (0, [-0.5, 0.5]),
        "soft_shrink": (0, [-0.5, 0.5]), "softsign": (1, [0.0]),
    }  # fmt: skip
    for name, (slope, places) in want.items():
        x = keraslite.to_backend(np.array(places, "float32"), backend)
        got = gradient(lambda x, name=name: ops.sum(getattr(ops, name)(x)), backend)(x)
        np.testing.assert_allclose(keraslite.backend.to_numpy(got), slope, rtol=1e-6, err_msg=name)


def test_nan_is_not_hidden(backend):
    x = keraslite.to_backend(np.full((2, 4), np.nan, "float32"), backend)
    for name in {case.op for case in ACTIVATIONS} | {"normalize", "layer_normalization"}:
        args = (1.0, 0.0) if name == "threshold" else ()
        out = keraslite.backend.to_numpy(getattr(ops, name)(x, *args))
        assert np.isnan(out).all(), f"{name} made {out} of NaN"


def test_gradients_stay_finite(backend):
    if backend not in TRAINABLE:
        return
    zero = np.zeros((2, 3), "float32")
    huge = np.array([[1e4, -1e4, 0.0]], "float32")
    for fn, x in [
        (lambda x: ops.normalize(x), zero), (lambda x: ops.log_softmax(x), huge),
        (lambda x: ops.softplus(x) + ops.log_sigmoid(x), huge), (lambda x: ops.elu(x * 1e3), huge),
        (lambda x: ops.celu(x * 1e3), huge), (lambda x: ops.squareplus(x, 0.1), zero),
        (lambda x: ops.layer_normalization(x), zero), (lambda x: ops.rms_normalization(x), zero),
        (lambda x: ops.binary_crossentropy(ops.ones_like(x), x, from_logits=True), huge),
        (lambda x: ops.sparse_categorical_crossentropy(np.zeros(1, "int32"), x, True), huge),
    ]:  # fmt: skip
        got = gradient(lambda x, fn=fn: ops.sum(fn(x)), backend)(keraslite.to_backend(x, backend))
        assert np.isfinite(keraslite.backend.to_numpy(got)).all(), inspect.getsource(fn)


@pytest.mark.parametrize("current", ["jax", "numpy"])
def test_the_data_chooses(current, backend):
    """Ops that make constants inside make them for their argument's backend."""
    x, cube, q = of(backend, X, CUBE, Q)
    args = {
        "one_hot": (of(backend, LABELS)[0], 6), "multi_hot": (of(backend, LABELS)[0], 6),
        "sparsemax": (x,), "average_pool": (cube, 2, 1, "same"), "adaptive_max_pool": (cube, 2),
        "adaptive_average_pool": (cube, 2),
        "dot_product_attention": (q, q, q, None, None, 1.0, True),
        "sparse_categorical_crossentropy": (of(backend, CLASSES)[0], of(backend, LOGITS)[0]),
        "normalize_batch": (cube,), "moments": (cube, 0),
        "normalize_groups": (cube, None, None, 1),
    }  # fmt: skip
    if backend == "numpy":  # its arrays are literals elsewhere
        return
    with keraslite.use_backend(current):
        for name, given in args.items():
            out = tree.flatten(getattr(ops, name)(*given))[0]
            assert keraslite.backend.of(out) == backend, name


def test_unknown_sizes_in_a_graph():
    """On TensorFlow with unknown batch and space, as when a model is exported."""
    tf = pytest.importorskip("tensorflow")
    w, p = kernel(3, 3, 4, 6), kernel(2, 2, 4, 4)
    cases = [
        (lambda x: ops.conv(x, w, 2, "same"), image(2)),
        (lambda x: ops.conv(x, w, 2, "same", None, 2), image(2)),
        (lambda x: ops.conv(x, p[:, :, :2], 1, "same"), image(2)),
        (lambda x: ops.depthwise_conv(x, p, (2, 1), "same"), image(2)),
        (lambda x: ops.conv_transpose(x, p, 2, "same"), image(2)),
        (lambda x: ops.max_pool(x, 3, 2, "same"), image(2)),
        (lambda x: ops.average_pool(x, 3, 2, _PAIRS), image(2)),
        (lambda x: ops.unfold(x, 2), image(2)),
        (lambda x: ops.normalize_batch(x)[0], image(3)),
        (lambda x: ops.dot_product_attention(x, x, x, is_causal=True), Q),
        (lambda x: ops.dot_product_attention(x, x[:, :, :2], x[:, :, :2]), Q),
    ]
    for fn, x in cases:
        fixed = 2 if x is Q else 1
        spec = [None] * (x.ndim - fixed) + list(x.shape[-fixed:])
        with keraslite.use_backend("tensorflow"):
            eager = fn(tf.constant(x))
            graph = tf.function(fn, input_signature=[tf.TensorSpec(spec, x.dtype)])
            np.testing.assert_allclose(graph(tf.constant(x)), eager, rtol=1e-5, atol=1e-5)


def test_windows_under_jit(backend):
    w = keraslite.to_backend(kernel(3, 3, 4, 6), backend)
    for fn in (
        lambda x: ops.conv(x, w, 2, "same"),
        lambda x: ops.max_pool(x, 3, 2, "same"),
        lambda x: ops.average_pool(x, 3, 2, "same"),
        lambda x: ops.conv_transpose(x, ops.transpose(w, (0, 1, 3, 2)), 2, "same"),
    ):
        x = keraslite.to_backend(image(2), backend)
        eager, compiled = (keraslite.backend.to_numpy(f(x)) for f in (fn, ops.jit(fn)))
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-5)


DROPPED = {}


def test_attention_drops_the_same_weights_everywhere(backend, monkeypatch):
    """Also in pieces, compiled, and from a generator; the rest is scaled up."""
    q, key, values = of(backend, Q, KEY, np.tile(np.eye(7, dtype="float32")[:, None], (2, 1, 4, 1)))

    def attend(q, seed=3):
        return ops.dot_product_attention(q, key, values, dropout_rate=0.4, seed=seed)

    found = keraslite.backend.to_numpy(attend(q))  # the weights themselves
    full = keraslite.backend.to_numpy(ops.dot_product_attention(q, key, values))
    kept = found > 0
    assert 0.4 < kept.mean() < 0.8
    np.testing.assert_allclose(found, np.where(kept, full / 0.6, 0), rtol=1e-5)
    np.testing.assert_array_equal(kept, DROPPED.setdefault("kept", kept))
    np.testing.assert_allclose(keraslite.backend.to_numpy(ops.jit(attend)(q)), found, rtol=1e-5)
    generator = keraslite.random.SeedGenerator(3)
    first, second = (keraslite.backend.to_numpy(attend(q, generator)) for _ in range(2))
    np.testing.assert_array_equal(first, found)
    assert not np.array_equal(first, second)
    slope = None
    if backend in TRAINABLE:
        slope = keraslite.backend.to_numpy(ops.grad(lambda q: ops.sum(attend(q) ** 2))(q))
    monkeypatch.setattr(attention, "_CHUNK", 2 * 4 * 7 * 2)  # two queries at a time
    np.testing.assert_allclose(keraslite.backend.to_numpy(attend(q)), found, rtol=1e-5)
    if slope is not None:
        pieces = keraslite.backend.to_numpy(ops.grad(lambda q: ops.sum(attend(q) ** 2))(q))
        np.testing.assert_allclose(pieces, slope, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="dropout_rate from"):
        ops.dot_product_attention(q, key, values, dropout_rate=1.0, seed=1)


def test_long_attention_in_pieces(backend, monkeypatch):
    args = of(backend, Q, KEY[:, :, :2], VALUES[:, :, :2])
    options = dict(zip(("bias", "mask"), of(backend, BIAS, SEEN)), is_causal=True,
                   flash_attention=False)  # fmt: skip
    whole = keraslite.backend.to_numpy(ops.dot_product_attention(*args, **options))
    monkeypatch.setattr(attention, "_CHUNK", 2 * 4 * 7 * 2)  # two queries at a time
    pieces = keraslite.backend.to_numpy(ops.dot_product_attention(*args, **options))
    np.testing.assert_allclose(pieces, whole, rtol=1e-6, atol=1e-6)


ERRORS = [
    (lambda: ops.conv(image(2), kernel(3, 3, 3, 6)), "does not fit 4 input channels"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), padding="sane"), "padding must be"),
    (lambda: ops.conv(image(2), kernel(9, 9, 4, 6)), "do not fit into the input"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), (1, 2, 3)), "strides must be"),
    (lambda: ops.conv(X, kernel(3, 3, 4, 6)), "3 to 5 dimensions"),
    (lambda: ops.conv(image(2), kernel(3, 3, 4, 6), data_format="last"), "data_format must be"),
    (lambda: ops.conv_transpose(image(2), kernel(3, 3, 6, 3)), "does not fit"),
    (lambda: ops.depthwise_conv(image(2), kernel(3, 3, 3, 1)), "needs 3 input channels"),
    (lambda: ops.max_pool(image(1), 20), "do not fit into the input"),
    (lambda: ops.glu(floats(2, 3)), "even"),
    (lambda: ops.multi_hot(LABELS), "needs num_classes"),
    (lambda: ops.multi_hot(LABELS, 3, sparse=True), "dense tensors only"),
    (lambda: ops.moments(X, 0, synchronized=True), "synchron"),
    (lambda: ops.binary_crossentropy(X, X[:, :3]), "same shape"),
    (lambda: ops.categorical_crossentropy(X[0], X), "same shape"),
    (lambda: ops.sparse_categorical_crossentropy(CLASSES[:2], LOGITS), "without the class axis"),
    (lambda: ops.normalize(X, order=0), "order must be an integer"),
    (lambda: ops.linear(X, floats(6, 2), None, "tanh"), "activation must be None, 'relu' or 'gelu'"),
    (lambda: ops.normalize_groups(CUBE, groups=2, activation="gelu"), "activation must be None or 'silu'"),
    (lambda: ops.dot_product_attention(X, X, X), "takes \\(batch, time, heads, size\\)"),
    (lambda: ops.dot_product_attention(Q, KEY[:, :, :3], VALUES[:, :, :3]), "evenly"),
    (lambda: ops.dot_product_attention(Q, KEY, KEY, flash_attention=True,
                                       attn_logits_soft_cap=1.0), "no fused attention"),
    (lambda: ops.layer_normalization(X, rms=True), "unexpected arguments"),
    (lambda: ops.depth_to_space(X, 2), "takes images"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_say_what_is_wrong(call, message, backend):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()


# ---- the kernel of linear on torch ----


@pytest.fixture
def kernels(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch.fast import linear as kernels

    monkeypatch.setattr(kernels, "_LEAST", 1)
    monkeypatch.setattr(kernels, "PRODUCTS", {})
    return torch, kernels


def _settled(kernels, torch, product):
    kernels.PRODUCTS.update({torch.float32: product, torch.bfloat16: product})


@pytest.mark.parametrize("product", ["torch", "forward", "onednn"])
@pytest.mark.parametrize("layout", ["own", "transposed", "sliced"])
def test_linear_kernels_agree(kernels, product, layout):
    torch, kernels = kernels
    _settled(kernels, torch, product)
    w = {"own": lambda: kernel(24, 20), "transposed": lambda: kernel(20, 24).T,
         "sliced": lambda: kernel(24, 60)[:, 20:40]}[layout]()  # fmt: skip
    base = torch.from_numpy(w) if layout != "transposed" else torch.from_numpy(w.T).t()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for shape in ((24,), (6, 24), (2, 3, 24), (0, 24)):
            for activation in (None, "relu", "gelu"):
                x = torch.from_numpy(kernel(*shape)).to(dtype).requires_grad_()
                k, b = base.to(dtype), torch.from_numpy(B6.repeat(4)[:20]).to(dtype)
                k, b = (v.detach().requires_grad_() for v in (k, b))
                wide = [v.detach().double().requires_grad_() for v in (x, k, b)]
                want = kernels.activate(torch.nn.functional.linear(wide[0], wide[1].t(), wide[2]),
                                        activation)  # fmt: skip
                with torch.no_grad():
                    inference = kernels.linear(x, k, b, activation)
                out = kernels.linear(x, k, b, activation)
                for got in (inference, out):
                    assert got.dtype == dtype
                    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)
                # The gradient of a sum is an expanded scalar: a stride that oneDNN must not see.
                ours = torch.autograd.grad(out.sum(), [x, k, b])
                theirs = torch.autograd.grad(want.sum(), wide)
                for a, c, like in zip(ours, theirs, (x, k, b), strict=True):
                    torch.testing.assert_close(a.double(), c, rtol=tolerance, atol=4 * tolerance)
                    assert a.shape == like.shape


def test_linear_under_transforms(kernels):
    torch, kernels = kernels
    _settled(kernels, torch, "onednn")
    x, w, b = (torch.from_numpy(v) for v in (floats(6, 24), kernel(24, 20), kernel(20)))
    want = torch.nn.functional.linear(x, w.t(), b)

    def loss(x, w, b):
        return kernels.linear(x, w, b, "gelu").square().sum()

    eager = [v.clone().requires_grad_() for v in (x, w, b)]
    grads = torch.autograd.grad(loss(*eager), eager)
    for got in (
        torch.func.grad(loss, argnums=(0, 1, 2))(x, w, b),
        torch.func.jacrev(loss, argnums=(0, 1, 2))(x, w, b),
    ):
        torch.testing.assert_close(got, grads, rtol=1e-4, atol=1e-4)
    mapped = torch.func.vmap(lambda x: kernels.linear(x, w, b))(x[None].expand(3, 6, 24))
    torch.testing.assert_close(mapped[2], want)
    for fn in (lambda x: kernels.linear(x, w, b), lambda x: loss(x, *eager[1:])):
        compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), fn(x))
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), fn(x))
    fresh = [v.clone().requires_grad_() for v in (x, w, b)]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    again = torch.autograd.grad(compiled(*fresh), fresh)
    torch.testing.assert_close(again, grads, rtol=1e-4, atol=1e-4)
    # The gradient of a gradient.
    (first,) = torch.autograd.grad(loss(*fresh), fresh[:1], create_graph=True)
    second = torch.autograd.grad(first.square().sum(), fresh[1])[0]
    plain = torch.func.grad(lambda w: torch.func.grad(lambda x: loss(x, w, b))(x).square().sum())(w)
    torch.testing.assert_close(second, plain, rtol=1e-3, atol=1e-2)


def test_the_processor_decides_who_runs_products():
    pytest.importorskip("torch")
    from keraslite.backend.torch.fast.products import processor, product_for

    full = {"mkl", "onednn", "avx512f", "bfloat16"}
    for vendor, lacking, float32, bfloat16 in (
        ("AuthenticAMD", set(), "onednn", "forward"),
        ("AuthenticAMD", {"avx512f"}, "torch", "forward"),
        ("AuthenticAMD", {"mkl"}, "torch", "forward"),
        ("AuthenticAMD", {"bfloat16"}, "onednn", "torch"),
        ("AuthenticAMD", {"onednn"}, "torch", "torch"),
        ("GenuineIntel", set(), "torch", "forward"),
        ("", full, "torch", "torch"),
    ):
        capabilities = frozenset(full - lacking)
        assert product_for(vendor, capabilities, "float32") == float32
        assert product_for(vendor, capabilities, "bfloat16") == bfloat16
        assert product_for(vendor, capabilities, "float64") == "torch"
    two = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2\n"
    assert processor(two * 2) == ("GenuineIntel", {"fpu", "avx2"})
    assert processor("") == ("", frozenset())


def test_products_are_timed_only_where_that_is_asked_for(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch.fast import products

    if "onednn" not in products.this_processor()[1]:
        pytest.skip("this torch has no oneDNN")
    assert 0.05 < products.measure() < 50
    monkeypatch.setattr(products, "measure", lambda: pytest.fail("timed"))
    assert products.choose_products() == products.choose_products()
    for asked in ("torch", "onednn"):
        assert products.choose_products(asked)[torch.float32] == asked
    for gain, product in ((1.0, "torch"), (1.1, "forward"), (2.0, "onednn")):
        monkeypatch.setattr(products, "measure", lambda gain=gain: gain)
        assert products.choose_products("measure")[torch.float32] == product
    with pytest.raises(ValueError, match=r"must be one of onednn, torch or measure, got 'mkl'"):
        products.choose_products("mkl")


def test_abstract_values_and_transforms_take_the_product_of_torch(kernels):
    torch, kernels = kernels
    _settled(kernels, torch, "onednn")
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, w = torch.ones(4, 6), torch.ones(6, 5)
    with FakeTensorMode():
        assert kernels.linear(torch.ones(4, 6), torch.ones(6, 5)).shape == (4, 5)
    mapped = torch.func.vmap(lambda x: kernels.linear(x, w))(x[None])
    torch.testing.assert_close(mapped[0], x @ w)
    compiled = torch.compile(lambda x: kernels.linear(x, w), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), x @ w)
    assert kernels.linear(x.double(), w.double()).dtype == torch.float64


def test_torch_takes_channels_last_without_a_copy(monkeypatch):
    torch = pytest.importorskip("torch")
    from keraslite.backend.torch import convolution

    seen = []
    real = convolution.F.conv2d
    monkeypatch.setattr(convolution.F, "conv2d", lambda x, *a: seen.append(x) or real(x, *a))
    for x in (torch.from_numpy(image(2)), torch.from_numpy(image(1))):
        w = torch.from_numpy(kernel(*(3,) * (x.ndim - 2), 4, 8))
        out = ops.conv(x, w, padding="same")
        assert seen[-1].data_ptr() == x.data_ptr()
        assert out.is_contiguous()
    assert ops.max_pool(torch.from_numpy(image(2)), 2).is_contiguous()
