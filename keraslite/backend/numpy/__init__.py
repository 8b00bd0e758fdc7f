"""The NumPy backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.numpy.carrier import *
from keraslite.backend.numpy.engine import *
from keraslite.backend.numpy.errors import explain
from keraslite.backend.numpy.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.numpy.tensors import *
