"""Layers that compute with NumPy on the host, whatever the backend: of texts, above all."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.base.symbolic_call import add_node
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor


def on_host(
    function: Callable, inputs: Any, examples: Sequence[np.ndarray], shapes: Sequence[Any]
) -> Any:
    """Call a function of NumPy values: now, or each time the TensorFlow graph around it runs.

    Args:
        function: takes what the inputs are, or arrays in their place in a graph, and returns an
            array, or as many as there are examples.
        inputs: a value, or a list of several.
        examples: an array of the dtype of each result.
        shapes: the static shape of each result, which counts in a graph.

    Returns:
        Tensors of the current backend; of texts, outside a graph, arrays.
    """
    single = len(examples) == 1
    several = isinstance(inputs, list | tuple) and len(inputs) > 0 and hasattr(inputs[0], "shape")
    if any(map(backends.in_graph, inputs if several else [inputs])):
        example = examples[0] if single else list(examples)
        return backends.host_call(function, inputs, example, shapes)
    results = function(inputs)
    return _tensor(results) if single else [_tensor(x) for x in results]


def _tensor(array: np.ndarray) -> Any:
    return array if array.dtype.kind in "OSU" else ops.convert_to_tensor(array)


def static_shape(x: Any) -> tuple | None:
    """Return the shape of a value of a graph, None for sizes that are not known yet.

    Args:
        x: a tensor, or a value that is there: its shape does not matter.
    """
    if not backends.in_graph(x):
        return None
    return None if x.shape.rank is None else tuple(x.shape)


class HostLayer(DataLayer):
    """A layer that computes with NumPy: on values outside compiled functions, and in `tf.data`.

    In a functional or sequential model those that stand first run before the compiled steps of
    `fit`, `evaluate` and `predict`, in the thread that reads the data.
    """

    runs_on_host = True
    input_dtype = "string"

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        several = isinstance(inputs, list | tuple) and len(inputs) > 0
        first = inputs[0] if several else inputs
        if isinstance(first, KerasTensor):
            return super().__call__(inputs, *args, **kwargs)
        if scopes.tables is not None:
            return self.call_in_saved_graph(inputs)
        name = backends.of(first)
        if backends.in_graph(getattr(first, "flat_values", first)):
            backend = "tensorflow"
        elif name is not None and backends.load(name).is_traced(first):
            raise TypeError(
                f"Layer {self.name!r} of the class {type(self).__name__} computes on the host, and "
                f"cannot run inside a function that {name} compiles. Call it in the data pipeline, "
                "or make it one of the first layers of a functional model or a Sequential, which "
                "run before the compiled step."
            )
        else:
            backend = self.backend
        outer, scopes.backend = scopes.backend, backend
        try:
            return self.call(inputs)
        finally:
            scopes.backend = outer

    def call_in_saved_graph(self, inputs: Any) -> Any:
        """Compute by nodes of a graph of TensorFlow that is saved.

        Args:
            inputs: tensors of the graph.

        Raises:
            NotImplementedError: the layer has no such form.
        """
        raise self.no_graph_form("it computes with NumPy")

    def no_graph_form(self, reason: str) -> NotImplementedError:
        """Return the error that the layer cannot be part of a SavedModel.

        Args:
            reason: why.
        """
        return NotImplementedError(
            f"Layer {self.name!r} of the class {type(self).__name__} cannot be part of an exported "
            f"file: {reason}. Export the model behind it, and call the layer before."
        )

    def refuse_to_encode(self, form: str) -> None:
        """Raise NotImplementedError if the layer encodes, which it does for dense tensors alone.

        Args:
            form: of the tensor: "sparse" or "ragged".
        """
        mode = getattr(self, "output_mode", "int")
        if mode != "int":
            raise NotImplementedError(
                f"Layer {self.name!r} takes no {form} tensor if output_mode={mode!r}: make it "
                "dense, or take output_mode='int'."
            )

    def _symbolic(
        self, args: tuple, kwargs: dict, training: bool | None, asked: bool | None
    ) -> Any:
        if scopes.value_of is not None:  # in a function that a symbolic call was given
            return super()._symbolic(args, kwargs, training, asked)
        outputs = self.compute_output_spec(*args, **kwargs)
        add_node(self, args, kwargs, outputs, asked)  # without masks: texts have no abstract values
        return outputs
