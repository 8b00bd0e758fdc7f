"""Write arrays into HDF5 files as Keras keeps them, one at a time."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keraslite.saving.h5_files import INSTALL


def write_h5(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write arrays into a new HDF5 file, each as it comes, with Keras's mark of bfloat16.

    Args:
        path: of the file.
        arrays: pairs of a path, such as "layers/dense/vars/0", and an array.

    Raises:
        ImportError: h5py is not installed.
        OSError: the file cannot be written.

    Example:
        >>> write_h5(Path("a.weights.h5"), [("layers/dense/vars/0", np.ones(3))])  # doctest: +SKIP
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"weights of Keras are HDF5 files, which h5py writes: {INSTALL}"
        ) from error
    with h5py.File(path, "w") as file:
        for name, array in arrays:
            if array.dtype.name == "bfloat16":  # which HDF5 does not know
                file.create_dataset(name, data=array.view("V2")).attrs["dtype"] = "bfloat16"
            else:
                file.create_dataset(name, data=array)
