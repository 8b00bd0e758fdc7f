"""The built-in presets: rows of data, one JSON file a family.

A row holds the repository of a checkpoint and facts about it. Its `config` and `lowercase` are
defaults: the files of the checkpoint take precedence. `file` names the weights in a repository that
has several models; its other files are left alone then. `unverified` lists the facts of a row that
were not checked against the repository; "safetensors" among them means that the weights may be
available in another format only.
"""

import copy
import difflib
import functools
import json
from importlib import resources
from typing import Any

HANDLE_FORMS = (
    'a built-in name (hub.list_presets() has them all), "org/repo", '
    '"hf://org/repo@revision/subfolder" or a local folder ("./folder")'
)


@functools.cache
def _rows() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    folder = resources.files(__package__).joinpath("rows")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            rows |= json.loads(file.read_text(encoding="utf-8"))
    return rows


def list_presets(family: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows of the built-in presets by name.

    Args:
        family: only those of one family, such as "bert".

    Raises:
        ValueError: the family is unknown.

    Example:
        >>> list_presets("bert")["minilm_l6_en"]["parameters"]
        22713216
    """
    families = sorted({row["family"] for row in _rows().values()})
    if family is not None and family not in families:
        raise ValueError(f"family must be one of {', '.join(families)}, got {family!r}")
    names = [name for name, row in _rows().items() if family in (None, row["family"])]
    return {name: preset_row(name) for name in names}


def preset_row(name: str) -> dict[str, Any]:
    """Return the row of one built-in preset, as a copy that may be changed.

    Args:
        name: such as "bert_base_en".

    Raises:
        ValueError: the preset is unknown; lists similar names.

    Example:
        >>> preset_row("bert_base_en")["repo"]
        'google-bert/bert-base-cased'
    """
    row = find_preset(name)
    if row is None:
        raise unknown_preset(name)
    return row


def find_preset(name: str) -> dict[str, Any] | None:
    """Return the row of a built-in preset as `preset_row` does, or None for an unknown name."""
    return copy.deepcopy(_rows().get(name))


def unknown_preset(handle: str) -> ValueError:
    """Return the error for a handle of no supported form."""
    similar = difflib.get_close_matches(str(handle).lower(), _rows(), n=4, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    return ValueError(f"unknown preset {handle!r}.{hint} A preset must be {HANDLE_FORMS}.")
