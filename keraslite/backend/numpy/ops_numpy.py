"""PRIMITIVES for ops/numpy.py, ops/core.py and ops/math.py on numpy."""

import math
import statistics
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.backend.integers import int8_product
from keraslite.backend.numpy.tensors import cast as _cast
from keraslite.backend.numpy.tensors import native

# No op takes a Python number as such: beside bfloat16 numpy would make it float64.
SCALARS: frozenset[str] = frozenset()

_HALVES = frozenset([np.dtype("float16"), dtypes.to_numpy("bfloat16")])
_quiet = np.errstate(all="ignore")  # infinities and NaNs are values here, as on the other backends


def _halves(fn: Callable) -> Callable:
    """float16 and bfloat16 are computed in float32, as the other backends do."""

    @wraps(fn)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if x.dtype not in _HALVES:
            return fn(x, *args, **kwargs)
        args = [a.astype(np.float32) if getattr(a, "dtype", None) == x.dtype else a for a in args]
        out = fn(x.astype(np.float32), *args, **kwargs)
        return out.astype(x.dtype) if getattr(out, "dtype", None) == np.float32 else out

    return call


_AS_THEY_ARE = """add subtract multiply divide power mod fmod floor_divide absolute negative sign
    square sqrt cbrt reciprocal maximum minimum fmax fmin gcd lcm hypot heaviside logaddexp
    logaddexp2 arctan2 exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh
    cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg floor ceil trunc isnan isinf isfinite
    signbit i0 real imag angle equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    bitwise_not transpose moveaxis swapaxes squeeze expand_dims broadcast_to stack flip
    roll diagonal diag tril triu"""
_PLAIN = """transpose moveaxis swapaxes squeeze expand_dims broadcast_to stack
    flip roll diagonal diag tril triu"""
TABLE: dict[str, Any] = {
    name: getattr(np, name) if name in _PLAIN.split() else _quiet(_halves(getattr(np, name)))
    for name in _AS_THEY_ARE.split()
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__.removesuffix("_")] = fn  # sum_ and the like hide no builtin
    return fn


_SUMS = {"b": np.int32, "i": np.int32, "u": np.uint32}


def _sum_type(x: np.ndarray, dtype: Any) -> Any:
    if dtype is not None:
        return native(dtype)
    return _SUMS.get(x.dtype.kind) if x.dtype.itemsize < 8 else None


@_primitive
@_quiet
def cast(x: np.ndarray, dtype: Any) -> np.ndarray:
    return _cast(x, dtype)


