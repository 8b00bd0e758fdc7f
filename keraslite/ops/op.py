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
from keraslite import dtypes, tree
from keraslite.backend import OF

TABLE: dict[str, "Op"] = {}
# The float and complex dtypes of each backend, apart: Dynamo cannot hash the others' dtypes.
FLOATING: dict[str, set] = {name: m.FLOATING for name, m in backends.MODULES.items()}


class Op:
    """A row of the table: how the tensor arguments of an operation are prepared, and who runs it.

    Args:
        body: the composite definition, or a body that raises where only a primitive will do.
        tensors: how many leading parameters are tensors (None is allowed for optional ones).
        promote: the positions of those that are brought to one common dtype.
        lift: the weak type that the common dtype is at least: "float*", "int*" or none.
        raw: the positions of those that are left as they are: lists of numbers or tensors.
    """

    def __init__(
        self,
        body: Callable,
        tensors: int,
        promote: tuple[int, ...],
        lift: str | None,
        raw: tuple[int, ...] = (),
    ):
        self.name, self.body, self.tensors = body.__name__, body, tensors
        self.promote, self.lift, self.raw = promote, lift, raw
        self.parameters = list(inspect.signature(body).parameters.values())
        self.spec: Callable | None = None  # the symbolic results, where their size is not known
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
    if target and row.lift and not target.startswith(("float", "bfloat", "complex")):
        target = dtypes.strong(dtypes.join(common, row.lift))
    target = target and module.canonical(target)
    for i, x in enumerate(tensors):
        if x is None or i in row.raw:
            continue
        if i not in row.promote:
            if backends.OF.get(type(x)) is None:
                tensors[i] = module.convert(x)
        elif isinstance(x, module.TYPES):
            if module.dtype_of(x) != target:
                tensors[i] = module.cast(x, target)
        elif i and backend in row.scalars and type(x) in (int, float) and target in names:
            pass  # a native number follows the tensor that already has the result's type
        else:
            tensors[i] = module.convert(x, target)


def _name_of(module: Any, x: Any) -> str:
    if isinstance(x, module.TYPES):
        return module.dtype_of(x)
    if backends.OF.get(type(x)) is not None:  # to numpy it would be a list of a great many rows
        raise TypeError("a sparse tensor")
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
    rest = args[row.tensors :]
    try:
        if backend == "symbolic":
            return _symbolic(row, (*tensors, *rest), kwargs)
        _load(backend)
        _prepare(row, tensors, backend)
        return row.impls[backend](*tensors, *rest, **kwargs)
    except Exception as error:
        return _fail(row, error, args, kwargs)


def _symbolic(row: Op, args: tuple, kwargs: dict) -> Any:
    """The symbolic results, and the node that made them."""
    from keraslite.symbolic import Node, call_op

    outputs = row.spec(*args, **kwargs) if row.spec is not None else None
    if outputs is None:
        return call_op(row, args, kwargs)
    Node(row.call, args, kwargs, outputs)
    return outputs


_FRAMEWORKS_OWN = (
    "InvalidArgumentError", "NotFoundError", "UnimplementedError", "AxisError", "UFuncTypeError",
    "_UFuncNoLoopError", "LinAlgError", "_LinAlgError", "MLIRError",
)  # fmt: skip
_ABOUT_TYPES = (
    "dtype", "data type", "scalar type", "allowed values", "implemented for", "of type",
    "not supported for", "does not support complex", "Could not find device", "must be integers",
)  # fmt: skip
_ABOUT_SHAPES = (
    "shape", "broadcast", "axis", "axes", "dim", "size", "index", "out of range", "must match",
)  # fmt: skip


# op -> what it does where one of its tensors is sparse; `ops.sparse` fills it.
SPARSE: dict[str, Callable] = {}


def sparse_module(x: Any) -> Any:
    """The module of the backend that a sparse tensor belongs to; None for anything else."""
    module = backends.MODULES.get(backends.of(x) or "")
    return module if module is not None and module.is_sparse(x) else None


