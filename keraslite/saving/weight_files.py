"""Weights as safetensors: one file, or shards behind an index, strictly assigned."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.layers.base.tracking import variable_paths
from keraslite.saving.archive import VERSION, WEIGHTS, open_model, unknown_version
from keraslite.saving.atomic import finish_replacing, replacing_folder
from keraslite.saving.keras_archive import OWN, KerasMembers, is_keras_file, open_keras
from keraslite.saving.keras_weights import (
    is_h5_index,
    load_state,
    open_h5_weights,
    open_member,
    save_weights_h5,
)
from keraslite.saving.legacy_h5 import is_legacy_h5, load_legacy_weights, warn_of_skipped
from keraslite.saving.orbax import assign_checkpoint, is_checkpoint, read_checkpoint
from keraslite.saving.paths_v1 import weights_v1
from keraslite.saving.safetensors import open_safetensors, save_safetensors
from keraslite.saving.tensorflow_files import is_tensorflow_checkpoint, load_tensorflow_checkpoint
from keraslite.variable import Pending, Variable

WEIGHTS_METADATA = {"format": "keraslite", "version": str(VERSION)}  # of files of weights
_INDEX_ENDINGS = (".safetensors.index.json", ".weights.json")  # transformers', and Keras's
H5_ENDING = ".weights.h5"  # of Keras's files of weights
WEIGHT_ENDINGS = (".safetensors", H5_ENDING, *_INDEX_ENDINGS)
_GIGABYTE = 2**30


def _check_built(model: Any) -> None:
    if not model.built:
        raise ValueError(
            f"{type(model).__name__} {model.name!r} is not built yet, so it has no weights: call "
            "it on data, or build(input_shape) it, first."
        )


def weights_of(model: Any, version: int = VERSION) -> dict[str, Variable]:
    """Return the weights and random states of a model or layer, by their paths below it.

    Args:
        model: a built model or layer.
        version: the version of the format whose paths are wanted.

    Raises:
        ValueError: the model is not built.
    """
    _check_built(model)
    if version == 1:
        return weights_v1(model)
    return dict(variable_paths(model))


def optimizer_state(model: Any) -> dict[str, Variable]:
    """Return the variables of a model's optimizers, by number."""
    optimizers = model.all_optimizers() if hasattr(model, "all_optimizers") else []
    return {
        f"{i}/{j:04d}": variable
        for i, optimizer in enumerate(optimizers)
        for j, variable in enumerate(optimizer.variables)
    }


def assign_strictly(
    variables: Mapping[str, Variable],
    tensors: Any,
    names: Iterable[str] | None = None,
    where: Any = None,
    skip_mismatch: bool = False,
) -> None:
    """Assign the tensors of a file to the variables of their names, all or none, read on first use.

    Args:
        variables: the variables by name.
        tensors: a `SafetensorsFile`, or `Shards`.
        names: the tensors that must be used; all of the file's by default.
        where: the name of the file in errors; its path by default.
        skip_mismatch: whether variables that do not fit are left as they are, with a warning.

    Raises:
        ValueError: lists every missing, unused and mis-shaped tensor.
    """
    names = list(tensors if names is None else names)
    in_file = set(names)
    missing = [n for n in variables if n not in in_file]
    unused = [n for n in names if n not in variables]
    shapes = {n: (v.shape, tensors.shape(n)) for n, v in variables.items() if n in in_file}
    wrong = {n: pair for n, pair in shapes.items() if pair[0] != pair[1]}
    problems = _misfits(missing, unused, wrong)
    where = where or tensors.path
    if problems and not skip_mismatch:
        lines = "\n".join(problems)
        raise ValueError(f"{where} does not fit the model; nothing was loaded.\n{lines}")
    for name, variable in variables.items():
        if name in in_file and name not in wrong:
            take, done = partial(tensors.__getitem__, name), partial(tensors.release, name)
            variable.assign(Pending(tensors.shape(name), take, done))
    if problems:
        warn_of_skipped(Path(where), problems)


