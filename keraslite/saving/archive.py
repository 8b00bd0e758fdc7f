"""The members of a saved model: in one file, a zip archive that compresses nothing, or in a folder.

`metadata.json`, `config.json`, `model.safetensors` and, of a model that was trained,
`optimizer.safetensors`. Both forms let the tensors be mapped without a copy, and both hold check
sums: the archive in its index, the folder in its metadata, which also say what belongs to it.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keraslite.saving.atomic import finish_replacing
from keraslite.saving.safetensors import SafetensorsFile, open_safetensors

FORMAT, VERSION = "keraslite model", 2  # version 1 had other paths of weights
METADATA, CONFIG = "metadata.json", "config.json"
WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
MEMBERS = {METADATA, CONFIG, WEIGHTS, OPTIMIZER}
_MAX_JSON = 256 * 2**20
_ALIGN = 64  # tensors begin at multiples of this, as frameworks like them
_PADDING_FIELD = 0xD935  # the extra field that archives use to align their members


def bad_model(path: Path, problem: str) -> ValueError:
    """Return the error for a file or folder that is no saved model.

    Args:
        path: the file or folder.
        problem: what is wrong with it.
    """
    return ValueError(f"{path} is no model file that can be read: {problem}. Save it again.")


def unknown_version(path: Path, version: Any) -> ValueError:
    """Return the error for a version of the format that is not read.

    Args:
        path: the file or folder.
        version: the version that it has.
    """
    return ValueError(
        f"{path} has version {version!r:.20} of the format, this keraslite reads 1 to {VERSION}: "
        "upgrade keraslite."
    )


class Members:
    """The members of a saved model; each is checked before it is used.

    Args:
        path: the file or folder.
        spans: of each member the file that it is in, where it starts there, and its length.
        sums: the check sum of each.
    """

    def __init__(
        self, path: Path, spans: dict[str, tuple[Path, int, int]], sums: dict[str, int]
    ) -> None:
        self.path, self.spans, self._sums = path, spans, sums
        unknown = sorted(set(spans) - MEMBERS)
        missing = sorted(MEMBERS - {OPTIMIZER} - set(spans))
        if unknown or missing:
            raise bad_model(path, f"members are missing {missing} or strange {unknown!r:.100}")

    def __contains__(self, name: str) -> bool:
        return name in self.spans

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON member.

        Args:
            name: of the member.
        """
        return read_json(self.path, name, self.spans[name], self._sums.get(name))

    def version(self) -> int:
        """Return the version of the format; raise a ValueError if it is none that can be read."""
        return _check_version(self.path, self.json(METADATA))

    def check_sums(self) -> None:
        """Read all once and compare check sums, which alone show a flipped bit in a weight."""
        for name, expected in self._sums.items():
            path, start, length = self.spans[name]
            with open(path, "rb") as file:
                file.seek(start)
                checksum = 0
                while length:
                    block = file.read(min(length, 2**20))
                    if not block:
                        break
                    checksum, length = zlib.crc32(block, checksum), length - len(block)
            if checksum != expected:
                raise bad_model(self.path, f"{name} is damaged: its check sum is wrong")

    def tensors(self, name: str) -> SafetensorsFile:
        """Return a safetensors member, mapped from its file.

        Args:
            name: of the member.
        """
        return open_safetensors(*self.spans[name])


def read_json(
    path: Path, name: str, span: tuple[Path, int, int], checksum: int | None = None
) -> dict[str, Any]:
    """Return a JSON member.

    Args:
        path: the file or folder, for errors.
        name: of the member.
        span: where it lies.
        checksum: its check sum, if it is to be looked at.

    Raises:
        ValueError: it is damaged, or no JSON object.
    """
    file, start, length = span
    if length > _MAX_JSON:
        raise bad_model(path, f"{name} has {length} bytes")
    with open(file, "rb") as opened:
        opened.seek(start)
        data = opened.read(length)
    try:
        if checksum is not None and zlib.crc32(data) != checksum:
            raise ValueError("its check sum is wrong")
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad_model(path, f"{name} is damaged ({error})") from error
    if not isinstance(value, dict):
        raise bad_model(path, f"{name} must be a JSON object, got {value!r:.40}")
    return value


