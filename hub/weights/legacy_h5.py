"""Weights in `.h5` files of Keras: listed layer by layer, as of its applications, or by paths.

Up to version 2, and for `.h5` and `.hdf5` still, Keras lists the names of layers in an attribute of
the file, and those of their weights in attributes of groups. Files `.weights.h5` of Keras 3 have a
group a layer, named by its class and number.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.weights.tables import abbreviate
from keraslite.naming import to_snake_case
from keraslite.registry import public_class
from keraslite.saving import H5Tensors, Pending

_TOP_LEVEL = "top_level_model_weights"


def load_legacy_weights(model: Any, path: Path, by_name: bool = False) -> None:
    """Load the weights of a `.h5` file that Keras wrote, all of them or none.

    Layers are matched in their order, those without weights left out, as Keras does it.

    Args:
        model: a built model.
        path: the file: of weights, or of a whole model.
        by_name: whether layers are matched by their names instead, and others left as they are.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged or refused, or does not fit the model; says why.
    """
    with H5Tensors([path], exact=True) as tensors:
        try:
            pairs = _pairs(model, tensors, by_name)
            wrong = [
                f"{variable.path} has the shape {tuple(variable.shape)}, {name} the shape {shape}"
                for variable, name in pairs
                if tuple(variable.shape) != (shape := tensors.shape(name))
            ]
            if wrong:
                raise _MisfitError(abbreviate(wrong, ", "))
        except _MisfitError as error:
            raise ValueError(
                f"{path.name} does not fit the model {model.name!r}: {error}. Nothing was loaded."
            ) from None
        # All are read before the first is assigned: the file may be damaged.
        values = [(variable, tensors[name]) for variable, name in pairs]
    for variable, array in values:
        variable.assign(Pending(array.shape, lambda array=array: array))


class _MisfitError(Exception):
    """A file and a model that do not fit."""


def _pairs(model: Any, tensors: H5Tensors, by_name: bool) -> list[tuple[Any, str]]:
    """Return (variable, name in the file) of all weights to be loaded."""
    # Files of whole models have the weights in a group of them.
    for prefix in ("", "model_weights/"):
        if tensors.strings(prefix, "layer_names") is not None:
            return list(_by_layers(model, tensors, prefix, by_name))
    if by_name:
        raise _MisfitError("it has no attribute layer_names, which by_name=True needs")
    return _by_paths(model, tensors)


# -- files that list their layers -----------------------------------------------------------------


def _by_layers(
    model: Any, tensors: H5Tensors, prefix: str, by_name: bool
) -> Iterator[tuple[Any, str]]:
    """(variable, name in the file) of all weights."""
    saved = {}
    for name in tensors.strings(prefix, "layer_names"):
        weights = tensors.strings(prefix + name, "weight_names") or []
        saved[name] = [f"{prefix}{name}/{weight}" for weight in weights]
    missing = [name for names in saved.values() for name in names if name not in tensors]
    if missing:
        raise _MisfitError(f"it lists {abbreviate(missing)}, which it does not hold")
    expected = [(x.name, x.trainable_weights + x.non_trainable_weights) for x in model.layers]
    if by_name:
        matches = [(*row, row[0], saved[row[0]]) for row in expected if row[0] in saved]
    else:
        expected = [(name, weights) for name, weights in expected if weights]
        saved = {name: names for name, names in saved.items() if names}
        if len(expected) != len(saved):
            raise _MisfitError(
                f"the model has {len(expected)} layers with weights, the file {len(saved)}"
            )
        matches = [(*row, *group) for row, group in zip(expected, saved.items(), strict=True)]
    for layer, weights, name, names in matches:
        yield from _pair(weights, names, f"layer {layer!r}", name)
    names = tensors.strings(prefix + _TOP_LEVEL, "weight_names") or []
    if names:
        top = [f"{prefix}{_TOP_LEVEL}/{name}" for name in names]
        yield from _pair(_own_weights(model), top, "the model itself", _TOP_LEVEL)


def _own_weights(layer: Any) -> list[Any]:
    """Return the weights of a layer itself, those that can be trained first."""
    own = {id(v) for _, v in layer.own_variables()}
    return [v for v in layer.weights if id(v) in own]


def _pair(variables: list, names: list[str], where: str, group: str) -> Iterator[tuple[Any, str]]:
    if len(variables) != len(names):
        raise _MisfitError(f"{where} has {len(variables)} weights, {group} in it {len(names)}")
    yield from zip(variables, names, strict=True)


# -- files by paths -------------------------------------------------------------------------------


def _by_paths(model: Any, tensors: H5Tensors) -> list[tuple[Any, str]]:
    """Return (variable, name in the file) for a model whose layers have no others inside."""
    places = dict(_paths(model, ""))
    of_file = {name for name in tensors if re.match(r"(layers|vars)/", name)}
    of_file = {name for name in of_file if "/seed_generator/" not in name}
    if places.keys() != of_file:
        raise _MisfitError(
            f"it lacks {abbreviate(sorted(places.keys() - of_file))}, and the model has no place "
            f"for {abbreviate(sorted(of_file - places.keys()))}"
        )
    return [(variable, name) for name, variable in places.items()]


def _paths(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    for i, variable in enumerate(_own_weights(layer)):
        yield f"{path}vars/{i}", variable
    counts: Counter[str] = Counter()
    for child in getattr(layer, "layers", ()):
        name = to_snake_case(public_class(type(child)).__name__)
        number, counts[name] = counts[name], counts[name] + 1
        yield from _paths(child, f"{path}layers/{name}{f'_{number}' if number else ''}/")
