"""Inpaint: images of which a part is drawn again, with the interface of KerasHub."""

from typing import Any

from hub.diffusion.pipeline import StableDiffusionPipeline
from hub.tasks.both.text_to_image import generate_images


class Inpaint(StableDiffusionPipeline):
    """Images of which a part is drawn again, best by a network that was trained for it.

    Args:
        img_height: not used: the images have the size of those that are given.
        img_width: likewise.
        kwargs: parts, as for `StableDiffusion`.

    Example:
        >>> model = Inpaint.from_preset("./inpainting")  # doctest: +SKIP
        >>> model.generate({"images": photo, "masks": mask, "prompts": "a cat"})  # doctest: +SKIP
    """

    task = "Inpaint"
    pipeline = ""
    aliases = ("StableDiffusionInpaint",)

    def generate(
        self, inputs: Any, num_steps: int = 50, guidance_scale: float = 7.5, strength: float = 1.0,
        seed: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """An image (height, width, 3) of uint8, or a batch of them for several; with a safety
        checker (image, flag) or (images, flags).

        Args:
            inputs: a dict of `images`, `masks` (1, True or white where an image is drawn again),
                `prompts` and perhaps `negative_prompts`.
            num_steps: as for `ImageToImage`.
            guidance_scale: as for `TextToImage`.
            strength: how far from what was there the image may go: from just above 0 to 1.
            seed: as for `generate_image`.
            kwargs: as for `draw`.

        Raises:
            ValueError: the inputs have other parts.
        """
        return generate_images(
            self, inputs, {"images": "image", "masks": "mask"}, guidance_scale,
            num_steps=num_steps, strength=strength, seed=seed, **kwargs,
        )  # fmt: skip
