"""Recovery from errors of a backend: another form of the operation, or an error that explains it.

Bad shapes are ValueErrors and bad types TypeErrors on every backend, with the operation's name and
its arguments in the message.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.backend.errors import first_line
from keraslite.ops.promotion import unwrap

# op -> its form where one of its tensors is sparse; `ops.sparse` fills it.
SPARSE: dict[str, Callable] = {}


class _IndexError(ValueError, IndexError):
    """A bad index: a ValueError, and an IndexError, which ends an iteration."""


def sparse_module(x: Any) -> Any:
    """The module of the backend that a sparse tensor belongs to; None for anything else."""
    module = backends.MODULES.get(backends.of(x) or "")
    return module if module is not None and module.is_sparse(x) else None


def recover(row: Any, error: Exception, args: tuple, kwargs: dict) -> Any:
    """Run another form of a failed operation, or raise its error as one of ours.

    The other forms are the one for sparse tensors, and the operation in a wider dtype where the
    framework lacks a kernel. Must be called while `error` is handled.

    Args:
        row: the `Op` that failed.
        error: what its backend raised.
        args: the arguments it was called with.
        kwargs: the keyword arguments it was called with.

    Raises:
        ValueError: for bad shapes.
        TypeError: for bad dtypes, and sparse tensors where there is no form for them.
    """
    if any(sparse_module(x) is not None for x in tree.flatten((args, kwargs))):
        form = SPARSE.get(row.name)
        if form is not None:
            return form(*args, **kwargs)
        raise TypeError(
            f"ops.{row.name} has no form for sparse tensors: make it dense with "
            "ops.convert_to_tensor(x, sparse=False)."
        ) from error
    module = _module_of(args, kwargs)
    inner_text = getattr(error, "_kl_text", None)
    error_type = type(error) if inner_text else module.explain(error)
    if error_type is not None and issubclass(error_type, TypeError):
        result = _in_wider_dtype(module, row, args, kwargs)
        if result is not NotImplemented:
            return result
    text = inner_text or first_line(error)
    if error_type is None or text.startswith("ops."):
        raise
    if error_type is IndexError:
        error_type = _IndexError
    shown = [describe(x) for x in args] + [f"{k}={describe(x)}" for k, x in kwargs.items()]
    explained = error_type(f"ops.{row.name}({', '.join(shown)}): {text}")
    explained._kl_text = text  # an op around this one raises the same text under its own name
    raise explained from (error.__cause__ if inner_text else error)


def _module_of(args: tuple, kwargs: dict) -> Any:
    """The module of the backend that ran an operation on these arguments."""
    names: set[str] = set()
    unwrap([args, *kwargs.values()], names)
    names &= backends.MODULES.keys()  # symbolic tensors are run by the current backend
    return backends.load(next(iter(names))) if len(names) == 1 else backends.current()


def _in_wider_dtype(module: Any, row: Any, args: tuple, kwargs: dict) -> Any:
    """Run the operation on integers of a dtype without kernels in a wider dtype that has them.

    Results of the wider dtype are cast back to the integers' own, or to the first tensor's where
    the operation does not promote; they wrap around as theirs would.
    """
    wider, narrow_dtypes = module.WIDER, []

    def widen(x: Any) -> Any:
        x = getattr(x, "_kl_value", x)
        if isinstance(x, str) and x in wider:  # dtype=
            narrow_dtypes.append(x)
            return wider[x]
        if not isinstance(x, (*module.TYPES, np.ndarray)):
            return x
        name = dtypes.standardize(x.dtype)
        if name not in wider:
            return x
        narrow_dtypes.append(name)
        return module.cast(module.convert(x), wider[name])

    wide_args, wide_kwargs = tree.map_structure(widen, (args, kwargs))
    if not narrow_dtypes:
        return NotImplemented
    target = dtypes.join(*narrow_dtypes) if row.promotes else narrow_dtypes[0]

    def narrow(x: Any) -> Any:
        is_wide = isinstance(x, module.TYPES) and module.dtype_of(x) == wider[narrow_dtypes[0]]
        return module.cast(x, target) if is_wide else x

    try:
        return tree.map_structure(narrow, row.call(*wide_args, **wide_kwargs))
    except Exception:  # it has no meaning for integers at all: the first error says so better
        return NotImplemented


def describe(x: Any) -> str:
    """A short text for a value: the dtype and shape of a tensor.

    >>> describe(np.ones((2, 3), "float32"))
    'float32(2, 3)'
    """
    if isinstance(x, list | tuple) and any(hasattr(y, "shape") for y in x):
        return f"[{', '.join(describe(y) for y in x)}]"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{dtypes.standardize(x.dtype)}{tuple(x.shape)}"
    return repr(x) if len(repr(x)) < 60 else f"{repr(x)[:57]}..."
