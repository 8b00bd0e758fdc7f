"""Bad arguments: the same kind of error on every backend, which names the op and what came."""

import numpy as np
import pytest

import keraslite
from keraslite import ops, tree

X = np.ones((2, 3), "float32")
C = np.ones((2, 3, 4), "float32")
I = np.ones((2, 3), "int32")
IMAGE = np.ones((1, 5, 5, 2), "float32")

SHAPES = [  # op, args, kwargs: a ValueError
    *((name, (X, X[:, :2]), {}) for name in (
        "subtract", "multiply", "divide", "maximum", "minimum", "power", "mod", "floor_divide", "arctan2",
        "hypot", "logaddexp", "equal", "less", "greater_equal", "logical_and", "isclose", "heaviside",
        "fmax", "fmod", "not_equal")),
    ("bitwise_and", (I, I[:, :2]), {}), ("gcd", (I, I[:, :2]), {}),
    *((name, (X,), {"axis": axis}) for name in (
        "sum", "mean", "prod", "max", "min", "any", "all", "var", "std", "argmax", "argmin", "cumsum",
        "cumprod", "sort", "argsort", "flip", "nansum", "nanmax", "median", "logsumexp",
        "count_nonzero", "softmax", "log_softmax", "diff", "average", "ptp", "amax") for axis in (2, -3)),
    *((name, (X,), {"axis": (0, 0)}) for name in ("sum", "mean", "max", "any", "var", "prod")),
    ("reshape", (X, (4, 2)), {}), ("reshape", (X, (-1, -1)), {}), ("reshape", (X, (-1, 4)), {}),
    ("transpose", (X, (0, 2)), {}), ("transpose", (X, (0,)), {}), ("squeeze", (X, 1), {}), ("squeeze", (X, 5), {}),
    ("expand_dims", (X, 4), {}), ("moveaxis", (X, (0, 1), (0,)), {}), ("swapaxes", (X, 0, 5), {}),
    ("broadcast_to", (X, (3,)), {}), ("broadcast_to", (X, (2, 2, 2)), {}), ("tile", (X, (-1, 1)), {}),
    ("repeat", (X, -1), {}), ("repeat", (X, 2), {"axis": 3}), ("roll", (X, 1), {"axis": 3}),
    ("concatenate", ([X, C],), {}), ("concatenate", ([X, X],), {"axis": 2}), ("stack", ([X, X],), {"axis": 4}),
    ("split", (X, 2), {"axis": 1}), ("split", (X, 2), {"axis": 5}), ("hstack", ([X, C],), {}), ("vstack", ([X, X[:, :2]],), {}),
    ("pad", (X, ((1, 1), (1, 1), (1, 1))), {}), ("pad", (X, 1), {"mode": "sideways"}),
    *(("pad", (X, 1), {"mode": mode, "constant_values": 3}) for mode in ("edge", "reflect", "symmetric", "wrap")),
    *(("extract_sequences", (X, 2, stride), {}) for stride in (0, -1)), ("stft", (X, 2, 0, 2), {}),
    ("zeros", ((-1, 2),), {}), ("ones", ((2, -3),), {}),  ("full", ((2,), X), {}),
    ("take_along_axis", (X, np.int32([[[0]]])), {"axis": 1}),
     ("matmul", (X[0, 0].reshape(()), X), {}),  ("inner", (X, C), {}), ("vdot", (X, X[0]), {}),
    ("tensordot", (X, X), {"axes": 3}), ("einsum", ("ij,kj->iz", X, X), {}), ("einsum", ("ijk", X), {}), ("einsum", ("ij,jk", X), {}),
    ("cross", (X[:, :1], X[:, :1]), {}), ("trace", (X[0],), {}), ("diagonal", (X[0],), {}), ("diag", (C,), {}),
    ("det", (X,), {}), ("inv", (X,), {}), ("cholesky", (X,), {}), ("solve", (X, X), {}), ("eigh", (X,), {}), ("slogdet", (X,), {}),
    ("norm", (X,), {"ord": "sideways"}), ("norm", (X,), {"axis": 3}), ("svd", (X[0],), {}), ("qr", (X[0],), {}), ("lu_factor", (X[0],), {}),
    ("quantile", (X, 0.5), {"axis": 4}), ("quantile", (X, 0.5), {"method": "sideways"}), ("quantile", (X, 1.5), {}), ("percentile", (X, 101.0), {}),
     ("vander", (X,), {}), ("correlate", (X, X), {}), ("correlate", (X[0], X[0]), {"mode": "sideways"}),
    ("searchsorted", (X, X), {}), ("searchsorted", (X[0], X), {"side": "up"}), ("bincount", (I,), {"minlength": -1}),
    ("segment_sum", (X, I), {}), ("top_k", (X, 4), {}), ("in_top_k", (I[0], X, 1), {}), ("one_hot", (I, -1), {}),
    ("conv", (IMAGE, np.ones((3, 3, 3, 1), "float32")), {}), ("conv", (IMAGE, np.ones((3, 3, 2, 1), "float32")), {"padding": "wide"}),
    ("max_pool", (IMAGE, 6), {}), ("average_pool", (IMAGE, 2), {"padding": "wide"}), ("max_pool", (X, 2), {}),
    ("depthwise_conv", (IMAGE, np.ones((3, 3, 3, 1), "float32")), {}), ("conv_transpose", (IMAGE, np.ones((3, 3, 1, 3), "float32"), 2), {}),
    ("batch_normalization", (IMAGE, X[0], X[0], -1), {}), ("layer_normalization", (X,), {"axis": 4}), ("normalize", (X,), {"axis": 4}),
    ("glu", (X,), {}), ("categorical_crossentropy", (X, X[:, :2]), {}), ("binary_crossentropy", (X, X[:, :2]), {}),
    ("sparse_categorical_crossentropy", (I, X), {}), ("moments", (X, [4]), {}), ("unfold", (X, 2), {}), ("depth_to_space", (IMAGE, 3), {}),
    ("scatter", (I, X, (2, 2)), {}), ("slice", (X, [0, 0, 0], [1, 1, 1]), {}), ("slice_update", (X, [0], X), {}),
     ("rfft", (X,), {"fft_length": -1}),
]  # fmt: skip
TYPES = [  # a TypeError
    *((name, (X, X), {}) for name in ("bitwise_or", "bitwise_xor", "left_shift", "right_shift", "lcm")),
    ("bitwise_not", (X,), {}),  ("segment_sum", (X, X[:, 0]), {}), ("bincount", (X[0],), {}),
      ("add", (X, "text"), {}), ("concatenate", (1.0,), {}),
]  # fmt: skip


