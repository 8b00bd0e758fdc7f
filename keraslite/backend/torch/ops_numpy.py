"""PRIMITIVES for ops/numpy.py, ops/core.py and ops/math.py on torch."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from keraslite import dtypes
from keraslite.backend.integers import int8_product
from keraslite.backend.torch.tensors import convert, default_device, native

# Ops whose torch function takes a Python number beside a tensor and follows the tensor's dtype.
_TAKE_NUMBERS = """add subtract multiply divide power mod fmod floor_divide equal not_equal less
    less_equal greater greater_equal maximum minimum where clip"""
SCALARS = frozenset(_TAKE_NUMBERS.split())

_AS_THEY_ARE = """add subtract multiply hypot logaddexp logaddexp2 gcd lcm fmod floor_divide
    fmax fmin equal not_equal less less_equal greater greater_equal logical_and
    logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
    bitwise_left_shift bitwise_right_shift arctan2 exp exp2 expm1 log log2 log10 log1p sin cos tan
    arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh sqrt rsqrt square reciprocal sinc
    deg2rad rad2deg floor ceil isnan isinf isfinite isposinf isneginf signbit i0 nextafter
    erf erfc erfinv real reshape broadcast_to"""
_RENAMED = {
    "divide": torch.true_divide,
    "power": torch.pow,
    "mod": torch.remainder,
    "negative": torch.neg,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "copy": torch.clone,
}
TABLE: dict[str, Any] = {name: getattr(torch, name) for name in _AS_THEY_ARE.split()} | _RENAMED
_DTYPES = {name: native(name) for name in dtypes.ALL}
# What sums and products of the short types are made in, as JAX does.
_SUMS = {
    torch.bool: torch.int32, torch.int8: torch.int32, torch.int16: torch.int32,
    torch.int32: torch.int32, torch.uint8: torch.uint32, torch.uint16: torch.uint32,
    torch.uint32: torch.uint32,
}  # fmt: skip
_CUDA = torch.cuda.is_available()
_HALVES = (torch.float16, torch.bfloat16)


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__.removesuffix("_")] = fn  # sum_ and the like hide no builtin
    return fn


def dtype_or(dtype: Any, default: Any) -> Any:
    return default if dtype is None else _DTYPES.get(dtype) or native(dtype)


# Elementwise


@_primitive
def cast(x: torch.Tensor, dtype: Any) -> torch.Tensor:
    return x.to(_DTYPES.get(dtype) or native(dtype))


@_primitive
def stop_gradient(variable: torch.Tensor) -> torch.Tensor:
    return variable.detach()


@_primitive
def absolute(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype is torch.bool else torch.abs(x)


@_primitive
def sign(x: torch.Tensor) -> torch.Tensor:
    if not x.dtype.is_floating_point:
        return torch.sign(x)
    return torch.where(torch.isnan(x), x.detach(), torch.sign(x))  # torch makes NaN 0


@_primitive
def trunc(x: torch.Tensor) -> torch.Tensor:
    return torch.trunc(x) if x.dtype.is_floating_point else x


@_primitive
def round_(x: torch.Tensor, decimals: int = 0) -> torch.Tensor:
    if not x.dtype.is_floating_point:
        return x if decimals >= 0 else torch.round(x.float(), decimals=decimals).to(x.dtype)
    return torch.round(x) if decimals == 0 else torch.round(x, decimals=decimals)


@_primitive
def nan_to_num(
    x: torch.Tensor, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> torch.Tensor:
    return torch.nan_to_num(x, nan, posinf, neginf)


@_primitive
def imag(x: torch.Tensor) -> torch.Tensor:
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


@_primitive
def conjugate(x: torch.Tensor) -> torch.Tensor:
    return torch.conj(x).resolve_conj()


def _extremum(fn: Callable) -> Callable:
    """Two tensors, or a tensor and a number: a 0-d tensor, so that ties share the gradient."""

    def call(x1: torch.Tensor, x2: Any) -> torch.Tensor:
        if type(x2) in (float, int):
            x2 = torch.full((), x2, dtype=x1.dtype, device=x1.device)
        return fn(x1, x2)

    return call


TABLE["maximum"] = _extremum(torch.maximum)
TABLE["minimum"] = _extremum(torch.minimum)


@_primitive
def clip(x: torch.Tensor, x_min: Any, x_max: Any) -> torch.Tensor:
    if isinstance(x_min, torch.Tensor) != isinstance(x_max, torch.Tensor):
        x_min, x_max = (None if m is None else convert(m).to(x.device) for m in (x_min, x_max))
    return torch.clamp(x, x_min, x_max)


@_primitive
def where(condition: torch.Tensor, x1: Any = None, x2: Any = None) -> Any:
    if condition.dtype is not torch.bool:
        condition = condition.bool()
    if x1 is None and x2 is None:
        return nonzero(condition)
    return torch.where(condition, x1, x2)


# Reductions


def _reduction(fn: Callable) -> Callable:
    def call(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
        if axis is None:
            return fn(x, tuple(range(x.ndim)), True) if keepdims and x.ndim else fn(x)
        return fn(x, axis, keepdims) if type(axis) is int or len(axis) else x

    return call


_SUM, _ANY, _ALL = _reduction(torch.sum), _reduction(torch.any), _reduction(torch.all)
TABLE["mean"] = _reduction(torch.mean)


@_primitive
def sum_(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    wide = _SUMS.get(x.dtype)
    return _SUM(x, axis, keepdims) if wide is None else _SUM(x.long(), axis, keepdims).to(wide)


@_primitive
def any_(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return _ANY(x if x.dtype is torch.bool else x.bool(), axis, keepdims)


@_primitive
def all_(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return _ALL(x if x.dtype is torch.bool else x.bool(), axis, keepdims)


@_primitive
def prod(
    x: torch.Tensor, axis: Any = None, keepdims: bool = False, dtype: Any = None
) -> torch.Tensor:
    dtype = dtype_or(dtype, _SUMS.get(x.dtype, x.dtype))
    x = x.to(dtype if dtype is not torch.uint32 else torch.int64)
    axes = range(x.ndim) if axis is None else (axis,) if type(axis) is int else axis
    places = [range(x.ndim)[a] for a in axes]  # an IndexError if there is no such axis
    if len(set(places)) < len(places):
        raise ValueError(f"axis {axis} stands twice")
    for a in sorted(places)[::-1]:
        x = torch.prod(x, a, keepdims, dtype=x.dtype)
    return x.to(dtype)


@_primitive
def var(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    if not x.ndim:
        return x * 0
    return torch.var(x, axis, correction=0, keepdim=keepdims)


def _extreme(fn: Callable, pair: Callable) -> Callable:
    reduce = _reduction(fn)

    def call(
        x: torch.Tensor, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> torch.Tensor:
        if initial is None:
            return reduce(x, axis, keepdims)
        start = convert(initial).to(x)
        if not x.numel():
            axes = range(x.ndim) if axis is None else (axis,) if type(axis) is int else axis
            axes = {a % x.ndim for a in axes}
            sizes = enumerate(x.shape)
            kept = [1 if i in axes else d for i, d in sizes if keepdims or i not in axes]
            return start.expand(kept)
        return pair(reduce(x, axis, keepdims), start)

    return call


TABLE["max"] = _extreme(torch.amax, torch.maximum)
TABLE["min"] = _extreme(torch.amin, torch.minimum)


def _arg(fn: Callable) -> Callable:
    def call(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
        x = x.int() if x.dtype is torch.bool else x
        if axis is None:
            out = fn(x).int()
            return out.reshape([1] * x.ndim) if keepdims else out
        return fn(x, axis, keepdims).int()

    return call


TABLE["argmax"], TABLE["argmin"] = _arg(torch.argmax), _arg(torch.argmin)


def _running(fn: Callable) -> Callable:
    def call(x: torch.Tensor, axis: Any = None, dtype: Any = None) -> torch.Tensor:
        dtype = dtype_or(dtype, torch.int32 if x.dtype is torch.bool else x.dtype)
        return fn(x.reshape(-1), 0, dtype=dtype) if axis is None else fn(x, axis, dtype=dtype)

    return call


TABLE["cumsum"], TABLE["cumprod"] = _running(torch.cumsum), _running(torch.cumprod)


# Creation


def _device() -> Any:
    """None is torch's own default; asking for it takes longer than making a small tensor."""
    return default_device() if _CUDA else None