def _fail(row: Op, error: Exception, args: tuple, kwargs: dict) -> Any:
    """What a wider type gives where the framework lacks a kernel; else raise what it raised as one
    kind of error: bad shapes as ValueError, bad types as TypeError, with the operation's name and
    what it was given. Anything special passes as it is.
    """
    if any(sparse_module(x) is not None for x in tree.flatten((args, kwargs))):
        form = SPARSE.get(row.name)
        if form is not None:
            return form(*args, **kwargs)
        raise TypeError(
            f"ops.{row.name} has no form for sparse tensors: make it dense with "
            "ops.convert_to_tensor(x, sparse=False)."
        ) from error
    wider = _in_wider_type(row, error, args, kwargs)
    if wider is not NotImplemented:
        return wider
    name, said = type(error).__name__, getattr(error, "_kl_said", None)
    plain = type(error) in (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)
    text = said or str(error).strip().partition("\n")[0] or name
    if not (said or plain or name in _FRAMEWORKS_OWN) or text.startswith("ops."):
        raise
    types = any(word in text for word in _ABOUT_TYPES) or name.startswith("_UFunc")
    shapes = any(word in text for word in _ABOUT_SHAPES)
    kind = TypeError if types or (isinstance(error, TypeError) and not shapes) else ValueError
    if isinstance(error, IndexError):
        kind = _IndexError
    given = ", ".join([_brief(x) for x in args] + [f"{k}={_brief(x)}" for k, x in kwargs.items()])
    explained = kind(f"ops.{row.name}({given}): {text}")
    explained._kl_said = text  # an op around this one says the same under its own name
    raise explained from (error.__cause__ if said else error)


def _in_wider_type(row: Op, error: Exception, args: tuple, kwargs: dict) -> Any:
    """The operation on integers that the backend has hardly any kernels for, in a type that it has.

    Results of that type are brought back to the integers' own; they wrap around as theirs would.
    """
    found: set[str] = set()
    _contents([args, *kwargs.values()], found)
    module = backends.MODULES.get(next(iter(found), "")) if len(found) == 1 else None
    if module is None or not any(word in str(error) for word in _ABOUT_TYPES):
        return NotImplemented
    wide, met = module.WIDER, []

    def widen(x: Any) -> Any:
        x = getattr(x, "_kl_value", x)
        if isinstance(x, str) and x in wide:  # dtype=
            met.append(x)
            return wide[x]
        name = module.dtype_of(x) if isinstance(x, module.TYPES) else None
        if name not in wide:
            return x
        met.append(name)
        return module.cast(x, wide[name])

    given, options = tree.map_structure(widen, (args, kwargs))
    if not met:
        return NotImplemented
    target = dtypes.join(*met)

    def narrow(x: Any) -> Any:
        back = isinstance(x, module.TYPES) and module.dtype_of(x) == wide[met[0]]
        return module.cast(x, target) if back else x

    try:
        return tree.map_structure(narrow, row.call(*given, **options))
    except Exception:  # it has no meaning for integers at all: the first error says so better
        return NotImplemented


class _IndexError(ValueError, IndexError):
    """A bad index: a ValueError, and an IndexError to what iterates."""


def _brief(x: Any) -> str:
    """A value in a few words: the dtype and shape of a tensor."""
    if isinstance(x, list | tuple) and any(hasattr(y, "shape") for y in x):
        return f"[{', '.join(map(_brief, x))}]"
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{dtypes.standardize(x.dtype)}{tuple(x.shape)}"
    return repr(x) if len(repr(x)) < 60 else f"{repr(x)[:57]}..."


def _load(backend: str) -> None:
    if backend not in backends.MODULES:
        backends.load(backend)


def _arrays_lead() -> bool:
    """Whether numpy arrays are tensors here; under the other backends they are literals."""
    return "numpy" in backends.MODULES and backends.backend() == "numpy"


