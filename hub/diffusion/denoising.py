"""The loop that makes latents of noise: one program, or a step at a time where somebody looks on.

What is wanted of an image and what is not go through the network in one batch (Ho and Salimans,
2022, arXiv:2207.12598).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import keraslite as keras
from hub.diffusion.schedulers import Plan
from hub.generation.loop import state_of
from keraslite import ops


def noise(seeds: Any, call: Any, shape: tuple[int, ...]) -> Any:
    """Normal noise (images, *shape), of each image by its own seed.

    Args:
        seeds: (images,) of int32.
        call: what it is for: negative before the first call of the network (0), then its number.
        shape: of an image.
    """
    call = ops.cast(call, "int32")
    made = [
        keras.random.normal(shape, dtype="float32", seed=ops.stack([seeds[i], call]))
        for i in range(seeds.shape[0])
    ]
    return ops.stack(made)


class Denoiser:
    """Runs a network over the steps of a plan, and keeps what was compiled for the last one.

    Args:
        compile: how a step is compiled: as `keraslite.jit` takes it.
    """

    def __init__(self, compile: bool | str = "auto"):
        self.compile = compile
        self._last: tuple[Any, _Run | None] = None, None

    def __call__(
        self,
        unet: Any,
        plan: Plan,
        kind: Any,
        x: Any,
        given: dict[str, Any],
        scale: float = 1.0,
        rescale: float = 0.0,
        callback: Callable[[int, int, Any], None] | None = None,
        verbose: int = 0,
    ) -> Any:
        """The latents after the last step.

        Args:
            unet: the network.
            plan: the steps.
            kind: what tells its scheduler from others.
            x: the latents before the first step.
            given: `context` (twice as many as images where the scale is not 1: first of what is
                not wanted) and `seeds` of the images; perhaps `beside`, which the network takes
                with the latents; perhaps `mask`, 1 where the image is made, and, for where it is
                not, `image` and `noise`.
            scale: of the guidance.
            rescale: how far the contrast is brought back that guidance adds.
            callback: called with each step's number, how many there are, and the latents.
            verbose: 1 for a progress bar.
        """
        network, variables = state_of(unet)
        key = (network, kind, plan.timesteps.tobytes(), scale, rescale)
        last, run = self._last
        if run is None or last != key:  # one plan at a time: each is a program of its own
            run = _Run(unet, variables, plan, (scale, rescale), self.compile)
            self._last = key, run
        state = plan.init_state(x)
        if callback is None and not verbose:
            return run.loop(x, state, given)
        bar = keras.utils.Progbar(len(plan), verbose=verbose)
        for call in range(len(plan)):
            number = ops.convert_to_tensor(np.int32(call))
            x, state = run.step(number, x, state, given)
            if callback is not None:
                callback(call, len(plan), x)
            bar.update(call + 1)
        return x


class _Run:
    """The steps of a plan as functions of tensors alone."""

    def __init__(
        self, unet: Any, variables: list, plan: Plan, guidance: tuple[float, float],
        compile: bool | str,
    ):  # fmt: skip
        self.unet, self.plan, (self.scale, self.rescale) = unet, plan, guidance
        self.step = keras.jit(self._step, variables, compile)
        self.loop = keras.jit(self._loop, variables)

    def _loop(self, x: Any, state: dict, given: dict) -> Any:
        """The latents after all steps."""
        start = ops.convert_to_tensor(np.int32(0))  # one program for all steps, not one for each
        return ops.fori_loop(
            start, len(self.plan), lambda i, values: self.step(i, *values, given), (x, state)
        )[0]

    def _step(self, i: Any, x: Any, state: dict, given: dict) -> tuple[Any, dict]:
        """Latents and state after one step."""
        plan, guided = self.plan, self.scale != 1.0
        entry = plan.scale_input(i, x)
        if "beside" in given:
            entry = ops.concatenate([entry, given["beside"]], axis=-1)
        entry = ops.concatenate([entry, entry], axis=0) if guided else entry
        time = ops.take(plan.timesteps, i, axis=0)
        out = self.unet({"latents": entry, "timestep": time, "context": given["context"]})
        out = ops.cast(out, "float32")
        out = _guided(out, self.scale, self.rescale) if guided else out
        fresh = noise(given["seeds"], i + 1, tuple(x.shape[1:])) if plan.needs_noise else None
        x, state = plan.step(i, state, x, out, fresh)
        if "mask" in given:
            known = plan.add_noise(given["image"], given["noise"], i + 1)
            x = given["mask"] * x + (1 - given["mask"]) * known
        return x, state


def _guided(out: Any, scale: float, rescale: float) -> Any:
    unwanted, wanted = ops.split(out, 2, axis=0)
    mixed = unwanted + scale * (wanted - unwanted)
    if not rescale:
        return mixed
    spread, ours = (ops.std(x, axis=(1, 2, 3), keepdims=True) for x in (wanted, mixed))
    return mixed * (rescale * spread / ours + (1 - rescale))