def _size(shape: Any) -> Any:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@_primitive
def zeros(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.zeros(shape, dtype=native(dtype), device=_device())


@_primitive
def ones(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.ones(shape, dtype=native(dtype), device=_device())


@_primitive
def full(shape: Any, fill_value: Any, dtype: Any = None) -> torch.Tensor:
    if type(fill_value) in (int, float, bool):
        return torch.full(_size(shape), fill_value, dtype=native(dtype), device=_device())
    return convert(fill_value, native(dtype)).expand(_size(shape)).clone()


@_primitive
def zeros_like(x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    return torch.zeros_like(x, dtype=dtype_or(dtype, x.dtype))


@_primitive
def ones_like(x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    return torch.ones_like(x, dtype=dtype_or(dtype, x.dtype))


@_primitive
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> torch.Tensor:
    given = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in given)))
    start, stop = (0, start) if stop is None else (start, stop)
    made_in = torch.float32 if dtype in _HALVES else dtype
    step = 1 if step is None else step
    return torch.arange(start, stop, step, dtype=made_in, device=_device()).to(dtype)


# Shapes


@_primitive
def _positions(x: torch.Tensor, size: int) -> torch.Tensor:
    return torch.arange(size, dtype=torch.int32, device=x.device)


@_primitive
def transpose(x: torch.Tensor, axes: Any = None) -> torch.Tensor:
    return torch.permute(x, tuple(range(x.ndim - 1, -1, -1)) if axes is None else axes)


@_primitive
def moveaxis(x: torch.Tensor, source: Any, destination: Any) -> torch.Tensor:
    return torch.movedim(x, source, destination)


@_primitive
def swapaxes(x: torch.Tensor, axis1: int, axis2: int) -> torch.Tensor:
    return torch.transpose(x, axis1, axis2)


@_primitive
def reshape(x: torch.Tensor, newshape: Any) -> torch.Tensor:
    return torch.reshape(x, (newshape,) if isinstance(newshape, int) else newshape)


@_primitive
def broadcast_to(x: torch.Tensor, shape: Any) -> torch.Tensor:
    return torch.broadcast_to(x, _size(shape))


@_primitive
def expand_dims(x: torch.Tensor, axis: Any) -> torch.Tensor:
    if isinstance(axis, int):
        return torch.unsqueeze(x, axis)
    for a in sorted(a % (x.ndim + len(axis)) for a in axis):
        x = torch.unsqueeze(x, a)
    return x


@_primitive
def squeeze(x: torch.Tensor, axis: Any = None) -> torch.Tensor:
    if axis is None:
        return torch.squeeze(x)
    for a in (axis,) if isinstance(axis, int) else axis:
        if x.shape[a] != 1:
            raise ValueError(f"cannot squeeze the axis {a} of size {x.shape[a]}")
    return torch.squeeze(x, axis if isinstance(axis, int) else tuple(axis))


@_primitive
def stack(x: list, axis: int = 0) -> torch.Tensor:
    return torch.stack(x, axis)


@_primitive
def concatenate(xs: list, axis: int = 0) -> torch.Tensor:
    return torch.cat(xs, axis)


@_primitive
def unstack(x: torch.Tensor, num: int | None = None, axis: int = 0) -> list:
    return list(torch.unbind(x, axis))


@_primitive
def split(x: torch.Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if isinstance(indices_or_sections, int) and x.shape[axis] % indices_or_sections:
        size = x.shape[axis]
        raise ValueError(f"an axis of size {size} has no {indices_or_sections} equal parts")
    if not isinstance(indices_or_sections, int):
        indices_or_sections = [int(i) for i in indices_or_sections]
    return list(torch.tensor_split(x, indices_or_sections, axis))


@_primitive
def repeat(x: torch.Tensor, repeats: Any, axis: Any = None) -> torch.Tensor:
    if isinstance(repeats, int):
        return torch.repeat_interleave(x, repeats, axis)
    total = None if isinstance(repeats, torch.Tensor) else int(np.sum(repeats))
    repeats = torch.as_tensor(repeats, dtype=torch.int64, device=x.device)
    return torch.repeat_interleave(x, repeats, axis, output_size=total)


@_primitive
def tile(x: torch.Tensor, repeats: Any) -> torch.Tensor:
    return torch.tile(x, _size(repeats))


@_primitive
def flip(x: torch.Tensor, axis: Any = None) -> torch.Tensor:
    return torch.flip(x, tuple(range(x.ndim)) if axis is None else _size(axis))


@_primitive
def roll(x: torch.Tensor, shift: Any, axis: Any = None) -> torch.Tensor:
    if isinstance(shift, int) and axis is not None and not isinstance(axis, int):
        shift = (shift,) * len(axis)
    return torch.roll(x, shift, axis)


def _pairs(width: Any, rank: int) -> list[list[int]]:
    """(before, after) for each axis; by Python alone, for what numpy gives Dynamo cannot see."""
    if type(width) not in (int, list, tuple):
        width = np.asarray(width).tolist()
    width = [width] if isinstance(width, int) else width
    width = [width] if isinstance(width[0], int) else width
    pairs = [list(pair) * (3 - len(pair)) for pair in width]
    return pairs * rank if len(pairs) == 1 else pairs


@_primitive
def _pad_constant(x: torch.Tensor, widths: list, value: Any) -> torch.Tensor:
    return functional.pad(x, [w for pair in reversed(widths) for w in pair], "constant", value)


_BASIC = (int, slice, type(None), type(Ellipsis))


@_primitive
def get_item(x: torch.Tensor, key: Any) -> torch.Tensor:
    if type(key) is int:
        return x[key]
    key = key if type(key) is tuple else (key,)
    backwards = arrays = False
    for k in key:
        if type(k) is slice:
            backwards |= k.step is not None and k.step < 0
        elif type(k) not in _BASIC:
            arrays = True
    if arrays and any(
        k.ndim if isinstance(k, torch.Tensor) else np.ndim(k) for k in key if type(k) not in _BASIC
    ):
        # Beside arrays, numpy takes numbers for arrays too.
        key = tuple(torch.tensor([k], device=x.device) if type(k) is int else k for k in key)
    return _backwards(x, key) if backwards else x[key]


def _backwards(x: torch.Tensor, key: tuple) -> torch.Tensor:
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


# Indexing, searching, sorting


@_primitive
def nonzero(x: torch.Tensor) -> tuple:
    return tuple(i.int() for i in torch.nonzero(x, as_tuple=True))


def _index(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype in (torch.int64, torch.int32) else x.long()


@_primitive
def take(x: torch.Tensor, indices: torch.Tensor, axis: Any = None) -> torch.Tensor:
    indices = _index(indices)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if x.is_cuda:
        return _take_or_fill(x, indices, axis % x.ndim)
    if torch.compiler.is_compiling():  # no error is raised inside a compiled function
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]
    try:
        if axis == 0 and x.ndim == 2:
            return torch.embedding(x, indices)
        if indices.ndim == 1:
            return torch.index_select(x, axis, indices)
        out = torch.index_select(x, axis, indices.reshape(-1))
        axis %= x.ndim
        return out.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    except (IndexError, RuntimeError):  # negative indices: slower, above all in the gradient
        return x[(slice(None),) * (axis % x.ndim) + (indices,)]


def _take_or_fill(x: torch.Tensor, indices: torch.Tensor, axis: int) -> torch.Tensor:
    """Out of range stand NaN or the least integer: an error on the device would end the process."""
    size = x.shape[axis]
    valid = (indices >= -size) & (indices < size)
    indices = torch.where(valid, indices % max(size, 1), 0)
    if axis == 0 and x.ndim == 2:
        out = torch.embedding(x, indices)
    else:
        out = torch.index_select(x, axis, indices.reshape(-1))
        out = out.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    fill = math.nan if x.is_floating_point() or x.is_complex() else _least(x.dtype)
    return out.masked_fill(~valid.reshape((*valid.shape, *(1,) * (x.ndim - axis - 1))), fill)


def _least(dtype: torch.dtype) -> Any:
    return False if dtype == torch.bool else torch.iinfo(dtype).min


@_primitive
def take_along_axis(x: torch.Tensor, indices: torch.Tensor, axis: Any = None) -> torch.Tensor:
    if axis is None:
        x, indices, axis = x.reshape(-1), indices.reshape(-1), 0
    indices = indices.long()
    return torch.take_along_dim(x, torch.where(indices < 0, indices + x.shape[axis], indices), axis)


@_primitive
def sort(x: torch.Tensor, axis: Any = -1) -> torch.Tensor:
    return torch.sort(x.reshape(-1))[0] if axis is None else torch.sort(x, axis)[0]


@_primitive
def argsort(x: torch.Tensor, axis: Any = -1) -> torch.Tensor:
    x, axis = (x.reshape(-1), 0) if axis is None or not x.ndim else (x, axis)
    return torch.sort(x, dim=axis, stable=True)[1].int()


@_primitive
def _view(x: torch.Tensor, dtype: str) -> torch.Tensor:
    return x.contiguous().view(native(dtype))


@_primitive
def searchsorted(
    sorted_sequence: torch.Tensor, values: torch.Tensor, side: str = "left"
) -> torch.Tensor:
    if sorted_sequence.ndim != 1:
        raise ValueError("the sorted sequence must have one dimension")
    if sorted_sequence.dtype in _HALVES:
        sorted_sequence, values = sorted_sequence.float(), values.float()
    return torch.searchsorted(
        sorted_sequence.contiguous(), values.contiguous(), out_int32=True, side=side
    )


# Products and matrices


@_primitive
def matmul(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    dtype = x1.dtype
    if dtype.is_floating_point or dtype.is_complex:
        return torch.matmul(x1, x2)
    if dtype is torch.int8 and x1.ndim and x2.ndim > 1:
        if x2.ndim == 2 and x1.is_cpu and x1.numel() and _int8_kernel():
            out = torch._int_mm(x1.reshape(-1, x1.shape[-1]), x2)
            return out.reshape(*x1.shape[:-1], x2.shape[1])
        return int8_product(x1, x2, _by_floats)
    wide = torch.float64 if x1.is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
    return torch.matmul(x1.to(wide), x2.to(wide)).to(_product(dtype))


def _by_floats(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    return torch.matmul(x1.float(), x2.float()).to(torch.int32)


@cache
def _int8_kernel() -> bool:
    """Whether this processor multiplies int8 in hardware; without, floats are quicker."""
    return getattr(torch.cpu, "_is_vnni_supported", lambda: False)()


def _product(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype is torch.int8 else dtype


@_primitive
def einsum(subscripts: str, *operands: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    dtype = operands[0].dtype
    if dtype.is_floating_point or dtype.is_complex:
        return torch.einsum(subscripts, *operands)
    wide = torch.float64 if operands[0].is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
    return torch.einsum(subscripts, *(x.to(wide) for x in operands)).to(_product(dtype))


@_primitive
def tensordot(x1: torch.Tensor, x2: torch.Tensor, axes: Any = 2) -> torch.Tensor:
    if not isinstance(axes, int):
        axes = [[a] if isinstance(a, int) else list(a) for a in axes]
    dtype = x1.dtype
    if not dtype.is_floating_point and not dtype.is_complex:
        wide = torch.float64 if x1.is_cuda else torch.int32 if dtype.itemsize < 8 else dtype
        return torch.tensordot(x1.to(wide), x2.to(wide), axes).to(dtype)
    return torch.tensordot(x1, x2, axes)


@_primitive
def diag(x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.diag(x, k)


@_primitive
def diagonal(x: torch.Tensor, offset: int = 0, axis1: int = 0, axis2: int = 1) -> torch.Tensor:
    return torch.diagonal(x, offset, axis1, axis2)


@_primitive
def tril(x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.tril(x, k)


@_primitive
def triu(x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.triu(x, k)


# Slices and scatters


def _part(inputs: torch.Tensor, start_indices: Any, shape: Any) -> tuple:
    """The slices of a part, moved inside where it would reach beyond the end, as in JAX."""
    if isinstance(start_indices, torch.Tensor):
        start_indices = start_indices.tolist()
    parts = []
    for i, size, length in zip(start_indices, inputs.shape, shape, strict=True):
        if length > size:
            raise ValueError(f"the shape {tuple(shape)} is larger than {tuple(inputs.shape)}")
        i = min(max(int(i), 0), size - length)
        parts.append(slice(i, i + length))
    return tuple(parts)


@_primitive
def slice_(inputs: torch.Tensor, start_indices: Any, shape: Any) -> torch.Tensor:
    return inputs[_part(inputs, start_indices, shape)]


@_primitive
def slice_update(inputs: torch.Tensor, start_indices: Any, updates: torch.Tensor) -> torch.Tensor:
    return overwrite(inputs.clone(), start_indices, updates)


@_primitive
def overwrite(inputs: torch.Tensor, start_indices: Any, updates: torch.Tensor) -> torch.Tensor:
    moving = [i for i, at in enumerate(start_indices) if isinstance(at, torch.Tensor)]
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


@_primitive
def scatter_update(
    inputs: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, reduction: str | None = None
) -> torch.Tensor:
    updates, at = updates.to(inputs.dtype), tuple(indices.long().unbind(-1))
    if reduction in (None, "add"):
        return torch.index_put(inputs, at, updates, accumulate=reduction == "add")
    rows, row = 1, 0
    for i, size in zip(at, inputs.shape, strict=False):
        rows, row = rows * size, row * size + torch.where(i < 0, i + size, i)
    how = {"mul": "prod", "max": "amax", "min": "amin"}[reduction]
    updates = updates.reshape(len(row), -1)
    row = row[:, None].expand(updates.shape)
    out = torch.scatter_reduce(inputs.reshape(rows, -1), 0, row, updates, how)
    return out.reshape(inputs.shape)


# ops/math.py


@_primitive
def logsumexp(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


@_primitive
def top_k(x: torch.Tensor, k: int, sorted: bool = True) -> tuple:
    if x.is_cuda:  # its topk takes ties in any order
        values, indices = (y[..., :k] for y in torch.sort(x, descending=True, stable=True))
    else:
        values, indices = torch.topk(x, k, sorted=sorted)
    return values, indices.int()
