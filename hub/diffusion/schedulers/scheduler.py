"""Noise schedulers: the config, the plan of the network's calls, and the step itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hub.diffusion.schedulers import methods
from hub.diffusion.schedulers.methods import Method, Table
from hub.diffusion.schedulers.tables import alphas_cumprod
from keraslite import ops


@dataclass(frozen=True)
class _Definition:
    """A scheduler of diffusers.

    Attributes:
        class_name: its class there.
        method: the function that makes its table.
        defaults: the options that may be set, with their defaults.
        fixed: the options of which only some values are supported, and these; None where the
            option may be absent.
        choices: the options of `defaults` of which only some values exist, and these.
        renamed: options -> values of other schedulers and what stands for them here.
    """

    class_name: str
    method: Method
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple]
    choices: Mapping[str, tuple]
    renamed: Mapping[str, Mapping[str, str]]


_OFF = (False, None)
_COMMON = {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "prediction_type": "epsilon", "timestep_spacing": "linspace",
    "steps_offset": 0,
}  # fmt: skip
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": _OFF, "use_beta_sigmas": _OFF}
_CLIP_SAMPLE = {"clip_sample": True, "clip_sample_range": 1.0, "thresholding": _OFF}


def _define(
    class_name: str,
    method: Method,
    choices: Mapping[str, tuple] = {},
    renamed: Mapping[str, Mapping[str, str]] = {},
    **options: Any,
) -> _Definition:
    """Return a definition; options that are tuples list the only values that are supported."""
    fixed = {k: v for k, v in options.items() if isinstance(v, tuple)}
    defaults = {**_COMMON, **{k: v for k, v in options.items() if k not in fixed}}
    choices = {"prediction_type": ("epsilon", "v_prediction"), **choices}
    return _Definition(class_name, method, defaults, fixed, choices, renamed)


_ANY_PREDICTION = {"prediction_type": ("epsilon", "v_prediction", "sample")}
_SOLVER = {
    **_SIGMAS, "solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero",
    "use_flow_sigmas": _OFF, "thresholding": _OFF,
}  # fmt: skip
SCHEDULERS = {
    "ddim": _define(
        "DDIMScheduler", methods.ddim, _ANY_PREDICTION, **_CLIP_SAMPLE, set_alpha_to_one=True,
        timestep_spacing="leading", rescale_betas_zero_snr=False,
    ),
    "ddpm": _define(
        "DDPMScheduler", methods.ddpm, _ANY_PREDICTION, **_CLIP_SAMPLE, timestep_spacing="leading",
        variance_type="fixed_small", rescale_betas_zero_snr=False,
    ),
    "pndm": _define(
        "PNDMScheduler", methods.pndm, set_alpha_to_one=False, timestep_spacing="leading",
        skip_prk_steps=(True,),
    ),
    "lms": _define("LMSDiscreteScheduler", methods.lms, **_SIGMAS),
    "euler": _define(
        "EulerDiscreteScheduler", methods.euler, **_SIGMAS, final_sigmas_type="zero",
        interpolation_type=("linear", None), timestep_type=("discrete", None),
        rescale_betas_zero_snr=_OFF, sigma_min=(None,), sigma_max=(None,),
    ),
    "euler_ancestral": _define(
        "EulerAncestralDiscreteScheduler", methods.euler_ancestral, rescale_betas_zero_snr=_OFF
    ),
    "heun": _define(
        "HeunDiscreteScheduler", methods.heun, **_SIGMAS, clip_sample=_OFF, beta_start=0.00085,
        beta_end=0.012,
    ),
    "dpm_solver": _define(
        "DPMSolverMultistepScheduler", methods.dpm_solver,
        {
            **_ANY_PREDICTION, "solver_order": (1, 2, 3), "solver_type": ("midpoint", "heun"),
            "algorithm_type": ("dpmsolver++", "dpmsolver"),
        },
        {"solver_type": dict.fromkeys(("bh1", "bh2", "logrho"), "midpoint")},
        **_SOLVER, euler_at_final=False, algorithm_type="dpmsolver++", solver_type="midpoint",
        use_lu_lambdas=_OFF, rescale_betas_zero_snr=_OFF, variance_type=(None,),
        lambda_min_clipped=(-float("inf"), None),
    ),
    "unipc": _define(
        "UniPCMultistepScheduler", methods.unipc, {**_ANY_PREDICTION, "solver_order": (1, 2)},
        {"solver_type": dict.fromkeys(("midpoint", "heun", "logrho"), "bh2")},
        **_SOLVER, predict_x0=(True, None), solver_type=("bh2", None),
        disable_corrector=([], None), solver_p=(None,), rescale_betas_zero_snr=_OFF,
    ),
    "lcm": _define(
        "LCMScheduler", methods.lcm, _ANY_PREDICTION, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", original_inference_steps=50, timestep_scaling=10.0,
        set_alpha_to_one=True, timestep_spacing="leading", clip_sample=_OFF, thresholding=_OFF,
        rescale_betas_zero_snr=False,
    ),
}  # fmt: skip
_STABLE_DIFFUSION = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False,
}  # fmt: skip


class Scheduler:
    """A noise scheduler (sampler).

    Args:
        name: a key of `SCHEDULERS`.
        config: options under diffusers' names; the others have diffusers' defaults.

    Raises:
        ValueError: the name is unknown, or an option has a value that is not supported.

    >>> scheduler = Scheduler.from_name("ddim")
    >>> scheduler.plan(4).timesteps.tolist()
    [750.0, 500.0, 250.0, 0.0]
    """

    def __init__(self, name: str, config: Mapping[str, Any] = {}):
        if name not in SCHEDULERS:
            raise ValueError(f"The scheduler must be one of {sorted(SCHEDULERS)}, got {name!r}.")
        definition = SCHEDULERS[name]
        config = dict(config)
        for key, values in definition.renamed.items():
            if config.get(key) in values:
                config[key] = values[config[key]]
        for key, supported in definition.fixed.items():
            _check_option(definition, key, config.get(key), supported)
        self.name = name
        self.source_config = config
        self.config = {k: config.get(k, v) for k, v in definition.defaults.items()}
        for key, supported in definition.choices.items():
            _check_option(definition, key, self.config[key], supported)
        self._alphas_cumprod = alphas_cumprod(self.config).astype("float32")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Scheduler":
        """Return the scheduler of a scheduler_config.json.

        Args:
            config: its content; `_class_name` is the class of diffusers.

        Raises:
            ValueError: the class or an option is not supported.
        """
        names = {definition.class_name: name for name, definition in SCHEDULERS.items()}
        name = config.get("_class_name")
        if name not in names:
            raise ValueError(
                f"_class_name of a scheduler must be one of {sorted(names)}, got {name!r}."
            )
        return cls(names[name], {k: v for k, v in config.items() if k != "_class_name"})

    @classmethod
    def from_name(cls, name: str, **options: Any) -> "Scheduler":
        """Return a scheduler with the noise schedule of Stable Diffusion.

        Args:
            name: a key of `SCHEDULERS`.
            options: other options, under diffusers' names.

        Raises:
            ValueError: the name is unknown, or an option has a value that is not supported.
        """
        return cls(name, {**_STABLE_DIFFUSION, **_required_options(name), **options})

    def with_method(self, name: str) -> "Scheduler":
        """Return another scheduler with the options that were stated for this one, as
        `from_config` of diffusers does; options that were not stated have their own defaults.

        Args:
            name: a key of `SCHEDULERS`.

        Raises:
            ValueError: the name is unknown, or an option has a value that it does not support.

        >>> v2 = Scheduler("ddim", {"prediction_type": "v_prediction"})
        >>> v2.with_method("euler").config["prediction_type"]
        'v_prediction'
        """
        return Scheduler(name, {**self.source_config, **_required_options(name)})

    def to_config(self) -> dict[str, Any]:
        """Return the content of a scheduler_config.json, as diffusers reads it."""
        return {
            **self.source_config, **self.config, **_required_options(self.name),
            "_class_name": SCHEDULERS[self.name].class_name,
        }  # fmt: skip

    def plan(self, steps: int, strength: float = 1.0) -> "Plan":
        """Return the plan of the network's calls for a number of steps.

        Args:
            steps: the number of steps from pure noise.
            strength: the fraction of the steps that are run; less than 1 leaves out the first, for
                an initial image with less noise.

        Raises:
            ValueError: `steps` is not from 1 to `num_train_timesteps`, or `strength` leaves none.
        """
        if not 0 < steps <= self.config["num_train_timesteps"]:
            raise ValueError(
                f"steps must be between 1 and {self.config['num_train_timesteps']}, got {steps}."
            )
        start = steps - min(int(steps * strength), steps)
        if not 0 < strength <= 1 or start == steps:
            raise ValueError(
                "strength must be at most 1 and leave at least one step, got "
                f"strength={strength} of {steps} steps."
            )
        clip = self.config["clip_sample_range"] if self.config.get("clip_sample") else None
        return Plan(SCHEDULERS[self.name].method(self.config, steps, start), clip)

    def add_noise(self, images: Any, noise: Any, timesteps: Any) -> Any:
        """Return images with the noise of training timesteps.

        Args:
            images: (batch, ...).
            noise: of the same shape.
            timesteps: (batch,) of integers.
        """
        signal_rates, noise_rates = self._rates(timesteps, len(images.shape))
        return ops.add(ops.multiply(signal_rates, images), ops.multiply(noise_rates, noise))

    def velocity(self, images: Any, noise: Any, timesteps: Any) -> Any:
        """Return the target of a network with v_prediction (Salimans and Ho, 2022,
        arXiv:2202.00512).

        Args:
            images: (batch, ...).
            noise: of the same shape.
            timesteps: (batch,) of integers.
        """
        signal_rates, noise_rates = self._rates(timesteps, len(images.shape))
        return ops.subtract(ops.multiply(signal_rates, noise), ops.multiply(noise_rates, images))

    def _rates(self, timesteps: Any, rank: int) -> tuple[Any, Any]:
        """Return the factors of images and noise, shaped to be multiplied with a batch."""
        alphas = ops.take(self._alphas_cumprod, timesteps, axis=0)
        alphas = ops.reshape(alphas, (-1, *(1,) * (rank - 1)))
        return ops.sqrt(alphas), ops.sqrt(ops.subtract(1.0, alphas))


def _check_option(definition: _Definition, key: str, value: Any, supported: tuple) -> None:
    if value not in supported:
        raise ValueError(
            f"{key}={value!r} is not supported for {definition.class_name}; it must be one of "
            f"{list(supported)}."
        )


def _required_options(name: str) -> dict[str, Any]:
    """Return the fixed options that a config must have: diffusers' defaults differ from them."""
    fixed = SCHEDULERS[name].fixed if name in SCHEDULERS else {}
    return {key: values[0] for key, values in fixed.items() if None not in values}


