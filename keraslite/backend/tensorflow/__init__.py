"""The TensorFlow backend: an answer to each name of `interface.Backend`."""

from keraslite.backend.tensorflow.carrier import *
from keraslite.backend.tensorflow.engine import *
from keraslite.backend.tensorflow.errors import explain
from keraslite.backend.tensorflow.primitives import PRIMITIVES, SCALARS, SCALARS_FIRST
from keraslite.backend.tensorflow.tensors import *
