"""The PyTorch backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.torch.engine import *
from keraslite.backend.torch.errors import explain
from keraslite.backend.torch.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.torch.tensors import *
