"""The TensorFlow backend: TENSORS, PRIMITIVES, ENGINE."""

from keraslite.backend.tensorflow.engine import *  # noqa: F403
from keraslite.backend.tensorflow.primitives import PRIMITIVES, SCALARS  # noqa: F401
from keraslite.backend.tensorflow.tensors import *  # noqa: F403
