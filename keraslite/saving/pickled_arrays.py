"""Arrays of NumPy, JAX, PyTorch and TensorFlow in pickles: records of what the pickle says of them.

Shapes, offsets and sizes are held against the bytes that are there before an array is made.
"""

import io
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from keraslite.saving.pickles import PLAIN_CALLS, BadFileError, Global, PickleMachine, Record

_MOST_RANK = 64
_CODES = {"O", "O8", "b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)),
          "f2", "f4", "f8"}  # fmt: skip
_NAMED = {f"ml_dtypes {name}": np.dtype(getattr(ml_dtypes, name))
          for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")}  # fmt: skip
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")

# The storage classes of PyTorch by name, and what their elements are.
TORCH_STORAGES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Float": "<f4", "Half": "<f2", "Double": "<f8", "Long": "<i8", "Int": "<i4",
        "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?", "BFloat16": ml_dtypes.bfloat16,
        "ComplexFloat": "<c8", "ComplexDouble": "<c16",
        "Float8_e4m3fn": ml_dtypes.float8_e4m3fn, "Float8_e5m2": ml_dtypes.float8_e5m2,
    }.items()
}  # fmt: skip


# -- NumPy ----------------------------------------------------------------------------------------


class PickledDtype(Record):
    """A dtype of NumPy: its code as the first argument, and its byte order in the state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__("numpy dtype", arguments)

    def dtype(self) -> np.dtype:
        """Return the dtype.

        Raises:
            BadFileError: the dtype is neither a number nor a Python object.
        """
        code, order = self.arguments[0], self.state[1] if self.state else "="
        code, order = (x.decode() if isinstance(x, bytes) else x for x in (code, order))
        if type(code) is Global and code.name in _NAMED:
            return _NAMED[code.name]
        if type(code) is not str or type(order) is not str:
            raise BadFileError("an array has a dtype that is no text")
        if code not in _CODES or order not in ("<", ">", "=", "|"):
            raise BadFileError(f"an array has the dtype {code!r:.60}")
        return np.dtype("O") if code[0] == "O" else np.dtype(code).newbyteorder(order)


class PickledArray(Record):
    """An array of NumPy, whose shape, dtype and content are the state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__("numpy ndarray", arguments)

    def array(self, item: Callable[[Any], Any] | None = None) -> np.ndarray:
        """Return the array, a view of its bytes.

        Args:
            item: makes an element of an array of objects; None refuses such arrays.

        Raises:
            BadFileError: it has another dtype, or not the bytes of its shape.
        """
        if type(self.state) is not tuple or len(self.state) != 5:
            raise BadFileError("an array has no content")
        _, shape, dtype, is_fortran, content = self.state
        order = "F" if is_fortran else "C"
        if type(dtype) is not PickledDtype or type(shape) is not tuple:
            raise BadFileError("an array is not described by its dtype and shape")
        try:
            dtype = dtype.dtype()
            if dtype.kind != "O":
                flat = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
            elif item is None:
                raise BadFileError("an array has the dtype 'O', expected numbers")
            else:
                flat = np.empty(len(content), "O")
                flat[:] = [item(x) for x in content]
            return flat.reshape(shape, order=order)
        except BadFileError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            raise BadFileError(f"an array is damaged ({error!s:.80})") from error


def _scalar(dtype: Any, content: Any) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, (), dtype, False, content))
    return array


# -- JAX and TensorFlow ---------------------------------------------------------------------------


def _jax_array(make: Any, arguments: Any, state: Any, of_value: Any) -> PickledArray:
    """Return the array of NumPy in an array of JAX."""
    if type(make) is not Global or make.name not in _RECONSTRUCT or type(arguments) is not tuple:
        raise BadFileError("an array of JAX in it is not made of one of NumPy")
    array = PickledArray(*arguments)
    array.__setstate__(state)
    return array


