"""KerasTensor: a tensor without data, and the nodes that record how it was computed.

Shapes and dtypes of symbolic calls are found by running the operation on the backend's abstract
values, twice: `keraslite.probing` says with which numbers in the place of unknown sizes.
"""

from collections.abc import Callable
from typing import Any

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.backend import OF
from keraslite.ops.checks import check_arguments
from keraslite.ops.op import RUNNERS, TABLE
from keraslite.probing import BATCH, Batch, Dim, Outline, Prober, unit_beside
from keraslite.scopes import scopes
from keraslite.variable import SpecScope

# What stands for unknown sizes: the usual strides, heads and group counts divide it. It is smaller
# where the values are computed.
_UNIT, _SMALL_UNIT = 120, 24


class Node:
    """One call in a graph: the operation, its arguments, and the symbolic tensors it gave."""

    def __init__(self, operation: Any, args: tuple, kwargs: dict, outputs: Any):
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.inputs = [x for x in tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        flat = tree.flatten(outputs)
        self.places = [i for i, x in enumerate(flat) if isinstance(x, KerasTensor)]
        self.outputs = [flat[i] for i in self.places]
        for i, tensor in enumerate(self.outputs):
            tensor.node, tensor.index = self, i
        self._tell()

    def _tell(self) -> None:
        """Let an Operation know its call; an op's function keeps none."""
        note_call = getattr(self.operation, "note_call", None)
        if note_call is not None:
            note_call(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tell()  # a copy of the operation comes without


class KerasTensor:
    """A symbolic tensor: shape (None where unknown), dtype, name, and the node that gave it.

    Args:
        shape: a tuple of ints and Nones.
        dtype: a dtype name.
        sparse: whether it stands for a sparse tensor.
        ragged: whether it stands for a ragged tensor, which no layer takes.
        record_history: kept for Keras code.
        name: a name for it.

    Raises:
        ValueError: a size is not an int of at least 0; sparse and ragged at once.

    >>> KerasTensor((None, 3)).shape
    (None, 3)
    """

    __array_ufunc__ = None  # numpy's operators leave it to ours

    def __init__(
        self,
        shape: Any,
        dtype: str = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
    ):
        if sparse and ragged:
            raise ValueError("A KerasTensor must not be sparse and ragged at the same time.")
        # Ints, and Dims in the place of unknown sizes.
        self.dims = tuple(_dim(axis, size, shape) for axis, size in enumerate(shape))
        self.shape = tuple(None if isinstance(d, Dim) else d for d in self.dims)
        self.dtype, self.name = dtypes.standardize(dtype), name or "keras_tensor"
        self.sparse, self.ragged = bool(sparse), bool(ragged)
        self.record_history = record_history
        self.node: Node | None = None
        self.index = 0

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    rank = ndim

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise TypeError(f"{self!r} has no length.")
        return self.shape[0]

    def __bool__(self) -> bool:
        raise TypeError("A symbolic tensor has no truth value: use ops.where or ops.cond.")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(f"{self!r} has no values: it stands for the input or output of a model.")

    def __getitem__(self, key: Any) -> "KerasTensor":
        return _call("get_item", self, key)


OF[KerasTensor] = "symbolic"


def _dim(axis: int, size: Any, shape: Any) -> int | Dim:
    if size is None:
        return Dim() if axis else BATCH
    if isinstance(size, Dim):
        return size
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 0:
        raise ValueError(
            f"The sizes of a shape must be ints of at least 0, or None, got {tuple(shape)}."
        )
    return int(size)


def _call(name: str, *args: Any) -> Any:
    return TABLE[name].call(*args)


def _operators() -> None:
    binary = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power",
        "floordiv": "floor_divide", "mod": "mod", "matmul": "matmul", "and": "logical_and",
        "or": "logical_or", "xor": "logical_xor", "eq": "equal", "ne": "not_equal", "lt": "less",
        "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    }  # fmt: skip
    for dunder, name in binary.items():
        setattr(KerasTensor, f"__{dunder}__", lambda a, b, name=name: _call(name, a, b))
        if dunder not in ("eq", "ne", "lt", "le", "gt", "ge"):
            setattr(KerasTensor, f"__r{dunder}__", lambda a, b, name=name: _call(name, b, a))
    for dunder, name in {"neg": "negative", "abs": "absolute", "invert": "logical_not"}.items():
        setattr(KerasTensor, f"__{dunder}__", lambda a, name=name: _call(name, a))
    KerasTensor.__hash__ = object.__hash__


_operators()


def is_keras_tensor(x: Any) -> bool:
    """Return whether a value is a KerasTensor.

    >>> is_keras_tensor(KerasTensor((2,))), is_keras_tensor(1.0)
    (True, False)
    """
    return isinstance(x, KerasTensor)


backends.is_keras_tensor = is_keras_tensor  # type: ignore[attr-defined]


def is_symbolic(structure: Any) -> bool:
    """Whether any leaf of a structure is a symbolic tensor."""
    return any(isinstance(x, KerasTensor) for x in tree.flatten(structure))


def infer(
    fn: Callable,
    args: tuple,
    kwargs: dict,
    more_sizes: Callable[[], list] = list,
    tries: int = 256,
    captured: list | None = None,
    minima: bool = False,
) -> Any:
    """Return the outputs of `fn` for these arguments as KerasTensors, without computing them.

    Args:
        fn: the function; it sees the current backend's abstract values where the arguments have
            KerasTensors.
        args: its positional arguments, nested.
        kwargs: its keyword arguments, nested.
        more_sizes: gives groups of sizes on which the outputs may depend besides the arguments'.
        tries: how many numbers are tried in the place of unknown sizes, where the call fails.
        captured: a list; the KerasTensors that functions among the arguments use without having
            them as arguments are added to it.
        minima: whether outputs may have the smaller of two sizes, that of the batch too.
    """
    flat = tree.flatten((args, kwargs))
    where = [i for i, x in enumerate(flat) if isinstance(x, KerasTensor)]
    functions = [i for i, x in enumerate(flat) if captured is not None and callable(x)]
    module = backends.current()

    # The leading axes may have several sizes after all.
    dims_of = {id(flat[i]): _with_own_batch(flat[i].dims) for i in where}

    def run(size_of: Callable[[Dim], int]) -> Any:
        def sizes(x: KerasTensor) -> tuple:
            dims = dims_of.get(id(x), x.dims)
            return tuple(size_of(d) if isinstance(d, Dim) else d for d in dims)

        def value_of(x: KerasTensor) -> Any:
            if all(x is not y for y in captured):
                captured.append(x)
            return module.zeros(sizes(x), module.canonical(x.dtype))

        def on_tensors(*tensors: Any) -> Any:
            filled = list(flat)
            for i, tensor in zip(where, tensors, strict=True):
                filled[i] = tensor
            for i in functions:
                filled[i] = with_values(flat[i], value_of)
            a, k = tree.pack_sequence_as((args, kwargs), filled)
            return fn(*a, **k)

        outer, scopes.abstract = scopes.abstract, True
        try:
            return module.abstract(on_tensors, [(sizes(flat[i]), flat[i].dtype) for i in where])
        finally:
            scopes.abstract = outer

    groups: list[tuple[int, ...]] = []
    dims = {d: None for own in dims_of.values() for d in own if isinstance(d, Dim)}
    if dims or functions:
        collect_sizes((args, kwargs), groups)
    bounds = [abs(n) for x in flat if isinstance(x, slice) for n in (x.start, x.stop)
              if isinstance(n, int)]  # fmt: skip
    unit = unit_beside(_UNIT if module.ABSTRACT else _SMALL_UNIT, groups, max(bounds, default=0))

    def is_mistake(error: Exception) -> bool:
        return hasattr(error, "_kl_text") or module.explain(error) is not None

    minima = minima or bool(bounds)
    prober = Prober(run, list(dims), groups, more_sizes, unit, tries, is_mistake, minima)
    return tree.map_structure(
        lambda x: KerasTensor(x.dims, x.dtype) if isinstance(x, Outline) else x, prober.outlines()
    )


def _with_own_batch(dims: tuple) -> tuple:
    return (Batch(), *dims[1:]) if dims and dims[0] is BATCH else dims


def collect_sizes(x: Any, groups: list[tuple[int, ...]]) -> None:
    """Add the known sizes in a structure to `groups`: of a shape or a tuple of ints together.

    Args:
        x: nested tensors, symbolic or not, and anything else.
        groups: the list that they are added to.
    """
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, list | tuple):
        group = tuple(n for n in x if type(n) is int)
        if group:
            groups.append(group)
        for part in x:
            if type(part) is not int:
                collect_sizes(part, groups)
    elif isinstance(x, slice):
        collect_sizes((x.start, x.stop), groups)
    elif hasattr(x, "shape") and not callable(x.shape):
        collect_sizes(tuple(x.shape), groups)


# -- functions that use symbolic tensors which are not their arguments ----------------------------


def with_values(function: Callable, value_of: Callable[[KerasTensor], Any]) -> Callable:
    """Return a function in which symbolic tensors, wherever it has them from, stand for values.

    Args:
        function: a function.
        value_of: gives the value of a symbolic tensor.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        outer, scopes.value_of = scopes.value_of, value_of
        try:
            return values_of(function(*args, **kwargs))
        finally:
            scopes.value_of = outer

    return call


def values_of(structure: Any) -> Any:
    """Replace the symbolic tensors by the values that they stand for inside `with_values`."""
    return tree.map_structure(
        lambda x: scopes.value_of(x) if isinstance(x, KerasTensor) else x, structure
    )


class _Capturing:
    """A control flow operation whose functions use symbolic tensors: their values come first."""

    def __init__(self, row: Any, captured: list[KerasTensor]):
        self.op, self.places = row, {id(x): i for i, x in enumerate(captured)}

    def __call__(self, values: list, *args: Any, **kwargs: Any) -> Any:
        def value_of(x: KerasTensor) -> Any:
            if id(x) not in self.places:
                raise ValueError(f"ops.{self.op.name}: {x!r} was not there when it was called.")
            return values[self.places[id(x)]]

        bound = tree.map_structure(
            lambda x: with_values(x, value_of) if callable(x) else x, (args, kwargs)
        )
        return self.op.call(*bound[0], **bound[1])


# -- symbolic calls of operations -----------------------------------------------------------------


def call_op(row: Any, args: tuple, kwargs: dict) -> Any:
    """The symbolic branch of an operation: derive the outputs and note the node."""
    if scopes.value_of is not None:
        args, kwargs = values_of((args, kwargs))
        return row.call(*args, **kwargs)
    check_arguments(row, args, kwargs)
    specs = row.spec(*args, **kwargs) if row.spec is not None else None
    if specs is None:
        outputs = infer(row.call, args, kwargs, minima=row.minima)
    else:
        outputs = tree.map_structure(lambda spec: KerasTensor(spec.shape, spec.dtype), specs)
    Node(row.call, args, kwargs, outputs)
    return outputs


def call_control_flow(row: Any, args: tuple, kwargs: dict) -> Any:
    """The symbolic branch of control flow: its form, and the tensors that its functions use."""
    if scopes.value_of is not None:
        args, kwargs = values_of((args, kwargs))
        return row.call(*args, **kwargs)

    def form(*args: Any, **kwargs: Any) -> Any:
        with SpecScope():  # of layers that the functions call
            return row.form(*args, **kwargs)

    captured: list[KerasTensor] = []
    outputs = infer(form, args, kwargs, captured=captured)
    if captured:
        Node(_Capturing(row, captured), (captured, *args), kwargs, outputs)
    else:
        Node(row.call, args, kwargs, outputs)
    return outputs


RUNNERS["symbolic"] = call_op
RUNNERS["control flow"] = call_control_flow
