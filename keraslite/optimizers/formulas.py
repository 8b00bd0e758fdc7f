"""The formulas of optimizers: pure functions of (parameter, gradient, slots, hyper).

A formula gives the new parameter and the new slots. `hyper` holds the optimizer's own arguments,
`learning_rate`, `step` (from 1) and what `prepare` adds: scalars that all parameters share, worked
out once a step. The numbers are Keras's.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keraslite import ops

Slots = dict[str, Any]


def _one_minus_power(base: float, step: Any) -> Any:
    """`1 - base ** step`, to full precision where the two are close."""
    return -ops.expm1(step * math.log(base)) if base > 0 else ops.ones_like(step)


def sgd(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Gradient descent, with momentum if there is such a slot."""
    change = g * h["learning_rate"]
    if "momentum" not in s:
        return p - change, {}
    m = s["momentum"] * h["momentum"] - change
    return p + (m * h["momentum"] - change if h["nesterov"] else m), {"momentum": m}


def _moments(g: Any, s: Slots, h: dict) -> tuple[Any, Any]:
    m = s["momentum"] + (g - s["momentum"]) * (1 - h["beta_1"])
    return m, s["velocity"] + (ops.square(g) - s["velocity"]) * (1 - h["beta_2"])


def _corrections(h: dict) -> dict:
    return {f"left_{i}": _one_minus_power(h[f"beta_{i}"], h["step"]) for i in (1, 2)}


def _adam_rate(h: dict) -> dict:
    left = _corrections(h)
    return {"rate": h["learning_rate"] * ops.sqrt(left["left_2"]) / left["left_1"]}


def adam(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Moving averages of the gradient and of its square (Kingma & Ba)."""
    m, v = _moments(g, s, h)
    new = {"momentum": m, "velocity": v}
    if h["amsgrad"]:
        new["velocity_hat"] = v = ops.maximum(s["velocity_hat"], v)
    return p - m * h["rate"] / (ops.sqrt(v) + h["epsilon"]), new


def lamb(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Adam with a step in proportion to the norm of each parameter (You et al.)."""
    m, v = _moments(g, s, h)
    update = m / h["left_1"] / (ops.sqrt(v / h["left_2"]) + h["epsilon"])
    norm, size = (ops.sqrt(ops.sum(ops.square(x))) for x in (p, update))
    usable = ops.logical_and(norm > 0, size > 0)
    ones = ops.ones_like(norm)
    ratio = ops.where(usable, norm / ops.where(usable, size, ones), ones)
    return p - ratio * h["learning_rate"] * update, {"momentum": m, "velocity": v}


def schedule_free_adamw(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Adam on a fast sequence, and the mean of its path, in the place of a schedule (Defazio).

    The parameter lies between the two: it is where the gradient is taken.
    """
    fast, beta, share = s["momentum"], h["beta_1"], h["share"]
    v = s["velocity"] + (ops.square(g) - s["velocity"]) * (1 - h["beta_2"])
    mean = (p - fast * (1 - beta)) / beta
    new = fast - g * h["rate"] / (ops.sqrt(v / h["left_2"]) + h["epsilon"])
    mean = mean * (1 - share) + new * share
    return new * (1 - beta) + mean * beta, {"momentum": new, "velocity": v}


def _schedule_free_factors(h: dict) -> dict:
    warm = ops.minimum(h["step"] / h["warmup_steps"], 1.0) if h["warmup_steps"] > 0 else 1.0
    left = _one_minus_power(h["beta_2"], h["step"])
    return {"rate": h["learning_rate"] * warm, "share": 1.0 / h["step"], "left_2": left}


def muon(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Momentum made orthogonal for matrices (Jordan et al.), Adam for what has a velocity."""
    if "velocity" in s:
        m = s["momentum"] + (g - s["momentum"]) * (1 - h["adam_beta_1"])
        v = s["velocity"] + (ops.square(g) - s["velocity"]) * (1 - h["adam_beta_2"])
        change = m * h["adam_rate"] / (ops.sqrt(v) + h["epsilon"])
        return p - change, {"momentum": m, "velocity": v}
    m = s["momentum"] * h["momentum"] + g
    update = _orthogonal(g + m * h["momentum"] if h["nesterov"] else m, h)
    if h["rms_rate"] is not None:  # the size of Adam's steps (Liu et al.)
        update = update * (max(p.shape) ** 0.5 * h["rms_rate"])
    return p - update * h["learning_rate"], {"momentum": m}


def _muon_rates(h: dict) -> dict:
    left = [_one_minus_power(h[f"adam_beta_{i}"], h["step"]) for i in (1, 2)]
    return {"adam_rate": h["learning_rate"] * h["adam_lr_ratio"] * ops.sqrt(left[1]) / left[0]}


def _orthogonal(x: Any, h: dict) -> Any:
    """Draw the singular values of a matrix towards one, by Newton-Schulz iterations."""
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else ops.transpose(x)
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(h["ns_steps"]):
        square = ops.matmul(x, ops.transpose(x))
        square = h["muon_b"] * square + h["muon_c"] * ops.matmul(square, square)
        x = h["muon_a"] * x + ops.matmul(square, x)
    return x if wide else ops.transpose(x)


def adamax(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Adam with the infinity norm."""
    m = s["momentum"] + (g - s["momentum"]) * (1 - h["beta_1"])
    norm = ops.maximum(s["norm"] * h["beta_2"], ops.abs(g))
    change = h["learning_rate"] * m / (h["left_1"] * (norm + h["epsilon"]))
    return p - change, {"momentum": m, "norm": norm}


def nadam_momentum(beta_1: Any, step: Any) -> Any:
    """Return the momentum of Nadam at a step, which grows up to `beta_1`.

    Args:
        beta_1: its limit.
        step: the number of the step, 1 of the first.
    """
    return beta_1 * (1.0 - 0.5 * 0.96**step)


def _nadam_factors(h: dict) -> dict:
    now, after = (nadam_momentum(h["beta_1"], h["step"] + i) for i in (0.0, 1.0))
    product = h["u_product"] * now
    return _corrections(h) | {
        "u_product": product,
        "gradient_part": (1.0 - now) / (1.0 - product),
        "momentum_part": after / (1.0 - product * after),
    }


def nadam(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Adam with Nesterov's momentum (Dozat)."""
    m, v = _moments(g, s, h)
    ahead = m * h["momentum_part"] + g * h["gradient_part"]
    change = ahead * h["learning_rate"] / (ops.sqrt(v / h["left_2"]) + h["epsilon"])
    return p - change, {"momentum": m, "velocity": v}


def rmsprop(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """The gradient over the root of the moving average of its square."""
    rho = h["rho"]
    new = {"velocity": s["velocity"] * rho + ops.square(g) * (1 - rho)}
    square = new["velocity"] + h["epsilon"]
    if h["centered"]:
        new["average_gradient"] = s["average_gradient"] * rho + g * (1 - rho)
        square = new["velocity"] - ops.square(new["average_gradient"]) + h["epsilon"]
    change = g * h["learning_rate"] / ops.sqrt(square)
    if h["momentum"] > 0:
        new["momentum"] = change = s["momentum"] * h["momentum"] + change
    return p - change, new


def adagrad(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """The gradient over the root of the sum of its squares."""
    total = s["accumulator"] + ops.square(g)
    change = g * h["learning_rate"] / ops.sqrt(total + h["epsilon"])
    return p - change, {"accumulator": total}


def adadelta(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """The gradient scaled by the ratio of the sizes of past changes and past gradients."""
    rho, epsilon = h["rho"], h["epsilon"]
    squares = s["accumulated_grad"] * rho + ops.square(g) * (1 - rho)
    change = -ops.sqrt(s["accumulated_delta_var"] + epsilon) * g / ops.sqrt(squares + epsilon)
    changes = s["accumulated_delta_var"] * rho + ops.square(change) * (1 - rho)
    new = {"accumulated_grad": squares, "accumulated_delta_var": changes}
    return p + change * h["learning_rate"], new


def lion(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """The sign of a moving average of the gradient (Chen et al.)."""
    m = s["momentum"]
    sign = ops.sign(m * h["beta_1"] + g * (1.0 - h["beta_1"]))
    return p - sign * h["learning_rate"], {"momentum": m * h["beta_2"] + g * (1.0 - h["beta_2"])}


def ftrl(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Follow the regularized leader (McMahan et al.)."""
    lr, power = h["learning_rate"], -h["learning_rate_power"]
    l1, l2 = h["l1_regularization_strength"], h["l2_regularization_strength"]
    total = s["accumulator"] + ops.square(g)
    shrunk = g + p * (2 * h["l2_shrinkage_regularization_strength"])
    grown = ops.power(total, power)
    linear = s["linear"] + shrunk - (grown - ops.power(s["accumulator"], power)) / lr * p
    quadratic = grown / lr + 2 * (l2 + h["beta"] / (2.0 * lr))
    return (ops.clip(linear, -l1, l1) - linear) / quadratic, {
        "accumulator": total,
        "linear": linear,
    }


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))


def _adafactor_rates(h: dict) -> dict:
    root = 1.0 / ops.sqrt(h["step"])
    return {
        "rho": ops.minimum(h["learning_rate"], root),
        "decay": 1.0 - ops.power(h["step"], h["beta_2_decay"]),
    }


def adafactor(p: Any, g: Any, s: Slots, h: dict) -> tuple[Any, Slots]:
    """Squared gradients kept as row and column means (Shazeer & Stern)."""
    decay = h["decay"]
    square = ops.square(g) + h["epsilon_1"]
    new: Slots = {}
    if len(p.shape) >= 2:
        r = s["r"] * decay + ops.mean(square, axis=-1) * (1 - decay)
        c = s["c"] * decay + ops.mean(square, axis=-2) * (1 - decay)
        share = ops.expand_dims(r / ops.mean(r, axis=-1, keepdims=True), -1)
        new = {"r": r, "c": c, "velocity": share * ops.expand_dims(c, -2)}
    else:
        new["velocity"] = s["velocity"] * decay + square * (1 - decay)
    update = g / ops.sqrt(new["velocity"])
    update = update / ops.maximum(_rms(update) / h["clip_threshold"], 1.0)
    return p - ops.maximum(_rms(p), h["epsilon_2"]) * h["rho"] * update, new


class Formula(NamedTuple):
    """A formula, and the state that it keeps.

    Args:
        name: the formula's name, under which a backend may have a fused form.
        step: the formula.
        slots: gives groups of slot names from the optimizer's arguments; the variables of a group
            are made parameter by parameter, as Keras orders them.
        prepare: gives shared scalars from `hyper`.
        shared: scalars that are kept from step to step, with their first values.
        initial: the arguments that give the first values of slots that do not start at zero; an
            empty name for a slot that starts as the parameter.
        wants: whether a parameter has a slot, from (optimizer, slot, parameter).
        shapes: the shapes of slots that have not their parameter's, for two and more axes.
    """

    name: str
    step: Callable
    slots: Callable[[Any], list[tuple[str, ...]]]
    prepare: Callable[[dict], dict] = lambda h: {}
    shared: dict[str, float] = {}
    initial: dict[str, str] = {}
    shapes: dict[str, Callable[[tuple], tuple]] = {}
    wants: Callable[[Any, str, Any], bool] = lambda o, slot, v: True


_MOMENTS = [("momentum", "velocity")]
_INITIAL = {"accumulator": "initial_accumulator_value"}


def _rmsprop_slots(o: Any) -> list[tuple[str, ...]]:
    slots = {"velocity": True, "momentum": o.momentum > 0, "average_gradient": o.centered}
    return [(name,) for name, used in slots.items() if used]


FORMULAS = {
    f.name: f
    for f in (
        Formula("sgd", sgd, lambda o: [("momentum",)] if o.momentum else []),
        Formula(
            "adam", adam, lambda o: _MOMENTS + [("velocity_hat",)] * bool(o.amsgrad), _adam_rate
        ),
        Formula("lamb", lamb, lambda o: _MOMENTS, _corrections),
        Formula(
            "schedule_free_adamw", schedule_free_adamw, lambda o: _MOMENTS, _schedule_free_factors,
            initial={"momentum": ""},
        ),
        Formula(
            "muon", muon, lambda o: _MOMENTS, _muon_rates,
            wants=lambda o, slot, v: slot == "momentum" or o.uses_adam(v),
        ),
        Formula("nadam", nadam, lambda o: _MOMENTS, _nadam_factors, {"u_product": 1.0}),
        Formula(
            "adamax", adamax, lambda o: [("momentum", "norm")],
            lambda h: {"left_1": _one_minus_power(h["beta_1"], h["step"])},
        ),
        Formula("rmsprop", rmsprop, _rmsprop_slots),
        Formula("adagrad", adagrad, lambda o: [("accumulator",)], initial=_INITIAL),
        Formula("adadelta", adadelta, lambda o: [("accumulated_grad", "accumulated_delta_var")]),
        Formula("lion", lion, lambda o: [("momentum",)]),
        Formula("ftrl", ftrl, lambda o: [("accumulator", "linear")], initial=_INITIAL),
        Formula(
            "adafactor", adafactor, lambda o: [("r", "c", "velocity")], _adafactor_rates,
            shapes={"r": lambda s: s[:-1], "c": lambda s: (*s[:-2], s[-1])},
        ),
    )
}  # fmt: skip