class Plan:
    """The network's calls that turn noise into an image.

    Args:
        table: the calls of a sampling method.
        clip: the largest absolute value of converted model outputs; None for any.

    Attributes:
        timesteps: the timestep that the network is given at each call.
        init_noise_sigma: the standard deviation of the initial noise.
        needs_noise: whether steps take fresh noise.
    """

    def __init__(self, table: Table, clip: float | None = None):
        rows = table.rows
        self.clip, self.init_noise_sigma = clip, table.init_noise_sigma
        self.timesteps = np.array([row.timestep for row in rows], "float32")
        rates = np.array([*(row.rates for row in rows), (1.0, 0.0)], "float32")
        self._signal_rates, self._noise_rates = rates.T
        self._input_scales = np.array([row.input_scale for row in rows], "float32")
        self._next_sample = _columns([row.next_sample for row in rows])
        self._converted_output = _columns([row.converted_output for row in rows])
        self._last_sample = _columns([row.last_sample for row in rows])
        terms = {*self._next_sample, *self._last_sample}
        self.needs_noise = "noise" in terms
        self._history = max([int(n[1:]) for n in terms if n[0] == "m"], default=0)
        self._stores_sample = "last_sample" in self._next_sample or any(
            term != "last_sample" for term in self._last_sample
        )

    def __len__(self) -> int:
        return len(self.timesteps)

    def init_state(self, sample: Any) -> dict[str, Any]:
        """Return the state before the first step: earlier model outputs and the stored sample.

        Args:
            sample: the initial sample.
        """
        zeros = ops.zeros_like(sample)
        state = {f"m{i}": zeros for i in range(1, self._history + 1)}
        return {**state, **({"last_sample": zeros} if self._stores_sample else {})}

    def add_noise(self, images: Any, noise: Any, i: Any = 0) -> Any:
        """Return images with the noise that a call expects.

        Args:
            images: the latents.
            noise: of the same shape.
            i: the index of the call, an int or a scalar tensor; there is no noise after the last.
        """
        signal_rate, noise_rate = (
            _entry(column, i) for column in (self._signal_rates, self._noise_rates)
        )
        return ops.add(ops.multiply(images, signal_rate), ops.multiply(noise, noise_rate))

    def scale_input(self, i: Any, sample: Any) -> Any:
        """Return a sample at the scale that the network takes.

        Args:
            i: the index of the call, an int or a scalar tensor.
            sample: the sample.
        """
        if (self._input_scales == 1.0).all():
            return sample
        return ops.multiply(sample, _entry(self._input_scales, i))

    def step(
        self, i: Any, state: dict[str, Any], sample: Any, output: Any, noise: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the next sample and the next state.

        Args:
            i: the index of the call, an int or a scalar tensor.
            state: from `init_state` or the step before.
            sample: the sample before `scale_input`, in float32.
            output: the network's output.
            noise: fresh noise, if `needs_noise`.

        Raises:
            ValueError: the output has another shape than the sample, or noise is missing.
        """
        if tuple(output.shape) != tuple(sample.shape):
            raise ValueError(
                "The model output must have the shape of the sample, expected "
                f"{tuple(sample.shape)}, got {tuple(output.shape)}."
            )
        if self.needs_noise and noise is None:
            raise ValueError("This method takes fresh noise at each step: pass `noise`.")
        output = ops.cast(output, ops.dtype(sample))
        values = {"sample": sample, "output": output, "noise": noise, **state}
        converted_output = _combine(self._converted_output, i, values)
        if self.clip is not None:
            converted_output = ops.clip(converted_output, -self.clip, self.clip)
        values["m0"] = converted_output
        new_state = {f"m{k}": values[f"m{k - 1}"] for k in range(1, self._history + 1)}
        if self._stores_sample:
            new_state["last_sample"] = _combine(self._last_sample, i, values)
        return _combine(self._next_sample, i, values), new_state


def _columns(mixes: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Return the factors of each term over all calls."""
    names = sorted({name for mix in mixes for name, value in mix.items() if value})
    return {n: np.array([mix.get(n, 0.0) for mix in mixes], "float32") for n in names}


def _entry(column: np.ndarray, i: Any) -> Any:
    return float(column[i]) if isinstance(i, int) else ops.take(column, i, axis=0)


def _combine(columns: dict[str, np.ndarray], i: Any, values: dict[str, Any]) -> Any:
    """Return the sum of the terms of a call, each with its factor."""
    total = None
    for name, column in columns.items():
        if isinstance(i, int) and column[i] == 0:
            continue
        term = ops.multiply(values[name], _entry(column, i))
        total = term if total is None else ops.add(total, term)
    return ops.zeros_like(values["sample"]) if total is None else total
