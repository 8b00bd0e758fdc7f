"""The paths of weights in files of version 1, so that these still load.

They were made of the attributes of layers, private ones too: a layer of a functional model or of a
Sequential lay at `_layers_in_order/1`, whatever its name was.
"""

from collections.abc import Iterator
from typing import Any

from keraslite.layers.base.building import restore_build_state
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.tracking import LayerList, attribute_state, own_layers, own_variables
from keraslite.random import SeedGenerator
from keraslite.variable import Variable


def weights_v1(model: Any) -> dict[str, Variable]:
    """Return the weights and random states of a model by their paths in version 1."""
    paths: dict[int, str] = {}
    variables: dict[str, Variable] = {}

    def visit(layer: Any, prefix: str) -> None:
        places = {}
        for key, value in _state_v1(layer):
            if isinstance(value, SeedGenerator):
                places.setdefault(id(value.state), f"{key}/{value.state.name}")
            else:
                places.setdefault(id(value), key)
        for _, variable in own_variables(layer):
            path = prefix + places.get(id(variable), variable.name)
            if paths.setdefault(id(variable), path) == path:
                variables[path] = variable
        for key, child in _layers_v1(layer):
            visit(child, f"{prefix}{key}/")

    visit(model, "")
    return variables


def restore_quantized_v1(model: Any, build_config: dict[str, Any] | None) -> None:
    """Give a model the empty int8 weights that a build config of version 1 names by old paths."""
    configs = (build_config or {}).get("quantized") or {}
    renamed = {new: configs[old] for old, new in _renamed_layers(model) if old in configs}
    restore_build_state(model, {"quantized": renamed})


def _state_v1(layer: Any) -> Iterator[tuple[str, Any]]:
    called = getattr(layer, "layers_in_call_order", list)()
    places = {id(x): str(i) for i, x in enumerate(called)}
    for key, value in attribute_state(layer):
        attribute, _, rest = key.partition("/")
        layers = layer.__dict__[attribute]
        if type(layers) is LayerList:  # that of a Sequential begins with the layer of its input
            place = places[id(value)] if len(layers) == len(places) else rest
            key = f"_layers_in_order/{place}"
        yield key, value


def _layers_v1(layer: Any) -> list[tuple[str, Any]]:
    children: dict[int, tuple[str, Any]] = {}
    for key, value in _state_v1(layer):
        if isinstance(value, Layer):
            children.setdefault(id(value), (key, value))
    return list(children.values())


def _renamed_layers(layer: Any, old: str = "", new: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path in version 1, path now) of the layers below a layer."""
    names = {id(child): name for name, child in own_layers(layer)}
    for key, child in _layers_v1(layer):
        yield old + key, new + names[id(child)]
        yield from _renamed_layers(child, f"{old}{key}/", f"{new}{names[id(child)]}/")
