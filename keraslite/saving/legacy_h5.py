"""Weights in `.h5` files of Keras: listed layer by layer, as of its applications, or by paths.

Up to version 2, and for `.h5` and `.hdf5` still, Keras lists the names of layers in an attribute of
the file, and those of their weights in attributes of groups. Files `.weights.h5` of Keras 3 have a
group a layer, named by its class and number.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keraslite.saving.h5_files import H5Tensors
from keraslite.saving.keras_layout import saved_objects
from keraslite.variable import Pending, Variable

ENDINGS = (".h5", ".hdf5")
TOP_LEVEL, MODEL_WEIGHTS = "top_level_model_weights", "model_weights"  # groups
_LISTED = 12  # names in an error
# Weights that layers had in Keras 2 and have no more: states of random numbers, and the number of
# values that a Normalization has seen.
_GONE = re.compile(r"(^|/)(StateVar|count)(_\d+)?:0$")
_OF_LAYERS = re.compile(r"(layers|vars)/(?!.*\bseed_generator/)")
Pair = tuple[Variable, str]


def is_legacy_h5(path: Path) -> bool:
    """Return whether a name is that of a file in the format of Keras 2.

    Args:
        path: the name.

    >>> is_legacy_h5(Path("model.h5")), is_legacy_h5(Path("model.weights.h5"))
    (True, False)
    """
    name = path.name.lower()
    return name.endswith(ENDINGS) and not name.endswith(".weights.h5")


def load_legacy_weights(
    model: Any, path: Path, by_name: bool = False, skip_mismatch: bool = False
) -> None:
    """Load the weights of a `.h5` file that Keras wrote, all of them or none.

    Layers are matched in their order, those without weights left out, as Keras does it.

    Args:
        model: a built model.
        path: the file: of weights, or of a whole model.
        by_name: whether layers are matched by their names instead, and others left as they are.
        skip_mismatch: whether weights of other shapes are left as they are, with a warning; by
            name also layers with another number of weights.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged or refused, or does not fit the model; says why.
    """
    with H5Tensors([path], exact=True) as tensors:
        try:
            pairs, skipped = _fitting(
                match_weights(model, tensors, by_name, skip_mismatch), tensors, skip_mismatch
            )
        except MisfitError as error:
            raise misfit(path, model, error) from None
        # All are read before the first is assigned: the file may be damaged.
        values = [(variable, tensors[name]) for variable, name in pairs]
    assign_arrays(values)
    if skipped:
        warn_of_skipped(path, skipped)


class MisfitError(Exception):
    """A file and a model that do not fit."""


def misfit(path: Path, model: Any, error: MisfitError) -> ValueError:
    """Return the error for a file that does not fit a model.

    Args:
        path: the file.
        model: the model.
        error: what does not fit.
    """
    return ValueError(
        f"{path.name} does not fit the model {model.name!r}: {error}. Nothing was loaded."
    )


def warn_of_skipped(path: Path, skipped: list[str], stacklevel: int = 5) -> None:
    """Warn of the weights that skip_mismatch=True left as they are.

    Args:
        path: the file.
        skipped: what does not fit.
        stacklevel: as for `warnings.warn`.
    """
    texts = abbreviate([text.rstrip(".") for text in skipped])
    warnings.warn(
        f"{path.name}: weights that do not fit are left as they are: {texts}.",
        stacklevel=stacklevel,
    )


def assign_arrays(values: Iterable[tuple[Variable, Any]]) -> None:
    """Assign arrays to variables, which take them when they are read first.

    Args:
        values: (variable, array) of each.
    """
    for variable, array in values:
        variable.assign(Pending.of(array))


def match_weights(
    model: Any, tensors: H5Tensors, by_name: bool = False, skip_mismatch: bool = False
) -> list[Pair | str]:
    """Return (variable, name in the file) of all weights to be loaded, and texts of those skipped.

    Args:
        model: a built model.
        tensors: the file, with exact names.
        by_name: whether layers are matched by their names.
        skip_mismatch: whether layers found by name may have another number of weights.

    Raises:
        MisfitError: the file does not fit.
    """
    # Files of whole models have the weights in a group of them.
    for prefix in ("", f"{MODEL_WEIGHTS}/"):
        if tensors.strings(prefix, "layer_names") is not None:
            return list(_by_layers(model, tensors, prefix, by_name, skip_mismatch))
    if by_name:
        raise MisfitError("it has no attribute layer_names, which by_name=True needs")
    return list(_by_paths(model, tensors))


def _fitting(
    matches: list[Pair | str], tensors: H5Tensors, skip_mismatch: bool
) -> tuple[list[Pair], list[str]]:
    """Return the pairs of equal shapes, and in words what does not fit."""
    pairs, wrong, skipped = [], [], []
    for match in matches:
        if isinstance(match, str):
            skipped.append(match)
            continue
        variable, name = match
        shape = tensors.shape(name)
        if tuple(variable.shape) == shape:
            pairs.append(match)
        else:
            wrong.append(
                f"{variable.path} has the shape {tuple(variable.shape)}, {name} the shape {shape}"
            )
    if wrong and not skip_mismatch:
        raise MisfitError(abbreviate(wrong))
    return pairs, skipped + wrong


def fitting_pairs(model: Any, tensors: H5Tensors) -> list[Pair]:
    """Return (variable, name in the file) of all weights of a model, whose shapes are equal.

    Args:
        model: a built model.
        tensors: the file, with exact names.

    Raises:
        MisfitError: the file does not fit.
    """
    return _fitting(match_weights(model, tensors), tensors, False)[0]


def abbreviate(names: list[str]) -> str:
    """Return the first of some texts, and the number of those left out.

    Args:
        names: the texts.

    >>> abbreviate(["a", "b"]), abbreviate([])
    ('a, b', 'none')
    """
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) + more) or "none"


# -- files that list their layers -----------------------------------------------------------------


def _by_layers(
    model: Any, tensors: H5Tensors, prefix: str, by_name: bool, skip_mismatch: bool
) -> Iterator[Pair | str]:
    """(variable, name in the file) of all weights."""
    saved = {}
    for name in tensors.strings(prefix, "layer_names") or ():
        weights = tensors.strings(prefix + name, "weight_names") or []
        saved[name] = [f"{prefix}{name}/{weight}" for weight in weights]
    missing = [name for names in saved.values() for name in names if name not in tensors]
    if missing:
        raise MisfitError(f"it lists {abbreviate(missing)}, which it does not hold")
    expected = layer_weights(model)
    if by_name:
        matches = [(*row, row[0], saved[row[0]]) for row in expected if row[0] in saved]
    else:
        expected = [(name, weights) for name, weights in expected if weights]
        saved = {k: v for k, v in saved.items() if any(not _GONE.search(n) for n in v)}
        if len(expected) != len(saved):
            raise MisfitError(
                f"the model has {len(expected)} layers with weights, the file {len(saved)}"
            )
        matches = [(*row, *group) for row, group in zip(expected, saved.items(), strict=True)]
    for layer, weights, name, names in matches:
        try:
            yield from _pair(weights, names, f"layer {layer!r}", name)
        except MisfitError as error:
            if not (by_name and skip_mismatch):
                raise
            yield str(error)
    names = tensors.strings(prefix + TOP_LEVEL, "weight_names") or []
    if names and not by_name:
        top = [f"{prefix}{TOP_LEVEL}/{name}" for name in names]
        yield from _pair(own_weights(model), top, "the model itself", TOP_LEVEL)


def layer_weights(model: Any) -> list[tuple[str, list[Variable]]]:
    """Return (name, weights) of a model's layers in the order of files: those trained first.

    Args:
        model: a built model.
    """
    return [(x.name, x.trainable_weights + x.non_trainable_weights) for x in model.layers]


def own_weights(layer: Any) -> list[Variable]:
    """Return the weights of a layer itself, those that can be trained first.

    Args:
        layer: a built layer or model.
    """
    own = {id(v) for _, v in layer.own_variables()}
    return [v for v in layer.weights if id(v) in own]


def _pair(variables: list, names: list[str], where: str, group: str) -> list[Pair]:
    if len(variables) != len(names):
        names = [name for name in names if not _GONE.search(name)]
    if len(variables) != len(names):
        raise MisfitError(f"{where} has {len(variables)} weights, {group} in it {len(names)}")
    return list(zip(variables, names, strict=True))


# -- files by paths -------------------------------------------------------------------------------


def _by_paths(model: Any, tensors: H5Tensors) -> Iterator[Pair]:
    """(variable, name in the file) of all weights; states of random numbers are left out."""
    places = {
        name: variable
        for path, item in saved_objects(model)
        if hasattr(item, "saved_variables")
        for i, variable in enumerate(item.saved_variables())
        if _OF_LAYERS.match(name := f"{path}/vars/{i}".lstrip("/"))
    }
    of_file = {name for name in tensors if _OF_LAYERS.match(name)}
    if places.keys() != of_file:
        raise MisfitError(
            f"it lacks {abbreviate(sorted(places.keys() - of_file))}, and the model has no place "
            f"for {abbreviate(sorted(of_file - places.keys()))}"
        )
    yield from ((variable, name) for name, variable in places.items())
