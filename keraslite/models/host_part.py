"""The part of a graph that runs on the host, before the compiled steps of a model.

Layers that look texts up (`runs_on_host`) cannot be compiled. Those that depend on the inputs of a
model alone run in the thread that reads the data; the step takes what they give.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree
from keraslite.models.graph import Graph, match_inputs, run_graph, split_graph
from keraslite.symbolic import KerasTensor, Node

_PREPROCESSED = "_kl_preprocessed"  # the key under which values come that were preprocessed


def runs_on_host(operation: Any) -> bool:
    """Return whether an operation is a layer that computes on the host."""
    return getattr(type(operation), "runs_on_host", False)


def _on_host(node: Any) -> bool:
    return node.on_host if isinstance(node, PartOfCall) else runs_on_host(node.operation)


@dataclass(eq=False)
class PartOfCall:
    """A part of the call of a model whose first layers run on the host, as `Node` has one.

    Args:
        operation: what is called.
        args: with KerasTensors in the places of values.
        kwargs: likewise.
        inputs: those KerasTensors.
        outputs: those that it gives.
        on_host: whether it is the first part.
    """

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    inputs: list[KerasTensor]
    outputs: list[KerasTensor]
    on_host: bool

    @property
    def places(self) -> range:
        """Return the places of the outputs in what the operation returns, flat."""
        return range(len(self.outputs))


def _parts_of_call(node: Node) -> list[Any]:
    """Return the two parts of the call of a model with a part on the host; else the call itself."""
    of_model = hasattr(type(node.operation), "host_parts")
    parts = node.operation.host_parts if of_model else None
    if parts is None:
        return [node]
    model, between = node.operation, [KerasTensor(x.dims, x.dtype) for x in parts[1].flat_inputs]
    taken = [x for x in tree.flatten(node.args[0]) if isinstance(x, KerasTensor)]
    args = (as_preprocessed(between), *node.args[1:])
    return [
        PartOfCall(model.preprocess, node.args[:1], {}, taken, between, on_host=True),
        PartOfCall(model, args, node.kwargs, between, node.outputs, on_host=False),
    ]


def split(graph: Graph) -> tuple[Graph, Graph] | None:
    """Return the part of a graph that runs on the host and the other; None without such a part.

    Models inside it whose own first layers run on the host are split too.
    """
    nodes = [part for node in graph.nodes for part in _parts_of_call(node)]
    if len(nodes) > len(graph.nodes):
        graph = replace(graph, nodes=nodes)
    return split_graph(graph, _on_host)


def preprocess(part: Graph, inputs: Any, name: str) -> dict[str, Any]:
    """Run the part of a graph that runs on the host.

    Args:
        part: the part.
        inputs: what the model was called with.
        name: the model's, for errors.

    Returns:
        What the other part takes, in a form that `preprocessed` recognizes.
    """
    values = match_inputs(part, _with_arrays(part, inputs), name)
    return as_preprocessed(run_graph(part, values))


def as_preprocessed(values: Any) -> dict[str, Any]:
    """Return values in the form that `preprocessed` recognizes."""
    return {_PREPROCESSED: values}


def inputs_between(parts: tuple[Graph, Graph] | None) -> dict[str, Any] | None:
    """Return symbolic values in the form that `preprocessed` recognizes; None without a host part.

    Args:
        parts: what `split` returned.
    """
    return None if parts is None else as_preprocessed(parts[1].flat_inputs)


def preprocessed(inputs: Any) -> Any:
    """Return the values in what `preprocess` gave; None for any other inputs."""
    return inputs.get(_PREPROCESSED) if type(inputs) is dict else None


def _with_arrays(part: Graph, inputs: Any) -> Any:
    """Return inputs with arrays in the place of lists of texts."""
    if isinstance(inputs, dict):
        return {key: text_array(value) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple) and len(part.flat_inputs) > 1:
        return type(inputs)(text_array(value) for value in inputs)
    return text_array(inputs)


def text_array(x: Any) -> Any:
    """Return a list of texts as an array of objects, and anything else as it is."""
    if isinstance(x, list | tuple) and backends.is_text(x):
        return np.array(x, object)
    return x
