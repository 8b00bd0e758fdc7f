"""Sampling methods as tables: what each call of the network contributes to the next sample.

A row of a table gives linear combinations, as dicts from the name of a term to its factor. Terms
are the current `sample`, the stored `last_sample`, the model `output`, converted model outputs
`m0` (of this call), `m1` (of the call before) and so on, and fresh `noise`. Rows say of what the
next sample, the converted output (from `sample` and `output`) and the stored sample are made.
Methods over alphas_cumprod keep the variance of a sample at 1; in those over sigmas a sample is
image + sigma * noise, and `input_scale` brings it to the scale that the network takes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hub.diffusion.schedulers.tables import (
    alphas_cumprod,
    karras_sigmas,
    sigma_to_timestep,
    spaced_timesteps,
)

Mix = dict[str, float]


@dataclass
class Row:
    """One call of the network.

    Attributes:
        timestep: the timestep that the network is given.
        next_sample: the terms of the next sample.
        converted_output: the terms of `m0`.
        rates: the factors of image and noise in the sample of this call.
        last_sample: the terms of the stored sample.
        input_scale: the factor of the network's input.
    """

    timestep: float
    next_sample: Mix
    converted_output: Mix
    rates: tuple[float, float]
    last_sample: Mix = field(default_factory=lambda: {"last_sample": 1.0})
    input_scale: float = 1.0


@dataclass
class Table:
    """All calls of a method.

    Attributes:
        rows: the calls.
        init_noise_sigma: the standard deviation of the initial noise.
    """

    rows: list[Row]
    init_noise_sigma: float


def _predicted_image(prediction_type: str, alpha: float, sigma: float) -> Mix:
    """Return the terms of the image predicted for a sample `alpha * image + sigma * noise`."""
    if prediction_type == "epsilon":
        return {"sample": 1 / alpha, "output": -sigma / alpha}
    if prediction_type == "v_prediction":
        return {"sample": alpha, "output": -sigma}
    return {"output": 1.0}


def _predicted_noise(prediction_type: str, alpha: float, sigma: float) -> Mix:
    """Return the terms of the noise predicted for a sample `alpha * image + sigma * noise`."""
    if prediction_type == "epsilon":
        return {"output": 1.0}
    if prediction_type == "v_prediction":
        return {"sample": sigma, "output": alpha}
    return {"sample": 1 / sigma, "output": -alpha / sigma}


def _weighted_sum(*parts: tuple[float, Mix]) -> Mix:
    total: Mix = {}
    for factor, mix in parts:
        for name, value in mix.items():
            total[name] = total.get(name, 0.0) + factor * value
    return total


def _rates(alpha_cumprod: float) -> tuple[float, float]:
    """Return the factors of image and noise at a timestep."""
    return alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5


# -- methods over alphas_cumprod ------------------------------------------------------------------


def ddim(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of DDIM (Song et al., 2020, arXiv:2010.02502)."""
    alphas, timesteps = alphas_cumprod(config), spaced_timesteps(config, steps)
    prediction_type = config["prediction_type"]
    final_alpha = 1.0 if config["set_alpha_to_one"] else alphas[0]
    rows = []
    for t in timesteps[start:].astype(int):
        previous_t = t - config["num_train_timesteps"] // steps
        previous_alpha = alphas[previous_t] if previous_t >= 0 else final_alpha
        rates = _rates(alphas[t])
        noise = _predicted_noise(prediction_type, *rates)
        next_sample = _weighted_sum(
            (previous_alpha**0.5, {"m0": 1.0}), ((1 - previous_alpha) ** 0.5, noise)
        )
        rows.append(Row(t, next_sample, _predicted_image(prediction_type, *rates), rates))
    return Table(rows, 1.0)


