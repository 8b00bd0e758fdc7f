"""ConvLSTM: long short-term memory whose products are convolutions; in one to three dimensions."""

from typing import Any

from keraslite import ops
from keraslite.declare import REQUIRED, declare
from keraslite.layers.base.config_layer import to_sizes
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.rnn.cell import RecurrentCell
from keraslite.layers.rnn.parameters import RUNNING, docstring, weight_parameters, with_keywords
from keraslite.layers.rnn.recurrent import CellLayer, cell_attributes
from keraslite.ops.rnn import lstm_step
from keraslite.typing import Shape, Tensor


class _ConvLSTMCell(RecurrentCell):
    gates = 4
    rank = 0

    def setup(self, **arguments: Any) -> None:
        arguments["padding"] = str(arguments["padding"]).lower()
        if arguments["padding"] not in ("valid", "same"):
            raise ValueError(
                f'Argument `padding` must be "valid" or "same", got {arguments["padding"]!r}.'
            )
        for name in ("kernel_size", "strides", "dilation_rate"):
            arguments[name] = to_sizes(arguments[name], self.rank, name)
        if max(arguments["strides"]) > 1 and max(arguments["dilation_rate"]) > 1:
            raise ValueError(
                "`strides` above 1 do not go together with a `dilation_rate` above 1, got "
                f"strides={arguments['strides']} and dilation_rate={arguments['dilation_rate']}."
            )
        super().setup(**arguments)
        self.step_ndim = self.rank + 2
        self.dropout_mask_count = self.gates
        self.input_spec = InputSpec(ndim=self.step_ndim)
        self.state_size = -1  # of more than one axis: get_initial_state tells
        self.unit_axis = -1 if self.data_format == "channels_last" else -self.rank - 1

    def build(self, inputs_shape: Shape, states_shape: Any = None) -> None:
        """Make the weights."""
        channels = inputs_shape[self.unit_axis]
        first = self.data_format == "channels_first"
        sizes = tuple(inputs_shape[2:] if first else inputs_shape[1:-1])
        if None in (*sizes, channels):
            raise ValueError(
                "The spatial sizes and the channels of the inputs of a ConvLSTM must be known, got "
                f"{tuple(inputs_shape)}."
            )
        self._state_sizes = tuple(map(self._output_size, sizes, range(self.rank)))
        width = 4 * self.filters
        self.make_weights(
            (*self.kernel_size, channels, width), (*self.kernel_size, self.filters, width), (width,)
        )

    def _output_size(self, size: int, axis: int) -> int:
        reach = (self.kernel_size[axis] - 1) * self.dilation_rate[axis]
        size = size if self.padding == "same" else size - reach
        return -(-size // self.strides[axis])

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Zeros for both states.

        Args:
            batch_size: the number of rows.
        """
        first = self.data_format == "channels_first"
        sizes = (self.filters, *self._state_sizes) if first else (*self._state_sizes, self.filters)
        return [ops.zeros((batch_size, *sizes), dtype=self.compute_dtype)] * 2

    def product(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve inputs: those of one step, or of all steps as rows of one batch."""
        shape = ops.shape(x)
        rows = shape[: len(shape) - self.rank - 1]
        out = ops.conv(
            x if len(rows) == 1 else ops.reshape(x, (-1, *shape[len(rows) :])),
            kernel, self.strides, self.padding, self.data_format, self.dilation_rate,
        )  # fmt: skip
        out = out if bias is None else ops.add(out, bias)
        return out if len(rows) == 1 else ops.reshape(out, (*rows, *out.shape[1:]))

    def input_bias(self) -> Tensor | None:
        """The bias of the convolution of the inputs, in a shape that fits behind the channels."""
        bias = super().input_bias()
        if bias is None or self.data_format == "channels_last":
            return bias
        return ops.reshape(bias, (-1, *(1,) * self.rank))

    def step(self, projected: Tensor, states: list, training: bool = False) -> tuple:
        """Compute the output, which is the hidden state, and the cell state."""

        def convolve(h: Any, kernel: Any) -> Any:
            return ops.conv(h, kernel, 1, "same", self.data_format)

        return lstm_step(
            projected, states, self.recurrent_kernel.value, self.activation,
            self.recurrent_activation, self.state_masks(states, training), convolve, self.unit_axis,
        )  # fmt: skip


_HEAD = {"filters": REQUIRED, "kernel_size": REQUIRED, "strides": 1, "padding": "valid",
         "data_format": None, "dilation_rate": 1, "activation": "tanh",
         "recurrent_activation": "sigmoid"}  # fmt: skip
_SHAPES = {"kernel": "(*kernel_size, channels, 4 filters)", "bias": "(4 filters,)",
           "recurrent": "(*kernel_size, filters, 4 filters)"}  # fmt: skip


def _family(rank: int) -> type:
    """Return the layer of a number of dimensions."""
    axes = "space, " * rank
    cell_parameters = with_keywords(_HEAD, weight_parameters(False, True), {"seed": None})
    cell_doc = docstring(
        f"One step of ConvLSTM{rank}D: inputs (batch, {axes}channels).", cell_parameters, "",
        **_SHAPES,
    )  # fmt: skip
    name = f"ConvLSTM{rank}DCell"
    cell = declare(_ConvLSTMCell, name, cell_doc, cell_parameters, rank=rank)
    globals()[name] = cell  # where pickles look for it

    parameters = with_keywords(_HEAD, weight_parameters(True, True), {"seed": None}, RUNNING)
    text = f"""Long short-term memory whose products are {rank}D convolutions.

    Inputs (batch, steps, {axes}channels); outputs likewise with `return_sequences`, else without
    the axis of the steps; with `return_state` the two last states behind them. Source:
    https://arxiv.org/abs/1506.04214"""
    sizes = ", ".join(["6"] * rank)
    example = f""">>> x = np.ones((1, 2, {sizes}, 3), "float32")
    >>> ConvLSTM{rank}D(4, 2, padding="same")(x).shape == (1, {sizes}, 4)
    True"""
    doc = docstring(text, parameters, example, **_SHAPES)
    return declare(
        CellLayer, f"ConvLSTM{rank}D", doc, parameters, cell_name="conv_lstm_cell",
        **cell_attributes(cell, parameters),
    )  # fmt: skip


ConvLSTM1D, ConvLSTM2D, ConvLSTM3D = map(_family, (1, 2, 3))
