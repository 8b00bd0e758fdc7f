"""The graph of a model: its calls in the order in which they run, how they run, and as a config.

A graph holds no weights and knows no model. Its config has Keras's form: an entry for each
operation, with the calls of it in `inbound_nodes`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keraslite import masking, ops, tree
from keraslite.backend import OF
from keraslite.layers.base.layer import Layer
from keraslite.layers.input_layer import InputLayer
from keraslite.models.keras_ops import keras_call, keras_op
from keraslite.naming import free_name
from keraslite.operation import Operation
from keraslite.ops.op import TABLE
from keraslite.registry import deserialize_keras_object, serialize_keras_object
from keraslite.symbolic import KerasTensor, Node

# The place of a symbolic tensor in a config: the operation's name, which call of it, which output.
Call = tuple[str, int]


@dataclass(eq=False)
class Graph:
    """The calls between symbolic inputs and outputs.

    Args:
        inputs: nested KerasTensors.
        nodes: the calls, in an order in which they can run.
        outputs: nested KerasTensors.
        input_layers: the layers of the inputs, in the order of the flat inputs.
        layers: the layers of the inputs and those that are called, each once, in Keras's order:
            by the number of calls to the outputs.
        last_uses: for each node the tensors whose values nothing needs after it.
    """

    # The calls stand before the outputs: who copies the fields in this order finds what a call
    # refers to already copied, so that a deep graph makes no deep recursion.
    inputs: Any
    nodes: list[Node]
    outputs: Any
    input_layers: list[Layer]
    layers: list[Layer]
    last_uses: list[list[KerasTensor]]

    @property
    def flat_inputs(self) -> list[KerasTensor]:
        """The symbolic inputs in a flat list."""
        return [self.inputs] if isinstance(self.inputs, KerasTensor) else tree.flatten(self.inputs)

    @property
    def flat_outputs(self) -> list[KerasTensor]:
        """The symbolic outputs in a flat list."""
        return tree.flatten(self.outputs)

    @property
    def output_names(self) -> list[str]:
        """The names of the operations that make the outputs."""
        return [operation_name(x.node.operation) if x.node else x.name for x in self.flat_outputs]

    @property
    def operations(self) -> list[Operation]:
        """The operations, each once: the input layers first, then layers and ops."""
        taken = {layer.name for layer in self.input_layers}
        operations: dict[int, Operation] = {id(x): x for x in self.input_layers}
        for node in self.nodes:
            operation = node.operation
            if not isinstance(operation, Operation):  # each call of an op is one
                operation = OpCall(node, free_name(operation_name(operation), taken))
            taken.add(operation.name)
            operations[id(operation)] = operation
        return list(operations.values())


class OpCall(Operation):
    """The call of an op in a graph, as an operation.

    Args:
        node: the call.
        name: a name.
    """

    def __init__(self, node: Node, name: str | None = None):
        super().__init__(name or operation_name(node.operation))
        self.function = node.operation
        self.first_call = node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def make_graph(inputs: Any, outputs: Any, own_inputs: bool = True) -> Graph:
    """Return the graph between symbolic inputs and outputs.

    Args:
        inputs: nested KerasTensors.
        outputs: nested KerasTensors that depend on them alone.
        own_inputs: whether inputs that are made by calls are replaced by new ones, so that each
            is that of an input layer.

    Raises:
        ValueError: an input is no KerasTensor, or an output depends on anything else.
    """
    flat = tree.flatten(inputs)
    for x in flat:
        if not isinstance(x, KerasTensor):
            raise ValueError(f"The inputs of a functional model must be KerasTensors, got {x!r}.")
    nodes = nodes_between(flat, tree.flatten(outputs))
    if own_inputs and any(map(_is_called, flat)):  # out of the middle of a graph
        inputs, outputs = _behind_inputs(inputs, nodes, outputs)
        return make_graph(inputs, outputs)
    input_layers = [_input_layer(x) for x in flat if not _is_called(x)]
    layers = _by_depth(flat, input_layers, nodes, tree.flatten(outputs))
    return Graph(inputs, nodes, outputs, input_layers, layers, _last_uses(nodes, outputs))


def _last_uses(nodes: list[Node], outputs: Any) -> list[list[KerasTensor]]:
    """Return for each node the tensors that no later node takes, and that are no outputs."""
    needed = {id(x) for x in tree.flatten(outputs)}
    uses: list[list[KerasTensor]] = []
    for node in reversed(nodes):
        tensors = {id(x): x for x in (*node.inputs, *node.outputs) if id(x) not in needed}
        uses.append(list(tensors.values()))
        needed |= tensors.keys()
    return uses[::-1]


def _by_depth(
    inputs: list[KerasTensor],
    input_layers: list[Layer],
    nodes: list[Node],
    outputs: list[KerasTensor],
) -> list[Layer]:
    """Return layers by their distance from the outputs, equal ones as a search from there meets
    them: the order of Keras's `model.layers` and weights.
    """
    # An input that a call gave has no layer, and stands for itself.
    named = iter(input_layers)
    places: dict[int, Any] = {id(x): x if _is_called(x) else next(named) for x in inputs}

    def calls(tensors: list[KerasTensor]) -> list[tuple[Any, Any, list[KerasTensor]]]:
        """Return what made each tensor: the call, the operation, what it was called on."""
        made = [(x, places.get(id(x))) for x in tensors]
        return [
            (x.node, x.node.operation, x.node.inputs) if layer is None else (layer, layer, [])
            for x, layer in made
        ]

    call_depths: dict[int, int] = {}
    depths: dict[int, int] = {}
    for node in reversed(nodes):
        key = id(node.operation)
        # A layer that is called twice counts at its farthest call.
        depth = depths[key] = max(call_depths.get(id(node), 0), depths.get(key, 0))
        for call, _, _ in calls(node.inputs):
            call_depths[id(call)] = max(call_depths.get(id(call), 0), depth + 1)
    depths |= {id(layer): call_depths.get(id(layer), 0) for layer in input_layers}
    visited: set[int] = set()
    operations: dict[int, Any] = {}
    stack = calls(outputs)[::-1]
    while stack:
        call, operation, tensors = stack.pop()
        if id(call) not in visited:
            visited.add(id(call))
            operations.setdefault(id(operation), operation)
            stack.extend(calls(tensors)[::-1])
    operations |= {id(layer): layer for layer in input_layers}
    layers = [x for x in operations.values() if isinstance(x, Layer)]
    return sorted(layers, key=lambda layer: -depths[id(layer)])


def _is_called(x: KerasTensor) -> bool:
    """Return whether a symbolic tensor is what a call gave, and not an input."""
    return x.node is not None and bool(x.node.inputs)


def _behind_inputs(inputs: Any, nodes: list[Node], outputs: Any) -> tuple[Any, Any]:
    """Return inputs that are all new where they were made by calls, and the outputs for them."""

    def replaced(x: KerasTensor) -> KerasTensor:
        return InputLayer(batch_shape=x.shape, dtype=x.dtype).output if _is_called(x) else x

    new = tree.map_structure(replaced, inputs)
    uses = _last_uses(nodes, outputs)
    return new, _run(nodes, uses, tree.flatten(inputs), tree.flatten(new), outputs)


def nodes_between(inputs: list[KerasTensor], outputs: list[KerasTensor]) -> list[Node]:
    """Return the calls that lead from inputs to outputs, in an order in which they can run."""
    order: list[Node] = []
    visited: set[int] = set()
    input_ids = {id(x) for x in inputs}
    for output in outputs:
        stack: list[tuple[KerasTensor, bool]] = [(output, False)]
        while stack:
            tensor, inputs_are_ordered = stack.pop()
            node = tensor.node
            if id(tensor) in input_ids:
                continue
            if node is None or not node.inputs:  # of no operation, or another Input
                raise ValueError(
                    f"The outputs depend on {tensor!r}, which is not among the inputs of the model."
                )
            if id(node) in visited:
                continue
            if inputs_are_ordered:
                visited.add(id(node))
                order.append(node)
            else:
                stack.append((tensor, True))
                stack.extend((x, False) for x in reversed(node.inputs))
    return order


def _input_layer(symbol: KerasTensor) -> Layer:
    layer = symbol.node.operation if symbol.node is not None else None
    return layer if isinstance(layer, InputLayer) else InputLayer(input_tensor=symbol)


def operation_name(operation: Any) -> str:
    """Return the name of what a node calls: a layer's own, or the op's."""
    return operation.name if isinstance(operation, Operation) else operation.op.name


# -- running --------------------------------------------------------------------------------------


def run_graph(graph: Graph, inputs: list[Any], calling: Callable | None = None) -> Any:
    """Return the outputs for values of the inputs.

    Args:
        graph: the graph.
        inputs: a value for each symbolic input, as `match_inputs` orders them.
        calling: gives what is called at a node; its operation by default.
    """
    uses = graph.last_uses
    return _run(graph.nodes, uses, graph.flat_inputs, inputs, graph.outputs, calling)


def _run(
    nodes: list[Node],
    last_uses: list[list[KerasTensor]],
    symbols: list[KerasTensor],
    inputs: list[Any],
    outputs: Any,
    calling: Callable | None = None,
) -> Any:
    """Return the outputs for values of the symbolic inputs."""
    values = dict(zip(map(id, symbols), inputs, strict=True))

    def value_of(x: Any) -> Any:
        return values[id(x)] if isinstance(x, KerasTensor) else x

    for node, last in zip(nodes, last_uses, strict=True):
        function = node.operation if calling is None else calling(node)
        if not node.kwargs and len(node.args) == 1 and type(node.args[0]) is KerasTensor:
            result = function(values[id(node.args[0])])  # without a walk of the structure
        else:
            args, kwargs = tree.map_structure(value_of, (node.args, node.kwargs))
            result = function(*args, **kwargs)
        cls = type(result)
        if len(node.outputs) == 1 and (cls is np.ndarray or OF.get(cls) is not None):
            values[id(node.outputs[0])] = result
        else:
            result = tree.flatten(result)
            for symbol, place in zip(node.outputs, node.places, strict=True):
                values[id(symbol)] = result[place]
        for symbol in last:  # what is held until the end takes memory
            del values[id(symbol)]
    single = isinstance(outputs, KerasTensor)
    return value_of(outputs) if single else tree.map_structure(value_of, outputs)


def split_graph(graph: Graph, comes_first: Callable[[Node], bool]) -> tuple[Graph, Graph] | None:
    """Return a graph in two parts: calls that depend on the inputs alone, and the others.

    Args:
        graph: the graph.
        comes_first: whether a call belongs to the first part, if what it is called on does.

    Returns:
        (the first part, the second one, which takes what the first gives), or None if no call
        belongs to the first part.
    """
    available = {id(x) for x in graph.flat_inputs}
    first: list[Node] = []
    for node in graph.nodes:
        if comes_first(node) and all(id(x) in available for x in node.inputs):
            first.append(node)
            available |= {id(x) for x in node.outputs}
    if not first:
        return None
    rest = [node for node in graph.nodes if node not in first]
    made = {id(x) for node in rest for x in node.outputs}
    taken = [x for node in rest for x in node.inputs] + graph.flat_outputs
    between = list({id(x): x for x in taken if id(x) not in made}.values())
    return (
        Graph(graph.inputs, first, between, [], [], _last_uses(first, between)),
        Graph(between, rest, graph.outputs, [], [], _last_uses(rest, graph.outputs)),
    )


def match_inputs(graph: Graph, inputs: Any, name: str) -> list[Any]:
    """Return the values of a call in the order of the symbolic inputs; dicts go by name.

    Values have the dtypes of the symbolic inputs, and a last axis of size 1 more or less.

    Args:
        graph: the graph.
        inputs: the nested values of a call.
        name: the model's, for errors.

    Raises:
        ValueError: an input is missing, is one too many, or has another shape.
    """
    symbols = graph.flat_inputs
    if OF.get(type(inputs)) is not None:
        flat = [inputs]
    else:
        flat = _by_name(graph, inputs, name) if isinstance(inputs, dict) else tree.flatten(inputs)
    if len(flat) != len(symbols):
        raise ValueError(f"Model {name!r} expects {len(symbols)} inputs, got {len(flat)}.")
    return [_match(x, symbol, name) for x, symbol in zip(flat, symbols, strict=True)]


def _by_name(graph: Graph, inputs: dict[str, Any], name: str) -> list[Any]:
    by_key = isinstance(graph.inputs, dict)
    keys = list(graph.inputs) if by_key else [s.name for s in graph.flat_inputs]
    missing = [key for key in keys if key not in inputs]
    if missing:
        raise ValueError(
            f"Model {name!r} misses the inputs {sorted(missing) if by_key else missing}; "
            f"got {sorted(inputs)}."
        )
    surplus = [key for key in inputs if key not in keys]
    if surplus and by_key:  # as Keras; a model of a list takes what it knows by name
        warnings.warn(
            f"Model {name!r} ignores the inputs {surplus}: it takes {keys}.", stacklevel=2
        )
    return tree.flatten({k: inputs[k] for k in keys}) if by_key else [inputs[k] for k in keys]


def _fits(sizes: tuple, expected: tuple) -> bool:
    for size, other in zip(sizes, expected, strict=True):
        if size != other and size is not None and other is not None:
            return False
    return True


def _match(x: Any, symbol: KerasTensor, name: str) -> Any:
    """Return a value in the dtype and rank of a symbolic input."""
    shape, expected, given = getattr(x, "shape", None), symbol.shape, x
    if shape is None:
        return x
    text = isinstance(x, np.ndarray) and x.dtype.kind in "OSU"
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        x = x[..., 0] if text else ops.squeeze(x, -1)
    elif len(shape) == len(expected) - 1 and expected[-1] == 1:
        x = x[..., None] if text else ops.expand_dims(x, -1)
    shape = tuple(x.shape)
    if len(shape) != len(expected) or not _fits(shape, expected):
        raise ValueError(
            f"Model {name!r} expects the input {symbol.name!r} to have shape "
            f"{symbol.shape}, got {tuple(given.shape)}."
        )
    if symbol.dtype != "string" and ops.dtype(x) not in (symbol.dtype, "string"):
        x = ops.cast(x, symbol.dtype)
    if x is not given:
        masking.set_mask(x, masking.get_mask(given))
    return x


# -- graphs as configs ----------------------------------------------------------------------------


def graph_config(graph: Graph) -> dict[str, Any]:
    """Return the graph as data: the operations with their calls, the inputs and the outputs."""
    entries: dict[int, dict[str, Any]] = {}  # of each operation
    calls: dict[int, Call] = {}  # of each tensor: the one that made it
    for layer, symbol in zip(graph.input_layers, graph.flat_inputs, strict=True):
        calls[id(symbol)] = (layer.name, 0)
        entries[id(layer)] = _entry(layer, layer.name)
    names = {layer.name for layer in graph.input_layers}
    for node in graph.nodes:
        operation = node.operation
        key, args, kwargs = id(operation), list(node.args), node.kwargs
        if not isinstance(operation, Operation):  # each call of an op is an operation in Keras
            call = keras_call(operation.op.name, node.args, kwargs)
            if call is not None:
                key, args, kwargs = id(node), call[1], {}
        if key not in entries:
            name = free_name(operation_name(operation).lstrip("_"), names)
            names.add(name)
            of_op = None if key == id(operation) else call[0]
            entries[key] = _entry(operation, name, of_op)
        entry = entries[key]
        number = len(entry["inbound_nodes"])
        arguments = tree.map_structure(
            lambda x: _tensor_config(x, calls), {"args": args, "kwargs": kwargs}
        )
        call_config = _argument_config(arguments)
        if tuples := _tuple_paths({"args": args, "kwargs": kwargs}):
            call_config["tuples"] = tuples
        entry["inbound_nodes"].append(call_config)
        for symbol in node.outputs:
            calls[id(symbol)] = (entry["name"], number)

    def place(x: KerasTensor) -> list[Any]:
        name, number = calls[id(x)]
        return [name, number + _first_number(x.node.operation if x.node else None), x.index]

    ends = {"inputs": graph.inputs, "outputs": graph.outputs}
    if tuples := _tuple_paths(ends):  # where Keras, which writes lists, ignores it
        next(iter(entries.values()))["tuples"] = tuples
    return {
        "layers": list(entries.values()),
        "input_layers": _map_tensors(place, graph.inputs),
        "output_layers": _map_tensors(place, graph.outputs),
    }


def rebuild_graph(config: dict[str, Any]) -> tuple[Any, Any]:
    """Return the symbolic (inputs, outputs) of a graph's config, with new operations.

    Raises:
        ValueError: a call needs a tensor that no other call makes, or an op does not exist.
    """
    tensors: dict[Call, list[KerasTensor]] = {}  # what each call gave
    pending: list[tuple[Call, Any, dict]] = []
    first: dict[str, int] = {}  # the number of the first call of an operation among the outputs
    for entry in config["layers"]:
        operation = _operation(entry)
        name, arguments = entry["name"], entry["inbound_nodes"]
        if not arguments:
            tensors[name, 0] = [operation.output]
        pending += [((name, i), operation, x) for i, x in enumerate(arguments)]
        if entry.get("module") != "keras.models":  # as in files of keraslite before
            first[name] = _first_number(operation)
    while pending:
        later = []
        for call, operation, arguments in pending:
            if all(c in tensors for c in _calls_in(arguments)):
                restored = {k: _restore(arguments[k], tensors) for k in ("args", "kwargs")}
                args, kwargs = _with_tuples(restored, arguments.get("tuples")).values()
                tensors[call] = tree.flatten(operation(*args, **kwargs))
            else:
                later.append((call, operation, arguments))
        if len(later) == len(pending):
            raise ValueError(
                f"The graph has no order: calls of {[call[0] for call, *_ in later]} need tensors "
                "that no other call makes."
            )
        pending = later

    def tensor(place: Any) -> Any:
        if isinstance(place, dict) and _class_name(place) != "__tuple__":
            return {k: tensor(v) for k, v in place.items()}
        if len(place) == 3 and isinstance(place[0], str):
            name, number, index = place
            return tensors[name, number - first.get(name, 0)][index]
        if _class_name(place) == "__tuple__":
            return tuple(tensor(p) for p in place["config"]["items"])
        return type(place)(tensor(p) for p in place)

    ends = {"inputs": tensor(config["input_layers"]), "outputs": tensor(config["output_layers"])}
    inputs, outputs = _with_tuples(ends, config["layers"][0].get("tuples")).values()
    return inputs, outputs


def _tuple_paths(x: Any) -> list[list[Any]]:
    """Return the places of tuples in nested lists and dicts, those inside first."""
    parts = (
        x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list | tuple) else ()
    )
    inside = [[key, *path] for key, part in parts for path in _tuple_paths(part)]
    return [*inside, []] if isinstance(x, tuple) else inside


def _with_tuples(x: Any, paths: list[list[Any]] | None) -> Any:
    """Return nested lists with tuples at some places."""
    for *path, last in paths or ():
        holder = x
        for key in path:
            holder = holder[key]
        holder[last] = tuple(holder[last])
    return x


def _entry(operation: Any, name: str, of_op: dict[str, Any] | None = None) -> dict[str, Any]:
    if of_op is not None:
        inner = {"name": name, **_argument_config(of_op["config"])}
        config = of_op | {"config": inner}
    elif isinstance(operation, Operation):
        config = serialize_keras_object(operation)
    else:
        config = {"module": "keras.ops", "class_name": operation.op.name, "config": {},
                  "registered_name": None}  # fmt: skip
    return {**config, "name": name, "inbound_nodes": []}


def _operation(entry: dict[str, Any]) -> Any:
    if entry.get("module") == "keras.ops":
        if entry["class_name"] not in TABLE:
            raise ValueError(f"Unknown op {entry['class_name']!r} in the config of a model.")
        return TABLE[entry["class_name"]].call
    op = keras_op(entry)
    if op is not None:
        return op
    return deserialize_keras_object({k: v for k, v in entry.items() if k != "inbound_nodes"})


def _tensor_config(x: Any, calls: dict[int, Call]) -> Any:
    if not isinstance(x, KerasTensor):
        return x
    config = {
        "shape": list(x.shape), "dtype": x.dtype, "keras_history": [*calls[id(x)], x.index],
    }  # fmt: skip
    return {"class_name": "__keras_tensor__", "config": config}


def _argument_config(x: Any) -> Any:
    """Return a call's argument as JSON; as in Keras's configs a tuple becomes a list."""
    if isinstance(x, slice):
        return {"class_name": "__slice__",
                "config": {"start": x.start, "stop": x.stop, "step": x.step}}  # fmt: skip
    if x is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(x, dict):
        return {k: _argument_config(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_argument_config(v) for v in x]
    return serialize_keras_object(x)


def _class_name(x: Any) -> Any:
    return x.get("class_name") if isinstance(x, dict) else None


def _calls_in(x: Any) -> list[Call]:
    """Return the calls whose tensors an argument's config names."""
    if _class_name(x) == "__keras_tensor__":
        name, number = x["config"]["keras_history"][:2]
        return [(name, number)]
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, list) else ()
    return [call for part in parts for call in _calls_in(part)]


