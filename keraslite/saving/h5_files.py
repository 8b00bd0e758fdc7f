"""Read weights that Keras saved as HDF5: arrays of numbers in groups, and nothing else of HDF5.

An HDF5 file can point to other files, describe arrays that it does not hold, and name code to be
loaded; all of that is refused before a number is read (CVE-2026-1669, CVE-2026-0897). The h5py
library is needed for it, and is imported when the first file is opened.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

INSTALL = "pip install 'keraslite-hub[h5]'"
_NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)]
)
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_EXPANSION = 100  # limit of the bytes of an array over those stored
_DEPTH = 16
_OBJECTS = 200_000


class _RefusedError(ValueError):
    """The fault of a file that can be read."""


class H5Tensors(Mapping[str, np.ndarray]):
    """The arrays of some HDF5 files by their paths, each read when it is asked for.

    Parts of a path are without the underscores that some versions of Keras put before them. To be
    closed, as a context manager or by `close`.

    Args:
        paths: the files.
        exact: whether paths are kept as they are, with the colons of Keras 2 (`kernel:0`).
        file: (name, open file, size) of one more file, such as a member of an archive.

    Raises:
        ImportError: h5py is not installed.
        ValueError: a file is damaged, or holds what Keras does not write; says what.

    Example:
        >>> with H5Tensors([Path("model.weights.h5")]) as tensors:  # doctest: +SKIP
        ...     tensors["layers/dense/vars/0"].shape
        (12, 12)
    """

    def __init__(
        self,
        paths: Iterable[Path],
        exact: bool = False,
        file: tuple[str, Any, int] | None = None,
    ):
        self._h5py = import_h5py()
        self._exact = exact
        self._files: list[Any] = []
        self._tensors: dict[str, tuple[Path, Any, str]] = {}
        self.held: dict[str, set[str]] = {}
        try:
            for path in paths:
                with _explained(path):
                    self._open(path, path, path.stat().st_size)
            if file is not None:
                with _explained(Path(file[0])):
                    self._open(Path(file[0]), file[1], file[2])
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, source: Any, size: int) -> None:
        file = self._h5py.File(source, "r", locking="best-effort" if source is path else None)
        self._files.append(file)
        left, seen = size, {_address(self._h5py, file)}
        held = self.held[path.name] = set()
        for where, dataset in self._walk(file, (), seen):
            name = "/".join(part if self._exact else part.lstrip("_") for part in where)
            if name in self._tensors:
                raise _RefusedError(f"it holds {name} twice")
            dtype = _check(dataset, name)
            left -= dataset.id.get_storage_size()
            if left < 0:
                raise _RefusedError(f"its arrays would take more than its {size:,} bytes")
            self._tensors[name] = path, dataset, dtype
            held.add("/" + "/".join(where[:-1]))

    def _walk(self, group: Any, where: tuple, seen: set) -> Iterator[tuple[tuple, Any]]:
        """(path, dataset) of every dataset below a group."""
        names = r"[\w.:-]{1,200}" if self._exact else r"[\w.-]{1,200}"
        for name in group:
            at, spelled = (*where, name), "/".join(map(str, (*where, name)))
            if not re.fullmatch(names, name, re.ASCII):
                raise _RefusedError(f"the name {spelled!r:.100} is none that Keras gives")
            link = group.get(name, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                raise _RefusedError(f"{spelled} is {_words(link)}, which is refused")
            item = group[name]
            address = _address(self._h5py, item)
            if address in seen or len(seen) > _OBJECTS or len(at) > _DEPTH:
                raise _RefusedError(f"{spelled} is there twice, or its groups are too deep")
            seen.add(address)
            if isinstance(item, self._h5py.Dataset):
                yield at, item
            elif isinstance(item, self._h5py.Group):
                yield from self._walk(item, at, seen)
            else:
                raise _RefusedError(f"{spelled} is {_words(item)}, neither a group nor an array")

    def __getitem__(self, name: str) -> np.ndarray:
        path, dataset, dtype = self._tensors[name]
        with _explained(path):
            array = dataset[()]
        if dtype == "bfloat16" and array.dtype.kind == "V":
            return array.view(ml_dtypes.bfloat16)
        return array.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without reading it.

        Args:
            name: of the array.
        """
        return self._tensors[name][1].shape

    def dtype(self, name: str) -> str:
        """Return the dtype of an array, such as "bfloat16".

        Args:
            name: of the array.
        """
        return self._tensors[name][2]

    def strings(self, group: str, attribute: str) -> list[str] | None:
        """Return the list of strings in an attribute of a group, None if there is none.

        Keras splits long lists: into `layer_names0`, `layer_names1` ...

        Args:
            group: the path of the group, in the file as it is written; "" for the file.
            attribute: its name.

        Raises:
            ValueError: the attribute holds something else.
        """
        (path,) = self.held
        with _explained(Path(path)):
            item = self._files[0].get(group or "/")
            if not isinstance(item, self._h5py.Group):
                return None
            if attribute in item.attrs:
                return self._strings(item.attrs, attribute)
            parts: list[list[str]] = []
            while (name := f"{attribute}{len(parts)}") in item.attrs:
                parts.append(self._strings(item.attrs, name))
            return [name for part in parts for name in part] if parts else None

    def text(self, group: str, attribute: str) -> str | None:
        """Return the string in an attribute of a group, None if there is none.

        Args:
            group: the path of the group, in the file as it is written; "/" for the file.
            attribute: its name.

        Raises:
            ValueError: the file is damaged there.
        """
        (path,) = self.held
        with _explained(Path(path)):
            item = self._files[0].get(group)
            if not isinstance(item, self._h5py.Group) or attribute not in item.attrs:
                return None
            stored = item.attrs.get_id(attribute)
            if self._h5py.check_string_dtype(stored.dtype) is None or stored.shape != ():
                return None
            text = item.attrs[attribute]
            return str(text, "utf-8") if isinstance(text, bytes) else str(text)

    def _strings(self, attributes: Any, name: str) -> list[str]:
        stored = attributes.get_id(name)
        if stored.shape == (0,):
            return []
        is_text = self._h5py.check_string_dtype(stored.dtype) is not None
        if not is_text or len(stored.shape) != 1 or stored.shape[0] > _OBJECTS:
            raise _RefusedError(f"its attribute {name} must be a list of names")
        return [str(s, "utf-8") if isinstance(s, bytes) else str(s) for s in attributes[name]]

    def close(self) -> None:
        """Close the files; arrays that were read stay valid."""
        for file in self._files:
            file.close()

    def __enter__(self) -> "H5Tensors":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def import_h5py() -> Any:
    """Return the module h5py.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"weights in Keras's files are HDF5, which h5py reads and writes: {INSTALL}"
        ) from error
    return h5py


class _explained:  # noqa: N801  # a context manager reads as a word
    """Whatever goes wrong while a file is read is one ValueError that names the file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, cls: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _RefusedError):
            raise ValueError(f"{self.path.name} is refused: {error}") from None
        if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
            said = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.path.name} cannot be read: it is damaged, or no HDF5 file ({said}). "
                "Download it again."
            ) from error


