"""Which backend runs a transformation or a loop, its arguments as that backend's tensors, and the
symbolic branch of control flow.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.ops.op import RUNNERS
from keraslite.ops.promotion import choose_backend
from keraslite.scopes import scopes
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


class ControlFlow:
    """An operation that runs functions of tensors.

    Args:
        call: the operation.
        form: the same without looking at values, by as few calls of the functions as give the
            shapes and dtypes of the results.
    """

    def __init__(self, call: Callable, form: Callable):
        self.name, self.call, self.form = call.__name__, call, form


def control_flow(form: Callable | None = None) -> Callable[[Callable], Callable]:
    """Let an operation that runs functions take symbolic tensors, and tensors without values.

    Args:
        form: `ControlFlow.form`; by default the operation looks at no values.
    """

    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if any(backends.OF.get(type(x)) == "symbolic"
                   for x in tree.flatten((args, tuple(kwargs.values())))):  # fmt: skip
                return RUNNERS["control flow"](row, args, kwargs)
            return row.form(*args, **kwargs) if scopes.abstract else function(*args, **kwargs)

        row = ControlFlow(call, form or function)
        call.op = row
        return call

    return decorate
