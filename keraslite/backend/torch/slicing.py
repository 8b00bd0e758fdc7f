"""Parts of tensors, read and written, on torch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from keraslite.backend.primitives import primitive, with_remainders
from keraslite.scopes import scopes

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def unstack(x: Tensor, num: int | None = None, axis: int = 0) -> list:
    if num not in (None, x.shape[axis]):
        raise ValueError(f"num must be the size of axis {axis}, {x.shape[axis]}, got {num}")
    return list(torch.unbind(x, axis))


_BASIC = (int, slice, type(None), type(Ellipsis))


@primitive(TABLE)
def get_item(x: Tensor, key: Any) -> Tensor:
    if type(key) is int:
        return x[key]
    key = key if type(key) is tuple else (key,)
    backwards = arrays = False
    for k in key:
        if type(k) is slice:
            backwards |= k.step is not None and k.step < 0
        elif type(k) not in _BASIC:
            arrays = True
    if arrays and scopes.abstract:  # torch reads scalars
        key = tuple(0 if isinstance(k, Tensor) and not k.ndim else k for k in key)
    if arrays and any(
        k.ndim if isinstance(k, Tensor) else np.ndim(k) for k in key if type(k) not in _BASIC
    ):
        # Beside arrays, numpy takes numbers for arrays too.
        key = tuple(torch.tensor([k], device=x.device) if type(k) is int else k for k in key)
    return _backwards(x, key) if backwards else x[key]


def _backwards(x: Tensor, key: tuple) -> Tensor:
    """Indexing with slices of negative step: the same elements forwards, then reversed."""
    taken = sum(k is not None and k is not Ellipsis for k in key)
    turned, plain, axis = [], [], 0
    for k in key:
        if k is Ellipsis:
            axis += x.ndim - taken
        elif type(k) is slice and k.step is not None and k.step < 0:
            places = range(*k.indices(x.shape[axis]))[::-1]
            k = slice(places.start, places.stop, places.step) if len(places) else slice(0, 0)
            turned.append(axis)
        plain.append(k)
        axis += k is not None and k is not Ellipsis
    # Reverse first the elements that are kept, so that integer and array keys do not matter.
    for axis in turned:
        size = x.shape[axis]
        k = next(k for k, a in _with_axes(plain, x.ndim) if a == axis)
        index = torch.arange(size, device=x.device)[k].flip(0)
        x = torch.index_select(x, axis, index)
    whole = [slice(None) if a in turned else k for k, a in _with_axes(plain, x.ndim)]
    return x[tuple(whole)]


def _with_axes(key: list, rank: int) -> list:
    taken, axis, pairs = sum(k is not None and k is not Ellipsis for k in key), 0, []
    for k in key:
        pairs.append((k, None if k is None or k is Ellipsis else axis))
        axis += rank - taken if k is Ellipsis else k is not None
    return pairs


def _part(inputs: Tensor, start_indices: Any, shape: Any) -> tuple:
    """The slices of a part, moved inside where it would reach beyond the end, as in JAX."""
    if isinstance(start_indices, Tensor):
        start_indices = list(start_indices) if scopes.abstract else start_indices.tolist()
    parts = []
    for i, size, length in zip(start_indices, inputs.shape, shape, strict=True):
        if length > size:
            raise ValueError(f"the shape {tuple(shape)} is larger than {tuple(inputs.shape)}")
        i = 0 if scopes.abstract else min(max(int(i), 0), size - length)
        parts.append(slice(i, i + length))
    return tuple(parts)


@primitive(TABLE)
def slice_(inputs: Tensor, start_indices: Any, shape: Any) -> Tensor:
    if -1 in shape:
        shape = with_remainders(shape, start_indices, inputs.shape)
    return inputs[_part(inputs, start_indices, shape)]


@primitive(TABLE)
def slice_update(inputs: Tensor, start_indices: Any, updates: Tensor) -> Tensor:
    return overwrite(inputs.clone(), start_indices, updates)


@primitive(TABLE)
def overwrite(inputs: Tensor, start_indices: Any, updates: Tensor) -> Tensor:
    moving = [i for i, at in enumerate(start_indices) if isinstance(at, Tensor)]
    if len(moving) == 1:  # it is not looked at: no wait for the device, and it can be recorded
        axis, (size, length) = moving[0], (inputs.shape[moving[0]], updates.shape[moving[0]])
        fixed = [0 if i == axis else at for i, at in enumerate(start_indices)]
        whole = [n if i == axis else updates.shape[i] for i, n in enumerate(inputs.shape)]
        first = start_indices[axis].long().clamp(0, size - length).reshape(1)
        where = first if length == 1 else first + torch.arange(length, device=first.device)
        inputs[_part(inputs, fixed, whole)].index_copy_(axis, where, updates.to(inputs.dtype))
        return inputs
    inputs[_part(inputs, start_indices, updates.shape)] = updates.to(inputs.dtype)
    return inputs


@primitive(TABLE)
def scatter_update(
    inputs: Tensor, indices: Tensor, updates: Tensor, reduction: str | None = None
) -> Tensor:
    updates, places = updates.to(inputs.dtype), tuple(indices.long().unbind(-1))
    if reduction in (None, "add"):
        return torch.index_put(inputs, places, updates, accumulate=reduction == "add")
    rows, row = 1, 0
    for i, size in zip(places, inputs.shape, strict=False):
        rows, row = rows * size, row * size + torch.where(i < 0, i + size, i)
    reduce = {"mul": "prod", "max": "amax", "min": "amin"}[reduction]
    updates = updates.reshape(len(row), -1)
    row = row[:, None].expand(updates.shape)
    out = torch.scatter_reduce(inputs.reshape(rows, -1), 0, row, updates, reduce)
    return out.reshape(inputs.shape)
