"""Facts about a checkpoint, without building a model: sizes, digests and non-finite values."""

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from hub.presets.build import read_config
from hub.presets.files import HANDLE_URL, WEIGHT_FILES, PresetFiles, resolve
from hub.presets.remote import explained
from hub.presets.table import find_preset
from hub.weights.reader import READERS, Weights, open_weights, shard_names

# The floating-point types of a safetensors header -> the names of numpy.
_FLOATS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def info(
    preset: Any, *, revision: str | None = None, token: str | bool | None = None
) -> dict[str, Any]:
    """Return facts about a checkpoint; for a built-in preset without network access.

    Args:
        preset: a built-in name, "org/repo", "hf://org/repo@revision/subfolder" or a folder.
        revision: a branch, tag or commit of a repository.
        token: an access token for private repositories.

    Returns:
        For a built-in preset its row, in which `unverified` lists the facts that were not checked
        against the repository. For others `model_type`, `architectures`, `commit`, `files`,
        `parameters` (the number of floating-point values) and their `dtypes`. Of a repository only
        the headers of the weights are read; the last two are left out if it has only a `.bin`,
        which would have to be downloaded.

    Raises:
        ValueError: the preset is unknown, or its config.json or weights are damaged.
        FileNotFoundError: the folder or repository does not exist.

    Example:
        >>> info("opt_125m_en")["parameters"], info("opt_125m_en")["license"]
        (125239296, 'other')
    """
    if isinstance(preset, PresetFiles):
        name, row = preset.handle, preset.row
    else:
        name, row = preset, find_preset(preset) if isinstance(preset, str) else None
    if row is not None:
        return {"name": name, **row}
    files = resolve(preset, revision=revision, token=token)
    config = read_config(files)
    facts = {
        "name": files.handle,
        "model_type": config["model_type"],
        "architectures": config.get("architectures") or [],
        "commit": files.commit,
        "files": sorted(files.names),
    }
    tensors = _tensors(files, token)
    if tensors is not None:
        floats = [(shape, dtype) for shape, dtype in tensors if "float" in dtype]
        facts["parameters"] = sum(math.prod(shape) for shape, _ in floats)
        facts["dtypes"] = sorted({dtype for _, dtype in floats})
    return facts


def weight_files(files: PresetFiles) -> list[str]:
    """Return the names of the files that `open_weights` reads, the index of shards first.

    Args:
        files: what `resolve` returned.

    Raises:
        ValueError: the index of the shards is damaged.
    """
    for name in READERS:
        if name in files:
            return [name]
        index = f"{name}.index.json"
        if index in files:
            return [index, *shard_names(files, index, files.json(index).get("weight_map"))]
    return []


def digest(path: Path) -> tuple[str, str | None]:
    """Return the SHA-256 of a file, and a message if it differs from the published digest.

    Args:
        path: the file. In the Hub's cache it is a link to a blob that is named after its digest; a
            file elsewhere is not compared.

    Example:
        >>> digest(Path(__file__))[1] is None
        True
    """
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    published = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    actual = sha256
    if re.fullmatch(r"[0-9a-f]{40}", published):  # a small file: git's own digest
        data = path.read_bytes()
        actual = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    elif not re.fullmatch(r"[0-9a-f]{64}", published):
        return sha256, None
    if actual == published:
        return sha256, None
    return sha256, f"{path} is damaged: its digest is {actual}, published is {published}; remove it"


def not_finite(weights: Weights) -> dict[str, int]:
    """Return the number of NaN and infinite values of each tensor that has any.

    Args:
        weights: what `open_weights` returned; every tensor is read, one at a time.
    """
    counts = {}
    for name in weights:
        values = weights[name]
        counts[name] = values.size - int(np.count_nonzero(np.isfinite(values)))
        weights.release(name)
    return {name: count for name, count in counts.items() if count}


def _tensors(files: PresetFiles, token: Any) -> list[tuple[tuple[int, ...], str]] | None:
    """Return shape and dtype of every tensor; None where that needs a download of weights."""
    names = [n for n in weight_files(files) if not n.endswith(".json")]
    if files.commit is None or (names and all(_is_cached(files, n) for n in names)):
        weights = open_weights(files)
        return [(weights.shape(name), weights.dtype(name)) for name in weights]
    if not names or not all(name.endswith(".safetensors") for name in names):
        return None
    return [spec for name in names for spec in _header(files, name, token)]


def _place(files: PresetFiles, name: str) -> tuple[str, str]:
    """Return the repository of a remote checkpoint, and a file's name in it."""
    match = HANDLE_URL.fullmatch(files.handle if "://" in files.handle else f"hf://{files.handle}")
    folder = match["folder"] or ""
    if folder.endswith(WEIGHT_FILES):
        return match["repo"], folder
    return match["repo"], f"{folder}/{name}" if folder else name


def _is_cached(files: PresetFiles, name: str) -> bool:
    from huggingface_hub import constants, try_to_load_from_cache

    repo, path = _place(files, name)
    cached = try_to_load_from_cache(repo, path, constants.HF_HUB_CACHE, revision=files.commit)
    return isinstance(cached, str)


def _header(files: PresetFiles, name: str, token: Any) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of every tensor of a remote file, fetching its first bytes."""
    from huggingface_hub import HfApi, errors

    repo, path = _place(files, name)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    try:
        with explained(f"cannot get {name!r} of {files.location}: "):
            header = api.parse_safetensors_file_metadata(repo, path, revision=files.commit)
    except (errors.SafetensorsParsingError, errors.NotASafetensorsRepoError) as error:
        raise ValueError(f"{name} of {files.location} is damaged: {error}") from error
    return [(tuple(t.shape), _FLOATS.get(t.dtype, "")) for t in header.tensors.values()]
