"""Elementwise ops on TensorFlow: arithmetic, comparisons, bits, exponentials, rounding."""

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keraslite.backend.primitives import primitive
from keraslite.backend.tensorflow.indexing import nonzero
from keraslite.backend.tensorflow.precision import HALVES, in_float32, in_int32

# The functions around the kernels that take ragged tensors, where the kernels refuse them.
_OF_RAGGED = {
    "AddV2": tf.add, "Sub": tf.subtract, "Mul": tf.multiply, "RealDiv": tf.divide, "Pow": tf.pow,
    "FloorMod": tf.math.floormod, "FloorDiv": tf.math.floordiv,
}  # fmt: skip


def raw_kernel(name: str) -> Callable:
    """A kernel without the dispatch around tf.math's functions, which costs as much as the kernel:
    5 us of the 10 of tf.math.add.
    """
    kernel = getattr(tf.raw_ops, name)
    first, *rest = [p for p in inspect.signature(kernel).parameters if p != "name"]
    if rest:
        second = rest[0]  # Atan2's are y and x, NextAfter's x1 and x2
        dispatched = _OF_RAGGED.get(name)

        def call(x1: Any, x2: Any) -> Any:
            try:
                return kernel(**{first: x1, second: x2})
            except (TypeError, ValueError):
                if dispatched and any(isinstance(x, tf.RaggedTensor) for x in (x1, x2)):
                    return dispatched(x1, x2)
                raise

        return call
    return lambda x: kernel(**{first: x})


_RAW = {
    "exp": "Exp", "expm1": "Expm1", "log": "Log", "log1p": "Log1p", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "sqrt": "Sqrt", "floor": "Floor",
    "ceil": "Ceil", "reciprocal": "Reciprocal", "arcsin": "Asin", "arccos": "Acos",
    "arctan": "Atan", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh",
    "arctan2": "Atan2", "divide": "RealDiv", "equal": "Equal",
    "not_equal": "NotEqual",
}  # fmt: skip


_RAW_WIDE = {
    "add": "AddV2", "multiply": "Mul", "power": "Pow", "mod": "FloorMod",
    "floor_divide": "FloorDiv", "maximum": "Maximum", "minimum": "Minimum",
    "square": "Square", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "bitwise_left_shift": "LeftShift",
    "bitwise_right_shift": "RightShift",
}  # fmt: skip


_NO_BOOLEANS = {"subtract": "Sub", "sign": "Sign", "negative": "Neg"}


_COMPARE = {"less": "Less", "less_equal": "LessEqual", "greater": "Greater",
            "greater_equal": "GreaterEqual"}  # fmt: skip


def _floats_only(fn: Callable, otherwise: bool) -> Callable:
    """A test of floats, which is the same for all integers."""

    def call(x: tf.Tensor) -> tf.Tensor:
        if x.dtype.is_floating:
            return fn(x)
        return tf.fill(tf.shape(x), otherwise)

    return call


def _logical(fn: Callable) -> Callable:
    return lambda *xs: fn(*(x if x.dtype == tf.bool else tf.cast(x, tf.bool) for x in xs))


TABLE: dict[str, Any] = {name: raw_kernel(kernel) for name, kernel in _RAW.items()}
TABLE |= {name: in_int32(raw_kernel(kernel)) for name, kernel in _RAW_WIDE.items()}
TABLE |= {name: in_int32(raw_kernel(k), booleans=False) for name, k in _NO_BOOLEANS.items()}
TABLE |= {name: in_int32(raw_kernel(kernel), back=False) for name, kernel in _COMPARE.items()}
TABLE |= {
    name: _logical(getattr(tf.math, name))
    for name in ("logical_and", "logical_or", "logical_xor", "logical_not")
}
TABLE |= {
    "absolute": in_int32(tf.math.abs),
    "fmod": in_int32(in_float32(lambda x1, x2: tf.raw_ops.TruncateMod(
        x=x1, y=tf.convert_to_tensor(x2, x1.dtype)))),
    "i0": in_float32(tf.math.bessel_i0),
    "isnan": _floats_only(tf.math.is_nan, False),
    "isinf": _floats_only(tf.math.is_inf, False),
    "isfinite": _floats_only(tf.math.is_finite, True),
}  # fmt: skip


