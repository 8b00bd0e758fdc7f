"""The JAX backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.jax.cache import keep_compiled_programs as _keep_compiled_programs
from keraslite.backend.jax.engine import *
from keraslite.backend.jax.errors import explain
from keraslite.backend.jax.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.jax.tensors import *

_keep_compiled_programs()