def _misfits(missing: list, unused: list, wrong: dict) -> list[str]:
    """Return in words how the tensors of a file are not those of a model; long names are cut."""
    lines = []
    if missing:
        lines.append(f"The file lacks: {', '.join(f'{n:.200}' for n in missing)}.")
    if unused:
        lines.append(f"The model has no place for: {', '.join(f'{n:.200}' for n in unused)}.")
    for name, (expected, got) in wrong.items():
        lines.append(f"{name:.200}: the model's shape is {expected}, the file's {got}.")
    return lines


def check_filename(path: Any, extension: str) -> None:
    """Refuse the endings of Keras's older formats, which these files are not.

    Args:
        path: the file name.
        extension: what to use in their place.
    """
    name = os.fspath(path)
    lower = str(name).lower()
    if lower.endswith((".h5", ".hdf5")) and not lower.endswith(H5_ENDING):
        raise ValueError(
            f"{name!r} has the ending of Keras 2's files, whose format is another one: "
            f"use a name that ends with {extension!r}."
        )


def check_ending(path: Any, endings: tuple[str, ...]) -> None:
    """Refuse to save under a name that does not say what is in the file.

    Args:
        path: the file name.
        endings: those that it may have, the usual one first.
    """
    if not str(os.fspath(path)).endswith(endings):
        check_filename(path, endings[0])
        raise ValueError(
            f"The name of the file must end with {' or '.join(endings)}, got {os.fspath(path)!r}."
        )


def target(filepath: Any, overwrite: bool, endings: tuple[str, ...]) -> Path:
    """Return the path of a file to write; refuse folders, and what must not be overwritten.

    Args:
        filepath: the file name.
        overwrite: whether an existing file is replaced.
        endings: those that the name may have.
    """
    path = Path(filepath)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file.")
    check_ending(filepath, endings)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it.")
    return path


def _weights_version(tensors: Any) -> int:
    """Return the version of a file of weights; one that is not ours is taken for the newest."""
    if tensors.metadata.get("format") != WEIGHTS_METADATA["format"]:
        return VERSION
    version = tensors.metadata.get("version", "1")
    if version not in map(str, range(1, VERSION + 1)):
        raise unknown_version(tensors.path, version)
    return int(version)


def save_weights(
    model: Any, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None,
    objects_to_skip: Iterable[Any] | None = None,
) -> None:  # fmt: skip
    """Save the weights of a model or layer: as Keras does, or with random states as safetensors.

    Args:
        model: the model.
        filepath: the file, which ends with `.safetensors`, or with `.weights.h5` for one that Keras
            opens and that holds the optimizer's state too; of shards the index, which ends with
            `.safetensors.index.json`, or with Keras's `.weights.json`.
        overwrite: whether an existing file is replaced.
        max_shard_size: the largest size of a file in GB (of 2**30 bytes); the weights are then
            in several files beside the index. None for one file.
        objects_to_skip: layers and variables that are left out, with all that is inside them.

    Raises:
        ValueError: the ending of the name is wrong, or a tensor is larger than a shard.

    Example:
        >>> import tempfile
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(model, f"{folder}/w.safetensors")
        ...     sorted(open_safetensors(f"{folder}/w.safetensors"))
        ['dense/bias', 'dense/kernel']
    """
    path = target(filepath, overwrite, WEIGHT_ENDINGS)
    if path.name.endswith((H5_ENDING, _INDEX_ENDINGS[1])):
        _check_built(model)
        if path.name.endswith(H5_ENDING) != (max_shard_size is None):
            wanted = _INDEX_ENDINGS[1] if max_shard_size else H5_ENDING
            raise ValueError(
                f"max_shard_size={max_shard_size} needs a name that ends with {wanted}, got "
                f"{path.name!r}."
            )
        return save_weights_h5(model, path, max_shard_size, objects_to_skip or ())
    variables = _split(weights_of(model), objects_to_skip)[0]
    if max_shard_size is not None:
        _save_shards(path, variables, max_shard_size)
    elif path.name.endswith(_INDEX_ENDINGS):
        raise ValueError(f"{path} is the name of an index of shards: give max_shard_size.")
    else:
        save_safetensors(path, variables, WEIGHTS_METADATA)


