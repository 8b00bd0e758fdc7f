"""Which backend runs a transformation or a loop, and its arguments as that backend's tensors."""

from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.ops.promotion import choose_backend
from keraslite.variable import Variable


def backend_of_arguments(args: tuple, kwargs: dict) -> str:
    """The backend that the tensors in the arguments belong to."""
    names = {backends.OF.get(type(x)) for x in args}
    if len(names) != 1 or kwargs or not names <= backends.MODULES.keys():
        names = {
            x.backend if isinstance(x, Variable) else backends.of(x)
            for x in tree.flatten((args, tuple(kwargs.values())))  # Dynamo knows no dict there
            if isinstance(x, Variable) or backends.of(x) is not None
        }
    return choose_backend("A transformed function", names - {"symbolic"})


def engine_of(*structures: Any) -> Any:
    """The module of the backend that the tensors in the arguments belong to."""
    return backends.load(backend_of_arguments(structures, {}))


def as_tensors(module: Any, structure: Any, numbers: bool = True) -> Any:
    """Arrays, and numbers too unless told otherwise, as tensors of a backend."""

    def convert(x: Any) -> Any:
        is_literal = hasattr(x, "__array__") or (numbers and type(x) in (int, float))
        return module.convert(x) if is_literal else x

    return tree.map_structure(convert, structure)
