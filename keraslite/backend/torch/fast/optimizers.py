"""OPTIMIZERS: formulas applied to lists of parameters in place, by torch's fused kernels.

A step reads nothing back from the device: step count and learning rate are numbers on the host,
read from their variables only after someone else has written to them.
"""

from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_DTYPES = {torch.float32, torch.bfloat16, torch.float64}
_DEVICES = {"cpu", "cuda"}


def _number(x: Any) -> Any:
    """A scalar's value, read from the device only if it has been written to since."""
    if not isinstance(x, torch.Tensor):
        return x
    cached = getattr(x, "_kl_number", None)
    if cached is None or cached[0] != x._version:
        cached = x._kl_number = (x._version, x.item())
    return cached[1]


def _count(iterations: torch.Tensor, step: int) -> None:
    iterations.add_(1)
    iterations._kl_number = (iterations._version, step + 1)


def _mark_written(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Count the writes of a user's fused optimizer, whose kernels leave the versions as they are.

    By its version a packed or folded copy of a weight is told to be current.
    """
    if not torch.compiler.is_compiling():
        for group in optimizer.param_groups:
            if group.get("fused"):
                torch.autograd.graph.increment_version(group["params"])


register_optimizer_step_post_hook(_mark_written)


class _Group:
    """Parameters that one kernel call can update: of one dtype and device, decayed or not."""

    def __init__(self, at: list[int], parameters: list, slots: dict[str, list], decayed: bool):
        self.at, self.decayed = at, decayed
        self.parameters = [parameters[i] for i in at]
        self.slots = {name: [column[i] for i in at] for name, column in slots.items()}


def _align(state: list, parameters: list) -> None:
    """Give state the device and memory layout of its parameters."""
    for p, slot in zip(parameters, state, strict=True):
        if slot.device != p.device or slot.stride() != p.stride():
            slot.data = torch.empty_like(p.data).copy_(slot.data)


def _groups(parameters: list, slots: dict[str, list], hyper: dict) -> list[_Group]:
    """The groups, made anew only when the parameters or what is decayed have changed."""
    cache = hyper["cache"]
    previous = cache.get("parameters", ())
    strides = [p.stride() for p in parameters]  # a convolution may have laid its kernel out anew
    if (
        len(previous) != len(parameters)
        or not all(map(is_, previous, parameters))
        or cache["strides"] != strides
        or cache["device"] != parameters[0].device
        or cache["decayed"] != hyper["decayed"]
    ):
        keys: dict[Any, list[int]] = {}
        for i, (p, decayed) in enumerate(zip(parameters, hyper["decayed"], strict=True)):
            keys.setdefault((p.dtype, p.device, decayed), []).append(i)
        usable = all(d in _DTYPES and dev.type in _DEVICES for d, dev, _ in keys)
        cache.update(
            parameters=parameters, strides=strides, device=parameters[0].device,
            decayed=hyper["decayed"],
        )  # fmt: skip
        for column in (*slots.values(), hyper["accumulators"]) if usable else ():
            _align(column, parameters[: len(column)])
        cache["groups"] = usable and [
            _Group(at, parameters, slots, decayed) for (_, _, decayed), at in keys.items()
        ]
    return cache["groups"]


def _aligned(g: Any, p: torch.Tensor) -> torch.Tensor:
    """A gradient of the parameter's dtype and memory layout, which the kernels take for granted."""
    if g.layout != torch.strided:
        g = g.to_dense()
    if g.dtype == p.dtype and g.device == p.device:
        if g.stride() == p.stride():
            return g
        if all(n == 1 or a == b for n, a, b in zip(p.shape, g.stride(), p.stride(), strict=True)):
            return g.as_strided(p.shape, p.stride())  # axes of size 1 have a stride of their own
    return torch.empty_like(p).copy_(g)


def _straight(tensors: list) -> list:
    """Views that are contiguous, such as those of transposed kernels: the fused kernels for the CPU
    copy all that is not, forth and back.
    """
    return [x if x.is_contiguous() else _turned(x) for x in tensors]


def _turned(x: torch.Tensor) -> torch.Tensor:
    view = x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))
    return view if view.is_contiguous() else x


def _clipped(grads: list, rule: str, limit: float) -> list:
    if rule == "clipvalue":
        low = torch._foreach_maximum(grads, -limit)
        torch._foreach_minimum_(low, limit)
        return low
    is_double = any(g.dtype == torch.float64 for g in grads)
    norms = torch._foreach_norm(grads, 2, torch.float64 if is_double else torch.float32)
    if rule == "global_clipnorm":
        norm = torch.linalg.vector_norm(torch.stack(norms))
        # An infinite norm must show as NaN.
        scales = [limit / norm.clamp(min=limit) + (norm - norm)] * len(grads)
    else:
        scales = [limit / n.clamp(min=limit) for n in norms]
    return torch._foreach_mul(grads, [s.to(g.dtype) for s, g in zip(scales, grads, strict=True)])


