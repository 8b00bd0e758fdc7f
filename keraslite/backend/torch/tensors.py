"""TENSORS: making, casting and reading torch tensors."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from keraslite import dtypes
from keraslite.backend.counter import KEY_SALT, MASK, MIXERS, keys, signed
from keraslite.backend.torch.tracing import levels, traced

__all__ = [
    "FLOATING", "NUMERIC", "TYPES", "WIDER", "accelerated", "allow_tensor_float_32", "canonical",
    "cast", "convert", "coo_parts", "copy", "densify", "detach", "device_scope", "dtype_of",
    "from_coo", "from_dlpack", "from_numpy", "is_compiling", "is_sparse", "is_traced", "native",
    "new_value", "number", "placed", "random_bits", "shape_of", "take_rows", "to_numpy",
]  # fmt: skip

TYPES: tuple = (torch.Tensor, torch.nn.Parameter)
_NATIVE = {name: getattr(torch, name) for name in dtypes.ALL}
HALVES = (torch.float16, torch.bfloat16)
_NAMES = {native: name for name, native in _NATIVE.items()}
# Integers with few kernels, and the type that operations on them are done in where they lack one.
WIDER = {"uint16": "int64", "uint32": "int64"}
FLOATING = {_NATIVE[n] for n in (*dtypes.FLOATS, *dtypes.COMPLEX)}
NUMERIC = FLOATING | {_NATIVE[n] for n in dtypes.INTS}
# numpy has no bfloat16 or float8 of its own: their bits travel as integers of the same width.
_AS_BITS = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


class _Placement(threading.local):
    """Where new tensors of a thread go."""

    # The accelerator, if there is one; None leaves the choice to torch.
    device = torch.device("cuda") if torch.cuda.is_available() else None


_placement = _Placement()


def default_device() -> torch.device | None:
    """The device of new tensors, as torch's factory functions take it."""
    return _placement.device


def accelerated() -> bool:
    """Whether new tensors go to an accelerator."""
    device = _placement.device
    return device is not None and device.type != "cpu"


def placed(x: torch.Tensor) -> torch.Tensor:
    """The tensor where new ones go."""
    device = _placement.device
    return x if device is None else x.to(device)


def device_scope(name: str) -> AbstractContextManager:
    """A context in which new tensors go to a device."""
    try:
        device = torch.device(name.replace("gpu", "cuda"))
        torch.empty(0, device=device)
        if device.type == "cpu" and device.index:  # torch takes any
            raise RuntimeError("there is one CPU")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"torch has no device {name!r}: {error}") from None
    return _device_scope(device)


@contextmanager
def _device_scope(device: torch.device) -> Iterator[None]:
    outer, _placement.device = _placement.device, device
    try:
        yield
    finally:
        _placement.device = outer


def allow_tensor_float_32(allowed: bool) -> None:
    """Whether products of float32 on a GPU may round their inputs to 10 bits."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def native(dtype: Any) -> torch.dtype:
    """The torch dtype of a name."""
    return dtype if isinstance(dtype, torch.dtype) else _NATIVE[dtypes.standardize(dtype)]


def native_or(dtype: Any, default: torch.dtype) -> torch.dtype:
    """The torch dtype of a name, or the default where it is None."""
    return default if dtype is None else _NATIVE.get(dtype) or native(dtype)


def sizes(shape: Any) -> tuple:
    """A shape or one size as a tuple."""
    return (shape,) if isinstance(shape, int) else tuple(shape)


def dtype_of(x: torch.Tensor) -> str:
    """The name of a tensor's dtype."""
    return _NAMES[x.dtype]


def canonical(name: str) -> str:
    """The type that this backend uses for a name: torch has them all."""
    return name


def cast(x: torch.Tensor, dtype: Any) -> torch.Tensor:
    """Change the dtype."""
    return x.to(_NATIVE.get(dtype) or native(dtype))


