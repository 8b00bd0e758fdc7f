"""The backend of a layer: the class it has there, the move to another one, copies and pickles."""

from typing import Any

from keraslite import backend as backends
from keraslite.layers.base.tracking import all_metrics, all_variables, flatten_layers
from keraslite.registry import derived_class


def class_for_backend(cls: type, name: str) -> type:
    """Return the class to instantiate for `cls` on a backend: itself where layers need no base.

    Under torch a layer is a torch.nn.Module and under TensorFlow a tf.Module. The class that a
    user wrote stays free of frameworks: one derived from it and the framework's is made once.
    """
    return derived_class(cls, backends.load(name).LAYER_BASE)


def new_layer(cls: type, backend: str) -> Any:
    """Make a layer without running its constructor, for a pickle's or a copy's state to fill."""
    with backends.backend_scope(backend):
        return cls.__new__(cls)


def move_layer(layer: Any, name: str) -> None:
    """Move a layer and all below it, with their variables and metrics, to a backend."""
    for variable in all_variables(layer):
        variable.to_backend(name)
    for inner in flatten_layers(layer):
        inner.set_backend(name)
    for metric in all_metrics(layer):
        metric.to_backend(name)
