"""The PyTorch backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.torch.engine import *  # noqa: F403
from keraslite.backend.torch.primitives import PRIMITIVES, SCALARS  # noqa: F401
from keraslite.backend.torch.tensors import *  # noqa: F403
