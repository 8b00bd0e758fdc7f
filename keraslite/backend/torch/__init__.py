"""The PyTorch backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.torch.engine import *
from keraslite.backend.torch.primitives import PRIMITIVES, SCALARS
from keraslite.backend.torch.tensors import *
