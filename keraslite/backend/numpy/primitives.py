"""PRIMITIVES: what numpy answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.numpy import (
    activation,
    convolution,
    creation,
    elementwise,
    indexing,
    linalg,
    math,
    products,
    reductions,
    shapes,
    signal,
    slicing,
)
from keraslite.backend.primitives import merged

PRIMITIVES = merged(
    activation, convolution, creation, elementwise, indexing, linalg, math, products,
    reductions, shapes, signal, slicing,
)  # fmt: skip
# No op takes a Python number as such: beside bfloat16 numpy would make it float64.
SCALARS: frozenset[str] = frozenset()
SCALARS_FIRST: frozenset[str] = frozenset()
