"""The denoising loop: one program, or a step at a time where a callback looks on.

Classifier-free guidance runs the prompt and the negative prompt in one batch (Ho and Salimans,
2022, arXiv:2207.12598).
"""

import sys
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

import keraslite as keras
from hub.diffusion.batches import batch_sizes, is_compiled, join_rows, split_rows
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
        verbose: int | str = 0,
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
            verbose: 1 for a progress bar; "auto" to say only what is compiled; 0 for nothing.
        """
        key = (scheduler, plan.timesteps.tobytes(), scale, rescale)
        step, loop, compiled = self._functions.get(
            unet, key, lambda held: _compile(unet, plan, scale, rescale, held, self.compile)
        )
        sizes = batch_sizes(x.shape[0], unet.backend, self.compile)
        batches = split_rows((x, plan.init_state(x), conditions), sizes)
        at_once = callback is None and verbose in (0, "auto")
        if verbose != 0:
            _announce(compiled, at_once, batches, unet.backend, self.compile)
        if at_once:
            return join_rows([loop(*batch) for batch in batches])
        bar = keras.utils.Progbar(len(plan), verbose=0 if verbose == "auto" else verbose)
        for i in range(len(plan)):
            number = ops.convert_to_tensor(np.int32(i))
            batches = [(*step(number, *batch), batch[2]) for batch in batches]
            if callback is not None:
                callback(i, len(plan), join_rows([batch[0] for batch in batches]))
            bar.update(i + 1)
        return join_rows([batch[0] for batch in batches])


def _announce(
    compiled: set, at_once: bool, batches: list, backend: str, compile: bool | str
) -> None:
    """Say that a program is compiled, once for each: it takes from seconds to minutes."""
    for x, _, conditions in batches:
        shapes = at_once, tuple(x.shape), tuple(conditions["context"].shape)
        if shapes not in compiled and is_compiled(backend, compile):
            images = "1 image" if x.shape[0] == 1 else f"{x.shape[0]} images"
            height, width = x.shape[1:3]
            print(
                f"Compiling the denoising steps on {backend} for {images} with latents of "
                f"{height} x {width}; the next images of this size need it no more.",
                file=sys.stderr,
            )
        compiled.add(shapes)


def _compile(
    unet: Any, plan: Plan, scale: float, rescale: float, variables: list, compile: bool | str
) -> tuple[Callable, Callable, set]:
    """Compile a step of a plan, and the loop over all of them, as functions of tensors alone.

    The set is for the shapes that they have been compiled for.
    """

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

    return step, keras.jit(run_loop, variables, donate=False), set()


def _guide(out: Any, scale: float, rescale: float) -> Any:
    negative, positive = ops.split(out, 2, axis=0)
    guided = negative + scale * (positive - negative)
    if not rescale:
        return guided
    target, actual = (ops.std(x, axis=(1, 2, 3), keepdims=True) for x in (positive, guided))
    return guided * (rescale * target / actual + (1 - rescale))