@primitive(TABLE)
def bitwise_not(x: tf.Tensor) -> tf.Tensor:
    return tf.logical_not(x) if x.dtype == tf.bool else tf.bitwise.invert(x)


@primitive(TABLE)
def trunc(x: tf.Tensor) -> tf.Tensor:
    return tf.where(x < 0, tf.math.ceil(x), tf.math.floor(x)) if x.dtype.is_floating else x


@primitive(TABLE)
def round_(x: tf.Tensor, decimals: int = 0) -> tf.Tensor:
    if not decimals:
        return tf.math.round(x) if x.dtype.is_floating else x
    if not x.dtype.is_floating:
        if decimals > 0:
            return x
        return tf.cast(round_(tf.cast(x, tf.float32), decimals), x.dtype)
    scale = tf.cast(10.0 ** abs(decimals), x.dtype)
    return tf.math.round(x * scale) / scale if decimals > 0 else tf.math.round(x / scale) * scale


@primitive(TABLE)
def signbit(x: tf.Tensor) -> tf.Tensor:
    if x.dtype.is_floating:
        return tf.less(tf.bitcast(tf.cast(x, tf.float32), tf.int32), 0)
    return tf.less(tf.cast(x, tf.int32), 0)


@primitive(TABLE)
def conjugate(x: tf.Tensor) -> tf.Tensor:
    return tf.math.conj(x) if x.dtype.is_complex else x


@primitive(TABLE)
def real(x: tf.Tensor) -> tf.Tensor:
    return tf.math.real(x) if x.dtype.is_complex else x


@primitive(TABLE)
def imag(x: tf.Tensor) -> tf.Tensor:
    return tf.math.imag(x) if x.dtype.is_complex else tf.zeros_like(x)


@primitive(TABLE)
def nextafter(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    if x1.dtype not in HALVES:
        return tf.math.nextafter(x1, x2)
    bits = tf.bitcast(x1, tf.int16)
    away = tf.equal(x2 > x1, x1 > 0)  # the bits of a number without its sign grow with it
    after = tf.where(away, bits + 1, bits - 1)
    smallest = tf.where(x2 > 0, tf.ones_like(bits), tf.constant(1 - 2**15, tf.int16))
    after = tf.bitcast(tf.where(tf.equal(x1, 0), smallest, after), x1.dtype)
    after = tf.where(tf.equal(x1, x2), x2, after)
    return tf.where(tf.math.is_nan(x1) | tf.math.is_nan(x2), x1 + x2, after)


@primitive(TABLE)
def clip(x: tf.Tensor, x_min: Any, x_max: Any) -> tf.Tensor:
    return TABLE["minimum"](TABLE["maximum"](x, x_min), x_max)


@primitive(TABLE)
def where(condition: tf.Tensor, x1: Any = None, x2: Any = None) -> Any:
    condition = condition if condition.dtype == tf.bool else tf.cast(condition, tf.bool)
    if x1 is None and x2 is None:
        return nonzero(condition)
    if type(x1) in (int, float):
        x1 = tf.convert_to_tensor(x1, x2.dtype)
    if type(x2) in (int, float):
        x2 = tf.convert_to_tensor(x2, x1.dtype)
    return tf.where(condition, x1, x2)


@primitive(TABLE)
def gcd(x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    dtype = x1.dtype
    if not dtype.is_integer:
        raise TypeError("the arguments must be integers")
    x1, x2 = (tf.abs(tf.cast(x, tf.int64)) for x in (x1, x2))
    shape = tf.broadcast_dynamic_shape(tf.shape(x1), tf.shape(x2))
    pair = tf.broadcast_to(x1, shape), tf.broadcast_to(x2, shape)

    def step(a: tf.Tensor, b: tf.Tensor) -> tuple:
        rest = tf.math.floormod(a, tf.where(tf.equal(b, 0), tf.ones_like(b), b))
        return tf.where(tf.equal(b, 0), a, b), tf.where(tf.equal(b, 0), b, rest)

    return tf.cast(tf.while_loop(lambda a, b: tf.reduce_any(b > 0), step, pair)[0], dtype)
