"""PRIMITIVES for ops/numpy.py and ops/core.py on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.numpy.tensors import native

# Ops whose numpy function takes a Python number beside an array and follows the array's dtype.
SCALARS = frozenset(["add", "subtract", "multiply", "divide", "true_divide", "power"])

_AS_THEY_ARE = """add subtract multiply divide power matmul exp log sqrt tanh sin cos reshape
    transpose absolute negative stack"""
TABLE = {name: getattr(np, name) for name in _AS_THEY_ARE.split()}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__] = fn
    return fn


@_primitive
def zeros(shape: Any, dtype: Any = None) -> np.ndarray:
    return np.zeros(shape, native(dtype))
