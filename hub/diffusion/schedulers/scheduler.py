"""A scheduler from its config, its plan for a number of steps, and the step itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hub.diffusion.schedulers import methods
from hub.diffusion.schedulers.methods import Method, Table
from hub.diffusion.schedulers.tables import alphas_cumprod
from keraslite import ops


@dataclass(frozen=True)
class _Kind:
    name: str  # of diffusers' class
    method: Method
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple]


_OFF = (False, None)
_COMMON = {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "prediction_type": "epsilon", "timestep_spacing": "linspace",
    "steps_offset": 0,
}  # fmt: skip
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": _OFF, "use_beta_sigmas": _OFF}
_CLIPS = {"clip_sample": True, "clip_sample_range": 1.0, "thresholding": _OFF}


def _kind(name: str, method: Method, **options: Any) -> _Kind:
    """Options that are tuples list the only values that are supported."""
    fixed = {k: v for k, v in options.items() if isinstance(v, tuple)}
    return _Kind(
        name, method, {**_COMMON, **{k: v for k, v in options.items() if k not in fixed}}, fixed
    )


_SOLVER = {
    **_SIGMAS, "solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero",
    "use_flow_sigmas": _OFF, "thresholding": _OFF,
}  # fmt: skip
SCHEDULERS = {
    "ddim": _kind(
        "DDIMScheduler", methods.ddim, **_CLIPS, set_alpha_to_one=True, timestep_spacing="leading",
        rescale_betas_zero_snr=False,
    ),
    "ddpm": _kind(
        "DDPMScheduler", methods.ddpm, **_CLIPS, timestep_spacing="leading",
        variance_type="fixed_small", rescale_betas_zero_snr=False,
    ),
    "pndm": _kind(
        "PNDMScheduler", methods.pndm, set_alpha_to_one=False, timestep_spacing="leading",
        skip_prk_steps=(True,),
    ),
    "lms": _kind("LMSDiscreteScheduler", methods.lms, **_SIGMAS),
    "euler": _kind(
        "EulerDiscreteScheduler", methods.euler, **_SIGMAS, final_sigmas_type="zero",
        interpolation_type=("linear", None), timestep_type=("discrete", None),
        rescale_betas_zero_snr=_OFF, sigma_min=(None,), sigma_max=(None,),
    ),
    "euler_ancestral": _kind(
        "EulerAncestralDiscreteScheduler", methods.euler_ancestral, rescale_betas_zero_snr=_OFF
    ),
    "heun": _kind("HeunDiscreteScheduler", methods.heun, **_SIGMAS, clip_sample=_OFF),
    "dpm_solver": _kind(
        "DPMSolverMultistepScheduler", methods.dpm_solver, **_SOLVER, euler_at_final=False,
        algorithm_type=("dpmsolver++", None), solver_type=("midpoint", None), use_lu_lambdas=_OFF,
        rescale_betas_zero_snr=_OFF, variance_type=(None,),
        lambda_min_clipped=(-float("inf"), None),
    ),
    "unipc": _kind(
        "UniPCMultistepScheduler", methods.unipc, **_SOLVER, predict_x0=(True, None),
        solver_type=("bh2", None), disable_corrector=([], None), solver_p=(None,),
        rescale_betas_zero_snr=_OFF,
    ),
    "lcm": _kind(
        "LCMScheduler", methods.lcm, beta_start=0.00085, beta_end=0.012,
        beta_schedule="scaled_linear", original_inference_steps=50, timestep_scaling=10.0,
        set_alpha_to_one=True, timestep_spacing="leading", clip_sample=_OFF, thresholding=_OFF,
        rescale_betas_zero_snr=False,
    ),
}  # fmt: skip
_PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_WITH_SAMPLE = ("ddim", "ddpm", "dpm_solver", "unipc", "lcm")


class Scheduler:
    """How an image is made of noise, step by step.

    Args:
        name: a key of `SCHEDULERS`.
        config: options as diffusers calls them; what is left out is as diffusers has it.

    Raises:
        ValueError: an option has a value that is not supported.

    >>> scheduler = Scheduler.from_name("ddim")
    >>> scheduler.plan(4).timesteps.tolist()
    [750.0, 500.0, 250.0, 0.0]
    """

    def __init__(self, name: str, config: Mapping[str, Any] = {}):
        if name not in SCHEDULERS:
            raise ValueError(f"There is no scheduler {name!r}; there are {sorted(SCHEDULERS)}.")
        kind = SCHEDULERS[name]
        for key, values in kind.fixed.items():
            value = config.get(key)
            if value not in values:
                raise ValueError(
                    f"{kind.name} has {key}={value!r}, which is not supported; supported: "
                    f"{list(values)}."
                )
        self.name = name
        self.source_config = dict(config)
        self.config = {k: config.get(k, v) for k, v in kind.defaults.items()}
        kinds = ("epsilon", "v_prediction", *(["sample"] if name in _WITH_SAMPLE else []))
        if self.config["prediction_type"] not in kinds:
            raise ValueError(
                f"{kind.name} has prediction_type={self.config['prediction_type']!r}; supported: "
                f"{list(kinds)}."
            )
        if self.config.get("solver_order", 1) not in (1, 2):
            raise ValueError(
                f"{kind.name} has solver_order={self.config['solver_order']}; supported: 1, 2."
            )
        self._alphas = alphas_cumprod(self.config).astype("float32")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Scheduler":
        """The scheduler of a scheduler_config.json.

        Args:
            config: its content; `_class_name` says which one it is.
        """
        names = {kind.name: name for name, kind in SCHEDULERS.items()}
        name = config.get("_class_name")
        if name not in names:
            raise ValueError(f"There is no scheduler {name!r}; there are {sorted(names)}.")
        return cls(names[name], {k: v for k, v in config.items() if k != "_class_name"})

    @classmethod
    def from_name(cls, name: str, **options: Any) -> "Scheduler":
        """A scheduler with the noise of Stable Diffusion.

        Args:
            name: a key of `SCHEDULERS`.
            options: other options, as diffusers calls them.
        """
        clip = {"clip_sample": False} if name in ("ddim", "ddpm") else {}
        return cls(name, {**_PUBLISHED, **clip, **_required(name), **options})

    def to_config(self) -> dict[str, Any]:
        """The content of a scheduler_config.json, as diffusers opens it."""
        return {
            **self.source_config, **self.config, **_required(self.name),
            "_class_name": SCHEDULERS[self.name].name,
        }  # fmt: skip

    def plan(self, steps: int, strength: float = 1.0) -> "Plan":
        """What is done for an image in so many steps.

        Args:
            steps: from pure noise.
            strength: how much noise an image is given to begin with; with less than 1 the first
                steps are left out.

        Raises:
            ValueError: there are more steps than the network was trained for, or none.
        """
        if not 0 < steps <= self.config["num_train_timesteps"]:
            raise ValueError(
                f"steps must be between 1 and {self.config['num_train_timesteps']}, got {steps}."
            )
        start = steps - min(int(steps * strength), steps)
        if not 0 < strength <= 1 or start == steps:
            raise ValueError(f"strength={strength} leaves none of {steps} steps.")
        clip = self.config["clip_sample_range"] if self.config.get("clip_sample") else None
        return Plan(SCHEDULERS[self.name].method(self.config, steps, start), clip)

    def add_noise(self, images: Any, noise: Any, timesteps: Any) -> Any:
        """Images as they are at training timesteps.

        Args:
            images: (batch, ...).
            noise: as the images.
            timesteps: (batch,) of integers.
        """
        signal, amount = self._at(timesteps, len(images.shape))
        return ops.add(ops.multiply(signal, images), ops.multiply(amount, noise))

    def velocity(self, images: Any, noise: Any, timesteps: Any) -> Any:
        """What a network with v_prediction is trained to give (Salimans and Ho, 2022,
        arXiv:2202.00512).

        Args:
            images: (batch, ...).
            noise: as the images.
            timesteps: (batch,) of integers.
        """
        signal, amount = self._at(timesteps, len(images.shape))
        return ops.subtract(ops.multiply(signal, noise), ops.multiply(amount, images))

    def _at(self, timesteps: Any, rank: int) -> tuple[Any, Any]:
        share = ops.take(self._alphas, timesteps, axis=0)
        share = ops.reshape(share, (-1, *(1,) * (rank - 1)))
        return ops.sqrt(share), ops.sqrt(ops.subtract(1.0, share))


def _required(name: str) -> dict[str, Any]:
    """Options without which diffusers would do something that is not supported."""
    fixed = SCHEDULERS[name].fixed if name in SCHEDULERS else {}
    return {key: values[0] for key, values in fixed.items() if None not in values}


class Plan:
    """The calls of a network that make an image.

    Args:
        table: what each call contributes.
        clip: the largest absolute value that converted outputs may have.

    Attributes:
        timesteps: what the network is told at each call.
        initial_scale: of the noise that it begins with.
        needs_noise: whether steps take fresh noise.
    """

    def __init__(self, table: Table, clip: float | None = None):
        rows = table.rows
        self.clip, self.initial_scale = clip, table.initial_scale
        self.timesteps = np.array([row.time for row in rows], "float32")
        mixed = np.array([*(row.mixed for row in rows), (1.0, 0.0)], "float32")
        self._signals, self._amounts = mixed.T
        self._scales = np.array([row.scale for row in rows], "float32")
        self._next, self._converted, self._kept = (
            _columns([getattr(row, part) for row in rows]) for part in ("next", "converted", "kept")
        )
        used = {*self._next, *self._kept}
        self.needs_noise = "noise" in used
        self._history = max([int(n[1:]) for n in used if n[0] == "m"], default=0)
        self._keeps = "kept" in self._next or any(n != "kept" for n in self._kept)

    def __len__(self) -> int:
        return len(self.timesteps)

    def init_state(self, sample: Any) -> dict[str, Any]:
        """What `step` hands on beside the sample.

        Args:
            sample: the first one.
        """
        zeros = ops.zeros_like(sample)
        state = {f"m{i}": zeros for i in range(1, self._history + 1)}
        return {**state, **({"kept": zeros} if self._keeps else {})}

    def add_noise(self, images: Any, noise: Any, i: Any = 0) -> Any:
        """Images with the noise that a call expects.

        Args:
            images: the latents.
            noise: as they.
            i: which call: an int or a scalar tensor; after the last one there is no noise.
        """
        signal, amount = (_entry(column, i) for column in (self._signals, self._amounts))
        return ops.add(ops.multiply(images, signal), ops.multiply(noise, amount))

    def scale_input(self, i: Any, sample: Any) -> Any:
        """A sample as the network takes it.

        Args:
            i: which call: an int or a scalar tensor.
            sample: the sample.
        """
        if (self._scales == 1.0).all():
            return sample
        return ops.multiply(sample, _entry(self._scales, i))

    def step(
        self, i: Any, state: dict[str, Any], sample: Any, output: Any, noise: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """The next sample and state.

        Args:
            i: which call: an int or a scalar tensor.
            state: of `init_state` or the last step.
            sample: what the network was given, not scaled; float32.
            output: what it gave.
            noise: fresh, where `needs_noise`.

        Raises:
            ValueError: the output has another shape than the sample, or noise is missing.
        """
        if tuple(output.shape) != tuple(sample.shape):
            raise ValueError(
                f"The output of shape {tuple(output.shape)} does not fit a sample of shape "
                f"{tuple(sample.shape)}."
            )
        if self.needs_noise and noise is None:
            raise ValueError("This method takes fresh noise at each step: give `noise`.")
        values = {"x": sample, "o": ops.cast(output, ops.dtype(sample)), "noise": noise, **state}
        converted = _combined(self._converted, i, values)
        if self.clip is not None:
            converted = ops.clip(converted, -self.clip, self.clip)
        values["m0"] = converted
        new = {f"m{k}": values[f"m{k - 1}"] for k in range(1, self._history + 1)}
        if self._keeps:
            new["kept"] = _combined(self._kept, i, values)
        return _combined(self._next, i, values), new


def _columns(mixes: list[dict[str, float]]) -> dict[str, np.ndarray]:
    names = sorted({name for mix in mixes for name, value in mix.items() if value})
    return {n: np.array([mix.get(n, 0.0) for mix in mixes], "float32") for n in names}


def _entry(column: np.ndarray, i: Any) -> Any:
    return float(column[i]) if isinstance(i, int) else ops.take(column, i, axis=0)


def _combined(columns: dict[str, np.ndarray], i: Any, values: dict[str, Any]) -> Any:
    total = None
    for name, column in columns.items():
        if isinstance(i, int) and column[i] == 0:
            continue
        term = ops.multiply(values[name], _entry(column, i))
        total = term if total is None else ops.add(total, term)
    return ops.zeros_like(values["x"]) if total is None else total
