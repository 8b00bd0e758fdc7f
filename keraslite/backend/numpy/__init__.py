"""The NumPy backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.numpy.engine import *
from keraslite.backend.numpy.primitives import PRIMITIVES, SCALARS
from keraslite.backend.numpy.tensors import *
