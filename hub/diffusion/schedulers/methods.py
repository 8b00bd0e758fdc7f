"""Sampling methods as tables: what each call of the network contributes to the next sample.

A row of a method says, as names with numbers, how the next sample is made of the sample `x`, one
that was `kept`, the output `o`, converted outputs `m0` (of this call), `m1` (of the last one) and
so on, and fresh `noise`; how an output is converted, from `x` and `o`; and what is kept. Between
the networks' own scale, in which the variance of a sample is 1, and that of the methods over
sigmas, in which the image is never scaled, `scale` is what the network's input is multiplied by.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hub.diffusion.schedulers.tables import alphas_cumprod, karras, spaced, time_of

Mix = dict[str, float]


@dataclass
class Row:
    """One call of the network.

    Attributes:
        time: what the network is told.
        next: of what the next sample is made.
        converted: of what `m0` is made.
        mixed: how much of an image and of noise the sample is that it takes.
        kept: of what the kept sample is made.
        scale: of the network's input.
    """

    time: float
    next: Mix
    converted: Mix
    mixed: tuple[float, float]
    kept: Mix = field(default_factory=lambda: {"kept": 1.0})
    scale: float = 1.0


@dataclass
class Table:
    """All calls of a method.

    Attributes:
        rows: the calls.
        initial_scale: of the noise that it begins with.
    """

    rows: list[Row]
    initial_scale: float


def _image(kind: str, alpha: float, sigma: float) -> Mix:
    """The image out of a sample `alpha * image + sigma * noise` and the network's output."""
    if kind == "epsilon":
        return {"x": 1 / alpha, "o": -sigma / alpha}
    if kind == "v_prediction":
        return {"x": alpha, "o": -sigma}
    return {"o": 1.0}


def _noise(kind: str, alpha: float, sigma: float) -> Mix:
    """The noise out of the same."""
    if kind == "epsilon":
        return {"o": 1.0}
    if kind == "v_prediction":
        return {"x": sigma, "o": alpha}
    return {"x": 1 / sigma, "o": -alpha / sigma}


def _sum(*parts: tuple[float, Mix]) -> Mix:
    total: Mix = {}
    for factor, mix in parts:
        for name, value in mix.items():
            total[name] = total.get(name, 0.0) + factor * value
    return total


def _mixed(alpha: float) -> tuple[float, float]:
    return alpha**0.5, (1 - alpha) ** 0.5


# -- methods over the shares of the signal --------------------------------------------------------


def ddim(config: dict[str, Any], steps: int, start: int) -> Table:
    """Song et al., 2020, arXiv:2010.02502."""
    alphas, times, kind = alphas_cumprod(config), spaced(config, steps), config["prediction_type"]
    last = 1.0 if config["set_alpha_to_one"] else alphas[0]
    rows = []
    for time in times[start:].astype(int):
        before = time - config["num_train_timesteps"] // steps
        a, b = alphas[time], alphas[before] if before >= 0 else last
        own = _mixed(a)
        following = _sum((b**0.5, {"m0": 1.0}), ((1 - b) ** 0.5, _noise(kind, *own)))
        rows.append(Row(time, following, _image(kind, *own), own))
    return Table(rows, 1.0)


def ddpm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Ho et al., 2020, arXiv:2006.11239."""
    alphas, times, kind = alphas_cumprod(config), spaced(config, steps), config["prediction_type"]
    rows = []
    for time, before in zip(times.astype(int), [*times[1:].astype(int), -1], strict=True):
        a, b = alphas[time], alphas[before] if before >= 0 else 1.0
        share = a / b
        variance = 1 - share if config["variance_type"] == "fixed_large" else (
            max((1 - b) / (1 - a) * (1 - share), 1e-20)
        )  # fmt: skip
        following = {
            "m0": b**0.5 * (1 - share) / (1 - a), "x": share**0.5 * (1 - b) / (1 - a),
            "noise": variance**0.5 if time > 0 else 0.0,
        }  # fmt: skip
        rows.append(Row(time, following, _image(kind, *_mixed(a)), _mixed(a)))
    return Table(rows[start:], 1.0)


# Of the outputs that are m0, m1, ... at a call; the second call only mends the first.
_PLMS = (
    {"m0": 1.0}, {"m0": 1 / 2, "m1": 1 / 2}, {"m0": 3 / 2, "m2": -1 / 2},
    {"m0": 23 / 12, "m1": -16 / 12, "m3": 5 / 12},
    {"m0": 55 / 24, "m1": -59 / 24, "m2": 37 / 24, "m4": -9 / 24},
    {"m0": 55 / 24, "m1": -59 / 24, "m2": 37 / 24, "m3": -9 / 24},
)  # fmt: skip


def pndm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Liu et al., 2022, arXiv:2202.09778: the linear multistep form, PLMS."""
    alphas, times = alphas_cumprod(config), spaced(config, steps)
    last = 1.0 if config["set_alpha_to_one"] else alphas[0]
    ratio, rows = config["num_train_timesteps"] // steps, []
    calls = np.concatenate([times[:2], times[1:]])[start:].astype(int)
    for i, given in enumerate(calls):
        time, before = (given, given - ratio) if i != 1 else (given + ratio, given)
        a, b = alphas[time], alphas[before] if before >= 0 else last
        base = {"kept" if i == 1 else "x": 1.0}
        noise = _PLMS[min(i, 5)]
        if config["prediction_type"] == "v_prediction":
            noise = _sum((a**0.5, noise), ((1 - a) ** 0.5, base))
        factor = (b - a) / (a * (1 - b) ** 0.5 + (a * (1 - a) * b) ** 0.5)
        following = _sum(((b / a) ** 0.5, base), (-factor, noise))
        kept = {"x": 1.0} if i == 0 else {"kept": 1.0}
        rows.append(Row(given, following, {"o": 1.0}, _mixed(alphas[given]), kept))
    return Table(rows, 1.0)


