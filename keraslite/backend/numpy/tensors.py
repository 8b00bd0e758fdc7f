"""TENSORS: numpy arrays under this backend."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16 and float8 with numpy
import numpy as np

from keraslite import dtypes
from keraslite.backend.counter import MASK, hashed, keys

__all__ = [
    "FLOATING", "NUMERIC", "TYPES", "WIDER", "accelerated", "allow_tensor_float_32", "canonical",
    "cast", "convert", "coo_parts", "copy", "densify", "detach", "device_scope", "dtype_of",
    "from_coo", "from_dlpack", "from_numpy", "is_compiling", "is_sparse", "is_traced", "native",
    "new_value", "number", "placed", "random_bits", "shape_of", "take_rows", "to_numpy",
]  # fmt: skip

TYPES: tuple = (np.ndarray, np.generic)
WIDER: dict[str, str] = {}  # it has kernels for all integers
FLOATING = {dtypes.to_numpy(n) for n in (*dtypes.FLOATS, *dtypes.COMPLEX)}
NUMERIC = FLOATING | {dtypes.to_numpy(n) for n in dtypes.INTS}
_NATIVE = {name: dtypes.to_numpy(name) for name in dtypes.ALL}
_NAMES = {native: name for name, native in _NATIVE.items()}  # dtype.name takes numpy 0.5 us

# Positions that are hashed together: all of the memory in between stays in the processor's cache.
_CHUNK = 2**16


def accelerated() -> bool:
    """Whether new tensors go to an accelerator: numpy's never do."""
    return False


def device_scope(name: str) -> AbstractContextManager:
    """A context in which nothing changes: numpy's arrays are on the CPU."""
    if name not in ("cpu", "cpu:0"):
        raise ValueError(f"numpy has no device {name!r}, expected 'cpu:0'.")
    return nullcontext()


def allow_tensor_float_32(allowed: bool) -> None:
    """Nothing: numpy's products are float32."""


def placed(x: np.ndarray) -> np.ndarray:
    """The array as it is."""
    return x


def native(dtype: Any) -> np.dtype:
    """The numpy dtype of a name."""
    return _NATIVE.get(dtype) or dtypes.to_numpy(dtypes.standardize(dtype))


def dtype_of(x: np.ndarray) -> str:
    """The name of an array's dtype."""
    return _NAMES.get(x.dtype) or x.dtype.name


def canonical(name: str) -> str:
    """The type that this backend uses for a name: numpy has them all."""
    return name


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """Change the dtype."""
    return np.asarray(x).astype(_NATIVE.get(dtype) or native(dtype), copy=False)


def convert(value: Any, dtype: str | None = None) -> np.ndarray:
    """An array of any value."""
    if dtype is not None and type(value) is float:
        return np.asarray(value, _NATIVE.get(dtype) or native(dtype))
    array = dtypes.of_literal(value)
    return array if dtype is None else cast(array, dtype)


def number(value: float, like: np.ndarray) -> np.ndarray:
    """A Python number as an array of the dtype of the one beside it."""
    if like.dtype.kind in "iu":
        return np.asarray(value).astype(like.dtype)  # wraps around
    return np.asarray(value, like.dtype)


def from_numpy(array: np.ndarray) -> np.ndarray:
    """The array itself."""
    return array


def from_dlpack(x: Any) -> np.ndarray:
    """Take another framework's tensor without a copy."""
    return np.from_dlpack(x)


def detach(x: np.ndarray) -> np.ndarray:
    """The array itself: numpy has no gradients."""
    return x


def is_sparse(x: Any) -> bool:
    """Whether a value is a sparse tensor: numpy has none."""
    return False


def is_traced(x: Any) -> bool:
    """Return whether a value is yet to be computed: with numpy it never is."""
    return False


_NO_SPARSE = "The numpy backend has no sparse tensors: leave sparse=False."


def is_compiling() -> bool:
    """Return whether the Python code that runs is read by a compiler: it never is."""
    return False


def from_coo(indices: Any, values: np.ndarray, shape: tuple) -> Any:
    """Refuse: there are no sparse arrays to make."""
    raise ValueError(_NO_SPARSE)


def coo_parts(x: Any) -> Any:
    """Refuse: there are no sparse arrays to take apart."""
    raise ValueError(_NO_SPARSE)


def densify(x: np.ndarray) -> np.ndarray:
    """The array itself: numpy's are dense."""
    return x


def to_numpy(x: np.ndarray) -> np.ndarray:
    """The array itself."""
    return np.asarray(x)


def new_value(value: Any, dtype: str) -> np.ndarray:
    """The first value of a variable: the array itself."""
    return convert(value, dtype)


def shape_of(x: np.ndarray) -> tuple:
    """The shape."""
    return tuple(x.shape)


def take_rows(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The rows of a tensor at the places in an array of integers that are not negative."""
    return x[index]


def copy(x: np.ndarray) -> np.ndarray:
    """The array itself: assignment replaces it."""
    return x


def random_bits(seed: Any, count: int, high: int, start: int = 0) -> np.ndarray:
    """The `high` top bits of `count` hashed positions from `start` on, as int32."""
    out = np.empty(count, np.int32)
    with np.errstate(over="ignore"):
        key = keys(np.uint32(int(seed[0]) & MASK), np.uint32(int(seed[1]) & MASK))
        for begin in range(0, count, _CHUNK):
            end = min(begin + _CHUNK, count)
            first = np.uint32((int(start) + begin) & MASK)
            bits = hashed(np.arange(end - begin, dtype=np.uint32) + first, *key)
            out[begin:end] = (bits >> np.uint32(32 - high)).view(np.int32)
    return out
