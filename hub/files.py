"""Files of a checkpoint: the interface that they are read through, and writing of JSON."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from keraslite.saving import replacing


class Files(Protocol):
    """The files of a checkpoint by name, as `hub.presets.resolve` returns them."""

    @property
    def location(self) -> str:
        """Where they are, in words."""

    def __contains__(self, name: object) -> bool: ...

    def path(self, name: str) -> Path:
        """Return the path of a file on this machine."""

    def paths(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the paths of several files."""

    def json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file."""

    def listing(self) -> str:
        """Return the names of the files for an error message."""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all.

    Args:
        path: of the file.
        content: what JSON can say.
    """
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
