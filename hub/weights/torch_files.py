"""`.bin` and `.pt` checkpoints of PyTorch, read without PyTorch and without running anything.

The format is a zip file: `data.pkl` describes the tensors as a pickle, `data/<key>` holds the
bytes. The pickle is taken apart by a machine that knows few opcodes and a handful of names to call,
all of them functions of ours: nothing is imported, and no code of the file or for its classes runs.
Of a pickled module the tensors are collected as its state dict would be. Offsets and sizes are held
against the file before an array is made, and arrays are views of the mapped file.
"""

import io
import json
import math
import mmap
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.saving.pickled_arrays import TORCH_CALLS, Storage, TorchTensor, torch_storage
from keraslite.saving.pickles import BadFileError, Global, PickleMachine, Record
from keraslite.saving.safetensors import Entry, SafetensorsFile

_MOST_PICKLE = 64 * 2**20  # bytes; the one of a model with 100,000 tensors has 20 MB
# Of a pickled module, which may hold the same one many times: all names, and what one name has.
_MOST_NAMES, _MOST_LETTERS = 100_000, 500
_LEGACY = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"\x80\x02", b"\x80\x04")


def open_torch(path: str | os.PathLike) -> SafetensorsFile:
    """Open a checkpoint that `torch.save` wrote; each array is read when it is used.

    Args:
        path: the file in the zip format (PyTorch 1.6 and later): a state dict or a module, alone
            or below one of the usual keys of a checkpoint; averaged weights ("ema") come first.

    Returns:
        A mapping from names to numpy arrays, as `open_safetensors` gives it. Its metadata are, as
        JSON, the dicts of integers beside a state dict, such as the sizes of a network, and of a
        module its `names`, strings by number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, of the older format, or holds neither tensors by
            name nor a module; says what.
    """
    path = Path(path)
    with open(path, "rb") as file:
        try:
            parts, pickled = _parts(file)
            tensors, beside = _state_dict(_unpickled(parts, pickled))
            entries = _entries(tensors)
        except BadFileError as error:
            raise ValueError(
                f"{path} cannot be read: {error}. Download it again, or save it as safetensors."
            ) from error.__cause__
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return SafetensorsFile(path, memory, entries, beside)


# -- the zip file -------------------------------------------------------------------------------


