"""The NumPy backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.numpy.engine import *  # noqa: F403
from keraslite.backend.numpy.primitives import PRIMITIVES, SCALARS  # noqa: F401
from keraslite.backend.numpy.tensors import *  # noqa: F403
