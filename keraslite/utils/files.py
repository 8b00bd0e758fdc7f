"""Files from the network, kept in a cache: `get_file`.

Modules for the network, hashes and archives are imported when they are needed: they would take a
quarter of the time of `import keraslite`.
"""

import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from keraslite import config
from keraslite.saving.atomic import replacing
from keraslite.utils.progress import Progbar, message

_CHUNK = 2**18
_TIMEOUT = 60.0  # seconds without a byte


def get_file(
    fname: str | os.PathLike | None = None,
    origin: str | None = None,
    untar: bool = False,
    md5_hash: str | None = None,
    file_hash: str | None = None,
    cache_subdir: str | os.PathLike = "datasets",
    hash_algorithm: str = "auto",
    extract: bool = False,
    archive_format: str | Iterable[str] | None = "auto",
    cache_dir: str | os.PathLike | None = None,
    force_download: bool = False,
) -> str:
    """Download a file unless it is in the cache already; return its path.

    A file appears in the cache under its name once it is complete and its hash was checked.

    Args:
        fname: the name of the file in the cache; that at the end of `origin` by default.
        origin: the address: http, https, ftp or file.
        untar: the same as `extract` with `archive_format="tar"`.
        md5_hash: the same as `file_hash` with `hash_algorithm="md5"`.
        file_hash: the hash that the file must have, in hexadecimal digits.
        cache_subdir: the folder inside the cache, or any absolute path.
        hash_algorithm: "sha256", "md5", or "auto", which goes by the length of the hash.
        extract: whether the file is an archive to be extracted; the path is then that of the folder
            of its content. A folder that is there already is used unless the archive is new.
        archive_format: "tar" (compressed or not), "zip", a list of these, or "auto" for both.
        cache_dir: the cache; `KERAS_HOME` or `~/.keras` by default.
        force_download: whether a file in the cache is downloaded again.

    Raises:
        ValueError: an argument is not valid, the hash is another one, or the archive is damaged or
            has a file that would lie outside of its folder.
        OSError: the file cannot be downloaded or written. Nothing in the cache has changed then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = Path(folder, "page.txt")
    ...     _ = page.write_text("text")
    ...     path = get_file("copy.txt", page.as_uri(), cache_dir=folder)
    ...     Path(path).read_text()  # doctest: +ELLIPSIS
    Downloading data from file:///...
    'text'
    """
    if origin is None:
        raise ValueError("origin must be the address of a file, got None.")
    if md5_hash is not None and file_hash is None:
        file_hash, hash_algorithm = md5_hash, "md5"
    hasher = _hasher(hash_algorithm, file_hash)
    extract = extract or untar
    target, content = cached_paths(fname, origin, cache_subdir, extract, cache_dir)
    is_new = force_download or not _is_sound(target, hasher, file_hash)
    if is_new:
        _download(origin, target, hasher, file_hash)
    if not extract:
        return str(target)
    if is_new or not content.is_dir():
        formats = "tar" if untar else archive_format
        _extract(target, content, ("tar", "zip") if formats == "auto" else formats)
    return str(content)