def _first_number(operation: Any) -> int:
    """Return the number of an operation's first call among the outputs of a graph's config.

    Keras counts the graph inside a functional model as a call of it there, and not elsewhere.
    """
    return getattr(operation, "first_call_number", 0)


def _restore(x: Any, tensors: dict[Call, list[KerasTensor]]) -> Any:
    """Return the argument of a config, with the tensors of the calls that it names."""
    match _class_name(x):
        case "__keras_tensor__":
            name, number, index = x["config"]["keras_history"]
            return tensors[name, number][index]
        case "__slice__":
            return slice(*(x["config"][k] for k in ("start", "stop", "step")))
        case "__ellipsis__":
            return Ellipsis
        case "__tuple__":
            return tuple(_restore(v, tensors) for v in x["config"]["items"])
    if isinstance(x, dict):
        if "class_name" in x and "config" in x:
            return deserialize_keras_object(x)
        return {k: _restore(v, tensors) for k, v in x.items()}
    return [_restore(v, tensors) for v in x] if isinstance(x, list) else x


def _map_tensors(function: Callable[[KerasTensor], Any], x: Any) -> Any:
    if isinstance(x, KerasTensor):
        return function(x)
    if isinstance(x, dict):
        return {k: _map_tensors(function, v) for k, v in x.items()}
    return [_map_tensors(function, v) for v in x]
