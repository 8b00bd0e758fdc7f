"""The weights of Keras's files: numbered arrays in a group `vars` for each object of a model.

`keras_layout` says which group an object has. Arrays are read and written one at a time.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.saving.archive import WEIGHTS, bad_model
from keraslite.saving.atomic import finish_replacing, replacing, replacing_folder
from keraslite.saving.h5_files import H5Tensors, import_h5py
from keraslite.saving.h5_writing import write_array
from keraslite.saving.keras_archive import H5_WEIGHTS, NPZ_WEIGHTS, KerasMembers
from keraslite.saving.keras_layout import saved_objects
from keraslite.saving.legacy_h5 import warn_of_skipped
from keraslite.saving.npz_weights import NpzTensors
from keraslite.variable import Pending

_VARS = "vars"
_OLD_LAYERS = "_layer_checkpoint_dependencies"  # of the first files of version 3
_MOST_JSON = 256 * 2**20
_SHARD = re.compile(r"\w[\w .-]*\.weights\.h5", re.ASCII)
_GIGABYTE = 2**30


class _Group(Mapping[str, Any]):
    """The arrays of one object, each read when it is asked for.

    Args:
        tensors: the arrays of all objects.
        names: those of this object, by their names in it.
    """

    def __init__(self, tensors: Any, names: dict[str, str]) -> None:
        self._tensors, self._names = tensors, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def pending(self, name: str) -> Pending:
        """Return an array as a value whose memory a variable takes over without a copy."""
        return Pending.of(self[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array without reading it."""
        return tuple(self._tensors.shape(self._names[name]))

    def is_step_count(self) -> bool:
        """Return whether the arrays are those of an optimizer, which begin with a step count."""
        return (
            "0" in self and not self.shape("0") and "int" in self._tensors.dtype(self._names["0"])
        )


def _groups(tensors: Any) -> dict[str, _Group]:
    """Return the arrays of a file by the paths of their objects."""
    groups: dict[str, dict[str, str]] = {}
    old = any(name.startswith(f"{_OLD_LAYERS}/") for name in tensors)
    for name in tensors:
        *path, last = name.split("/")
        if path and path[-1] == _VARS:
            where = "/".join(path[:-1])
            where = where.replace(_OLD_LAYERS, "layers") if old else where
            groups.setdefault(where, {})[last] = name
    return {path: _Group(tensors, names) for path, names in groups.items()}


def load_state(
    model: Any,
    tensors: Any,
    where: Any,
    skip_mismatch: bool = False,
    skip: Iterable[Any] = (),
) -> None:
    """Assign the arrays of a file of Keras to the objects of a model: all, or none.

    The state of optimizers that the model has not, or that are not built, is left out.

    Args:
        model: a built model.
        tensors: the arrays by their paths, with `shape` and `dtype`.
        where: the name of the file in errors.
        skip_mismatch: whether objects that do not fit are left as they are, with a warning.
        skip: objects that are left as they are, with all inside them.

    Raises:
        ValueError: lists what the file lacks, what the model has no place for, and other shapes.
    """
    groups = _groups(tensors)
    problems: list[str] = []
    plan: list[tuple[str, Any, _Group]] = []
    for path, item in saved_objects(model, skip):
        group = groups.pop(path, None) or _Group(tensors, {})
        if _is_optimizer(item) and not (item.built and len(group) > 2):
            continue  # it was saved, or is, without the state of a step
        wrong = _misfits(item, group)
        if wrong:
            problems += [f"{path or 'the model itself'}: {text}" for text in wrong]
        else:
            plan.append((path, item, group))
    for path, _ in saved_objects(model) if skip else ():
        groups.pop(path, None)
    unused = [path or "the root" for path, g in groups.items() if not g.is_step_count()]
    if unused:
        problems.append(f"The model has no place for: {', '.join(unused)}.")
    if problems and not skip_mismatch:
        lines = "\n".join(problems[:200])
        raise ValueError(f"{where} does not fit the model; nothing was loaded.\n{lines}")
    for path, item, group in plan:
        try:
            item.load_own_variables(group)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where} does not fit the model: {type(item).__name__} at {path!r} cannot take "
                f"what is there, {list(group)} ({error!r:.200})."
            ) from error
    if problems:
        warn_of_skipped(Path(where), problems, 6)


