"""Models as functions of TensorFlow, and the files that TensorFlow writes of them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

# Ops that call back into the Python process, which no file holds.
_PYTHON_OPS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def concrete_function(
    call: Callable[[list[tf.Tensor]], dict[str, tf.Tensor]],
    specs: Sequence[tuple[str, tuple, str]],
) -> Any:
    """Trace a function of flat inputs.

    Args:
        call: the function; it returns a dict.
        specs: (name, shape, dtype) of each input.

    Returns:
        A ConcreteFunction that takes the inputs by name.
    """
    named = {
        name: tf.TensorSpec(shape, dtype, name=re.sub(r"[^\w.]", "_", name))
        for name, shape, dtype in specs
    }

    def function(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return call([inputs[name] for name in named])

    return tf.function(function, input_signature=[named], autograph=False).get_concrete_function()


def input_names(function: Any) -> dict[str, str]:
    """Return the names of the inputs of a concrete function by those of its graph's tensors."""
    names = sorted(function.structured_input_signature[0][0])
    tensors = function.graph.inputs  # those that are captured stand behind
    return {x.name: name for name, x in zip(names, tensors, strict=False)}


def graph_ops(function: Any) -> dict[str, int]:
    """Return how often each op occurs in a concrete function and the functions that it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def calls_python(function: Any) -> bool:
    """Return whether a concrete function calls back into the Python process."""
    return any(op in _PYTHON_OPS for op in graph_ops(function))


# -- SavedModel -----------------------------------------------------------------------------------


def trackable() -> Any:
    """Return an empty object whose attributes a SavedModel holds."""
    return tf.__internal__.tracking.AutoTrackable()


def is_trackable(x: Any) -> bool:
    """Return whether a SavedModel can hold an object as it is, such as a lookup table."""
    return isinstance(x, tf.__internal__.tracking.Trackable)


def is_function(x: Any) -> bool:
    """Return whether an object is a `tf.function`."""
    return isinstance(x, tf.types.experimental.GenericFunction)


def concrete_functions(function: Any) -> list[Any]:
    """Return the traces of a `tf.function`."""
    return list(function._list_all_concrete_functions())


def function_of(call: Callable, specs: Any) -> Any:
    """Return a callable as a `tf.function`, traced.

    Args:
        call: the callable.
        specs: for each argument nested (name or None, shape, dtype).
    """
    signature = [tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype, x.name), argument)
                 for argument in specs]  # fmt: skip
    function = tf.function(call, input_signature=signature, autograph=False)
    function.get_concrete_function()
    return function


def variables_of(function: Any) -> list[tf.Variable]:
    """Return the variables that the traces of a `tf.function` read."""
    return [v for concrete in concrete_functions(function) for v in concrete.variables]


def describe(name: str, function: Any) -> str:
    """Return the inputs and outputs of an endpoint as text."""
    concrete = concrete_functions(function)[0]
    lines = concrete.pretty_printed_signature(verbose=True).split("\n")
    return "\n".join([f"* Endpoint '{name}'", *lines[1:]])


def save(root: Any, folder: str, signatures: Any, options: Any = None) -> None:
    """Write an object as a SavedModel.

    Args:
        root: the object; functions, variables and tables are its attributes.
        folder: where to.
        signatures: functions of TensorFlow Serving, by name.
        options: a `tf.saved_model.SaveOptions`.
    """
    tf.saved_model.save(root, folder, signatures=signatures, options=options)


# -- graphs of constants --------------------------------------------------------------------------


@dataclass
class FrozenGraph:
    """The graph of a function with the values of its variables as constants.

    Args:
        graph: a GraphDef as JSON has it, without the values of constants.
        constants: (the name of a node, its value).
        inputs: (tensor in the graph, shape or None, dtype) by the name of the input.
        outputs: the same of the outputs.
    """

    graph: dict[str, Any]
    constants: list[tuple[str, np.ndarray]]
    inputs: dict[str, tuple[str, list[int | None] | None, str]]
    outputs: dict[str, tuple[str, list[int | None] | None, str]]


def frozen_graph(function: Any) -> FrozenGraph:
    """Return the graph of a concrete function as data.

    The functions that it calls are put in their places, and loops become those of TensorFlow 1.

    Args:
        function: takes its inputs by name, and returns a dict.
    """
    frozen = convert_variables_to_constants_v2(function)
    graph = GraphDef()
    graph.CopyFrom(frozen.graph.as_graph_def())
    constants: list[tuple[str, np.ndarray]] = []
    for node in graph.node:
        if node.op == "Const":
            constants.append((node.name, tf.make_ndarray(node.attr["value"].tensor)))
            del node.attr["value"]
    tensors = {x.name: x for x in function.graph.inputs}
    inputs = {
        name: _tensor_info(tensor, tensors[tensor])
        for tensor, name in input_names(function).items()
    }
    outputs = {  # in the order in which TensorFlow flattens a dict
        name: _tensor_info(x.name, function.structured_outputs[name])
        for name, x in zip(sorted(function.structured_outputs), frozen.outputs, strict=True)
    }
    return FrozenGraph(
        json_format.MessageToDict(graph), constants, inputs, outputs
    )  # fmt: skip


def _tensor_info(name: str, x: Any) -> tuple[str, list[int | None] | None, str]:
    return name, None if x.shape.rank is None else x.shape.as_list(), x.dtype.name
