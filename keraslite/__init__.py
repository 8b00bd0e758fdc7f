"""The Keras 3 API on JAX, PyTorch, TensorFlow and NumPy, mixed in one process."""

from keraslite import backend, config, ops, random, symbolic
from keraslite.backend import to_backend, use_backend
from keraslite.symbolic import KerasTensor
from keraslite.variable import StatelessScope, Variable