def named(case):
    name, args, kwargs = case
    brief = [x.shape if isinstance(x, np.ndarray) else x for x in args]
    return f"{name}{brief}{kwargs or ''}"[:60]


def call(case, backend):
    name, args, kwargs = case
    args = tree.map_structure(
        lambda x: keraslite.to_backend(x, backend) if isinstance(x, np.ndarray) else x, args
    )
    target = ops
    for part in name.split("."):
        target = getattr(target, part)
    return target(*args, **kwargs)


def call_symbolically(case):
    name, args, kwargs = case
    args = tree.map_structure(
        lambda x: keraslite.KerasTensor(x.shape, x.dtype.name) if isinstance(x, np.ndarray) else x,
        args,
    )
    return getattr(ops, name)(*args, **kwargs)


@pytest.mark.parametrize("case", SHAPES, ids=named)
def test_symbolic_calls_refuse_what_eager_ones_do(case, backend):
    # tensordot's error is a TypeError in a graph of TensorFlow
    kinds = (ValueError, TypeError) if case[0] == "tensordot" else ValueError
    with pytest.raises(kinds, match=rf"ops\._?{case[0]}\b"):
        call_symbolically(case)


@pytest.mark.parametrize("case", TYPES, ids=named)
def test_symbolic_calls_refuse_the_types_that_eager_ones_do(case, backend):
    with pytest.raises(TypeError, match=rf"ops\._?{case[0]}\b"):
        call_symbolically(case)


@pytest.mark.parametrize("case", SHAPES, ids=named)
def test_shapes_axes_and_options(case, backend):
    with pytest.raises(ValueError, match=rf"ops\._?{case[0]}\b"):
        call(case, backend)


@pytest.mark.parametrize("case", TYPES, ids=named)
def test_types(case, backend):
    with pytest.raises(TypeError, match=case[0]):
        call(case, backend)
