"""`.bin` and `.pt` checkpoints of PyTorch, read without PyTorch and without running anything.

The format is a zip file: `data.pkl` describes the tensors as a pickle, `data/<key>` holds the
bytes. The pickle is taken apart by a machine that knows the few opcodes state dicts and modules are
written with, and a handful of names to call, all of them functions of this file. An instance of any
other class becomes a record of the class's name, its arguments and its state: nothing is imported,
and no code of the file or for its classes runs. Of a pickled module the tensors are collected as
its state dict would be. Offsets and sizes are held against the file before an array is made, and
arrays are views of the mapped file.
"""

import io
import json
import math
import mmap
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keraslite.saving.safetensors import Entry, SafetensorsFile

_MOST_PICKLE = 64 * 2**20  # bytes; the one of a model with 100,000 tensors has 20 MB
_MOST_RANK = 64
# Of a pickled module, which may hold the same one many times: all names, and what one name has.
_MOST_NAMES, _MOST_LETTERS = 100_000, 500
_LEGACY = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"\x80\x02", b"\x80\x04")

# The storage classes by name, and what their elements are.
_STORAGES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Float": "<f4", "Half": "<f2", "Double": "<f8", "Long": "<i8", "Int": "<i4",
        "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?", "BFloat16": ml_dtypes.bfloat16,
        "ComplexFloat": "<c8", "ComplexDouble": "<c16",
        "Float8_e4m3fn": ml_dtypes.float8_e4m3fn, "Float8_e5m2": ml_dtypes.float8_e5m2,
    }.items()
}  # fmt: skip


class _Storage(NamedTuple):
    dtype: np.dtype
    start: int
    count: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    name: str


class _Record:
    """An instance of a class that is not known here.

    Args:
        name: of the class.
        arguments: that it was made with.
    """

    def __init__(self, name: str, arguments: tuple):
        self.name, self.arguments = name, arguments
        self.state: Any = None


_KEYS = (str, int)  # of dicts; others, whose hash may take for ever, are left out


class _Mark:
    """Where a list of arguments begins on the stack."""