def _address(h5py: Any, item: Any) -> int:
    return h5py.h5o.get_info(item.id).addr


def _words(item: Any) -> str:
    """Return the class of a link or an object in words, such as "a soft link"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(item).__name__).lower()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _check(dataset: Any, name: str) -> str:
    """Return the dtype of a dataset that holds its own numbers; refuse others."""
    if dataset.is_virtual or dataset.external:
        array = "a virtual array" if dataset.is_virtual else "an array with external storage"
        raise _RefusedError(f"{name} is {array}, whose numbers lie in other files")
    plan = dataset.id.get_create_plist()
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    odd = [code for code in filters if code not in _FILTERS]
    if odd:
        raise _RefusedError(f"{name} is packed by the filters {odd}; supported are {_FILTERS}")
    dtype = _dtype(dataset)
    if dtype is None or dataset.shape is None:
        raise _RefusedError(f"{name} holds {dataset.dtype}, expected floating numbers or integers")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if declared > _EXPANSION * stored:
        raise _RefusedError(
            f"{name} {dataset.shape} is said to take {declared:,} bytes, but {stored:,} are stored"
        )
    return dtype


def _dtype(dataset: Any) -> str | None:
    """Return the dtype of a dataset, None unless numbers; Keras marks bfloat16 by an attribute."""
    marked = "dtype" in dataset.attrs and dataset.attrs.get_id("dtype").shape == ()
    said = dataset.attrs["dtype"] if marked else None
    if isinstance(said, str) and said == "bfloat16" and dataset.dtype in ("V2", "float32"):
        return "bfloat16"
    return dataset.dtype.name if dataset.dtype.name in _NUMBERS else None
