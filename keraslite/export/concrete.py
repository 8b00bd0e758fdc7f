"""A model as a program of one framework: a copy of it moves there, whatever it lives on."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.export.signature import Signature, leaves_in_order
from keraslite.layers.base.tracking import RANDOM_STATE
from keraslite.optimizers import Optimizer
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor
from keraslite.variable import StatelessScope


@dataclass
class Concrete:
    """A program of a framework that computes what a model predicts.

    Args:
        program: of TensorFlow a ConcreteFunction that takes the inputs by name and returns a dict,
            of torch an ExportedProgram that takes them in order.
        model: the copy of the model that it was made of, on the framework's backend.
        signature: the inputs.
        output_names: the names of the outputs, flat.
        nested_names: likewise, nested as the model returns the outputs.
        input_names: of TensorFlow the names of the inputs by those of the tensors of the graph.
    """

    program: Any
    model: Any
    signature: Signature
    output_names: list[str]
    nested_names: Any
    input_names: dict[str, str] = field(default_factory=dict)


def copied_to(model: Any, backend: str) -> Any:
    """Return a copy of a model on a backend, without optimizers and what training has beside them.

    Args:
        model: a built model; it is left as it is.
        backend: the name of the backend.

    Raises:
        NotImplementedError: a layer runs code of another framework.
    """
    optimizers = [x for x in vars(model).values() if isinstance(x, Optimizer)]
    copied = copy.deepcopy(model, {id(x): None for x in optimizers})
    return copied.to_backend(backend)


def frozen_state(model: Any) -> list[tuple[Any, Any]]:
    """Return (variable, constant) of the variables that are no weights: random states, metrics."""
    weights = {id(v) for v in model.weights}
    return [(v, v.numpy()) for v in model.variables if id(v) not in weights]


def named_outputs(model: Any, outputs: Any) -> dict[str, Any]:
    """Return the outputs of a model by name: by their keys, or what the model calls them.

    Args:
        model: the model.
        outputs: what it returned, nested.
    """
    leaves = leaves_in_order(outputs)
    names: list[str] = []
    if isinstance(outputs, dict):
        names = ["_".join(map(str, path)) for path, _ in leaves]
    elif getattr(model, "is_functional", False):
        names = list(model.output_names)
    if len(set(names)) != len(leaves):
        names = [f"output_{i}" for i in range(len(leaves))]
    return dict(zip(names, [x for _, x in leaves], strict=True))


def output_ranks(model: Any, signature: Signature) -> dict[str, tuple[int, str]]:
    """Return the rank and the dtype of each output by its name.

    Args:
        model: a built model.
        signature: its inputs.
    """
    with backends.backend_scope(model.backend):
        symbols = [
            KerasTensor(array.shape, spec.dtype)
            for spec, array in zip(signature.specs, signature.examples(), strict=True)
        ]
        outputs = named_outputs(model, model(*signature.pack(symbols), training=False))
    return {name: (len(x.shape), x.dtype) for name, x in outputs.items()}


def _nested_names(outputs: Any, named: dict[str, Any]) -> Any:
    """Return outputs with the names in the place of tensors."""
    names = {id(x): name for name, x in named.items()}
    return tree.map_structure(lambda x: names[id(x)], outputs)


def predict_call(
    model: Any, signature: Signature, weights: Sequence[Any] = ()
) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """Return a function of flat inputs, and of values of weights, that calls a model.

    What else the model has of state stays as it is now: the same draws come out of each call.

    Args:
        model: the model.
        signature: its inputs.
        weights: the variables whose values are given.
    """
    state = frozen_state(model)

    def call(inputs: Sequence[Any], values: Sequence[Any] = ()) -> Any:
        with StatelessScope([*state, *zip(weights, values, strict=True)]) as scope:
            outputs = model(*signature.pack(inputs), training=False)
            _check_updates(model, scope)
        return outputs

    return call


def _check_updates(model: Any, scope: StatelessScope) -> None:
    changed = [v.path for v, _ in scope.updates() if v.name != RANDOM_STATE]
    if changed:
        raise NotImplementedError(
            f"Model {model.name!r} keeps state from call to call ({', '.join(changed[:5])}), which "
            "an exported file does not: make its layers without stateful=True."
        )


def tensorflow_function(model: Any, signature: Signature) -> Concrete:
    """Return a model as a concrete function of TensorFlow.

    Args:
        model: a built model, on any backend.
        signature: its inputs; the function takes them by name and returns a dict of the outputs.

    Raises:
        NotImplementedError: a layer cannot run in TensorFlow.
    """
    copied = copied_to(model, "tensorflow")
    call = predict_call(copied, signature)
    names: list[str] = []
    nested: list[Any] = []

    def named(inputs: Sequence[Any]) -> dict[str, Any]:
        outputs = call(inputs)
        results = named_outputs(copied, outputs)
        names[:], nested[:] = results, [_nested_names(outputs, results)]
        return results

    from keraslite.backend.tensorflow import export

    specs = [(spec.name, spec.shape, spec.dtype) for spec in signature.specs]
    outer, scopes.plain_graph = scopes.plain_graph, True
    try:
        with backends.backend_scope("tensorflow"):
            function = export.concrete_function(named, specs)
    finally:
        scopes.plain_graph = outer
    input_names = export.input_names(function)
    return Concrete(function, copied, signature, names, nested[0], input_names)


def torch_program(model: Any, signature: Signature, **options: Any) -> Concrete:
    """Return a model as a program of torch.export.

    Args:
        model: a built model, on any backend.
        signature: its inputs; the program takes them in order.
        options: arguments of `torch.export.export`.

    Raises:
        NotImplementedError: a layer cannot run in torch.
    """
    copied = copied_to(model, "torch")
    paths, weights = zip(*copied.named_weights(), strict=True) if copied.weights else ((), ())
    call = predict_call(copied, signature, weights)
    names: list[str] = []
    nested: list[Any] = []

    def named(inputs: Sequence[Any], values: Sequence[Any]) -> Any:
        outputs = call(inputs, values)
        results = named_outputs(copied, outputs)
        names[:], nested[:] = results, [_nested_names(outputs, results)]
        return outputs

    from keraslite.backend.torch import export

    values = [v.value for v in weights]
    free = [spec.free_axes for spec in signature.specs]
    with backends.backend_scope("torch"):
        program = export.exported_program(
            named, dict(zip(paths, values, strict=True)), signature.names,
            signature.examples(), free, options,
        )  # fmt: skip
    return Concrete(program, copied, signature, names, nested[0])
