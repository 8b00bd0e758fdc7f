"""Weights in checkpoints of tf.keras: `model.save_weights("prefix")`, and SavedModels.

A checkpoint holds a graph of objects, in which a model's layers are `layer_with_weights-0` and so
on, and their weights and layers go by the names of the attributes that hold them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keraslite.saving.legacy_h5 import (
    MisfitError,
    abbreviate,
    assign_arrays,
    misfit,
    warn_of_skipped,
)
from keraslite.variable import Variable

_SAVED_MODEL = "saved_model.pb"
_OTHER_NAMES = {"kernel": "depthwise_kernel"}  # of a depthwise convolution
_NOT_SAVED = ("seed_generator_state", "rnn_state")  # what tf.keras has otherwise, or not at all


def is_saved_model(path: Path) -> bool:
    """Return whether a path is the folder of a SavedModel.

    Args:
        path: the path.

    >>> is_saved_model(Path("model.klm"))
    False
    """
    return (path / _SAVED_MODEL).is_file()


def is_tensorflow_checkpoint(path: Path) -> bool:
    """Return whether a path is the prefix of a checkpoint, its folder, or that of a SavedModel.

    Args:
        path: the path.

    >>> is_tensorflow_checkpoint(Path("model.klm"))
    False
    """
    if path.is_dir():
        return is_saved_model(path) or (path / "checkpoint").is_file()
    return path.with_name(f"{path.name}.index").is_file()


def load_tensorflow_checkpoint(model: Any, path: Path, skip_mismatch: bool = False) -> None:
    """Load the weights of a checkpoint of tf.keras, or of a SavedModel, all of them or none.

    Args:
        model: a built model of the same structure.
        path: the prefix of the checkpoint, its folder, or the folder of the SavedModel.
        skip_mismatch: whether weights that are missing or have another shape are left as they
            are, with a warning.

    Raises:
        ImportError: TensorFlow, which reads the file, is not installed.
        ValueError: the checkpoint is damaged, or does not fit the model.
    """
    try:
        from keraslite.backend.tensorflow import checkpoints
    except ImportError as error:
        raise ImportError(
            f"{path} is a checkpoint of TensorFlow, which is needed to read it: "
            "pip install tensorflow."
        ) from error

    prefix = str(path)
    if path.is_dir():
        inside = str(path / "variables" / "variables")
        last = inside if is_saved_model(path) else checkpoints.latest(prefix)
        if last is None:
            raise ValueError(f"{path} names no checkpoint that is there.")
        prefix = last
    saved = checkpoints.Checkpoint(prefix)
    places = dict(_places(model, saved.objects, _root(saved.objects), ""))
    wrong = []
    pairs: list[tuple[Variable, str]] = []
    for variable, (place, key) in places.items():
        shape = None if key is None else saved.shape(key)
        if key is not None and shape == tuple(variable.shape):
            pairs.append((variable, key))
        else:
            got = "is not there" if shape is None else f"has the shape {shape}"
            wrong.append(f"{variable.path} has the shape {tuple(variable.shape)}, {place} {got}")
    if wrong:
        if not skip_mismatch:
            raise misfit(path, model, MisfitError(abbreviate(wrong)))
        warn_of_skipped(path, wrong)
    assign_arrays([(variable, saved.value(key)) for variable, key in pairs])


def _root(objects: list[Any]) -> int:
    """Return the number of the model: the root, or that of `tf.train.Checkpoint(model=model)`."""
    children = objects[0].children
    is_model = any(name.startswith(("layer-", "layer_with_weights-")) for name in children)
    return children["model"] if "model" in children and not is_model else 0


def _places(
    layer: Any, objects: list[Any], number: int | None, place: str
) -> Iterator[tuple[Variable, tuple[str, str | None]]]:
    """(variable, (its place in words, its key or None)) of all weights below a layer."""
    children = {} if number is None else objects[number].children
    for name, variable in layer.own_variables():
        if variable.name in _NOT_SAVED:
            continue
        at = _child(children, name, variable.name, _OTHER_NAMES.get(name, name))
        key = None if at is None else objects[at].key
        yield variable, (f"{place}{name}", key)
    if getattr(layer, "is_functional", False):
        with_weights = [x for x in layer.layers if _has_weights(x)]
        inner = [(f"layer_with_weights-{i}", x) for i, x in enumerate(with_weights)]
    else:
        inner = [(name, x) for name, x in layer.own_layers() if _has_weights(x)]
    for name, child in inner:
        at = number
        for part in name.split("/"):
            at = None if at is None else _child(objects[at].children, part)
        yield from _places(child, objects, at, f"{place}{name}/")


def _has_weights(layer: Any) -> bool:
    return any(v.name not in _NOT_SAVED for v in layer.variables)


def _child(children: dict[str, int], *names: str) -> int | None:
    """Return the object in an attribute, which tf.keras may have begun with an underscore."""
    for name in names:
        for spelled in (name, f"_{name}"):
            if spelled in children:
                return children[spelled]
    return None