def lcm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Luo et al., 2023, arXiv:2310.04378."""
    alphas, kind = alphas_cumprod(config), config["prediction_type"]
    original, total = config["original_inference_steps"], config["num_train_timesteps"]
    if steps > original:
        raise ValueError(f"LCM was trained for {original} steps at most, {steps} were asked for.")
    known = np.arange(1, original + 1) * (total // original) - 1
    chosen = np.floor(np.linspace(0, len(known), steps, endpoint=False)).astype(int)
    times = known[::-1][chosen]
    rows = []
    for i, time in enumerate(times):
        own, scaled = _mixed(alphas[time]), time * config["timestep_scaling"]
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
        following = {"m0": out, "x": skip}
        if i < steps - 1:
            b = alphas[times[i + 1]]
            following = _sum((b**0.5, following), ((1 - b) ** 0.5, {"noise": 1.0}))
        rows.append(Row(time, following, _image(kind, *own), own))
    return Table(rows[start:], 1.0)


# -- methods over sigmas --------------------------------------------------------------------------


def _sigmas(config: dict[str, Any], steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sigmas with the last 0, their times, and the scale of the first noise."""
    alphas = alphas_cumprod(config)
    every = ((1 - alphas) / alphas) ** 0.5
    times = spaced(config, steps, whole=False)
    sigmas = np.interp(times, np.arange(len(every)), every)
    if config.get("use_karras_sigmas"):
        sigmas = karras(sigmas[0], sigmas[-1], steps)
        times = time_of(sigmas, every)
    most = sigmas.max()
    if config["timestep_spacing"] == "leading":
        most = (most**2 + 1) ** 0.5
    last = every[0] if config.get("final_sigmas_type") == "sigma_min" else 0.0
    return np.append(sigmas, last), times, float(most)


def _slope(kind: str, sigma: float) -> tuple[Mix, float]:
    """The noise out of an unscaled sample and the output, and the scale of the input."""
    scale = 1 / (sigma**2 + 1) ** 0.5
    mix = _noise(kind, scale, sigma * scale)
    return {**mix, **({"x": mix["x"] * scale} if "x" in mix else {})}, scale


