"""The JAX backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.jax.engine import *
from keraslite.backend.jax.primitives import PRIMITIVES, SCALARS
from keraslite.backend.jax.tensors import *