def ddpm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of DDPM (Ho et al., 2020, arXiv:2006.11239)."""
    alphas, timesteps = alphas_cumprod(config), spaced_timesteps(config, steps).astype(int)
    rows = []
    for t, previous_t in zip(timesteps, [*timesteps[1:], -1], strict=True):
        alpha, previous_alpha = alphas[t], alphas[previous_t] if previous_t >= 0 else 1.0
        current_alpha = alpha / previous_alpha
        current_beta = 1 - current_alpha
        variance = current_beta if config["variance_type"] == "fixed_large" else (
            max((1 - previous_alpha) / (1 - alpha) * current_beta, 1e-20)
        )  # fmt: skip
        next_sample = {
            "m0": previous_alpha**0.5 * current_beta / (1 - alpha),
            "sample": current_alpha**0.5 * (1 - previous_alpha) / (1 - alpha),
            "noise": variance**0.5 if t > 0 else 0.0,
        }
        rates = _rates(alpha)
        rows.append(Row(t, next_sample, _predicted_image(config["prediction_type"], *rates), rates))
    return Table(rows[start:], 1.0)


# The terms of the noise at each of the first calls, and at all later ones. The second call repeats
# the first step with a better noise.
_PLMS = (
    {"m0": 1.0}, {"m0": 1 / 2, "m1": 1 / 2}, {"m0": 3 / 2, "m2": -1 / 2},
    {"m0": 23 / 12, "m1": -16 / 12, "m3": 5 / 12},
    {"m0": 55 / 24, "m1": -59 / 24, "m2": 37 / 24, "m4": -9 / 24},
    {"m0": 55 / 24, "m1": -59 / 24, "m2": 37 / 24, "m3": -9 / 24},
)  # fmt: skip


def pndm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of PNDM in its linear multistep form, PLMS (Liu et al., 2022,
    arXiv:2202.09778).
    """
    alphas, timesteps = alphas_cumprod(config), spaced_timesteps(config, steps)
    final_alpha = 1.0 if config["set_alpha_to_one"] else alphas[0]
    ratio, rows = config["num_train_timesteps"] // steps, []
    calls = np.concatenate([timesteps[:2], timesteps[1:]])[start:].astype(int)
    for i, timestep in enumerate(calls):
        t, previous_t = (timestep, timestep - ratio) if i != 1 else (timestep + ratio, timestep)
        alpha, previous_alpha = alphas[t], alphas[previous_t] if previous_t >= 0 else final_alpha
        sample = {"last_sample" if i == 1 else "sample": 1.0}
        noise = _PLMS[min(i, 5)]
        if config["prediction_type"] == "v_prediction":
            noise = _weighted_sum((alpha**0.5, noise), ((1 - alpha) ** 0.5, sample))
        factor = (previous_alpha - alpha) / (
            alpha * (1 - previous_alpha) ** 0.5 + (alpha * (1 - alpha) * previous_alpha) ** 0.5
        )
        next_sample = _weighted_sum(((previous_alpha / alpha) ** 0.5, sample), (-factor, noise))
        last_sample = {"sample": 1.0} if i == 0 else {"last_sample": 1.0}
        rates = _rates(alphas[timestep])
        rows.append(Row(timestep, next_sample, {"output": 1.0}, rates, last_sample))
    return Table(rows, 1.0)


