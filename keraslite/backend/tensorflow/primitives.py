"""PRIMITIVES: what TensorFlow answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.primitives import TAKE_NUMBERS, merged
from keraslite.backend.tensorflow import (
    activation,
    convolution,
    creation,
    crossentropy,
    elementwise,
    image,
    indexing,
    linalg,
    math,
    normalization,
    products,
    reductions,
    shapes,
    signal,
    slicing,
)

PRIMITIVES = merged(
    activation, convolution, creation, crossentropy, elementwise, image, indexing, linalg,
    math, normalization, products, reductions, shapes, signal, slicing,
)  # fmt: skip
SCALARS = TAKE_NUMBERS
SCALARS_FIRST: frozenset[str] = frozenset()
