"""The operations of a recording without those that a replay need not run again.

Constants are made once, views of weights too, a view that equals an earlier tensor is that tensor,
and equal operations run once. Memory that is written to or returned stays as it was recorded.
"""

from collections import Counter
from typing import Any

import optree
import torch

_ATEN = torch.ops.aten
_RESHAPES = {_ATEN.view.default, torch.ops.aten._unsafe_view.default}
_MAX_CONSTANT = 2**20  # numbers: larger constants are made again rather than kept


def simplified(
    steps: list[tuple], inputs: list, results: list
) -> tuple[list[tuple], list, list[tuple]]:
    """Return fewer operations with the same results.

    Args:
        steps: (operation, flat arguments, their structure, results), all of them alive.
        inputs: the tensors that are new at each replay.
        results: what the recording returns.

    Returns:
        The operations, the results, and (weight, None, address) of each weight of which a view is
        kept: its values may change, its place must not.
    """
    simplifier = _Simplifier(steps, inputs, results)
    kept = [step for step in map(simplifier.step, steps) if step is not None]
    watched = {id(x): (x, None, x.data_ptr()) for x in simplifier.roots.values()}
    return kept, [simplifier.same.get(id(x), x) for x in results], list(watched.values())


class _Simplifier:
    """A pass over a recording that knows equal tensors, constants and views of weights."""

    def __init__(self, steps: list[tuple], inputs: list, results: list):
        self.same: dict[int, Any] = {}  # by identity: the earlier tensor that stands for another
        self.constant: set[int] = set()  # computed of Python's numbers alone
        self.roots: dict[int, torch.Tensor] = {}  # views of weights: which weight each is of
        self.computed = {id(x) for x in inputs}
        self.reshaped: dict[int, torch.Tensor] = {}  # results of reshapes: what was reshaped
        self.earlier: dict[tuple, list] = {}  # operation and arguments -> results
        outs = {id(x) for *_, outs in steps for x in outs}
        weights = {
            id(x): x
            for _, leaves, *_ in steps
            for x in leaves
            if _is_tensor(x) and id(x) not in outs | self.computed
        }
        # Two inputs in one memory may lie apart at the next replay.
        counts = Counter(map(_storage, inputs))
        in_weights = set(map(_storage, weights.values()))
        self.shared = {s for s, n in counts.items() if n > 1 or s in in_weights}
        self.places = {_place(x): x for x in inputs if _storage(x) not in self.shared}
        # Memory of which values are not taken from an earlier moment.
        self.unsettled = {_storage(x) for x in results} | self.shared
        for func, leaves, spec, _ in steps:
            if func._schema.is_mutable:
                self.unsettled |= set(map(_storage, _written_to(func, leaves, spec)))
        self.unsettled -= {None}

    def step(self, step: tuple) -> tuple | None:
        """Return an operation as a replay has to run it, or None if it need not."""
        func, leaves, spec, outs = step
        leaves = [self.same.get(id(x), x) if _is_tensor(x) else x for x in leaves]
        if func in _RESHAPES:
            func, leaves[0] = _ATEN.view.default, self.reshaped.get(id(leaves[0]), leaves[0])
        tensors = [x for x in leaves if _is_tensor(x)]
        pure = not func._schema.is_mutable and torch.Tag.nondeterministic_seeded not in func.tags
        settled = pure and not any(
            _storage(x) in self.unsettled for x in (*tensors, *filter(_is_tensor, outs))
        )
        if settled and self._is_constant(func, tensors, outs):
            if func is _ATEN.lift_fresh.default or not self._was_run(func, leaves, spec, outs):
                self.constant |= {id(x) for x in outs}
            return None
        if self._equals_earlier(outs) and pure:
            return None
        if settled and self._is_of_weight(tensors, outs):
            self.roots[id(outs[0])] = self.roots.get(id(tensors[0]), tensors[0])
            self.places[_place(outs[0])] = outs[0]
            return None
        if settled and self._was_run(func, leaves, spec, outs):
            return None
        if func is _ATEN.view.default and leaves[0].is_contiguous():
            self.reshaped[id(outs[0])] = leaves[0]
        self.computed |= {id(x) for x in outs}
        self._keep_places(outs, outs)
        if func is _ATEN.lift_fresh.default:  # what is written to has to be new at each replay
            func = _ATEN.clone.default
        return func, leaves, spec, [self.same.get(id(x), x) for x in outs]

    def _is_constant(self, func: Any, tensors: list, outs: list) -> bool:
        fresh = func is _ATEN.lift_fresh.default or all(id(x) in self.constant for x in tensors)
        return fresh and all(_is_tensor(x) and x.numel() <= _MAX_CONSTANT for x in outs)

    def _equals_earlier(self, outs: list) -> bool:
        """Let each result that is an earlier tensor be that one; tell whether all are."""
        for x in outs:
            place = _place(x)
            if place in self.places and self.places[place] is not x:
                self.same[id(x)] = self.places[place]
        return bool(outs) and all(id(x) in self.same for x in outs)

    def _is_of_weight(self, tensors: list, outs: list) -> bool:
        """Whether the result is a view of a weight."""
        if len(outs) != 1 or not tensors or id(tensors[0]) in self.computed:
            return False
        return _is_tensor(outs[0]) and None is not _storage(outs[0]) == _storage(tensors[0])

    def _was_run(self, func: Any, leaves: list, spec: Any, outs: list) -> bool:
        """Let the results be those of an equal operation before; tell whether there was one."""
        key = func, spec, *((id(x) if _is_tensor(x) else (type(x), x)) for x in leaves)
        try:
            before = self.earlier.setdefault(key, outs)
        except TypeError:  # an argument that cannot be compared
            return False
        if before is outs:
            return False
        self.same.update((id(x), y) for x, y in zip(outs, before, strict=True) if _is_tensor(x))
        self._keep_places(outs, before)
        return True

    def _keep_places(self, outs: list, tensors: list) -> None:
        for x, y in zip(outs, tensors, strict=True):
            place = _place(x)
            if place is not None and place[0] not in self.shared:
                self.places.setdefault(place, y)


def _written_to(func: Any, leaves: list, spec: Any) -> list[torch.Tensor]:
    """Return the arguments that an operation writes to."""
    args, kwargs = optree.tree_unflatten(spec, leaves)
    names = [argument.name for argument in func._schema.arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    return [
        x
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for x in optree.tree_leaves(values.get(argument.name))
        if _is_tensor(x)
    ]


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _storage(x: torch.Tensor) -> int | None:
    """Return the memory of a tensor, which its views share; None where that cannot be told."""
    if x.layout != torch.strided or not x.numel():
        return None
    return x.untyped_storage().data_ptr()


def _place(x: Any) -> tuple | None:
    """Return what is equal for tensors that are the same numbers of the same memory."""
    if not _is_tensor(x) or (storage := _storage(x)) is None:
        return None
    return storage, x.storage_offset(), x.shape, x.stride(), x.dtype
