"""Checkpoints that a test makes once for the same arguments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def cached(make: Callable[..., Any], folders: Any) -> Callable[..., tuple[Path, Any]]:
    """Return a function that gives the folder of a checkpoint and the model of its authors.

    Args:
        make: writes a checkpoint, given a folder and further arguments, and returns the model.
        folders: pytest's `tmp_path_factory`.
    """
    checkpoints: dict = {}

    def get(*args: Any, **kwargs: Any) -> tuple[Path, Any]:
        key = repr((args, sorted(kwargs.items())))
        if key not in checkpoints:
            folder = folders.mktemp("checkpoint") / "model"
            checkpoints[key] = folder, make(folder, *args, **kwargs)
        return checkpoints[key]

    return get
