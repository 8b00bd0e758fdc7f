"""Noise schedules: betas, spaced timesteps and sigmas, in numpy and float64."""

import math
from typing import Any

import numpy as np


def alphas_cumprod(config: dict[str, Any]) -> np.ndarray:
    """Return the cumulative product of the alphas (1 - beta) at each training timestep.

    Args:
        config: `num_train_timesteps`, `beta_start`, `beta_end`, `beta_schedule`, `trained_betas`,
            `rescale_betas_zero_snr`.

    Raises:
        ValueError: `beta_schedule` is not supported.

    >>> alphas = alphas_cumprod({"num_train_timesteps": 4, "beta_schedule": "linear",
    ...     "beta_start": 0.1, "beta_end": 0.4})
    >>> alphas.round(3).tolist()
    [0.9, 0.72, 0.504, 0.302]
    """
    num_steps, schedule = config["num_train_timesteps"], config["beta_schedule"]
    start, end = config.get("beta_start", 0.0), config.get("beta_end", 0.0)
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], "float64")
    elif schedule == "linear":
        betas = np.linspace(start, end, num_steps)
    elif schedule == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, num_steps) ** 2
    elif schedule == "squaredcos_cap_v2":

        def alpha_bar(t: float) -> float:
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = np.array(
            [
                min(1 - alpha_bar((i + 1) / num_steps) / alpha_bar(i / num_steps), 0.999)
                for i in range(num_steps)
            ]
        )
    else:
        raise ValueError(
            "beta_schedule must be one of linear, scaled_linear, squaredcos_cap_v2, got "
            f"{schedule!r}."
        )
    alphas = np.cumprod(1 - betas)
    if config.get("rescale_betas_zero_snr"):  # Lin et al., 2023, arXiv:2305.08891
        root = np.sqrt(alphas)
        alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return alphas


def spaced_timesteps(
    config: dict[str, Any], steps: int, extra: int = 0, round_linspace: bool = True
) -> np.ndarray:
    """Return the training timesteps of a number of inference steps, from the noisiest on.

    Args:
        config: `num_train_timesteps`, `timestep_spacing`, `steps_offset`.
        steps: the number of inference steps.
        extra: 1 for the methods that space one timestep more and leave out the last.
        round_linspace: whether the timesteps of "linspace" are rounded.

    Raises:
        ValueError: `timestep_spacing` is not supported.

    >>> spaced_timesteps({"num_train_timesteps": 1000, "timestep_spacing": "leading",
    ...     "steps_offset": 1}, 4).tolist()
    [751.0, 501.0, 251.0, 1.0]
    """
    num_train, spacing = config["num_train_timesteps"], config["timestep_spacing"]
    num_spaced = steps + extra
    if spacing == "linspace":
        timesteps = np.linspace(0, num_train - 1, num_spaced)
        timesteps = (timesteps.round() if round_linspace else timesteps)[::-1]
    elif spacing == "leading":
        ratio = float(num_train // num_spaced)
        timesteps = np.arange(num_spaced)[::-1] * ratio + config.get("steps_offset", 0)
    elif spacing == "trailing":
        return np.arange(num_train, 0, -num_train / steps).round() - 1
    else:
        raise ValueError(
            f"timestep_spacing must be one of leading, linspace, trailing, got {spacing!r}."
        )
    return timesteps[:steps]


def karras_sigmas(sigma_max: float, sigma_min: float, steps: int) -> np.ndarray:
    """Return sigmas that are spaced more closely at low noise (Karras et al., 2022,
    arXiv:2206.00364).

    Args:
        sigma_max: the first sigma.
        sigma_min: the last sigma.
        steps: the number of sigmas.

    >>> karras_sigmas(4.0, 1.0, 3).round(2).tolist()
    [4.0, 2.07, 1.0]
    """
    ramp, rho = np.linspace(0, 1, steps), 7.0
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def sigma_to_timestep(sigmas: np.ndarray, train_sigmas: np.ndarray) -> np.ndarray:
    """Return the training timesteps, with fractions, of sigmas, interpolated in log sigma.

    Args:
        sigmas: the sigmas.
        train_sigmas: the sigma of each training timestep.

    >>> sigma_to_timestep(np.array([2.0]), np.array([1.0, 2.0, 4.0])).tolist()
    [1.0]
    """
    log_sigmas = np.log(np.maximum(sigmas, 1e-10))
    return np.interp(log_sigmas, np.log(train_sigmas), np.arange(len(train_sigmas)))
