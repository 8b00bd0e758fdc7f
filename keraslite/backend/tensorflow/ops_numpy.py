"""PRIMITIVES for ops/numpy.py, ops/core.py and ops/math.py on TensorFlow."""

import inspect
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from keraslite import dtypes
from keraslite.backend.integers import int8_product
from keraslite.backend.tensorflow.tensors import convert, dynamic_shape, for_xla, native

# Ops whose TensorFlow function takes a Python number beside a tensor and follows its dtype.
_TAKE_NUMBERS = """add subtract multiply divide power mod fmod floor_divide equal not_equal less
    less_equal greater greater_equal maximum minimum where clip"""
SCALARS = frozenset(_TAKE_NUMBERS.split())

# TensorFlow has few kernels for the short integers and fewer for booleans.
_SHORT = frozenset([tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16])
_HALVES = frozenset([tf.float16, tf.bfloat16])
_SUMS = {tf.bool: tf.int32, tf.int8: tf.int32, tf.int16: tf.int32, tf.uint8: tf.uint32,
         tf.uint16: tf.uint32}  # fmt: skip


def _wide(fn: Callable, back: bool = True) -> Callable:
    """Compute short integers and booleans in int32; `back` casts the result back."""

    @wraps(fn)
    def call(x: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype = x.dtype
        if dtype not in _SHORT:
            return fn(x, *args, **kwargs)
        args = [tf.cast(a, tf.int32) if isinstance(a, tf.Tensor) and a.dtype == dtype else a
                for a in args]  # fmt: skip
        out = fn(tf.cast(x, tf.int32), *args, **kwargs)
        return tf.cast(out, dtype) if back else out

    return call


def _in_float32(fn: Callable) -> Callable:
    """Compute float16 and bfloat16 in float32."""

    @wraps(fn)
    def call(x: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.dtype not in _HALVES:
            return fn(x, *args, **kwargs)
        args = [tf.cast(a, tf.float32) if isinstance(a, tf.Tensor) and a.dtype == x.dtype else a
                for a in args]  # fmt: skip
        out = fn(tf.cast(x, tf.float32), *args, **kwargs)
        return tf.cast(out, x.dtype) if out.dtype == tf.float32 else out

    return call


def _floats_only(fn: Callable, otherwise: bool) -> Callable:
    """A test of floats, which is the same for all integers."""

    def call(x: tf.Tensor) -> tf.Tensor:
        if x.dtype.is_floating:
            return fn(x)
        return tf.fill(tf.shape(x), otherwise)

    return call


def _logical(fn: Callable) -> Callable:
    return lambda *xs: fn(*(x if x.dtype == tf.bool else tf.cast(x, tf.bool) for x in xs))


def _raw(name: str) -> Callable:
    """A kernel without the dispatch around tf.math's functions, which costs as much as the kernel:
    5 us of the 10 of tf.math.add.
    """
    kernel = getattr(tf.raw_ops, name)
    first, *rest = [p for p in inspect.signature(kernel).parameters if p != "name"]
    if rest:
        second = rest[0]  # Atan2's are y and x, NextAfter's x1 and x2
        return lambda x1, x2: kernel(**{first: x1, second: x2})
    return lambda x: kernel(**{first: x})


_RAW = {
    "exp": "Exp", "expm1": "Expm1", "log": "Log", "log1p": "Log1p", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "sqrt": "Sqrt", "rsqrt": "Rsqrt",
    "floor": "Floor", "ceil": "Ceil", "reciprocal": "Reciprocal", "erf": "Erf", "erfc": "Erfc",
    "erfinv": "Erfinv", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan", "arcsinh": "Asinh",
    "arccosh": "Acosh", "arctanh": "Atanh", "arctan2": "Atan2", "nextafter": "NextAfter",
    "divide": "RealDiv", "equal": "Equal", "not_equal": "NotEqual",
}  # fmt: skip
_RAW_WIDE = {
    "add": "AddV2", "subtract": "Sub", "multiply": "Mul", "power": "Pow", "mod": "FloorMod",
    "floor_divide": "FloorDiv", "maximum": "Maximum", "minimum": "Minimum", "sign": "Sign",
    "negative": "Neg", "square": "Square", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "bitwise_left_shift": "LeftShift",
    "bitwise_right_shift": "RightShift",
}  # fmt: skip
_COMPARE = {"less": "Less", "less_equal": "LessEqual", "greater": "Greater",
            "greater_equal": "GreaterEqual"}  # fmt: skip
TABLE: dict[str, Any] = {name: _raw(kernel) for name, kernel in _RAW.items()} | {
    "stop_gradient": tf.stop_gradient, "copy": tf.identity, "stack": tf.stack,
    "absolute": _wide(tf.math.abs),
}  # fmt: skip
TABLE |= {name: _wide(_raw(kernel)) for name, kernel in _RAW_WIDE.items()}
TABLE |= {name: _wide(_raw(kernel), back=False) for name, kernel in _COMPARE.items()}
TABLE["fmod"] = _wide(_in_float32(lambda x1, x2: tf.raw_ops.TruncateMod(
    x=x1, y=tf.convert_to_tensor(x2, x1.dtype))))  # fmt: skip
TABLE |= {
    name: _logical(getattr(tf.math, name))
    for name in ("logical_and", "logical_or", "logical_xor", "logical_not")
}
TABLE |= {
    "i0": _in_float32(tf.math.bessel_i0),
    "isnan": _floats_only(tf.math.is_nan, False),
    "isinf": _floats_only(tf.math.is_inf, False),
    "isfinite": _floats_only(tf.math.is_finite, True),
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__.removesuffix("_")] = fn  # sum_ and the like hide no builtin
    return fn


@_primitive
def cast(x: tf.Tensor, dtype: Any) -> tf.Tensor:
    return tf.cast(x, native(dtype))


@_primitive
def bitwise_not(x: tf.Tensor) -> tf.Tensor:
    return tf.logical_not(x) if x.dtype == tf.bool else tf.bitwise.invert(x)


@_primitive
def trunc(x: tf.Tensor) -> tf.Tensor:
    return tf.where(x < 0, tf.math.ceil(x), tf.math.floor(x)) if x.dtype.is_floating else x


@_primitive
def round_(x: tf.Tensor, decimals: int = 0) -> tf.Tensor:
    if not decimals:
        return tf.math.round(x) if x.dtype.is_floating else x
    if not x.dtype.is_floating:
        if decimals > 0:
            return x
        return tf.cast(round_(tf.cast(x, tf.float32), decimals), x.dtype)
    scale = tf.cast(10.0 ** abs(decimals), x.dtype)
    return tf.math.round(x * scale) / scale if decimals > 0 else tf.math.round(x / scale) * scale


@_primitive
def signbit(x: tf.Tensor) -> tf.Tensor:
    if x.dtype.is_floating:
        return tf.less(tf.bitcast(tf.cast(x, tf.float32), tf.int32), 0)
    return tf.less(tf.cast(x, tf.int32), 0)


@_primitive
def conjugate(x: tf.Tensor) -> tf.Tensor:
    return tf.math.conj(x) if x.dtype.is_complex else x


@_primitive
def real(x: tf.Tensor) -> tf.Tensor:
    return tf.math.real(x) if x.dtype.is_complex else x


@_primitive
def imag(x: tf.Tensor) -> tf.Tensor:
    return tf.math.imag(x) if x.dtype.is_complex else tf.zeros_like(x)


@_primitive
def clip(x: tf.Tensor, x_min: Any, x_max: Any) -> tf.Tensor:
    return TABLE["minimum"](TABLE["maximum"](x, x_min), x_max)


@_primitive
def where(condition: tf.Tensor, x1: Any = None, x2: Any = None) -> Any:
    condition = condition if condition.dtype == tf.bool else tf.cast(condition, tf.bool)
    if x1 is None and x2 is None:
        return nonzero(condition)
    if type(x1) in (int, float):
        x1 = tf.convert_to_tensor(x1, x2.dtype)
    if type(x2) in (int, float):
        x2 = tf.convert_to_tensor(x2, x1.dtype)
    return tf.where(condition, x1, x2)


@_primitive
def gcd(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    kind = x1.dtype
    if not kind.is_integer:
        raise TypeError("the arguments must be integers")
    x1, x2 = (tf.abs(tf.cast(x, tf.int64)) for x in (x1, x2))
    shape = tf.broadcast_dynamic_shape(tf.shape(x1), tf.shape(x2))
    pair = tf.broadcast_to(x1, shape), tf.broadcast_to(x2, shape)

    def step(a: tf.Tensor, b: tf.Tensor) -> tuple:
        rest = tf.math.floormod(a, tf.where(tf.equal(b, 0), tf.ones_like(b), b))
        return tf.where(tf.equal(b, 0), a, b), tf.where(tf.equal(b, 0), b, rest)

    return tf.cast(tf.while_loop(lambda a, b: tf.reduce_any(b > 0), step, pair)[0], kind)


# Reductions

TABLE |= {
    "mean": _in_float32(tf.math.reduce_mean),
    "var": _in_float32(tf.math.reduce_variance),
}


def _truth(fn: Callable) -> Callable:
    def call(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
        return fn(x if x.dtype == tf.bool else tf.cast(x, tf.bool), axis, keepdims)

    return call


TABLE |= {"all": _truth(tf.reduce_all), "any": _truth(tf.reduce_any)}


@_primitive
def sum_(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
    dtype = _SUMS.get(x.dtype, x.dtype)
    if dtype == x.dtype and dtype not in _HALVES and dtype != tf.uint32:
        if axis is None:
            return tf.reduce_sum(x, None, keepdims)
        return tf.raw_ops.Sum(input=x, axis=axis, keep_dims=keepdims)
    wide = tf.float32 if dtype.is_floating else tf.int64
    return tf.cast(tf.reduce_sum(tf.cast(x, wide), axis, keepdims), dtype)


@_primitive
def prod(x: tf.Tensor, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> tf.Tensor:
    dtype = native(dtype) if dtype is not None else _SUMS.get(x.dtype, x.dtype)
    wide = tf.int64 if dtype == tf.uint32 else tf.float32 if dtype in _HALVES else dtype
    return tf.cast(tf.reduce_prod(tf.cast(x, wide), axis, keepdims), dtype)


def _extreme(fn: Callable, pair: Callable) -> Callable:
    @_wide
    def call(
        x: tf.Tensor, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> tf.Tensor:
        out = fn(x, axis, keepdims)
        return out if initial is None else pair(out, tf.cast(initial, x.dtype))

    return call


TABLE |= {
    "max": _extreme(tf.reduce_max, tf.maximum),
    "min": _extreme(tf.reduce_min, tf.minimum),
}


def _extreme(fn: Callable, x: tf.Tensor, axis: int) -> tf.Tensor:
    """The place that `fn` finds, or the first NaN's: TensorFlow passes NaN over."""
    out = fn(x, axis, tf.int32)
    if not x.dtype.is_floating:
        return out
    nans = tf.math.is_nan(x)
    first = tf.argmax(tf.cast(nans, tf.uint8), axis, tf.int32)
    return tf.where(tf.reduce_any(nans, axis), first, out)


def _arg(fn: Callable) -> Callable:
    def call(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
        x = tf.cast(x, tf.int32) if x.dtype == tf.bool else x
        if axis is None:
            out = _extreme(fn, tf.reshape(x, [-1]), 0)
            return tf.reshape(out, [1] * x.shape.rank) if keepdims else out
        out = _extreme(fn, x, axis)
        return tf.expand_dims(out, axis) if keepdims else out

    return call


TABLE |= {"argmax": _arg(tf.argmax), "argmin": _arg(tf.argmin)}


def _running(fn: Callable) -> Callable:
    fn = _wide(fn)

    def call(x: tf.Tensor, axis: Any = None, dtype: Any = None) -> tf.Tensor:
        if dtype is not None or x.dtype == tf.bool:
            x = tf.cast(x, native(dtype or "int32"))
        return fn(tf.reshape(x, [-1]), 0) if axis is None else fn(x, axis)

    return call


TABLE |= {"cumsum": _running(tf.cumsum), "cumprod": _running(tf.math.cumprod)}


# Creation


def _sizes(shape: Any) -> Any:
    return [shape] if isinstance(shape, int) or getattr(shape, "shape", None) == () else shape


@_primitive
def full(shape: Any, fill_value: Any, dtype: Any = None) -> tf.Tensor:
    value = convert(fill_value, dtypes.standardize(dtype))
    return tf.broadcast_to(value, _sizes(shape))


@_primitive
def zeros_like(x: tf.Tensor, dtype: Any = None) -> tf.Tensor:
    return tf.zeros_like(x, None if dtype is None else native(dtype))


@_primitive
def ones_like(x: tf.Tensor, dtype: Any = None) -> tf.Tensor:
    return tf.ones_like(x, None if dtype is None else native(dtype))


@_primitive
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> tf.Tensor:
    given = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in given)))
    start, stop = (0, start) if stop is None else (start, stop)
    made_in = dtype if dtype in (tf.int32, tf.int64, tf.float32, tf.float64) else tf.float32
    start, stop, step = (tf.cast(v, made_in) for v in (start, stop, 1 if step is None else step))
    return tf.cast(tf.range(start, stop, step), dtype)


# Shapes


@_primitive
def _positions(x: tf.Tensor, size: Any) -> tf.Tensor:
    return tf.range(size)


@_primitive
def reshape(x: tf.Tensor, newshape: Any) -> tf.Tensor:
    return tf.reshape(x, _sizes(newshape))


@_primitive
def transpose(x: tf.Tensor, axes: Any = None) -> tf.Tensor:
    if axes is None:
        return tf.transpose(x)
    if any(a < 0 for a in axes):
        axes = [a % x.shape.rank for a in axes]
    return tf.raw_ops.Transpose(x=x, perm=axes)


@_primitive
def broadcast_to(x: tf.Tensor, shape: Any) -> tf.Tensor:
    return tf.broadcast_to(x, _sizes(shape))


@_primitive
def expand_dims(x: tf.Tensor, axis: Any) -> tf.Tensor:
    if isinstance(axis, int):
        return tf.expand_dims(x, axis)
    for a in sorted(a % (x.shape.rank + len(axis)) for a in axis):
        x = tf.expand_dims(x, a)
    return x


@_primitive
def squeeze(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    return tf.squeeze(x, axis if axis is None or isinstance(axis, int) else list(axis))


@_primitive
def concatenate(xs: list, axis: int = 0) -> tf.Tensor:
    return tf.concat(xs, axis)


@_primitive
def unstack(x: tf.Tensor, num: int | None = None, axis: int = 0) -> list:
    return tf.unstack(x, num, axis)


@_primitive
def split(x: tf.Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if isinstance(indices_or_sections, int):
        return tf.split(x, indices_or_sections, axis)
    size = dynamic_shape(x)[axis]
    cuts = [0, *(i if i >= 0 else size + i for i in map(int, indices_or_sections))]
    cuts = [*(min(c, size) if isinstance(size, int) else c for c in cuts), size]
    sizes = [b - a if not isinstance(b, int) else max(b - a, 0)
             for a, b in pairwise(cuts)]  # fmt: skip
    return tf.split(x, sizes, axis)


@_primitive
def repeat(x: tf.Tensor, repeats: Any, axis: Any = None) -> tf.Tensor:
    out = tf.repeat(x, repeats, axis)
    if axis is not None and isinstance(repeats, list | tuple):
        sizes = x.shape.as_list()
        sizes[axis] = int(np.sum(repeats))
        out.set_shape(sizes)
    return out


@_primitive
def tile(x: tf.Tensor, repeats: Any) -> tf.Tensor:
    repeats = list(_sizes(repeats))
    repeats = [1] * (x.shape.rank - len(repeats)) + repeats
    return tf.tile(x[(None,) * (len(repeats) - x.shape.rank)] if len(repeats) > x.shape.rank else x,
                   repeats)  # fmt: skip


@_primitive
def flip(x: tf.Tensor, axis: Any = None) -> tf.Tensor:
    axes = range(x.shape.rank) if axis is None else _sizes(axis)
    return tf.reverse(x, list(axes))


@_primitive
def roll(x: tf.Tensor, shift: Any, axis: Any = None) -> tf.Tensor:
    if axis is None:
        return tf.reshape(tf.roll(tf.reshape(x, [-1]), shift, 0), tf.shape(x))
    if isinstance(shift, int) and not isinstance(axis, int):
        shift = [shift] * len(axis)
    return tf.roll(x, shift, axis)


@_primitive
def _pad_constant(x: tf.Tensor, widths: list, value: Any) -> tf.Tensor:
    return tf.pad(x, widths, constant_values=tf.cast(value, x.dtype))


@_primitive
def get_item(x: tf.Tensor, key: Any) -> tf.Tensor:
    keys = key if isinstance(key, tuple) else (key,)
    arrays = [
        isinstance(k, list | np.ndarray) or (isinstance(k, tf.Tensor) and k.shape.rank != 0)
        for k in keys
    ]
    return _gathered(x, keys, arrays) if any(arrays) else x[keys]


def _gathered(x: tf.Tensor, keys: tuple, arrays: list[bool]) -> tf.Tensor:
    """Indexing with arrays: what is basic first, then one gather over the arrays' axes."""
    if len(keys) == 1 and convert(keys[0]).dtype == tf.bool:
        return tf.boolean_mask(x, convert(keys[0]))
    numbers = [isinstance(k, int | np.integer) or getattr(k, "shape", None) == () for k in keys]
    keys = list(keys)
    for i, number in enumerate(numbers):  # beside arrays, a number is an array too
        if number and type(keys[i]) is not bool:
            keys[i], arrays[i] = convert(keys[i]), True
    basic = [slice(None) if a else k for k, a in zip(keys, arrays, strict=True)]
    axes, indices, axis = [], [], 0
    taken = sum(k is not None and k is not Ellipsis for k in keys)
    for k, a in zip(keys, arrays, strict=True):
        if a:
            index = convert(k)
            if index.dtype == tf.bool:
                index = tf.cast(tf.where(index)[:, 0], tf.int32)
            axes.append(axis)
            indices.append(index)
        axis += x.shape.rank - taken if k is Ellipsis else 1
    x = x[tuple(basic)]
    rest = [a for a in range(x.shape.rank) if a not in axes]
    together = axes == list(range(axes[0], axes[-1] + 1))
    if len(axes) == 1:
        return take(x, indices[0], axes[0])
    sizes = [dynamic_shape(x)[a] for a in axes]
    shape = tf.broadcast_dynamic_shape(tf.shape(indices[0]), tf.shape(indices[1]))
    for index in indices[2:]:
        shape = tf.broadcast_dynamic_shape(shape, tf.shape(index))
    indices = [
        tf.broadcast_to(tf.where(i < 0, i + tf.cast(n, i.dtype), i), shape)
        for i, n in zip(indices, sizes, strict=True)
    ]
    out = tf.gather_nd(tf.transpose(x, axes + rest), tf.stack(indices, -1))
    if not together or not axes[0]:
        return out
    width, before = out.shape.rank - len(rest), axes[0]
    order = [*range(width, width + before), *range(width), *range(width + before, out.shape.rank)]
    return tf.transpose(out, order)


# Indexing, searching, sorting


@_primitive
def nonzero(x: tf.Tensor) -> tuple:
    found = tf.where(x if x.dtype == tf.bool else tf.not_equal(x, tf.zeros((), x.dtype)))
    return tuple(tf.unstack(tf.cast(found, tf.int32), x.shape.rank, axis=1))


@_primitive
def take(x: tf.Tensor, indices: tf.Tensor, axis: Any = None) -> tf.Tensor:
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    if indices.dtype not in (tf.int32, tf.int64):
        indices = tf.cast(indices, tf.int32)
    size = tf.cast(dynamic_shape(x)[axis], indices.dtype)
    return tf.gather(x, tf.where(indices < 0, indices + size, indices), axis=axis)


@_primitive
def take_along_axis(x: tf.Tensor, indices: tf.Tensor, axis: Any = None) -> tf.Tensor:
    if axis is None:
        x, indices, axis = tf.reshape(x, [-1]), tf.reshape(indices, [-1]), 0
    rank = x.shape.rank
    last = [a for a in range(rank) if a != axis % rank] + [axis % rank]
    back = [last.index(a) for a in range(rank)]
    x, indices = tf.transpose(x, last), tf.transpose(indices, last)
    indices = tf.cast(indices, tf.int32) if indices.dtype not in (tf.int32, tf.int64) else indices
    indices = tf.where(indices < 0, indices + tf.cast(dynamic_shape(x)[-1], indices.dtype), indices)
    if x.shape[:-1] != indices.shape[:-1] or None in x.shape[:-1]:
        lead = tf.broadcast_dynamic_shape(tf.shape(x)[:-1], tf.shape(indices)[:-1])
        x = tf.broadcast_to(x, tf.concat([lead, tf.shape(x)[-1:]], 0))
        indices = tf.broadcast_to(indices, tf.concat([lead, tf.shape(indices)[-1:]], 0))
    out = tf.gather(x, indices, axis=-1, batch_dims=rank - 1)
    return tf.transpose(out, back)


@_primitive
def sort(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    x, axis = (tf.reshape(x, [-1]), 0) if axis is None else (x, axis)
    if not x.dtype.is_floating:
        return _wide(tf.sort)(x, axis)
    # TensorFlow puts NaN anywhere: sort infinities in their place, and put them last.
    nan = tf.math.is_nan(x)
    found = tf.sort(tf.where(nan, np.inf, x), axis)
    return tf.where(tf.sort(tf.cast(nan, tf.int32), axis) > 0, np.nan, found)


@_primitive
def argsort(x: tf.Tensor, axis: Any = -1) -> tf.Tensor:
    x = tf.cast(x, tf.int32) if x.dtype in _SHORT else x
    x, axis = (tf.reshape(x, [-1]), 0) if axis is None or not x.shape.rank else (x, axis)
    if x.dtype.is_floating:
        x = tf.where(tf.math.is_nan(x), np.inf, x)
    return tf.argsort(x, axis, stable=True)


@_primitive
def _view(x: tf.Tensor, dtype: str) -> tf.Tensor:
    target = native(dtype)
    if tf.bool in (x.dtype, target) and x.dtype != target:  # it has no bits of booleans
        if x.dtype == tf.bool:
            return _view(tf.cast(x, tf.uint8), dtype)
        return tf.not_equal(_view(x, "uint8"), 0)
    *batch, last = dynamic_shape(x) or (1,)
    grows, shrinks = x.dtype.size // target.size, target.size // x.dtype.size
    if grows > 1:
        return tf.reshape(tf.bitcast(x, target), _sizes((*batch, last * grows)))
    if shrinks > 1:
        x = tf.reshape(x, _sizes((*batch, last // shrinks, shrinks)))
    return tf.bitcast(x, target)


@_primitive
def searchsorted(sorted_sequence: tf.Tensor, values: tf.Tensor, side: str = "left") -> tf.Tensor:
    if sorted_sequence.shape.rank != 1:
        raise ValueError("the sorted sequence must have one dimension")
    if sorted_sequence.dtype in _SHORT or sorted_sequence.dtype in _HALVES:
        wide = tf.int32 if sorted_sequence.dtype in _SHORT else tf.float32
        sorted_sequence, values = tf.cast(sorted_sequence, wide), tf.cast(values, wide)
    found = tf.searchsorted(sorted_sequence, tf.reshape(values, [-1]), side)
    return tf.reshape(found, tf.shape(values))


# Products and matrices


def _products(fn: Callable) -> Callable:
    """Integers multiply in int32; two int8 tensors stay there."""

    @wraps(fn)
    def call(*xs: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        dtype = xs[0].dtype
        if dtype not in _SHORT:
            return fn(*xs, **kwargs)
        out = fn(*(tf.cast(x, tf.int32) for x in xs), **kwargs)
        return out if dtype == tf.int8 else tf.cast(out, dtype)

    return call


def _by_floats(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    return tf.cast(_matmul(tf.cast(x1, tf.float32), tf.cast(x2, tf.float32)), tf.int32)


@_primitive
def matmul(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    if x1.dtype == tf.int8 and x1.shape.rank and (x2.shape.rank or 0) > 1 and x2.shape[-2]:
        return int8_product(x1, x2, _by_floats)
    return _matmul(x1, x2)


@_products
def _matmul(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    rank1, rank2 = x1.shape.rank, x2.shape.rank
    if not rank1 or not rank2:
        raise ValueError("the tensors must have at least one dimension")
    if rank1 == 1 and rank2 == 1:
        return tf.tensordot(x1, x2, 1)
    if rank1 == 1:
        return tf.squeeze(tf.matmul(x1[None], x2), -2)
    if rank2 == 1:
        return tf.squeeze(tf.matmul(x1, x2[:, None]), -1)
    if rank2 == 2 and rank1 > 2:  # one large product instead of many small ones
        return tf.tensordot(x1, x2, 1)
    if rank1 == 2 and rank2 == 2:
        return tf.raw_ops.MatMul(a=x1, b=x2)
    return tf.matmul(x1, x2)


@_primitive
def einsum(subscripts: str, *operands: tf.Tensor, **kwargs: Any) -> tf.Tensor:
    return _products(lambda *xs: tf.einsum(subscripts, *xs))(*operands)


@_primitive
@_wide
def tensordot(x1: tf.Tensor, x2: tf.Tensor, axes: Any = 2) -> tf.Tensor:
    return tf.tensordot(x1, x2, axes)


@_primitive
def diag(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    if x.shape.rank not in (1, 2):
        raise ValueError("the tensor must have one or two dimensions")
    return tf.linalg.diag(x, k=k) if x.shape.rank == 1 else diagonal(x, k)


@_primitive
def diagonal(x: tf.Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> tf.Tensor:
    rank = x.shape.rank
    rest = [a for a in range(rank) if a not in (axis1 % rank, axis2 % rank)]
    return tf.linalg.diag_part(tf.transpose(x, [*rest, axis1 % rank, axis2 % rank]), k=offset)


def _triangle(x: tf.Tensor, k: int) -> tf.Tensor:
    rows, columns = dynamic_shape(x)[-2:]
    return tf.range(rows)[:, None] + k >= tf.range(columns)


@_primitive
def tril(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    return tf.where(_triangle(x, k), x, tf.zeros((), x.dtype))


@_primitive
def triu(x: tf.Tensor, k: int = 0) -> tf.Tensor:
    return tf.where(_triangle(x, k - 1), tf.zeros((), x.dtype), x)


# Slices and scatters


def _starts(inputs: tf.Tensor, start_indices: Any, shape: Any) -> tf.Tensor:
    """Where a part begins, moved inside where it would reach beyond the end, as in JAX."""
    last = tf.shape(inputs) - tf.cast(tf.convert_to_tensor(shape), tf.int32)
    tf.debugging.assert_non_negative(last, "the part is larger than the shape of the tensor")
    if not isinstance(start_indices, tf.Tensor):
        start_indices = tf.stack([tf.cast(i, tf.int32) for i in start_indices])
    return tf.clip_by_value(tf.cast(start_indices, tf.int32), 0, last)


@_primitive
def slice_(inputs: tf.Tensor, start_indices: Any, shape: Any) -> tf.Tensor:
    out = tf.slice(inputs, _starts(inputs, start_indices, shape), shape)
    return tf.ensure_shape(out, shape) if not isinstance(shape, tf.Tensor) else out


@_primitive
def slice_update(inputs: tf.Tensor, start_indices: Any, updates: tf.Tensor) -> tf.Tensor:
    sizes = tf.shape(updates)
    start = _starts(inputs, start_indices, sizes)
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=inputs, begin=start, end=start + sizes, strides=tf.ones_like(start),
        value=tf.cast(updates, inputs.dtype),
    )  # fmt: skip


@_primitive
def overwrite(inputs: tf.Tensor, start_indices: Any, updates: tf.Tensor) -> tf.Tensor:
    if not for_xla():
        return slice_update(inputs, start_indices, updates)
    starts = _starts(inputs, start_indices, tf.shape(updates))
    return dynamic_update_slice(inputs, tf.cast(updates, inputs.dtype), starts)


@_primitive
def scatter_update(
    inputs: tf.Tensor, indices: tf.Tensor, updates: tf.Tensor, reduction: str | None = None
) -> tf.Tensor:
    sizes = tf.cast(tf.shape(inputs)[: indices.shape[-1]], indices.dtype)
    indices = tf.where(indices < 0, indices + sizes, indices)
    updates = tf.cast(updates, inputs.dtype)
    if reduction == "mul":
        row = tf.reduce_sum(indices * tf.math.cumprod(sizes, exclusive=True, reverse=True), -1)
        rows = tf.reduce_prod(sizes)
        factors = tf.math.unsorted_segment_prod(updates, row, rows)
        return inputs * tf.reshape(factors, tf.shape(inputs))
    how = {
        None: tf.tensor_scatter_nd_update, "add": tf.tensor_scatter_nd_add,
        "max": tf.tensor_scatter_nd_max, "min": tf.tensor_scatter_nd_min,
    }  # fmt: skip
    return how[reduction](inputs, indices, updates)


# ops/math.py


@_primitive
def logsumexp(x: tf.Tensor, axis: Any = None, keepdims: bool = False) -> tf.Tensor:
    return tf.reduce_logsumexp(x, axis, keepdims)


@_primitive
def top_k(x: tf.Tensor, k: int, sorted: bool = True) -> tuple:
    return tuple(tf.math.top_k(x, k, sorted))