def convert(value: Any, dtype: str | None = None) -> torch.Tensor:
    """A tensor of any value: a tensor, a literal, a list with tensors inside."""
    if isinstance(value, torch.Tensor):
        return value if dtype is None else value.to(native(dtype))
    if type(value) is list or type(value) is tuple:
        numbers = _numbers(value)
        if numbers and (dtype or numbers == "float*" or _are_int32(value)):
            name = dtype or dtypes.strong(numbers)
            return torch.tensor(value, dtype=native(name), device=default_device())
        if not numbers and any(isinstance(v, torch.Tensor) for v in value):
            return torch.stack([convert(v, dtype) for v in value])
    if type(value) in (int, float, bool):
        name = dtype or dtypes.strong(dtypes.weak(type(value)))
        if name == "int32" and not -(2**31) <= value < 2**31:
            name = "int64"
        return torch.full((), value, dtype=_NATIVE[name], device=default_device())
    x = from_numpy(dtypes.of_literal(value))
    return x if dtype is None else x.to(native(dtype))


def _are_int32(values: Any) -> bool:
    return min(values) >= -(2**31) and max(values) < 2**31


def _numbers(values: Any) -> str | None:
    """The weak type of a list of Python numbers; None for any other, and an empty one."""
    weak = None
    for v in values:
        if type(v) is float:  # `is`: Dynamo does not look a type up in a table
            weak = "float*"
        elif type(v) is int:
            weak = weak or "int*"
        else:
            return None
    return weak


def number(value: float, like: torch.Tensor) -> torch.Tensor:
    """A Python number as a tensor of the dtype and device of the one beside it."""
    return like.new_full((), value)


def from_numpy(array: np.ndarray) -> torch.Tensor:
    """A tensor over the array's memory where torch can share it."""
    name = array.dtype.name
    if array.dtype.kind in "SUO":
        raise TypeError("torch has no tensors of strings; keep them as lists or numpy arrays.")
    if not array.flags.writeable or any(s < 0 for s in array.strides):
        array = array.copy()
    if name in _AS_BITS:
        x = torch.from_numpy(array.view(_AS_BITS[name])).view(_NATIVE[name])
    else:
        x = torch.from_numpy(np.asarray(array))
    return placed(x)


def from_dlpack(x: Any) -> torch.Tensor:
    """Take another framework's tensor without a copy."""
    return placed(torch.from_dlpack(x))


def detach(x: torch.Tensor) -> torch.Tensor:
    """The tensor without its gradient."""
    return x.detach()


def is_sparse(x: Any) -> bool:
    """Whether a value is a sparse tensor."""
    return isinstance(x, torch.Tensor) and x.is_sparse


def is_traced(x: Any) -> bool:
    """Return whether values must not be read: there are none yet, or later calls have others."""
    return isinstance(x, torch.Tensor) and traced()


def is_compiling() -> bool:
    """Return whether the Python code that runs is read by a compiler."""
    return torch.compiler.is_compiling()


def from_coo(indices: torch.Tensor, values: torch.Tensor, shape: tuple) -> torch.Tensor:
    """A sparse tensor of (elements, rank) indices, each once, and their values."""
    return torch.sparse_coo_tensor(indices.t(), values, shape, check_invariants=False)


def coo_parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices and values of a sparse tensor."""
    x = x.coalesce()
    return x.indices().t().contiguous(), x.values()


def densify(x: torch.Tensor) -> torch.Tensor:
    """The dense tensor of a sparse one."""
    return x.to_dense()


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """The values as numpy."""
    x = x.detach().cpu().resolve_conj()
    bits = _AS_BITS.get(_NAMES[x.dtype])
    if bits:
        return x.view(_NATIVE[bits]).numpy().view(dtypes.to_numpy(_NAMES[x.dtype]))
    return x.numpy()


def new_value(value: Any, dtype: str) -> torch.Tensor:
    """The first value of a variable: a writable array's memory is taken over, not copied."""
    if type(value) is not np.ndarray:
        return convert(value, dtype)
    tensor = from_numpy(value)
    return tensor if tensor.dtype is _NATIVE[dtype] else tensor.to(_NATIVE[dtype])


