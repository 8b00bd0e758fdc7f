"""PRIMITIVES: what torch answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.primitives import TAKE_NUMBERS, merged
from keraslite.backend.torch import (
    activation,
    attention,
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
    rnn,
    shapes,
    signal,
    slicing,
)

PRIMITIVES = merged(
    activation, attention, convolution, creation, crossentropy, elementwise, image, indexing,
    linalg, math, normalization, products, reductions, rnn, shapes, signal, slicing,
)  # fmt: skip
SCALARS = TAKE_NUMBERS
SCALARS_FIRST: frozenset[str] = frozenset()