def _euler(config: dict[str, Any], steps: int, start: int, ancestral: bool) -> Table:
    sigmas, times, most = _sigmas(config, steps)
    rows = []
    for time, sigma, after in zip(times, sigmas[:-1], sigmas[1:], strict=True):
        up = (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5 if ancestral else 0.0
        down = (after**2 - up**2) ** 0.5
        slope, scale = _slope(config["prediction_type"], sigma)
        following = {"x": 1.0, "m0": down - sigma, "noise": up}
        rows.append(Row(time, following, slope, (1.0, sigma), scale=scale))
    return Table(rows[start:], most)


def euler(config: dict[str, Any], steps: int, start: int) -> Table:
    """Karras et al., 2022, arXiv:2206.00364, algorithm 2 without churn."""
    return _euler(config, steps, start, False)


def euler_ancestral(config: dict[str, Any], steps: int, start: int) -> Table:
    """The same to a lower sigma, with fresh noise up to the next one."""
    return _euler(config, steps, start, True)


def lms(config: dict[str, Any], steps: int, start: int) -> Table:
    """The linear multistep method over sigmas, of order 4."""
    sigmas, times, most = _sigmas(config, steps)
    rows = []
    for i in range(start, steps):
        order, following = min(i + 1, 4), {"x": 1.0}
        nodes = sigmas[i - np.arange(order)]
        for j in range(min(order, i - start + 1)):
            others = np.delete(nodes, j)
            polynomial = np.poly1d(others, r=True) / np.prod(nodes[j] - others)
            whole = polynomial.integ()
            following[f"m{j}"] = float(whole(sigmas[i + 1]) - whole(sigmas[i]))
        slope, scale = _slope(config["prediction_type"], sigmas[i])
        rows.append(Row(times[i], following, slope, (1.0, sigmas[i]), scale=scale))
    return Table(rows, most)


def heun(config: dict[str, Any], steps: int, start: int) -> Table:
    """Karras et al., 2022, arXiv:2206.00364: two calls a step, but for the last."""
    sigmas, times, most = _sigmas(config, steps)
    rows, kind = [], config["prediction_type"]
    for i in range(start, steps):
        step = sigmas[i + 1] - sigmas[i]
        slope, scale = _slope(kind, sigmas[i])
        mixed, following = (1.0, sigmas[i]), {"x": 1.0, "m0": step}
        rows.append(Row(times[i], following, slope, mixed, {"x": 1.0}, scale))
        if i < steps - 1:
            slope, scale = _slope(kind, sigmas[i + 1])
            following = {"kept": 1.0, "m0": step / 2, "m1": step / 2}
            mixed = 1.0, sigmas[i + 1]
            rows.append(Row(times[i + 1], following, slope, mixed, scale=scale))
    return Table(rows, most)


# -- solvers of the equation for the image --------------------------------------------------------


class _Noises:
    """Times, and for each and the end: alpha, sigma, and half the logarithm of their ratio."""

    def __init__(self, config: dict[str, Any], steps: int, same_end: bool = False):
        alphas = alphas_cumprod(config)
        every = ((1 - alphas) / alphas) ** 0.5
        times = spaced(config, steps, extra=1)
        sigmas = np.interp(times, np.arange(len(every)), every)
        if config.get("use_karras_sigmas"):
            sigmas = karras(every[-1], every[0], steps)
            times = time_of(sigmas, every)
            if same_end or config["beta_schedule"] != "squaredcos_cap_v2":
                times = times.round()
        least = sigmas[-1] if same_end and config.get("use_karras_sigmas") else every[0]
        end = least if config["final_sigmas_type"] == "sigma_min" else 0.0
        sigmas = np.append(sigmas, end)
        self.times = times.astype(int)
        self.alpha = 1 / (sigmas**2 + 1) ** 0.5
        self.sigma = sigmas * self.alpha
        with np.errstate(divide="ignore"):
            self.ratio = np.log(self.alpha) - np.log(self.sigma)

    def first_order(self, s: int, t: int, base: Mix, image: str) -> tuple[Mix, float]:
        """From s to t with one image; and what further differences of images are multiplied by."""
        factor = self.alpha[t] * math.expm1(self.ratio[s] - self.ratio[t])
        return _sum((self.sigma[t] / self.sigma[s], base), (-factor, {image: 1.0})), -factor


def dpm_solver(config: dict[str, Any], steps: int, start: int) -> Table:
    """DPM-Solver++ 2M (Lu et al., 2022, arXiv:2211.01095)."""
    at, rows = _Noises(config, steps), []
    for i in range(start, steps):
        following, factor = at.first_order(i, i + 1, {"x": 1.0}, "m0")
        few = config["lower_order_final"] and steps < 15
        final = i == steps - 1 and (
            config["euler_at_final"] or few or config["final_sigmas_type"] == "zero"
        )
        if i > start and config["solver_order"] > 1 and not final:
            apart = (at.ratio[i] - at.ratio[i - 1]) / (at.ratio[i + 1] - at.ratio[i])
            following = _sum((1.0, following), (factor / 2 / apart, {"m0": 1.0, "m1": -1.0}))
        image = _image(config["prediction_type"], at.alpha[i], at.sigma[i])
        rows.append(Row(at.times[i], following, image, (at.alpha[i], at.sigma[i])))
    return Table(rows, 1.0)


def unipc(config: dict[str, Any], steps: int, start: int) -> Table:
    """UniPC of order 1 or 2 with B2 (Zhao et al., 2023, arXiv:2302.04867)."""
    at, rows, order = _Noises(config, steps, same_end=True), [], 0
    for i in range(start, steps):
        mended = {"x": 1.0}
        if order:  # the last step again, now that the image at its end is known
            mended, factor = at.first_order(i - 1, i, {"kept": 1.0}, "m1")
            h = at.ratio[i] - at.ratio[i - 1]
            share = 0.5
            if order > 1:
                r = (at.ratio[i - 2] - at.ratio[i - 1]) / h
                first = (math.expm1(-h) / -h - 1) / math.expm1(-h)
                second = ((math.expm1(-h) / -h - 1) / -h - 0.5) * 2 / math.expm1(-h)
                old, share = np.linalg.solve([[1.0, 1.0], [r, 1.0]], [first, second])
                mended = _sum((1.0, mended), (factor * old / r, {"m2": 1.0, "m1": -1.0}))
            mended = _sum((1.0, mended), (factor * share, {"m0": 1.0, "m1": -1.0}))
        left = steps - i if config["lower_order_final"] else config["solver_order"]
        order = min(config["solver_order"], left, order + 1)
        following, factor = at.first_order(i, i + 1, mended, "m0")
        if order > 1:
            r = (at.ratio[i - 1] - at.ratio[i]) / (at.ratio[i + 1] - at.ratio[i])
            following = _sum((1.0, following), (factor / 2 / r, {"m1": 1.0, "m0": -1.0}))
        image = _image(config["prediction_type"], at.alpha[i], at.sigma[i])
        mixed = at.alpha[i], at.sigma[i]
        rows.append(Row(at.times[i], following, image, mixed, mended))
    return Table(rows, 1.0)


Method = Callable[[dict[str, Any], int, int], Table]
