"""The tensor arguments of an operation: the backend they belong to, and their common dtype."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.backend import OF

# Classes of literals that hold neither tensors nor variables.
_PLAIN = dict.fromkeys((type(None), bool, int, float, complex, str, np.ndarray))


def unwrap(x: Any, backends_met: set) -> Any:
    """Replace variables by their values, in lists too, and collect the backends of the tensors.

    Args:
        x: an argument of an operation.
        backends_met: the set that the names of the backends are added to.
    """
    cls = type(x)
    name = OF.get(cls)
    if name is None:
        if cls in _PLAIN:
            return x
        name = backends.of(x)
    if name is not None:
        backends_met.add(name)
        return x
    if hasattr(x, "_kl_value"):
        return unwrap(x._kl_value, backends_met)
    if (cls is list or cls is tuple) and any(type(y) not in (int, float, bool) for y in x):
        return cls([unwrap(y, backends_met) for y in x])
    return x


def choose_backend(caller: str, names: set) -> str:
    """The one backend among `names`; the current one if there is none.

    Args:
        caller: the function that was called, for the error message.
        names: the backends of its tensors; "symbolic" comes before all others.

    Raises:
        TypeError: the tensors belong to two frameworks.
    """
    if len(names) > 1:
        if "symbolic" in names:
            return "symbolic"
        backends.refuse_to_mix(caller, names)
    return next(iter(names)) if names else backends.backend()


def promote(
    tensors: list,
    backend: str,
    together: Sequence[int],
    lift: str | None = None,
    raw: Collection[int] = (),
    scalars: Collection[str] = (),
) -> list[str]:
    """Convert literals to tensors and bring them to their common dtype, in place.

    Args:
        tensors: tensors of `backend`, literals and Nones.
        backend: the backend's name.
        together: the positions of those that promote to one dtype.
        lift: the weak type that the common dtype is at least.
        raw: the positions of those that are left as they are.
        scalars: the backends whose primitive takes Python numbers beside the first tensor.

    Returns:
        The dtypes that those that promote to one had before.
    """
    module = backends.load(backend)
    tensor_types, weak = module.TYPES, dtypes.weak
    names: dict[int, str] = {}
    for i in together:
        x = tensors[i]
        if x is not None:
            names[i] = weak(type(x)) or _dtype_name(module, x)
    before = [*names.values()]
    common = dtypes.join(*before) if names else None
    target = common and dtypes.strong(common)
    if target and lift and not target.startswith(("float", "bfloat", "complex")):
        target = dtypes.strong(dtypes.join(common, lift))
    target = target and module.canonical(target)
    for i, x in enumerate(tensors):
        if x is None or i in raw:
            continue
        if i not in together:
            if OF.get(type(x)) is None:
                tensors[i] = module.convert(x)
        elif isinstance(x, tensor_types):
            if names[i] != target:
                tensors[i] = module.cast(x, target)
        elif i and backend in scalars and type(x) in (int, float) and target in names.values():
            pass  # a native number follows the tensor that already has the result's type
        else:
            tensors[i] = module.convert(x, target)
            if type(x) is float:
                names[i] = target
    return before


def _dtype_name(module: Any, x: Any) -> str:
    if isinstance(x, module.TYPES):
        return module.dtype_of(x)
    if OF.get(type(x)) is not None:  # to numpy it would be a list of a great many rows
        raise TypeError("a sparse tensor")
    return module.canonical(dtypes.of_literal(x).dtype.name)
