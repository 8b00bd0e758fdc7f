"""PRIMITIVES for ops/numpy.py, ops/core.py and ops/math.py on JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keraslite import dtypes
from keraslite.backend.jax.tensors import native

# Ops whose JAX function takes a Python number beside an array and follows the array's dtype.
_TAKE_NUMBERS = """add subtract multiply divide power mod fmod floor_divide equal not_equal less
    less_equal greater greater_equal maximum minimum where clip"""
SCALARS = frozenset(_TAKE_NUMBERS.split())

_AS_THEY_ARE = """add subtract multiply divide power mod fmod floor_divide absolute negative sign
    square sqrt cbrt reciprocal maximum minimum fmax fmin gcd lcm hypot heaviside logaddexp
    logaddexp2 arctan2 exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan sinh
    cosh tanh arcsinh arccosh arctanh sinc deg2rad rad2deg floor ceil trunc isnan isinf isfinite
    isposinf isneginf signbit real imag conjugate angle equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
    bitwise_not where take transpose moveaxis swapaxes
    squeeze expand_dims broadcast_to stack flip roll trace diagonal diag tril triu
    tensordot searchsorted copy i0 nextafter"""
TABLE: dict[str, Any] = {name: getattr(jnp, name) for name in _AS_THEY_ARE.split()} | {
    "bitwise_left_shift": jnp.left_shift,
    "bitwise_right_shift": jnp.right_shift,
    "stop_gradient": jax.lax.stop_gradient,
    "rsqrt": jax.lax.rsqrt,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "erfinv": jax.scipy.special.erfinv,
}


def _primitive(fn: Any) -> Any:
    TABLE[fn.__name__.removesuffix("_")] = fn  # sum_ and the like hide no builtin
    return fn


def _or_none(dtype: Any) -> Any:
    return None if dtype is None else native(dtype)


@_primitive
def cast(x: jax.Array, dtype: Any) -> jax.Array:
    return x.astype(native(dtype))


@_primitive
def round_(x: jax.Array, decimals: int = 0) -> jax.Array:
    if decimals < 0 and not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.round(x.astype(jnp.float32), decimals).astype(x.dtype)
    return jnp.round(x, decimals)


@_primitive
def clip(x: jax.Array, x_min: Any, x_max: Any) -> jax.Array:
    return jnp.clip(x, x_min, x_max)


@_primitive
def nan_to_num(x: jax.Array, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> jax.Array:
    return jnp.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)


# Reductions: jnp has dtype and out between axis and keepdims.


def _axis(axis: Any) -> Any:
    return tuple(axis) if type(axis) is list else axis


def _reduction(fn: Callable) -> Callable:
    def call(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
        return fn(x, axis=_axis(axis), keepdims=keepdims)

    return call


def _in_float32(fn: Callable) -> Callable:
    """Halves overflow in the sums of a mean."""

    def call(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return fn(x, axis=_axis(axis), keepdims=keepdims, dtype=wide).astype(x.dtype)

    return call


def _extreme(fn: Callable) -> Callable:
    def call(
        x: jax.Array, axis: Any = None, keepdims: bool = False, initial: Any = None
    ) -> jax.Array:
        return fn(x, axis=_axis(axis), keepdims=keepdims, initial=initial)

    return call


_REDUCTIONS = ("sum", "all", "any", "argmax", "argmin")
TABLE |= {name: _reduction(getattr(jnp, name)) for name in _REDUCTIONS}
TABLE |= {name: _in_float32(getattr(jnp, name)) for name in ("mean", "var")}
TABLE |= {"max": _extreme(jnp.max), "min": _extreme(jnp.min)}


@_primitive
def prod(x: jax.Array, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> jax.Array:
    return jnp.prod(x, axis=_axis(axis), keepdims=keepdims, dtype=_or_none(dtype))


@_primitive
def cumsum(x: jax.Array, axis: Any = None, dtype: Any = None) -> jax.Array:
    return jnp.cumsum(x, axis, _or_none(dtype))


@_primitive
def cumprod(x: jax.Array, axis: Any = None, dtype: Any = None) -> jax.Array:
    return jnp.cumprod(x, axis, _or_none(dtype))


# Creation


@_primitive
def full(shape: Any, fill_value: Any, dtype: Any = None) -> jax.Array:
    return jnp.full(shape, fill_value, native(dtype))


@_primitive
def zeros_like(x: jax.Array, dtype: Any = None) -> jax.Array:
    return jnp.zeros_like(x, _or_none(dtype))


@_primitive
def ones_like(x: jax.Array, dtype: Any = None) -> jax.Array:
    return jnp.ones_like(x, _or_none(dtype))


@_primitive
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> jax.Array:
    given = [v for v in (start, stop, step) if v is not None]
    dtype = native(dtype or dtypes.result_type(*(getattr(v, "dtype", type(v)) for v in given)))
    return jnp.arange(start, stop, step, dtype)


# Shapes


@_primitive
def _positions(x: jax.Array, size: int) -> jax.Array:
    return jnp.arange(size, dtype=jnp.int32)


@_primitive
def reshape(x: jax.Array, newshape: Any) -> jax.Array:
    return jnp.reshape(x, newshape)


@_primitive
def concatenate(xs: list, axis: int = 0) -> jax.Array:
    return jnp.concatenate(xs, axis)


@_primitive
def split(x: jax.Array, indices_or_sections: Any, axis: int = 0) -> list:
    return jnp.split(x, indices_or_sections, axis)


@_primitive
def tile(x: jax.Array, repeats: Any) -> jax.Array:
    return jnp.tile(x, repeats)


@_primitive
def repeat(x: jax.Array, repeats: Any, axis: Any = None) -> jax.Array:
    repeats = repeats if isinstance(repeats, int | jax.Array) else np.asarray(repeats)
    return jnp.repeat(x, repeats, axis)


@_primitive
def pad(
    x: jax.Array, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> jax.Array:
    options = {} if constant_values is None else {"constant_values": constant_values}
    return jnp.pad(x, pad_width, mode, **options)


@_primitive
def get_item(x: jax.Array, key: Any) -> jax.Array:
    keys = tuple(np.asarray(k) if isinstance(k, list) else k for k in _tuple(key))
    return x[keys]


def _tuple(key: Any) -> tuple:
    return key if isinstance(key, tuple) else (key,)


# Indexing, searching, sorting


@_primitive
def take_along_axis(x: jax.Array, indices: jax.Array, axis: Any = None) -> jax.Array:
    _check_range(x, indices, axis)
    return jnp.take_along_axis(x, indices, axis)


@_primitive
def take(x: jax.Array, indices: jax.Array, axis: Any = None) -> jax.Array:
    _check_range(x, indices, axis)
    return jnp.take(x, indices, axis)


def _check_range(x: jax.Array, indices: jax.Array, axis: Any) -> None:
    """Raise for an index out of range, which JAX passes over; a trace has none to see."""
    if isinstance(indices, jax.core.Tracer) or not indices.size or indices.dtype == bool:
        return
    size = x.size if axis is None else x.shape[axis]
    seen = np.asarray(indices)
    low, high = seen.min(), seen.max()
    if low < -size or high >= size:
        raise IndexError(
            f"index {low if low < -size else high} is out of range for a size of {size}"
        )


@_primitive
def nonzero(x: jax.Array) -> tuple:
    return jnp.nonzero(x)


@_primitive
def sort(x: jax.Array, axis: Any = -1) -> jax.Array:
    return jnp.sort(x, axis)


@_primitive
def _view(x: jax.Array, dtype: str) -> jax.Array:
    return x.view(native(dtype))


@_primitive
def argsort(x: jax.Array, axis: Any = -1) -> jax.Array:
    return jnp.argsort(x, axis if x.ndim else None)


# Products


def _widened(x: jax.Array) -> Any:
    """Products of two int8 tensors add up in int32."""
    return jnp.int32 if x.dtype == jnp.int8 else None


@_primitive
def matmul(x1: jax.Array, x2: jax.Array) -> jax.Array:
    return jnp.matmul(x1, x2, preferred_element_type=_widened(x1))


@_primitive
def einsum(subscripts: str, *operands: jax.Array, **kwargs: Any) -> jax.Array:
    return jnp.einsum(subscripts, *operands, preferred_element_type=_widened(operands[0]))


# Slices and scatters


@_primitive
def slice_(inputs: jax.Array, start_indices: Any, shape: Any) -> jax.Array:
    return jax.lax.dynamic_slice(inputs, _starts(start_indices), tuple(shape))


@_primitive
def slice_update(inputs: jax.Array, start_indices: Any, updates: jax.Array) -> jax.Array:
    updates = updates.astype(inputs.dtype)
    return jax.lax.dynamic_update_slice(inputs, updates, _starts(start_indices))


@_primitive
def overwrite(inputs: jax.Array, start_indices: Any, updates: jax.Array) -> jax.Array:
    return slice_update(inputs, start_indices, updates)


def _starts(start_indices: Any) -> list:
    """The starts as scalars: they may be one vector, or numbers and scalars mixed."""
    if isinstance(start_indices, jax.Array):
        return [start_indices[i] for i in range(start_indices.shape[0])]
    return [jnp.asarray(i, jnp.int32) for i in start_indices]


@_primitive
def scatter_update(
    inputs: jax.Array, indices: jax.Array, updates: jax.Array, reduction: str | None = None
) -> jax.Array:
    at = inputs.at[tuple(indices.T)]
    how = {None: at.set, "add": at.add, "mul": at.multiply, "max": at.max, "min": at.min}
    return how[reduction](updates.astype(inputs.dtype))


@_primitive
def unstack(x: jax.Array, num: int | None = None, axis: int = 0) -> list:
    return list(jnp.unstack(x, axis=axis))


# ops/math.py


@_primitive
def logsumexp(x: jax.Array, axis: Any = None, keepdims: bool = False) -> jax.Array:
    return jax.scipy.special.logsumexp(x, axis=_axis(axis), keepdims=keepdims)


@_primitive
def top_k(x: jax.Array, k: int, sorted: bool = True) -> tuple:
    return tuple(jax.lax.top_k(x, k))
