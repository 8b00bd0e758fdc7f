"""Model: a layer that can be compiled, fitted, saved and shown."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from keraslite import backend as backends
from keraslite import masking, quantizers, tree
from keraslite.layers.base.building import (
    build_shapes,
    map_shapes,
    note_first_inputs,
    restore_build_state,
    set_build_shapes,
    shapes_in,
)
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.modes import MODES
from keraslite.layers.base.quantized import Quantized
from keraslite.layers.base.symbolic_call import add_node
from keraslite.layers.base.tracking import LayerList
from keraslite.models.calibration import calibrate, layers_of, structure_of
from keraslite.models.exportable import Exportable
from keraslite.models.folding import folded_calls
from keraslite.models.graph import (
    Graph,
    graph_config,
    make_graph,
    match_inputs,
    rebuild_graph,
    run_graph,
)
from keraslite.models.host_part import inputs_between, preprocess, preprocessed, split
from keraslite.models.state_tree import get_state_tree, set_state_tree
from keraslite.operation import Operation
from keraslite.optimizers import Optimizer
from keraslite.registry import (
    custom_object_scope,
    deserialize_keras_object,
    public_class,
    serialize_keras_object,
)
from keraslite.saving.model_file import save_model
from keraslite.saving.weight_files import load_weights, save_weights
from keraslite.symbolic import KerasTensor, Node
from keraslite.training.rows import named_columns
from keraslite.training.trainer import Trainer
from keraslite.typing import overridable
from keraslite.utils.progress import message
from keraslite.utils.summary import summary_table


class graph_property:  # noqa: N801 - used like `property`
    """A property of models with a graph.

    Unlike with `property`, a subclass may keep something else in an attribute of that name.
    """

    def __init__(self, function: Callable[[Any], Any]):
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, model: Any, owner: type) -> Any:
        if model is None:
            return self
        if not model.is_functional:
            if model.first_call is not None and hasattr(Operation, self.function.__name__):
                return getattr(super(Model, model), self.function.__name__)
            raise AttributeError(
                f"Model {model.name!r} has no {self.function.__name__!r}: it must be functional, "
                "or a Sequential with a known input shape."
            )
        return self.function(model)


class Model(Exportable, Trainer, Layer):
    """A network: functional as `Model(inputs, outputs)`, or a subclass that writes `call`.

    Args:
        inputs: nested KerasTensors, for a functional model.
        outputs: nested KerasTensors.
        name: a name.

    >>> class Twice(Model):
    ...     def call(self, x):
    ...         return x + x
    >>> ops.convert_to_numpy(Twice()([1.0])).tolist()
    [2.0]
    """

    _graph: Graph | None = None
    # The graph in two parts, if layers that compute on the host are the first in it.
    _host_parts: tuple[Graph, Graph] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if public_class(cls) is not Model or not _is_functional(args, kwargs):
            return super().__new__(cls, *args, **kwargs)
        model = super().__new__(Functional, *args, **kwargs)
        if not isinstance(model, cls):  # the class derived for a backend: Python stops here
            model.__init__(*args, **kwargs)
        return model

    def __init__(
        self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any
    ):
        if (inputs is None) != (outputs is None):
            raise TypeError("A functional model needs both inputs and outputs.")
        super().__init__(name=name, **kwargs)
        if inputs is not None:
            self.set_graph(make_graph(inputs, outputs))
            inputs = self._graph.input_layers
            self._layers_in_order = LayerList(x for x in self._graph.layers if x not in inputs)

    @property
    def is_functional(self) -> bool:
        """Whether the model holds a graph."""
        return self._graph is not None

    @property
    def first_call_number(self) -> int:
        """The number of the model's first call in the config of a model around it."""
        return int(self.is_functional)

    def get_graph(self) -> Graph | None:
        """The calls that a functional model runs; None for another."""
        return self._graph

    def set_graph(self, graph: Graph | None) -> None:
        """Make the model one that runs a graph and is built; None takes the graph away."""
        self._graph, self.built = graph, graph is not None
        self._host_parts = None if graph is None else split(graph)
        self.autocast = graph is None  # values are cast to the dtypes of the symbolic inputs

    # -- what a graph tells ---------------------------------------------------------------------

    @graph_property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, flat."""
        return self._graph.flat_inputs

    @graph_property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, flat."""
        return self._graph.flat_outputs

    @graph_property
    def output_names(self) -> list[str]:
        """The names of the operations that give the outputs, by which losses may name them."""
        return self._graph.output_names

    @graph_property
    def input(self) -> Any:
        """The symbolic inputs, nested as the model takes them."""
        return self._graph.inputs

    @graph_property
    def output(self) -> Any:
        """The symbolic outputs, nested as the model gives them."""
        return self._graph.outputs

    @graph_property
    def input_shape(self) -> Any:
        """The shapes of the inputs."""
        return tree.map_structure(lambda x: x.shape, self._graph.inputs)

    @graph_property
    def output_shape(self) -> Any:
        """The shapes of the outputs."""
        return tree.map_structure(lambda x: x.shape, self._graph.outputs)

    @graph_property
    def operations(self) -> list[Operation]:
        """The operations of the graph, each once: input layers first, then layers and ops."""
        return self._graph.operations

    def graph_nodes(self) -> list[Node]:
        """Return the calls of the graph, those of the inputs first; none without a graph."""
        if self._graph is None:
            return []
        inputs = [x.node for x in self._graph.flat_inputs]
        return [node for node in inputs if node is not None] + self._graph.nodes

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, with which `summary` finds the output shapes of layers.

        Sizes that differ between several of them are shown as None; by default there is one, of
        the shape that the model was built with, and none before.
        """
        shapes = build_shapes(self)
        if not shapes or len(shapes) > 1:
            return []
        (shape,) = shapes.values()
        return [] if shape is None else [map_shapes(KerasTensor, shape)]

    @overridable
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph; a subclass without one writes this method."""
        if self._graph is None:
            raise NotImplementedError(f"{type(self).__name__} does not implement call().")
        if self._host_parts is not None:
            values = preprocessed(inputs)
            values = preprocessed(self.preprocess(inputs)) if values is None else values
            rest = self._host_parts[1]
            return run_graph(rest, values, folded_calls(rest, self.backend))
        values = self.match_inputs(inputs)
        if mask is not None:
            for x, m in zip(values, tree.flatten(mask), strict=True):
                masking.set_mask(x, m)
        return run_graph(self._graph, values, folded_calls(self._graph, self.backend))

    @property
    def host_parts(self) -> tuple[Graph, Graph] | None:
        """The graph in two parts, if layers that compute on the host are the first in it."""
        return self._host_parts

    def preprocess(self, inputs: Any) -> Any:
        """Run the first layers on inputs, if they compute on the host, such as TextVectorization.

        The loops do so ahead of the compiled step. The model takes the result as it takes inputs.

        Args:
            inputs: the nested values of a call; if no layer computes on the host they come back.
        """
        if self._host_parts is None:
            return inputs
        with backends.backend_scope(self.backend):
            return preprocess(self._host_parts[0], inputs, self.name)

    def preprocessed_inputs(self) -> Any:
        """Return symbolic values of what `preprocess` gives; None if nothing runs on the host."""
        return inputs_between(self._host_parts)

    def _transform(self, training: bool) -> Callable | None:
        if self._host_parts is None:
            return super()._transform(training)
        return lambda x, y, sample_weight: (self.preprocess(x), y, sample_weight)

    def _data(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        graph = self._graph
        if graph is not None and isinstance(graph.inputs, dict):
            x = named_columns(x, list(graph.inputs))
        elif graph is not None and len(graph.flat_inputs) > 1:
            x = named_columns(x, [v.name for v in graph.flat_inputs])
        return super()._data(x, *args, **kwargs)

    def _symbolic(
        self, args: tuple, kwargs: dict, training: bool | None, asked: bool | None
    ) -> Any:
        if self._host_parts is None or preprocessed(args[0]) is not None:
            return super()._symbolic(args, kwargs, training, asked)
        outputs = run_graph(self._graph, self.match_inputs(args[0]))  # call by call
        outputs = tree.map_structure(lambda x: KerasTensor(x.dims, x.dtype), outputs)
        add_node(self, args, kwargs, outputs, asked)
        return outputs

    def match_inputs(self, inputs: Any) -> list[Any]:
        """Return the values of a call, flat, in the order, dtypes and ranks of the graph's inputs.

        Args:
            inputs: the nested values.
        """
        return match_inputs(self._graph, inputs, self.name)

    # -- configs and copies ---------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, or the graph where the constructor is Model's own."""
        if self._graph is None or type(self).__init__ is not Model.__init__:
            return super().get_config()
        return {"name": self.name, "trainable": self.trainable, **graph_config(self._graph)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of a config; a graph's config makes a functional model.

        Args:
            config: what `get_config` gave.
            custom_objects: classes and functions that are not registered, by name.
        """
        of_graph = cls.__init__ is Model.__init__ and {"layers", "output_layers"} <= set(config)
        with custom_object_scope(custom_objects):
            if not of_graph:
                return super().from_config(config)
            inputs, outputs = rebuild_graph(config)
        model = cls(inputs, outputs, name=config["name"])
        if not config.get("trainable", True):
            model.trainable = False
        return model

    def __reduce__(self) -> tuple:
        rebuild, args, state = super().__reduce__()
        # The graph first: whoever copies the state then finds the layers already copied in the
        # order in which they run, and a deep graph makes no deep recursion.
        first = {key: state[key] for key in ("_graph",) if key in state}
        return rebuild, args, first | state

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside; of a graph by their distance from the outputs."""
        if self._graph is None:
            return [layer for _, layer in self.own_layers()]
        return list(self._graph.layers)

    def layers_in_call_order(self) -> list[Layer]:
        """The layers that a graph calls, in the order in which they run; none without a graph."""
        nodes = [] if self._graph is None else self._graph.nodes
        called = dict.fromkeys(node.operation for node in nodes)
        return [operation for operation in called if isinstance(operation, Layer)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or the one at an index."""
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"Model {self.name!r} has no layer {name!r}. It has: {[x.name for x in self.layers]}."
        )

    def _build(self, args: tuple, kwargs: dict) -> None:
        super()._build(args, kwargs)
        note_first_inputs(self, args)

    def build_from_config(self, config: dict[str, Any] | None) -> None:
        """Build from what `get_build_config` gave: by `build`, else by a symbolic call."""
        if not config or self.built:
            return
        if type(self).build is not Layer.build:
            super().build_from_config(config)
            if all(layer.built for layer in self.flatten_layers()):
                return
        shapes = shapes_in(config)
        symbols = (map_shapes(lambda s: KerasTensor(s, self.compute_dtype), s)
                   for s in shapes.values())  # fmt: skip
        self(*symbols)
        set_build_shapes(self, shapes)
        restore_build_state(self, config)

    def get_quantization_layer_structure(self, mode: str | None = None) -> dict[str, Any] | None:
        """Return which layers "gptq" and "awq" run one after the other; models override it.

        Args:
            mode: the quantization mode.

        Returns:
            None, or {"pre_block_layers": [...], "sequential_blocks": [...]}: the layers that token
            ids go through first, and the blocks after them; "block_arguments" may hold keyword
            arguments with which each block is called.
        """
        return None

    def quantize(
        self, mode: str | None = None, config: Any = None, filters: Any = None, **kwargs: Any
    ) -> None:
        """Quantize the large weights of the layers inside: Dense, EinsumDense, Embedding.

        But for "float8" they are not trained any more. An optimizer that has state is replaced by
        a new one. "gptq" and "awq" fit the weights to data, in the blocks that their config or
        `get_quantization_layer_structure` names; layers outside of these are left as they are.

        Args:
            mode: "int8", "int4", "float8", "gptq" or "awq".
            config: options of the mode, such as an `Int8QuantizationConfig` or a `GPTQConfig`.
            filters: which layers: a regular expression searched for in their names, a list of
                these, or a function of the layer; all by default.
            kwargs: `type_check=False` takes subclasses of these layers too.

        Raises:
            ValueError: a layer is not built yet or quantized already; nothing was changed.

        Example:
            >>> model = Sequential([layers.Input((4,)), layers.Dense(8, name="first")])
            >>> model.quantize("int8", filters="first")
            >>> [w.dtype for w in model.weights]
            ['float32', 'int8', 'float32']
        """
        check = kwargs.pop("type_check", True)
        if kwargs:
            raise ValueError(f"quantize() does not know the arguments {sorted(kwargs)}.")
        config, chosen = quantizers.resolve(mode, config), []
        candidates, structure = self.flatten_layers(), None
        if MODES[config.mode].needs_data:
            structure = structure_of(self, config)
            blocks = structure["sequential_blocks"]
            fitted = {id(layer) for block in blocks for layer in layers_of(block)}
        uses = Counter(id(v) for layer in candidates for _, v in layer.own_variables())
        for layer in candidates:
            if structure is not None and id(layer) not in fitted:
                continue
            if isinstance(layer, Quantized) and _chosen(layer, filters):
                try:
                    layer.check_quantizable(config.mode, check, config)
                    if any(uses[id(layer.__dict__[name])] > 1 for name in layer.large_weights()):
                        raise NotImplementedError(f"Layer {layer.name!r} shares its weight.")
                except NotImplementedError as error:
                    warnings.warn(f"{error} It is left as it is.", stacklevel=2)
                else:
                    chosen.append(layer)
        new_optimizers = {
            attribute: type(value).from_config(value.get_config())
            for attribute, value in self.__dict__.items()
            if isinstance(value, Optimizer) and value.built and chosen
        }
        for layer in chosen:
            layer.quantize(config.mode, check, config)
        if structure is not None and chosen:
            with backends.backend_scope(self.backend):
                calibrate(structure, config, chosen)
        self.__dict__.update(new_optimizers)
        if not chosen:
            warnings.warn(f"Model {self.name!r} has no layer to quantize here.", stacklevel=2)

    def summary(
        self,
        line_length: int | None = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        **kwargs: Any,
    ) -> None:
        """Print the layers, their output shapes and parameter counts as a table.

        Args:
            line_length: the width in characters.
            print_fn: a function of the text; `print` by default.
            expand_nested: whether the layers inside layers are listed too.
            show_trainable: whether a column says which layers are trained.
        """
        (print_fn or message)(summary_table(self, line_length, expand_nested, show_trainable))

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Save config, weights and optimizer state in one file, or as a folder.

        Args:
            filepath: where to; `keraslite.saving.load_model` reads it on any backend.
            overwrite: whether an existing file is replaced.
            zipped: False for a folder of files in the place of one file.
            kwargs: further arguments of `keraslite.saving.save_model`.
        """
        save_model(self, filepath, overwrite, zipped, **kwargs)

    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Save the weights as safetensors.

        Args:
            filepath: where to.
            overwrite: whether an existing file is replaced.
            max_shard_size: the largest size of a file in GB, for several files behind an index.
            kwargs: further arguments of `keraslite.saving.save_weights`.
        """
        save_weights(self, filepath, overwrite, max_shard_size, **kwargs)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Load weights saved by `save_weights`; a missing or unused tensor is an error.

        Args:
            filepath: the file.
            skip_mismatch: whether weights that do not fit are left as they are, with a warning.
            kwargs: further arguments of `keraslite.saving.load_weights`.
        """
        load_weights(self, filepath, skip_mismatch, **kwargs)

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """Return the values of all variables: nested dicts by the names in their paths.

        Args:
            value_format: "backend_tensor", or "numpy_array" for copies.

        Raises:
            ValueError: two variables have the same path, or there is no such format.

        Example:
            >>> model = Sequential([layers.Input((2,)), layers.Dense(1, name="out")], name="m")
            >>> list(model.get_state_tree()["trainable_variables"]["m"]["out"])
            ['kernel', 'bias']
        """
        return get_state_tree(self, value_format)

    def set_state_tree(self, state_tree: dict[str, Any]) -> None:
        """Assign the values of a state tree to the variables.

        Args:
            state_tree: what `get_state_tree` gave, or a part of it.

        Raises:
            ValueError: a name in it is of no variable, or a value has another shape; nothing was
                changed.
        """
        set_state_tree(self, state_tree)

    def to_json(self, **kwargs: Any) -> str:
        """The model's config as JSON; `models.model_from_json` reads it."""
        return json.dumps(serialize_keras_object(self), **kwargs)


class Functional(Model):
    """A model from symbolic inputs to symbolic outputs; `Model(inputs, outputs)` makes one.

    Args:
        inputs: nested KerasTensors.
        outputs: nested KerasTensors that depend on them.
        name: a name.
    """


def _is_functional(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Return whether the arguments of a constructor give inputs and outputs."""
    return len(args) > 1 or "outputs" in kwargs


def _chosen(layer: Layer, filters: Any) -> bool:
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(layer))
    filters = [filters] if isinstance(filters, str) else filters
    if not isinstance(filters, list | tuple):
        raise ValueError(
            "`filters` must be a regular expression, a list of them or a function of a layer. "
            f"Received: {filters!r}"
        )
    return any(re.search(pattern, layer.name) for pattern in filters)


def model_from_json(json_string: str, custom_objects: Any = None) -> Model:
    """The model that `Model.to_json` described, with fresh weights."""
    return deserialize_keras_object(json.loads(json_string), custom_objects)
