"""PRIMITIVES for ops/numpy.py and ops/core.py on TensorFlow."""

from typing import Any

import tensorflow as tf

from keraslite.backend.tensorflow.tensors import native

# Ops whose TensorFlow function takes a Python number beside a tensor and follows its dtype.
SCALARS = frozenset(["add", "subtract", "multiply", "divide", "true_divide", "power"])

_AS_THEY_ARE = "add subtract multiply exp sqrt tanh sin cos reshape transpose stack"
TABLE = {name: getattr(tf, name) for name in _AS_THEY_ARE.split()} | {
    "divide": tf.divide,
    "power": tf.pow,
    "matmul": tf.matmul,
    "log": tf.math.log,
    "absolute": tf.abs,
    "negative": tf.negative,
    "stop_gradient": tf.stop_gradient,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


@_primitive
def zeros(shape: Any, dtype: Any = None) -> tf.Tensor:
    return tf.zeros(shape, native(dtype))
