"""PRIMITIVES: what JAX answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.jax import (
    activation,
    attention,
    convolution,
    creation,
    crossentropy,
    elementwise,
    indexing,
    linalg,
    math,
    products,
    reductions,
    rnn,
    shapes,
    signal,
    slicing,
)
from keraslite.backend.primitives import TAKE_NUMBERS, merged

PRIMITIVES = merged(
    activation, attention, convolution, creation, crossentropy, elementwise, indexing, linalg,
    math, products, reductions, rnn, shapes, signal, slicing,
)  # fmt: skip
SCALARS = TAKE_NUMBERS
SCALARS_FIRST = TAKE_NUMBERS - {"clip", "where"}