def _one(row: Op) -> Callable:
    """The wrapper of an operation on one tensor."""
    impls, lift = row.impls, row.lift

    def call(*args: Any, **kwargs: Any) -> Any:
        if args:
            x = args[0]
            kind = type(x)
            backend = OF.get(kind)
            if kind is np.ndarray and _arrays_lead():
                backend = "numpy"
            if backend is not None:
                impl = impls.get(backend)
                if impl is not None and (not lift or x.dtype in FLOATING[backend]):
                    try:
                        return impl(*args, **kwargs)
                    except Exception as error:
                        return _fail(row, error, args, kwargs)
        return _slow(row, args, kwargs)

    return call


def _two(row: Op) -> Callable:
    """The wrapper of an operation on two tensors that promote together."""
    impls, lift, scalars = row.impls, row.lift, row.scalars

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) >= 2:
            a, b = args[0], args[1]
            kind = type(a)
            backend = OF.get(kind)
            other = type(b)
            number = other is float or other is int
            if kind is np.ndarray and (number or other is kind) and _arrays_lead():
                backend = "numpy"
                if number and a.dtype in FLOATING[backend]:
                    b, other, number = np.asarray(b, a.dtype), kind, False
                    args = (a, b, *args[2:])
            if backend is not None and backend != "symbolic":
                dtype = a.dtype
                if (
                    backend in scalars if number
                    else (other is kind or OF.get(other) == backend)
                    and (dtype is b.dtype or dtype == b.dtype)
                ) and (not (lift or number) or dtype in FLOATING[backend]):  # fmt: skip
                    try:
                        return impls[backend](*args, **kwargs)
                    except Exception as error:
                        return _fail(row, error, args, kwargs)
        return _slow(row, args, kwargs)

    return call


def _many(row: Op) -> Callable:
    """The wrapper of an operation on several tensors, of which some promote together."""
    impls, lift, scalars, count = row.impls, row.lift, row.scalars, row.tensors
    leading = row.parameters[:count]
    required = sum(p.default is p.empty for p in leading)
    names = frozenset(p.name for p in leading)
    converted = [i for i in range(count) if i not in row.raw]
    present = {n: [i for i in converted if i < n] for n in range(required, count)}

    def call(*args: Any, **kwargs: Any) -> Any:
        given = len(args)
        if given >= count or (given >= required and (not kwargs or names.isdisjoint(kwargs))):
            backend = dtype = None
            number = False
            for i in present.get(given, converted):
                x = args[i]
                kind = type(x)
                name = OF.get(kind)
                if name is None:
                    if x is None and i >= required:
                        continue
                    if i in promote and (kind is float or kind is int):
                        number = True
                        continue
                    break
                if name != backend:
                    if backend is not None or name == "symbolic":
                        break
                    backend = name
                if i in promote:
                    if dtype is None:
                        dtype = x.dtype
                    elif x.dtype != dtype:
                        break
            else:
                if (
                    backend is not None
                    and (not number or backend in scalars)
                    and (not (lift or number) or dtype in FLOATING[backend])
                ):
                    try:
                        return impls[backend](*args, **kwargs)
                    except Exception as error:
                        return _fail(row, error, args, kwargs)
        return _slow(row, args, kwargs)

    promote = row.promote
    return call