def _is_optimizer(item: Any) -> bool:
    return hasattr(item, "step_count") or hasattr(item, "inner_optimizer")


def _misfits(item: Any, group: _Group) -> list[str]:
    """Return in which way the arrays of a file are not those of an object."""
    if _is_optimizer(item) or not counts_variables(item):
        return []
    variables = item.saved_variables()
    if len(variables) != len(group):
        names = [v.name for v in variables]
        return [f"{item.name!r} has the {len(names)} variables {names}, the file {len(group)}."]
    wrong = []
    for i, variable in enumerate(variables):
        if str(i) not in group:
            return [f"the file lacks variable {i} ({variable.name})."]
        shape = group.shape(str(i))
        if shape != tuple(variable.shape):
            wrong.append(
                f"{variable.name}: the model's shape is {variable.shape}, the file's {shape}."
            )
    return wrong


def counts_variables(item: Any) -> bool:
    """Return whether an object keeps its variables by number, as the package's own layers do.

    Args:
        item: a layer or another object.
    """
    load = type(item).load_own_variables
    return hasattr(item, "saved_variables") and load.__module__.startswith("keraslite.layers.base.")


# -- writing --------------------------------------------------------------------------------------


class _Store:
    """Takes the arrays of one object, and writes each at once.

    Args:
        group: gives the group of HDF5 for an array's size in bytes.
    """

    def __init__(self, group: Any) -> None:
        self._group = group

    def __setitem__(self, name: str, value: Any) -> None:
        array = np.asarray(backends.to_numpy(getattr(value, "value", value)))
        write_array(self._group(array.nbytes), name, array)


def write_state(model: Any, file: Any, skip: Iterable[Any] = ()) -> None:
    """Write the variables of a model into an HDF5 file as Keras does.

    Args:
        model: a built model.
        file: a file that is open for writing and reading, or a path.
        skip: objects that are left out, with all inside them.
    """
    with import_h5py().File(file, "w") as h5:
        for path, item in saved_objects(model, skip):
            group = h5.require_group(f"{path}/{_VARS}")
            group.attrs["name"] = str(getattr(item, "name", ""))
            item.save_own_variables(_Store(lambda _, group=group: group))


def save_weights_h5(
    model: Any, path: Path, max_shard_size: float | None = None, skip: Iterable[Any] = ()
) -> None:
    """Save the variables of a model as Keras's `.weights.h5`, or as shards behind `.weights.json`.

    Args:
        model: a built model.
        path: the file.
        max_shard_size: the largest size of a shard in GB (of 2**30 bytes).
        skip: objects that are left out.

    Raises:
        ValueError: an array is larger than a shard.
    """
    if max_shard_size is None:
        with replacing(path) as file:
            write_state(model, file, skip)
        return
    stem = path.name.removesuffix(".weights.json")
    with replacing_folder(path.parent) as folder:
        shards = _Shards(folder, stem, max_shard_size * _GIGABYTE)
        try:
            for where, item in saved_objects(model, skip):
                full = f"{where}/{_VARS}" if where else _VARS
                item.save_own_variables(_Store(lambda size, full=full: shards.group(full, size)))
        finally:
            shards.close()
        index = {"metadata": {"total_size": shards.total}, "weight_map": shards.weight_map}
        (folder / path.name).write_text(json.dumps(index, indent=4))
    pattern = re.compile(re.escape(stem) + r"_\d{5}\.weights\.h5")
    for old in path.parent.iterdir():  # those of an earlier save, which had another number
        if pattern.fullmatch(old.name) and old.name not in shards.names:
            old.unlink(missing_ok=True)


