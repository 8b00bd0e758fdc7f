"""SimpleRNN, LSTM and GRU: a layer for each of the package's cells."""

from typing import Any

from keraslite import activations
from keraslite import backend as backends
from keraslite.declare import REQUIRED, declare
from keraslite.layers.base.config import Attribute
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.rnn.cells import GRUCell, LSTMCell, SimpleRNNCell
from keraslite.layers.rnn.parameters import RUNNING, docstring, weight_parameters, with_keywords
from keraslite.layers.rnn.rnn import RNN
from keraslite.typing import Tensor

_OF_RNN = (*RUNNING, "unroll", "zero_output_for_mask")


class CellLayer(RNN):
    """The base of layers that make their cell: its arguments are theirs."""

    cell_class: Any = None
    cell_name = ""
    saves_activity_regularizer = True

    def setup(self, **arguments: Any) -> None:
        """Make the cell, and the layer around it."""
        kwargs = dict(arguments.pop("kwargs"))
        running = {name: arguments.pop(name) for name in _OF_RNN if name in arguments}
        self.use_cudnn = arguments.pop("use_cudnn", "auto")
        regularizer = arguments.pop("activity_regularizer")
        own = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        if "implementation" in kwargs:
            own["implementation"] = kwargs.pop("implementation")
        cell = self.cell_class(**arguments, **own, name=self.cell_name)
        RNN.__init__(self, cell, **running, activity_regularizer=regularizer, **kwargs)
        saved = [*_OF_RNN, *(name for name in arguments if name not in self.unsaved_arguments)]
        self._kl_config = dict.fromkeys(saved, Attribute)
        self.input_spec = InputSpec(ndim=cell.step_ndim + 1)


def cell_attributes(cell: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of the class of a layer around a cell: the cell's arguments are its.

    Args:
        cell: the class of the cell.
        parameters: those of the layer.
    """
    outer = (*_OF_RNN, "use_cudnn", "activity_regularizer", "**kwargs")
    return {p: _of_cell(p) for p in parameters if p not in outer} | {"cell_class": cell}


def _of_cell(name: str) -> property:
    return property(lambda layer: getattr(layer.cell, name), doc=f"The `{name}` of the cell.")


class FusedLayer(CellLayer):
    """The base of layers that have fused kernels."""

    def setup(self, **arguments: Any) -> None:
        """Check `use_cudnn`, and make the cell and the layer."""
        if arguments["use_cudnn"] not in ("auto", True, False):
            raise ValueError(
                'Argument `use_cudnn` must be one of "auto", True and False, got '
                f"{arguments['use_cudnn']!r}."
            )
        super().setup(**arguments)

    def uses_fused(self, mask: Tensor | None) -> bool:
        """Whether a fused kernel may run all steps.

        Args:
            mask: (batch, steps) or None.

        Raises:
            ValueError: `use_cudnn` insists on one, and there is none or it does not fit.
        """
        if self.use_cudnn is True and not self._has_kernel(mask):
            raise ValueError(
                f"Layer {self.name!r}: use_cudnn=True, but there is no fused kernel on a GPU of "
                f'the backend {self.backend!r} for these arguments. use_cudnn="auto" does without.'
            )
        return self.use_cudnn is not False

    def _has_kernel(self, mask: Any) -> bool:
        module, cell = backends.load(self.backend), self.cell
        return (
            module.accelerated()
            and f"_fused_{self.cell_name.removesuffix('_cell')}" in module.PRIMITIVES
            and mask is None
            and cell.activation is activations.tanh
            and cell.recurrent_activation is activations.sigmoid
            and not cell.recurrent_dropout
            and getattr(cell, "reset_after", True)
        )


_TEXT = """Inputs (batch, steps, features); outputs (batch, steps, units) with
    `return_sequences`, else (batch, units); with `return_state` the last states behind them."""
_HEAD = {"units": REQUIRED, "activation": "tanh"}
_GATED = {**_HEAD, "recurrent_activation": "sigmoid"}
_SEED, _UNROLL, _FUSED = {"seed": None}, {"unroll": False}, {"use_cudnn": "auto"}


def _layer(
    base: type, name: str, text: str, cell: Any, parameters: dict[str, Any], gates: str, bias: str,
    **attributes: Any,
) -> type:  # fmt: skip
    example = f""">>> {name}(4)(np.ones((2, 5, 3), "float32")).shape == (2, 4)
    True"""
    doc = docstring(
        f"{text}\n\n    {_TEXT}", parameters, example, kernel=f"(features, {gates}units)",
        recurrent=f"(units, {gates}units)", bias=bias,
    )  # fmt: skip
    return declare(base, name, doc, parameters, **cell_attributes(cell, parameters), **attributes)


SimpleRNN = _layer(
    CellLayer, "SimpleRNN", "A plain recurrent layer: the output is fed back.", SimpleRNNCell,
    with_keywords(
        _HEAD, weight_parameters(activity=True, forget=False), RUNNING, _UNROLL, _SEED
    ),
    "", "(units,)", cell_name="simple_rnn_cell", unsaved_arguments=("seed",),
)  # fmt: skip
LSTM = _layer(
    FusedLayer, "LSTM", "Long short-term memory (Hochreiter and Schmidhuber, 1997).", LSTMCell,
    with_keywords(
        _GATED, weight_parameters(activity=True, forget=True), _SEED, RUNNING, _UNROLL, _FUSED
    ),
    "4 ", "(4 units,)", cell_name="lstm_cell",
)  # fmt: skip
GRU = _layer(
    FusedLayer, "GRU", "Gated recurrent units (Cho et al., 2014).", GRUCell,
    with_keywords(
        _GATED, weight_parameters(activity=True, forget=False), _SEED, RUNNING, _UNROLL,
        {"reset_after": True}, _FUSED,
    ),
    "3 ", "(2, 3 units) with `reset_after`, else (3 units,)", cell_name="gru_cell",
)  # fmt: skip
