"""The Keras 3 API on JAX, PyTorch, TensorFlow and NumPy, mixed in one process.

`import keraslite as keras` runs Keras code. A backend is chosen by the data: `use_backend` sets
the one that new layers and tensors belong to, `to_backend` moves tensors and live models.
"""

from typing import TYPE_CHECKING

from keraslite import (
    activations,
    applications,
    callbacks,
    config,
    constraints,
    datasets,
    dtype_policies,
    export,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    models,
    ops,
    optimizers,
    preprocessing,
    quantizers,
    random,
    regularizers,
    saving,
    tree,
    utils,
    visualization,
    wrappers,
)
from keraslite.backend import device, no_grad, to_backend, use_backend
from keraslite.dtype_policies import DTypePolicy, FloatDTypePolicy
from keraslite.initializers import Initializer
from keraslite.layers import Input, InputSpec, Layer
from keraslite.losses import Loss
from keraslite.metrics import Metric
from keraslite.models import Function, Functional, Model, Sequential
from keraslite.naming import name_scope
from keraslite.operation import Operation
from keraslite.ops import (
    checkpoint,
    cond,
    custom_gradient,
    grad,
    jit,
    jvp,
    scan,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
    while_loop,
)
from keraslite.ops import checkpoint as remat
from keraslite.optimizers import Optimizer
from keraslite.quantizers import Quantizer
from keraslite.random import SeedGenerator
from keraslite.regularizers import Regularizer
from keraslite.symbolic import KerasTensor
from keraslite.variable import AutocastScope, StatelessScope, Variable

if TYPE_CHECKING:  # a type checker does not see that the module can be called
    from keraslite.backend import CallableModule

    backend: CallableModule
else:
    from keraslite import backend

__version__ = "0.1.0"


def version() -> str:
    """Return the version of this package.

    >>> version() == __version__
    True
    """
    return __version__


__all__ = [
    "AutocastScope", "DTypePolicy", "FloatDTypePolicy", "Function", "Functional", "Initializer",
    "Input", "InputSpec", "KerasTensor", "Layer", "Loss", "Metric", "Model", "Operation",
    "Optimizer", "Quantizer", "Regularizer", "SeedGenerator", "Sequential", "StatelessScope",
    "Variable", "activations", "applications", "backend", "callbacks", "checkpoint", "cond",
    "config", "constraints", "custom_gradient", "datasets", "device", "dtype_policies", "export",
    "grad", "initializers", "jit", "jvp", "layers", "losses", "metrics", "mixed_precision",
    "models", "name_scope", "no_grad", "ops", "optimizers", "preprocessing", "quantizers", "random",
    "regularizers", "remat", "saving", "scan", "stop_gradient", "to_backend", "tree", "use_backend",
    "utils", "value_and_grad", "version", "visualization", "vjp", "vmap", "while_loop", "wrappers",
]  # fmt: skip
