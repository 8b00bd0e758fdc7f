"""The safetensors format: a validated, memory-mapped reader and an atomic, streaming writer.

A file is an 8-byte little-endian header length, a JSON header that gives every tensor a dtype, a
shape and a byte range, and then the bytes. All of the header is checked before a tensor is read.

The `safetensors` library is the oracle of the tests and not used here, for what it cannot do:

- Views: it copies each tensor (reading 512 MB took 1024 MB of memory, here none before use), says
  no offsets, and so cannot give pages back to the system.
- Files inside a file: it opens whole files by name, and ours lie in the archive of a model.
- Streaming: its writer takes pointers to all tensors at once (writing eight tensors of 64 MB that
  are converted when asked for took 512 MB, here 64 MB).
- float8: its reader for numpy fails on it.
- Errors that say which tensor is damaged and how.
"""

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keraslite.saving.atomic import replacing

MAX_HEADER_BYTES = 100_000_000  # the limit of the format's reference reader
_MAX_RANK = 64  # numpy's own limit
_MAX_TENSOR_BYTES = 2**63 - 1

# The allow-list: what is not named here is neither read nor written.
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {dtype.name: code for code, dtype in _DTYPES.items()}


class Entry(NamedTuple):
    """The place of one tensor; `start` counts from the beginning of the file.

    `strides` is in bytes, for a tensor that another format keeps in another order.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    nbytes: int
    strides: tuple[int, ...] | None = None


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one file as arrays over a private, copy-on-write memory map.

    Arrays may be written to: the change stays in this process and never reaches the file. They
    stay valid after this object is gone.
    """

    def __init__(
        self, path: Path, memory: mmap.mmap, entries: dict[str, Entry], metadata: dict[str, str]
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._memory = memory
        self._entries = entries

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, start, nbytes, strides = self._entry(name)
        count = nbytes // dtype.itemsize
        if count == 0:
            return np.empty(shape, dtype)
        array = np.frombuffer(self._memory, dtype, count, start)
        # Files of old writers start their data at odd offsets; frameworks want aligned memory.
        array = array if array.flags.aligned else array.copy()
        if strides is not None:
            return np.lib.stride_tricks.as_strided(array, shape, strides)
        return array.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"<SafetensorsFile {str(self.path)!r}: {len(self)} tensors>"

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it; an unknown name is a KeyError."""
        return self._entry(name).shape

    def dtype(self, name: str) -> str:
        """Return the dtype of a tensor, such as "bfloat16"; an unknown name is a KeyError."""
        return self._entry(name).dtype.name

    def release(self, name: str) -> None:
        """Give the memory of a tensor back to the system, once its values were copied.

        The next access reads the file again, so changes made to the array are lost. A system
        without `madvise` keeps the pages.
        """
        entry = self._entry(name)
        # Pages shared with a neighbour stay, since the neighbour may have been written to.
        begin = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (entry.start + entry.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > begin and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise KeyError(f"{self.path} holds no tensor {name!r}") from None


def open_safetensors(
    path: str | os.PathLike, offset: int = 0, size: int | None = None
) -> SafetensorsFile:
    """Open a safetensors file after checking its header against its size.

    Args:
        path: the file.
        offset: where it begins, in a file that holds other things too.
        size: how many bytes it has there; all that follow by default.

    Returns:
        A mapping from names to numpy arrays; nothing is read before an array is looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged or no safetensors file; says where and how.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_safetensors(f"{folder}/a.safetensors", {"x": np.arange(3, dtype="int32")})
        ...     open_safetensors(f"{folder}/a.safetensors")["x"].tolist()
        [0, 1, 2]
    """
    path = Path(path)
    with open(path, "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        size = whole - offset if size is None else size
        file.seek(offset)
        length = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise _bad(path, f"truncated, its {size} bytes do not even hold the header's length")
        if length > MAX_HEADER_BYTES:
            raise _bad(path, f"its header would be {length} bytes, more than {MAX_HEADER_BYTES}")
        if 8 + length > size:
            raise _bad(path, f"truncated, the header needs {8 + length} bytes of {size}")
        entries, metadata = _parse(path, file.read(length), size)
        if offset:
            entries = {k: e._replace(start=e.start + offset) for k, e in entries.items()}
        memory = mmap.mmap(file.fileno(), whole, access=mmap.ACCESS_COPY)
    return SafetensorsFile(path, memory, entries, metadata)


def save_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to a safetensors file, all or nothing.

    The tensors are converted and written one at a time, and the file takes its name only when it
    is complete: after any failure a file that was there before is still there, unchanged. `path`
    may be the file that the tensors are mapped from.

    Args:
        path: the file to write.
        tensors: names and arrays (numpy, or anything `numpy.asarray` takes).
        metadata: strings to keep in the header; `transformers` asks for `{"format": "pt"}`.

    Raises:
        ValueError: a name, a dtype or the metadata does not fit the format.
        OSError: the file could not be written, for instance on a full disk.
    """
    parts = serialized(tensors, metadata)
    with replacing(path) as file:
        file.writelines(parts)


def serialized(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes | memoryview]:
    """Return the bytes of a safetensors file in pieces, after all names and dtypes were checked.

    Args:
        tensors: names and arrays.
        metadata: strings to keep in the header.
    """
    specs = {name: _spec(name, tensors[name]) for name in tensors}
    # Wide types first: then every tensor starts at a multiple of its item size.
    order = sorted(specs, key=lambda name: (-specs[name][0].itemsize, name))
    header = _header(order, specs, dict(metadata or {}))
    return chain([header], (_bytes(name, tensors[name], *specs[name]) for name in order))


# -- reading ------------------------------------------------------------------------------------


def _bad(path: Path, problem: str, name: str | None = None) -> ValueError:
    tensor = "" if name is None else f"tensor {name!r}: "
    return ValueError(
        f"{path} is no valid safetensors file: {tensor}{problem}. Download or save it again."
    )


def _parse(path: Path, header: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    if not header.startswith(b"{"):
        raise _bad(path, "its header does not start with '{'")
    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not UTF-8 JSON ({error})") from error
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, f"__metadata__ must map strings to strings, got {metadata!r:.80}")
    start = 8 + len(header)
    entries = {name: _parse_entry(path, name, item, start) for name, item in table.items()}
    _check_cover(path, entries, start, size)
    return entries, metadata


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"duplicate key {name!r}")
        table[name] = value
    return table


