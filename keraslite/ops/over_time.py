"""The loop of recurrent layers over the steps of a sequence: masks, directions, variables."""

from collections.abc import Callable, Sequence
from typing import Any

from keraslite import tree
from keraslite.ops import numpy as k
from keraslite.ops.control_flow import scan
from keraslite.ops.core import cast
from keraslite.ops.engine import engine_of
from keraslite.scopes import scopes
from keraslite.variable import StatelessScope, Variable


def over_time(
    step: Callable,
    sequences: Any,
    states: Any,
    mask: Any = None,
    reverse: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
    zero_output: bool = False,
    blank: Any = None,
    variables: Sequence[Variable] = (),
) -> tuple:
    """Run a step of a recurrent layer over a sequence.

    Args:
        step: a function of (inputs of a step, states) that returns (output, new states).
        sequences: (batch, steps, ...).
        states: the first states, nested tensors of (batch, ...).
        mask: (batch, steps) or (batch, steps, 1); where it is false a step keeps the states and
            gives the output of the step before it.
        reverse: whether to begin at the last step; the outputs then stand in that order.
        return_sequences: whether the outputs of all steps are kept.
        unroll: whether compilers lay the steps out one after the other instead of looping.
        zero_output: whether masked steps give zeros instead of the output before them.
        blank: zeros in the form of an output, which stand for the one before the first step; by
            default in the form of the first state.
        variables: those that `step` assigns, for backends that do not write them in place.

    Returns:
        The last output, (batch, ...); the outputs, (batch, steps, ...), or None; and the last
        states.
    """
    flat = tree.flatten(states)
    blank = k.zeros_like(flat[0]) if blank is None else blank
    xs = [k.moveaxis(sequences, 1, 0)]
    if mask is not None:
        counts = cast(mask, "bool")
        counts = counts if len(counts.shape) == 3 else k.expand_dims(counts, -1)
        xs.append(k.moveaxis(counts, 1, 0))

    def body(carry: list, now: list) -> tuple:
        output, new = step(now[0], tree.pack_sequence_as(states, carry[1:]))
        new = tree.flatten(new)
        if mask is not None:
            new = [_choose(now[1], a, b) for a, b in zip(new, carry[1:], strict=True)]
            output = _choose(now[1], output, blank if zero_output else carry[0])
        return [output, *new], output if return_sequences else None

    carry = [blank, *flat]
    if _runs_op_by_op(flat[0], xs[0]):
        carry, outputs = _looped(body, carry, xs, reverse)
    elif variables:
        values = [v.uncast_value() for v in variables]
        run = _with_variables(body, variables)
        (values, carry), outputs = scan(run, (values, carry), xs, reverse=reverse, unroll=unroll)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    else:
        carry, outputs = scan(body, carry, xs, reverse=reverse, unroll=unroll)
    if outputs is not None:
        outputs = k.moveaxis(k.flip(outputs, 0) if reverse else outputs, 0, 1)
    return carry[0], outputs, tree.pack_sequence_as(states, list(carry[1:]))


# Loops of more steps are compiled even if nothing else is.
_MOST_STEPS = 512


def _runs_op_by_op(state: Any, xs: Any) -> bool:
    """Whether each operation runs at once on a backend that would compile the loop, and again in
    each call, since its body is a new function each time.
    """
    module = engine_of(state, xs)
    return (
        module.COMPILES_OPS
        and not scopes.abstract
        and not module.is_traced(k.zeros_like(state))  # which shows it in a traced function
        and xs.shape[0] <= _MOST_STEPS
    )


def _looped(body: Callable, carry: list, xs: list, reverse: bool) -> tuple:
    """`scan`, step by step."""
    count = xs[0].shape[0]
    outputs = {}
    for t in range(count - 1, -1, -1) if reverse else range(count):
        carry, outputs[t] = body(carry, [x[t] for x in xs])
    kept = [outputs[t] for t in range(count)]
    return carry, None if not kept or kept[0] is None else k.stack(kept)


def _choose(counts: Any, new: Any, old: Any) -> Any:
    """The new value in the rows that count, (batch, 1), else the old one."""
    for _ in range(len(new.shape) - 2):
        counts = k.expand_dims(counts, -1)
    return k.where(counts, new, old)


def _with_variables(body: Callable, variables: Sequence[Variable]) -> Callable:
    """Let the values of variables go from step to step with what the body carries."""

    def run(carry: tuple, now: list) -> tuple:
        values, inner = carry
        with StatelessScope(zip(variables, values, strict=True)) as scope:
            inner, output = body(inner, now)
        return ([scope.get(v) for v in variables], inner), output

    return run
