"""The JAX backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.freed_memory import keep_freed_memory as _keep_freed_memory
from keraslite.backend.jax.cache import keep_compiled_programs as _keep_compiled_programs
from keraslite.backend.jax.carrier import *
from keraslite.backend.jax.compiling import announce_compilations as _announce_compilations
from keraslite.backend.jax.engine import *
from keraslite.backend.jax.errors import explain
from keraslite.backend.jax.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.jax.tensors import *

_keep_compiled_programs()
_announce_compilations()
_keep_freed_memory(one_arena=True)  # XLA runs in threads of its own
