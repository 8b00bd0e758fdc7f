"""TENSORS: making, casting and reading TensorFlow tensors."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite import dtypes
from keraslite.backend.counter import hashed, keys
from keraslite.backend.memory import owned
from keraslite.scopes import scopes

__all__ = [
    "FLOATING", "NUMERIC", "TYPES", "WIDER", "accelerated", "allow_tensor_float_32", "canonical",
    "cast", "convert", "coo_parts", "copy", "densify", "detach", "device_scope", "dtype_of",
    "from_coo", "from_dlpack", "from_numpy", "is_sparse", "is_traced", "native", "new_value",
    "number", "placed", "random_bits", "shape_of", "take_rows", "to_numpy",
]  # fmt: skip

TYPES: tuple = (tf.Tensor, tf.Variable, tf.RaggedTensor, tf.SparseTensor)
_NATIVE = {name: tf.as_dtype(name) for name in (*dtypes.ALL, "string")}
# Types that numpy does not have itself: their bits travel as integers of the same width.
_AS_BITS = {"bfloat16": np.int16, "float8_e4m3fn": np.int8, "float8_e5m2": np.int8}
# Integers with few kernels, and the type that operations on them are done in where they lack one.
WIDER = {"uint16": "int64", "uint32": "int64"}
FLOATING = {_NATIVE[n] for n in (*dtypes.FLOATS, *dtypes.COMPLEX)}
NUMERIC = FLOATING | {_NATIVE[n] for n in dtypes.INTS}


_xla: ContextVar[bool] = ContextVar("xla", default=False)


def under_xla(fn: Callable) -> Callable:
    """A function whose trace is for XLA, which lacks some operations and has others."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = _xla.set(True)
        try:
            return fn(*args, **kwargs)
        finally:
            _xla.reset(token)

    return call


def for_xla() -> bool:
    """Whether what is traced is for XLA."""
    return _xla.get()


@cache
def _has_accelerator() -> bool:
    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))


def accelerated() -> bool:
    """Whether new tensors go to an accelerator."""
    return _has_accelerator() and not (scopes.device or "").startswith("cpu")


def device_scope(name: str) -> AbstractContextManager:
    """A context in which new tensors go to a device."""
    kind, _, number = name.partition(":")
    device = f"{kind.upper()}:{number or 0}"
    there = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
    if device not in there:
        raise ValueError(f"tensorflow has no device {name!r}, expected one of {there}.")
    return tf.device(f"/{device}")


def allow_tensor_float_32(allowed: bool) -> None:
    """Whether products of float32 on a GPU may round their inputs to 10 bits."""
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


def placed(x: tf.Tensor) -> tf.Tensor:
    """The tensor, which TensorFlow places itself."""
    return x


def native(dtype: Any) -> tf.DType:
    """The TensorFlow dtype of a name."""
    return _NATIVE[dtypes.standardize(dtype)]


def sizes(shape: Any) -> Any:
    """A shape as it is, one size as a list."""
    return [shape] if isinstance(shape, int) or getattr(shape, "shape", None) == () else shape


def dtype_of(x: tf.Tensor) -> str:
    """The name of a tensor's dtype."""
    return x.dtype.name


def canonical(name: str) -> str:
    """The type that this backend uses for a name: TensorFlow has them all."""
    return name


def cast(x: tf.Tensor, dtype: str) -> tf.Tensor:
    """Change the dtype."""
    return tf.cast(x, _NATIVE[dtype])


def convert(value: Any, dtype: str | None = None) -> tf.Tensor:
    """A tensor of any value: a tensor, a variable, a literal, a list with tensors inside."""
    if isinstance(value, tf.Tensor):
        return value if dtype is None else tf.cast(value, native(dtype))
    if isinstance(value, tf.Variable):
        return convert(value.read_value(), dtype)
    if isinstance(value, list | tuple) and any(isinstance(v, TYPES) for v in value):
        return tf.stack([convert(v, dtype) for v in value])
    array = dtypes.of_literal(value)
    if array.dtype.kind in "SUO":
        return tf.constant(array)
    return tf.constant(array.astype(dtypes.to_numpy(dtype), copy=False) if dtype else array)


def number(value: float, like: tf.Tensor) -> tf.Tensor:
    """A Python number as a tensor of the dtype of the one beside it."""
    return convert(value, like.dtype.name)


def from_numpy(array: np.ndarray) -> tf.Tensor:
    """A tensor with the array's values."""
    return tf.convert_to_tensor(array)


