"""Write arrays into HDF5 files as Keras keeps them, one at a time."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.saving.h5_files import import_h5py


def write_array(group: Any, name: str, array: np.ndarray) -> None:
    """Write an array into a group, with Keras's mark of bfloat16, which HDF5 does not know.

    Args:
        group: of h5py.
        name: of the array in it, or its path below.
        array: the array.
    """
    if array.dtype.name == "bfloat16":
        group.create_dataset(name, data=array.view("V2")).attrs["dtype"] = "bfloat16"
    else:
        group.create_dataset(name, data=array)


def write_h5(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write arrays into a new HDF5 file, each as it comes.

    Args:
        path: of the file.
        arrays: pairs of a path, such as "layers/dense/vars/0", and an array.

    Raises:
        ImportError: h5py is not installed.
        OSError: the file cannot be written.

    Example:
        >>> write_h5(Path("a.weights.h5"), [("layers/dense/vars/0", np.ones(3))])  # doctest: +SKIP
    """
    with import_h5py().File(path, "w") as file:
        for name, array in arrays:
            write_array(file, name, array)