def shape_of(x: torch.Tensor) -> tuple:
    """The shape."""
    return tuple(x.shape)


def take_rows(x: torch.Tensor, index: np.ndarray) -> torch.Tensor:
    """The rows of a tensor at the places in an array of integers that are not negative."""
    return x[torch.from_numpy(index).to(x.device)]


def copy(x: torch.Tensor) -> torch.Tensor:
    """A tensor of its own memory."""
    return x.detach().clone()


def _mix_(x: torch.Tensor, constants: tuple) -> torch.Tensor:
    """`counter.mix` in place on int32, whose right shift must be made a logical one."""
    for shift, factor in constants:
        x ^= (x >> shift) & ((1 << (32 - shift)) - 1)
        if factor:
            x *= signed(factor)
    return x


# Positions that are hashed together on a CPU: all of the scratch memory stays in its cache.
_CHUNK = 2**16


def _hashed_in_chunks(k0: int, k1: int, count: int, high: int, start: int) -> torch.Tensor:
    """Compute `random_bits` without memory for each step: ten times as fast on a CPU."""
    out = torch.empty(count, dtype=torch.int32)
    base = torch.arange(min(_CHUNK, count), dtype=torch.int32)
    scratch = [torch.empty_like(base) for _ in range(3)]
    for begin in range(0, count, _CHUNK):
        x = out[begin : begin + _CHUNK]
        position, y, shifted = (s[: len(x)] for s in scratch)
        torch.add(base[: len(x)], signed((start + begin) & MASK), out=position)
        for word, key, constants in ((x, k0, MIXERS[0]), (y, k1, MIXERS[1])):
            torch.bitwise_xor(position, key, out=word)
            for shift, factor in constants:
                torch.bitwise_right_shift(word, shift, out=shifted)
                shifted &= (1 << (32 - shift)) - 1
                word ^= shifted
                if factor:
                    word *= signed(factor)
        x += y
        if high != 32:
            torch.bitwise_right_shift(x, 32 - high, out=x)
            x &= (1 << high) - 1
    return out


def random_bits(seed: Any, count: int, high: int, start: Any = 0) -> torch.Tensor:
    """The `high` top bits of `count` hashed positions from `start` on, as int32."""
    device = seed.device if isinstance(seed, torch.Tensor) else default_device()
    # Under vmap the seed may be one for each row of the batch.
    symbolic = traced() or "Vmap" in levels()
    if isinstance(seed, torch.Tensor) and (device.type != "cpu" or symbolic):
        first, second = seed.detach()[0:1].clone(), seed.detach()[1:2].clone()
        k0 = _mix_(first ^ _mix_(second + signed(KEY_SALT[0]), MIXERS[0]), MIXERS[1])
        k1 = _mix_(second ^ _mix_(first + signed(KEY_SALT[1]), MIXERS[1]), MIXERS[0])
    else:  # plain integers: no small tensors to make
        a, b = (int(s) & MASK for s in (seed.tolist() if isinstance(seed, torch.Tensor) else seed))
        k0, k1 = (signed(k) for k in keys(a, b))
        plain = type(count) is int and type(start) is int and not traced()
        if plain and (device is None or device.type == "cpu"):
            return _hashed_in_chunks(k0, k1, count, high, start)
    position = torch.arange(count, dtype=torch.int32, device=device)
    if type(start) is not int or start:
        position += start if isinstance(start, torch.Tensor) else signed(start)
    x = _mix_(position ^ k0, MIXERS[0])
    x += _mix_(position ^ k1, MIXERS[1])
    return x if high == 32 else (x >> (32 - high)) & ((1 << high) - 1)
