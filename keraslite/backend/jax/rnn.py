"""Recurrent layers on arrays: one compiled function, where nothing around it is compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {}


@primitive(TABLE)
def _fused_lstm(
    x: jax.Array,
    h: jax.Array,
    c: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array | None,
    reverse: bool,
) -> Any:
    arrays = x, h, c, kernel, recurrent_kernel, bias
    return NotImplemented if _traced(arrays) else _lstm(*arrays, reverse=reverse)


@primitive(TABLE)
def _fused_gru(
    x: jax.Array,
    h: jax.Array,
    kernel: jax.Array,
    recurrent_kernel: jax.Array,
    bias: jax.Array | None,
    reverse: bool,
) -> Any:
    arrays = x, h, kernel, recurrent_kernel, bias
    return NotImplemented if _traced(arrays) else _gru(*arrays, reverse=reverse)


def _traced(arrays: tuple) -> bool:
    """Whether a function around is compiled or differentiated, into which a loop of its own fits
    better: it keeps no outputs that nobody asks for.
    """
    return any(isinstance(x, jax.core.Tracer) for x in (*arrays, jnp.zeros(())))


@partial(jax.jit, static_argnames="reverse")
def _lstm(
    x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reverse: bool
) -> tuple:
    def step(states: tuple, projected: Any) -> tuple:
        h, c = states
        i, f, candidate, o = jnp.split(projected + h @ recurrent_kernel, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(candidate)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return _over_time(step, x, (h, c), kernel, bias, reverse)


@partial(jax.jit, static_argnames="reverse")
def _gru(x: Any, h: Any, kernel: Any, recurrent_kernel: Any, bias: Any, reverse: bool) -> tuple:
    inputs, inner = (None, 0) if bias is None else bias

    def step(states: tuple, projected: Any) -> tuple:
        recurrent = jnp.split(states[0] @ recurrent_kernel + inner, 3, axis=-1)
        x = jnp.split(projected, 3, axis=-1)
        z, r = (jax.nn.sigmoid(a + b) for a, b in zip(x[:2], recurrent[:2], strict=True))
        h = z * states[0] + (1 - z) * jnp.tanh(x[2] + r * recurrent[2])
        return (h,), h

    return _over_time(step, x, (h,), kernel, inputs, reverse)


def _over_time(
    step: Callable, x: Any, states: tuple, kernel: Any, bias: Any, reverse: bool
) -> tuple:
    """(last output, outputs in the order in which they were made, last states)."""
    projected = jnp.moveaxis(x, 1, 0) @ kernel
    projected = projected if bias is None else projected + bias
    states, outputs = jax.lax.scan(step, states, projected[::-1] if reverse else projected)
    return states[0], jnp.moveaxis(outputs, 0, 1), states
