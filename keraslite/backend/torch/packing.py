"""Weights in the layout that oneDNN's products want, for the steps of a recording.

A product of few rows costs oneDNN less than bringing the weights into its blocks, which it does at
each call: packed once, the weights are read at the speed of the memory. The copies last as long as
the weights; a replay asks whether these were written to, as torch's own gradients do, so that
writes through `.data` go unnoticed.
"""

from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

_ROWS = range(2, 65)  # one row has a kernel of its own, and many rows hide the packing
_MOST = 2**31  # bytes of a recording's packed weights: larger models are left as they are
_DTYPES = {torch.float32, torch.bfloat16}
_VIEWS = {
    torch.ops.aten.t.default, torch.ops.aten.transpose.int, torch.ops.aten.permute.default,
    torch.ops.aten.view.default, torch.ops.aten.alias.default, torch.ops.aten.detach.default,
}  # fmt: skip
_PRODUCT = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)
_packs: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def with_packed(steps: list[tuple], inputs: list) -> tuple[list[tuple], list[tuple]]:
    """The operations of a recording with packed weights where that helps, and what to watch.

    Args:
        steps: (operation, flat arguments, their structure, results).
        inputs: the tensors that are new at each replay.

    Returns:
        The operations, and (weight, version, address) of each weight that was packed.
    """
    roots = _roots(steps, inputs)
    places = [
        i for i, (func, given, _, _) in enumerate(steps)
        if _PRODUCT is not None and func is _PRODUCT.default and _fits(*given[:2], roots)
    ]  # fmt: skip
    if sum(steps[i][1][1].nbytes for i in places) > _MOST:
        return steps, []
    steps, watched = list(steps), {}
    for i in places:
        func, (x, weight, *rest), spec, outs = steps[i]
        root = roots[id(weight)]
        steps[i] = func, [x, _pack(root, weight, _rows(x)), *rest], spec, outs
        watched[id(root)] = root, root._version, root.data_ptr()
    return steps, list(watched.values())


def _roots(steps: list[tuple], inputs: list) -> dict[int, torch.Tensor]:
    """The weights, and the views of them, by their identity: which weight each is of."""
    made = {id(x) for x in inputs} | {id(x) for *_, outs in steps for x in outs}
    roots: dict[int, torch.Tensor] = {}
    for func, given, _, outs in steps:
        for x in given:
            if isinstance(x, torch.Tensor) and id(x) not in made:
                roots.setdefault(id(x), x)
        if func in _VIEWS and id(given[0]) in roots:
            roots[id(outs[0])] = roots[id(given[0])]
    return roots


def _rows(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


def _fits(x: torch.Tensor, weight: torch.Tensor, roots: dict[int, torch.Tensor]) -> bool:
    root = roots.get(id(weight))
    return (
        root is not None
        and not root.is_inference()  # it has no version
        and weight.dtype in _DTYPES
        and weight.layout == torch.strided
        and _rows(x) in _ROWS
    )


def _pack(root: torch.Tensor, weight: torch.Tensor, rows: int) -> Any:
    """The packed weight; the same one for all recordings, until it is written to."""
    known = _packs.setdefault(root, {})
    key = weight.data_ptr(), tuple(weight.shape), weight.stride()
    version, packed = known.get(key, (None, None))
    if version != root._version:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        known[key] = root._version, packed
    return packed
