"""Sequential: layers one after the other."""

from collections.abc import Callable
from typing import Any

from keraslite import tree
from keraslite.layers.base.building import as_shape, declared_input_shape, map_shapes
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.masks import accepts_mask
from keraslite.layers.base.tracking import LayerList
from keraslite.layers.input_layer import InputLayer
from keraslite.layers.lambda_layer import Lambda
from keraslite.models.graph import make_graph
from keraslite.models.host_part import (
    as_preprocessed,
    preprocessed,
    runs_on_host,
    text_array,
)
from keraslite.models.model import Model
from keraslite.naming import layer_scope
from keraslite.registry import (
    deserialize_keras_object,
    serialize_keras_object,
)
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor, Node


class Sequential(Model):
    """Layers in a row, each with one input and one output.

    Args:
        layers: the layers; an `Input` first builds the model at once.
        trainable: whether they are trained.
        name: a name.

    >>> len(Sequential([Input((4,)), layers.Dense(2)]).weights)
    2
    """

    first_call_number = 0

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self._layers_in_order = LayerList()  # the input layer first, if any
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Put a layer at the end.

        Args:
            layer: a layer, a KerasTensor made by `Input`, or a function of tensors.
            rebuild: kept for Keras code.
        """
        if isinstance(layer, KerasTensor):
            layer = layer.node.operation
        if not isinstance(layer, Layer):
            if not callable(layer):
                raise ValueError(f"Sequential takes layers, got {layer!r}.")
            layer = Lambda(layer)
        shape = declared_input_shape(layer)
        if not self._layers_in_order and shape is not None:
            self._layers_in_order.append(InputLayer(batch_shape=shape))
        if any(layer.name == other.name for other in self._layers_in_order):
            raise ValueError(
                f"Layer names are unique in a Sequential; {layer.name!r} is used already."
            )
        self._layers_in_order.append(layer)
        self._connect()

    def pop(self, rebuild: bool = True) -> Layer:
        """Take the last layer off."""
        layer = self._layers_in_order.pop()
        self.set_graph(None)
        if self._layers_in_order:
            self._connect()
        return layer

    @property
    def input_layer(self) -> InputLayer | None:
        """The layer of the input; None where its shape is not known."""
        first = self._layers_in_order[0] if self._layers_in_order else None
        return first if isinstance(first, InputLayer) else None

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        return [x for x in self._layers_in_order if not isinstance(x, InputLayer)]

    def _connect(self) -> None:
        """Make the graph, or add the last layer to it, once the shape of the input is known."""
        if self.is_functional:
            inputs, x, new = self.input, self.output, self._layers_in_order[-1:]
        else:
            inputs = x = self._symbolic_inputs()
            new = self._layers_in_order[isinstance(self._layers_in_order[0], InputLayer) :]
        if inputs is None or not new:
            return
        with layer_scope(self):
            for layer in new:
                x = layer(x)
        self.set_graph(make_graph(inputs, x))

    def _symbolic_inputs(self) -> Any:
        """Return what the first layer says of the input: an Input, or a model that has a graph."""
        first = self._layers_in_order[0]
        if isinstance(first, InputLayer):
            return first.output
        if not isinstance(first, Model) or not first.is_functional:
            return None
        return tree.map_structure(
            lambda x: InputLayer(batch_shape=x.shape, dtype=x.dtype, name=x.name).output,
            first.input,
        )

    def build(self, input_shape: Any = None) -> None:
        """Build the layers and the graph for an input shape.

        Inputs in a list or a dict make no graph: the layers are built when they are called.
        """
        shape = as_shape(input_shape)
        if not isinstance(shape, tuple) and self._starts_on_host():  # a list of texts
            shape = (None,)
        if not self.is_functional and isinstance(shape, tuple) and self._layers_in_order:
            if not isinstance(self._layers_in_order[0], InputLayer):
                dtype = self._layers_in_order[0].input_dtype
                shape = (None, *shape[1:])
                self._layers_in_order.insert(0, InputLayer(batch_shape=shape, dtype=dtype))
            self._connect()
        self.built = True

    def _starts_on_host(self) -> bool:
        return bool(self.layers) and runs_on_host(self.layers[0])

    def preprocess(self, inputs: Any) -> Any:
        """Run the first layers on inputs, if they compute on the host, such as TextVectorization.

        Args:
            inputs: the values of a call; if no layer computes on the host they come back.
        """
        if not self.is_functional and self._starts_on_host():
            self.build(tuple(getattr(text_array(inputs), "shape", (None,))))
        return super().preprocess(inputs)

    def _transform(self, training: bool) -> Callable | None:
        if not self._starts_on_host():
            return super()._transform(training)
        return lambda x, y, sample_weight: (self.preprocess(x), y, sample_weight)

    def graph_nodes(self) -> list[Node]:
        """Return the calls of the layers in order, without the input."""
        return [node for node in super().graph_nodes() if node.inputs]

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the layers in order."""
        if scopes.predicting and self.is_functional:
            return super().call(inputs, training, mask)  # which folds what follows convolutions
        x, layers = inputs, self.layers
        if self._host_parts is not None:
            values = preprocessed(inputs)
            values = preprocessed(self.preprocess(inputs)) if values is None else values
            first = self._host_parts[0].nodes
            done = [node for node in first if isinstance(node, Node)]
            # Else the next layer is a model that takes texts, of which the first part ran.
            x = values[0] if len(done) == len(first) else as_preprocessed(values)
            layers = layers[len(done) :]
        elif self.is_functional:
            expected, values = self.input, self.match_inputs(inputs)
            single = isinstance(expected, KerasTensor)
            x = values[0] if single else tree.pack_sequence_as(expected, values)
        for layer in layers:
            takes_mask = mask is not None and accepts_mask(layer)
            x = layer(x, mask=mask) if takes_mask else layer(x)
            mask = None
        return x

    def get_config(self) -> dict[str, Any]:
        """The layers' configs."""
        config: dict[str, Any] = {
            "name": self.name, "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
            "layers": [serialize_keras_object(x) for x in self._layers_in_order],
        }  # fmt: skip
        if self.built and self.is_functional:
            config["build_input_shape"] = map_shapes(list, self.input_shape)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Sequential":
        """The model of a config.

        Args:
            config: what `get_config` gave.
            custom_objects: classes and functions that are not registered, by name.
        """
        model = cls(name=config.get("name"), trainable=config.get("trainable", True))
        for entry in config["layers"]:
            model.add(deserialize_keras_object(entry, custom_objects))
        shape = config.get("build_input_shape")
        if shape and not model.built:
            model.build(as_shape(shape))
        return model
