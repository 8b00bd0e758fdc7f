"""What is known of a checkpoint without making a model of it."""

import math
import os
from typing import Any

from hub.presets.files import PresetFiles, resolve
from hub.presets.loading import read_config
from hub.presets.table import find_preset
from hub.presets.weights import open_weights


def info(
    preset: Any, *, revision: str | None = None, token: str | bool | None = None
) -> dict[str, Any]:
    """Returns what is known of a checkpoint; of a built-in preset without asking the network.

    Args:
        preset: a built-in name, "org/repo", "hf://org/repo@revision/subfolder" or a folder.
        revision: a branch, tag or commit of a repository.
        token: an access token for private repositories.

    Returns:
        Of a built-in preset its row, with `unverified` naming the facts that nobody has checked
        against the repository. Of other ones `model_type`, `architectures`, `commit`, `files`, and
        for a folder `parameters` and `dtypes` of its tensors.

    Raises:
        ValueError: the preset is unknown, or its config is none.
        FileNotFoundError: no such folder or repository.

    Example:
        >>> info("opt_125m_en")["parameters"], info("opt_125m_en")["license"]
        (125239296, 'other')
    """
    row = None if isinstance(preset, os.PathLike | PresetFiles) else find_preset(str(preset))
    if row is not None:
        return {"name": preset, **row}
    files = resolve(preset, revision=revision, token=token)
    config = read_config(files)
    found = {
        "name": files.handle,
        "model_type": config["model_type"],
        "architectures": config.get("architectures") or [],
        "commit": files.commit,
        "files": sorted(files.names),
    }
    if files.commit is None:  # nothing is downloaded to be counted
        weights = open_weights(files)
        found["parameters"] = sum(math.prod(weights.shape(name)) for name in weights)
        found["dtypes"] = sorted({weights.dtype(name) for name in weights})
    return found
