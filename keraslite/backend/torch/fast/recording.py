"""Replays: the operations that a function did once, done again without the Python around them.

A step of a small model spends as long in Python as in the kernels. A recording is a function of one
line for each ATen operation. It holds for tensors of the same shapes, strides and types, and for a
function whose path does not depend on their values: one that looks at a value is never replayed.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import optree
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from keraslite.backend.torch.fast.fusing import with_fused
from keraslite.backend.torch.fast.packing import with_packed
from keraslite.backend.torch.fast.simplify import simplified
from keraslite.backend.torch.tracing import RECORDING, has_hooks

_MOST = 64  # signatures that have a recording at once, each with constants of its own
_EAGER = 2  # calls that run as they are: weights are made in them
# What brings values into Python: operations, and methods that are none.
_LOOKS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}
_METHODS = {"tolist", "numpy", "item", "data_ptr", "__array__", "__dlpack__", "allclose"}


def _flatten(x: Any) -> tuple[list, Any]:
    return optree.tree_flatten(x, none_is_leaf=True)


class _Watch(TorchFunctionMode):
    """Notices methods that read values and are no operation."""

    looked = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        self.looked |= getattr(func, "__name__", "") in _METHODS
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Keeps each operation with its arguments and its results."""

    looked = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable, list, Any, list]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        aten = torch.ops.aten  # numbers of Python's are new at each call
        run = aten.clone.default if func is aten.lift_fresh.default else func
        out = run(*args, **kwargs)
        self.looked |= func._schema.name in _LOOKS
        leaves, spec = _flatten((args, kwargs))
        self.steps.append((func, leaves, spec, _flatten(out)[0]))
        return out


def recorded(fn: Callable) -> Callable:
    """A function of nested tensors whose third call is recorded, and replayed from then on.

    Args:
        fn: a function of nested tensors; what is no tensor among its arguments is part of the
            signature of a call. The last recorded signatures keep their recordings.
    """
    calls: dict[Any, int | tuple[Callable, Any, list] | None] = {}

    @wraps(fn)
    def call(*args: Any) -> Any:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or has_hooks():
            return fn(*args)
        leaves, spec = _flatten(args)
        tensors = [x for x in leaves if _is_tensor(x)]
        signature = (spec, *(_signature(x) for x in leaves))
        try:
            state = calls.setdefault(signature, 0)
        except TypeError:  # an array of texts
            return fn(*args)
        if isinstance(state, tuple):
            replay, structure, watched = state
            if all(
                x.data_ptr() == at and (version is None or x._version == version)
                for x, version, at in watched
            ):
                return optree.tree_unflatten(structure, replay(*tensors))
            state = 0  # a weight has changed of which the replay has a packed copy or a view
        if state is None:
            return fn(*args)
        if state < _EAGER:
            calls[signature] = state + 1
            return fn(*args)
        leaves = _apart(leaves)
        args, tensors = optree.tree_unflatten(spec, leaves), list(filter(_is_tensor, leaves))
        folded: list[tuple] = []
        token = RECORDING.set(folded)
        try:
            with _Recorder() as recorder, _Watch() as watch:
                out = fn(*args)
        finally:
            RECORDING.reset(token)
        results, structure = _flatten(out)
        calls[signature] = None
        if not (recorder.looked or watch.looked) and all(map(_is_tensor, results)):
            steps, stacked = with_fused(recorder.steps, tensors, results)
            steps, packed = with_packed(steps, tensors)
            steps, results, viewed = simplified(steps, tensors, results)
            watched = folded + stacked + packed + viewed
            calls[signature] = _written(steps, tensors, results), structure, watched
            kept = [key for key, state in list(calls.items()) if isinstance(state, tuple)]
            for oldest in kept[:-_MOST]:
                calls.pop(oldest, None)
        return out

    return call


def _apart(leaves: list) -> list:
    """Give a tensor that occurs twice two objects: at the next call it may be two tensors."""
    apart: list = []
    for x in leaves:
        is_repeated = _is_tensor(x) and any(x is y for y in apart)
        apart.append(x.view_as(x) if is_repeated else x)
    return apart


def _signature(x: Any) -> Any:
    if _is_tensor(x):
        return x.shape, x.stride(), x.dtype, x.device
    return type(x), x


def _written(steps: list, inputs: list, results: list) -> Callable:
    """The recording as a function of the inputs that gives the results."""
    consts: dict[str, Any] = {}
    names = {id(x): f"x{i}" for i, x in enumerate(inputs)}
    for i, (_, leaves, _, outs) in enumerate(steps):
        for x in filter(_is_tensor, leaves):
            if id(x) not in names:  # a weight, or made of Python's numbers
                names[id(x)] = f"c{len(consts)}"
                consts[names[id(x)]] = x
        for j, x in enumerate(outs):
            if _is_tensor(x):
                names.setdefault(id(x), f"v{i}_{j}")
    # From the last operation back: what is needed, and where a value is used for the last time.
    lines, needed = [], {id(x) for x in results}
    kept = frozenset(needed)
    for i, (func, leaves, spec, outs) in reversed(list(enumerate(steps))):
        if not (func._schema.is_mutable or any(id(x) in needed for x in outs)):
            continue
        last = {id(x) for x in filter(_is_tensor, leaves)} - needed
        needed |= last
        free = [name for name in map(names.get, sorted(last - kept)) if name[0] == "v"]
        if free:
            lines.append(f"del {', '.join(free)}")
        consts[f"f{i}"] = getattr(func, "_op", func)  # without a call of Python in between
        args, kwargs = optree.tree_unflatten(spec, [_Code(_name(x, names, consts)) for x in leaves])
        passed = [*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())]
        lines.append(f"{_targets(func, outs, names)}f{i}({', '.join(passed)})")
    body = [*reversed(lines), f"return [{', '.join(_name(x, names, consts) for x in results)}]"]
    head = f"def replay({', '.join(names[id(x)] for x in inputs)}):"
    exec("\n    ".join([head, *body]), consts)
    return consts["replay"]


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _targets(func: Any, outs: list, names: dict[int, str]) -> str:
    """The left side of an operation's line; what is written in place keeps its name."""
    targets = [names.get(id(x), "_") if _is_tensor(x) else "_" for x in outs]
    targets = [name if name[0] == "v" else "_" for name in targets]
    returns = func._schema.returns
    if not returns or set(targets) == {"_"}:
        return ""
    several = len(returns) > 1 or isinstance(returns[0].type, torch.ListType)
    return f"{', '.join(targets)}{',' * several} = "


class _Code(str):
    """A piece of code, which stands for itself inside nested lists."""

    def __repr__(self) -> str:
        return str(self)


def _name(x: Any, names: dict[int, str], consts: dict[str, Any]) -> str:
    if _is_tensor(x) and id(x) in names:
        return names[id(x)]
    if x is None or type(x) in (bool, int, str):
        return repr(x)
    name = f"c{len(consts)}"
    consts[name] = x
    return name
