"""`@op`: one definition of an operation for all backends.

The decorated function gives name, signature, docstring and a composite body in terms of other ops.
A backend answers with a primitive of the same name and signature, or stays silent and the body
runs. Around either, the wrapper converts literals, promotes dtypes and branches to the symbolic
form; the common case (all tensors of one framework and one dtype) costs a few dictionary look-ups.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.backend import FLOATING, OF

TABLE: dict[str, "Op"] = {}


class Op:
    """A row of the table: how the tensor arguments of an operation are prepared, and who runs it.

    Args:
        body: the composite definition, or a body that raises where only a primitive will do.
        tensors: how many leading parameters are tensors (None is allowed for optional ones).
        promote: the positions of those that are brought to one common dtype.
        to_float: whether integers and booleans become floats first.
    """

    def __init__(self, body: Callable, tensors: int, promote: tuple[int, ...], to_float: bool):
        self.name, self.body, self.tensors = body.__name__, body, tensors
        self.promote, self.to_float = promote, to_float
        self.parameters = list(inspect.signature(body).parameters.values())
        self.impls: dict[str, Callable] = {}
        self.scalars: set[str] = set()  # the backends whose primitive takes Python numbers as such
        for name, module in backends.MODULES.items():
            self.install(name, module)

    def install(self, name: str, module: Any) -> None:
        """Take the backend's primitive, or the composite body where it has none."""
        self.impls[name] = module.PRIMITIVES.get(self.name, self.body)
        if self.name in module.SCALARS:
            self.scalars.add(name)

    def bind(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Move tensors given by keyword to their positions."""
        args, kwargs = list(args), dict(kwargs)
        for parameter in self.parameters[len(args) : self.tensors]:
            if parameter.name not in kwargs and parameter.default is parameter.empty:
                raise TypeError(f"ops.{self.name}() misses the argument {parameter.name!r}.")
            args.append(kwargs.pop(parameter.name, parameter.default))
        return tuple(args), kwargs


def _prepare(row: Op, tensors: list, backend: str) -> None:
    """Convert literals and promote, in place. The tensors belong to `backend` or are literals."""
    module = backends.load(backend)
    names: list[str] = []
    for i in row.promote:
        x = tensors[i]
        if x is not None:
            names.append(dtypes.weak(type(x)) or _name_of(module, x))
    common = dtypes.join(*names) if names else None
    target = common and dtypes.strong(common)
    if target and row.to_float and not target.startswith(("float", "bfloat", "complex")):
        target = dtypes.strong(dtypes.join(common, "float*"))
    target = target and module.canonical(target)
    for i, x in enumerate(tensors):
        if x is None:
            continue
        if i not in row.promote:
            if backends.OF.get(type(x)) is None:
                tensors[i] = module.convert(x)
        elif isinstance(x, module.TYPES):
            if module.dtype_of(x) != target:
                tensors[i] = module.cast(x, target)
        elif backend in row.scalars and type(x) in (int, float, bool) and target in names:
            pass  # a native number follows the tensor that already has the result's type
        else:
            tensors[i] = module.convert(x, target)


def _name_of(module: Any, x: Any) -> str:
    if isinstance(x, module.TYPES):
        return module.dtype_of(x)
    return module.canonical(dtypes.of_literal(x).dtype.name)


def _contents(x: Any, found: set) -> Any:
    """Unwrap a variable, look into lists of tensors, and collect the backends met."""
    name = OF.get(type(x)) or backends.of(x)
    if name is not None:
        found.add(name)
        return x
    if hasattr(x, "_kl_value"):
        return _contents(x._kl_value, found)
    if type(x) in (list, tuple) and any(type(y) not in (int, float, bool) for y in x):
        return type(x)([_contents(y, found) for y in x])
    return x


def choose(what: str, found: set) -> str:
    """The one backend of the tensors met; the current one if they were all literals."""
    if len(found) > 1:
        if "symbolic" in found:
            return "symbolic"
        backends.refuse_to_mix(what, found)
    return next(iter(found)) if found else backends.backend()


def _slow(row: Op, args: tuple, kwargs: dict) -> Any:
    """Everything but the common case."""
    if len(args) < row.tensors:
        args, kwargs = row.bind(args, kwargs)
    found: set[str] = set()
    tensors = [_contents(x, found) for x in args[: row.tensors]]
    backend = choose(f"ops.{row.name}", found)
    if backend == "symbolic":
        from keraslite.symbolic import call_op

        return call_op(row, (*tensors, *args[row.tensors :]), kwargs)
    _load(backend)
    _prepare(row, tensors, backend)
    return row.impls[backend](*tensors, *args[row.tensors :], **kwargs)


def _load(backend: str) -> None:
    if backend not in backends.MODULES:
        backends.load(backend)


def _one(row: Op) -> Callable:
    """The wrapper of an operation on one tensor."""
    impls, to_float, count = row.impls, row.to_float, row.tensors

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) >= count:
            x = args[0]
            backend = OF.get(type(x))
            if backend is not None and (not to_float or x.dtype in FLOATING):
                impl = impls.get(backend)
                if impl is not None:
                    return impl(*args, **kwargs)
        return _slow(row, args, kwargs)

    return call


def _many(row: Op) -> Callable:
    """The wrapper of an operation on several tensors that promote together."""
    impls, to_float, count, scalars = row.impls, row.to_float, row.tensors, row.scalars
    first, second = row.promote[0], row.promote[-1]

    def call(*args: Any, **kwargs: Any) -> Any:
        if count == 2 and len(args) >= 2:
            a, b = args[first], args[second]
            kind = type(a)
            backend = OF.get(kind)
            if backend is not None and backend != "symbolic":
                other = type(b)
                dtype = a.dtype
                if (
                    (other is kind or OF.get(other) == backend) and dtype == b.dtype
                    if other is not float
                    else backend in scalars
                ) and ((not to_float and other is not float) or dtype in FLOATING):
                    return impls[backend](*args, **kwargs)
        return _slow(row, args, kwargs)

    return call


def _sequence(row: Op) -> Callable:
    """The wrapper of an operation whose first argument is a list of tensors."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not args:
            args, kwargs = row.bind(args, kwargs)
        found: set[str] = set()
        given = args[0]
        if not isinstance(given, list | tuple):
            given = list(given) if not hasattr(given, "shape") else [given[i] for i in
                                                                     range(given.shape[0])]
        items = [_contents(x, found) for x in given]
        backend = choose(f"ops.{row.name}", found)
        if backend == "symbolic":
            from keraslite.symbolic import call_op

            return call_op(row, (items, *args[1:]), kwargs)
        _load(backend)
        items = promote_list(row, items, backend)
        return row.impls[backend](items, *args[1:], **kwargs)

    return call


def promote_list(row: Op, items: list, backend: str) -> list:
    """Bring a list of tensors and literals of one backend to their common dtype."""
    if items and all(type(x) is type(items[0]) for x in items) and hasattr(items[0], "dtype"):
        dtype = items[0].dtype
        if OF.get(type(items[0])) == backend and all(x.dtype == dtype for x in items):
            return items
    together = Op.__new__(Op)
    together.promote, together.to_float, together.scalars = tuple(range(len(items))), False, set()
    items = list(items)
    _prepare(together, items, backend)
    return items


def _creation(row: Op) -> Callable:
    """The wrapper of an operation without tensor arguments: the current backend runs it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        backend = backends.backend()
        _load(backend)
        return row.impls[backend](*args, **kwargs)

    return call


# kind -> (wrapper, whether the tensors promote, whether integers become floats)
_KINDS = {
    "same": (_one, False, False),
    "float": (_one, True, True),
    "promote": (_many, True, False),
    "promote_float": (_many, True, True),
    "sequence": (_sequence, False, False),
    "creation": (_creation, False, False),
}


def op(kind: str, tensors: int = 1, keep: tuple[int, ...] = ()) -> Callable:
    """Make a function an operation.

    Args:
        kind: "same" (dtypes stay), "float" (integers become floats), "promote" (to a common
            dtype), "promote_float" (to a common float), "sequence" (the first argument is a list
            that promotes together), "creation" (no tensor arguments).
        tensors: how many leading parameters are tensors.
        keep: the positions among them that do not take part in promotion (conditions, indices).
    """
    make, promotes, to_float = _KINDS[kind]

    def decorate(body: Callable) -> Callable:
        count = 0 if kind == "creation" else tensors
        positions = tuple(i for i in range(count) if i not in keep) if promotes else ()
        row = Op(body, count, positions, to_float)
        wrapper = _many if make is _one and count > 1 and promotes else make
        call = wraps(body)(wrapper(row))
        row.call = call
        call.op = row
        TABLE[row.name] = row
        return call

    return decorate


def _install(name: str, module: Any) -> None:
    for row in TABLE.values():
        row.install(name, module)


backends.ON_LOAD.append(_install)


def primitive_only(name: str) -> Any:
    """The body of an op that cannot be written in terms of others."""
    raise NotImplementedError(
        f"ops.{name} has no form on the backend {backends.backend()!r} yet; see the table of gaps."
    )


def is_array(x: Any) -> bool:
    """Whether a value is a numpy array or numpy scalar."""
    return isinstance(x, np.ndarray | np.generic)
