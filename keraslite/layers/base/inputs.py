"""The arguments of a call, as tensors of the layer's backend and compute dtype."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import masking, tree
from keraslite.backend import OF
from keraslite.symbolic import KerasTensor, is_symbolic
from keraslite.variable import Variable

# Tuples, not unions: Dynamo does not trace `list | tuple`.
_ARRAYS, _SEQUENCES = (np.ndarray, np.generic), (list, tuple)
_STRUCTURES = (list, tuple, dict)
_PLAIN = (type(None), bool, int, float, str, slice)


class InGraphError(Exception):
    """An argument is a tensor of a TensorFlow graph, and the layer is of another backend."""


def convert_input(layer: Any, x: Any, target: Any) -> Any:
    """Convert one argument: literals to tensors, foreign tensors by a move, floats by a cast.

    Args:
        layer: the layer that is called.
        x: the argument, nested or not.
        target: the native dtype that floats are cast to; None leaves them as they are.
    """
    cls = type(x)
    name = OF.get(cls) or (None if cls in _PLAIN else backends.of(x))
    if name == layer.backend:
        if target is None or x.dtype == target:
            return x
        # Of its own backend alone: Dynamo cannot hash another framework's dtypes.
        if x.dtype not in backends.MODULES[name].FLOATING:
            return x
    elif name == "symbolic" or cls in _PLAIN:
        return x
    converted = _convert(layer, x, name, target)
    if masking.any_masks() and (mask := masking.get_mask(x)) is not None:
        masking.set_mask(converted, convert_input(layer, mask, None))
    return converted


def _convert(layer: Any, x: Any, name: str | None, target: Any) -> Any:
    module = backends.MODULES[layer.backend]
    if name == layer.backend:
        return module.cast(x, layer.compute_dtype)
    if name is not None:
        if backends.in_graph(x):
            raise InGraphError
        return convert_input(layer, backends.to_backend(x, layer.backend), target)
    if isinstance(x, Variable):
        return convert_input(layer, x.value, target)
    if isinstance(x, _ARRAYS):
        if x.dtype.kind in "OSU":
            return x
        if x.dtype == np.float64 or (target is not None and x.dtype.kind == "f"):
            return module.convert(x, module.canonical(layer.compute_dtype))
        x = module.convert(x)
        return _cast(x, target) if isinstance(x, _ARRAYS) else convert_input(layer, x, target)
    if isinstance(x, _SEQUENCES) and x and _is_literal(x):
        dtype = () if np.asarray(x).dtype.kind in "iub" else ("float32",)
        return convert_input(layer, np.asarray(x, *dtype), target)
    if tree.is_nested(x):
        return tree.map_structure(lambda y: convert_input(layer, y, target), x)
    return x


def _is_literal(x: Any) -> bool:
    """Whether a sequence is one of numbers, nested or not, and no structure of tensors."""
    if not all(type(y) in (int, float, list) for y in x):
        return False
    first = x[0]
    while type(first) is list and first:
        first = first[0]
    return type(first) in (int, float, list)


def _cast(x: np.ndarray, target: Any) -> np.ndarray:
    floating = target is not None and x.dtype in backends.FLOATING
    return x.astype(target, copy=False) if floating else x


def any_symbolic(values: Any) -> bool:
    """Return whether there is a symbolic tensor among arguments, in structures too."""
    for x in values:  # not any(...): a generator costs more than the rest, at each call
        cls = type(x)
        if cls is KerasTensor or (cls in _STRUCTURES and is_symbolic(x)):
            return True
    return False
