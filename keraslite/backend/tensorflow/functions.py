"""Functions of TensorFlow inside layers: endpoints of SavedModels and methods of modules, their
variables, and calls with other values of these.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keraslite.backend.foreign import ForeignFunction, Spec
from keraslite.backend.tensorflow.tensors import dtype_of, native

# Held while functions run for other backends: these call from several threads, and a function reads
# its own variables.
_LOCK = threading.RLock()


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


def variables_in(module: Any) -> list[tf.Variable]:
    """Return the variables of a module, each once, those that are trained first.

    The states of `tf.random.Generator`s in its attributes are among them.

    Args:
        module: the module.

    Raises:
        TypeError: it is no `tf.Module`.
    """
    if not isinstance(module, tf.Module):
        raise TypeError(f"module must be a tf.Module, got {module!r}.")
    generators = [
        x.state
        for part in (module, *module.submodules)
        for x in vars(part).values()
        if isinstance(x, tf.random.Generator)
    ]
    variables = {id(v): v for v in (*module.trainable_variables, *module.variables, *generators)}
    return list(variables.values())


def ones(shape: tuple, dtype: str) -> tf.Tensor:
    """Return an input of a shape and dtype, 1 in the place of unknown sizes."""
    return tf.ones([1 if size is None else size for size in shape], native(dtype))


def outside_graphs() -> Any:
    """Return a context in which functions are computed, though a graph may be being built."""
    return tf.init_scope()


class TensorFlowFunction(ForeignFunction):
    """A function of TensorFlow for the backends of other frameworks; it is a `tf.function`.

    Args:
        function: as for `ForeignFunction`; its weights are what it reads from its variables.
        trained: for each weight, whether it has a gradient.
        variables: the variables that have the values of the weights while it runs.
    """

    def __init__(
        self, function: Callable[[list, list], tuple[Any, list]], trained: list[bool],
        variables: Sequence[tf.Variable],
    ):  # fmt: skip
        super().__init__(function, trained)
        self.variables = variables
        self._count = 0  # of the weights and inputs, before the gradients of outputs
        self._graphs: dict[tuple, Any] = {}  # by shapes and dtypes: tf.function looks longer
        self._calls: dict[tuple, Callable] = {}  # likewise, by numpy's dtypes, slow to name

    def _graph(self, function: Callable, specs: list[Spec]) -> Any:
        """Return a function of tensors as a graph, made once for their shapes and dtypes."""
        key = (function.__name__, *specs)
        if key not in self._graphs:
            tensors = [tf.TensorSpec(shape, native(name)) for shape, name in specs]
            compiled = tf.function(function, autograph=False)
            self._graphs[key] = compiled.get_concrete_function(*tensors)
        return self._graphs[key]

    def _run_graph(self, function: Callable, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        key = (function.__name__, *((x.shape, x.dtype) for x in arrays))
        if key not in self._calls:
            specs = [(x.shape, x.dtype.name) for x in arrays]
            self._calls[key] = _direct(self._graph(function, specs))
        return [x.numpy() for x in self._calls[key]([tf.convert_to_tensor(x) for x in arrays])]

    def _run(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        return self._results(self._with_weights(tensors))

    def _with_weights(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Assign the weights to the variables, and return the inputs."""
        count = len(self.variables)
        pairs = zip(tensors[:count], self.variables, strict=True)
        _assign(self.variables, [tf.cast(x, v.dtype) for x, v in pairs])
        return list(tensors[count:])

    def _results(self, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        outputs, updated = self.function(list(self.variables), inputs)
        leaves = [x if x is None else tf.convert_to_tensor(x) for x in tf.nest.flatten(outputs)]
        structure = tf.nest.map_structure(lambda _: 0, outputs)
        results = self.note_outputs(
            leaves,
            lambda x: x is not None,
            lambda leaves: tf.nest.pack_sequence_as(structure, leaves),
        )
        _refuse_hidden_states()
        return [*results, *(tf.identity(v) for v in updated)]

    def _pullback(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        count = len(self.variables)
        tensors, upstream = tensors[: self._count], tensors[self._count :]
        inputs = self._with_weights(tensors)
        moving = self.sources([dtype_of(x) for x in tensors])
        sources = [self.variables[i] if i < count else tensors[i] for i in moving]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            results = self._results(inputs)
            outputs = [results[i] for i in self.targets([dtype_of(x) for x in results])]
        found = tape.gradient(outputs, sources, list(upstream), tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(x) for x in found]

    def forward(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the function."""
        with _LOCK:
            return self._run_graph(self._run, arrays)

    def vjp(self, arrays: list[np.ndarray], upstream: list[np.ndarray]) -> list[np.ndarray]:
        """Run the function again, and its gradient."""
        with _LOCK:
            self._count = len(arrays)
            return self._run_graph(self._pullback, [*arrays, *upstream])

    def infer(self, specs: list[Spec]) -> list[Spec]:
        """Trace the function; where it does not tell its shapes, run it on zeros."""
        with _LOCK:
            graph: Any = self._graph(self._run, specs)
            results = graph.structured_outputs
            if not all(x.shape.is_fully_defined() for x in results):
                results = graph(*(tf.zeros(shape, native(name)) for shape, name in specs))
            return [(tuple(x.shape), dtype_of(x)) for x in results]


def _direct(graph: Any) -> Callable[[list[tf.Tensor]], list[tf.Tensor]]:
    """Return a concrete function as an operation on flat tensors.

    It takes half the time of a call of the function, which binds arguments and checks them first.
    """
    captured, dtypes = list(graph.captured_inputs), [x.dtype for x in graph.outputs]

    def call(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        return tf.raw_ops.StatefulPartitionedCall(
            args=[*tensors, *captured], Tout=dtypes, f=graph.name
        )

    return call


def _refuse_hidden_states() -> None:
    """Raise where the graph being built draws random numbers that a second run has not again."""
    definition = tf.compat.v1.get_default_graph().as_graph_def()
    parts = [definition.node, *(f.node_def for f in definition.library.function)]
    names = {node.op for part in parts for node in part}
    hidden = sorted(
        x for x in names
        if x in ("Multinomial", "TruncatedNormal", "ParameterizedTruncatedNormal")
        or (x.startswith("Random") and "Dataset" not in x)
    )  # fmt: skip
    if hidden:
        raise NotImplementedError(
            f"A function of TensorFlow draws random numbers by {', '.join(hidden)}, whose state is "
            "hidden: its gradient would have others. Take them from a tf.random.Generator in an "
            "attribute of the module, or by tf.random.stateless_* from an argument `seed`, or run "
            "the layer under the tensorflow backend."
        )


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
