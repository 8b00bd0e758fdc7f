"""The members of Keras's version 3 files: a zip archive, or the same files in a folder.

`metadata.json`, `config.json`, the weights (`model.weights.h5`, `.npz`, or our `model.safetensors`)
and `assets/`. Every size, name and check sum is looked at before a member is used.
"""

import io
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from keraslite.saving.archive import (
    CONFIG,
    METADATA,
    aligned_member,
    bad_model,
    check_overlaps,
    read_json,
    stored_span,
)
from keraslite.saving.atomic import finish_replacing

H5_WEIGHTS, NPZ_WEIGHTS = "model.weights.h5", "model.weights.npz"
ASSETS = "assets"
OWN = "keraslite.safetensors"  # what Keras has no place for, and ignores
_PART = re.compile(r"[\w][\w .+@=,()-]{0,199}", re.ASCII)
_MOST_MEMBERS = 100_000
_EXPANSION = 100  # limit of the bytes of a packed member over those stored
_FREE = 2**20  # which small members may always take

Span = tuple[Path, int, int]  # of a member the file it is in, where it starts there, its length


class KerasMembers:
    """The members of a model that Keras or keraslite saved.

    Args:
        path: the archive or folder.
        spans: where each member lies.
    """

    def __init__(self, path: Path, spans: dict[str, Span]) -> None:
        self.path, self.spans = path, spans
        if CONFIG not in spans:
            raise bad_model(path, f"it has no {CONFIG}")

    def __contains__(self, name: str) -> bool:
        return name in self.spans

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON member.

        Args:
            name: of the member.
        """
        return read_json(self.path, name, self.spans[name])

    def open(self, name: str) -> "FileSlice":
        """Return a member as a file for reading, to be closed.

        Args:
            name: of the member.
        """
        file, start, length = self.spans[name]
        return FileSlice(open(file, "rb"), start, length)

    def size(self, name: str) -> int:
        """Return the number of bytes of a member.

        Args:
            name: of the member.
        """
        return self.spans[name][2]

    @contextmanager
    def assets(self) -> Iterator[Path]:
        """Give a folder in which the assets lie as files, for the time of a `with` statement."""
        with tempfile.TemporaryDirectory() as folder:
            for name in self.spans:
                if name.startswith(f"{ASSETS}/"):
                    target = Path(folder, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with self.open(name) as source, open(target, "xb") as file:
                        shutil.copyfileobj(source, file)
            yield Path(folder, ASSETS)


class FileSlice(io.RawIOBase):
    """A part of a file as a file: a member of an archive that is not compressed.

    Args:
        file: the open file, which is closed with this one.
        start: where the part begins.
        length: its length; None for a part at the end, which is written and may grow.
    """

    def __init__(self, file: Any, start: int, length: int | None = None) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def _size(self) -> int:
        if self._length is not None:
            return self._length
        self._file.seek(0, os.SEEK_END)
        return max(self._file.tell() - self._start, 0)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._length is None

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: None}[whence]
        self._position = max((self._size() if base is None else base) + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        left = max(self._size() - self._position, 0)
        view = view[: min(len(view), left)]
        self._file.seek(self._start + self._position)
        count = self._file.readinto(view)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        self._file.seek(self._start + self._position)
        count = self._file.write(data)
        self._position += count
        return count

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self._file.truncate(self._start + size)
        return size

    def flush(self) -> None:
        if not (self.closed or self._file.closed) and self._length is None:
            self._file.flush()

    def close(self) -> None:
        if not self.closed and self._length is not None:
            self._file.close()
        super().close()


# -- reading --------------------------------------------------------------------------------------


def is_keras_file(path: Path) -> bool:
    """Return whether a path is a model in Keras's version 3 format, or is to be taken for one.

    Args:
        path: a file, or a folder, whose metadata say if it is of our older format.
    """
    if not path.is_dir():
        return path.name.lower().endswith(".keras")
    metadata = path / METADATA
    try:
        span = (metadata, 0, metadata.stat().st_size)
        return "format" not in read_json(path, METADATA, span)
    except (FileNotFoundError, ValueError):
        return True


@contextmanager
def open_keras(path: Path) -> Iterator[KerasMembers]:
    """Open a model that Keras or keraslite saved, for the time of a `with` statement.

    Args:
        path: a file, or the folder of a model that was saved with `zipped=False`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is cut off, damaged, or something else.
    """
    if path.is_dir():
        finish_replacing(path)
        spans = dict(_files(path, path))
        _check_folder(path, spans)
        yield KerasMembers(path, spans)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield KerasMembers(path, _unpacked(path, Path(folder)))


def _files(path: Path, folder: Path) -> Iterator[tuple[str, Span]]:
    """Yield (name, span) of the files of a model that is a folder.

    Links are followed inside the folder, and to the blobs of a snapshot in the Hub's cache.
    """
    top = folder == path
    home = path.resolve()
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        inside = Path(entry.path)
        name = inside.relative_to(path).as_posix()
        if entry.is_dir(follow_symlinks=False):
            if not top or entry.name == ASSETS:
                yield from _files(path, inside)
            continue
        real = inside.resolve()
        if not real.is_relative_to(home) and real.parent != home.parents[1] / "blobs":
            raise bad_model(path, f"{name!r:.100} is a link to another folder")
        if real.is_file():
            yield name, (real, 0, real.stat().st_size)


def _check_folder(path: Path, spans: dict[str, Span]) -> None:
    """Compare the files of a folder with the check sums that keraslite wrote, if it did."""
    sums = read_json(path, METADATA, spans[METADATA]).get("sums") if METADATA in spans else None
    if sums is None:
        return
    if not isinstance(sums, dict):
        raise bad_model(path, f"{METADATA} has no check sums of the other files")
    for name, expected in sums.items():
        if name not in spans:
            raise bad_model(path, f"{METADATA} names what is missing: {name!r:.100}")
        if _sum_of(spans[name]) != expected:
            raise bad_model(path, f"{name} is damaged: its check sum is wrong")


def _unpacked(path: Path, folder: Path) -> dict[str, Span]:
    """Return where the members of an archive lie; those that are packed are put into a folder."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                spans, stored = {}, []
                infos = [i for i in archive.infolist() if not i.is_dir()]
                _check_infos(path, infos, size)
                for number, info in enumerate(infos):
                    if info.compress_type == zipfile.ZIP_STORED:
                        span = (path, *stored_span(path, file, info, size))
                        stored.append(span)
                        if _sum_of(span) != info.CRC:
                            raise bad_model(path, f"{info.filename!r:.100}: its check sum is wrong")
                    else:
                        span = _unpack(path, archive, info, folder / str(number))
                    spans[info.filename] = span
        except ValueError as error:
            raise error if str(path) in str(error) else bad_model(path, str(error)) from error
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError,
                RecursionError, zlib.error) as error:  # fmt: skip
            raise bad_model(path, f"it is cut off or damaged ({error})") from error
    check_overlaps(path, stored)
    return spans


