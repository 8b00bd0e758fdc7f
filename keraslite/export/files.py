"""Exported files that are written whole or not at all, whatever writes them."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keraslite.saving.atomic import replacing, replacing_folder


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write one file.

    Args:
        path: the file, which is replaced at the end.
        write: writes into an open file.

    Raises:
        OSError: it could not be written; what was there before is unchanged.
    """
    with replacing(path) as file, _as_os_error():
        write(file)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder.

    Args:
        path: the folder, whose files are replaced at the end.
        write: writes files into a folder.

    Raises:
        OSError: it could not be written; what was there before is unchanged.
    """
    with replacing_folder(path) as folder, _as_os_error():
        write(folder)


def write_files(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file and others beside it.

    Args:
        path: the file.
        write: writes to a path of the same name in another folder.

    Raises:
        OSError: it could not be written; what was there before is unchanged.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    with replacing_folder(path.parent) as folder, _as_os_error():
        write(folder / path.name)


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn what a framework raises where it cannot write into an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise OSError(errno.EIO, f"it could not be written ({text})") from error
