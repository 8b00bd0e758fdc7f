"""The weights of KerasHub's presets: their files, and the variables of ours that take them."""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from hub.convert.kerashub_families import KerasHubFamily
from hub.presets.files import PresetFiles
from hub.weights.reader import shard_names
from hub.weights.storage import AS_IS, FLAT, Storage
from hub.weights.tables import abbreviate
from keraslite.saving import H5Tensors, Pending

WEIGHTS, SHARDS, TASK = "model.weights.h5", "model.weights.json", "task.weights.h5"
FLOATS = ("float32", "bfloat16", "float16")


class KerasHubWeights(Mapping[str, np.ndarray]):
    """The tensors of a preset by their paths, those of its task with `task/` before them.

    To be closed, as a context manager.

    Args:
        source: what `hub.presets.resolve` returned.

    Raises:
        ImportError: h5py is not installed.
        ValueError: a file is damaged or refused, or the index and the shards disagree.
    """

    def __init__(self, source: PresetFiles):
        promised = {} if WEIGHTS in source else _promised(source)
        paths = source.paths(promised).values() if promised else [source.path(WEIGHTS)]
        self._stores = [H5Tensors(paths)]
        try:
            _check_shards(source, promised, self._stores[0].held)
            self._stores += [H5Tensors([source.path(TASK)])] if TASK in source else []
        except BaseException:
            self.__exit__()
            raise
        self._where = {
            ("task/" if i else "") + name: (store, name)
            for i, store in enumerate(self._stores)
            for name in store
        }

    def __getitem__(self, name: str) -> np.ndarray:
        store, inner = self._where[name]
        return store[inner]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it.

        Args:
            name: of the tensor.
        """
        store, inner = self._where[name]
        return store.shape(inner)

    def dtype(self, name: str) -> str:
        """Return the dtype of a tensor, such as "bfloat16".

        Args:
            name: of the tensor.
        """
        store, inner = self._where[name]
        return store.dtype(inner)

    def __enter__(self) -> "KerasHubWeights":
        return self

    def __exit__(self, *error: object) -> None:
        for store in self._stores:
            store.close()


def _promised(source: PresetFiles) -> dict[str, set[str]]:
    """Return shard -> the groups that the index says it holds."""
    index = source.json(SHARDS).get("weight_map")
    groups: dict[str, set[str]] = {}
    for group, shards in index.items() if isinstance(index, dict) else ():
        for shard in shards if isinstance(shards, list) else [shards]:
            (name,) = shard_names(source, SHARDS, {group: shard}, "h5")
            groups.setdefault(name, set()).add("/" + group.strip("/"))
    if not groups:
        raise ValueError(f"{SHARDS} of {source.location} has no weight_map")
    return groups


def _check_shards(source: PresetFiles, promised: Mapping, held: Mapping) -> None:
    for shard, groups in promised.items():
        if groups != held[shard]:
            raise ValueError(
                f"{SHARDS} of {source.location} and {shard} disagree: missing in the shard "
                f"{sorted(groups - held[shard])[:8]}, not in the index "
                f"{sorted(held[shard] - groups)[:8]}"
            )


def left_over(
    plan: Mapping[str, Any], tensors: KerasHubWeights, reasons: Mapping[str, str]
) -> dict[str, str]:
    """Return the tensors that no variable takes, and why.

    Args:
        plan: our path -> the tensors that it takes, None if it has no row.
        tensors: of the preset.
        reasons: patterns of what may be left, and why.

    Raises:
        ValueError: a tensor is missing, or neither taken nor explained; lists both.
    """
    unnamed = [path for path, names in plan.items() if names is None]
    if unnamed:
        raise ValueError(f"The table of KerasHub's names has no row for {unnamed[:8]}.")
    used = [name for names in plan.values() for name in names]
    twice = sorted({name for name in used if used.count(name) > 1})
    missing = [name for name in used if name not in tensors]
    left, unused = {}, []
    for name in tensors.keys() - set(used):
        why = next((why for pattern, why in reasons.items() if re.fullmatch(pattern, name)), None)
        left |= {name: why} if why else {}
        unused += [] if why else [name]
    if missing or unused or twice:
        raise ValueError(
            "The preset and the model do not fit.\n"
            f"  Missing in the preset ({len(missing)}): {abbreviate(missing)}\n"
            f"  Unused in the preset ({len(unused)}): {abbreviate(sorted(unused))}"
            + (f"\n  Used twice: {abbreviate(twice)}" if twice else "")
        )
    return dict(sorted(left.items()))


def fill(
    variable: Any, path: str, names: list[str], tensors: KerasHubWeights,
    theirs: KerasHubFamily, ours: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Assign tensors to a variable, read when it is first used; return the steps in words.

    Args:
        variable: of ours.
        path: its path.
        names: of the tensors, which are joined; of none it is zero.
        tensors: the preset.
        theirs: the architecture.
        ours: the arguments of the backbone.

    Raises:
        ValueError: a tensor has another shape, or holds no floating numbers.
    """
    shape, count = tuple(variable.shape), len(names)
    rows = theirs.leading if "position_embedding" in path and names else 0
    part = [*shape[:-1], shape[-1] // max(count, 1)]
    part[0] -= rows
    part = tuple(part)
    storages = {name: _storage_of(name) for name in names}
    wrong = [
        f"{name} {tensors.shape(name)} for {path} {part}"
        for name, storage in storages.items()
        if not _fits(tensors.shape(name), part, storage, ours)
    ]
    wrong += [
        f"{name} of {tensors.dtype(name)}, expected {' or '.join(FLOATS)}"
        for name in names
        if tensors.dtype(name) not in FLOATS
    ]
    if wrong:
        raise ValueError(f"A tensor has a wrong shape or dtype: {'; '.join(wrong)}.")

    def take() -> np.ndarray:
        arrays = [storage.to_checkpoint(tensors[name]) for name, storage in storages.items()]
        before = [np.zeros((rows, *shape[1:]), arrays[0].dtype)] if rows else []
        return np.concatenate([*before, np.concatenate(arrays, axis=-1)])

    variable.assign(Pending(shape, take) if names else np.zeros(shape, variable.dtype))
    return [
        *([f"{count} joined"] if count > 1 else []),
        *(["heads joined"] if set(storages.values()) - {AS_IS, _POSITIONS} else []),
        *([f"{rows} rows of zeros before it"] if rows else []),
        *(["zeros, which change nothing"] if not names else []),
    ]


def split_weight(
    array: np.ndarray, path: str, names: list[str], theirs: KerasHubFamily,
    ours: Mapping[str, Any],
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yield a weight of ours as the tensors of KerasHub: the inverse of `fill`.

    Args:
        array: the weight.
        path: its path.
        names: of the tensors, as `KerasHubFamily.sources` returns them.
        theirs: the architecture.
        ours: the arguments of the backbone.
    """
    array = array[theirs.leading if "position_embedding" in path else 0 :]
    for name, part in zip(names, np.split(array, len(names), axis=-1), strict=True):
        storage, shape = _storage_of(name), list(part.shape)
        if storage == _POSITIONS:
            shape = shape[1:]
        elif storage != AS_IS:
            axes = storage.pattern.split()
            at, heads = axes.index("heads") if "heads" in axes else 0, ours["num_heads"]
            shape[at : at + 1] = heads, shape[at] // heads
        yield np.ascontiguousarray(storage.from_checkpoint(part, shape))


_POSITIONS = Storage("positions width -> 1 positions width")
# The tensors that have other axes in KerasHub, by name -> the storage that makes them ours: those
# of heads are joined.
_OTHER_AXES = {
    r".*/vi_t_patching_and_embedding/position_embedding/vars/0": _POSITIONS,
    r".*/(query|key|value)_dense/vars/0": Storage("inputs heads size -> inputs (heads size)"),
    r".*/(query|key|value)_dense/vars/1": FLAT,
    r".*/((self|cross)_attention_layer|mha)/output_dense/vars/0": Storage(
        "heads size outputs -> (heads size) outputs"
    ),
}


def _storage_of(name: str) -> Storage:
    return next((s for pattern, s in _OTHER_AXES.items() if re.fullmatch(pattern, name)), AS_IS)


def _fits(
    shape: tuple[int, ...], ours: tuple[int, ...], storage: Storage, config: Mapping[str, Any]
) -> bool:
    """Return whether a tensor, its heads joined, has our shape."""
    if storage in (AS_IS, _POSITIONS):
        return (1,) * (storage == _POSITIONS) + shape == ours
    heads = (config["num_heads"], config["hidden_dim"] // config["num_heads"])
    split = heads in pairwise(shape) and len(shape) == len(ours) + 1
    return split and storage.stored_shape(shape) == ours
