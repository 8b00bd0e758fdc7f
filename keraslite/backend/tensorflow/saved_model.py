"""SavedModels inside layers: their endpoints, variables, and calls with other values of these."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def load(path: str) -> Any:
    """Return the object of a SavedModel."""
    return tf.saved_model.load(path)


def endpoint(loaded: Any, name: str, argument: str) -> Callable:
    """Return a function of a SavedModel: an attribute, else a signature.

    Args:
        loaded: the object.
        name: the name of the function.
        argument: the argument of the layer that named it, for the error.

    Raises:
        ValueError: there is no such function.
    """
    if hasattr(loaded, name):
        return getattr(loaded, name)
    if name in loaded.signatures:
        return loaded.signatures[name]
    raise ValueError(
        f"The endpoint {name!r} is neither an attribute of the reloaded SavedModel, nor an entry "
        f"in its `signatures`. Select another one by `{argument}`. Available signatures: "
        f"{list(loaded.signatures.keys())}."
    )


def variables_of(functions: list[Callable]) -> list[tf.Variable]:
    """Return the variables that functions use, each once, those that are trained first."""
    trained: dict[int, tf.Variable] = {}
    others: dict[int, tf.Variable] = {}
    for function in functions:
        for concrete in _concrete(function):
            trained |= {id(v): v for v in concrete.trainable_variables}
            others |= {id(v): v for v in concrete.variables}
    return [*trained.values(), *(v for i, v in others.items() if i not in trained)]


def _concrete(function: Any) -> list[Any]:
    if hasattr(function, "concrete_functions"):
        return list(function.concrete_functions)
    if hasattr(function, "get_concrete_function"):
        return [function.get_concrete_function()]
    return [function]


def run_with(
    function: Callable, variables: Sequence[tf.Variable], values: Sequence[tf.Tensor], args: tuple,
    kwargs: dict[str, Any],
) -> tuple[Any, list[tf.Tensor]]:  # fmt: skip
    """Call a function as if its variables had given values; gradients reach these.

    The function reads its own variables, whatever it is given. So they have the values while it
    runs, and those of before afterwards.

    Args:
        function: a function of a SavedModel.
        variables: those that it uses.
        values: one for each.
        args: what it is called with.
        kwargs: likewise, by name.

    Returns:
        (outputs, the values of the variables after the call).
    """
    count = len(variables)
    inputs = [x for x in tf.nest.flatten((args, kwargs)) if isinstance(x, tf.Tensor)]
    structure: list[Any] = []

    @tf.custom_gradient
    def run(*tensors: tf.Tensor) -> tuple:
        own_inputs = iter(tensors[count:])
        own_args, own_kwargs = tf.nest.map_structure(
            lambda x: next(own_inputs) if isinstance(x, tf.Tensor) else x, (args, kwargs)
        )
        before = [tf.identity(v) for v in variables]
        _assign(variables, tensors[:count])
        sources = [*variables, *tensors[count:]]
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            tape.watch([x for x in sources if x.dtype.is_floating])
            outputs = function(*own_args, **own_kwargs)
            flat = [tf.convert_to_tensor(x) for x in tf.nest.flatten(outputs)]
        after = [tf.identity(v) for v in variables]
        _assign(variables, before)
        structure[:] = [outputs]

        def backward(*upstream: tf.Tensor, variables: Any = None) -> Any:
            pairs = zip(flat, upstream, strict=False)  # those after the outputs are of `after`
            targets = [(x, g) for x, g in pairs if x.dtype.is_floating]
            floating = [x for x in sources if x.dtype.is_floating]
            found = iter(
                tape.gradient(
                    [x for x, _ in targets], floating, [gradient for _, gradient in targets]
                )
            )
            gradients = [next(found) if x.dtype.is_floating else None for x in sources]
            return gradients if variables is None else (gradients, [None] * len(variables))

        return (*flat, *after), backward

    results = run(*values, *inputs)
    outputs = tf.nest.pack_sequence_as(structure[0], results[: len(results) - count])
    return outputs, list(results[len(results) - count :])


def _assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
