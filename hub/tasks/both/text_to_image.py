"""TextToImage: images from texts, with the interface of KerasHub."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hub.diffusion.pipeline import StableDiffusionPipeline
from hub.tasks.task import OUT_OPTION


def generate_images(
    model: StableDiffusionPipeline, inputs: Any, parts: Mapping[str, str], guidance_scale: float,
    **kwargs: Any,
) -> Any:  # fmt: skip
    """Return images, with flags if there is a safety checker; a single one for a single text.

    Args:
        model: the pipeline.
        inputs: a text, texts, or a dict.
        parts: keys of the dict beside those of texts -> arguments of `draw`.
        guidance_scale: of the guidance.
        kwargs: as for `draw`.
    """
    inputs = inputs if isinstance(inputs, Mapping) else {"prompts": inputs}
    needed = {"prompts", *parts}
    if needed - set(inputs) or set(inputs) - needed - {"negative_prompts"}:
        raise ValueError(
            f"The inputs have {sorted(inputs)}, expected {sorted(needed)} and perhaps "
            "negative_prompts."
        )
    images_given = {argument: inputs[name] for name, argument in parts.items()}
    prompts, negative = inputs["prompts"], inputs.get("negative_prompts")
    drawn = model.draw(
        prompts, negative, unconditional_guidance_scale=guidance_scale, **images_given, **kwargs
    )
    images, flags = drawn if isinstance(drawn, tuple) else (drawn, None)
    if isinstance(prompts, str) and len(images) == 1:
        images, flags = images[0], None if flags is None else bool(flags[0])
    return images if flags is None else (images, flags)


class ImageGenerator(StableDiffusionPipeline):
    """The base of tasks that draw images from images and texts, with the interface of KerasHub.

    Attributes:
        parts: keys of the inputs beside those of texts -> arguments of `draw`.
        default_strength: how far from the given image a new one goes.
    """

    parts: Mapping[str, str] = {}
    default_strength = 1.0

    def generate(
        self, inputs: Any, num_steps: int = 50, guidance_scale: float = 7.5,
        strength: float | None = None, seed: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """An image (height, width, 3) of uint8, or a batch of them for several; with a safety
        checker (image, flag) or (images, flags).

        Args:
            inputs: a dict of `prompts`, perhaps `negative_prompts`, and `images`, as for
                `generate_image`; to draw a part of them also `masks`, which are 1, True or white
                there.
            num_steps: from pure noise; with a smaller strength the first ones are left out.
            guidance_scale: as for `TextToImage`.
            strength: how far from the image the new one may go: from just above 0 to 1; the task's
                `default_strength` by default.
            seed: as for `generate_image`.
            kwargs: as for `draw`.

        Raises:
            ValueError: the inputs have other parts.
        """
        strength = self.default_strength if strength is None else strength
        return generate_images(
            self, inputs, self.parts, guidance_scale, num_steps=num_steps, strength=strength,
            seed=seed, **kwargs,
        )  # fmt: skip


class TextToImage(StableDiffusionPipeline):
    """Images of texts.

    Args:
        img_height: of the images, in pixels; the network's usual height by default.
        img_width: of the images, in pixels.
        kwargs: parts, as for `StableDiffusion`.

    Example:
        >>> model = TextToImage.from_preset("stable_diffusion_v1.5")  # doctest: +SKIP
        >>> model.generate("an astronaut riding a horse").shape  # doctest: +SKIP
        (512, 512, 3)
    """

    task = "TextToImage"
    answers_compiled = False
    pipeline = "text-to-image"
    aliases = ("StableDiffusionTextToImage",)
    command_options = {
        "--steps": {"type": int, "default": 50, "help": "steps of a drawing"},
        "--out": OUT_OPTION,
    }

    def answers(self, inputs: list[str], options: Any) -> Iterator[dict[str, Any]]:
        """Draw an image of each text, and yield its path.

        Args:
            inputs: the texts.
            options: values of `command_options` and of `seed`.
        """

        def show(call: int, calls: int, latents: Any) -> None:
            end = "\n" if call + 1 == calls else ""
            print(f"\rstep {call + 1} of {calls}", end=end, file=sys.stderr, flush=True)

        folder = options.out or Path()
        folder.mkdir(parents=True, exist_ok=True)
        for i, prompt in enumerate(inputs):
            image = self.generate(
                prompt, options.steps, seed=options.seed + i, callback=show, output="pil"
            )
            path = folder / f"image-{i}.png"
            image.save(path)
            yield {"image": str(path)}

    def generate(
        self, inputs: Any, num_steps: int = 50, guidance_scale: float = 7.5, seed: Any = None,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        """An image (height, width, 3) of uint8, or a batch of them for a list; with a safety
        checker (image, flag) or (images, flags).

        Args:
            inputs: a text, a list of them, or a dict of `prompts` and perhaps `negative_prompts`.
            num_steps: more steps take longer and look better.
            guidance_scale: how much more closely the text is followed than by the network itself.
            seed: as for `generate_image`.
            kwargs: as for `draw`.

        Raises:
            ValueError: the inputs have other parts.
        """
        return generate_images(
            self, inputs, {}, guidance_scale, num_steps=num_steps, seed=seed, **kwargs
        )