def _sequence(row: Op) -> Callable:
    """The wrapper of an operation whose first argument is a list of tensors."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else None
        if (type(given) is list or type(given) is tuple) and given:
            impl = _alike(row, given)
            if impl is not None:
                try:
                    return impl(*args, **kwargs)
                except Exception as error:
                    return _fail(row, error, args, kwargs)
        if not args:
            args, kwargs = row.bind(args, kwargs)
        given = args[0]
        if not isinstance(given, list | tuple) and not hasattr(given, "__iter__"):
            raise TypeError(f"ops.{row.name}({_brief(given)}): expected a list of tensors")
        if not isinstance(given, list | tuple):
            given = (
                list(given)
                if not hasattr(given, "shape")
                else [given[i] for i in range(given.shape[0])]
            )
        return _listed(row, given, lambda items: (items, *args[1:]), kwargs)

    return call


def _operands(row: Op) -> Callable:
    """The wrapper of an operation whose tensors are all its positional arguments from `*` on."""
    first = [p.kind for p in row.parameters].index(inspect.Parameter.VAR_POSITIONAL)

    def call(*args: Any, **kwargs: Any) -> Any:
        given = args[first:]
        impl = _alike(row, given) if given else None
        if impl is not None:
            try:
                return impl(*args, **kwargs)
            except Exception as error:
                return _fail(row, error, args, kwargs)
        return _listed(row, given, lambda items: (*args[:first], *items), kwargs)

    return call


def _alike(row: Op, given: Any) -> Callable | None:
    """Who runs an operation on these tensors, if they are of one class and one dtype."""
    kind = type(given[0])
    impl = row.impls.get(OF.get(kind))
    if impl is not None:
        dtype = given[0].dtype
        for x in given:
            if type(x) is not kind or x.dtype != dtype:
                return None
    return impl


def _listed(row: Op, given: Any, place: Callable, kwargs: dict) -> Any:
    """Run an operation on a list of tensors and literals that promote together."""
    found: set[str] = set()
    items = [_contents(x, found) for x in given]
    backend = choose(f"ops.{row.name}", found)
    try:
        if backend == "symbolic":
            return _symbolic(row, place(items), kwargs)
        _load(backend)
        return row.impls[backend](*place(promote_list(row, items, backend)), **kwargs)
    except Exception as error:
        return _fail(row, error, place(given), kwargs)


def promote_list(row: Op, items: list, backend: str) -> list:
    """Bring a list of tensors and literals of one backend to their common dtype."""
    together = Op.__new__(Op)
    together.promote, together.lift = tuple(range(len(items))), row.lift
    together.scalars, together.raw = set(), ()
    items = list(items)
    _prepare(together, items, backend)
    return items


def _creation(row: Op) -> Callable:
    """The wrapper of an operation that makes a tensor: the current backend runs it, unless a size
    or a value given is itself a tensor.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        given = (OF.get(type(x)) for x in (*args, *kwargs.values()))
        backend = next((n for n in given if n is not None), None) or backends.backend()
        _load(backend)
        try:
            return row.impls[backend](*args, **kwargs)
        except Exception as error:
            return _fail(row, error, args, kwargs)

    return call


# kind -> (wrapper, whether the tensors promote, the weak type they become at least)
_KINDS = {
    "same": (_one, False, None),
    "float": (_one, True, "float*"),
    "number": (_one, True, "int*"),
    "promote": (_many, True, None),
    "promote_float": (_many, True, "float*"),
    "promote_number": (_many, True, "int*"),
    "sequence": (_sequence, False, None),
    "operands": (_operands, False, None),
    "creation": (_creation, False, None),
}


def op(
    kind: str, tensors: int = 1, keep: tuple[int, ...] = (), raw: tuple[int, ...] = ()
) -> Callable:
    """Make a function an operation.

    Args:
        kind: "same" (dtypes stay), "float" (integers become floats), "number" (booleans become
            integers), "promote" (to a common dtype), "promote_float" (to a common float),
            "promote_number" (to a common type, at least an integer), "sequence" (the first argument
            is a list that promotes together), "operands" (so do the arguments from `*` on),
            "creation" (no tensor arguments).
        tensors: how many leading parameters are tensors.
        keep: the positions among them that do not take part in promotion (conditions, indices).
        raw: the positions among them that are not even converted (lists of sizes or starts).
    """
    make, promotes, lift = _KINDS[kind]

    def decorate(body: Callable) -> Callable:
        count = 0 if kind in ("creation", "operands") else tensors
        positions = tuple(i for i in range(count) if promotes and i not in keep and i not in raw)
        row = Op(body, count, positions, lift, raw)
        wrapper = make
        if make in (_one, _many) and count > 1:
            wrapper = _two if positions == (0, 1) == tuple(range(count)) else _many
        call = wraps(body)(wrapper(row))
        row.call = call
        call.op = row
        call.autograph_info__ = None  # what TensorFlow's autograph need not convert
        TABLE[row.name] = row
        return call

    return decorate


def _install(name: str, module: Any) -> None:
    FLOATING[name] = module.FLOATING
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
