"""Cases of the ops of neural networks, by jax.nn, lax, plain definitions and Keras."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax import nn as jnn
from ops_cases import row

rng = np.random.default_rng(0)
HALVES = ("float16", "bfloat16")


def floats(*shape, low=-3.0, high=3.0):
    return rng.uniform(low, high, shape).astype("float32")


VALUE = {"only_value": True}  # rows on numerics alone


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
    row("relu6", np.array([-1, 0, 9], "int32"), oracle=jnn.relu6),
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


def batch(x, scale=None, offset=None, residual=None, axis=-1, epsilon=1e-3, activation=None):
    axes = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    m, v = moment(x, axes)
    out = bn(x, m, v, axis, offset, scale, epsilon)
    out = out if residual is None else out + residual
    out = out if activation is None else jax.nn.relu(out)
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
    row("normalize_batch", OFFSET[None], G4, None, None, -1, 1e-6, oracle=batch, grad=(0, 1),
        rtol=5e-5, atol=5e-6),
    row("normalize_batch", OFFSET, G4, B4, CUBE, activation="relu", oracle=batch,
        grad=(0, 1, 2, 3), rtol=2e-5, atol=2e-6),
    row("normalize_batch", OFFSET[None], None, B4, None, -1, 1e-3, "relu", oracle=batch,
        grad=(0, 2), rtol=2e-5, atol=2e-6),
    row("normalize_batch", OFFSET, None, None, CUBE, 1, oracle=batch, grad=(0, 3), rtol=2e-5,
        atol=2e-6),
    row("normalize_batch", OFFSET[0], G4, B4, oracle=batch, grad=(0, 1, 2), rtol=2e-5, atol=2e-6),
    row("normalize_batch", OFFSET, G4[:3], B4[:3], None, 1, oracle=batch, grad=(0, 1, 2), rtol=2e-5,
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


def biased_conv(x, w, bias, strides, padding, data_format=None, dilation=1, activation=None):
    out = conv(x, w, strides, padding, data_format, dilation)
    first = data_format == "channels_first"
    out += bias.reshape(-1, *[1] * (x.ndim - 2)) if first else bias
    return out if activation is None else _PLAIN[activation](out)


def normalized_conv(
    x, w, mean, variance, bias=None, offset=None, scale=None, residual=None, strides=1,
    padding="valid", dilation=1, epsilon=1e-3, activation=None, depthwise_=False,
):  # fmt: skip
    out = (depthwise if depthwise_ else conv)(x, w, strides, padding, None, dilation)
    out = out if bias is None else out + bias
    out = out if mean is None else bn(out, mean, variance, -1, offset, scale, epsilon)
    out = out if residual is None else out + residual
    return out if activation is None else _PLAIN[activation](out)


MAX, MEAN = functools.partial(windows, "max"), functools.partial(windows, "average")
PAIRS = ((1, 1), (0, 2))
WINDOWS = [
    *(row("conv", image(r), kernel(*_ODD[r - 1], 4 // g, 8), s, p, None, d, oracle=conv,
          grad=(0, 1) if r < 3 or g * d == 1 else None, rtol=3e-5, atol=1e-5, graph=False)
      for r in (1, 2, 3) for s, p, d, g in (_CONVS if r == 2 else _CONVS[2:7:2])),
    row("conv", image(2), kernel(3, 3, 4, 6), (2, 1), PAIRS, oracle=conv, grad=(0, 1), graph=False,
        rtol=3e-5, atol=1e-5),
    row("conv", image(2), kernel(1, 1, 4, 6), oracle=conv, grad=(0, 1), graph=False, atol=1e-5),
    row("conv", image(2), kernel(1, 1, 4, 6), 2, "same", oracle=conv, grad=(0, 1), graph=False,
        atol=1e-5),
    row("conv", image(2).transpose(0, 3, 1, 2), kernel(3, 3, 4, 6), 1, "same", "channels_first",
        oracle=conv, grad=(0, 1), graph=False, rtol=3e-5, atol=1e-5),
    row("conv", image(2, 48), kernel(3, 3, 48, 80), 1, "same", oracle=conv, grad=(0, 1),
        graph=False, rtol=1e-4, atol=1e-4),
    row("conv", image(1, 96), kernel(4, 96, 90), oracle=conv, graph=False, rtol=1e-4, atol=1e-4),
    # More outputs than jax computes by patches on a CPU, and fewer than the kernel has elements.
    *(row("conv", np.tile(image(2), (1, 4, 4, 1)), kernel(3, 3, 4 // g, 6), 2, "same", None, 1,
          oracle=conv, grad=(0, 1), graph=False, rtol=1e-4, atol=5e-5) for g in (1, 2)),
    row("conv", image(2)[:, :2, :2], kernel(3, 3, 4, 6), 1, "same", oracle=conv, grad=(0, 1),
        graph=False, rtol=3e-5, atol=1e-5),
    row("conv", half(image(2)), half(kernel(3, 3, 4, 6)), oracle=wide(conv), **VALUE),
    *(row("biased_conv", image(2), kernel(size, size, 4 // g, 4), B4, s, p, None, d, activation,
          grad=(0, 1, 2), oracle=biased_conv, graph=False, rtol=3e-5, atol=1e-5)
      for size, s, p, d, g, activation in (
          (3, 2, "same", 1, 1, "relu"), (3, 1, "valid", 2, 2, "silu"), (1, 1, "same", 1, 1, "relu6"),
      )),
    row("biased_conv", image(1).transpose(0, 2, 1), kernel(3, 4, 4), B4, 2, "same",
        "channels_first", grad=(0, 1, 2), oracle=biased_conv, graph=False, rtol=3e-5, atol=1e-5),
    row("normalized_conv", image(2), kernel(3, 3, 4, 4), M4, V4, B4, G4, V4, image(2), 1, "same", 1,
        1e-5, "relu", oracle=normalized_conv, grad=(0, 1, 4, 5, 6), graph=False, rtol=3e-5,
        atol=2e-5),
    row("normalized_conv", image(2), kernel(3, 3, 2, 4), M4, V4, None, None, None, None, 2, PAIRS,
        oracle=normalized_conv, grad=(0, 1), graph=False, rtol=3e-5, atol=2e-5),
    row("normalized_conv", image(2), kernel(3, 3, 4, 4), None, None, B4, activation="relu",
        oracle=normalized_conv, grad=(0, 1, 4), graph=False, rtol=3e-5, atol=2e-5),
    row("normalized_conv", image(1), kernel(3, 4, 4), M4, V4, B4, G4, None, None, 1, "valid", 2,
        1e-3, "silu", oracle=normalized_conv, grad=(0, 1), graph=False, rtol=3e-5, atol=2e-5),
    row("normalized_conv", image(2), kernel(3, 3, 4, 1), M4, V4, B4, None, None, None, 2, "same", 1,
        1e-3, "relu6", True, oracle=normalized_conv, grad=(0, 1), graph=False, rtol=3e-5,
        atol=2e-5),
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
    row("max_pool", image(2), (2, 3), 2, PAIRS, oracle=MAX, grad=0, graph=False),
    row("average_pool", image(2), (2, 3), 2, PAIRS, oracle=MEAN, grad=0, graph=False),
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


def attend_on_grid(q, k, v, rows, columns, scale=None):
    bias = rows[..., :, None] + columns[..., None, :]
    return attend(q, k, v, bias.reshape(*bias.shape[:3], -1), None, scale)


GRID = [floats(2, 6, 4, 8), floats(2, 6, 4, 8), floats(2, 6, 4, 6)]
GRID_BIASES = [floats(2, 4, 6, 2), floats(2, 4, 6, 3)]
ATTENTION += [
    row("grid_attention", *GRID, *GRID_BIASES, oracle=attend_on_grid, grad=(0, 1, 2, 3, 4),
        graph=False),
    row("grid_attention", *GRID, *GRID_BIASES, 0.3, oracle=attend_on_grid, graph=False),
    row("grid_attention", *map(half, [*GRID, *GRID_BIASES]), oracle=wide(attend_on_grid), **VALUE),
]  # fmt: skip

ROWS = [*ACTIVATIONS, *CODES, *LOSSES, *NORMS, *PRODUCTS, *REARRANGED, *WINDOWS, *ATTENTION]


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
