"""Arrays of files whose format is a pickle, read without running any of its code.

A pickle names functions that are to be called. Those of NumPy's arrays are answered by classes of
this file, which only take down what they are given; any other name is an error.
"""

import io
import pickle
import zipfile
from os import PathLike
from typing import Any

import numpy as np

_CODES = {"O", "O8", "b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f4", "f8"}


class _Dtype:
    """A dtype of a pickle: its code, and its byte order as the state."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def made(self) -> np.dtype:
        code, order = (x.decode() if isinstance(x, bytes) else x for x in (self.code, self.order))
        if code not in _CODES or order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"An array has the dtype {code!r}.")
        return np.dtype("O") if code[0] == "O" else np.dtype(code).newbyteorder(order)


class _Array:
    """An array of a pickle, whose shape, dtype and content are the state."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def made(self) -> np.ndarray:
        _, shape, dtype, is_fortran, content = self.state
        order, dtype = "F" if is_fortran else "C", dtype.made()
        if dtype.kind != "O":
            return np.frombuffer(content, dtype).reshape(shape, order=order)
        array = np.empty(len(content), "O")
        array[:] = [_made(x) for x in content]
        return array.reshape(shape, order=order)


def _made(x: Any) -> Any:
    """Return what was unpickled with arrays in the place of what the pickle says of them."""
    if isinstance(x, dict):
        return {key: _made(value) for key, value in x.items()}
    if isinstance(x, list) and any(isinstance(value, _Array) for value in x):
        return [_made(value) for value in x]
    return x.made() if isinstance(x, _Array) else x


def _encode(text: str, _: str) -> bytes:
    return text.encode("latin1")  # as Python 3 writes bytes for Python 2


_ANSWERS = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,  # an argument of _reconstruct alone
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ANSWERS:
            raise pickle.UnpicklingError(
                f"It calls {module}.{name}, which a file of arrays does not need: it is damaged or "
                "hostile, and nothing of it was run."
            )
        return _ANSWERS[module, name]


def unpickle(file: Any, encoding: str = "ASCII") -> Any:
    """Return the numbers, strings, lists, dicts and NumPy arrays of a pickle.

    Args:
        file: opened for reading, in binary.
        encoding: of the strings of Python 2; "bytes" leaves them as they are.

    Raises:
        pickle.UnpicklingError: the pickle calls anything, or is damaged.

    >>> unpickle(io.BytesIO(pickle.dumps({"x": np.arange(2)})))
    {'x': array([0, 1])}
    """
    try:
        return _made(_Unpickler(file, encoding=encoding).load())
    except (EOFError, AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise pickle.UnpicklingError(f"The pickle is damaged: {error}") from error


def read_npz(path: str | PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file, those of Python lists too.

    Args:
        path: the file.

    Raises:
        pickle.UnpicklingError: a pickle in it calls anything.

    >>> import tempfile
    >>> lists = np.array([[1], [2, 3]], dtype="object")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=lists)
    ...     read_npz(f"{folder}/a.npz")["x"].tolist()
    [[1], [2, 3]]
    """
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): _read_npy(archive.read(name))
            for name in archive.namelist()
            if name.endswith(".npy")
        }


def _read_npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    # Version 3 differs from 2 by the encoding of names of fields, which are none here.
    is_short = version == (1, 0)
    read_header = (
        np.lib.format.read_array_header_1_0 if is_short else np.lib.format.read_array_header_2_0
    )
    _, _, dtype = read_header(file)
    if dtype.hasobject:
        return unpickle(file)
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
