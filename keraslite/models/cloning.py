"""Copies of models with weights of their own, and with other layers where that is wanted."""

from collections.abc import Callable
from functools import partial
from typing import Any

from keraslite import tree
from keraslite.layers.input_layer import Input, InputLayer
from keraslite.models.graph import Graph, OpCall, run_graph
from keraslite.models.model import Functional, Model
from keraslite.models.sequential import Sequential
from keraslite.operation import Operation
from keraslite.registry import public_class
from keraslite.symbolic import KerasTensor, Node
from keraslite.training.trainer import Trainer


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Model:
    """Copy a model, with new layers and new weights; a compiled one's copy is compiled.

    Args:
        model: a functional model or a Sequential; of any other, its config makes the copy and the
            other arguments are not taken.
        input_tensors: symbolic inputs for the copy, nested as the model's; new ones by default.
        clone_function: gives the copy's layer for a layer; by default one of the same config.
        call_function: called with a layer of the copy and the arguments of its call, gives what
            the call gives; for functional models alone.
        recursive: whether models inside are copied by `clone_model` and not by `clone_function`.
        kwargs: `cache`, a dict of the copies by the ids of the layers, which several calls share.

    Raises:
        ValueError: an argument that is not for this model, or other inputs than it takes.

    >>> model = Sequential([Input((4,)), layers.Dense(2)])
    >>> wider = clone_model(model, clone_function=lambda layer: layers.Dense(3))
    >>> wider.output_shape
    (None, 3)
    """
    if unknown := kwargs.keys() - {"cache"}:
        raise TypeError(f"clone_model() got unexpected arguments: {sorted(unknown)}.")
    cache = kwargs.get("cache")
    clones = {} if cache is None else cache
    return _clone(model, input_tensors, clone_function, call_function, recursive, clones)


def _clone(
    model: Model,
    input_tensors: Any,
    clone_function: Callable | None,
    call_function: Callable | None,
    recursive: bool,
    clones: dict[int, Any],
) -> Model:
    changed = any(x is not None for x in (input_tensors, clone_function, call_function))
    sequential, cls = isinstance(model, Sequential), public_class(type(model))
    if call_function is not None and not (model.is_functional and not sequential):
        raise ValueError(
            f"`call_function` is for functional models; {model.name!r} is a {cls.__name__}."
        )
    in_parts = sequential or model.is_functional
    if changed and not in_parts:
        raise ValueError(
            "`clone_function` and `input_tensors` are for functional models and Sequential; "
            f"{model.name!r} is a {cls.__name__}."
        )

    def clone_of(operation: Any) -> Any:
        if id(operation) not in clones:
            clones[id(operation)] = new(operation)
        return clones[id(operation)]

    def new(operation: Any) -> Any:
        inside = isinstance(operation, Model) and (
            operation.is_functional or isinstance(operation, Sequential)
        )
        if recursive and inside:
            call = None if isinstance(operation, Sequential) else call_function
            return _clone(operation, None, clone_function, call, True, clones)
        if clone_function is not None:
            return clone_function(operation)
        return public_class(type(operation)).from_config(operation.get_config())

    own_constructor = cls.__init__ not in (Model.__init__, Sequential.__init__)
    if not in_parts or (own_constructor and not (changed or recursive)):
        clone = cls.from_config(model.get_config())
    elif sequential:
        clone = _clone_sequential(model, input_tensors, clone_of)
    else:
        clone = _clone_functional(model, input_tensors, clone_of, call_function)
    if model.compiled and type(clone).compile is Trainer.compile:
        arguments = {**model.compile_arguments, "optimizer": model.optimizer}
        clone.compile(**tree.map_structure(_fresh, arguments))
    return clone


def _fresh(x: Any) -> Any:
    """Return an optimizer, loss or metric as it was made; names and functions as they are."""
    return type(x).from_config(x.get_config()) if hasattr(x, "get_config") else x


def _clone_sequential(model: Sequential, inputs: Any, clone_of: Callable) -> Model:
    layers: list[Any] = [clone_of(layer) for layer in model.layers]
    input_layer = model.input_layer
    if inputs is not None:
        flat = tree.flatten(inputs)
        if len(flat) != 1 or not isinstance(flat[0], KerasTensor):
            raise ValueError(
                f"`input_tensors` of a Sequential must be one KerasTensor, got {inputs!r}."
            )
        layers.insert(0, Input(tensor=flat[0]))
    elif input_layer is not None:
        layers.insert(0, InputLayer.from_config(input_layer.get_config()))
    return Sequential(layers, trainable=model.trainable, name=model.name)


def _clone_functional(
    model: Model, inputs: Any, clone_of: Callable, call_function: Callable | None
) -> Model:
    graph: Graph = model.get_graph()
    if inputs is None:
        new = [InputLayer.from_config(x.get_config()).output for x in graph.input_layers]
        inputs = tree.pack_sequence_as(graph.inputs, new)
    flat = tree.flatten(inputs)
    if not all(isinstance(x, KerasTensor) for x in flat) or len(flat) != len(graph.flat_inputs):
        raise ValueError(
            f"`input_tensors` must be KerasTensors in the form of {graph.inputs!r}, got {inputs!r}."
        )

    def calling(node: Node) -> Callable:
        is_op = not isinstance(node.operation, Operation)
        called = node.operation if is_op else clone_of(node.operation)
        if call_function is None:
            return called
        return partial(call_function, OpCall(node) if is_op else called)

    outputs = run_graph(graph, flat, calling)
    cls = public_class(type(model))
    cls = cls if cls.__init__ is Model.__init__ else Functional
    clone = cls(inputs, outputs, name=model.name)
    if not model.trainable:
        clone.trainable = False
    return clone
