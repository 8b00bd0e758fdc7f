"""The built-in presets: rows of data, one JSON file a family.

A row says where a checkpoint lies and what is known about it. Its `config` and `lowercase` are
defaults: the files of the checkpoint always win. `unverified` names the facts of a row that
nobody has checked against the repository; "safetensors" among them means that the weights may be
there in another format only.
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
        ValueError: there is no such family.

    Example:
        >>> list_presets("bert")["minilm_l6_en"]["parameters"]
        22713216
    """
    families = sorted({row["family"] for row in _rows().values()})
    if family is not None and family not in families:
        raise ValueError(f"unknown family {family!r}; there are: {', '.join(families)}")
    names = [name for name, row in _rows().items() if family in (None, row["family"])]
    return {name: preset_row(name) for name in names}


def preset_row(name: str) -> dict[str, Any]:
    """Return the row of one built-in preset, as a copy that may be changed.

    Args:
        name: such as "bert_base_en".

    Raises:
        ValueError: there is no such preset; lists the names near it.

    Example:
        >>> preset_row("bert_base_en")["repo"]
        'google-bert/bert-base-cased'
    """
    row = find_preset(name)
    if row is None:
        raise unknown_preset(name)
    return row


def find_preset(name: str) -> dict[str, Any] | None:
    """Return what `preset_row` does, or None for a name that is not built in."""
    return copy.deepcopy(_rows().get(name))


def unknown_preset(handle: str) -> ValueError:
    """Return the error for a handle of no supported form."""
    near = difflib.get_close_matches(str(handle).lower(), _rows(), n=4, cutoff=0.5)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return ValueError(f"unknown preset {handle!r}.{meant} A preset is {HANDLE_FORMS}.")
