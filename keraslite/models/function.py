"""Function: the calls between symbolic inputs and outputs, as an operation."""

from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.models.folding import folded_calls
from keraslite.models.graph import make_graph, match_inputs, run_graph
from keraslite.operation import Operation
from keraslite.symbolic import KerasTensor


class Function(Operation):
    """A computation from symbolic inputs to outputs, which can be run on other inputs.

    Unlike a model it is no layer, and holds no state.

    Args:
        inputs: nested KerasTensors; they may be outputs of calls themselves.
        outputs: nested KerasTensors that depend on them alone.
        name: a name.

    Raises:
        ValueError: there are no inputs or no outputs, or an output depends on anything else.

    >>> x = KerasTensor((None, 2))
    >>> double = Function(x, x * 2.0)
    >>> ops.convert_to_numpy(double(np.ones((1, 2), "float32"))).tolist()
    [[2.0, 2.0]]
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name)
        if not tree.flatten(inputs) or not tree.flatten(outputs):
            raise ValueError(f"Expected inputs and outputs, got {inputs!r} and {outputs!r}.")
        self._graph = make_graph(inputs, outputs, own_inputs=False)

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, flat."""
        return self._graph.flat_inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, flat."""
        return self._graph.flat_outputs

    @property
    def operations(self) -> list[Operation]:
        """The operations, each once: the input layers first, then layers and ops."""
        return self._graph.operations

    def call(self, inputs: Any) -> Any:
        """Compute the outputs.

        Args:
            inputs: tensors, nested as the symbolic inputs are.
        """
        values = match_inputs(self._graph, inputs, self.name)
        return run_graph(self._graph, values, folded_calls(self._graph, backends.backend()))

    def compute_output_spec(self, inputs: Any) -> Any:
        """The symbolic outputs for symbolic inputs."""
        outputs = self.call(inputs)  # call by call; as an operation it is one of them
        return tree.map_structure(lambda x: KerasTensor(x.dims, x.dtype), outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes of the outputs for input shapes.

        Args:
            input_shape: shapes, nested as the symbolic inputs are.
        """
        symbols = tree.map_shape_structure(KerasTensor, input_shape)
        return tree.map_structure(lambda x: x.shape, self.compute_output_spec(symbols))
