"""The backends: one interface over JAX, PyTorch, TensorFlow and NumPy.

`interface.py` is what a backend gives, `dispatch.py` chooses one by the type of the data. A folder
holds a framework: `tensors.py` makes, casts and reads tensors, `engine.py` has variables,
gradients, compilation and control flow, `errors.py` tells its errors apart, and the primitives lie
in a file for each topic of `ops/` (`primitives.py` says which small topics share one). What layers
of a framework's own code need (`layers/frameworks/`) lies beside: `torch/wrapped.py`,
`jax/functions.py`, `jax/flax_modules.py`, `jax/haiku_modules.py`, `tensorflow/functions.py`. On the
backends of other frameworks such code is a `foreign.ForeignFunction`, which `carrier.py` calls.
`torch/fast/` holds faster forms of operations, without which results are the same. `counter`,
`integers`, `memory` and `windows` are arithmetic that several backends share; `freed_memory` keeps
the memory of a step for the next one.
"""

import sys
from types import ModuleType
from typing import Any

from keraslite import config, dtypes
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
    has_ragged_tensors,
    has_tf_data,
    host_call,
    in_graph,
    is_tensor,
    is_text,
    load,
    module_of,
    no_grad,
    of,
    ragged_tensor,
    refuse_to_mix,
    seed_frameworks,
    tf_dataset,
    to_backend,
    to_numpy,
    use_backend,
)

# Where Keras has them, too.
from keraslite.config import (
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from keraslite.dtypes import result_type
from keraslite.dtypes import standardize as standardize_dtype


def is_float_dtype(dtype: Any) -> bool:
    """Return whether a data type, in any form, is a floating-point one.

    >>> is_float_dtype("bfloat16"), is_float_dtype("int8")
    (True, False)
    """
    return dtypes.is_float(standardize_dtype(dtype))


def is_int_dtype(dtype: Any) -> bool:
    """Return whether a data type, in any form, is a signed or unsigned integer.

    >>> is_int_dtype("uint8"), is_int_dtype("bool")
    (True, False)
    """
    return dtypes.is_int(standardize_dtype(dtype))


class CallableModule(ModuleType):
    """`keraslite.backend()` names the current backend; `keraslite.backend` is this module too."""

    def __call__(self) -> str:
        return backend()


sys.modules[__name__].__class__ = CallableModule


def set_backend(backend: str) -> None:
    """Make a backend the current one, as `use_backend` does; nothing is reloaded.

    Args:
        backend: its name.
    """
    use_backend(backend)


config.backend = backend  # type: ignore[attr-defined]
config.set_backend = set_backend  # type: ignore[attr-defined]