def lcm(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of latent consistency models (Luo et al., 2023, arXiv:2310.04378)."""
    alphas, prediction_type = alphas_cumprod(config), config["prediction_type"]
    original_steps = config["original_inference_steps"]
    if steps > original_steps:
        raise ValueError(
            f"steps must be at most the {original_steps} that LCM was trained for, got {steps}."
        )
    ratio = config["num_train_timesteps"] // original_steps
    original_timesteps = np.arange(1, original_steps + 1) * ratio - 1
    indices = np.floor(np.linspace(0, original_steps, steps, endpoint=False)).astype(int)
    timesteps = original_timesteps[::-1][indices]
    rows = []
    for i, t in enumerate(timesteps):
        rates, scaled_t = _rates(alphas[t]), t * config["timestep_scaling"]
        c_skip, c_out = 0.25 / (scaled_t**2 + 0.25), scaled_t / (scaled_t**2 + 0.25) ** 0.5
        next_sample = {"m0": c_out, "sample": c_skip}
        if i < steps - 1:
            signal_rate, noise_rate = _rates(alphas[timesteps[i + 1]])
            next_sample = _weighted_sum((signal_rate, next_sample), (noise_rate, {"noise": 1.0}))
        rows.append(Row(t, next_sample, _predicted_image(prediction_type, *rates), rates))
    return Table(rows[start:], 1.0)


# -- methods over sigmas --------------------------------------------------------------------------


def _spaced_sigmas(config: dict[str, Any], steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return sigmas with the final one, their timesteps, and the initial noise's deviation."""
    alphas = alphas_cumprod(config)
    train_sigmas = ((1 - alphas) / alphas) ** 0.5
    timesteps = spaced_timesteps(config, steps, round_linspace=False)
    sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
    if config.get("use_karras_sigmas"):
        sigmas = karras_sigmas(sigmas[0], sigmas[-1], steps)
        timesteps = sigma_to_timestep(sigmas, train_sigmas)
    init_noise_sigma = sigmas.max()
    if config["timestep_spacing"] == "leading":
        init_noise_sigma = (init_noise_sigma**2 + 1) ** 0.5
    final_sigma = train_sigmas[0] if config.get("final_sigmas_type") == "sigma_min" else 0.0
    return np.append(sigmas, final_sigma), timesteps, float(init_noise_sigma)


def _derivative(prediction_type: str, sigma: float) -> tuple[Mix, float]:
    """Return the terms of the derivative of a sample by sigma, and the scale of the input."""
    input_scale = 1 / (sigma**2 + 1) ** 0.5
    mix = _predicted_noise(prediction_type, input_scale, sigma * input_scale)
    if "sample" in mix:
        mix = {**mix, "sample": mix["sample"] * input_scale}
    return mix, input_scale


def _euler(config: dict[str, Any], steps: int, start: int, ancestral: bool) -> Table:
    sigmas, timesteps, init_noise_sigma = _spaced_sigmas(config, steps)
    rows = []
    for t, sigma, next_sigma in zip(timesteps, sigmas[:-1], sigmas[1:], strict=True):
        sigma_up = (
            (next_sigma**2 * (sigma**2 - next_sigma**2) / sigma**2) ** 0.5 if ancestral else 0.0
        )
        sigma_down = (next_sigma**2 - sigma_up**2) ** 0.5
        derivative, input_scale = _derivative(config["prediction_type"], sigma)
        next_sample = {"sample": 1.0, "m0": sigma_down - sigma, "noise": sigma_up}
        rows.append(Row(t, next_sample, derivative, (1.0, sigma), input_scale=input_scale))
    return Table(rows[start:], init_noise_sigma)


def euler(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of Euler's method (Karras et al., 2022, arXiv:2206.00364, algorithm 2
    without churn).
    """
    return _euler(config, steps, start, False)


def euler_ancestral(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of Euler's method to a lower sigma, with fresh noise up to the next one."""
    return _euler(config, steps, start, True)


def lms(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of the linear multistep method over sigmas, of order 4."""
    sigmas, timesteps, init_noise_sigma = _spaced_sigmas(config, steps)
    rows = []
    for i in range(start, steps):
        order, next_sample = min(i + 1, 4), {"sample": 1.0}
        nodes = sigmas[i - np.arange(order)]
        for j in range(min(order, i - start + 1)):
            others = np.delete(nodes, j)
            polynomial = np.poly1d(others, r=True) / np.prod(nodes[j] - others)
            integral = polynomial.integ()
            next_sample[f"m{j}"] = float(integral(sigmas[i + 1]) - integral(sigmas[i]))
        derivative, input_scale = _derivative(config["prediction_type"], sigmas[i])
        rates = (1.0, sigmas[i])
        rows.append(Row(timesteps[i], next_sample, derivative, rates, input_scale=input_scale))
    return Table(rows, init_noise_sigma)


def heun(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of Heun's method (Karras et al., 2022, arXiv:2206.00364): two calls a step,
    except for the last.
    """
    sigmas, timesteps, init_noise_sigma = _spaced_sigmas(config, steps)
    rows, prediction_type = [], config["prediction_type"]
    for i in range(start, steps):
        dt = sigmas[i + 1] - sigmas[i]
        derivative, input_scale = _derivative(prediction_type, sigmas[i])
        rates, next_sample = (1.0, sigmas[i]), {"sample": 1.0, "m0": dt}
        last_sample = {"sample": 1.0}
        rows.append(Row(timesteps[i], next_sample, derivative, rates, last_sample, input_scale))
        if i < steps - 1:
            derivative, input_scale = _derivative(prediction_type, sigmas[i + 1])
            next_sample = {"last_sample": 1.0, "m0": dt / 2, "m1": dt / 2}
            rates, t = (1.0, sigmas[i + 1]), timesteps[i + 1]
            rows.append(Row(t, next_sample, derivative, rates, input_scale=input_scale))
    return Table(rows, init_noise_sigma)


# -- solvers of the equation for the image --------------------------------------------------------


class _SolverSchedule:
    """Timesteps, and for each and the end: alpha, sigma, and lambda = log(alpha / sigma)."""

    def __init__(self, config: dict[str, Any], steps: int, unipc: bool = False):
        alphas = alphas_cumprod(config)
        train_sigmas = ((1 - alphas) / alphas) ** 0.5
        timesteps = spaced_timesteps(config, steps, extra=1)
        sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
        if config.get("use_karras_sigmas"):
            sigmas = karras_sigmas(train_sigmas[-1], train_sigmas[0], steps)
            timesteps = sigma_to_timestep(sigmas, train_sigmas)
            if unipc or config["beta_schedule"] != "squaredcos_cap_v2":
                timesteps = timesteps.round()
        sigma_min = sigmas[-1] if unipc and config.get("use_karras_sigmas") else train_sigmas[0]
        final_sigma = sigma_min if config["final_sigmas_type"] == "sigma_min" else 0.0
        sigmas = np.append(sigmas, final_sigma)
        self.timesteps = timesteps.astype(int)
        self.alphas = 1 / (sigmas**2 + 1) ** 0.5
        self.sigmas = sigmas * self.alphas
        with np.errstate(divide="ignore"):
            self.lambdas = np.log(self.alphas) - np.log(self.sigmas)

    def first_order(self, s: int, t: int, sample: Mix, image: str) -> tuple[Mix, float]:
        """Return the first-order step from s to t, and the factor of differences of images."""
        factor = self.alphas[t] * math.expm1(self.lambdas[s] - self.lambdas[t])
        mix = _weighted_sum((self.sigmas[t] / self.sigmas[s], sample), (-factor, {image: 1.0}))
        return mix, -factor


def dpm_solver(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of DPM-Solver++ (Lu et al., 2022, arXiv:2211.01095), or of DPM-Solver (Lu et
    al., 2022, arXiv:2206.00927), which solves for the noise instead of the image.
    """
    predicts_image = config["algorithm_type"] == "dpmsolver++"
    if not predicts_image and config["final_sigmas_type"] == "zero":
        raise ValueError(
            "final_sigmas_type must be 'sigma_min' for algorithm_type='dpmsolver', got 'zero'."
        )
    schedule, rows = _SolverSchedule(config, steps), []
    convert = _predicted_image if predicts_image else _predicted_noise
    for i in range(start, steps):
        lowers_order = config["lower_order_final"] and steps < 15
        order = min(config["solver_order"], i - start + 1)
        if i == steps - 1 and (
            config["euler_at_final"] or lowers_order or config["final_sigmas_type"] == "zero"
        ):
            order = 1
        elif i == steps - 2 and lowers_order:
            order = min(order, 2)
        rates = schedule.alphas[i], schedule.sigmas[i]
        next_sample = _dpm_step(schedule, i, order, config["solver_type"], predicts_image)
        converted_output = convert(config["prediction_type"], *rates)
        rows.append(Row(schedule.timesteps[i], next_sample, converted_output, rates))
    return Table(rows, 1.0)


def _dpm_step(
    schedule: _SolverSchedule, i: int, order: int, solver_type: str, predicts_image: bool
) -> Mix:
    """Return the terms of a step of DPM-Solver: a Taylor expansion of the converted output."""
    lambdas = schedule.lambdas
    h = lambdas[i + 1] - lambdas[i]
    scales, gains, z = schedule.sigmas, schedule.alphas, -h
    if not predicts_image:
        scales, gains, z = gains, scales, h
    terms = [({"m0": 1.0}, math.expm1(z))]
    if order > 1:
        r0 = (lambdas[i] - lambdas[i - 1]) / h
        slope = {"m0": 1 / r0, "m1": -1 / r0}
        factor = math.expm1(z) / z - 1
        if order > 2:
            r1 = (lambdas[i - 1] - lambdas[i - 2]) / h
            difference = _weighted_sum((1.0, slope), (-1 / r1, {"m1": 1.0, "m2": -1.0}))
            slope = _weighted_sum((1.0, slope), (r0 / (r0 + r1), difference))
            terms.append((_weighted_sum((1 / (r0 + r1), difference)),
                          (math.expm1(z) - z) / z**2 - 0.5))  # fmt: skip
        elif solver_type == "midpoint":
            factor = math.expm1(z) / 2
        terms.append((slope, factor))
    expansion = _weighted_sum(*((-gains[i + 1] * factor, mix) for mix, factor in terms))
    return _weighted_sum((scales[i + 1] / scales[i], {"sample": 1.0}), (1.0, expansion))


def unipc(config: dict[str, Any], steps: int, start: int) -> Table:
    """Return the table of UniPC of order 1 or 2 with B2 (Zhao et al., 2023, arXiv:2302.04867)."""
    schedule, rows, order = _SolverSchedule(config, steps, unipc=True), [], 0
    lambdas = schedule.lambdas
    for i in range(start, steps):
        corrected = {"sample": 1.0}
        if order:  # the corrector: the last step again, with the image predicted at its end
            corrected, factor = schedule.first_order(i - 1, i, {"last_sample": 1.0}, "m1")
            h = lambdas[i] - lambdas[i - 1]
            rho = 0.5
            if order > 1:
                r = (lambdas[i - 2] - lambdas[i - 1]) / h
                b1 = (math.expm1(-h) / -h - 1) / math.expm1(-h)
                b2 = ((math.expm1(-h) / -h - 1) / -h - 0.5) * 2 / math.expm1(-h)
                previous_rho, rho = np.linalg.solve([[1.0, 1.0], [r, 1.0]], [b1, b2])
                corrected = _weighted_sum(
                    (1.0, corrected), (factor * previous_rho / r, {"m2": 1.0, "m1": -1.0})
                )
            corrected = _weighted_sum((1.0, corrected), (factor * rho, {"m0": 1.0, "m1": -1.0}))
        steps_left = steps - i if config["lower_order_final"] else config["solver_order"]
        order = min(config["solver_order"], steps_left, order + 1)
        next_sample, factor = schedule.first_order(i, i + 1, corrected, "m0")
        if order > 1:
            r = (lambdas[i - 1] - lambdas[i]) / (lambdas[i + 1] - lambdas[i])
            next_sample = _weighted_sum(
                (1.0, next_sample), (factor / 2 / r, {"m1": 1.0, "m0": -1.0})
            )
        rates = schedule.alphas[i], schedule.sigmas[i]
        image = _predicted_image(config["prediction_type"], *rates)
        rows.append(Row(schedule.timesteps[i], next_sample, image, rates, corrected))
    return Table(rows, 1.0)


Method = Callable[[dict[str, Any], int, int], Table]
