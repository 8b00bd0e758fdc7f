"""Stable Diffusion with the interface of KerasCV: a method for each task."""

from collections.abc import Sequence
from typing import Any

from hub.diffusion.pipeline import StableDiffusionPipeline


class StableDiffusion(StableDiffusionPipeline):
    """Images from texts, from texts and other images, and images of which a part is drawn again.

    Args:
        img_height: of the images, in pixels; the network's usual height by default.
        img_width: of the images, in pixels.
        kwargs: parts: `text_encoder`, `unet`, `vae`, `tokenizer`, `scheduler`; those of Stable
            Diffusion 1.5 by default. With a `safety_checker` each method gives (images, flags).

    Example:
        >>> model = StableDiffusion.from_preset("./pipeline")  # doctest: +SKIP
        >>> model.text_to_image("an astronaut riding a horse").shape  # doctest: +SKIP
        (1, 512, 512, 3)
    """

    task = "StableDiffusion"
    pipeline = ""

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return the drawing of an image, the number of steps, and the unit.

        Args:
            count: not used: one image is drawn.
        """
        return lambda: self.text_to_image("a photo", num_steps=10, seed=0), 10, "steps"

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        seed: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Images (batch, height, width, 3) of uint8; with a safety checker (images, flags).

        Args:
            prompt: a text for all images, or one for each.
            negative_prompt: what is not wanted; nothing by default.
            batch_size: how many images; as many as there are prompts where there are several.
            num_steps: more steps take longer and look better.
            unconditional_guidance_scale: how much more closely the text is followed than by the
                network itself; no more up to 1.
            seed: of the first image; the next ones have the seeds that follow. A list has one for
                each. An image does not depend on its batch.
            kwargs: `weighted`, `max_pieces`, and what `generate_image` takes: `callback`,
                `verbose`, `output`, `guidance_rescale`, `diffusion_noise`.

        Raises:
            ValueError: numbers of prompts, images and seeds differ.
        """
        return self.draw(
            prompt, negative_prompt, batch_size, num_steps=num_steps,
            unconditional_guidance_scale=unconditional_guidance_scale, seed=seed, **kwargs,
        )  # fmt: skip

    def image_to_image(
        self,
        prompt: str | Sequence[str],
        image: Any,
        strength: float = 0.8,
        negative_prompt: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Draw images that follow a text and other images.

        Args:
            prompt: a text for all images, or one for each.
            image: (batch, height, width, 3) or a single one: uint8, floats from 0 to 1, or
                Pillow's; or a list of them.
            strength: how far from it an image may go: from just above 0 to 1.
            negative_prompt: as for `text_to_image`.
            kwargs: as for `text_to_image`; of `num_steps` the first ones are left out.
        """
        return self.draw(prompt, negative_prompt, image=image, strength=strength, **kwargs)

    def inpaint(
        self,
        prompt: str | Sequence[str],
        image: Any,
        mask: Any,
        negative_prompt: str | Sequence[str] | None = None,
        strength: float = 1.0,
        **kwargs: Any,
    ) -> Any:
        """Draw a part of images again, best by a network that was trained for it.

        Args:
            prompt: a text for all images, or one for each.
            image: as for `image_to_image`.
            mask: (batch, height, width) or a single one: 1, True or white where the image is made
                anew.
            negative_prompt: as for `text_to_image`.
            strength: how far from what was there the image may go.
            kwargs: as for `text_to_image`.
        """
        return self.draw(
            prompt, negative_prompt, image=image, mask=mask, strength=strength, **kwargs
        )
