"""Products of a recording that are joined: several of one row, and the GELU behind a product.

A call of oneDNN's product, and waking its threads, costs as much as a product of one row with a
small matrix: those of a query, a key and a value are one with their weights stacked. A GELU of few
rows is cheaper inside the product than as an operation of its own.
"""

from typing import Any

import optree
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from keraslite.backend.torch.fast.packing import weight_roots

_ATEN = torch.ops.aten
_PRODUCT = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)
_MAX_WEIGHTS = 2**20  # numbers: larger matrices take longer than the call
_MAX_ROWS = 64  # with more of them torch's GELU is faster than oneDNN's
_stacks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def with_fused(
    steps: list[tuple], inputs: list, results: list
) -> tuple[list[tuple], list[tuple[torch.Tensor, int, int]]]:
    """Return the operations of a recording with products joined, and the weights to watch.

    Args:
        steps: (operation, flat arguments, their structure, results).
        inputs: the tensors that are new at each replay.
        results: what the recording returns.

    Returns:
        The operations, and (weight, version, address) of each weight of which a copy is kept.
    """
    if _PRODUCT is None or not torch._C._has_mkldnn:
        return steps, []
    return _with_stacks(_with_gelu(steps, results), inputs)


# -- activations ----------------------------------------------------------------------------------


def _with_gelu(steps: list[tuple], results: list) -> list[tuple]:
    uses: dict[int, int] = {}
    for x in (*(x for _, leaves, *_ in steps for x in leaves), *results):
        uses[id(x)] = uses.get(id(x), 0) + 1
    products = {
        id(outs[0]): i
        for i, (func, leaves, _, outs) in enumerate(steps)
        if _is_plain(func, leaves) and _rows(leaves[0]) <= _MAX_ROWS and uses[id(outs[0])] == 1
    }
    fused: dict[int, tuple | None] = {}
    for i, (func, leaves, _, outs) in enumerate(steps):
        at = products.get(id(leaves[0])) if func is _ATEN.gelu.default else None
        if at is not None:
            approximate = leaves[1] if len(leaves) > 1 else "none"
            x, weight, bias = steps[at][1][:3]
            fused[at] = _product(x, weight, bias, "gelu", approximate, outs)
            fused[i] = None
    kept = (fused.get(i, step) for i, step in enumerate(steps))
    return [step for step in kept if step is not None]


def _product(x: Any, weight: Any, bias: Any, activation: str, algorithm: str, outs: list) -> tuple:
    leaves, spec = _flatten((x, weight, bias, activation, [], algorithm))
    return _PRODUCT.default, leaves, spec, outs


# -- products of the same row ---------------------------------------------------------------------


def _with_stacks(
    steps: list[tuple], inputs: list
) -> tuple[list[tuple], list[tuple[torch.Tensor, int, int]]]:
    roots = weight_roots(steps, inputs)
    written = {
        x.untyped_storage().data_ptr()
        for func, leaves, *_ in steps
        if func._schema.is_mutable
        for x in leaves
        if isinstance(x, torch.Tensor) and x.layout == torch.strided
    }
    groups: dict[tuple, list[int]] = {}
    for i, (func, leaves, *_) in enumerate(steps):
        if _is_plain(func, leaves) and _stacks_well(leaves, roots):
            x = leaves[0]
            if x.untyped_storage().data_ptr() not in written:
                # A view of the same numbers is the same row.
                groups.setdefault((x.data_ptr(), x.shape), []).append(i)
    replaced: dict[int, list[tuple]] = {}
    watched: dict[int, tuple] = {}
    for group in (group for group in groups.values() if len(group) > 1):
        parts = [steps[i] for i in group]
        weights = [roots[id(leaves[1])] for _, leaves, *_ in parts]
        biases = [leaves[2] for _, leaves, *_ in parts if leaves[2] is not None]
        kept = [*weights, *(roots[id(x)] for x in biases)]
        weight, bias = _stacked([leaves for _, leaves, *_ in parts], kept)
        x, outs = parts[0][1][0], [out for *_, (out,) in parts]
        whole = _PRODUCT(x, weight, bias, "none", [], "")
        leaves, spec = _flatten((whole, [out.shape[-1] for out in outs], -1))
        replaced |= {i: [] for i in group}
        replaced[group[0]] = [
            _product(x, weight, bias, "none", "", [whole]),
            (_ATEN.split_with_sizes.default, leaves, spec, outs),
        ]
        watched |= {id(x): (x, x._version, x.data_ptr()) for x in kept}
    steps = [new for i, step in enumerate(steps) for new in replaced.get(i, [step])]
    return steps, list(watched.values())


def _stacks_well(leaves: list, roots: dict[int, torch.Tensor]) -> bool:
    x, weight, bias = leaves[:3]
    stored = [roots.get(id(part)) for part in (weight, bias) if part is not None]
    return (
        weight.is_cpu
        and weight.dtype == x.dtype == torch.float32
        and weight.numel() <= _MAX_WEIGHTS
        and _rows(x) == 1
        and all(root is not None and not root.is_inference() for root in stored)
    )


def _stacked(leaves: list[list], stored: list[torch.Tensor]) -> tuple[Any, Any]:
    """Return weights and biases stacked; the same ones for all recordings, until one is written."""
    versions = [(x._version, x.data_ptr()) for x in stored]
    stacks = _stacks.setdefault(stored[0], {})
    key = tuple(x.data_ptr() for x in stored)
    before, stack = stacks.get(key, (None, None))
    if before != versions:
        biases = None
        if any(bias is not None for _, _, bias, *_ in leaves):
            parts = [w.new_zeros(w.shape[0]) if bias is None else bias for _, w, bias, *_ in leaves]
            biases = torch.cat(parts)
        stack = torch.cat([weight for _, weight, *_ in leaves]), biases
        stacks[key] = versions, stack
    return stack


def _is_plain(func: Any, leaves: list) -> bool:
    return func is _PRODUCT.default and leaves[3] == "none"


def _rows(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


def _flatten(arguments: tuple) -> tuple[list, Any]:
    return optree.tree_flatten((arguments, {}), none_is_leaf=True)
