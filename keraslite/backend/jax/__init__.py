"""The JAX backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.jax.engine import *  # noqa: F403
from keraslite.backend.jax.primitives import PRIMITIVES, SCALARS  # noqa: F401
from keraslite.backend.jax.tensors import *  # noqa: F403
