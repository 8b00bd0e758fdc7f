"""The denoising loop: one program, or a step at a time where a callback looks on.

Classifier-free guidance runs the prompt and the negative prompt in one batch (Ho and Salimans,
2022, arXiv:2207.12598).
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

import keraslite as keras
from hub.diffusion.schedulers import Plan
from keraslite import ops
from keraslite.training import CompiledFunctions


def noise(seeds: Any, call: Any, shape: tuple[int, ...]) -> Any:
    """Return normal noise (images, *shape), drawn for each image by its own seed.

    Args:
        seeds: (images,) of int32.
        call: the number of the network's call that it is for: 0 before the first, and negative
            for draws of other kinds.
        shape: the shape of an image.
    """
    call = ops.cast(call, "int32")
    draws = [
        keras.random.normal(shape, dtype="float32", seed=ops.stack([seeds[i], call]))
        for i in range(seeds.shape[0])
    ]
    return ops.stack(draws)


class Denoiser:
    """Runs a network over the steps of a plan, and keeps what was compiled for the last one.

    Args:
        compile: how a step is compiled, as for `keraslite.jit`.
    """

    def __init__(self, compile: bool | str = "auto"):
        self.compile = compile
        self._functions = CompiledFunctions(maxsize=1)  # each plan is a program of its own

    def __call__(
        self,
        unet: Any,
        plan: Plan,
        scheduler: Hashable,
        x: Any,
        conditions: dict[str, Any],
        scale: float = 1.0,
        rescale: float = 0.0,
        callback: Callable[[int, int, Any], None] | None = None,
        verbose: int = 0,
    ) -> Any:
        """Return the latents after the last step.

        Args:
            unet: the network.
            plan: the steps.
            scheduler: what tells the plan's scheduler from others.
            x: the latents before the first step.
            conditions: `context` (two for each image where the scale is above 1, those of the
                negative prompts first) and `seeds` of the images; for networks that take more
                channels, `extra_channels`; and to keep a part of an image, `mask` (1 where the
                image is new), `image` and `noise`, its latents and their noise.
            scale: the scale of the guidance; there is none up to 1, as in diffusers.
            rescale: how much of the contrast that guidance adds is taken back.
            callback: called with each step's number, the number of steps, and the latents.
            verbose: 1 for a progress bar.
        """
        key = (scheduler, plan.timesteps.tobytes(), scale, rescale)
        step, loop = self._functions.get(
            unet, key, lambda held: _compile(unet, plan, scale, rescale, held, self.compile)
        )
        state = plan.init_state(x)
        if callback is None and not verbose:
            return loop(x, state, conditions)
        bar = keras.utils.Progbar(len(plan), verbose=verbose)
        for i in range(len(plan)):
            number = ops.convert_to_tensor(np.int32(i))
            x, state = step(number, x, state, conditions)
            if callback is not None:
                callback(i, len(plan), x)
            bar.update(i + 1)
        return x


def _compile(
    unet: Any, plan: Plan, scale: float, rescale: float, variables: list, compile: bool | str
) -> tuple[Callable, Callable]:
    """Compile a step of a plan, and the loop over all of them, as functions of tensors alone."""

    def run_step(i: Any, x: Any, state: dict, conditions: dict) -> tuple[Any, dict]:
        inputs = plan.scale_input(i, x)
        if "extra_channels" in conditions:
            inputs = ops.concatenate([inputs, conditions["extra_channels"]], axis=-1)
        is_guided = scale > 1.0
        inputs = ops.concatenate([inputs, inputs], axis=0) if is_guided else inputs
        timestep = ops.take(plan.timesteps, i, axis=0)
        out = unet({"latents": inputs, "timestep": timestep, "context": conditions["context"]})
        out = ops.cast(out, "float32")
        out = _guide(out, scale, rescale) if is_guided else out
        draws = None
        if plan.needs_noise:
            draws = noise(conditions["seeds"], i + 1, tuple(x.shape[1:]))
        x, state = plan.step(i, state, x, out, draws)
        if "mask" in conditions:
            kept = plan.add_noise(conditions["image"], conditions["noise"], i + 1)
            x = conditions["mask"] * x + (1 - conditions["mask"]) * kept
        return x, state

    step = keras.jit(run_step, variables, compile, donate=False)

    def run_loop(x: Any, state: dict, conditions: dict) -> Any:
        start = ops.convert_to_tensor(np.int32(0))  # one program for all steps, not one for each
        return ops.fori_loop(
            start, len(plan), lambda i, values: step(i, *values, conditions), (x, state)
        )[0]

    return step, keras.jit(run_loop, variables, donate=False)


def _guide(out: Any, scale: float, rescale: float) -> Any:
    negative, positive = ops.split(out, 2, axis=0)
    guided = negative + scale * (positive - negative)
    if not rescale:
        return guided
    target, actual = (ops.std(x, axis=(1, 2, 3), keepdims=True) for x in (positive, guided))
    return guided * (rescale * target / actual + (1 - rescale))