def load_weights(
    model: Any, filepath: Any, skip_mismatch: bool = False,
    objects_to_skip: Iterable[Any] | None = None, by_name: bool = False,
) -> None:  # fmt: skip
    """Load weights saved by `save_weights`, `save_model` or Keras; every tensor must be used.

    Args:
        model: a built model of the same structure.
        filepath: the file, the index of shards, the folder of a model, a checkpoint of orbax, a
            `.h5` file of Keras 2, or the prefix of a checkpoint of tf.keras or the folder of its
            SavedModel. Keras's files and checkpoints of orbax set the state of a built optimizer
            too.
        skip_mismatch: whether weights that do not fit are left as they are, with a warning.
        objects_to_skip: layers and variables that are left as they are.
        by_name: whether the layers of a `.h5` file are matched by their names, and others left as
            they are.

    Raises:
        ValueError: lists what is missing, unused or of another shape; nothing was loaded then.
    """
    path = Path(filepath)
    if is_legacy_h5(path):
        _check_built(model)
        if objects_to_skip:
            raise ValueError(f"objects_to_skip is not for .h5 files of Keras 2, got {path}.")
        return load_legacy_weights(model, path, by_name, skip_mismatch)
    if by_name:
        raise ValueError(f"by_name=True is for the .h5 files that Keras 2 writes, got {path}.")
    check_filename(path, ".safetensors")
    _check_built(model)
    if is_tensorflow_checkpoint(path):
        return load_tensorflow_checkpoint(model, path, skip_mismatch)
    if is_checkpoint(path):
        if skip_mismatch or objects_to_skip:
            raise ValueError(
                f"A checkpoint of orbax is loaded as a whole, got {path}: skip nothing."
            )
        return assign_checkpoint(model, read_checkpoint(path)["pytree"], path)
    if is_keras_file(path) or _is_h5(path):
        return _load_keras(model, path, skip_mismatch, objects_to_skip or ())
    tensors, version = open_weights(path)
    variables, skipped = _split(weights_of(model, version), objects_to_skip)
    names = [name for name in tensors if name not in skipped]
    assign_strictly(variables, tensors, names, path, skip_mismatch)


def _is_h5(path: Path) -> bool:
    return path.name.lower().endswith(H5_ENDING) or is_h5_index(path)


def _load_keras(model: Any, path: Path, skip_mismatch: bool, skip: Iterable[Any]) -> None:
    """Load the weights of a file of Keras's formats."""
    if _is_h5(path):
        with open_h5_weights(path) as tensors:
            return load_state(model, tensors, path, skip_mismatch, skip)
    with open_keras(path) as members, open_member(members) as tensors:
        if tensors is not None:
            load_state(model, tensors, path, skip_mismatch, skip)
            return assign_own(_split(weights_of(model), skip)[0], members)
        mapped = open_safetensors(*members.spans[WEIGHTS])
        variables, skipped = _split(weights_of(model), skip)
        names = [name for name in mapped if name not in skipped]
        assign_strictly(variables, mapped, names, path, skip_mismatch)


def assign_own(weights: dict[str, Variable], members: KerasMembers) -> None:
    """Assign what a file of Keras's format holds for keraslite alone, where all of it fits.

    A model without the low-rank updates in it takes the random states.

    Args:
        weights: the weights and random states of a model, by their paths.
        members: the file.
    """
    if OWN not in members:
        return
    tensors = open_safetensors(*members.spans[OWN])
    fits = {n for n in tensors if n in weights and weights[n].shape == tensors.shape(n)}
    if fits != set(tensors):
        fits = {n for n in fits if n.endswith("seed_generator_state")}
    assign_strictly({n: weights[n] for n in fits}, tensors, fits, members.path)


def open_weights(path: Path) -> tuple[Any, int]:
    """Return the tensors of any file of weights, and the version of its paths.

    Args:
        path: a file of safetensors, an index of shards, or a saved model.
    """
    if path.name.endswith(_INDEX_ENDINGS):
        tensors: Any = Shards(path)
    elif path.is_dir() or _is_archive(path):
        members = open_model(path)
        return members.tensors(WEIGHTS), members.version()
    else:
        tensors = open_safetensors(path)
    return tensors, _weights_version(tensors)


