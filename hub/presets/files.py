"""Handles (built-in names, repositories of the Hub, folders) and the files they stand for.

All forms give a `PresetFiles`, so that other code does not depend on where a checkpoint is.
"""

import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hub.presets.remote import open_snapshot
from hub.presets.table import HANDLE_FORMS, find_preset, unknown_preset
from hub.weights.reader import TORCH_WEIGHTS, WEIGHTS
from keraslite.saving import finish_replacing, is_temporary

_REPO = r"[\w-][\w.-]*/[\w-][\w.-]*"
HANDLE_URL = re.compile(
    rf"hf://(?P<repo>{_REPO})(@(?P<revision>refs/\w+/[^/]+|[^/]+))?(/(?P<folder>.+?)/?)?", re.ASCII
)
WEIGHT_FILES = (".safetensors", ".pt", ".pth")  # endings of handles of one file
PIPELINE = "model_index.json"  # of a diffusers pipeline, whose parts are in folders
_log = logging.getLogger(__name__)
_MAX_DOWNLOADS = 4  # at the same time
_MAX_LISTED = 12  # names in an error message


@dataclass(frozen=True, eq=False)
class PresetFiles:
    """The files of one checkpoint, on this machine or on the Hub.

    Attributes:
        handle: the handle that was resolved.
        row: the row of a built-in preset, else None.
        commit: the commit of a remote checkpoint, else None.
        names: the names of the files, relative to the checkpoint's folder.
        location: a description of their place for messages.
    """

    handle: str
    row: dict[str, Any] | None
    commit: str | None
    names: frozenset[str]
    location: str
    _fetch: Callable[[str], Path] = field(repr=False)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def path(self, name: str) -> Path:
        """Return the local path of a file, which is downloaded if it is not cached.

        Raises:
            FileNotFoundError: the checkpoint has no such file; lists those it has.
        """
        if name not in self.names:
            raise FileNotFoundError(f"{self.location} has no {name!r}; {self.listing()}")
        return self._fetch(name)

    def paths(self, names: Iterable[str]) -> dict[str, Path]:
        """Return the local paths of files, downloaded in parallel; raises as `path` does."""
        names = list(names)
        with ThreadPoolExecutor(max_workers=min(len(names), _MAX_DOWNLOADS) or 1) as pool:
            return dict(zip(names, pool.map(self.path, names), strict=True))

    def text(self, name: str) -> str:
        """Return a UTF-8 file as text; raises as `path` does, ValueError if it is not UTF-8."""
        try:
            return self.path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} of {self.location} is not UTF-8 text: {error}") from error

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON file as a dict; raises as `path` does, ValueError if it is not one."""
        try:
            value = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} of {self.location} is not JSON: {error}") from error
        if isinstance(value, dict):
            return value
        raise ValueError(
            f"{name} of {self.location} must hold a JSON object, got a {type(value).__name__}"
        )

    def folder(self, name: str) -> "PresetFiles":
        """Return the files of a subfolder, under their names in it.

        Args:
            name: the folder, such as "unet".

        Raises:
            FileNotFoundError: there is no such folder.
        """
        start = f"{name}/"
        names = frozenset(n.removeprefix(start) for n in self.names if n.startswith(start))
        if not names:
            raise FileNotFoundError(f"{self.location} has no folder {name!r}; {self.listing()}")
        return PresetFiles(
            f"{self.handle}/{name}", None, self.commit, names, f"{name} of {self.location}",
            lambda inner: self._fetch(start + inner),
        )  # fmt: skip

    def listing(self) -> str:
        """Return the names of the files for an error message."""
        names = sorted(self.names, key=lambda name: (name.count("/"), name))
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        return f"it has: {', '.join(names[:_MAX_LISTED])}{more}" if names else "it is empty"


def resolve(
    handle: "str | os.PathLike | PresetFiles",
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> PresetFiles:
    """Find the files that a handle stands for.

    Args:
        handle: a built-in name, "org/repo", "hf://org/repo@revision/subfolder" or a local folder.
            Write "./name" for a folder with the name of a built-in preset. A file of weights
            (.safetensors, .pt or .pth) in the place of a folder is a checkpoint of its own, and has
            its usual name there. A `PresetFiles` is returned as it is.
        revision: a branch, tag or commit of a remote checkpoint.
        token: an access token for private repositories; it is handed to the Hub's client only.
        local_files_only: use what is cached and open no socket.

    Raises:
        ValueError: the handle is none of these.
        FileNotFoundError: no such folder, repository or revision, or it is not cached offline.
        PermissionError: the repository is private or gated.
        ConnectionError: the Hub was not reached and nothing is cached.

    Example:
        >>> resolve("minilm_l6_en").json("config.json")["hidden_size"]  # doctest: +SKIP
        384
    """
    if isinstance(handle, PresetFiles):
        return handle
    if not isinstance(handle, str | os.PathLike):
        raise TypeError(
            f"a preset must be {HANDLE_FORMS}; got {type(handle).__name__} {handle!r:.80}"
        )
    text = os.fspath(handle)
    remote = {"revision": revision, "token": token, "local_files_only": local_files_only}
    row = None if isinstance(handle, os.PathLike) else find_preset(text)
    if row is not None:
        folder = _installed_folder(row) if revision is None else None
        if folder is not None:
            return _local(folder, text, row)
        remote["revision"] = revision or row["revision"]
        return _first_available(text, [row["repo"], *row.get("mirrors", ())], row, remote)
    if text.startswith("hf://"):
        repo, folder = _parse_url(text, remote)
        if folder.endswith(WEIGHT_FILES):
            above, _, name = folder.rpartition("/")
            return _weights_alone(_remote(text, repo, above, **remote), name)
        return _remote(text, repo, folder, **remote)
    if _looks_local(handle):
        if revision is not None:
            raise ValueError(f"revision={revision!r} is for repositories; {text!r} is a folder")
        return _local(Path(text).expanduser(), text, None)
    if re.fullmatch(_REPO, text, re.ASCII):
        return _remote(text, text, "", **remote)
    raise unknown_preset(text)


def resolve_file(handle: str | os.PathLike, **kwargs: Any) -> tuple[PresetFiles, str]:
    """Find a single file of weights.

    Args:
        handle: a path, "org/repo/file.safetensors", or "hf://org/repo@revision/file.safetensors".
        kwargs: as for `resolve`.

    Returns:
        The files of its folder (of a local file that file only), and its name among them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the handle names no file.
    """
    if not isinstance(handle, str | os.PathLike):
        raise TypeError(f"expected the path of a file, got {type(handle).__name__} {handle!r:.80}")
    path = Path(handle).expanduser()
    if path.is_file():
        return _local_file(path, os.fspath(handle)), path.name
    text = os.fspath(handle)
    folder, _, name = text.removeprefix("hf://").rpartition("/")
    local = isinstance(handle, os.PathLike) or _looks_local(handle)
    if local or not re.fullmatch(rf"{_REPO}(@[^/]+)?(/.+)?", folder, re.ASCII) or not name:
        raise FileNotFoundError(
            f"there is no file {text!r}; a file is a path, 'org/repo/file.safetensors' or "
            "'hf://org/repo@revision/file.safetensors'"
        )
    files = resolve(f"hf://{folder}", **kwargs)
    files.path(name)
    return files, name


def _first_available(
    handle: str, repos: list[str], row: dict, remote: dict[str, Any]
) -> PresetFiles:
    """Return the files of the first repository that exists."""

    def files_of(repo: str) -> PresetFiles:
        files = _remote(handle, repo, "", row=row, **remote)
        return _weights_alone(files, row["file"]) if "file" in row else files

    for repo in repos[:-1]:
        try:
            return files_of(repo)
        except (FileNotFoundError, PermissionError) as error:
            _log.warning("%s; trying %s", error, repos[repos.index(repo) + 1])
    return files_of(repos[-1])


def _weights_alone(files: PresetFiles, name: str) -> PresetFiles:
    """Return the checkpoint that consists of one file of weights, under its usual name.

    Args:
        files: those of its folder.
        name: of the file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if name not in files:
        raise FileNotFoundError(f"{files.location} has no {name!r}; {files.listing()}")
    usual = WEIGHTS if name.endswith(".safetensors") else TORCH_WEIGHTS
    return replace(files, names=frozenset([usual]), _fetch=lambda _: files.path(name))


