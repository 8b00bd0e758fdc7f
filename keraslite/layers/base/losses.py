"""Losses that layers add in a call, and the penalties on their variables."""

from typing import Any

from keraslite import tree
from keraslite.layers.base.tracking import flatten_layers, tracked_variables
from keraslite.ops import core
from keraslite.ops import numpy as knp
from keraslite.scopes import scopes


def add_loss(layer: Any, loss: Any) -> None:
    """Keep scalars, nested or not, until the layer's next call from outside in this thread."""
    # By thread, in the layer itself: a table of layers would change while torch.compile guards it.
    by_thread = layer.__dict__.setdefault("_kl_losses", {})
    by_thread.setdefault(scopes.thread, []).extend(tree.flatten(loss))
    scopes.losses = True


def all_losses(layer: Any) -> list[Any]:
    """Return the losses that were added below a layer, and the penalties on its variables."""
    added = []
    if scopes.losses:
        for inner in flatten_layers(layer):
            added += inner.__dict__.get("_kl_losses", {}).get(scopes.thread, [])
    penalties = [
        variable.regularizer(variable.value)
        for variable, trained in tracked_variables(layer)
        if variable.regularizer is not None and trained
    ]
    return added + penalties


def clear_losses(layer: Any) -> None:
    """Forget the losses that were added below a layer."""
    if scopes.losses:
        for inner in flatten_layers(layer):
            if "_kl_losses" in inner.__dict__:
                inner.__dict__["_kl_losses"].pop(scopes.thread, None)


def penalize_outputs(layer: Any, outputs: Any) -> None:
    """Add the activity regularizer's penalty on outputs, as a mean over the batch."""
    for x in tree.flatten(outputs):
        penalty = layer.activity_regularizer(x)
        count = core.shape(x)[0] if len(x.shape) else 1
        layer.add_loss(knp.divide_no_nan(penalty, core.cast(count, core.dtype(penalty))))
