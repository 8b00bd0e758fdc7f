"""Losses that layers add in a call, and the penalties on their variables."""

import weakref
from typing import Any

from keraslite import tree
from keraslite.layers.base.tracking import flatten_layers, tracked_variables
from keraslite.ops import core
from keraslite.ops import numpy as knp

# The layers that hold losses of a call.
with_losses: "weakref.WeakSet[Any]" = weakref.WeakSet()


def add_loss(layer: Any, loss: Any) -> None:
    """Keep scalars, nested or not, until the layer's next call from outside."""
    with_losses.add(layer)
    layer._kl_losses.extend(tree.flatten(loss))


def all_losses(layer: Any) -> list[Any]:
    """Return the losses that were added below a layer, and the penalties on its variables."""
    added = [x for inner in flatten_layers(layer) for x in inner._kl_losses]
    penalties = [
        variable.regularizer(variable.value)
        for variable, trained in tracked_variables(layer)
        if variable.regularizer is not None and trained
    ]
    return added + penalties


def clear_losses(layer: Any) -> None:
    """Forget the losses that were added below a layer."""
    if with_losses:
        for inner in with_losses.intersection(flatten_layers(layer)):
            inner._kl_losses.clear()
            with_losses.discard(inner)


def penalize_outputs(layer: Any, outputs: Any) -> None:
    """Add the activity regularizer's penalty on outputs, as a mean over the batch."""
    for x in tree.flatten(outputs):
        penalty = layer.activity_regularizer(x)
        count = core.shape(x)[0] if len(x.shape) else 1
        layer.add_loss(knp.divide_no_nan(penalty, core.cast(count, core.dtype(penalty))))