def _looks_local(handle: str | os.PathLike) -> bool:
    if isinstance(handle, os.PathLike) or handle.startswith(("./", "../", "~", ".\\", "..\\")):
        return True
    return os.path.isabs(handle) or handle in (".", "..") or os.path.exists(handle)


def _local(folder: Path, handle: str, row: dict[str, Any] | None) -> PresetFiles:
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}; a preset is {HANDLE_FORMS}")
    if folder.is_file() and folder.name.endswith(WEIGHT_FILES):
        return _weights_alone(_local_file(folder, handle), folder.name)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that holds it")
    for place in (folder, folder.parent):  # of a part, a pipeline may have been saved
        finish_replacing(place)
    # Published layouts are two levels deep, the tokenizers of KerasHub three; a deeper walk could
    # wander through a whole disk.
    paths = (
        path
        for pattern in ("*", "*/*", "assets/*/*")
        for path in folder.glob(pattern)
        if path.is_file()
    )
    names = frozenset(
        name
        for name in (path.relative_to(folder).as_posix() for path in paths)
        if not is_temporary(name)
    )
    return PresetFiles(handle, row, None, names, f"the folder {folder}", folder.joinpath)


def _local_file(path: Path, handle: str) -> PresetFiles:
    names = frozenset([path.name])
    return PresetFiles(handle, None, None, names, f"the file {path}", path.parent.joinpath)


