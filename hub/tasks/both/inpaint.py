"""Inpaint: images of which a part is drawn again, with the interface of KerasHub."""

from hub.tasks.both.text_to_image import ImageGenerator


class Inpaint(ImageGenerator):
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
    parts = {"images": "image", "masks": "mask"}
