"""(Being assembled.) The Keras 3 API on JAX, PyTorch, TensorFlow and NumPy, mixed in one process."""

import importlib

from keraslite import backend, config, ops, random, tree
from keraslite.backend import to_backend, use_backend
from keraslite.dtype_policies import DTypePolicy
from keraslite.naming import name_scope
from keraslite.ops import *  # noqa: F403
from keraslite.random import SeedGenerator
from keraslite.symbolic import KerasTensor
from keraslite.variable import AutocastScope, StatelessScope, Variable

for _name, _names in {
    "activations": "", "initializers": "Initializer", "regularizers": "Regularizer", "constraints": "",
    "losses": "Loss", "metrics": "Metric", "optimizers": "Optimizer", "utils": "", "saving": "",
    "layers": "Input InputSpec Layer", "callbacks": "", "models": "Functional Model Sequential",
}.items():
    try:
        _module = importlib.import_module(f"keraslite.{_name}")
        globals()[_name] = _module
        for _n in _names.split():
            globals()[_n] = getattr(_module, _n)
    except (ImportError, AttributeError) as _error:
        print("not yet:", _name, _error)
