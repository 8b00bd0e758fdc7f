"""ImageToImage: images from a text and another image, with the interface of KerasHub."""

from hub.tasks.both.text_to_image import ImageGenerator


class ImageToImage(ImageGenerator):
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
    parts = {"images": "image"}
    default_strength = 0.8
