"""RNN: a cell over the steps of a sequence."""

from collections.abc import Sequence
from typing import Any

from keraslite import backend as backends
from keraslite import ops, tree
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.layer import Layer
from keraslite.layers.rnn.cell import RecurrentCell
from keraslite.layers.rnn.stacked import (
    StackedRNNCells,
    call_cell,
    cell_output_size,
    check_cell,
    zero_states,
)
from keraslite.ops.over_time import over_time
from keraslite.typing import Shape, Tensor
from keraslite.variable import Variable


class RNN(ConfigLayer):
    """A recurrent cell, run over the steps of a sequence.

    A cell has `call(inputs, states)`, which returns the output of a step and the new states, and
    `state_size`, the size of its state or a list with one for each; it may have `output_size` and
    `get_initial_state(batch_size)`. Inputs (batch, steps, ...); outputs (batch, steps, units) with
    `return_sequences`, else (batch, units).

    Args:
        cell: the cell, or a list of cells that stand on top of each other.
        return_sequences: whether the outputs of all steps are returned, or the last alone.
        return_state: whether the last states are returned too.
        go_backwards: whether to begin at the last step; the outputs then stand in that order.
        stateful: whether a batch begins with the last states of the batch before it.
        unroll: whether compilers lay the steps out one after the other instead of looping.
        zero_output_for_mask: whether masked steps give zeros, not the output before them.

    Raises:
        ValueError: the cell has no `call` or no usable `state_size`.

    >>> from keraslite.layers import GRUCell
    >>> RNN(GRUCell(4), return_sequences=True)(np.ones((2, 5, 3), "float32")).shape == (2, 5, 4)
    True
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        cell = StackedRNNCells(cell) if isinstance(cell, list | tuple) else cell
        check_cell(cell)
        if not isinstance(cell.state_size, list | tuple | int):
            raise ValueError(
                "The `state_size` of a cell must be an integer, or a list of integers with one for "
                f"each state, got {cell.state_size!r}."
            )
        self.set_arguments(locals())
        self.single_state = isinstance(cell.state_size, int)
        self.state_size = [cell.state_size] if self.single_state else list(cell.state_size)
        self.supports_masking = True
        self.states: Any = None

    def build(self, sequences_shape: Shape, initial_state_shape: Any = None) -> None:
        """Build the cell, and make the states of a stateful layer."""
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise ValueError(
                    f"Layer {self.name!r} is stateful and must know the batch size, got inputs of "
                    f"shape {tuple(sequences_shape)}: give the Input a `batch_size`."
                )
            self.states = tree.map_structure(
                lambda x: Variable(x, trainable=False, dtype=self.dtype, name="rnn_state"),
                self.get_initial_state(sequences_shape[0]),
            )

    # -- states -------------------------------------------------------------------------------

    def get_initial_state(self, batch_size: Any) -> list:
        """The states that a sequence begins with: the cell's, or zeros.

        Args:
            batch_size: the number of rows.
        """
        states = zero_states(self.cell, batch_size, self._cell_dtype())
        return list(states) if tree.is_nested(states) else [states]

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero."""
        for state in tree.flatten(self.states) if self.states is not None else ():
            state.assign(ops.zeros_like(state.uncast_value()))

    def reset_states(self) -> None:
        """The same as `reset_state`."""
        self.reset_state()

    def _cell_dtype(self) -> str:
        return getattr(self.cell, "compute_dtype", self.compute_dtype)

    def _first_states(self, sequences: Any, initial_state: Any) -> list:
        """The states before the first step, as a list of tensors or of structures of them."""
        if self.stateful:
            kept = tree.flatten(self.states)[0].shape[0]
            if sequences.shape[0] not in (None, kept):
                raise ValueError(
                    f"Layer {self.name!r} is stateful: its batch size must be {kept}, got inputs "
                    f"of shape {tuple(sequences.shape)}."
                )
        if initial_state is None and self.stateful:
            # Copies, since the variables are written in place at the end.
            return tree.map_structure(
                lambda v: ops.cast(ops.copy(v.value), self._cell_dtype()), self.states
            )
        if initial_state is None:
            return self.get_initial_state(ops.shape(sequences)[0])
        given = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        return tree.map_structure(lambda x: ops.cast(x, self._cell_dtype()), given)

    # -- calls --------------------------------------------------------------------------------

    def call(
        self,
        sequences: Tensor,
        initial_state: Any = None,
        mask: Tensor | None = None,
        training: bool = False,
    ) -> Any:
        """Run the cell over the steps.

        Args:
            sequences: (batch, steps, ...).
            initial_state: a list of the states to begin with.
            mask: (batch, steps), False at the steps that are passed over.
            training: whether there is dropout.

        Returns:
            The output; with `return_state` a tuple of it and the last states.
        """
        self._check_unroll(sequences)
        states = self._first_states(sequences, initial_state)
        mask = tree.flatten(mask)[0] if tree.is_nested(mask) else mask
        try:
            last, outputs, states = self.inner_loop(sequences, states, mask, training)
        finally:
            if training:
                _forget_masks(self.cell)
        if self.stateful:
            for variable, value in zip(
                tree.flatten(self.states), tree.flatten(states), strict=True
            ):
                variable.assign(value)
        output = ops.cast(outputs if self.return_sequences else last, self.compute_dtype)
        if not self.return_state:
            return output
        return output, *tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), states)

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Tensor | None, training: bool = False
    ) -> tuple:
        """Run the loop over the steps.

        Args:
            sequences: (batch, steps, ...).
            initial_state: a list of the states to begin with.
            mask: (batch, steps) or None.
            training: whether there is dropout.

        Returns:
            The last output, the outputs of all steps with `return_sequences`, the last states.
        """
        options = {
            "mask": mask, "reverse": self.go_backwards, "unroll": self.unroll,
            "return_sequences": self.return_sequences, "zero_output": self.zero_output_for_mask,
        }  # fmt: skip
        cell = self.cell
        # A cell whose call is the package's own, in the dtype of this layer, is run as a whole.
        if (
            isinstance(cell, RecurrentCell)
            and type(cell).call is RecurrentCell.call
            and cell.dtype_policy == self.dtype_policy
        ):
            return cell.run(sequences, initial_state, training, self.uses_fused(mask), **options)
        if training:
            _draw_masks(cell, ops.shape(sequences), initial_state)

        def step(inputs: Any, states: Any) -> tuple:
            return call_cell(cell, inputs, states, training)

        return over_time(
            step, sequences, initial_state, blank=self._blank(sequences, initial_state, step),
            variables=self._assigned(), **options,
        )  # fmt: skip

    def uses_fused(self, mask: Tensor | None) -> bool:
        """Whether a fused kernel may run all steps.

        Args:
            mask: (batch, steps) or None.
        """
        return True

    def _blank(self, sequences: Any, states: list, step: Any) -> Any:
        """Zeros in the form of an output."""
        size = cell_output_size(self.cell)
        if isinstance(size, int) and size >= 0:
            return ops.zeros((ops.shape(sequences)[0], size), self._cell_dtype())
        return ops.zeros_like(step(sequences[:, 0], states)[0])

    def _assigned(self) -> list[Variable]:
        """The variables that a step may assign, where the loop is a function of values."""
        if not isinstance(self.cell, Layer) or not backends.load(self.backend).FUNCTIONAL:
            return []
        return [v for v in self.cell.variables if not v.made_trainable]

    def _check_unroll(self, sequences: Any) -> None:
        if self.unroll and sequences.shape[1] is None:
            raise ValueError(
                f"Layer {self.name!r} cannot be unrolled over an unknown number of steps: give the "
                "Input its size, or unroll=False."
            )

    def compute_output_spec(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs."""
        self._check_unroll(sequences)
        return super().compute_output_spec(sequences, *args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the outputs of all steps; the last output and the states have none."""
        mask = tree.flatten(previous_mask)[0] if self.return_sequences else None
        return [mask, *[None] * len(self.state_size)] if self.return_state else mask


def _forget_masks(cell: Any) -> None:
    """Let cells draw new dropout masks for the next sequence.

    Args:
        cell: the cell, a stack of cells too.
    """
    for inner in cell.cells if isinstance(cell, StackedRNNCells) else [cell]:
        if isinstance(inner, RecurrentCell) and (inner.dropout or inner.recurrent_dropout):
            inner.reset_dropout_mask()
            inner.reset_recurrent_dropout_mask()


def _draw_masks(cell: Any, shape: Sequence, states: list) -> None:
    """Draw the dropout masks of cells, outside the loop.

    Args:
        cell: the cell.
        shape: of the sequences.
        states: the first states.
    """
    step_shape = (shape[0], *shape[2:])
    stacked = isinstance(cell, StackedRNNCells)
    for inner, own in zip(cell.cells, states, strict=True) if stacked else [(cell, states)]:
        if isinstance(inner, RecurrentCell):
            inner.draw_masks(list(own) if tree.is_nested(own) else [own], step_shape)
        step_shape = (shape[0], cell_output_size(inner))
