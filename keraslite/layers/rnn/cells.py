"""The cells of simple recurrent networks, LSTM and GRU: one step each."""

from typing import Any

from keraslite import activations, ops
from keraslite.declare import REQUIRED, declare
from keraslite.layers.rnn.cell import RecurrentCell
from keraslite.layers.rnn.parameters import docstring, weight_parameters, with_keywords
from keraslite.ops.rnn import gru_step, lstm_step
from keraslite.typing import Shape, Tensor


def _fusible(activation: Any) -> Any:
    """An activation as the fused ops take it: those that kernels know, by name."""
    if activation is activations.tanh:
        return "tanh"
    return "sigmoid" if activation is activations.sigmoid else activation


class _SimpleRNNCell(RecurrentCell):
    def step(self, projected: Tensor, states: list, training: bool = False) -> tuple:
        """Compute the output, which is the new state."""
        h, mask = states[0], self.state_masks(states, training)
        h = h if mask is None else h * mask
        out = self.activation(projected + ops.matmul(h, self.recurrent_kernel.value))
        return out, [out]


class _GatedCell(RecurrentCell):
    def run(
        self, sequences: Tensor, states: list, training: bool, fused: bool, **options: Any
    ) -> tuple:
        """Run all steps, by a fused kernel where there is one and it fits."""
        each_gate = self.recurrent_dropout or (self.dropout and self.implementation == 1)
        if not fused or options["mask"] is not None or (training and each_gate):
            return super().run(sequences, states, training, fused, **options)
        if training and self.dropout:
            sequences = sequences * self.input_masks(sequences)
        run = {
            "reverse": options["reverse"], "unroll": options["unroll"],
            "return_sequences": options["return_sequences"],
            "activation": _fusible(self.activation),
            "recurrent_activation": _fusible(self.recurrent_activation),
        }  # fmt: skip
        bias = None if self.bias is None else self.bias.value
        return self._op(
            sequences, *states, self.kernel.value, self.recurrent_kernel.value, bias, **run
        )

    def _op(self, *tensors: Any, **options: Any) -> tuple:
        raise NotImplementedError


class _LSTMCell(_GatedCell):
    gates = 4

    def setup(self, **arguments: Any) -> None:
        super().setup(**arguments)
        self.state_size = [self.units, self.units]

    def step(self, projected: Tensor, states: list, training: bool = False) -> tuple:
        """Compute the output, which is the hidden state, and the cell state."""
        return lstm_step(
            projected, states, self.recurrent_kernel.value, self.activation,
            self.recurrent_activation, self.state_masks(states, training),
        )  # fmt: skip

    def _op(self, *tensors: Any, **options: Any) -> tuple:
        return ops.lstm(*tensors, **options)


class _GRUCell(_GatedCell):
    gates = 3

    def build(self, input_shape: Shape) -> None:
        """Make the weights; with `reset_after` the state has a bias of its own."""
        width = 3 * self.units
        bias = (2, width) if self.reset_after else (width,)
        self.make_weights((input_shape[-1], width), (self.units, width), bias)

    def input_bias(self) -> Tensor | None:
        """The bias of the product of the inputs."""
        bias = super().input_bias()
        return bias[0] if bias is not None and self.reset_after else bias

    def step(self, projected: Tensor, states: list, training: bool = False) -> tuple:
        """Compute the output, which is the new state."""
        inner = self.bias.value[1] if self.bias is not None and self.reset_after else None
        return gru_step(
            projected, states, self.recurrent_kernel.value, inner, self.activation,
            self.recurrent_activation, self.reset_after, self.state_masks(states, training),
        )  # fmt: skip

    def _op(self, *tensors: Any, **options: Any) -> tuple:
        return ops.gru(*tensors, reset_after=self.reset_after, **options)


_SHAPES = "Inputs (batch, features) and states (batch, units), outputs (batch, units)."


def _cell(base: type, name: str, text: str, head: dict, tail: dict, gates: str, bias: str) -> type:
    parameters = with_keywords({"units": REQUIRED, "activation": "tanh"}, head, tail)
    states = "[h, h]" if base is _LSTMCell else "[h]"
    example = f""">>> x, h = np.ones((2, 4), "float32"), np.zeros((2, 3), "float32")
    >>> output, states = {name}(3)(x, {states})
    >>> output.shape == (2, 3)
    True"""
    doc = docstring(
        f"{text}\n\n    {_SHAPES}", parameters, example, kernel=f"(features, {gates}units)",
        recurrent=f"(units, {gates}units)", bias=bias,
    )  # fmt: skip
    return declare(base, name, doc, parameters)


_GATED = {"recurrent_activation": "sigmoid"}
_SEED = {"seed": None}
SimpleRNNCell = _cell(
    _SimpleRNNCell, "SimpleRNNCell", "One step of a plain recurrent network.",
    weight_parameters(activity=False, forget=False), _SEED, "", "(units,)",
)  # fmt: skip
LSTMCell = _cell(
    _LSTMCell, "LSTMCell", "One step of long short-term memory (Hochreiter and Schmidhuber, 1997).",
    _GATED | weight_parameters(activity=False, forget=True), _SEED, "4 ", "(4 units,)",
)  # fmt: skip
GRUCell = _cell(
    _GRUCell, "GRUCell", "One step of gated recurrent units (Cho et al., 2014).",
    _GATED | weight_parameters(activity=False, forget=False), {"reset_after": True, **_SEED}, "3 ",
    "(2, 3 units) with `reset_after`, else (3 units,)",
)  # fmt: skip