def _check_infos(path: Path, infos: list[zipfile.ZipInfo], size: int) -> None:
    """Raise a ValueError if members have names or sizes that no model has."""
    if len({i.filename for i in infos}) != len(infos) or len(infos) > _MOST_MEMBERS:
        raise bad_model(path, "it has two members of one name, or too many")
    for info in infos:
        parts = info.filename.split("/")
        file_type = stat.S_IFMT(info.external_attr >> 16)
        if not all(_PART.fullmatch(part) for part in parts):
            raise bad_model(path, f"it has a member of the name {info.filename!r:.100}")
        if file_type not in (0, stat.S_IFREG):
            raise bad_model(path, f"{info.filename!r:.100} is no plain file, but a link or so")
        packed = info.compress_type != zipfile.ZIP_STORED
        limit = max(info.compress_size * _EXPANSION, _FREE) if packed else info.compress_size
        if info.file_size > limit or info.compress_size > size:
            raise bad_model(
                path, f"{info.filename!r:.100} is said to have {info.file_size:,} bytes"
            )


def _sum_of(span: Span) -> int:
    """Return the check sum of a member; -1 if it is cut off."""
    path, start, left = span
    checksum = 0
    with open(path, "rb") as file:
        file.seek(start)
        while left:
            block = file.read(min(left, 2**20))
            if not block:
                return -1
            checksum, left = zlib.crc32(block, checksum), left - len(block)
    return checksum


def _unpack(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> Span:
    length = 0
    with archive.open(info) as member, open(target, "xb") as file:  # reads compare check sums
        while block := member.read(2**20):
            length += len(block)
            if length > info.file_size:
                raise bad_model(path, f"{info.filename!r:.100} is longer than the index says")
            file.write(block)
    return target, 0, length


# -- writing --------------------------------------------------------------------------------------


class ArchiveWriter:
    """Writes the members of an archive one after the other; used in a `with` statement.

    Args:
        file: the file, open for writing and reading, and empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file, "w")
        self._file = file

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(self, cls: Any, *error: object) -> None:
        if cls is not None:
            self._archive.fp = None  # an index of what failed would be written else
        self._archive.close()

    def add(self, name: str, pieces: Iterable[Any]) -> None:
        """Write a member.

        Args:
            name: of the member.
            pieces: its bytes.
        """
        info = aligned_member(name, self._archive.start_dir)
        with self._archive.open(info, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)

    @contextmanager
    def open(self, name: str) -> Iterator[FileSlice]:
        """Give a member as a file that can be written and read anywhere, such as HDF5 needs.

        Args:
            name: of the member.
        """
        archive, file = self._archive, self._file
        info = aligned_member(name, archive.start_dir)
        info.header_offset, info.CRC = archive.start_dir, 0
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=True))
        start = file.tell()
        with FileSlice(file, start) as inside:
            yield inside
        file.flush()
        file.seek(0, os.SEEK_END)
        end = file.tell()
        info.file_size = info.compress_size = end - start
        file.seek(start)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            on_disk = pool.submit(os.fsync, file.fileno())  # while the sum is computed
            while block := file.read(2**20):
                info.CRC = zlib.crc32(block, info.CRC)
        on_disk.result()
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=True))
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        archive.start_dir = end
        file.seek(end)


class FolderWriter:
    """Writes members as the files of a folder, and their check sums into its metadata.

    Used in a `with` statement, as `ArchiveWriter` is.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._metadata = folder, b"{}"
        self._sums: dict[str, int] = {}

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(self, cls: Any, *error: object) -> None:
        if cls is None:
            metadata = json.loads(self._metadata) | {"sums": self._sums}
            (self._folder / METADATA).write_text(json.dumps(metadata))

    def add(self, name: str, pieces: Iterable[Any]) -> None:
        """Write a member; the arguments are `ArchiveWriter`'s."""
        if name == METADATA:
            self._metadata = b"".join(pieces)
            return
        with self.open(name) as file:
            file.writelines(pieces)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Give a member as a file."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x+b") as file:
            yield file
        self._sums[name] = _sum_of((path, 0, path.stat().st_size))
