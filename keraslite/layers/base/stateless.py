"""Calls with given values of the variables, which change nothing."""

from typing import Any

from keraslite.layers.base.losses import clear_losses
from keraslite.variable import StatelessScope, Variable


def stateless_call(
    layer: Any,
    trainable_values: list[Any],
    non_trainable_values: list[Any],
    args: tuple,
    kwargs: dict[str, Any],
    return_losses: bool,
) -> tuple:
    """Call a layer as if its variables had these values.

    Returns:
        (outputs, new values of the non-trainable variables), and the losses if asked for.
    """
    if not layer.built:
        raise ValueError(f"Layer {layer.name!r} must be built before stateless_call.")
    trainable, non_trainable = layer.trainable_variables, layer.non_trainable_variables
    values = [
        *_paired(layer, "trainable", trainable, list(trainable_values)),
        *_paired(layer, "non-trainable", non_trainable, list(non_trainable_values)),
    ]
    with StatelessScope(values) as scope:
        outputs = layer(*args, **kwargs)
        losses = layer.losses if return_losses else None
    clear_losses(layer)
    updated = [
        value if (value := scope.get(v)) is not None else v.value
        for v in layer.non_trainable_variables
    ]
    return (outputs, updated, losses) if return_losses else (outputs, updated)


def _paired(layer: Any, name: str, variables: list[Variable], values: list[Any]) -> Any:
    if len(variables) != len(values):
        raise ValueError(
            f"Layer {layer.name!r} has {len(variables)} {name} variables, but {len(values)} "
            "values were given."
        )
    return zip(variables, values, strict=True)
