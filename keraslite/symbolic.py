"""KerasTensor: a tensor without data, and the nodes that record how it was computed.

Shapes and dtypes of symbolic calls are found by running the operation on the backend's abstract
values, with unknown dimensions set to two probe sizes: what differs between the two is unknown.
"""

from collections.abc import Callable
from typing import Any

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.backend import OF
from keraslite.ops.op import RUNNERS, TABLE

_PROBES = (120, 240)  # divisible by the usual strides, heads and group counts


class Node:
    """One call in a graph: the operation, its arguments, and the symbolic tensors it gave."""

    def __init__(self, operation: Any, args: tuple, kwargs: dict, outputs: Any):
        self.operation, self.args, self.kwargs = operation, args, kwargs
        self.inputs = [x for x in tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        self.outputs = [x for x in tree.flatten(outputs) if isinstance(x, KerasTensor)]
        for i, tensor in enumerate(self.outputs):
            tensor.node, tensor.index = self, i


class KerasTensor:
    """A symbolic tensor: shape (None where unknown), dtype, name, and the node that gave it.

    Args:
        shape: a tuple of ints and Nones.
        dtype: a dtype name.
        name: a name for it.
    """

    def __init__(self, shape: tuple, dtype: str = "float32", name: str | None = None):
        self.shape, self.dtype = tuple(shape), dtypes.standardize(dtype)
        self.name = name or "keras_tensor"
        self.sparse = False
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


def is_symbolic(structure: Any) -> bool:
    """Whether any leaf of a structure is a symbolic tensor."""
    return any(isinstance(x, KerasTensor) for x in tree.flatten(structure))


def infer(fn: Callable, args: tuple, kwargs: dict) -> Any:
    """Return the outputs of `fn` for these arguments as KerasTensors, without computing them.

    Args:
        fn: the function; it sees the current backend's abstract values where the arguments have
            KerasTensors.
        args: its positional arguments, nested.
        kwargs: its keyword arguments, nested.
    """
    flat = tree.flatten((args, kwargs))
    where = [i for i, x in enumerate(flat) if isinstance(x, KerasTensor)]
    module = backends.current()

    def run(size: int) -> Any:
        specs = [
            (tuple(size if d is None else d for d in flat[i].shape), flat[i].dtype) for i in where
        ]

        def on_tensors(*tensors: Any) -> Any:
            filled = list(flat)
            for i, tensor in zip(where, tensors, strict=True):
                filled[i] = tensor
            a, k = tree.pack_sequence_as((args, kwargs), filled)
            return fn(*a, **k)

        return module.abstract(on_tensors, specs)

    def spec(x: Any, y: Any) -> Any:
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return x
        shape = tuple(a if a == b else None for a, b in zip(x.shape, y.shape, strict=True))
        return KerasTensor(shape, dtypes.standardize(x.dtype))

    unknown = any(None in flat[i].shape for i in where)
    first = run(_PROBES[0])
    return tree.map_structure(spec, first, run(_PROBES[1]) if unknown else first)


def call_op(row: Any, args: tuple, kwargs: dict) -> Any:
    """The symbolic branch of an operation: derive the outputs and note the node."""
    specs = row.spec(*args, **kwargs) if row.spec is not None else None
    if specs is None:
        outputs = infer(row.call, args, kwargs)
    else:
        outputs = tree.map_structure(lambda spec: KerasTensor(spec.shape, spec.dtype), specs)
    Node(row.call, args, kwargs, outputs)
    return outputs


RUNNERS["symbolic"] = call_op
