"""Recurrent layers as ops: one call over all steps, so that a backend can use a fused kernel.

Gates and weights stand in Keras's order: input, forget, candidate, output in an LSTM; update,
reset, candidate in a GRU.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keraslite.ops import numpy as k
from keraslite.ops.op import TABLE, op
from keraslite.ops.over_time import over_time
from keraslite.typing import Tensor

Activation = str | Callable | None


def _function(activation: Activation) -> Callable:
    """An activation given by name."""
    if activation is None or activation == "linear":
        return lambda x: x
    if callable(activation):
        return activation
    if activation not in TABLE or activation.startswith("_"):
        raise ValueError(f"unknown activation {activation!r}")
    return TABLE[activation].call


@op("promote_float", tensors=7, keep=(6,))
def lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor = None,
    mask: Tensor = None,
    reverse: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    unroll: bool = False,
) -> tuple:
    """A layer of long short-term memory, over all steps.

    Args:
        x: (batch, steps, features).
        h, c: (batch, units), the first hidden and cell state.
        kernel: (features, 4 units): of the input gate, the forget gate, the candidate and the
            output gate.
        recurrent_kernel: (units, 4 units).
        bias: (4 units,) or None.
        mask: (batch, steps) or (batch, steps, 1); where it is false a step keeps the states and
            gives the output of the step before it, zeros where there is none.
        reverse: whether to begin at the last step; the outputs then stand in that order.
        return_sequences: whether the outputs of all steps are returned, or of the last alone.
        activation: of candidate and cell, a function or the name of an op.
        recurrent_activation: of the gates.
        unroll: whether JAX lays the steps out one after the other instead of looping.

    Returns:
        The last output, (batch, units); the outputs, (batch, steps or 1, units); and [h, c].

    Raises:
        ValueError: a shape does not fit, or there is no such activation.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997.

    >>> x, h, w = (np.ones(shape, "float32") for shape in ((1, 3, 2), (1, 1), (2, 4)))
    >>> last, outputs, (h, c) = lstm(x, h, h, w, np.ones((1, 4), "float32"))
    >>> outputs.shape == (1, 3, 1)
    True
    """
    _fit(x, (h, c), kernel, recurrent_kernel, bias, 4, 1)
    out: Any = NotImplemented
    if mask is None and activation == "tanh" and recurrent_activation == "sigmoid":
        out = _fused_lstm(x, h, c, kernel, recurrent_kernel, bias, reverse)
    if out is NotImplemented:
        functions = _function(activation), _function(recurrent_activation)

        def step(projected: Any, states: tuple) -> tuple:
            return lstm_step(projected, states, recurrent_kernel, *functions)

        projected = _project(x, kernel, bias)
        out = over_time(step, projected, (h, c), mask, reverse, return_sequences, unroll)
    return _result(*out, return_sequences)


@op("promote_float", tensors=6, keep=(5,))
def gru(
    x: Tensor,
    h: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor = None,
    mask: Tensor = None,
    reverse: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    unroll: bool = False,
) -> tuple:
    """A layer of gated recurrent units, over all steps.

    Args:
        x: (batch, steps, features).
        h: (batch, units), the first state.
        kernel: (features, 3 units): of the update gate, the reset gate and the candidate.
        recurrent_kernel: (units, 3 units).
        bias: (2, 3 units) with `reset_after`, of the inputs and of the state; else (3 units,); or
            None.
        mask: (batch, steps) or (batch, steps, 1); where it is false a step keeps the state and
            gives the output of the step before it, zeros where there is none.
        reverse: whether to begin at the last step; the outputs then stand in that order.
        return_sequences: whether the outputs of all steps are returned, or of the last alone.
        activation: of the candidate, a function or the name of an op.
        recurrent_activation: of the gates.
        reset_after: whether the state is reset after its product with the kernel, or before.
        unroll: whether JAX lays the steps out one after the other instead of looping.

    Returns:
        The last output, (batch, units); the outputs, (batch, steps or 1, units); and [h].

    Raises:
        ValueError: a shape does not fit, or there is no such activation.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.

    >>> x, h, w = (np.ones(shape, "float32") for shape in ((1, 3, 2), (1, 1), (2, 3)))
    >>> last, outputs, (h,) = gru(x, h, w, np.ones((1, 3), "float32"))
    >>> outputs.shape == (1, 3, 1)
    True
    """
    _fit(x, (h,), kernel, recurrent_kernel, bias, 3, 2 if reset_after else 1)
    out: Any = NotImplemented
    if mask is None and reset_after and activation == "tanh" and recurrent_activation == "sigmoid":
        out = _fused_gru(x, h, kernel, recurrent_kernel, bias, reverse)
    if out is NotImplemented:
        functions = _function(activation), _function(recurrent_activation)
        inputs, inner = (bias, None) if bias is None or not reset_after else (bias[0], bias[1])

        def step(projected: Any, states: tuple) -> tuple:
            return gru_step(projected, states, recurrent_kernel, inner, *functions, reset_after)

        projected = _project(x, kernel, inputs)
        out = over_time(step, projected, (h,), mask, reverse, return_sequences, unroll)
    return _result(*out, return_sequences)


def lstm_step(
    projected: Any, states: Any, kernel: Any, activation: Callable, recurrent_activation: Callable,
    masks: Sequence | None = None, product: Callable = k.matmul, axis: int = -1,
) -> tuple:  # fmt: skip
    """Compute one step of an LSTM.

    Args:
        projected: the product of the inputs, (batch, 4 units).
        states: the hidden and the cell state, (batch, units).
        kernel: the recurrent one, (units, 4 units).
        activation: of candidate and cell.
        recurrent_activation: of the gates.
        masks: dropout masks of the hidden state, one for each gate.
        product: of the hidden state and a part of the kernel.
        axis: of the units in states and products.

    Returns:
        The output, and the new states in a list.
    """
    h, c = states
    gates = projected + gated_product(h, kernel, masks, product, axis)
    i, forget, candidate, o = k.split(gates, 4, axis=axis)
    g = recurrent_activation
    c = g(forget) * c + g(i) * activation(candidate)
    h = g(o) * activation(c)
    return h, [h, c]


def gru_step(
    projected: Any, states: Any, kernel: Any, bias: Any, activation: Callable,
    recurrent_activation: Callable, reset_after: bool, masks: Sequence | None = None,
) -> tuple:  # fmt: skip
    """Compute one step of a GRU.

    Args:
        projected: the product of the inputs, (batch, 3 units).
        states: the hidden state, (batch, units), in a list.
        kernel: the recurrent one, (units, 3 units).
        bias: of the product of the state with `reset_after`, (3 units,); None without.
        activation: of the candidate.
        recurrent_activation: of the gates.
        reset_after: whether the state is reset after its product with the kernel, or before.
        masks: dropout masks of the state, one for each gate.

    Returns:
        The output, and the new state in a list.
    """
    h = states[0]
    both = 2 * h.shape[-1]
    if reset_after:
        recurrent = gated_product(h, kernel, masks)
        recurrent = recurrent if bias is None else recurrent + bias
        gates = recurrent[:, :both]
    else:
        gates = gated_product(h, kernel[:, :both], masks and masks[:2])
    z, r = k.split(recurrent_activation(projected[:, :both] + gates), 2, axis=-1)
    if reset_after:
        past = r * recurrent[:, both:]
    else:
        past = k.matmul(r * h if masks is None else r * (h * masks[2]), kernel[:, both:])
    h = z * h + (1 - z) * activation(projected[:, both:] + past)
    return h, [h]


def gated_product(
    x: Any, kernel: Any, masks: Sequence | None, product: Callable = k.matmul, axis: int = -1
) -> Any:
    """Multiply by the kernels of all gates, with a dropout mask for each gate where there are any.

    Args:
        x: (..., features).
        kernel: (features, gates * units).
        masks: like `x`, one for each gate; or None.
        product: of `x` and a part of the kernel.
        axis: of the units in the product.

    Returns:
        (..., gates * units).
    """
    if masks is None:
        return product(x, kernel)
    parts = k.split(kernel, len(masks), axis=-1)
    return k.concatenate([product(x * m, p) for m, p in zip(masks, parts, strict=True)], axis=axis)


def _fit(
    x: Any, states: tuple, kernel: Any, recurrent_kernel: Any, bias: Any, gates: int, rows: int
) -> None:
    """Raise unless the shapes belong together."""
    if len(x.shape) != 3:
        raise ValueError(f"x must have shape (batch, steps, features), not {tuple(x.shape)}")
    features, units = x.shape[-1], states[0].shape[-1]
    width = gates * units
    expected = {"kernel": (features, width), "recurrent_kernel": (units, width)}
    arrays = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if bias is not None:
        expected["bias"], arrays["bias"] = ((width,) if rows == 1 else (rows, width)), bias
    for name, sizes in expected.items():
        shape = tuple(arrays[name].shape)
        if shape != sizes:
            raise ValueError(f"the shape of {name} must be {sizes}, got {shape}")
    for state in states:
        if len(state.shape) != 2 or state.shape[-1] != units:
            raise ValueError(f"the states must have shape (batch, {units}): {tuple(state.shape)}")


def _project(x: Any, kernel: Any, bias: Any) -> Any:
    """The products of the inputs of all steps at once."""
    projected = k.matmul(x, kernel)
    return projected if bias is None else projected + bias


@op("same", tensors=6)
def _fused_lstm(
    x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reverse: bool
) -> Any:
    """`lstm` by one kernel of the backend: (last, outputs, states), or NotImplemented."""
    return NotImplemented


@op("same", tensors=5)
def _fused_gru(x: Any, h: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reverse: bool) -> Any:
    """`gru` with `reset_after` by one kernel of the backend, or NotImplemented."""
    return NotImplemented


def _result(last: Any, outs: Any, states: Any, sequences: bool) -> tuple:
    return last, outs if sequences else k.expand_dims(last, 1), list(states)


__all__ = ["gru", "lstm"]