@_primitive
def nextafter(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.nextafter(x1, x2)


@_primitive
def conjugate(x: np.ndarray) -> np.ndarray:
    return np.conjugate(x) if x.dtype.kind == "c" else x


@_primitive
def clip(x: np.ndarray, x_min: Any, x_max: Any) -> np.ndarray:
    return np.minimum(np.maximum(x, x_min), x_max)


@_primitive
@_halves
def round_(x: np.ndarray, decimals: int = 0) -> np.ndarray:
    return np.round(x, decimals)


@_primitive
def bitwise_left_shift(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.left_shift(x, y)


@_primitive
def bitwise_right_shift(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.right_shift(x, y)


@_primitive
@_halves
def nan_to_num(
    x: np.ndarray, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> np.ndarray:
    return np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


@_primitive
def where(condition: np.ndarray, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None and x2 is None:
        return nonzero(condition)
    return np.where(condition, x1, x2)


# Reductions


def _axis(axis: Any) -> Any:
    return tuple(axis) if type(axis) is list else axis


def _reduction(fn: Callable) -> Callable:
    @_quiet
    @_halves
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


TABLE |= {name: _reduction(getattr(np, name)) for name in ("all", "any")}


def _moment(fn: Callable) -> Callable:
    """The mean or variance; of no elements it is NaN, without a warning."""

    @_quiet
    @_halves
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        if not x.size:
            return np.sum(x, axis=_axis(axis), keepdims=keepdims) / x.dtype.type(0)
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


TABLE |= {"mean": _moment(np.mean), "var": _moment(np.var)}


@_primitive
@_quiet
@_halves
def sum_(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
    return np.sum(x, axis=_axis(axis), keepdims=keepdims, dtype=_sum_type(x, None))


@_primitive
@_quiet
@_halves
def prod(x: np.ndarray, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> np.ndarray:
    return np.prod(x, axis=_axis(axis), keepdims=keepdims, dtype=_sum_type(x, dtype))


def _extreme(fn: Callable) -> Callable:
    @_halves
    def call(
        x: np.ndarray, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> np.ndarray:
        options = {} if initial is None else {"initial": initial}
        return fn(x, axis=_axis(axis), keepdims=keepdims, **options)

    return call


TABLE |= {"max": _extreme(np.max), "min": _extreme(np.min)}


def _arg(fn: Callable) -> Callable:
    @_halves
    def call(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> np.ndarray:
        return fn(x, axis=axis, keepdims=keepdims).astype(np.int32)

    return call


TABLE |= {"argmax": _arg(np.argmax), "argmin": _arg(np.argmin)}


def _running(fn: Callable) -> Callable:
    @_quiet
    @_halves
    def call(x: np.ndarray, axis: Any = None, dtype: Any = None) -> np.ndarray:
        own = np.int32 if x.dtype == bool else x.dtype
        return fn(x, axis=axis, dtype=own if dtype is None else native(dtype))

    return call


TABLE |= {"cumsum": _running(np.cumsum), "cumprod": _running(np.cumprod)}


# Creation


@_primitive
def full(shape: Any, fill_value: Any, dtype: Any = None) -> np.ndarray:
    return np.full(shape, fill_value, native(dtype))


@_primitive
def zeros_like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    return np.zeros(np.shape(x), x.dtype if dtype is None else native(dtype))


@_primitive
def ones_like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
    return np.ones(np.shape(x), x.dtype if dtype is None else native(dtype))


@_primitive
def copy(x: np.ndarray) -> np.ndarray:
    return np.copy(x)


@_primitive
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> np.ndarray:
    given = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in given)))
    start, stop = (0, start) if stop is None else (start, stop)
    return np.arange(start, stop, step).astype(dtype)


# Shapes


@_primitive
def _positions(x: np.ndarray, size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32)


@_primitive
def reshape(x: np.ndarray, newshape: Any) -> np.ndarray:
    return np.reshape(x, newshape)


@_primitive
def concatenate(xs: list, axis: int = 0) -> np.ndarray:
    return np.concatenate(xs, axis)


@_primitive
def split(x: np.ndarray, indices_or_sections: Any, axis: int = 0) -> list:
    return np.split(x, indices_or_sections, axis)


@_primitive
def tile(x: np.ndarray, repeats: Any) -> np.ndarray:
    return np.tile(x, repeats)


@_primitive
def repeat(x: np.ndarray, repeats: Any, axis: Any = None) -> np.ndarray:
    return np.repeat(x, repeats, axis)


@_primitive
def pad(
    x: np.ndarray, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> np.ndarray:
    options = {} if constant_values is None else {"constant_values": constant_values}
    return np.pad(x, pad_width, mode, **options)


@_primitive
def get_item(x: np.ndarray, key: Any) -> np.ndarray:
    return x[key]


# Indexing, searching, sorting


@_primitive
def nonzero(x: np.ndarray) -> tuple:
    return tuple(i.astype(np.int32) for i in np.nonzero(x))


@_primitive
def take(x: np.ndarray, indices: np.ndarray, axis: Any = None) -> np.ndarray:
    return np.take(x, indices.astype(np.int64), axis)


@_primitive
def take_along_axis(x: np.ndarray, indices: np.ndarray, axis: Any = None) -> np.ndarray:
    indices = indices.astype(np.int64)
    if axis is None:
        return np.take_along_axis(x, indices.reshape(-1), None)
    sizes = [np.shape(x), indices.shape]
    whole = np.broadcast_shapes(*((*s[: axis % x.ndim], 1, *s[axis % x.ndim + 1 :]) for s in sizes))
    x, indices = (
        np.broadcast_to(a, (*whole[: axis % x.ndim], a.shape[axis], *whole[axis % x.ndim + 1 :]))
        for a in (x, indices)
    )
    return np.take_along_axis(x, indices, axis)


@_primitive
@_halves
def sort(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.sort(x, axis)


@_primitive
@_halves
def argsort(x: np.ndarray, axis: Any = -1) -> np.ndarray:
    return np.argsort(x, axis if np.ndim(x) else None, stable=True).astype(np.int32)


@_primitive
def _view(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(x.shape).view(native(dtype))


@_primitive
@_halves
def searchsorted(sorted_sequence: np.ndarray, values: np.ndarray, side: str = "left") -> np.ndarray:
    return np.searchsorted(sorted_sequence, values, side).astype(np.int32)


# Products


def _products(x: np.ndarray) -> Any:
    """Products of two int8 tensors add up in int32."""
    return np.int32 if x.dtype == np.int8 else x.dtype


@_primitive
@_quiet
@_halves
def matmul(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    if x1.dtype == np.int8 and x1.ndim and x2.ndim > 1:
        return int8_product(x1, x2, _by_floats)
    return np.matmul(x1, x2, dtype=_products(x1))


def _by_floats(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.matmul(x1.astype(np.float32), x2.astype(np.float32)).astype(np.int32)


@_primitive
@_quiet
def einsum(subscripts: str, *operands: np.ndarray, **kwargs: Any) -> np.ndarray:
    first = operands[0]
    made_in = np.float32 if first.dtype in _HALVES else _products(first)
    out = np.einsum(subscripts, *(x.astype(made_in) for x in operands), optimize=True)
    return np.asarray(out).astype(first.dtype if first.dtype in _HALVES else made_in)


@_primitive
@_quiet
@_halves
def tensordot(x1: np.ndarray, x2: np.ndarray, axes: Any = 2) -> np.ndarray:
    return np.tensordot(x1, x2, axes)


# Slices and scatters


def _part(inputs: np.ndarray, start_indices: Any, shape: Any) -> tuple:
    """The slices of a part, moved inside where it would reach beyond the end, as in JAX."""
    inside = [min(max(int(i), 0), d - n)
              for i, d, n in zip(start_indices, inputs.shape, shape, strict=True)]  # fmt: skip
    if min(inside, default=0) < 0:
        raise ValueError(f"the shape {tuple(shape)} is larger than {inputs.shape}")
    return tuple(slice(i, i + n) for i, n in zip(inside, shape, strict=True))


@_primitive
def slice_(inputs: np.ndarray, start_indices: Any, shape: Any) -> np.ndarray:
    return inputs[_part(inputs, start_indices, shape)]


@_primitive
def slice_update(inputs: np.ndarray, start_indices: Any, updates: np.ndarray) -> np.ndarray:
    return overwrite(inputs.copy(), start_indices, updates)


@_primitive
def overwrite(inputs: np.ndarray, start_indices: Any, updates: np.ndarray) -> np.ndarray:
    inputs[_part(inputs, start_indices, updates.shape)] = updates
    return inputs


@_primitive
def scatter_update(
    inputs: np.ndarray, indices: np.ndarray, updates: np.ndarray, reduction: str | None = None
) -> np.ndarray:
    out, at = inputs.copy(), tuple(indices.T)
    how = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    if reduction is None:
        out[at] = updates
    else:
        how[reduction].at(out, at, updates.astype(inputs.dtype))
    return out


# ops/math.py


@_primitive
def top_k(x: np.ndarray, k: int, sorted: bool = True) -> tuple:
    if k > x.shape[-1]:
        raise ValueError(f"k={k} is more than the size {x.shape[-1]} of the last axis")
    falling = np.argsort(np.flip(x, -1), -1, stable=True)[..., ::-1][..., :k]
    indices = x.shape[-1] - 1 - falling
    return np.take_along_axis(x, indices, -1), indices.astype(np.int32)


def _one_by_one(name: str, fn: Callable) -> Callable:
    """scipy's function where it is installed, else one element after the other."""
    try:
        from scipy import special
    except ImportError:
        slow = np.frompyfunc(fn, 1, 1)
        return lambda x: np.asarray(slow(x)).astype(x.dtype)
    return getattr(special, name)


def _erfinv(x: float) -> float:
    if not -1 < x < 1:
        return x * math.inf if abs(x) == 1 else math.nan
    return statistics.NormalDist().inv_cdf((x + 1) / 2) / math.sqrt(2)


TABLE |= {
    name: _quiet(_halves(_one_by_one(name, fn)))
    for name, fn in {"erf": math.erf, "erfc": math.erfc, "erfinv": _erfinv}.items()
}
