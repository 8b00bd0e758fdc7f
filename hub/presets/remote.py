"""Repositories of the Hugging Face Hub, through its own client and its own cache.

A revision is resolved to a commit once; every file comes from that commit. The client is
imported when a remote preset is first asked for, and it alone sees the token.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from keraslite.saving import replacing

_log = logging.getLogger(__name__)
_TIMEOUT = 30.0  # seconds for the listing; the client has no limit
_TOKEN_HINT = "pass token= or set HF_TOKEN to a token of an account that may read it"
_WRITING_HINT = "pass token= or set HF_TOKEN to a token that may write there"

# The client's errors, most specific first: its class, ours, and what to do.
_ERRORS = (
    (
        "GatedRepoError",
        PermissionError,
        "it is gated: accept its terms on its page, {token_hint}",
    ),
    ("DisabledRepoError", PermissionError, "its author has disabled it"),
    (
        "RepositoryNotFoundError",
        FileNotFoundError,
        "there is no such repository, nor a folder of that name; if it is private, {token_hint}",
    ),
    ("RevisionNotFoundError", FileNotFoundError, "no such revision: give a branch, tag or commit"),
    ("RemoteEntryNotFoundError", FileNotFoundError, "it has no such file"),
    ("HFValidationError", ValueError, "the name of a repository looks like org/repo"),
)
_OFFLINE = (
    "it is not in the local cache, and going online is switched off (local_files_only=True or "
    "HF_HUB_OFFLINE); load it once with a connection"
)


class Snapshot(NamedTuple):
    """One commit of a repository: the names of its files, and a way to get one."""

    commit: str
    names: frozenset[str]
    fetch: Callable[[str], Path]
    cached_only: bool


def open_snapshot(
    repo: str, revision: str, token: str | bool | None = None, local_files_only: bool = False
) -> Snapshot:
    """Resolve a revision of a repository to a commit and list its files.

    Without a connection the cached files of the commit that the revision last resolved to are
    used, with a warning in the log.

    Args:
        repo: such as "google-bert/bert-base-cased".
        revision: a branch, tag or commit.
        token: handed to the client; None means the one it has saved.
        local_files_only: open no socket. HF_HUB_OFFLINE means the same.

    Raises:
        FileNotFoundError: no such repository or revision, or it is needed offline and not cached.
        PermissionError: it is private or gated.
        ConnectionError: the Hub was not reached.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    place = f"{repo!r} at revision {revision!r}"
    endpoint = os.environ.get("HF_ENDPOINT") or None
    folder = Path(constants.HF_HUB_CACHE, "models--" + repo.replace("/", "--"))
    offline = local_files_only or constants.HF_HUB_OFFLINE or _is_set("HF_HUB_OFFLINE")
    if offline:
        commit = _cached_commit(folder, revision)
        if commit is None:
            raise FileNotFoundError(f"cannot get {place}: {_OFFLINE}")
    else:
        try:
            with explained(f"cannot get {place}: "):
                api = HfApi(endpoint=endpoint, token=token)
                info = api.model_info(repo, revision=revision, timeout=_TIMEOUT)
            commit, names = info.sha, frozenset(item.rfilename for item in info.siblings)
        except ConnectionError as error:
            commit, offline = _cached_commit(folder, revision), True
            if commit is None:
                raise
            _log.warning("%s; using commit %s from the local cache", error, commit)
    snapshot = folder / "snapshots" / commit
    # The older commit is what is read offline until this one has as many of the files.
    older = None if offline else _cached_commit(folder, revision)
    kept = frozenset() if older is None else _files_in(folder / "snapshots" / older) & names
    missing = set(kept - _files_in(snapshot))
    if offline:
        names = _files_in(snapshot)
    elif not missing:
        _remember_commit(folder, revision, commit)

    def fetch(name: str) -> Path:
        cached = (snapshot / name).exists()
        for last in (False, True):
            with explained(f"cannot get {name!r} of {place}: "):
                path = hf_hub_download(
                    repo,
                    name,
                    revision=commit,
                    token=token,
                    endpoint=endpoint,
                    local_files_only=offline,
                )
            problem = None if cached else _damage(Path(path))
            if problem is None:
                if name in missing:
                    missing.discard(name)
                    if not missing:
                        _remember_commit(folder, revision, commit)
                return Path(path)
            if last:
                raise OSError(f"{name!r} of {place} {problem} twice in a row; try again later")
            _log.warning("%r of %s %s; fetching it again", name, place, problem)
        raise AssertionError("unreachable")

    return Snapshot(commit, names, fetch, offline)


def _files_in(snapshot: Path) -> frozenset[str]:
    """Return the names of the files of a commit that are cached."""
    paths = snapshot.rglob("*") if snapshot.is_dir() else ()
    return frozenset(path.relative_to(snapshot).as_posix() for path in paths if path.is_file())


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}


def _cached_commit(folder: Path, revision: str) -> str | None:
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    is_commit = re.fullmatch(r"[0-9a-f]{40}", commit) is not None
    return commit if is_commit and (folder / "snapshots" / commit).is_dir() else None


def _remember_commit(folder: Path, revision: str, commit: str) -> None:
    # The client keeps this note only when a file is asked for by branch; we ask by commit.
    reference = folder / "refs" / revision
    if revision == commit or (reference.is_file() and reference.read_text() == commit):
        return
    try:
        reference.parent.mkdir(parents=True, exist_ok=True)
        with replacing(reference) as file:
            file.write(commit.encode())
    except OSError as error:  # a read-only cache still serves what it holds
        _log.debug("did not note that %s is %s: %s", reference, commit, error)


def _damage(path: Path) -> str | None:
    """Remove a large file whose SHA-256 is not its blob's name; return the damage, else None."""
    if not path.is_symlink():  # a cache without symlinks does not keep the digest
        return None
    blob = path.parent / os.readlink(path)
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return None
    with open(blob, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == blob.name:
        return None
    path.unlink()
    blob.unlink()
    return f"was damaged on its way (SHA-256 {digest}, published is {blob.name}; it was removed)"


@contextlib.contextmanager
def explained(start: str, writing: bool = False) -> Iterator[None]:
    """Turn errors of the client in the block into ours, which say what to do.

    Args:
        start: the beginning of their messages.
        writing: whether the block uploads.
    """
    try:
        yield
    except Exception as error:
        explanation = _explain(error, start, _WRITING_HINT if writing else _TOKEN_HINT)
        if explanation is None:
            raise
        raise explanation from error


def _explain(error: BaseException, start: str, token_hint: str) -> Exception | None:
    """Return our error for one of the client's; None for an error of another origin."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _explain(
            error.__cause__, start, token_hint
        )  # "not in the cache", since something failed online
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return FileNotFoundError(start + _OFFLINE)
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # around an upload
        return _explain(error.__cause__, start, token_hint)
    for name, error_type, text in _ERRORS:
        if isinstance(error, getattr(errors, name)):
            return error_type(start + text.format(token_hint=token_hint))
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return PermissionError(f"{start}the server refused it ({status}); {token_hint}")
    if status is not None:
        return ConnectionError(f"{start}the server answered {status}; try again later")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"{start}no space left on the device; free some, or set HF_HOME to a larger one"
        return OSError(errno.ENOSPC, text)
    if isinstance(error, OSError) and error.errno is not None:
        return None  # a folder of the cache, not the network
    if isinstance(error, errors.HTTPError | OSError | json.JSONDecodeError):
        return ConnectionError(
            f"{start}the connection failed ({type(error).__name__}: {error}). Check it and try "
            "again; files loaded before can be used with local_files_only=True"
        )
    return None
