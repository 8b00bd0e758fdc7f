"""The files that `keraslite.datasets` reads: where they come from, and their hashes."""

from pathlib import Path
from typing import NamedTuple

from keraslite.utils.files import cached_paths, get_file

_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_FASHION = "datasets/fashion-mnist"


class DataFile(NamedTuple):
    """A file of a data set.

    Args:
        url: the address.
        file_hash: its SHA-256 or MD5; None where Keras publishes none.
        cache_subdir: the folder inside the cache.
        is_archive: whether its content is what is read.
    """

    url: str
    file_hash: str | None
    cache_subdir: str = "datasets"
    is_archive: bool = False


# Name in Keras's cache -> the file: what another program downloaded with Keras is used.
FILES = {
    "boston_housing.npz": DataFile(
        f"{_GOOGLE}boston_housing.npz",
        "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
    ),
    "california_housing.npz": DataFile(
        f"{_GOOGLE}california_housing.npz",
        "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
    ),
    "cifar-10-batches-py-target": DataFile(
        f"{_TORONTO}cifar-10-python.tar.gz",
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        is_archive=True,
    ),
    "cifar-100-python-target": DataFile(
        f"{_TORONTO}cifar-100-python.tar.gz",
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        is_archive=True,
    ),
    "train-labels-idx1-ubyte.gz": DataFile(f"{_GOOGLE}train-labels-idx1-ubyte.gz", None, _FASHION),
    "train-images-idx3-ubyte.gz": DataFile(f"{_GOOGLE}train-images-idx3-ubyte.gz", None, _FASHION),
    "t10k-labels-idx1-ubyte.gz": DataFile(f"{_GOOGLE}t10k-labels-idx1-ubyte.gz", None, _FASHION),
    "t10k-images-idx3-ubyte.gz": DataFile(f"{_GOOGLE}t10k-images-idx3-ubyte.gz", None, _FASHION),
    "imdb.npz": DataFile(
        f"{_GOOGLE}imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
    ),
    "imdb_word_index.json": DataFile(
        f"{_GOOGLE}imdb_word_index.json", "bfafd718b763782e994055a2d397834f"
    ),
    "mnist.npz": DataFile(
        f"{_GOOGLE}mnist.npz", "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
    ),
    "reuters.npz": DataFile(
        f"{_GOOGLE}reuters.npz", "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
    ),
    "reuters_word_index.json": DataFile(
        f"{_GOOGLE}reuters_word_index.json", "4d44cc38712099c9e383dc6e5f11a921"
    ),
}


def fetch(name: str, path: str | None = None) -> Path:
    """Return the path of a file of a data set, or the folder of an archive's content.

    Args:
        name: the file, a key of `FILES`.
        path: its name in the cache; the same by default.

    Raises:
        OSError: it is not in the cache and cannot be downloaded.
        ValueError: what was downloaded has another hash.

    >>> len(FILES["imdb_word_index.json"].file_hash)
    32
    """
    file = FILES[name]
    cached_name = path or name
    try:
        return Path(
            get_file(
                cached_name, file.url, file_hash=file.file_hash, cache_subdir=file.cache_subdir,
                extract=file.is_archive,
            )
        )  # fmt: skip
    except OSError as error:
        if error.errno is not None:  # the fault of the disk
            raise
        place, _ = cached_paths(cached_name, file.url, file.cache_subdir, file.is_archive)
        raise OSError(
            f"The file {cached_name} of keras.datasets is not in the cache, and {error} On a "
            f"machine without network, put a copy of {file.url} there as {place}."
        ) from error
