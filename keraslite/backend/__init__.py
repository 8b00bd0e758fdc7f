"""The backends: one interface over JAX, PyTorch, TensorFlow and NumPy.

`interface.py` is what a backend gives, `dispatch.py` chooses one by the type of the data. A folder
holds a framework: `tensors.py` makes, casts and reads tensors, `engine.py` has variables,
gradients, compilation and control flow, `errors.py` tells its errors apart, and the primitives lie
in a file for each topic of `ops/` (`primitives.py` says which small topics share one).
`torch/fast/` holds faster forms of operations, without which results are the same. `counter`,
`integers`, `memory` and `windows` are arithmetic that several backends share.
"""

import sys
from types import ModuleType

from keraslite.backend.dispatch import (
    FLOATING,
    MODULES,
    NAMES,
    OF,
    ON_LOAD,
    accelerated,
    allow_tensor_float_32,
    available,
    backend,
    backend_scope,
    compiles,
    current,
    device,
    host_call,
    in_graph,
    is_tensor,
    is_text,
    load,
    module_of,
    no_grad,
    of,
    refuse_to_mix,
    seed_frameworks,
    to_backend,
    to_numpy,
    use_backend,
)


class CallableModule(ModuleType):
    """`keraslite.backend()` names the current backend; `keraslite.backend` is this module too."""

    def __call__(self) -> str:
        return backend()


sys.modules[__name__].__class__ = CallableModule
