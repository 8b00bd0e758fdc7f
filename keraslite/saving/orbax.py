"""Checkpoints of orbax: a folder of numbered steps, each with arrays by their paths and a config.

Keras's callback OrbaxCheckpoint has the same layout: `pytree` holds a model's state tree, and
`model_config` the JSON of its config.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from keraslite import tree
from keraslite.layers.base.tracking import variable_paths
from keraslite.registry import serialize_keras_object

_FILES = {"_CHECKPOINT_METADATA", "checkpoint_metadata", "pytree"}  # of a step
_WEIGHTS = ("trainable_variables", "non_trainable_variables")


def import_orbax() -> Any:
    """Return the first version of orbax's API.

    Raises:
        ImportError: orbax is not installed.
    """
    try:
        import orbax.checkpoint.experimental.v1 as api
    except ImportError as error:
        raise ImportError(
            "OrbaxCheckpoint and its checkpoints need the package orbax-checkpoint, which is not "
            "installed: pip install orbax-checkpoint."
        ) from error
    return api


def is_checkpoint(path: Path) -> bool:
    """Return whether a path is a checkpoint of orbax, or a folder of numbered ones.

    >>> is_checkpoint(Path("model.klm"))
    False
    """
    return path.is_dir() and any(
        p.name in _FILES or (p.name.isdigit() and _is_step(p)) for p in path.iterdir()
    )


def _is_step(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in _FILES)


def checkpoint_of(model: Any, weights_only: bool) -> dict[str, Any]:
    """Return what is saved of a model: copies of its variables as numpy arrays, and its config.

    Args:
        model: a built model.
        weights_only: whether its weights are all.
    """
    state = model.get_state_tree("numpy_array")
    if weights_only:
        state = {k: state[k] for k in _WEIGHTS}
    parts: dict[str, Any] = {"pytree": _without_empty(state)}
    if not weights_only:
        paths = {name: v.path for name, v in variable_paths(model)}
        config = serialize_keras_object(model) | {"variable_paths": paths}
        try:
            config["compile_config"] = model.get_compile_config()
            text = json.dumps(config)
        except TypeError:  # functions that have no config
            text = json.dumps(config | {"compile_config": None})
        parts["model_config"] = {"config": text}
    return parts


def _without_empty(state: dict[str, Any]) -> dict[str, Any]:
    """Return a tree without arrays that have no elements, which orbax does not write."""
    return {
        k: _without_empty(v) if isinstance(v, dict) else np.array(v)
        for k, v in state.items()
        if isinstance(v, dict) or np.size(v)
    }


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the parts of a checkpoint: `pytree` as numpy arrays, and `model_config` if it has one.

    Args:
        path: the folder of a step, or that of all steps, of which the last is read.

    Raises:
        ValueError: no step is complete.
    """
    api = import_orbax()
    path = path.absolute()
    if not _is_step(path):
        steps = sorted(int(p.name) for p in path.iterdir() if p.name.isdigit() and _is_step(p))
        if not steps:
            raise ValueError(f"{path} has no checkpoint that is complete.")
        path = path / str(steps[-1])
    known = api.checkpointables_metadata(path).metadata
    wanted = {"pytree": _as_arrays(known["pytree"])}
    if "model_config" in known:
        wanted["model_config"] = None
    parts = dict(api.load_checkpointables(path, wanted))
    parts["pytree"] = tree.map_structure(np.asarray, parts["pytree"])
    return parts


def _as_arrays(metadata: Any) -> Any:
    """Return arrays in the place of what metadata describe, so that orbax reads such."""
    if isinstance(metadata, dict):
        return {k: _as_arrays(v) for k, v in metadata.items()}
    return np.empty(metadata.shape, metadata.dtype) if hasattr(metadata, "shape") else metadata


def restore_paths(model: Any, state: dict[str, Any], paths: dict[str, str] | None) -> None:
    """Give the variables of a model that was made from its config the paths that they had.

    The layers of such a model are built before the model around them, so that their paths lack its
    name.

    Args:
        model: the model.
        state: the tree of the checkpoint.
        paths: the path by the place of a variable in the model; those of the checkpoint that end
            as a variable's own count where there are none.
    """
    saved = {p for group in _WEIGHTS for p in _paths(state.get(group, {}))}
    for name, variable in variable_paths(model):
        ends = [p for p in saved if p == variable.path or p.endswith(f"/{variable.path}")]
        found = ends[0] if len(ends) == 1 else variable.path
        variable.path = (paths or {}).get(name, found)


def assign_checkpoint(model: Any, state: dict[str, Any], where: Any) -> None:
    """Assign the state tree of a checkpoint to a model's variables, all or none.

    Args:
        model: a built model.
        state: the tree.
        where: the name of the checkpoint in errors.

    Raises:
        ValueError: a weight is missing, has no place, or has another shape.
    """
    own = model.get_state_tree()
    missing = []
    for group in _WEIGHTS:
        saved = set(_paths(state.get(group, {})))
        empty = {p for p, x in _leaves(own[group]) if not np.size(x)}
        missing += [p for p in _paths(own[group]) if p not in saved | empty and not _is_random(p)]
    if missing:
        raise ValueError(f"{where} does not fit the model. It lacks: {', '.join(missing)}.")
    # The random states of Keras's checkpoints have other paths.
    known = set(_paths(own["non_trainable_variables"]))
    others = state.get("non_trainable_variables", {})
    kept = _kept(others, lambda p: p in known or not _is_random(p))
    model.set_state_tree(state | {"non_trainable_variables": kept})


def _is_random(path: str) -> bool:
    return path.endswith("seed_generator_state")


def _leaves(state: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("/".join(map(str, names)), x) for names, x in tree.flatten_with_path(state)]


def _paths(state: dict[str, Any]) -> list[str]:
    return [path for path, _ in _leaves(state)]


def _kept(state: dict[str, Any], wanted: Any, before: str = "") -> dict[str, Any]:
    """Return a tree with those of its leaves whose paths are wanted."""
    return {
        k: _kept(v, wanted, f"{before}{k}/") if isinstance(v, dict) else v
        for k, v in state.items()
        if isinstance(v, dict) or wanted(before + k)
    }