def _check_version(path: Path, metadata: dict[str, Any]) -> int:
    if metadata.get("format") != FORMAT:
        raise bad_model(path, f"its metadata call it {metadata.get('format')!r:.40}")
    version = metadata.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise unknown_version(path, version)
    return version


def open_model(path: Path) -> Members:
    """Open a saved model.

    Args:
        path: a file, or the folder of a model that was saved with `zipped=False`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is cut off, damaged, or something else.
    """
    return _open_folder(path) if path.is_dir() else _open_archive(path)


def _open_folder(path: Path) -> Members:
    finish_replacing(path)
    sizes = {f.name: f.stat().st_size for f in path.iterdir() if f.name in MEMBERS and f.is_file()}
    spans = {name: (path / name, 0, size) for name, size in sizes.items()}
    if METADATA not in spans:
        raise bad_model(path, f"the folder has no {METADATA}")
    metadata = read_json(path, METADATA, spans[METADATA], None)
    _check_version(path, metadata)
    sums = metadata.get("sums")
    if not isinstance(sums, dict) or not all(type(v) is int for v in sums.values()):
        raise bad_model(path, f"{METADATA} has no check sums of the other files")
    absent = sorted(set(sums) - set(spans))
    if absent:
        raise bad_model(path, f"{METADATA} names what is missing or strange: {absent!r:.100}")
    return Members(path, {name: spans[name] for name in (METADATA, *sums)}, sums)


def _open_archive(path: Path) -> Members:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError,
                RecursionError) as error:  # fmt: skip
            raise bad_model(path, f"it is cut off or damaged ({error})") from error
        spans = {i.filename: (path, *stored_span(path, file, i, size)) for i in infos}
    if len(infos) != len(spans):
        raise bad_model(path, "it has two members of one name")
    members = Members(path, spans, {i.filename: i.CRC for i in infos})
    check_overlaps(path, spans.values())
    return members


def check_overlaps(path: Path, spans: Iterable[tuple[Path, int, int]]) -> None:
    """Raise a ValueError if two members share bytes.

    Args:
        path: the file.
        spans: (the file, where it starts there, its length) of each member.
    """
    ends = 0
    for _, start, length in sorted(spans):
        if start < ends:
            raise bad_model(path, "its members overlap")
        ends = start + length


def stored_span(path: Path, file: Any, info: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Return (start, length) of the bytes of a member that is not compressed.

    Args:
        path: the archive, for errors.
        file: the open archive.
        info: the member.
        size: the archive's size.

    Raises:
        ValueError: the member is compressed, or is not where the index says.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise bad_model(path, f"{info.filename!r:.60} is compressed")
    file.seek(max(info.header_offset, 0))
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise bad_model(path, f"{info.filename!r:.60} is not where the index says")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = info.header_offset + 30 + lengths
    if start + info.file_size > size:
        raise bad_model(path, f"{info.filename!r:.60} would reach beyond the file's end")
    return start, info.file_size


def aligned_member(name: str, position: int) -> zipfile.ZipInfo:
    """Return a member whose data will begin at a multiple of 64, after its local header.

    Args:
        name: of the member.
        position: where its local header will be.
    """
    info = zipfile.ZipInfo(name)  # of a fixed date: equal models give equal files
    info.external_attr = 0o644 << 16
    fixed = (
        30 + len(name.encode()) + 4 + 20
    )  # the header, its name, the padding's head, the long sizes
    padding = -(position + fixed) % _ALIGN
    info.extra = (
        _PADDING_FIELD.to_bytes(2, "little") + padding.to_bytes(2, "little") + (b"\0" * padding)
    )
    return info