def from_dlpack(x: Any) -> tf.Tensor:
    """Take another framework's tensor without a copy."""
    if x.__dlpack_device__()[0] == 1:
        array = np.from_dlpack(x)
        if array.ctypes.data % 64:
            raise BufferError("TensorFlow's kernels abort on memory not aligned to 64 bytes.")
        if not array.flags.c_contiguous:
            raise BufferError("TensorFlow takes no tensor whose elements are out of order.")
    return tf.experimental.dlpack.from_dlpack(x.__dlpack__())


def detach(x: tf.Tensor) -> tf.Tensor:
    """The tensor itself: gradients are not kept on it."""
    return x.read_value() if isinstance(x, tf.Variable) else x


def is_sparse(x: Any) -> bool:
    """Whether a value is a sparse tensor."""
    return isinstance(x, tf.SparseTensor)


def is_traced(x: Any) -> bool:
    """Return whether values must not be read: there are none yet, or later calls have others."""
    return isinstance(x, tf.Tensor) and tf.is_symbolic_tensor(x)


def from_coo(indices: tf.Tensor, values: tf.Tensor, shape: tuple) -> tf.SparseTensor:
    """A sparse tensor of (elements, rank) indices and their values."""
    return tf.SparseTensor(tf.cast(indices, tf.int64), values, shape)


def coo_parts(x: tf.SparseTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The indices and values of a sparse tensor."""
    return tf.cast(x.indices, tf.int32), x.values


def densify(x: tf.SparseTensor) -> tf.Tensor:
    """The dense tensor of a sparse one."""
    return tf.sparse.to_dense(tf.sparse.reorder(x))


def to_numpy(x: tf.Tensor) -> np.ndarray:
    """The values as numpy, strings as an array of str."""
    array = np.asarray(
        x.numpy() if hasattr(x, "numpy") else x
    )  # TensorFlow's scalars are no arrays
    return _decoded(array) if array.dtype.kind in "OS" else array


def _decoded(array: np.ndarray) -> np.ndarray:
    """Return an array of the texts in UTF-8 that an array of bytes holds."""
    texts = np.empty(array.shape, object)
    texts.flat = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
    return texts


def new_value(value: Any, dtype: str) -> tf.Tensor:
    """The first value of a variable, outside any graph being traced."""
    with tf.init_scope():
        if isinstance(value, np.ndarray) and value.nbytes > 1 << 16:
            return _owned(value, dtype)
        return convert(value, dtype)


def shape_of(x: tf.Tensor) -> tuple:
    """The shape, with scalars of the graph where a dimension is not known."""
    static = tuple(x.shape)
    if None not in static:
        return static
    run_time = tf.shape(x)
    return tuple(run_time[i] if d is None else d for i, d in enumerate(static))


def take_rows(x: tf.Tensor, index: np.ndarray) -> tf.Tensor:
    """The rows of a tensor at the places in an array of integers that are not negative."""
    return tf.gather(x, index)


def copy(x: tf.Tensor) -> tf.Tensor:
    """A tensor of its own memory."""
    return tf.identity(x)


def random_bits(seed: Any, count: Any, high: int, start: Any = 0) -> tf.Tensor:
    """The `high` top bits of `count` hashed positions from `start` on, as int32."""
    seed = tf.bitcast(tf.convert_to_tensor(seed, tf.int32), tf.uint32)
    bits = hashed(
        _Word(tf.bitcast(tf.range(count) + start, tf.uint32)), *keys(_Word(seed[0]), _Word(seed[1]))
    )
    return tf.bitcast(tf.bitwise.right_shift(bits.x, tf.constant(32 - high, tf.uint32)), tf.int32)


class _Word:
    """uint32 arithmetic with the operators that the shared hash is written in."""

    def __init__(self, x: tf.Tensor):
        self.x = x

    def __xor__(self, other: Any) -> "_Word":
        return _Word(tf.bitwise.bitwise_xor(self.x, _word(other)))

    def __rshift__(self, other: Any) -> "_Word":
        return _Word(tf.bitwise.right_shift(self.x, _word(other)))

    def __add__(self, other: Any) -> "_Word":
        return _Word(self.x + _word(other))

    def __mul__(self, other: Any) -> "_Word":
        return _Word(self.x * _word(other))


def _word(value: Any) -> tf.Tensor:
    return value.x if isinstance(value, _Word) else tf.constant(int(value), tf.uint32)


def _owned(value: np.ndarray, dtype: str) -> tf.Tensor:
    """A large array copied once, into memory aligned as TensorFlow wants it and handed over.

    tf.constant would copy it two or three times.
    """
    native_dtype = dtypes.to_numpy(dtype)
    array = owned(value, native_dtype).view(_AS_BITS.get(dtype, native_dtype))
    tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.bitcast(tensor, _NATIVE[dtype]) if dtype in _AS_BITS else tensor
