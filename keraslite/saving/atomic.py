"""Files and folders that are replaced whole or not at all, at whatever moment the process ends.

What is written goes to a temporary name first. A file takes the place of the older one by one
rename. The files of a folder cannot, since no rename replaces a folder that is not empty: they are
written into a folder inside it, whose rename to `.committed` decides. From then on the new files
are the content, and whoever reads or writes next moves those that are not in their places yet.
"""

import errno
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_COMMITTED = ".committed"
_UNCHANGED = "nothing was saved, what was there is unchanged"
# The host and the run are in the names of temporary files, since numbers of processes are used
# again, in containers by each restart.
_NODE = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
_HOST = f"{zlib.crc32(_NODE.encode()):08x}"
_RUN = os.urandom(4).hex()
_TEMPORARY = re.compile(
    r"\..+?\.(?P<pid>\d+)\.((?P<host>[0-9a-f]{8})\.(?P<run>[0-9a-f]{8})\.)?[0-9a-f]{8}\.tmp"
)
_DAY = 24 * 60 * 60.0


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which replaces `path` if the block raises nothing.

    Args:
        path: the file to replace.

    Raises:
        OSError: the file could not be written; what was there before is unchanged.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        remove_abandoned(path.parent)
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        message = f"{error.strerror or error}; {_UNCHANGED}"
        raise OSError(error.errno, message, str(path)) from error
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def replacing_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a folder to write into, whose files replace those of `folder` all together.

    Files of other names that are there already stay.

    Args:
        folder: made if need be, and removed again if nothing was saved.

    Raises:
        OSError: a file could not be written; what was there before is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing_folder(folder) as new:
        ...         _ = (new / "a.txt").write_text("a")
        ...         before = sorted(path.name for path in Path(folder).glob("a*"))
        ...     before, sorted(path.name for path in Path(folder).iterdir())
        ([], ['a.txt'])
    """
    folder = Path(folder)
    staging = _temporary(folder / "save")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish_replacing(folder)
        remove_abandoned(folder)
        staging.mkdir()
        yield staging
        _check_places(staging, folder)
        for path in (*staging.rglob("*"), staging):
            _sync(path)
        _commit(staging, folder)
        made = []  # it stays
    except OSError as error:
        place = Path(error.filename or folder)
        if place.is_relative_to(staging):
            place = folder / place.relative_to(staging)
        if _UNCHANGED in str(error):
            message = error.strerror
        else:
            message = f"{error.strerror or error}; {_UNCHANGED}"
        raise OSError(error.errno, message, str(place)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # something else is in it by now
            for path in made:
                path.rmdir()
    finish_replacing(folder)


def finish_replacing(folder: str | os.PathLike) -> None:
    """Move the files of a `replacing_folder` that was interrupted at its end into their places.

    Args:
        folder: any folder; without such files nothing happens.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    committed = folder / _COMMITTED
    while committed.is_dir():
        # Another process may finish it too, or commit the next, at the same time.
        with suppress(FileNotFoundError):
            for path in sorted(committed.rglob("*")):
                target = folder / path.relative_to(committed)
                if path.is_dir():
                    target.mkdir(exist_ok=True)
                else:
                    os.replace(path, target)
            try:
                for path in (*sorted(committed.rglob("*"), reverse=True), committed):
                    path.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            _sync(folder)


def remove_abandoned(folder: str | os.PathLike) -> None:
    """Remove temporary files and folders of processes that were killed while they saved.

    Args:
        folder: where they lie; not those in folders of it.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in os.scandir(folder):
            match = _TEMPORARY.fullmatch(entry.name)
            # Another process may remove it at the same time.
            with suppress(FileNotFoundError):
                if match is None or not _is_abandoned(match, entry):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def is_temporary(path: str | os.PathLike) -> bool:
    """Return whether a path is, or lies in, something that a save has not finished.

    Args:
        path: relative to the folder that was saved into.

    >>> is_temporary(".model.safetensors.41.0a1b2c3d.tmp"), is_temporary("model.safetensors")
    (True, False)
    """
    return any(part == _COMMITTED or _TEMPORARY.fullmatch(part) for part in Path(path).parts)


def _temporary(path: Path) -> Path:
    name = f".{path.name}.{os.getpid()}.{_HOST}.{_RUN}.{os.urandom(4).hex()}.tmp"
    return path.with_name(name)


def _is_abandoned(match: re.Match, entry: os.DirEntry) -> bool:
    """Return whether the process that made a temporary file is gone."""
    pid = int(match["pid"])
    if match["host"] in (None, _HOST) and os.name == "posix":  # elsewhere `kill` would end it
        if pid == os.getpid():
            return match["run"] not in (None, _RUN)
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # somebody else's process
    return entry.stat(follow_symlinks=False).st_mtime < time.time() - _DAY


def _check_places(staging: Path, folder: Path) -> None:
    """Raise an OSError if a file is to replace a folder, or a folder a file."""
    for path in staging.rglob("*"):
        target = folder / path.relative_to(staging)
        if target.exists() and target.is_dir() != path.is_dir():
            error = IsADirectoryError if target.is_dir() else NotADirectoryError
            code = errno.EISDIR if target.is_dir() else errno.ENOTDIR
            raise error(code, os.strerror(code), str(target))


def _commit(staging: Path, folder: Path) -> None:
    while True:
        try:
            os.rename(staging, folder / _COMMITTED)
            break
        except OSError as error:  # another process has committed, and is moving its files
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            finish_replacing(folder)
    _sync(folder)


def _sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    if path.is_dir() and os.name != "posix":  # only there can a folder be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
