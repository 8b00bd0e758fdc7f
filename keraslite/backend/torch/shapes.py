"""Casts, shapes and joins of tensors on torch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from keraslite.backend.primitives import primitive
from keraslite.backend.torch.tensors import cast, native, sizes

TABLE: dict[str, Any] = {
    "cast": cast, "hstack": torch.hstack, "vstack": torch.vstack, "dstack": torch.dstack,
}  # fmt: skip


@primitive(TABLE)
def stop_gradient(variable: Tensor) -> Tensor:
    return variable.detach()


@primitive(TABLE)
def _positions(x: Tensor, size: int) -> Tensor:
    return torch.arange(size, dtype=torch.int32, device=x.device)


@primitive(TABLE)
def transpose(x: Tensor, axes: Any = None) -> Tensor:
    return torch.permute(x, tuple(range(x.ndim - 1, -1, -1)) if axes is None else axes)


@primitive(TABLE)
def moveaxis(x: Tensor, source: Any, destination: Any) -> Tensor:
    return torch.movedim(x, source, destination)


@primitive(TABLE)
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    return torch.transpose(x, axis1, axis2)


@primitive(TABLE)
def reshape(x: Tensor, newshape: Any) -> Tensor:
    return torch.reshape(x, (newshape,) if isinstance(newshape, int) else newshape)


@primitive(TABLE)
def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    return torch.broadcast_to(x, sizes(shape))


@primitive(TABLE)
def expand_dims(x: Tensor, axis: Any) -> Tensor:
    if isinstance(axis, int):
        return torch.unsqueeze(x, axis)
    for a in sorted(a % (x.ndim + len(axis)) for a in axis):
        x = torch.unsqueeze(x, a)
    return x


@primitive(TABLE)
def squeeze(x: Tensor, axis: Any = None) -> Tensor:
    if axis is None:
        return torch.squeeze(x)
    for a in (axis,) if isinstance(axis, int) else axis:
        if x.shape[a] != 1:
            raise ValueError(f"cannot squeeze the axis {a} of size {x.shape[a]}")
    return torch.squeeze(x, axis if isinstance(axis, int) else tuple(axis))


@primitive(TABLE)
def stack(x: list, axis: int = 0) -> Tensor:
    return torch.stack(x, axis)


@primitive(TABLE)
def concatenate(xs: list, axis: int = 0) -> Tensor:
    return torch.cat(xs, axis)


@primitive(TABLE)
def split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        size = x.shape[axis]
        raise ValueError(f"an axis of size {size} has no {indices_or_sections} equal parts")
    if not isinstance(indices_or_sections, int):
        indices_or_sections = [int(i) for i in indices_or_sections]
    return list(torch.tensor_split(x, indices_or_sections, axis))


@primitive(TABLE)
def array_split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if not isinstance(indices_or_sections, int):
        indices_or_sections = [int(i) for i in indices_or_sections]
    return list(torch.tensor_split(x, indices_or_sections, axis))


@primitive(TABLE)
def repeat(x: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    if isinstance(repeats, int):
        return torch.repeat_interleave(x, repeats, axis)
    total = None if isinstance(repeats, Tensor) else int(np.sum(repeats))
    repeats = torch.as_tensor(repeats, dtype=torch.int64, device=x.device)
    return torch.repeat_interleave(x, repeats, axis, output_size=total)


@primitive(TABLE)
def tile(x: Tensor, repeats: Any) -> Tensor:
    return torch.tile(x, sizes(repeats))


@primitive(TABLE)
def flip(x: Tensor, axis: Any = None) -> Tensor:
    return torch.flip(x, tuple(range(x.ndim)) if axis is None else sizes(axis))


@primitive(TABLE)
def roll(x: Tensor, shift: Any, axis: Any = None) -> Tensor:
    if isinstance(shift, int) and axis is not None and not isinstance(axis, int):
        shift = (shift,) * len(axis)
    return torch.roll(x, shift, axis)


@primitive(TABLE)
def _pad_constant(x: Tensor, widths: list, value: Any) -> Tensor:
    return F.pad(x, [w for pair in reversed(widths) for w in pair], "constant", value)


@primitive(TABLE)
def _view(x: Tensor, dtype: str) -> Tensor:
    return x.contiguous().view(native(dtype))
