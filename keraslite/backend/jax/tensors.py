"""TENSORS: making, casting and reading JAX arrays."""

import sys
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes as jax_dtypes

from keraslite import dtypes
from keraslite.backend.counter import hashed, keys
from keraslite.backend.memory import owned

__all__ = [
    "FLOATING", "NUMERIC", "TYPES", "WIDER", "accelerated", "allow_tensor_float_32", "canonical",
    "cast", "convert", "coo_parts", "copy", "densify", "detach", "device_scope", "dtype_of",
    "from_coo", "from_dlpack", "from_numpy", "is_compiling", "is_sparse", "is_traced", "native",
    "new_value", "number", "placed", "random_bits", "shape_of", "take_rows", "to_numpy",
]  # fmt: skip

TYPES: tuple = (jax.Array,)
WIDER: dict[str, str] = {}  # it has kernels for all integers
FLOATING = {dtypes.to_numpy(n) for n in (*dtypes.FLOATS, *dtypes.COMPLEX)}
NUMERIC = FLOATING | {dtypes.to_numpy(n) for n in dtypes.INTS}
_NAMES = {dtypes.to_numpy(name): name for name in dtypes.ALL}  # dtype.name takes numpy 0.5 us


def accelerated() -> bool:
    """Whether new tensors go to an accelerator."""
    device = jax.config.jax_default_device
    return getattr(device, "platform", device or jax.default_backend()) != "cpu"


def device_scope(name: str) -> AbstractContextManager:
    """A context in which new arrays go to a device."""
    platform, _, number = name.partition(":")
    try:
        devices = jax.local_devices(backend=platform)
        return jax.default_device(devices[int(number or 0)])
    except (RuntimeError, IndexError):
        there = [f"{d.platform}:{d.id}" for d in jax.local_devices()]
        raise ValueError(f"jax has no device {name!r}, expected one of {there}.") from None


def allow_tensor_float_32(allowed: bool) -> None:
    """Whether products of float32 on a GPU may round their inputs to 10 bits."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if allowed else "highest")


def placed(x: jax.Array) -> jax.Array:
    """The array, which JAX places itself."""
    return x


def canonical(name: str) -> str:
    """The type that JAX uses for a name: 32 bits unless jax_enable_x64 is set."""
    return _NAMES[jax_dtypes.canonicalize_dtype(dtypes.to_numpy(name))]


def native(dtype: Any) -> np.dtype:
    """The JAX dtype of a name."""
    return jax_dtypes.canonicalize_dtype(dtypes.to_numpy(dtypes.standardize(dtype)))


def native_or_none(dtype: Any) -> np.dtype | None:
    """The JAX dtype of a name; None for None."""
    return None if dtype is None else native(dtype)


def dtype_of(x: jax.Array) -> str:
    """The name of an array's dtype."""
    return _NAMES.get(x.dtype) or x.dtype.name


def cast(x: jax.Array, dtype: str) -> jax.Array:
    """Change the dtype."""
    return x.astype(native(dtype))


def convert(value: Any, dtype: str | None = None) -> jax.Array:
    """An array of any value: an array, a literal, a list with arrays inside."""
    if isinstance(value, jax.Array):
        return value if dtype is None else value.astype(native(dtype))
    if isinstance(value, list | tuple) and any(isinstance(v, jax.Array) for v in value):
        return jnp.stack([convert(v, dtype) for v in value])
    array = dtypes.of_literal(value)
    if array.dtype.kind in "SUO":
        raise TypeError("jax has no tensors of strings; keep them as lists or numpy arrays.")
    if dtype is not None:  # numpy's cast: with a dtype jnp.asarray takes twice as long
        array = array.astype(native(dtype), copy=False)
    return jnp.asarray(array)


def number(value: float, like: jax.Array) -> jax.Array:
    """A Python number as an array of the dtype of the one beside it."""
    return convert(value, like.dtype)


def from_numpy(array: np.ndarray) -> jax.Array:
    """Copy an array to the default device."""
    return convert(array)


def from_dlpack(x: Any) -> jax.Array:
    """Take another framework's tensor without a copy."""
    return jnp.from_dlpack(x)


def detach(x: jax.Array) -> jax.Array:
    """The array itself: gradients are not kept on it."""
    return x


def is_sparse(x: Any) -> bool:
    """Whether a value is a sparse tensor; their module is imported by whoever made one."""
    sparse = sys.modules.get("jax.experimental.sparse")
    return sparse is not None and isinstance(x, sparse.BCOO)


def is_traced(x: Any) -> bool:
    """Return whether values must not be read: there are none yet, or later calls have others."""
    return isinstance(x, jax.core.Tracer)


def is_compiling() -> bool:
    """Return whether the Python code that runs is read by a compiler: it never is."""
    return False


def from_coo(indices: jax.Array, values: jax.Array, shape: tuple) -> Any:
    """A sparse tensor of (elements, rank) indices and their values."""
    from jax.experimental.sparse import BCOO

    return BCOO((values, jnp.asarray(indices)), shape=shape)


def coo_parts(x: Any) -> tuple[jax.Array, jax.Array]:
    """The indices and values of a sparse tensor."""
    return x.indices, x.data


def densify(x: Any) -> jax.Array:
    """The dense tensor of a sparse one."""
    return x.todense()


def to_numpy(x: jax.Array) -> np.ndarray:
    """The values as numpy; a view where they lie in this machine's memory."""
    return np.asarray(x)


def _on_first_cpu() -> bool:
    """Whether new arrays go to the first CPU."""
    device = jax.config.jax_default_device
    return not accelerated() and getattr(device, "id", 0) == 0


def new_value(value: Any, dtype: str) -> jax.Array:
    """The first value of a variable, outside any trace that is under way."""
    with jax.ensure_compile_time_eval():
        large = isinstance(value, np.ndarray) and value.nbytes > 1 << 16
        if large and not value.flags.c_contiguous:
            array = owned(value, native(dtype or value.dtype.name))
            # jax takes the memory of types of numpy itself over; bfloat16 is not one of them.
            if _on_first_cpu() and array.dtype.isbuiltin == 1:
                return jax.dlpack.from_dlpack(array)
            return jnp.asarray(array)
        return convert(value, dtype)


def shape_of(x: jax.Array) -> tuple:
    """The shape."""
    return tuple(x.shape)


def take_rows(x: jax.Array, index: np.ndarray) -> jax.Array:
    """The rows of a tensor at the places in an array of integers that are not negative."""
    return x[jnp.asarray(index)]


def copy(x: jax.Array) -> jax.Array:
    """The array itself: arrays are immutable."""
    return x


def random_bits(seed: Any, count: int, high: int, start: Any = 0) -> jax.Array:
    """The `high` top bits of `count` hashed positions from `start` on, as int32."""
    seed = jnp.asarray(seed, jnp.int32).astype(jnp.uint32)
    return _random_bits(seed, count, high, jnp.uint32(start))


@partial(jax.jit, static_argnums=(1, 2))
def _random_bits(seed: jax.Array, count: int, high: int, start: jax.Array) -> jax.Array:
    bits = hashed(jnp.arange(count, dtype=jnp.uint32) + start, *keys(seed[0], seed[1]))
    return (bits >> jnp.uint32(32 - high)).astype(jnp.int32)
