"""The PyTorch backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.freed_memory import keep_freed_memory as _keep_freed_memory
from keraslite.backend.torch.carrier import *
from keraslite.backend.torch.engine import *
from keraslite.backend.torch.errors import explain
from keraslite.backend.torch.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.torch.tensors import *

_keep_freed_memory()