def _is_archive(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _split(
    variables: dict[str, Variable], objects_to_skip: Iterable[Any] | None
) -> tuple[dict[str, Variable], dict[str, Variable]]:
    """Return the variables that are not inside some objects, and those that are."""
    skipped = {
        id(v)
        for item in objects_to_skip or ()
        for v in ([item] if isinstance(item, Variable) else item.variables)
    }
    parts: tuple[dict, dict] = {}, {}
    for name, variable in variables.items():
        parts[id(variable) in skipped][name] = variable
    return parts


# -- shards ---------------------------------------------------------------------------------------


class Shards(Mapping[str, np.ndarray]):
    """The tensors of several safetensors files, which an index lists, as transformers writes it.

    Args:
        path: the index; the files lie beside it.

    Raises:
        FileNotFoundError: the index or a file is missing.
        ValueError: a file is damaged, or the index and the files disagree.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        finish_replacing(path.parent)
        index = _read_index(path)
        self.metadata = dict(index.get("metadata") or {})
        weight_map = index["weight_map"]
        shards = [open_safetensors(path.with_name(n)) for n in sorted(set(weight_map.values()))]
        self._places = {tensor: shard for shard in shards for tensor in shard}
        differing = {(t, s.path.name) for s in shards for t in s} ^ set(weight_map.items())
        if differing:
            raise ValueError(f"{path} and its files disagree about {sorted(differing)!r:.200}.")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._places[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._places[name].shape(name)

    def release(self, name: str) -> None:
        """Give the memory of a tensor back to the system, once its values were copied."""
        self._places[name].release(name)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text())
        shards = list(index["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no index of shards ({error!r:.100}).") from error
    for shard in shards:
        if not isinstance(shard, str) or not re.fullmatch(r"\w[\w.-]*\.safetensors", shard):
            raise ValueError(
                f"{path} names {shard!r:.60}, expected the name of a .safetensors file beside it."
            )
    return index


def _save_shards(path: Path, variables: dict[str, Variable], max_shard_size: float) -> None:
    if not path.name.endswith(_INDEX_ENDINGS):
        raise ValueError(
            f"With max_shard_size the file is an index, whose name must end with "
            f"{' or '.join(_INDEX_ENDINGS)}, got {path.name!r}."
        )
    sizes = {n: math.prod(v.shape) * np.dtype(v.dtype).itemsize for n, v in variables.items()}
    shards = _shards(sizes, max_shard_size)
    stem = path.name.removesuffix(_INDEX_ENDINGS[0]).removesuffix(".json")
    names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    index = {
        "metadata": {"total_size": sum(sizes.values()), **WEIGHTS_METADATA},
        "weight_map": {t: name for name, shard in zip(names, shards, strict=True) for t in shard},
    }
    with replacing_folder(path.parent) as folder:
        for name, shard in zip(names, shards, strict=True):
            tensors = {tensor: variables[tensor] for tensor in shard}
            save_safetensors(folder / name, tensors, WEIGHTS_METADATA)
        (folder / path.name).write_text(json.dumps(index, indent=2))
    pattern = re.compile(re.escape(stem) + r"-\d{5}-of-\d{5}\.safetensors")
    for file in path.parent.iterdir():  # those of an earlier save, which had another number
        if pattern.fullmatch(file.name) and file.name not in names:
            file.unlink(missing_ok=True)


def _shards(sizes: dict[str, int], max_shard_size: float) -> list[list[str]]:
    """Return the names of tensors in groups that are not larger than a shard."""
    if not max_shard_size > 0:
        raise ValueError(f"max_shard_size must be a positive number of GB, got {max_shard_size!r}.")
    room = limit = max_shard_size * _GIGABYTE
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if size > limit:
            raise ValueError(
                f"{name} has {size / _GIGABYTE:.3g} GB, more than a shard of max_shard_size="
                f"{max_shard_size}: give a larger max_shard_size."
            )
        if size > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards
