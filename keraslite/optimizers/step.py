"""One step of an optimizer: scale, accumulate, clip, decay, apply the formula, average.

One way is pure: new values are worked out by ops and assigned, in a StatelessScope or not. Where
the backend has a fused form of the formula, that updates live variables in place.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from keraslite import backend as backends
from keraslite import ops
from keraslite.optimizers.schedules import BUILT_IN, rate_on_host
from keraslite.optimizers.state import OptimizerState
from keraslite.variable import StatelessScope, Variable

CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


def fused(o: OptimizerState, grads: Sequence[Any], variables: list[Variable]) -> bool:
    """Make the whole step in place by the backend, the step count included; False if it cannot."""
    formula = o.formula
    kernel = formula and backends.load(o.backend).FUSED.get(formula.name)
    if not kernel or not getattr(type(o).update_step, "by_formula", False):
        return False
    at = [o.variable_indices[v] for v in variables]
    steps = o.gradient_accumulation_steps
    hyper = {name: getattr(o, name) for name in o.formula_arguments} | {
        "iterations": o.step_count._kl_raw,
        "learning_rate": lambda step: _rate_on_host(o, step // (steps or 1)),
        "weight_decay": o.weight_decay or 0.0,
        "decayed": [bool(o.weight_decay) and o.is_decayed(v) for v in variables],
        "clip": next(((c, getattr(o, c)) for c in CLIPPING if getattr(o, c)), None),
        "scale": o.loss_scale_factor,
        "accumulation": steps,
        "accumulators": [o.accumulators[i]._kl_raw for i in at] if steps else [],
        "cache": o.fused_cache,
    }
    slots = {name: [column[i]._kl_raw for i in at] for name, column in o.slot_variables.items()}
    return kernel([v._kl_raw for v in variables], grads, slots, hyper)


def _rate_on_host(o: OptimizerState, step: int) -> Any:
    """The learning rate without work on the device: a float, or a variable's storage."""
    rate = o.rate_source
    if isinstance(rate, Variable):
        return rate._kl_raw
    return rate_on_host(rate, step) if type(rate) in BUILT_IN else o.learning_rate


def pure(o: OptimizerState, grads: Sequence[Any], variables: list[Variable]) -> None:
    """Make the step by ops and assignments; the step count is left to the caller."""
    grads = [_gradient(o, g, v) for g, v in zip(grads, variables, strict=True)]
    if o.loss_scale_factor is not None:
        grads = [g / o.loss_scale_factor for g in grads]
    steps = o.gradient_accumulation_steps
    if not steps:
        _update(o, grads, variables)
        return
    # The update is always worked out, and kept where it is due: there is no branch to trace.
    due = update_due(o, o.step_count.value)
    sums = [o.accumulators[o.variable_indices[v]] for v in variables]
    totals = [g + a.value for g, a in zip(grads, sums, strict=True)]
    with StatelessScope() as scope:
        _update(o, [t / steps for t in totals], variables)
    for v, new in scope.updates():
        v.assign(ops.where(due, new, v.value))
    for a, total in zip(sums, totals, strict=True):
        a.assign(ops.where(due, ops.zeros_like(total), total))


def update_due(o: OptimizerState, count: Any) -> Any:
    """Return whether a step updates the parameters: a scalar, or None where every step does.

    Args:
        o: the optimizer.
        count: the number of steps before it, those that only accumulate among them.
    """
    steps = o.gradient_accumulation_steps
    return ops.equal(ops.mod(count + 1, steps), 0) if steps else None


def _gradient(o: OptimizerState, g: Any, v: Variable) -> Any:
    """A gradient as a tensor of the parameter's dtype."""
    module = backends.load(o.backend)
    g = module.dense_gradient(getattr(g, "_kl_value", g))
    if backends.of(g) not in (None, o.backend):
        backends.refuse_to_mix("An optimizer", (backends.of(g), o.backend))
    return module.convert(g, module.canonical(v.storage_dtype))


def _update(o: OptimizerState, grads: list[Any], variables: list[Variable]) -> None:
    grads = clipped(o, grads)
    rate = o.learning_rate
    for v in variables:
        decay = o.decay_of(v)
        if decay is not None and o.is_decayed(v):
            v.assign(v.value - v.value * (decay * ops.cast(rate, v.storage_dtype)))
    o.step_scalars = {}
    try:
        for g, v in zip(grads, variables, strict=True):
            o.update_step(g, v, rate)
    finally:
        o.step_scalars = None


def clipped(o: OptimizerState, grads: list[Any]) -> list[Any]:
    """The gradients within the optimizer's bounds."""
    if o.clipnorm and o.clipnorm > 0:
        return [_shortened([g], o.clipnorm)[0] for g in grads]
    if o.global_clipnorm and o.global_clipnorm > 0:
        return _shortened(grads, o.global_clipnorm)
    if o.clipvalue and o.clipvalue > 0:
        return [ops.clip(g, -o.clipvalue, o.clipvalue) for g in grads]
    return grads


def _shortened(grads: list[Any], limit: float) -> list[Any]:
    """Gradients scaled so that their common norm is at most the limit."""
    wide = _wide(map(ops.dtype, grads))
    squares = [ops.sum(ops.square(ops.cast(g, wide))) for g in grads]
    norm = ops.sqrt(sum(squares[1:], squares[0]))
    scale = limit / ops.maximum(norm, limit) + (norm - norm)  # an infinite norm must show as NaN
    return [g * ops.cast(scale, ops.dtype(g)) for g in grads]


def _wide(dtypes: Iterable[str]) -> str:
    """The dtype of scalars and norms for parameters of these dtypes."""
    return "float64" if "float64" in dtypes else "float32"


def hyper(o: OptimizerState, dtype: str, learning_rate: Any) -> dict[str, Any]:
    """The formula's scalars for parameters of a dtype, worked out once a step."""
    scalars = {} if o.step_scalars is None else o.step_scalars
    # Half precision could hold neither the step nor one minus a power of beta.
    wide = _wide([dtype])
    if wide not in scalars:
        h = {name: getattr(o, name) for name in o.formula_arguments}
        h["learning_rate"] = ops.cast(learning_rate, wide)
        h["step"] = ops.cast(o.iterations, wide) + 1
        h |= {name: ops.cast(v, wide) for name, v in o.shared_variables.items()}
        h |= o.formula.prepare(h)
        for name, v in o.shared_variables.items():
            v.assign(h[name])
        scalars[wide] = h
    if dtype not in scalars:
        scalars[dtype] = {
            k: ops.cast(x, dtype) if backends.of(x) else x for k, x in scalars[wide].items()
        }
    return scalars[dtype]


def move_averages(o: OptimizerState, counted: bool) -> None:
    """Update the averages of the parameters, and set parameters to them where that is due.

    Args:
        o: the optimizer.
        counted: whether the step count was raised already.
    """
    before = o.step_count.value - 1 if counted else o.step_count.value
    updated = update_due(o, before)
    if updated is not None:
        before = ops.floor_divide(before, o.gradient_accumulation_steps)
    begun = ops.not_equal(before, 0)
    frequency = o.ema_overwrite_frequency
    due = frequency and ops.equal(ops.mod(before + 1, frequency), 0)
    if frequency and updated is not None:
        due = ops.logical_and(due, updated)
    for v, average in o.averaged_variables():
        momentum = ops.cast(begun, v.storage_dtype) * o.ema_momentum
        new = momentum * average.value + (1 - momentum) * v.value
        if updated is not None:
            new = ops.where(updated, new, average.value)
        average.assign(new)
        if frequency:
            v.assign(ops.where(due, new, v.value))
