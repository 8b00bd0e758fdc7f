"""The TensorFlow backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.tensorflow.engine import *
from keraslite.backend.tensorflow.primitives import PRIMITIVES, SCALARS
from keraslite.backend.tensorflow.tensors import *