def _parse_entry(path: Path, name: str, item: Any, data_start: int) -> Entry:
    if not isinstance(item, dict) or not {"dtype", "shape", "data_offsets"} <= item.keys():
        raise _bad(path, f"needs dtype, shape and data_offsets, got {item!r:.80}", name)
    code, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise _bad(path, f"dtype {code!r:.40} is none of {', '.join(_DTYPES)}", name)
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        raise _bad(path, f"shape {shape!r:.80} is no list of up to {_MAX_RANK} sizes", name)
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"data_offsets {offsets!r:.80} are no [begin, end]", name)
    dtype, (begin, end) = _DTYPES[code], offsets
    # Without the zeros, so that a huge empty shape cannot hide: numpy refuses it as well.
    if math.prod(n for n in shape if n) * dtype.itemsize > _MAX_TENSOR_BYTES:
        raise _bad(path, f"the size of shape {shape} overflows", name)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != end - begin:
        raise _bad(path, f"shape {shape} of {code} needs {nbytes} bytes, has {end - begin}", name)
    return Entry(dtype, tuple(shape), data_start + begin, nbytes)


def _are_sizes(value: Any) -> bool:
    # bool is an int to isinstance; the bound keeps the products of _parse_entry small.
    return isinstance(value, list) and all(
        type(n) is int and 0 <= n <= _MAX_TENSOR_BYTES for n in value
    )


def _check_cover(path: Path, entries: dict[str, Entry], start: int, size: int) -> None:
    position = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].nbytes)):
        if entry.start != position:
            what = "overlaps the tensor before it" if entry.start < position else "leaves a hole"
            raise _bad(
                path, f"{what}: begins at {entry.start - start}, not {position - start}", name
            )
        position += entry.nbytes
        if position > size:
            raise _bad(path, f"truncated, it ends at byte {position} of {size}", name)
    if position != size:
        raise _bad(path, f"{size - position} trailing bytes belong to no tensor")


# -- writing ------------------------------------------------------------------------------------


def _spec(name: str, value: Any) -> tuple[np.dtype, tuple[int, ...]]:
    if not isinstance(name, str) or name == "__metadata__":
        raise ValueError(f"a tensor cannot be named {name!r}: give a string, not '__metadata__'")
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        value = np.asarray(value)
    dtype = np.dtype(value.dtype)
    if dtype.name not in _CODES:
        raise ValueError(f"tensor {name!r} is {dtype.name}, safetensors takes {', '.join(_CODES)}")
    return _DTYPES[_CODES[dtype.name]], tuple(int(n) for n in value.shape)


def _header(order: list[str], specs: dict, metadata: dict[str, str]) -> bytes:
    if not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise ValueError(f"metadata must map strings to strings, got {metadata!r:.80}")
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    begin = 0
    for name in order:
        dtype, shape = specs[name]
        end = begin + math.prod(shape) * dtype.itemsize
        code = _CODES[dtype.name]
        table[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"the header is {len(text)} bytes, the format allows {MAX_HEADER_BYTES}")
    return len(text).to_bytes(8, "little") + text


def _bytes(name: str, value: Any, dtype: np.dtype, shape: tuple[int, ...]) -> memoryview:
    array = np.asarray(value)
    if array.shape != shape or array.dtype.name != dtype.name:
        raise ValueError(
            f"tensor {name!r} changed while it was saved: it was {dtype.name}{shape}, "
            f"is {array.dtype.name}{array.shape}"
        )
    # `dtype` is little-endian, as the format is. Bytes, since memoryview knows no bfloat16.
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