def _fused(kernel: Callable) -> Callable:
    """A whole step around a kernel of (parameters, gradients, slots, step, rate, decay, hyper).

    The step function returns whether it was made; it is left to ops where layouts or dtypes do
    not fit, or while torch.compile traces.
    """

    def step(parameters: list, gradients: list, slots: dict[str, list], hyper: dict) -> bool:
        if torch.compiler.is_compiling() or not all(isinstance(g, torch.Tensor) for g in gradients):
            return False
        groups = _groups(parameters, slots, hyper)
        if not groups:
            return False
        count = _number(hyper["iterations"])
        grads = [_aligned(g, p) for g, p in zip(gradients, parameters, strict=True)]
        if hyper["scale"] is not None:
            grads = torch._foreach_div(grads, hyper["scale"])
        every = hyper["accumulation"] or 1
        if every > 1:
            torch._foreach_add_(hyper["accumulators"], grads)
            if (count + 1) % every:
                _count(hyper["iterations"], count)
                return True
            grads = torch._foreach_div(hyper["accumulators"], every)
            torch._foreach_zero_(hyper["accumulators"])
        if hyper["clip"]:
            grads = _clipped(grads, *hyper["clip"])
        rate = float(_number(hyper["learning_rate"](count)))
        for group in groups:
            decay = hyper["weight_decay"] if group.decayed else 0.0
            own = _straight([grads[i] for i in group.at])
            slots = {name: _straight(column) for name, column in group.slots.items()}
            variables = _straight(group.parameters)
            kernel(variables, own, slots, count // every + 1, rate, decay, hyper)
            # The fused kernels leave the versions, by which packed and folded copies are current.
            torch.autograd.graph.increment_version(group.parameters)
        _count(hyper["iterations"], count)
        return True

    return step


@_fused
def _adam(p: list, g: list, s: dict, step: int, rate: float, decay: float, h: dict) -> None:
    # Keras adds epsilon to the root of the uncorrected average, torch to that of the corrected.
    epsilon = h["epsilon"] / (1 - h["beta_2"] ** step) ** 0.5
    at = torch.full((), step, dtype=torch.float32, device=p[0].device)
    run = torch._fused_adamw_ if decay else torch._fused_adam_
    run(
        p, g, s["momentum"], s["velocity"], s.get("velocity_hat", []), [at] * len(p),
        lr=rate, beta1=h["beta_1"], beta2=h["beta_2"], weight_decay=decay, eps=epsilon,
        amsgrad=bool(h["amsgrad"]), maximize=False,
    )  # fmt: skip


@_fused
def _sgd(p: list, g: list, s: dict, step: int, rate: float, decay: float, h: dict) -> None:
    if decay:
        torch._foreach_mul_(p, 1 - rate * decay)
    if not s:
        torch._foreach_add_(p, g, alpha=-rate)
    elif not h["nesterov"]:
        # Keras keeps the rate inside the momentum: m = momentum * m - rate * g; p += m.
        torch._fused_sgd_(
            p, g, s["momentum"], weight_decay=0.0, momentum=h["momentum"], lr=-1.0,
            dampening=1.0 + rate, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip
    else:
        change = torch._foreach_mul(g, -rate)
        torch._foreach_mul_(s["momentum"], h["momentum"])
        torch._foreach_add_(s["momentum"], change)
        torch._foreach_add_(p, change)
        torch._foreach_add_(p, s["momentum"], alpha=h["momentum"])


@_fused
def _rmsprop(p: list, g: list, s: dict, step: int, rate: float, decay: float, h: dict) -> None:
    if decay:
        torch._foreach_mul_(p, 1 - rate * decay)
    velocity, rho = s["velocity"], h["rho"]
    torch._foreach_mul_(velocity, rho)
    torch._foreach_addcmul_(velocity, g, g, value=1 - rho)
    square = torch._foreach_add(velocity, h["epsilon"])
    if h["centered"]:
        mean = s["average_gradient"]
        torch._foreach_mul_(mean, rho)
        torch._foreach_add_(mean, g, alpha=1 - rho)
        torch._foreach_addcmul_(square, mean, mean, value=-1)
    torch._foreach_sqrt_(square)
    if h["momentum"] > 0:
        torch._foreach_mul_(s["momentum"], h["momentum"])
        torch._foreach_addcdiv_(s["momentum"], g, square, value=rate)
        torch._foreach_sub_(p, s["momentum"])
    else:
        torch._foreach_addcdiv_(p, g, square, value=-rate)


FUSED: dict[str, Callable] = {"adam": _adam, "sgd": _sgd, "rmsprop": _rmsprop}