class _BadFileError(ValueError):
    """The fault of a file, without its name."""


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
            tensors, beside = _state_dict(_Machine(parts).run(pickled))
            entries = _entries(tensors)
        except _BadFileError as error:
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
        raise _BadFileError(
            "it is in the format of PyTorch before 1.6, a plain pickle, which is not read"
            if legacy else "it is no zip file, so no checkpoint that torch.save wrote"
        )  # fmt: skip
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            spans = {info.filename: _span(file, info, size) for info in infos}
            if len(spans) != len(infos):
                raise _BadFileError("a name stands twice in it")
            _check_apart(spans)
            names = [name for name in spans if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(names) != 1:
                raise _BadFileError("it has no data.pkl, or several")
            root = names[0].removesuffix("data.pkl")
            if spans[names[0]][1] > _MOST_PICKLE:
                raise _BadFileError(f"its data.pkl has more than {_MOST_PICKLE} bytes")
            order = root + "byteorder"
            if order in spans and archive.read(order) != b"little":
                raise _BadFileError("its numbers are not in little-endian order")
            pickled = archive.read(names[0])
    except _BadFileError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged files
        raise _BadFileError(f"its zip directory is damaged ({error})") from error
    prefix = root + "data/"
    return {n.removeprefix(prefix): s for n, s in spans.items() if n.startswith(prefix)}, pickled


def _span(file: Any, info: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Where the bytes of a member lie, after its own header."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise _BadFileError(f"{info.filename!r:.80} in it is compressed or encrypted")
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _BadFileError(f"{info.filename!r:.80} is not where its directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    start = info.header_offset + 30 + name + extra
    if info.file_size != info.compress_size or start + info.file_size > size:
        raise _BadFileError(f"{info.filename!r:.80} reaches over the end: truncated")
    return start, info.file_size


def _check_apart(spans: dict[str, tuple[int, int]]) -> None:
    end = 0
    for start, nbytes in sorted(spans.values()):
        if start < end:
            raise _BadFileError("two of its parts overlap")
        end = start + nbytes


# -- the pickle ---------------------------------------------------------------------------------


class _Machine:
    """Runs the opcodes of a state dict or a module over a stack of plain values and records.

    Args:
        parts: where each storage lies.
    """

    def __init__(self, parts: dict[str, tuple[int, int]]):
        self.parts = parts
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        """Return the object that the pickle describes."""
        at = 0
        try:
            for opcode, argument, position in pickletools.genops(io.BytesIO(pickled)):
                at = position
                if opcode.name == "STOP":
                    return self.stack.pop()
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise _BadFileError(f"its pickle has the opcode {opcode.name}")
                step(self, argument)
        except _BadFileError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as e:
            raise _BadFileError(f"its pickle is damaged at byte {at} ({e!s:.80})") from e
        raise _BadFileError("its pickle does not end")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list:
        values = []
        while not isinstance(value := self.stack.pop(), _Mark):
            values.append(value)
        return values[::-1]

    def take(self, count: int) -> list:
        if len(self.stack) < count:
            raise ValueError("the stack is too short")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def set_items(self, flat: list) -> None:
        target = self.stack[-1]
        if type(target) is _Record:  # of a subclass of dict
            return
        if type(target) is not dict or len(flat) % 2:
            raise ValueError("items are set on what is no dict")
        items = zip(flat[::2], flat[1::2], strict=True)
        target.update((key, value) for key, value in items if type(key) in _KEYS)

    def extend(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is set:
            target.update(_set(values))
        elif type(target) is list:
            target.extend(values)
        elif type(target) is not _Record:
            raise ValueError("values are appended to what is no list")

    def reduce(self) -> None:
        """Call one of our functions, or make a record of what another name would be called with."""
        target, arguments = self.take(2)
        if type(target) is not _Global or type(arguments) is not tuple:
            raise _BadFileError("its pickle calls what is no class")
        call = _CALLS.get(target.name)
        self.push(call(*arguments) if call else _Record(target.name, arguments))

    def build(self) -> None:
        """Give a record its state; that of a dict, such as _metadata, is of no use here."""
        (state,) = self.take(1)
        if type(self.stack[-1]) is _Record:
            self.stack[-1].state = state

    def storage(self) -> None:
        tag, cls, key, _, count = self.stack.pop()
        dtype = _STORAGES.get(cls.name) if isinstance(cls, _Global) else None
        if tag != "storage" or dtype is None or type(key) is not str or type(count) is not int:
            raise _BadFileError("its pickle has a storage of an unknown type")
        if key not in self.parts:
            raise _BadFileError(f"it lacks the bytes of storage {key!r:.40}")
        start, nbytes = self.parts[key]
        if count < 0 or count * dtype.itemsize > nbytes:
            raise _BadFileError(f"storage {key!r:.40} has {nbytes} bytes for {count} of {dtype}")
        self.push(_Storage(dtype, start, count))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    """Return the tensor of torch._utils._rebuild_tensor_v2, checked against its storage."""
    whole = [
        type(x) is tuple and all(type(n) is int and n >= 0 for n in x) for x in (shape, strides)
    ]
    if type(storage) is not _Storage or type(offset) is not int or offset < 0 or not all(whole):
        raise _BadFileError("a tensor in it is not described by numbers")
    if len(shape) != len(strides) or len(shape) > _MOST_RANK:
        raise _BadFileError("a tensor in it has strides of another rank, or too many axes")
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and offset + last >= storage.count:
        raise _BadFileError("a tensor in it reaches over the end of its storage")
    return _Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _ordered(pairs: Any = ()) -> dict:
    return {key: value for key, value in pairs if type(key) in _KEYS}


def _set(values: Any = ()) -> set:
    return {value for value in values if type(value) in _KEYS}


_CALLS: dict[str, Callable] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "collections OrderedDict": _ordered,
    **dict.fromkeys(("__builtin__ set", "builtins set"), _set),
}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, x: None),
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1",
         "BINFLOAT", "BINBYTES", "SHORT_BINBYTES"), lambda m, x: m.push(x)),
    "NONE": lambda m, x: m.push(None),
    "NEWTRUE": lambda m, x: m.push(True),
    "NEWFALSE": lambda m, x: m.push(False),
    "EMPTY_DICT": lambda m, x: m.push({}),
    "EMPTY_LIST": lambda m, x: m.push([]),
    "EMPTY_TUPLE": lambda m, x: m.push(()),
    "EMPTY_SET": lambda m, x: m.push(set()),
    "FROZENSET": lambda m, x: m.push(_set(m.since_mark())),
    "MARK": lambda m, x: m.push(_Mark()),
    "TUPLE": lambda m, x: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, x: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m, x: m.push(tuple(m.take(2))),
    "TUPLE3": lambda m, x: m.push(tuple(m.take(3))),
    "BINPUT": lambda m, x: m.memoize(x),
    "LONG_BINPUT": lambda m, x: m.memoize(x),
    "MEMOIZE": lambda m, x: m.memoize(None),
    "BINGET": lambda m, x: m.push(m.memo[x]),
    "LONG_BINGET": lambda m, x: m.push(m.memo[x]),
    "SETITEM": lambda m, x: m.set_items(m.take(2)),
    "SETITEMS": lambda m, x: m.set_items(m.since_mark()),
    "APPEND": lambda m, x: m.extend(m.take(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, x: m.extend(m.since_mark())),
    "GLOBAL": lambda m, x: m.push(_Global(x)),
    "STACK_GLOBAL": lambda m, x: m.push(_Global(" ".join(m.take(2)))),
    "BINPERSID": lambda m, x: m.storage(),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, x: m.reduce()),
    "BUILD": lambda m, x: m.build(),
}  # fmt: skip


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
    state = value.state if type(value) is _Record else None
    parts = ("_modules", "_parameters", "_buffers")
    return type(state) is dict and all(type(state.get(part)) is dict for part in parts)


def _tensors_of(root: _Record) -> dict[str, Any]:
    """Return the tensors of a module and of those inside, under the names of its state dict."""
    tensors: dict[str, Any] = {}
    waiting, count = [("", root)], 0
    while waiting:
        prefix, module = waiting.pop()
        if not _is_module(module) or len(prefix) > _MOST_LETTERS:
            raise _BadFileError(f"its module {prefix!r:.60} is none, or too deep inside")
        parameters, buffers, inner = (
            module.state[part] for part in ("_parameters", "_buffers", "_modules")
        )
        count += len(parameters) + len(buffers) + len(inner)
        if count > _MOST_NAMES:
            raise _BadFileError(f"its module has more than {_MOST_NAMES} parts")
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
        raise _BadFileError(f"it holds {_words(content)}, not tensors by name")
    entries = {}
    for name, tensor in content.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            raise _BadFileError(f"its item {name!r:.60} is {_words(tensor)}, not a tensor")
        entries[name] = _entry(tensor)
    return entries


def _words(value: Any) -> str:
    """Return what a value is, for an error."""
    if isinstance(value, _Global | _Record):
        return f"what the file names {value.name!r:.60}"
    return f"a value of type {type(value).__name__}"


def _entry(tensor: _Tensor) -> Entry:
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
