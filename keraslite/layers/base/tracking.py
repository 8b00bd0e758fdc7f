"""State found in the attributes of layers: variables, sublayers, metrics, and the weights' names.

Nothing is registered: these functions look at a layer's attributes, in the order in which they
were set, and into lists, tuples and dicts there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keraslite.random import SeedGenerator
from keraslite.variable import Variable


class Tracked:
    """The base of `Layer`, by which sublayers are told apart from other attributes."""


# Attributes that hold no state, whatever stands in them.
_NOT_STATE = {"built", "backend", "dtype_policy", "input_spec", "activity_regularizer",
              "training", "_buffers", "name", "_name", "autocast"}  # fmt: skip


def own_state(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the variables, layers, metrics and seed generators in attributes."""
    for key, value in list(layer.__dict__.items()):
        if not key.startswith("_kl_") and key not in _NOT_STATE:
            yield from _within(key, value)


def _within(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Variable | Tracked | SeedGenerator) or _is_metric(value):
        yield key, value
    elif isinstance(value, list | tuple):
        for i, x in enumerate(value):
            yield from _within(f"{key}/{i}", x)
    elif isinstance(value, dict):
        for k, x in value.items():
            yield from _within(f"{key}/{k}", x)


def _is_metric(value: Any) -> bool:
    return hasattr(type(value), "update_state") and hasattr(type(value), "reset_state")


def own_variables(layer: Any) -> list[tuple[str, Variable]]:
    """Return (name, variable) of a layer's own variables, without those of sublayers."""
    named: dict[int, tuple[str, Variable]] = {}
    for key, value in own_state(layer):
        variable = value.state if isinstance(value, SeedGenerator) else value
        if isinstance(variable, Variable):
            name = key if variable is value else f"{key}/{variable.name}"
            named.setdefault(id(variable), (name, variable))
    for variable in layer.__dict__.get("_kl_added", ()):  # made, but kept in no attribute
        named.setdefault(id(variable), (variable.name, variable))
    return list(named.values())


def own_layers(layer: Any) -> list[tuple[str, Any]]:
    """Return (name, layer) of the layers directly inside a layer."""
    named: dict[int, tuple[str, Any]] = {}
    for key, value in own_state(layer):
        if isinstance(value, Tracked):
            named.setdefault(id(value), (key, value))
    return list(named.values())


def own_metrics(layer: Any) -> list[Any]:
    """Return the metrics in a layer's own attributes."""
    return [v for _, v in own_state(layer) if _is_metric(v)]


def _remembered(layer: Any, key: str, compute: Callable[[], Any]) -> Any:
    """The result of `compute`; computed once while a loop holds the structure still."""
    memory = layer.__dict__.get("_kl_memory")
    if memory is None:
        return compute()
    if key not in memory:
        memory[key] = compute()
    return memory[key]


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """Return a layer and all layers below it, each once, parents first.

    Args:
        layer: the layer.
        include_self: whether the layer itself is part of the list.
    """
    visited: dict[int, Any] = {}

    def visit(layer: Any) -> None:
        if id(layer) not in visited:
            visited[id(layer)] = layer
            for _, child in own_layers(layer):
                visit(child)

    def compute() -> list[Any]:
        visit(layer)
        return list(visited.values())

    layers = _remembered(layer, "layers", compute)
    return list(layers) if include_self else [x for x in layers if x is not layer]


def all_metrics(layer: Any) -> list[Any]:
    """Return the metrics of a layer and of all layers below it."""

    def compute() -> list[Any]:
        return list({id(m): m for x in flatten_layers(layer) for m in own_metrics(x)}.values())

    return _remembered(layer, "metrics", compute)


def all_variables(layer: Any) -> list[Variable]:
    """Return all variables below a layer: weights, random states, metrics."""
    variables = {id(v): v for x in flatten_layers(layer) for _, v in own_variables(x)}
    variables |= {id(v): v for m in all_metrics(layer) for v in m.variables}
    return list(variables.values())


def tracked_weights(layer: Any) -> list[tuple[str, Variable, bool]]:
    """Return (path below the layer, variable, whether it is trained now), without metrics."""
    named: dict[int, tuple[str, Variable, tuple[Any, ...]]] = {}

    def visit(layer: Any, prefix: str, owners: tuple[Any, ...]) -> None:
        owners = (*owners, layer)
        own = own_variables(layer)
        for key, v in sorted(own, key=lambda item: not item[1].made_trainable):
            named.setdefault(id(v), (prefix + key, v, owners))
        for key, child in own_layers(layer):
            visit(child, f"{prefix}{key}/", owners)

    def compute() -> list[tuple[str, Variable, tuple[Any, ...]]]:
        visit(layer, "", ())
        return list(named.values())

    return [
        (path, v, v.trainable and all(x._kl_trainable for x in owners))
        for path, v, owners in _remembered(layer, "weights", compute)
    ]


def named_weights(layer: Any) -> list[tuple[str, Variable]]:
    """Return (path below the layer, variable) of the weights: the names that are saved."""
    return [(p, v) for p, v, _ in tracked_weights(layer) if v.name != "seed_generator_state"]


def set_trainable(layer: Any, value: bool) -> None:
    """Set whether the variables of a layer and of all layers below it are trained."""
    for inner in flatten_layers(layer):
        inner.__dict__["_kl_trainable"] = bool(value)
        for _, v in own_variables(inner):
            v.trainable = bool(value) and v.made_trainable


def set_weights(layer: Any, values: list[Any]) -> None:
    """Assign values to the weights in order, after all shapes were checked."""
    weights = layer.weights
    if len(weights) != len(values):
        raise ValueError(
            f"Layer {layer.name!r} has {len(weights)} weights, but {len(values)} were given."
        )
    for variable, value in zip(weights, values, strict=True):
        variable._check(np.shape(value))
    for variable, value in zip(weights, values, strict=True):
        variable.assign(value)
