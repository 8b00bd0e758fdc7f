"""The backend of a layer: the class it has there, the move to another one, copies and pickles."""

import copy
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

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


# The copies of layers that graphs of TensorFlow use, and the values they were made with, as long as
# the layers live.
_in_graphs: WeakKeyDictionary[Any, list[tuple[Any, list]]] = WeakKeyDictionary()


def copy_for_graph(layer: Any) -> Any:
    """Return a copy of a layer for a graph of TensorFlow, such as that of a `tf.data` pipeline.

    It has the values that the weights have now. A graph is traced several times, with one copy.

    Args:
        layer: a layer of another backend.
    """
    values = [v.numpy() for v in all_variables(layer)]
    copies = _in_graphs.setdefault(layer, [])
    for twin, before in copies:
        if len(before) == len(values) and all(map(np.array_equal, before, values)):
            return twin

    def make() -> Any:
        twin = copy.deepcopy(layer).to_backend("tensorflow")
        for variable in all_variables(twin):
            variable.materialize()
        return twin

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as outside:  # a graph is that of a thread
        twin = outside.submit(make).result()
    copies.append((twin, values))
    return twin


def move_layer(layer: Any, name: str) -> None:
    """Move a layer and all below it, with their variables and metrics, to a backend."""
    for variable in all_variables(layer):
        variable.to_backend(name)
    for inner in flatten_layers(layer):
        inner.set_backend(name)
    for metric in all_metrics(layer):
        metric.to_backend(name)
