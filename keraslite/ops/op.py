"""`@op`: one definition of an operation for all backends.

The decorated function gives name, signature, docstring and a composite body in terms of other ops.
A backend answers with a primitive of the same name and signature, or stays silent and the body
runs. Around either, the wrapper converts literals, promotes dtypes and branches to the symbolic
form; the common case (all tensors of one framework and one dtype) costs a few dictionary look-ups.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from keraslite import backend as backends
from keraslite import config
from keraslite.backend import MODULES, OF
from keraslite.backend import backend as current
from keraslite.ops.errors import describe, recover
from keraslite.ops.promotion import choose_backend, promote, unwrap

Function = TypeVar("Function", bound=Callable)  # an operation has the signature of its body

TABLE: dict[str, "Op"] = {}
# The float and complex dtypes of each backend, and these with the integers. They are apart, since
# Dynamo cannot hash the others' dtypes.
FLOATING: dict[str, set] = {}
NUMERIC: dict[str, set] = {}
# The classes of numpy's values: tensors under its backend, literals under the others.
ARRAYS: dict[type, bool] = {}
# Run an operation on tensors that no framework owns, as (row, args, kwargs): keraslite.symbolic
# puts the function for symbolic tensors here.
RUNNERS: dict[str, Callable] = {}


class Op:
    """A row of the table: how the arguments of an operation are prepared, and its implementations.

    Args:
        body: the composite definition, or a body that raises where only a primitive will do.
        tensors: the number of leading parameters that are tensors, or None if optional.
        promote: the positions of those that are brought to one common dtype.
        lift: the weak type that the common dtype is at least: "float*", "int*" or none.
        raw: the positions of those that are left as they are: lists of numbers or tensors.
        primitive: the name of the primitive; that of the body by default.
        in_float32: whether half precision is computed in float32.
    """

    def __init__(
        self,
        body: Callable,
        tensors: int,
        promote: tuple[int, ...],
        lift: str | None,
        raw: tuple[int, ...] = (),
        primitive: str | None = None,
        in_float32: bool = False,
    ):
        self.name, self.body, self.tensors = body.__name__, body, tensors
        self.promote, self.lift, self.raw = promote, lift, raw
        self.primitive, self.in_float32 = primitive or self.name, in_float32
        # Read from the code: inspect.signature of every op would be a good part of the import.
        function = inspect.unwrap(body)
        self.positional = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.defaults = function.__defaults__ or ()
        self.spec: Callable | None = None  # gives Specs of results whose size depends on the data
        self.promotes = False  # whether tensors are brought to one common dtype
        self.minima = False  # whether results have the smaller of two sizes of the arguments
        # Called as (result, dtypes) after a promotion of tensors of these dtypes.
        self.finish_mixed: Callable | None = None
        self.impls: dict[str, Callable] = {}
        # The backends whose primitive takes Python numbers as such, behind a tensor and in front.
        self.scalars: set[str] = set()
        self.scalars_first: set[str] = set()
        for name, module in MODULES.items():
            self.install(name, module)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters of the operation."""
        return list(inspect.signature(self.body).parameters.values())

    @property
    def required(self) -> int:
        """The number of parameters without a default."""
        return len(self.positional) - len(self.defaults)

    def install(self, name: str, module: Any) -> None:
        """Take the backend's primitive, or the composite body where it has none."""
        impl = module.PRIMITIVES.get(self.primitive, self.body)
        self.impls[name] = _widened(impl, module) if self.in_float32 else impl
        if self.primitive in module.SCALARS:
            self.scalars.add(name)
        if self.primitive in module.SCALARS_FIRST:
            self.scalars_first.add(name)

    def bind(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Move tensors passed by keyword to their positions."""
        args, kwargs = list(args), dict(kwargs)
        for i in range(len(args), self.tensors):
            name = self.positional[i]
            if name in kwargs:
                args.append(kwargs.pop(name))
            elif i < self.required:
                raise TypeError(f"ops.{self.name}() misses the argument {name!r}.")
            else:
                args.append(self.defaults[i - self.required])
        return tuple(args), kwargs


def _widened(impl: Callable, module: Any) -> Callable:
    """Return an implementation that computes half precision in float32 and casts results back."""

    def call(*args: Any, **kwargs: Any) -> Any:
        dtypes = [module.dtype_of(x) if isinstance(x, module.TYPES) else None for x in args]
        half = next((name for name in dtypes if name in ("float16", "bfloat16")), None)
        if half is None:
            return impl(*args, **kwargs)

        def narrow(x: Any) -> Any:
            return module.cast(x, half) if module.dtype_of(x) == "float32" else x

        wide = [
            module.cast(x, "float32") if name == half else x
            for x, name in zip(args, dtypes, strict=True)
        ]
        out = impl(*wide, **kwargs)
        return tuple(map(narrow, out)) if isinstance(out, tuple) else narrow(out)

    return call


class Spec:
    """The shape and dtype of a symbolic result; None stands for an unknown size."""

    def __init__(self, shape: tuple, dtype: str):
        self.shape, self.dtype = shape, dtype


def _run_prepared(row: Op, args: tuple, kwargs: dict) -> Any:
    """Bind, convert and promote the arguments, then run: the path of literals, variables, keywords,
    symbolic tensors and mixed dtypes.
    """
    if len(args) < row.tensors:
        args, kwargs = row.bind(args, kwargs)
    names: set[str] = set()
    tensors = [unwrap(x, names) for x in args[: row.tensors]]
    backend = choose_backend(f"ops.{row.name}", names)
    rest = args[row.tensors :]
    try:
        if backend in RUNNERS:
            return RUNNERS[backend](row, (*tensors, *rest), kwargs)
        _load(backend)
        names = promote(tensors, backend, row.promote, row.lift, row.raw, row.scalars)
        out = row.impls[backend](*tensors, *rest, **kwargs)
        return out if row.finish_mixed is None else row.finish_mixed(out, names)
    except Exception as error:
        return recover(row, error, args, kwargs)


def _load(backend: str) -> None:
    if backend not in MODULES:
        backends.load(backend)


def _dtypes_without_cast(lift: str | None) -> dict[str, set] | None:
    """The dtypes of each backend that a rule leaves as they are; None for all of them."""
    return {"float*": FLOATING, "int*": NUMERIC}[lift] if lift else None


def _one(row: Op) -> Callable:
    """The wrapper of an operation on one tensor."""
    impls, uncast = row.impls, _dtypes_without_cast(row.lift)

    def call(*args: Any, **kwargs: Any) -> Any:
        if args:
            x = args[0]
            cls = type(x)
            backend = OF.get(cls)
            if backend is None and cls in ARRAYS and current() == "numpy":
                backend = "numpy"
            if backend is not None:
                impl = impls.get(backend)
                if impl is not None and (uncast is None or x.dtype in uncast[backend]):
                    try:
                        return impl(*args, **kwargs)
                    except Exception as error:
                        return recover(row, error, args, kwargs)
        return _run_prepared(row, args, kwargs)

    return call


def _two(row: Op) -> Callable:
    """The wrapper of an operation on two tensors that promote together.

    Python numbers take the dtype of the tensor beside them where it is of their sort.
    """
    impls, lift, scalars, scalars_first = row.impls, row.lift, row.scalars, row.scalars_first
    uncast = _dtypes_without_cast(lift)

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            args, kwargs = row.bind(args, kwargs)
        a, b = args[0], args[1]
        cls, other = type(a), type(b)
        first = cls is float or cls is int  # whether the number, if there is one, is the first
        tensor, number = (other, cls) if first else (cls, other)
        backend = OF.get(tensor)
        if backend is None and tensor in ARRAYS and current() == "numpy":
            backend = "numpy"
        if backend is not None and backend != "symbolic":
            dtype = b.dtype if first else a.dtype
            try:
                if number is float or number is int:
                    if dtype in NUMERIC[backend]:
                        strict = number is float or lift == "float*"
                        if strict and dtype not in FLOATING[backend]:  # integers become floats
                            cast, name = MODULES[backend].cast, config.floatx()
                            a, b = (a, cast(b, name)) if first else (cast(a, name), b)
                        if first and backend not in scalars_first:
                            a = MODULES[backend].number(a, b)
                        elif not first and backend not in scalars:
                            b = MODULES[backend].number(b, a)
                        return impls[backend](a, b, *args[2:], **kwargs)
                elif (
                    (other is cls or OF.get(other) == backend
                     or (backend == "numpy" and other in ARRAYS))
                    and (dtype is b.dtype or dtype == b.dtype)
                    and (uncast is None or dtype in uncast[backend])
                ):  # fmt: skip
                    return impls[backend](*args, **kwargs)
            except Exception as error:
                return recover(row, error, args, kwargs)
        return _run_prepared(row, args, kwargs)

    return call


def _many(row: Op) -> Callable:
    """The wrapper of an operation on several tensors, of which some promote together."""
    impls, lift, scalars, count = row.impls, row.lift, row.scalars, row.tensors
    promoted, required = row.promote, min(row.required, count)
    names = frozenset(row.positional[:count])
    uncast = _dtypes_without_cast(lift)
    converted = [(i, i in promoted) for i in range(count) if i not in row.raw]
    present = {n: [pair for pair in converted if pair[0] < n] for n in range(required, count)}

    def call(*args: Any, **kwargs: Any) -> Any:
        length = len(args)
        if length < count and (length < required or (kwargs and not names.isdisjoint(kwargs))):
            args, kwargs = row.bind(args, kwargs)
            length = len(args)
        backend = dtype = number = like = None
        for i, promotes in present.get(length, converted):
            x = args[i]
            cls = type(x)
            name = OF.get(cls)
            if name is None:
                if x is None and i >= required:
                    continue
                if promotes and (cls is float or cls is int):
                    number = float if number is float else cls
                    continue
                if cls in ARRAYS and current() == "numpy":
                    name = "numpy"
                else:
                    break
            if name != backend:
                if backend is not None or name == "symbolic":
                    break
                backend = name
            if promotes:
                if like is None:
                    like, dtype = x, x.dtype
                elif x.dtype != dtype:
                    break
        else:
            if number is not None and like is not None:
                strict = number is float or lift == "float*"
                fits = dtype in (FLOATING if strict else NUMERIC)[backend]
            else:
                fits = number is None and backend is not None
                fits = fits and (uncast is None or dtype in uncast[backend])
            if fits:
                try:
                    if number is None or (backend in scalars and like is args[0]):
                        return impls[backend](*args, **kwargs)
                    return impls[backend](*_with_tensors(row, args, backend, like), **kwargs)
                except Exception as error:
                    return recover(row, error, args, kwargs)
        return _run_prepared(row, args, kwargs)

    return call


def _with_tensors(row: Op, args: tuple, backend: str, like: Any) -> tuple:
    """Make the numbers tensors that the primitive of a backend does not take as they are."""
    number, native = MODULES[backend].number, backend in row.scalars
    tensors = list(args)
    for i in row.promote:
        if i < len(args) and type(args[i]) in (float, int) and not (native and i):
            tensors[i] = number(args[i], like)
    return tuple(tensors)


def _sequence(row: Op) -> Callable:
    """The wrapper of an operation whose first argument is a list of tensors."""

    def call(*args: Any, **kwargs: Any) -> Any:
        items = args[0] if args else None
        if (type(items) is list or type(items) is tuple) and items:
            impl = _impl_for_alike(row, items)
            if impl is not None:
                try:
                    return impl(*args, **kwargs)
                except Exception as error:
                    return recover(row, error, args, kwargs)
        if not args:
            args, kwargs = row.bind(args, kwargs)
        items = args[0]
        if not isinstance(items, list | tuple) and not hasattr(items, "__iter__"):
            raise TypeError(f"ops.{row.name}({describe(items)}): expected a list of tensors")
        if not isinstance(items, list | tuple):
            items = (
                list(items)
                if not hasattr(items, "shape")
                else [items[i] for i in range(items.shape[0])]
            )
        return _run_list(row, items, lambda items: (items, *args[1:]), kwargs)

    return call


def _operands(row: Op) -> Callable:
    """The wrapper of an operation whose tensors are all its positional arguments from `*` on."""
    first = len(row.positional)

    def call(*args: Any, **kwargs: Any) -> Any:
        operands = args[first:]
        impl = _impl_for_alike(row, operands) if operands else None
        if impl is not None:
            try:
                return impl(*args, **kwargs)
            except Exception as error:
                return recover(row, error, args, kwargs)
        return _run_list(row, operands, lambda items: (*args[:first], *items), kwargs)

    return call


def _impl_for_alike(row: Op, items: Any) -> Callable | None:
    """Return the implementation for tensors of one class and one dtype; None for any others."""
    cls = type(items[0])
    impl = row.impls.get(OF.get(cls))
    if impl is None and cls in ARRAYS and current() == "numpy":
        impl = row.impls.get("numpy")
    if impl is not None:
        dtype = items[0].dtype
        for x in items:
            if type(x) is not cls or x.dtype != dtype:
                return None
    return impl


def _run_list(row: Op, items: Any, place: Callable, kwargs: dict) -> Any:
    """Run an operation on a list of tensors and literals.

    Args:
        place: gives the positional arguments, with a list of tensors in the place of `items`.
    """
    names: set[str] = set()
    tensors = [unwrap(x, names) for x in items]
    backend = choose_backend(f"ops.{row.name}", names)
    try:
        if backend in RUNNERS:
            return RUNNERS[backend](row, place(tensors), kwargs)
        _load(backend)
        dtype_names = promote(
            tensors, backend, range(len(tensors)) if row.promotes else (), row.lift
        )
        out = row.impls[backend](*place(tensors), **kwargs)
        return out if row.finish_mixed is None else row.finish_mixed(out, dtype_names)
    except Exception as error:
        return recover(row, error, place(items), kwargs)


def _creation(row: Op) -> Callable:
    """The wrapper of an operation that makes a tensor: the current backend runs it, unless a size
    or a value given is itself a tensor.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        backend = None
        for x in args:
            backend = backend or OF.get(type(x))
        for x in kwargs.values():
            backend = backend or OF.get(type(x))
        backend = backend or current()
        try:
            if backend in RUNNERS:
                return RUNNERS[backend](row, args, kwargs)
            _load(backend)
            return row.impls[backend](*args, **kwargs)
        except Exception as error:
            return recover(row, error, args, kwargs)

    return call


# rule -> (wrapper, whether the tensors promote, the weak type they become at least)
_RULES = {
    "same": (_one, False, None),
    "float": (_one, True, "float*"),
    "number": (_one, True, "int*"),
    "promote": (_many, True, None),
    "promote_float": (_many, True, "float*"),
    "promote_number": (_many, True, "int*"),
    "sequence": (_sequence, True, None),
    "operands": (_operands, True, None),
    "mixed_operands": (_operands, False, None),
    "creation": (_creation, False, None),
}


def op(
    rule: str,
    tensors: int = 1,
    keep: tuple[int, ...] = (),
    raw: tuple[int, ...] = (),
    primitive: str | None = None,
    in_float32: bool = False,
) -> Callable[[Function], Function]:
    """Make a function an operation.

    Args:
        rule: "same" (dtypes stay), "float" (integers become floats), "number" (booleans become
            integers), "promote" (to a common dtype), "promote_float" (to a common float),
            "promote_number" (to a common type, at least an integer), "sequence" (the first argument
            is a list that promotes together), "operands" (so do the arguments from `*` on),
            "mixed_operands" (these keep their dtypes), "creation" (no tensor arguments).
        tensors: how many leading parameters are tensors.
        keep: the positions among them that do not take part in promotion (conditions, indices).
        raw: the positions among them that are not even converted (lists of sizes or starts).
        primitive: the name of the primitives, for an operation with a second name.
        in_float32: whether float16 and bfloat16 are computed in float32; results are cast back.
    """
    make, promotes, lift = _RULES[rule]

    def decorate(body: Callable) -> Callable:
        count = 0 if make in (_creation, _operands) else tensors
        positions = tuple(i for i in range(count) if promotes and i not in keep and i not in raw)
        row = Op(body, count, positions, lift, raw, primitive, in_float32)
        row.promotes = promotes
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
    """Give every operation the primitives of a backend that has just been loaded."""
    FLOATING[name], NUMERIC[name] = module.FLOATING, module.NUMERIC
    if name == "numpy":
        classes = (np.ndarray, np.bool_, *(dtype.type for dtype in module.NUMERIC))
        ARRAYS.update(dict.fromkeys(classes, True))
    for row in TABLE.values():
        row.install(name, module)


for _name, _module in MODULES.items():
    _install(_name, _module)
backends.ON_LOAD.append(_install)


def primitive_only(name: str) -> Any:
    """The body of an op that cannot be written in terms of others."""
    raise NotImplementedError(
        f"ops.{name} has no form on the backend {current()!r} yet; see the table of gaps."
    )