def _installed_folder(row: dict[str, Any]) -> Path | None:
    """Return the folder of a preset in an installed package, which is not imported."""
    place = row.get("installed")
    spec = importlib.util.find_spec(place["package"]) if place else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], place["path"])
    return folder if (folder / "config.json").is_file() else None


def _parse_url(handle: str, remote: dict[str, Any]) -> tuple[str, str]:
    """Return repository and subfolder of an hf:// handle; its revision goes into `remote`."""
    match = HANDLE_URL.fullmatch(handle)
    if match is None:
        raise ValueError(f"{handle!r} is not of the form 'hf://org/repo@revision/subfolder'")
    revision = match["revision"] and unquote(match["revision"])
    if revision and remote["revision"] not in (None, revision):
        raise ValueError(f"{handle!r} and revision={remote['revision']!r} disagree: give one")
    remote["revision"] = remote["revision"] or revision
    return match["repo"], match["folder"] or ""


def _remote(
    handle: str,
    repo: str,
    folder: str,
    *,
    row: dict[str, Any] | None = None,
    revision: str | None,
    token: str | bool | None,
    local_files_only: bool,
) -> PresetFiles:
    revision = revision or "main"
    if ".." in revision or ".." in folder.split("/") or revision.startswith("/"):
        raise ValueError(
            f"revision {revision!r} or subfolder {folder!r} of {handle!r} is not valid"
        )
    snapshot = open_snapshot(repo, revision, token, local_files_only)
    cached_only = "the cached part of " if snapshot.cached_only else ""
    location = f"{cached_only}{repo!r} at {revision!r} (commit {snapshot.commit[:12]})"
    prefix = f"{folder}/" if folder else ""
    names = frozenset(
        name.removeprefix(prefix) for name in snapshot.names if name.startswith(prefix)
    )
    if not names:
        folders = sorted({name.rpartition("/")[0] or "." for name in snapshot.names})
        raise FileNotFoundError(
            f"{location} has no folder {folder!r}; it has: {', '.join(folders[:_MAX_LISTED])}"
        )
    return PresetFiles(
        handle, row, snapshot.commit, names, location, lambda name: snapshot.fetch(prefix + name)
    )
