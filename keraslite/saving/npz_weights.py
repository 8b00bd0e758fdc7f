"""Weights that Keras stored as `model.weights.npz`: a pickled dict of variables for each object.

Keras itself does not read them any more, since its reader would run what the pickles name.
"""

import io
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.saving.archive import bad_model, check_overlaps, stored_span
from keraslite.saving.pickled_arrays import (
    ARRAY_CALLS,
    PickledArray,
    TorchTensor,
    read_npy_header,
)
from keraslite.saving.pickles import BadFileError, PickleMachine, Record

_ROOT = "__root__"  # the object that has an empty path
_MOST_STEPS = 2**20  # opcodes for the variables of one object


class NpzTensors(Mapping[str, np.ndarray]):
    """The arrays of a file by the paths that they have in Keras's HDF5 files.

    Args:
        path: what the file is called in errors.
        file: opened for reading; it may be closed afterwards.
        size: its number of bytes.

    Raises:
        ValueError: it is damaged, or holds anything but arrays of numbers; says what.
    """

    def __init__(self, path: Path, file: Any, size: int) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        try:
            for name, content in _members(path, file, size):
                where = "" if name == _ROOT else f"{name}/"
                for key, value in _variables(io.BytesIO(content)).items():
                    self._arrays[f"{where}vars/{key}"] = _array(value)
        except BadFileError as error:
            raise bad_model(path, f"its weights cannot be read: {error}") from error.__cause__

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._arrays[name]
        return np.array(array, array.dtype.newbyteorder("="), order="C")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array.

        Args:
            name: of the array.
        """
        return self._arrays[name].shape

    def dtype(self, name: str) -> str:
        """Return the dtype of an array, such as "bfloat16".

        Args:
            name: of the array.
        """
        return self._arrays[name].dtype.name


def _members(path: Path, file: Any, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the arrays in a .npz file, none of which is compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            check_overlaps(path, [(path, *stored_span(path, file, i, size)) for i in infos])
            for info in infos:
                yield info.filename.removesuffix(".npy"), archive.read(info)  # looks at its sum
    # zipfile raises NotImplementedError for an unknown compression, RuntimeError for encryption.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BadFileError(f"they are no .npz file, or cut off ({error})") from error


def _variables(file: io.BytesIO) -> dict[str, Any]:
    """Return the pickled dict of an object's variables."""
    try:
        shape, dtype = read_npy_header(file)
    except (ValueError, SyntaxError, EOFError, TypeError, KeyError, RecursionError,
            tokenize.TokenError) as error:  # fmt: skip
        raise BadFileError(f"an array has no header ({error!s:.80})") from error
    if shape != () or not dtype.hasobject:
        raise BadFileError(f"there is an array {shape} of {dtype}, expected a dict of variables")
    holder = PickleMachine(ARRAY_CALLS, most_steps=_MOST_STEPS).run(file)
    state = holder.state if type(holder) is PickledArray else None
    content = state[4] if type(state) is tuple and len(state) == 5 else None
    if type(content) is not list or len(content) != 1 or type(content[0]) is not dict:
        raise BadFileError("there is something else than a dict of variables")
    return content[0]


def _array(value: Any) -> np.ndarray:
    """Return the array of a variable: one of NumPy, or Keras's with a tensor as its `_value`."""
    if type(value) is Record and type(value.state) is dict:
        value = value.state.get("_value")
    if isinstance(value, PickledArray | TorchTensor):
        return value.array()
    name = value.name if isinstance(value, Record) else type(value).__name__
    raise BadFileError(f"there is a {name!r:.60}, expected an array of numbers")
