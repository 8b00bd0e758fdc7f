"""Text to image, image to image and inpainting as KerasHub has them: tasks with `generate`."""

from collections.abc import Mapping
from typing import Any

from hub.diffusion.pipeline import StableDiffusionPipeline


def _generated(
    model: StableDiffusionPipeline, inputs: Any, parts: Mapping[str, str], guidance_scale: float,
    **how: Any,
) -> Any:  # fmt: skip
    """Images of what a user gave, and flags; a single one where a single text was given.

    Args:
        model: the pipeline.
        inputs: a text, texts, or a dict.
        parts: what the dict holds beside texts -> what `draw` calls it.
        guidance_scale: of the guidance.
        how: as for `draw`.
    """
    inputs = inputs if isinstance(inputs, Mapping) else {"prompts": inputs}
    needed = {"prompts", *parts}
    if needed - set(inputs) or set(inputs) - needed - {"negative_prompts"}:
        raise ValueError(
            f"The inputs have {sorted(inputs)}, expected {sorted(needed)} and perhaps "
            "negative_prompts."
        )
    given = {ours: inputs[name] for name, ours in parts.items()}
    prompts, unwanted = inputs["prompts"], inputs.get("negative_prompts")
    made = model.draw(
        prompts, unwanted, unconditional_guidance_scale=guidance_scale, **given, **how
    )
    images, flags = made if isinstance(made, tuple) else (made, None)
    if isinstance(prompts, str) and len(images) == 1:
        images, flags = images[0], None if flags is None else bool(flags[0])
    return images if flags is None else (images, flags)


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
        return _generated(
            self, inputs, {}, guidance_scale, num_steps=num_steps, seed=seed, **kwargs
        )


class ImageToImage(StableDiffusionPipeline):
    """Images that follow a text and another image.

    Args:
        img_height: not used: the images have the size of those that are given.
        img_width: likewise.
        kwargs: parts, as for `StableDiffusion`.

    Example:
        >>> model = ImageToImage.from_preset("stable_diffusion_v1.5")  # doctest: +SKIP
        >>> model.generate({"images": photo, "prompts": "as a watercolour"})  # doctest: +SKIP
    """

    def generate(
        self, inputs: Any, num_steps: int = 50, guidance_scale: float = 7.5, strength: float = 0.8,
        seed: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """An image (height, width, 3) of uint8, or a batch of them for several; with a safety
        checker (image, flag) or (images, flags).

        Args:
            inputs: a dict of `images`, `prompts` and perhaps `negative_prompts`; images as for
                `generate_image`.
            num_steps: from pure noise; the first ones are left out.
            guidance_scale: as for `TextToImage`.
            strength: how far from the image the new one may go: from just above 0 to 1.
            seed: as for `generate_image`.
            kwargs: as for `draw`.

        Raises:
            ValueError: the inputs have other parts.
        """
        return _generated(
            self, inputs, {"images": "image"}, guidance_scale, num_steps=num_steps,
            strength=strength, seed=seed, **kwargs,
        )  # fmt: skip


class Inpaint(StableDiffusionPipeline):
    """Images of which a part is made anew, by any network; best by one that was trained for it.

    Args:
        img_height: not used: the images have the size of those that are given.
        img_width: likewise.
        kwargs: parts, as for `StableDiffusion`.

    Example:
        >>> model = Inpaint.from_preset("./inpainting")  # doctest: +SKIP
        >>> model.generate({"images": photo, "masks": mask, "prompts": "a cat"})  # doctest: +SKIP
    """

    def generate(
        self, inputs: Any, num_steps: int = 50, guidance_scale: float = 7.5, strength: float = 1.0,
        seed: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """An image (height, width, 3) of uint8, or a batch of them for several; with a safety
        checker (image, flag) or (images, flags).

        Args:
            inputs: a dict of `images`, `masks` (1, True or white where an image is made anew),
                `prompts` and perhaps `negative_prompts`.
            num_steps: as for `ImageToImage`.
            guidance_scale: as for `TextToImage`.
            strength: how far from what was there the image may go: from just above 0 to 1.
            seed: as for `generate_image`.
            kwargs: as for `draw`.

        Raises:
            ValueError: the inputs have other parts.
        """
        return _generated(
            self, inputs, {"images": "image", "masks": "mask"}, guidance_scale,
            num_steps=num_steps, strength=strength, seed=seed, **kwargs,
        )  # fmt: skip


StableDiffusionTextToImage = TextToImage
StableDiffusionImageToImage = ImageToImage
StableDiffusionInpaint = Inpaint
