"""KerasFileEditor: show, compare and edit the weights of a file."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keraslite.saving.archive import CONFIG, METADATA, VERSION, WEIGHTS, open_model
from keraslite.saving.atomic import replacing_folder
from keraslite.saving.h5_files import H5Tensors
from keraslite.saving.h5_writing import write_h5
from keraslite.saving.keras_archive import is_keras_file, open_keras
from keraslite.saving.keras_layout import layout_of
from keraslite.saving.keras_weights import is_h5_index, open_h5_weights, open_member
from keraslite.saving.npz_weights import NpzTensors
from keraslite.saving.safetensors import open_safetensors, save_safetensors
from keraslite.saving.weight_files import WEIGHT_ENDINGS, WEIGHTS_METADATA, open_weights, weights_of

_KERAS_ENDINGS = (".keras", ".weights.h5")
_OUR_ENDINGS = (".klm", *WEIGHT_ENDINGS)


class KerasFileEditor:
    """Shows, compares and edits the weights of a file, of Keras or of keraslite.

    Weights stand in nested dicts, by the names of the objects that hold them: in Keras's files
    `layers/dense/0`, in ours `dense/kernel`.

    Args:
        filepath: a file that ends with `.keras` or `.weights.h5`, which needs h5py, or with
            `.klm`, `.safetensors` or what an index of shards ends with.

    Attributes:
        weights_dict: the weights, as nested dicts of arrays.
        config: the config in the file of a model; else None.
        metadata: its metadata; else None.
        object_metadata: what a file of Keras tells of objects by path, such as their names.

    Raises:
        ValueError: the name has another ending, or the file is damaged.
        ImportError: h5py is not installed.

    >>> import tempfile
    >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_weights(f"{folder}/w.safetensors")
    ...     editor = KerasFileEditor(f"{folder}/w.safetensors")  # doctest: +ELLIPSIS
    Weights of '...w.safetensors'
    >>> editor.rename_object("dense", "head")
    >>> editor.summary()
    Weights structure
    └─ head
       ├─ bias: shape=(1,), dtype=float32
       └─ kernel: shape=(2, 1), dtype=float32
    """

    def __init__(self, filepath: Any):
        self.filepath = os.fspath(filepath)
        self.metadata: Any = None
        self.config: Any = None
        self.model: Any = None
        self.object_metadata: dict[str, dict[str, str]] = {}
        self._version = 0  # of the paths in our own files; 0 for a file of Keras
        path = Path(self.filepath)
        if self.filepath.endswith(".keras") or (path.is_dir() and is_keras_file(path)):
            self._open_keras(path)
        elif self.filepath.endswith(".weights.h5") or is_h5_index(path):
            with open_h5_weights(path) as tensors:
                self._take(tensors)
        elif self.filepath.endswith(_OUR_ENDINGS) or path.is_dir():
            self._open_own(path)
        else:
            raise ValueError(
                f"The name of the file must end with one of {', '.join(_KERAS_ENDINGS)}, "
                f"{', '.join(_OUR_ENDINGS)}, got {self.filepath!r}."
            )
        print(f"Weights of '{self.filepath}'")
        if self.metadata and "keras_version" in self.metadata:
            version, date = (self.metadata.get(k) for k in ("keras_version", "date_saved"))
            print(f"Saved with Keras {version} - date: {date}")

    # -- reading ------------------------------------------------------------------------------

    def _open_keras(self, path: Path) -> None:
        with open_keras(path) as members, open_member(members) as tensors:
            self.config, self.metadata = members.json(CONFIG), members.json(METADATA)
            if tensors is not None:
                self._take(tensors)
            else:
                mapped = open_safetensors(*members.spans[WEIGHTS])
                self._version = VERSION
                self.weights_dict = _nested({name: mapped[name] for name in mapped})

    def _take(self, tensors: H5Tensors | NpzTensors) -> None:
        arrays = {}
        for name in tensors:
            *groups, last = name.split("/")
            objects = [g for i, g in enumerate(groups) if g != "vars" or i < len(groups) - 1]
            arrays["/".join([*objects, last])] = tensors[name]
            is_h5 = isinstance(tensors, H5Tensors)
            said = tensors.text("/".join(groups), "name") if is_h5 else None
            if said:
                self.object_metadata["/".join(objects)] = {"name": said}
        self.weights_dict = _nested(arrays)

    def _open_own(self, path: Path) -> None:
        tensors, self._version = open_weights(path)
        self.weights_dict = _nested({name: tensors[name] for name in tensors})
        if path.is_dir() or self.filepath.endswith(".klm"):
            members = open_model(path)
            self.config, self.metadata = members.json(CONFIG), members.json(METADATA)

    # -- showing ------------------------------------------------------------------------------

    def summary(self) -> None:
        """Print the names, shapes and dtypes of the weights as a tree."""
        print("\n".join(["Weights structure", *self._lines(self.weights_dict, "", "")]))

    def _lines(self, objects: dict[str, Any], indent: str, path: str) -> Iterator[str]:
        for i, (name, value) in enumerate(objects.items()):
            last = i == len(objects) - 1
            line, inner = f"{indent}{'└─' if last else '├─'} {name}", f"{path}{name}"
            if isinstance(value, dict):
                said = self.object_metadata.get(inner, {}).get("name")
                yield line + (f" ('{said}')" if said else "")
                yield from self._lines(value, indent + ("   " if last else "│  "), f"{inner}/")
            else:
                value = np.asarray(value)
                yield f"{line}: shape={value.shape}, dtype={value.dtype}"

    def compare(self, reference_model: Any) -> dict[str, Any]:
        """Compare the weights with those of a model, and print what differs.

        Args:
            reference_model: a built model.

        Returns:
            A dict of `status`, which is "success" or "error", `error_count`, and `match_count`,
            the number of weights that agree in name and shape.
        """
        if self._version:
            reference = _nested(
                {n: np.empty(v.shape, v.dtype) for n, v in self._own_weights(reference_model)}
            )
        else:
            reference = layout_of(reference_model)
        print("Running comparison")
        errors, matches = _differences(reference, self.weights_dict, "")
        print("\n".join([*errors, "─" * 21]))
        if errors:
            print(f"Found {_counted(len(errors), 'error')}: the file does not fit the model")
        else:
            print("Comparison successful: the file fits the model")
            print(f"    Found {_counted(matches, 'matching weight')}")
        status = "error" if errors else "success"
        return {"status": status, "error_count": len(errors), "match_count": matches}

    def _own_weights(self, model: Any) -> Any:
        return weights_of(model, self._version).items()

    # -- editing ------------------------------------------------------------------------------

    def rename_object(self, object_name: str, new_name: str) -> None:
        """Rename an object, such as a layer.

        Args:
            object_name: its name, where that is there once, or its path.
            new_name: the new name, without a path.

        Raises:
            ValueError: there is no such object, or more than one, or the new name is a path or
                taken.
        """
        if "/" in new_name:
            raise ValueError(f"new_name must be a name and no path, got {new_name!r}.")
        holder, name = self._place(object_name)
        if new_name in holder and new_name != name:
            raise ValueError(f"There is an object {new_name!r} beside {object_name!r} already.")
        items = [(new_name if key == name else key, value) for key, value in holder.items()]
        holder.clear()
        holder.update(items)

    def delete_object(self, object_name: str) -> None:
        """Remove an object with all its weights.

        Args:
            object_name: its name, where that is there once, or its path.

        Raises:
            ValueError: there is no such object, or more than one.
        """
        holder, name = self._place(object_name)
        del holder[name]

    def add_object(self, object_path: str, weights: Mapping[str, Any]) -> None:
        """Add an object.

        Args:
            object_path: its path; the objects around it must be there.
            weights: arrays by name, such as `{"0": kernel, "1": bias}`.

        Raises:
            ValueError: the objects around it are not there, or `weights` is no dict.
        """
        *path, name = object_path.split("/")
        holder = self.weights_dict
        for part in path:
            holder = holder.get(part)
            if not isinstance(holder, dict):
                raise ValueError(f"There is no object {'/'.join(path)!r} to put {name!r} into.")
        holder[name] = _checked(weights)

    def delete_weight(self, object_name: str, weight_name: str) -> None:
        """Remove a weight from an object.

        Args:
            object_name: the object's name, where that is there once, or its path.
            weight_name: the weight's name.

        Raises:
            ValueError: there is no such object or weight.
        """
        weights = self._object(object_name)
        if weight_name not in weights:
            raise ValueError(
                f"{object_name!r} has no weight {weight_name!r}, it has {list(weights)}."
            )
        del weights[weight_name]

    def add_weights(self, object_name: str, weights: Mapping[str, Any]) -> None:
        """Add weights to an object, in the place of those of the same names.

        Args:
            object_name: the object's name, where that is there once, or its path.
            weights: arrays by name.

        Raises:
            ValueError: there is no such object, or `weights` is no dict.
        """
        self._object(object_name).update(_checked(weights))

    def _object(self, name: str) -> dict[str, Any]:
        holder, last = self._place(name)
        if not isinstance(holder[last], dict):
            raise ValueError(f"{name!r} is a weight, expected an object that holds weights.")
        return holder[last]

    def _place(self, name: str) -> tuple[dict[str, Any], str]:
        """Return the dict that holds an object, and its key."""
        if "/" in name:
            *path, last = name.split("/")
            holder: Any = self.weights_dict
            for part in path:
                holder = holder.get(part, {}) if isinstance(holder, dict) else {}
            places = [holder] if isinstance(holder, dict) and last in holder else []
        else:
            last = name
            places = [d for d in _dicts(self.weights_dict) if name in d]
        if not places:
            raise ValueError(f"The file has no {name!r}: summary() prints what it has.")
        if len(places) > 1:
            raise ValueError(f"{name!r} is there {len(places)} times: give its path.")
        return places[0], last

    # -- writing ------------------------------------------------------------------------------

    def save(self, filepath: Any) -> None:
        """Write the weights to a file.

        Args:
            filepath: where to: `.weights.h5` for a file of Keras, `.safetensors` for one of ours.

        Raises:
            ValueError: the name ends with something else.
            OSError: the file could not be written; what was there before is unchanged.
        """
        path = Path(filepath)
        ending = WEIGHT_ENDINGS[0] if self._version else ".weights.h5"
        if not path.name.endswith(ending):
            raise ValueError(
                f"The weights of {self.filepath!r} can be saved to a file that ends with "
                f"{ending!r}, got {path.name!r}."
            )
        arrays = {name: np.asarray(x) for name, x in _flat(self.weights_dict, "")}
        if self._version:
            metadata = WEIGHTS_METADATA | {"version": str(self._version)}
            save_safetensors(path, arrays, metadata)
        else:
            _write_h5(path, arrays)

    def resave_weights(self, filepath: Any) -> None:
        """Write the weights to a file, as `save` does.

        Args:
            filepath: where to.
        """
        self.save(filepath)


def _nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays by path as nested dicts."""
    nested: dict[str, Any] = {}
    for path in sorted(arrays):
        *objects, name = path.split("/")
        holder = nested
        for part in objects:
            holder = holder.setdefault(part, {})
        holder[name] = arrays[path]
    return nested


