"""StackedRNNCells: cells on top of each other as one cell."""

from typing import Any

from keraslite import ops, tree
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.layer import Layer
from keraslite.typing import Shape, Tensor


def check_cell(cell: Any) -> None:
    """Raise ValueError unless an object has what a cell needs: `call` and `state_size`."""
    for name in ("call", "state_size"):
        if name not in dir(cell):
            raise ValueError(
                f"A recurrent cell must have a method `call(inputs, states)` and a `state_size`; "
                f"{cell!r} has no `{name}`."
            )


def cell_output_size(cell: Any) -> Any:
    """Return the size of a cell's output: that of its first state where it does not say."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    sizes = cell.state_size
    return sizes[0] if isinstance(sizes, list | tuple) else sizes


def call_cell(cell: Any, inputs: Any, states: Any, training: bool) -> tuple:
    """Run one step of a cell, which need not be a layer.

    Args:
        cell: the cell.
        inputs: (batch, ...), those of the step.
        states: the states before it.
        training: whether it trains.

    Returns:
        The output and the new states.
    """
    if isinstance(cell, Layer):
        return cell(inputs, states, training=training)
    return (cell if callable(cell) else cell.call)(inputs, states)


def zero_states(cell: Any, batch_size: Any, dtype: str) -> Any:
    """Return the states that a cell begins with: zeros where it does not say.

    Args:
        cell: the cell.
        batch_size: the number of rows.
        dtype: of the zeros.
    """
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(batch_size=batch_size)
    return tree.map_structure(lambda size: ops.zeros((batch_size, size), dtype), cell.state_size)


class StackedRNNCells(ConfigLayer):
    """Cells on top of each other, as one cell whose states are a list of theirs.

    Inputs (batch, features), outputs (batch, units of the last cell).

    Args:
        cells: the cells, from the inputs on.

    Raises:
        ValueError: one of them has no `call` or no `state_size`.

    >>> from keraslite.layers import RNN, LSTMCell
    >>> stack = StackedRNNCells([LSTMCell(3), LSTMCell(4)])
    >>> RNN(stack)(np.ones((2, 5, 3), "float32")).shape == (2, 4)
    True
    """

    def __init__(self, cells: Any, **kwargs: Any):
        self.set_arguments(locals())
        for cell in cells:
            check_cell(cell)

    @property
    def state_size(self) -> list:
        """The state sizes of the cells."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        """The output size of the last cell."""
        return cell_output_size(self.cells[-1])

    def get_initial_state(self, batch_size: Any = None) -> list:
        """The first states of each cell.

        Args:
            batch_size: the number of rows.
        """
        return [zero_states(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape: Shape) -> None:
        """Build the cells."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], cell_output_size(cell))

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> Any:
        """Run one step of each cell.

        Args:
            inputs: (batch, features).
            states: a list of the cells' states.
            training: whether there is dropout.
        """
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            listed = list(own) if tree.is_nested(own) else [own]
            inputs, new = call_cell(cell, inputs, listed, training)
            new = list(new) if tree.is_nested(new) else [new]
            new_states.append(new if tree.is_nested(own) else new[0])
        return inputs, new_states
