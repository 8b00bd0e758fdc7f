"""How much noise there is at which time: betas, spaced timesteps, sigmas. numpy in float64."""

import math
from typing import Any

import numpy as np


def alphas_cumprod(config: dict[str, Any]) -> np.ndarray:
    """The share of the signal's variance at each training timestep.

    Args:
        config: `num_train_timesteps`, `beta_start`, `beta_end`, `beta_schedule`, `trained_betas`,
            `rescale_betas_zero_snr`.

    >>> made = alphas_cumprod({"num_train_timesteps": 4, "beta_schedule": "linear",
    ...     "beta_start": 0.1, "beta_end": 0.4})
    >>> made.round(3).tolist()
    [0.9, 0.72, 0.504, 0.302]
    """
    count, kind = config["num_train_timesteps"], config["beta_schedule"]
    start, end = config.get("beta_start", 0.0), config.get("beta_end", 0.0)
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], "float64")
    elif kind == "linear":
        betas = np.linspace(start, end, count)
    elif kind == "scaled_linear":
        betas = np.linspace(start**0.5, end**0.5, count) ** 2
    elif kind == "squaredcos_cap_v2":

        def bar(t: float) -> float:
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

        betas = np.array([min(1 - bar((i + 1) / count) / bar(i / count), 0.999)
                          for i in range(count)])  # fmt: skip
    else:
        raise ValueError(
            f"beta_schedule={kind!r} is not supported; supported: linear, scaled_linear, "
            "squaredcos_cap_v2."
        )
    found = np.cumprod(1 - betas)
    if config.get("rescale_betas_zero_snr"):  # Lin et al., 2023, arXiv:2305.08891
        root = np.sqrt(found)
        found = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return found


def spaced(config: dict[str, Any], steps: int, extra: int = 0, whole: bool = True) -> np.ndarray:
    """Some of the training timesteps, the noisiest first.

    Args:
        config: `num_train_timesteps`, `timestep_spacing`, `steps_offset`.
        steps: how many.
        extra: 1 for the methods that leave out one more at the end.
        whole: whether "linspace" is rounded.

    >>> spaced({"num_train_timesteps": 1000, "timestep_spacing": "leading",
    ...     "steps_offset": 1}, 4).tolist()
    [751.0, 501.0, 251.0, 1.0]
    """
    count, kind, wanted = config["num_train_timesteps"], config["timestep_spacing"], steps + extra
    if kind == "linspace":
        times = np.linspace(0, count - 1, wanted)
        times = (times.round() if whole else times)[::-1]
    elif kind == "leading":
        times = np.arange(wanted)[::-1] * float(count // wanted) + config.get("steps_offset", 0)
    elif kind == "trailing":
        return np.arange(count, 0, -count / steps).round() - 1
    else:
        raise ValueError(
            f"timestep_spacing={kind!r} is not supported; supported: leading, linspace, trailing."
        )
    return times[:steps]


def karras(high: float, low: float, steps: int) -> np.ndarray:
    """Sigmas that are close to each other where there is little noise (Karras et al., 2022,
    arXiv:2206.00364).

    Args:
        high: the largest.
        low: the smallest.
        steps: how many.

    >>> karras(4.0, 1.0, 3).round(2).tolist()
    [4.0, 2.07, 1.0]
    """
    ramp, rho = np.linspace(0, 1, steps), 7.0
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def time_of(sigma: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """The training timesteps, with fractions, at which there is so much noise.

    Args:
        sigma: the noise.
        sigmas: that of each training timestep.

    >>> time_of(np.array([2.0]), np.array([1.0, 2.0, 4.0])).tolist()
    [1.0]
    """
    return np.interp(np.log(np.maximum(sigma, 1e-10)), np.log(sigmas), np.arange(len(sigmas)))