def _flat(objects: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in objects.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}/")
        else:
            yield path + name, value


def _dicts(objects: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield objects
    for value in objects.values():
        if isinstance(value, dict):
            yield from _dicts(value)


def _checked(weights: Any) -> dict[str, Any]:
    if not isinstance(weights, Mapping):
        raise ValueError(
            "weights must be a dict of arrays by name, usually '0', '1' ..., got "
            f"{type(weights).__name__}."
        )
    return dict(weights)


def _differences(model: Any, file: Any, path: str) -> tuple[list[str], int]:
    """Return what a model has and a file lacks, or the other way round, and how many agree."""
    errors, matches = [], 0
    for name in {**model, **file}:
        where, ours, theirs = f"{path}/{name}", model.get(name), file.get(name)
        if theirs is None or ours is None:
            has, lacks = ("the model", "the file") if theirs is None else ("the file", "the model")
            value = ours if theirs is None else theirs
            is_object = isinstance(value, dict)
            error = f"...{'Object' if is_object else 'Weight'} {where} is in {has}, not in {lacks}"
            errors.append(error + f"\n    It holds {', '.join(value)}" * is_object)
        elif isinstance(ours, dict) and isinstance(theirs, dict):
            inner, agreeing = _differences(ours, theirs, where)
            errors, matches = errors + inner, matches + agreeing
        elif isinstance(ours, dict) or isinstance(theirs, dict):
            errors.append(f"...{where} is an object on one side and a weight on the other")
        elif np.shape(ours) != np.shape(theirs):
            shapes = f"    In the model: {np.shape(ours)}, in the file: {np.shape(theirs)}"
            errors.append(f"...Weight {where} has another shape\n{shapes}")
        else:
            matches += 1
    return errors, matches


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _write_h5(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    parts = ((*name.rpartition("/")[::2], array) for name, array in arrays.items())
    with replacing_folder(path.parent) as folder:
        write_h5(
            folder / path.name,
            ((f"{holder}/vars/{last}".lstrip("/"), array) for holder, last, array in parts),
        )
