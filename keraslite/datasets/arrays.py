"""Arrays of files whose format is a pickle, read without running any of its code.

A pickle names functions that are to be called. Those of NumPy's arrays are answered by classes that
only take down what they are given; any other name is an error. Python's own unpickler follows them:
a data set has millions of numbers, and its check sum is known.
"""

import io
import pickle
import zipfile
from os import PathLike
from typing import Any

import numpy as np

from keraslite.saving.pickled_arrays import NUMPY_CALLS, PickledArray, read_npy_header


def _made(x: Any) -> Any:
    """Return what was unpickled with arrays in the place of what the pickle says of them."""
    if isinstance(x, dict):
        return {key: _made(value) for key, value in x.items()}
    if isinstance(x, list) and any(isinstance(value, PickledArray) for value in x):
        return [_made(value) for value in x]
    return x.array(_made) if isinstance(x, PickledArray) else x


def _encode(text: str, _: str) -> bytes:
    return text.encode("latin1")  # as Python 3 writes bytes for Python 2


_ANSWERS = {
    **NUMPY_CALLS,
    "_codecs encode": _encode,
    "numpy ndarray": PickledArray,  # an argument of _reconstruct alone
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in _ANSWERS:
            raise pickle.UnpicklingError(
                f"It calls {module}.{name}, which a file of arrays does not need: it is damaged or "
                "hostile, and nothing of it was run."
            )
        return _ANSWERS[f"{module} {name}"]


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
    _, dtype = read_npy_header(file)
    if dtype.hasobject:
        return unpickle(file)
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
