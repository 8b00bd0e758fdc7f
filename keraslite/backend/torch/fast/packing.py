"""Weights in the layout that oneDNN's products want, for the steps of a recording.

A product of few rows costs oneDNN less than bringing the weights into its blocks, which it does at
each call: packed once, the weights are read at the speed of the memory. The copies last as long as
the weights; a replay asks whether these were written to, as torch's own gradients do, so that
writes through `.data` go unnoticed.
"""

from typing import Any

import optree
import torch
from torch.utils.weak import WeakTensorKeyDictionary

_ROWS = range(2, 65)  # one row has a kernel of its own, and many rows hide the packing
_MAX_BYTES = 2**31  # bytes of a recording's packed weights: larger models are left as they are
_MIN_WEIGHTS = 2**16  # weights: the cost of the call decides below
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
    roots = weight_roots(steps, inputs)
    products = {i: _product(func, leaves, roots) for i, (func, leaves, _, _) in enumerate(steps)}
    products = {i: product for i, product in products.items() if product is not None}
    if sum(weight.nbytes for _, _, weight, *_ in products.values()) > _MAX_BYTES:
        return steps, []
    steps, watched = list(steps), {}
    for i, (root, x, weight, *rest) in products.items():
        args = (x, _pack(root, weight, _rows(x)), *rest)
        leaves, spec = optree.tree_flatten((args, {}), none_is_leaf=True)
        steps[i] = _PRODUCT.default, leaves, spec, steps[i][3]
        watched[id(root)] = root, root._version, root.data_ptr()
    return steps, list(watched.values())


def _product(func: Any, leaves: list, roots: dict[int, torch.Tensor]) -> tuple | None:
    """(weight, rows, the view of it that is used, bias, activation, [], algorithm), or None."""
    aten = torch.ops.aten
    if _PRODUCT is None or not torch._C._has_mkldnn:
        return None
    if func is _PRODUCT.default:
        (x, view), rest = leaves[:2], (*leaves[2:4], [], leaves[-1])
    elif func is aten.mm.default:
        (x, view), rest = leaves, (None, "none", [], "")
    elif func is aten.addmm.default and len(leaves) == 3 and leaves[0].ndim == 1:
        (_, x, view), rest = leaves, (leaves[0], "none", [], "")
    else:
        return None
    root = roots.get(id(view))
    if root is None or not _fits(x, root, view):
        return None
    return root, x, view if func is _PRODUCT.default else view.t(), *rest


def weight_roots(steps: list[tuple], inputs: list) -> dict[int, torch.Tensor]:
    """The weights, and the views of them, by their identity: which weight each is of.

    Args:
        steps: the operations of a recording.
        inputs: the tensors that are new at each replay.
    """
    computed = {id(x) for x in inputs} | {id(x) for *_, outs in steps for x in outs}
    roots: dict[int, torch.Tensor] = {}
    for func, leaves, _, outs in steps:
        for x in leaves:
            if isinstance(x, torch.Tensor) and id(x) not in computed:
                roots.setdefault(id(x), x)
        if func in _VIEWS and id(leaves[0]) in roots:
            roots[id(outs[0])] = roots[id(leaves[0])]
    return roots


def _rows(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


def _fits(x: torch.Tensor, root: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        not root.is_inference()  # it has no version
        and weight.is_cpu
        and weight.dtype == x.dtype == torch.float32
        and x.is_contiguous()
        and _rows(x) in _ROWS
        and weight.numel() >= _MIN_WEIGHTS
    )


def _pack(root: torch.Tensor, weight: torch.Tensor, rows: int) -> Any:
    """The packed weight; the same one for all recordings, until it is written to."""
    versions = _packs.setdefault(root, {})
    key = weight.data_ptr(), tuple(weight.shape), weight.stride()
    version, packed = versions.get(key, (None, None))
    if version != root._version:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        versions[key] = root._version, packed
    return packed
