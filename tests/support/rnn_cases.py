"""The table of recurrent layers: how each is made of either library, and how it is called."""

from functools import cache
from types import ModuleType
from typing import Any

import keras
import numpy as np
from layer_cases import random_weights, x

import keraslite

BATCH, STEPS = 2, 4
X = x(BATCH, STEPS, 3)
MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
H = [x(BATCH, 2, seed=1), x(BATCH, 2, seed=2)]


@cache
def cells(library: ModuleType) -> dict[str, type]:
    """Cells as users write them, of Keras or of keraslite."""
    ops, layer = library.ops, library.layers.Layer

    class NestedCell(layer):
        """Two states in a structure, and an output of another size than these."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.state_size, self.output_size = [[2, 3], 2], 5

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 5), name="kernel")

        def get_initial_state(self, batch_size=None):
            return [[ops.zeros((batch_size, 2)), ops.ones((batch_size, 3))],
                    ops.zeros((batch_size, 2))]  # fmt: skip

        def call(self, inputs, states):
            (a, b), c = states
            projected = ops.matmul(inputs, self.kernel)
            a, b, c = a + projected[:, :2], ops.tanh(b - projected[:, 2:]), c + a * 0.5
            return ops.concatenate([a * c, b], axis=-1), [[a, b], c]

    class PlainCell:
        """No layer: a call and the size of a state that it returns as it is."""

        state_size, compute_dtype = 3, "float32"

        def get_initial_state(self, batch_size=None):
            return ops.ones((batch_size, 3))

        def __call__(self, inputs, states):
            h = inputs + 0.5 * states[0]
            return h, h

        call = __call__

    return {"NestedCell": NestedCell, "PlainCell": PlainCell}


def custom(name: str) -> Any:
    """Return a function that makes an RNN of a user's cell, in either library."""
    return lambda lib: lib.layers.RNN(
        cells(lib)[name](), return_sequences=True, return_state=name == "NestedCell"
    )


def bidirectional(mode: str | None, **options: Any) -> Any:
    return lambda lib: lib.layers.Bidirectional(lib.layers.LSTM(2, **options), merge_mode=mode)


SEQUENCES = {"return_sequences": True, "return_state": True}
# name -> (what makes the layer of a library, inputs, what it is called with besides)
CASES: dict[str, tuple] = {
    "LSTM": (lambda lib: lib.layers.LSTM(2, **SEQUENCES), X, {}),
    "LSTM, masked": (lambda lib: lib.layers.LSTM(2, **SEQUENCES), X, {"mask": MASK}),
    "LSTM, backward, each gate by itself": (
        lambda lib: lib.layers.LSTM(
            2, "relu", "hard_sigmoid", use_bias=False, implementation=1, go_backwards=True
        ),
        X, {"mask": MASK},
    ),
    "LSTM, unrolled": (
        lambda lib: lib.layers.LSTM(2, unroll=True, kernel_regularizer="l2", **SEQUENCES),
        X, {"mask": MASK, "initial_state": H},
    ),
    "GRU": (lambda lib: lib.layers.GRU(2, activity_regularizer="l2"), X, {}),
    "GRU, masked": (
        lambda lib: lib.layers.GRU(2, recurrent_dropout=0.5, **SEQUENCES),
        X, {"mask": MASK, "initial_state": H[:1]},
    ),
    "GRU, reset before": (
        lambda lib: lib.layers.GRU(2, reset_after=False, go_backwards=True, **SEQUENCES), X, {},
    ),
    "SimpleRNN": (
        lambda lib: lib.layers.SimpleRNN(2, go_backwards=True, **SEQUENCES), X, {"mask": MASK}
    ),
    "RNN, zeros for masked steps": (
        lambda lib: lib.layers.RNN(
            lib.layers.GRUCell(2), zero_output_for_mask=True, return_state=True
        ),
        X, {"mask": MASK},
    ),
    "RNN, stacked": (
        lambda lib: lib.layers.RNN(
            [lib.layers.LSTMCell(2), lib.layers.GRUCell(3), lib.layers.SimpleRNNCell(2)],
            zero_output_for_mask=True, **SEQUENCES,
        ),
        X, {"mask": MASK},
    ),
    "RNN, a stack of one": (
        lambda lib: lib.layers.RNN([lib.layers.LSTMCell(2)], return_state=True), X, {}
    ),
    "RNN, nested states": (custom("NestedCell"), X, {"mask": MASK}),
    "RNN, no layer": (custom("PlainCell"), X, {}),
    "Bidirectional": (bidirectional("concat", **SEQUENCES), X, {"mask": MASK}),
    "Bidirectional, sum": (bidirectional("sum"), X, {"initial_state": [*H, *H[::-1]]}),
    "Bidirectional, mul": (bidirectional("mul", return_sequences=True), X, {}),
    "Bidirectional, ave": (bidirectional("ave"), X, {"mask": MASK}),
    "Bidirectional, pair": (bidirectional(None, **SEQUENCES), X, {}),
    "Bidirectional, two layers": (
        lambda lib: lib.layers.Bidirectional(
            lib.layers.SimpleRNN(2),
            backward_layer=lib.layers.GRU(3, go_backwards=True, name="back"),
        ),
        X, {},
    ),
    "TimeDistributed": (lambda lib: lib.layers.TimeDistributed(lib.layers.Dense(2)), X, {}),
    "TimeDistributed, batch statistics": (
        lambda lib: lib.layers.TimeDistributed(lib.layers.BatchNormalization()),
        X, {"training": True},
    ),
    "TimeDistributed, masked": (
        lambda lib: lib.layers.TimeDistributed(lib.layers.LSTM(2)),
        x(BATCH, 3, STEPS, 2), {"mask": np.stack([MASK, MASK[::-1], ~MASK], 1)},
    ),
    "ConvLSTM1D": (
        lambda lib: lib.layers.ConvLSTM1D(2, 3, strides=2, **SEQUENCES),
        x(BATCH, STEPS, 6, 2), {"mask": MASK},
    ),
    "ConvLSTM2D": (
        lambda lib: lib.layers.ConvLSTM2D(
            2, (2, 3), padding="same", dilation_rate=2, go_backwards=True, use_bias=False
        ),
        x(BATCH, 2, 4, 3, 2), {},
    ),
    "ConvLSTM3D": (lambda lib: lib.layers.ConvLSTM3D(1, 2), x(BATCH, 2, 2, 3, 2, 1), {}),
}  # fmt: skip


# Those whose cells have no config.
OWN_CELLS = ("RNN, nested states", "RNN, no layer")


def built(library: ModuleType, name: str) -> Any:
    """A layer of the table, of either library, with weights that both have."""
    make, inputs, _ = CASES[name]
    layer = make(library)
    layer(inputs if library is keras else keraslite.Input(batch_shape=(None, *inputs.shape[1:])))
    layer.set_weights(random_weights([tuple(v.shape) for v in layer.weights]))
    return layer
