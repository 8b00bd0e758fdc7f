"""Recurrent layers as ops: one call over all steps, so that a backend can use a fused kernel.

Gates and weights stand in Keras's order: input, forget, candidate, output in an LSTM; update,
reset, candidate in a GRU.
"""

from collections.abc import Callable
from typing import Any

from keraslite.ops import numpy as k
from keraslite.ops.control_flow import scan
from keraslite.ops.core import cast
from keraslite.ops.op import TABLE, op
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
        f, g = _function(activation), _function(recurrent_activation)

        def step(projected: Any, states: tuple) -> tuple:
            i, forget, candidate, o = k.split(
                projected + k.matmul(states[0], recurrent_kernel), 4, axis=-1
            )
            c = g(forget) * states[1] + g(i) * f(candidate)
            return g(o) * f(c), c

        out = _over_time(step, x, (h, c), kernel, bias, mask, reverse, return_sequences, unroll)
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
        f, g = _function(activation), _function(recurrent_activation)
        units = h.shape[-1]
        input_bias, inner = (bias, None) if bias is None or not reset_after else (bias[0], bias[1])

        def step(projected: Any, states: tuple) -> tuple:
            h = states[0]
            if reset_after:
                recurrent = k.matmul(h, recurrent_kernel)
                recurrent = recurrent if inner is None else recurrent + inner
                gates = recurrent[:, : 2 * units]
            else:
                gates = k.matmul(h, recurrent_kernel[:, : 2 * units])
            z, r = k.split(g(projected[:, : 2 * units] + gates), 2, axis=-1)
            if reset_after:
                past = r * recurrent[:, 2 * units :]
            else:
                past = k.matmul(r * h, recurrent_kernel[:, 2 * units :])
            return (z * h + (1 - z) * f(projected[:, 2 * units :] + past),)

        projection = kernel, input_bias
        out = _over_time(step, x, (h,), *projection, mask, reverse, return_sequences, unroll)
    return _result(*out, return_sequences)


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


def _over_time(
    step: Callable, x: Any, states: tuple, kernel: Any, bias: Any, mask: Any, reverse: bool,
    sequences: bool, unroll: bool,
) -> tuple:  # fmt: skip
    """Scan over the steps, with the inputs' products taken out of the loop.

    Args:
        step: a function of (product of the inputs, states) that gives new states, the first of
            which is the output.

    Returns:
        The last output, (batch, steps, units) of outputs or None, and the last states.
    """
    projected = k.moveaxis(k.matmul(x, kernel), 1, 0)
    projected = projected if bias is None else projected + bias
    if mask is None:

        def body(states: tuple, now: Any) -> tuple:
            states = step(now, states)
            return states, states[0] if sequences else None

        states, outs = scan(body, states, projected, reverse=reverse, unroll=unroll)
        return states[0], _in_order(outs, reverse), states

    counts = cast(mask, "bool")
    counts = counts if len(counts.shape) == 3 else k.expand_dims(counts, -1)

    def masked(carry: tuple, now: tuple) -> tuple:
        output, states = carry
        x, counts = now
        new = step(x, states)
        output = k.where(counts, new[0], output)
        states = tuple(k.where(counts, a, b) for a, b in zip(new, states, strict=True))
        return (output, states), output if sequences else None

    start, xs = (k.zeros_like(states[0]), states), (projected, k.moveaxis(counts, 1, 0))
    (last, states), outs = scan(masked, start, xs, reverse=reverse, unroll=unroll)
    return last, _in_order(outs, reverse), states


def _in_order(outs: Any, reverse: bool) -> Any:
    """Stacked outputs as (batch, steps, units), in the order in which they were made."""
    return outs if outs is None else k.moveaxis(k.flip(outs, 0) if reverse else outs, 0, 1)


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


def _result(last: Any, outs: Any, states: tuple, sequences: bool) -> tuple:
    return last, outs if sequences else k.expand_dims(last, 1), list(states)


__all__ = ["gru", "lstm"]
