"""ImageToImage: images from a text and another image, with the interface of KerasHub."""

from typing import Any

from hub.diffusion.pipeline import StableDiffusionPipeline
from hub.tasks.both.text_to_image import generate_images


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

    task = "ImageToImage"
    pipeline = ""
    aliases = ("StableDiffusionImageToImage",)

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
        return generate_images(
            self, inputs, {"images": "image"}, guidance_scale, num_steps=num_steps,
            strength=strength, seed=seed, **kwargs,
        )  # fmt: skip