class _Partial(Record):
    """A variable of TensorFlow, pickled as its class with all arguments bound by `partial`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__("functools partial", arguments)

    def called(self) -> Any:
        (target,) = self.arguments
        if type(target) is not Global or target.name != _VARIABLE:
            raise BadFileError(f"its pickle calls {target!r:.80}, and nothing of it was run")
        return self.state[2]["initial_value"]


_VARIABLE = "tensorflow.python.ops.resource_variable_ops ResourceVariable"


def _tensorflow_dtype(name: Any) -> Record:
    return Record("tensorflow.python.framework.dtypes as_dtype", (name,))


# -- PyTorch --------------------------------------------------------------------------------------


class Storage(NamedTuple):
    """Numbers in a row: in a file, or in the bytes of a pickle.

    Args:
        dtype: of the numbers.
        start: where they begin.
        count: how many they are.
        content: the bytes; None if they lie in a file.
    """

    dtype: np.dtype
    start: int
    count: int
    content: bytes | None = None


class TorchTensor(NamedTuple):
    """A tensor of PyTorch: a part of a storage, with strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Return the array, a view of the bytes of the pickle."""
        dtype, start, count, content = self.storage
        flat = np.frombuffer(content or b"", dtype, count, start)[self.offset :]
        strides = [n * dtype.itemsize for n in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)


def torch_storage(identity: Any, find: Callable[[str, np.dtype, int], Storage]) -> Storage:
    """Return the storage of a persistent id of PyTorch.

    Args:
        identity: what the pickle says: ("storage", class, key, device, number of elements, ...).
        find: returns the storage of a key, a dtype and a number of elements.

    Raises:
        BadFileError: it says something else.
    """
    tag, cls, key, _, count = identity[:5]
    dtype = TORCH_STORAGES.get(cls.name) if isinstance(cls, Global) else None
    if tag != "storage" or dtype is None or type(key) is not str or type(count) is not int:
        raise BadFileError("its pickle has a storage of an unknown type")
    if count < 0:
        raise BadFileError(f"storage {key!r:.40} has {count} elements")
    return find(key, dtype, count)


def _storage_of_bytes(content: Any) -> Storage:
    """Return the storage in what `torch.save` wrote in its older format, as pickles hold it."""
    if type(content) is not bytes:
        raise BadFileError("a storage in it is not made of bytes")
    file: BinaryIO = io.BytesIO(content)
    magic, _, info = (PickleMachine(PLAIN_CALLS).run(file) for _ in range(3))
    if magic != 0x1950A86A20F9469CFC6C or not (type(info) is dict and info.get("little_endian")):
        raise BadFileError("a storage in it is none that PyTorch wrote in little-endian order")

    def refer(identity: Any) -> Storage:
        return torch_storage(identity, lambda _, dtype, count: Storage(dtype, 0, count, content))

    storage = PickleMachine(PLAIN_CALLS, refer=refer).run(file)
    PickleMachine(PLAIN_CALLS).run(file)  # the keys, of which there is one
    count, start = int.from_bytes(file.read(8), "little"), file.tell()
    if type(storage) is not Storage or count != storage.count:
        raise BadFileError("a storage in it has another number of elements than it says")
    if start + count * storage.dtype.itemsize > len(content):
        raise BadFileError("a storage in it is cut off")
    return storage._replace(start=start)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TorchTensor:
    """Return the tensor of torch._utils._rebuild_tensor_v2, checked against its storage."""
    whole = [
        type(x) is tuple and all(type(n) is int and n >= 0 for n in x) for x in (shape, strides)
    ]
    if type(storage) is not Storage or type(offset) is not int or offset < 0 or not all(whole):
        raise BadFileError("a tensor in it is not described by numbers")
    if len(shape) != len(strides) or len(shape) > _MOST_RANK:
        raise BadFileError("a tensor in it has strides of another rank, or too many axes")
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and offset + last >= storage.count:
        raise BadFileError("a tensor in it reaches over the end of its storage")
    return TorchTensor(storage, offset, shape, strides)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


# -- tables ---------------------------------------------------------------------------------------

NUMPY_CALLS: dict[str, Callable] = {
    "numpy dtype": PickledDtype,
    **dict.fromkeys(_RECONSTRUCT, PickledArray),
}
TORCH_CALLS: dict[str, Callable] = {
    **PLAIN_CALLS,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
}
ARRAY_CALLS: dict[str, Callable] = {
    **NUMPY_CALLS,
    **TORCH_CALLS,
    **dict.fromkeys(("numpy.core.multiarray scalar", "numpy._core.multiarray scalar"), _scalar),
    "torch.storage _load_from_bytes": _storage_of_bytes,
    "jax._src.array _reconstruct_array": _jax_array,
    "functools partial": _Partial,
    "tensorflow.python.framework.dtypes as_dtype": _tensorflow_dtype,
}


def read_npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Return (shape, dtype) that the header of a .npy file says; the file then stands behind it.

    Args:
        file: opened for reading.

    Raises:
        ValueError: there is no such header.
    """
    version = np.lib.format.read_magic(file)
    # Version 3 differs from 2 by the encoding of names of fields, which are none here.
    is_short = version == (1, 0)
    read_header = (
        np.lib.format.read_array_header_1_0 if is_short else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    return shape, dtype