class _Shards:
    """HDF5 files of a limited size, one after the other."""

    def __init__(self, folder: Path, stem: str, limit: float) -> None:
        if not limit > 0:
            raise ValueError(f"max_shard_size must be a positive number of GB, got {limit!r}.")
        self._folder, self._stem, self._limit = folder, stem, limit
        self._room, self.total = limit, 0
        self.names: list[str] = []
        self.weight_map: dict[str, Any] = {}
        self._next()

    def _next(self) -> None:
        if self.names:
            self.close()
        self.names.append(f"{self._stem}_{len(self.names):05}.weights.h5")
        self._file = import_h5py().File(self._folder / self.names[-1], "w")
        self._room = self._limit

    def group(self, path: str, size: int) -> Any:
        """Return the group of an object in a file with room for an array."""
        if size > self._limit:
            raise ValueError(
                f"An array of {path} has {size / _GIGABYTE:.3g} GB, more than a shard of "
                f"max_shard_size={self._limit / _GIGABYTE:.3g}: give a larger max_shard_size."
            )
        if size > self._room:
            self._next()
        self._room, self.total = self._room - size, self.total + size
        known = self.weight_map.setdefault(f"/{path}", self.names[-1])
        known = [known] if isinstance(known, str) else known
        if self.names[-1] not in known:
            self.weight_map[f"/{path}"] = [*known, self.names[-1]]
        return self._file.require_group(path)

    def close(self) -> None:
        """Close the file that is written."""
        self._file.close()


# -- reading --------------------------------------------------------------------------------------


@contextmanager
def open_member(members: KerasMembers) -> Iterator[H5Tensors | NpzTensors | None]:
    """Give the weights of a model as Keras keeps them, for the time of a `with` statement.

    Args:
        members: of the model; None is given where its weights are safetensors.

    Raises:
        ValueError: they are damaged, or there are none.
    """
    path = members.path
    if H5_WEIGHTS in members:
        source = (str(path), members.open(H5_WEIGHTS), members.size(H5_WEIGHTS))
        with source[1], H5Tensors([], True, source) as tensors:
            yield tensors
    elif NPZ_WEIGHTS in members:
        with members.open(NPZ_WEIGHTS) as file:
            arrays = NpzTensors(path, file, members.size(NPZ_WEIGHTS))
        yield arrays
    elif WEIGHTS in members:
        yield None
    else:
        raise bad_model(path, f"it has neither {H5_WEIGHTS} nor {WEIGHTS}")


def open_h5_weights(path: Path) -> H5Tensors:
    """Open a `.weights.h5` of Keras, or the shards that a `.weights.json` lists.

    Args:
        path: the file.

    Raises:
        ValueError: a file is damaged, or the index and the files disagree.
    """
    if not path.name.endswith(".json"):
        return H5Tensors([path], exact=True)
    finish_replacing(path.parent)
    return H5Tensors([path.with_name(name) for name in shard_names(path)], exact=True)


def is_h5_index(path: Path) -> bool:
    """Return whether a path is an index of shards of Keras.

    Args:
        path: a file.
    """
    return path.name.endswith(".weights.json") and bool(shard_names(path))


def shard_names(path: Path) -> list[str]:
    """Return the names of the HDF5 files that an index lists; none if it lists safetensors.

    Args:
        path: the index.

    Raises:
        ValueError: it is none, or names anything but files beside it.
    """
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("it is too large")
        values = list(json.loads(path.read_text())["weight_map"].values())
        names = sorted({n for v in values for n in ([v] if isinstance(v, str) else v)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no index of shards ({error!r:.100}).") from error
    if any(isinstance(name, str) and name.endswith(".safetensors") for name in names):
        return []
    for name in names:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise ValueError(
                f"{path} names {name!r:.60}, expected the name of a .weights.h5 file beside it."
            )
    return names