def _parts(file: Any) -> tuple[dict[str, tuple[int, int]], bytes]:
    """(key -> (start, bytes) of every storage, the pickle)."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(16)
    if not start.startswith(b"PK\x03\x04"):
        legacy = any(start.startswith(magic) for magic in _LEGACY)
        raise BadFileError(
            "it is in the format of PyTorch before 1.6, a plain pickle, which is not read"
            if legacy else "it is no zip file, so no checkpoint that torch.save wrote"
        )  # fmt: skip
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            spans = {info.filename: _span(file, info, size) for info in infos}
            if len(spans) != len(infos):
                raise BadFileError("a name stands twice in it")
            _check_apart(spans)
            names = [name for name in spans if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(names) != 1:
                raise BadFileError("it has no data.pkl, or several")
            root = names[0].removesuffix("data.pkl")
            if spans[names[0]][1] > _MOST_PICKLE:
                raise BadFileError(f"its data.pkl has more than {_MOST_PICKLE} bytes")
            order = root + "byteorder"
            if order in spans and archive.read(order) != b"little":
                raise BadFileError("its numbers are not in little-endian order")
            pickled = archive.read(names[0])
    except BadFileError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged files
        raise BadFileError(f"its zip directory is damaged ({error})") from error
    prefix = root + "data/"
    return {n.removeprefix(prefix): s for n, s in spans.items() if n.startswith(prefix)}, pickled


def _span(file: Any, info: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Where the bytes of a member lie, after its own header."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise BadFileError(f"{info.filename!r:.80} in it is compressed or encrypted")
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise BadFileError(f"{info.filename!r:.80} is not where its directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    start = info.header_offset + 30 + name + extra
    if info.file_size != info.compress_size or start + info.file_size > size:
        raise BadFileError(f"{info.filename!r:.80} reaches over the end: truncated")
    return start, info.file_size


def _check_apart(spans: dict[str, tuple[int, int]]) -> None:
    end = 0
    for start, nbytes in sorted(spans.values()):
        if start < end:
            raise BadFileError("two of its parts overlap")
        end = start + nbytes


# -- the pickle ---------------------------------------------------------------------------------


def _unpickled(parts: dict[str, tuple[int, int]], pickled: bytes) -> Any:
    """Return what a pickle describes, its storages at the places where they lie."""

    def find(key: str, dtype: np.dtype, count: int) -> Storage:
        if key not in parts:
            raise BadFileError(f"it lacks the bytes of storage {key!r:.40}")
        start, nbytes = parts[key]
        if count * dtype.itemsize > nbytes:
            raise BadFileError(f"storage {key!r:.40} has {nbytes} bytes for {count} of {dtype}")
        return Storage(dtype, start, count)

    machine = PickleMachine(TORCH_CALLS, Record, lambda identity: torch_storage(identity, find))
    return machine.run(io.BytesIO(pickled))


# -- the tensors --------------------------------------------------------------------------------


def _state_dict(content: Any) -> tuple[Any, dict[str, str]]:
    """Return the tensors by name, which may stand below another name, and what is beside them."""
    keys = ("ema", "model", "state_dict", "model_state_dict")
    modules = [content] if type(content) is not dict else [content.get(key) for key in keys]
    module = next((x for x in modules if _is_module(x)), None)
    if module is not None:
        names = module.state.get("names")
        return _tensors_of(module), {"names": json.dumps(names)} if _is_named(names) else {}
    beside: dict[str, str] = {}
    for key in ("state_dict", "model", "model_state_dict"):
        if type(content) is dict and type(content.get(key)) is dict:
            beside |= {k: json.dumps(v) for k, v in content.items() if _is_sizes(v)}
            content = content[key]
    return content, beside


def _is_module(value: Any) -> bool:
    """Return whether a value is the record of a module of PyTorch."""
    state = value.state if type(value) is Record else None
    parts = ("_modules", "_parameters", "_buffers")
    return type(state) is dict and all(type(state.get(part)) is dict for part in parts)


def _tensors_of(root: Record) -> dict[str, Any]:
    """Return the tensors of a module and of those inside, under the names of its state dict."""
    tensors: dict[str, Any] = {}
    waiting, count = [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        if not _is_module(module) or len(prefix) > _MOST_LETTERS:
            raise BadFileError(f"its module {prefix!r:.60} is none, or too deep inside")
        parameters, buffers, inner = (
            module.state[part] for part in ("_parameters", "_buffers", "_modules")
        )
        count += len(parameters) + len(buffers) + len(inner)
        if count > _MOST_NAMES:
            raise BadFileError(f"its module has more than {_MOST_NAMES} parts")
        unsaved = module.state.get("_non_persistent_buffers_set")
        for name, value in (*parameters.items(), *buffers.items()):
            if value is not None and not (type(unsaved) is set and name in unsaved):
                tensors[f"{prefix}{name}"[:_MOST_LETTERS]] = value
        waiting += [
            (f"{prefix}{name}."[: _MOST_LETTERS + 1], value)
            for name, value in reversed(inner.items())
            if value is not None
        ]
    return tensors


def _is_named(value: Any) -> bool:
    """Return whether a value is a dict of strings by number, of a size that can be copied."""
    if type(value) is not dict or not 0 < len(value) <= _MOST_NAMES:
        return False
    return all(
        type(k) is int and type(v) is str and len(v) <= _MOST_LETTERS for k, v in value.items()
    )


def _is_sizes(value: Any) -> bool:
    """Return whether a value is a dict of integers by name."""
    if type(value) is not dict or not value:
        return False
    return all(type(k) is str and type(v) is int for k, v in value.items())


def _entries(content: Any) -> dict[str, Entry]:
    """Return the entries of a state dict."""
    if type(content) is not dict or not content:
        raise BadFileError(f"it holds {_words(content)}, not tensors by name")
    entries = {}
    for name, tensor in content.items():
        if type(name) is not str or type(tensor) is not TorchTensor:
            raise BadFileError(f"its item {name!r:.60} is {_words(tensor)}, not a tensor")
        entries[name] = _entry(tensor)
    return entries


def _words(value: Any) -> str:
    """Return what a value is, for an error."""
    if isinstance(value, Global | Record):
        return f"what the file names {value.name!r:.60}"
    return f"a value of type {type(value).__name__}"


def _entry(tensor: TorchTensor) -> Entry:
    storage, offset, shape, strides = tensor
    size = storage.dtype.itemsize
    start = storage.start + offset * size
    dense, count = [], 1
    for n in reversed(shape):
        dense.append(count)
        count *= n
    usual = all(n < 2 or a == b for n, a, b in zip(shape, strides, dense[::-1], strict=True))
    if usual or count == 0:
        return Entry(storage.dtype, shape, start, math.prod(shape) * size)
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return Entry(storage.dtype, shape, start, (last + 1) * size, tuple(s * size for s in strides))
