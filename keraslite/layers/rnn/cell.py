"""The base of the package's recurrent cells: weights, and dropout masks that all steps share."""

from collections.abc import Sequence
from typing import Any

from keraslite import ops, random
from keraslite.layers.base.config_layer import ConfigLayer, check_positive
from keraslite.ops.over_time import over_time
from keraslite.ops.rnn import gated_product
from keraslite.random import SeedGenerator
from keraslite.scopes import scopes
from keraslite.typing import Shape, Tensor

INPUTS, STATES = "inputs", "states"


class UnitForgetBias:
    """An initializer of the bias of an LSTM: 1 at the forget gate.

    Args:
        initializer: of the other gates.

    >>> from keraslite.initializers import Zeros
    >>> ops.convert_to_numpy(UnitForgetBias(Zeros())((4,))).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, initializer: Any):
        self.initializer = initializer

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Tensor:
        units = shape[0] // 4
        parts = [
            self.initializer((units,), dtype=dtype),
            ops.ones((units,), dtype=dtype),
            self.initializer((2 * units,), dtype=dtype),
        ]
        return ops.concatenate(parts)


class RecurrentCell(ConfigLayer):
    """The base of the package's cells: `step` of `project` of the inputs of one time step.

    `project` needs no state, so that layers call it once for all steps.
    """

    gates = 1  # the parts that the kernels consist of
    step_ndim = 2  # the rank of the inputs of one step
    unit_axis = -1  # of the units in states and products

    def setup(self, **arguments: Any) -> None:
        """Take the arguments; dropout of the state needs masks for each gate."""
        size = "units" if "units" in arguments else "filters"
        check_positive(size, arguments[size])
        implementation = arguments["kwargs"].pop("implementation", 2) if self.gates > 1 else 2
        for name in ("dropout", "recurrent_dropout"):
            arguments[name] = min(1.0, max(0.0, arguments[name]))
        self.set_arguments(arguments)
        self.implementation = 1 if self.recurrent_dropout else implementation
        if self.gates > 1 and self.implementation == 1:
            self.dropout_mask_count = self.gates
        self.seed_generator = SeedGenerator(self.seed)
        self.output_size = arguments[size]
        self.state_size: Any = self.output_size

    def make_weights(self, kernel: Shape, recurrent_kernel: Shape, bias: Shape) -> None:
        """Make the weights of the given shapes."""
        self.kernel = self.add_named_weight("kernel", kernel)
        self.recurrent_kernel = self.add_named_weight(
            "recurrent_kernel", recurrent_kernel, prefix="recurrent"
        )
        self.bias = None
        if self.use_bias:
            special = getattr(self, "unit_forget_bias", False)
            initializer = UnitForgetBias(self.bias_initializer) if special else None
            options = {"initializer": initializer} if initializer else {}
            self.bias = self.add_named_weight("bias", bias, **options)

    def build(self, input_shape: Shape) -> None:
        """Make the weights."""
        width = self.gates * self.output_size
        self.make_weights((input_shape[-1], width), (self.output_size, width), (width,))

    # -- one step -----------------------------------------------------------------------------

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> Any:
        """Run one step.

        Args:
            inputs: (batch, ...), the inputs of the step.
            states: the states before it, each (batch, ...), in a list.
            training: whether there is dropout.

        Returns:
            The output, and the new states in a list.
        """
        listed = list(states) if isinstance(states, list | tuple) else [states]
        output, new = self.step(self.project(inputs, training), listed, training)
        return output, new if isinstance(states, list | tuple) else new[0]

    def project(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The products of the inputs with the kernels of the gates, and the bias.

        Args:
            inputs: those of one step, (batch, ...), or of all steps, (batch, steps, ...).
            training: whether there is dropout.
        """
        masks = self.input_masks(inputs) if training and self.dropout else None
        bias, kernel = self.input_bias(), self.kernel.value
        if not isinstance(masks, list):
            return self.product(inputs if masks is None else inputs * masks, kernel, bias)
        out = gated_product(inputs, kernel, masks, self.product, self.unit_axis)
        return out if bias is None else ops.add(out, bias)

    def product(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product of inputs and a kernel."""
        return ops.linear(x, kernel, bias)

    def input_bias(self) -> Tensor | None:
        """The bias of the product of the inputs."""
        return None if self.bias is None else self.bias.value

    def step(self, projected: Tensor, states: list, training: bool = False) -> tuple:
        """Compute the output and the new states of a step.

        Args:
            projected: what `project` gave for the step.
            states: the states before it.
            training: whether there is dropout.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement step().")

    # -- all steps ----------------------------------------------------------------------------

    def run(
        self, sequences: Tensor, states: list, training: bool, fused: bool, **options: Any
    ) -> tuple:
        """Run all steps, with the products of the inputs taken out of the loop.

        Args:
            sequences: (batch, steps, ...).
            states: the first states.
            training: whether there is dropout.
            fused: whether a fused kernel may be used.
            options: those of `over_time`.

        Returns:
            What `over_time` does.
        """
        if training:
            self.draw_masks(states)

        def step(projected: Any, states: list) -> tuple:
            return self.step(projected, states, training)

        return over_time(step, self.project(sequences, training), states, **options)

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Zeros for each state.

        Args:
            batch_size: the number of rows.
        """
        count = len(self.state_size) if isinstance(self.state_size, list) else 1
        return [ops.zeros((batch_size, self.output_size), dtype=self.compute_dtype)] * count

    # -- dropout ------------------------------------------------------------------------------

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        """The mask of the inputs, kept until `reset_dropout_mask`; a list with one for each gate
        in implementation 1; None without dropout.

        Args:
            step_input: the inputs of one step, (batch, ...).
        """
        return self._mask(INPUTS, self.dropout, ops.shape(step_input), ops.dtype(step_input))

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        """The mask of the state, likewise.

        Args:
            step_input: the state, (batch, ...).
        """
        rate, dtype = self.recurrent_dropout, ops.dtype(step_input)
        return self._mask(STATES, rate, ops.shape(step_input), dtype)

    def reset_dropout_mask(self) -> None:
        """Forget the mask of the inputs."""
        _masks(self).pop(INPUTS, None)

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the mask of the state."""
        _masks(self).pop(STATES, None)

    def draw_masks(self, states: list, step_shape: Sequence | None = None) -> None:
        """Draw the masks before a loop, in which nothing may be drawn.

        Args:
            states: the first states.
            step_shape: of the inputs of one step, where their mask is drawn too.
        """
        if step_shape is not None and self.dropout:
            self._mask(INPUTS, self.dropout, step_shape, self.compute_dtype)
        if self.recurrent_dropout:
            self.get_recurrent_dropout_mask(states[0])

    def state_masks(self, states: list, training: bool) -> Any:
        """The dropout masks of the state in a step; None where there is no dropout."""
        if not training or not self.recurrent_dropout:
            return None
        return self.get_recurrent_dropout_mask(states[0])

    def input_masks(self, inputs: Tensor) -> Any:
        """The dropout masks of inputs: of one step, or of all steps, which share one.

        Args:
            inputs: (batch, ...) or (batch, steps, ...).
        """
        shape = ops.shape(inputs)
        step_shape = (shape[0], *shape[1 - self.step_ndim :])
        masks = self._mask(INPUTS, self.dropout, step_shape, ops.dtype(inputs))
        if len(shape) == self.step_ndim:
            return masks
        if isinstance(masks, list):
            return [ops.expand_dims(m, 1) for m in masks]
        return ops.expand_dims(masks, 1)

    def _mask(self, name: str, rate: float, shape: Any, dtype: Any) -> Any:
        if not rate:
            return None
        masks, count = _masks(self), getattr(self, "dropout_mask_count", None)
        if name not in masks:
            drawn = [
                random.dropout(ops.ones(tuple(shape), dtype), rate, seed=self.seed_generator)
                for _ in range(count or 1)
            ]
            masks[name] = drawn if count else drawn[0]
        return masks[name]


def _masks(cell: RecurrentCell) -> dict[str, Any]:
    """The dropout masks that a cell drew in this thread."""
    return cell.__dict__.setdefault("_kl_dropout_masks", {}).setdefault(scopes.thread, {})
