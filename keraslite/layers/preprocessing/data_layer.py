"""Layers that work in input pipelines of any framework, and a row of them."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops, tree
from keraslite.backend.counter import signed
from keraslite.backend.workers import worker_seed
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.layer import Layer
from keraslite.random import SeedGenerator
from keraslite.registry import deserialize_keras_object, serialize_keras_object
from keraslite.scopes import scopes


class DataLayer(ConfigLayer):
    """A layer that runs in TensorFlow inside `tf.data.Dataset.map`, wherever it was made."""

    autograph_info__ = None  # TensorFlow's autograph need not convert what is inside

    def __call__(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        graph = _graph_of(data)
        if graph in (None, self.backend):
            return super().__call__(data, *args, **kwargs)
        # Tensors of another framework's graph have no values to move: the call goes there.
        outer, scopes.backend = scopes.backend, graph
        try:
            if kwargs.get("training") is None or not self._kl_spec.training:
                kwargs = {k: v for k, v in kwargs.items() if k != "training"}
            return self.call(tree.map_structure(ops.convert_to_tensor, data), *args, **kwargs)
        finally:
            scopes.backend = outer

    def next_seed(self) -> Any:
        """Return the seed of a call: another one in each call, worker process and epoch.

        The layer's `generator` is asked, or one for the framework in whose graph it is called.
        """
        name = backends.backend()
        if name == self.backend:
            generator = self.generator
        else:
            others = self.__dict__.setdefault("_kl_generators", {})
            generator = others.get(name) or SeedGenerator(self.generator.get_config()["seed"])
            others[name] = generator
        seed, worker = generator.next(), worker_seed()
        return ops.add(seed, np.array([signed(worker), 0], np.int32)) if worker else seed

    def __getstate__(self) -> dict[str, Any]:
        passing = ("_kl_generators", "_kl_compiled")  # made again when they are needed
        return {k: v for k, v in self.__dict__.items() if k not in passing}


def _graph_of(data: Any) -> str | None:
    """Return the backend whose graph is being traced with tensors of a structure; None if none."""
    for x in tree.flatten(data):
        name = backends.of(x)
        if name in backends.MODULES and backends.MODULES[name].is_traced(x):
            return name
    return None


class Pipeline(DataLayer):
    """Apply layers one after the other: a row of preprocessing or augmentation.

    Inside `tf.data.Dataset.map` it runs in TensorFlow, as its layers do.

    Args:
        layers: the layers.
        name: a name.

    >>> row = Pipeline([layers.Rescaling(2.0), layers.Rescaling(1.0, offset=1.0)])
    >>> row(np.float32([3.0])).tolist()
    [7.0]
    """

    def __init__(self, layers: Any, name: str | None = None):
        self.set_arguments({"name": name})
        self._steps = list(layers)
        if not all(isinstance(layer, Layer) for layer in self._steps):
            raise ValueError(f"`layers` must be a list of layers, got {layers!r}.")
        self.autocast = False

    @property
    def layers(self) -> list[Layer]:
        """The layers."""
        return list(self._steps)

    def call(self, inputs: Any, training: bool = True, mask: Any = None) -> Any:
        """Apply the layers."""
        for layer in self._steps:
            inputs = layer(inputs, training=training)
        return inputs

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        return {"name": self.name, "layers": serialize_keras_object(self._steps)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Pipeline":
        """The layer of a config."""
        return cls(**{**config, "layers": [deserialize_keras_object(x) for x in config["layers"]]})