def cached_paths(
    fname: str | os.PathLike | None,
    origin: str,
    cache_subdir: str | os.PathLike = "datasets",
    extract: bool = False,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[Path, Path]:
    """Return where `get_file` keeps a file, and the folder of its content where it is extracted.

    The names are those that Keras gives, so that its cache is ours. The folder of the file is made.

    Args:
        fname: as for `get_file`.
        origin: likewise.
        cache_subdir: likewise.
        extract: likewise.
        cache_dir: likewise.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in cached_paths("a.zip", "", extract=True, cache_dir=folder)]
    ['a.zip', 'a_extracted']
    """
    name, folder = _name(fname, origin), _folder(cache_dir, cache_subdir)
    if extract and fname and "." in name:
        return folder / name, folder / f"{name.partition('.')[0]}_extracted"
    return folder / (f"{name}_archive" if extract else name), folder / name


def _hasher(algorithm: str, digest: str | None) -> Any:
    """Return the function that makes a hash object, from the name of the algorithm."""
    import hashlib

    if algorithm not in ("auto", "md5", "sha256"):
        raise ValueError(f"hash_algorithm must be 'auto', 'md5' or 'sha256', got {algorithm!r}.")
    if algorithm == "auto":
        algorithm = "sha256" if digest is not None and len(digest) == 64 else "md5"
    return getattr(hashlib, algorithm)


def _name(fname: Any, origin: str) -> str:
    name = os.fspath(fname) if fname else os.path.basename(urlsplit(origin).path)
    if fname and ("/" in name or os.sep in name):
        raise ValueError(
            f"fname must be a name without folders, got {name!r}. Say with cache_dir and "
            "cache_subdir where the file is to lie."
        )
    if name in ("", ".", ".."):
        raise ValueError(f"{origin!r} does not end with the name of a file: give fname.")
    return name


def _folder(cache_dir: Any, cache_subdir: Any) -> Path:
    """Return the folder of a file, made if need be; a temporary one if home is not writable."""
    import tempfile

    folder = Path(cache_dir or config.keras_home()).expanduser() / cache_subdir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        if cache_dir is not None:
            raise
        folder = Path(tempfile.gettempdir(), ".keras", cache_subdir)
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_sound(path: Path, hasher: Any, digest: str | None) -> bool:
    """Return whether a file is in the cache, with the right hash if there is one."""
    if not path.exists() or digest is None:
        return path.exists()
    import hashlib

    with open(path, "rb") as file:
        sound = hashlib.file_digest(file, hasher).hexdigest() == digest.lower()
    if not sound:
        message(f"{path} has another hash than {digest}: it is downloaded again.")
    return sound


# -- downloading ----------------------------------------------------------------------------------


class _LostError(Exception):
    """The fault of an address or of a connection, not of the disk."""


def _download(origin: str, target: Path, hasher: Any, digest: str | None) -> None:
    try:
        with replacing(target) as file:
            actual = _copy(origin, file, hasher())
            if digest is not None and actual != digest.lower():
                raise ValueError(
                    f"{origin} is not the file that was expected, or was damaged on its way: its "
                    f"hash is {actual}, expected {digest}. Nothing was saved."
                )
    except _LostError as error:
        raise OSError(f"{origin} cannot be downloaded: {error}. Nothing was saved.") from error


def _copy(origin: str, file: BinaryIO, hash_so_far: Any) -> str:
    """Write what is at an address to a file; return its hash."""
    count = 0
    with closing(_open(origin)) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        # "byte" shows what is counted in KB, MB ...
        bar = Progbar(total, unit_name="byte", prefix=f"Downloading data from {origin}")
        with closing(bar):
            while chunk := _read(response):
                file.write(chunk)
                hash_so_far.update(chunk)
                count += len(chunk)
                bar.update(count, finalize=False)
            if total is not None and count != total:
                raise _LostError(f"the connection was lost after {count:,} of {total:,} bytes")
            bar.update(count, finalize=True)
    return hash_so_far.hexdigest()


def _open(origin: str) -> Any:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        return urlopen(origin, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        raise _LostError(f"the server answered {error.code} ({error.reason})") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _LostError(_reason(error)) from error


def _read(response: Any) -> bytes:
    from http.client import HTTPException

    try:
        return response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _LostError(f"the connection was lost ({_reason(error)})") from error


def _reason(error: Any) -> str:
    error = getattr(error, "reason", error)  # of a URLError
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# -- archives -------------------------------------------------------------------------------------


def _extract(archive: Path, folder: Path, formats: Any) -> None:
    """Put the content of an archive into a folder, all of it or nothing."""
    import tarfile
    import tempfile

    damaged = (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
        RuntimeError,
    )  # fmt: skip
    openers = {"tar": (tarfile.is_tarfile, _untar), "zip": (zipfile.is_zipfile, _unzip)}
    formats = [formats] if isinstance(formats, str) else list(formats or ())
    unknown = [name for name in formats if name not in openers]
    if unknown:
        raise ValueError(f"archive_format must be 'auto', 'tar', 'zip' or None, got {unknown}.")
    reader = next((read for matches, read in map(openers.get, formats) if matches(archive)), None)
    if reader is None:
        warnings.warn(
            f"{archive} is not extracted: it is no archive of the formats {formats}.", stacklevel=3
        )
        return
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        staging = Path(temporary, "content")
        staging.mkdir()
        try:
            reader(archive, staging)
        except damaged as error:
            raise ValueError(f"{archive} cannot be extracted: {error}. Nothing was.") from error
        _move(staging, folder)


def _untar(path: Path, folder: Path) -> None:
    import tarfile

    with tarfile.open(path) as archive:
        # Python's own filter refuses files, links and devices that lead out of the folder.
        archive.extractall(folder, filter="data")


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise zipfile.BadZipFile(f"{name!r} would lie outside of its folder")
        archive.extractall(folder)


def _move(source: Path, folder: Path) -> None:
    """Move a folder to a place where there may be one of that name, whose other files stay."""
    if not folder.is_dir():
        source.rename(folder)
        return
    for path in source.iterdir():
        target = folder / path.name
        if path.is_dir() and not path.is_symlink() and target.is_dir():
            _move(path, target)
        else:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            path.replace(target)
