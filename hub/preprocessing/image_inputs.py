"""Images as arguments: paths, images of Pillow's, arrays."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_EXPECTED = (
    "Expected images: paths, images of Pillow's, or arrays (height, width), (height, width, "
    "channels) or (images, height, width, channels), or a list of these"
)


def listed(images: Any) -> list[Any]:
    """Return the images that a value holds, one by one, not yet read.

    Args:
        images: a path, an image of Pillow's, an array of one or of several, or any number of these.

    Raises:
        TypeError: it is none of these.
        ValueError: there is no image, or an array has no shape of images.

    >>> len(listed(np.zeros((2, 4, 6, 3))))
    2
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, Mapping | bytes) or not hasattr(images, "__iter__"):
        raise TypeError(f"{_EXPECTED}, got {type(images).__name__}.")
    dimensions = len(getattr(images, "shape", (0,)))
    if dimensions in (2, 3):
        return [images]
    if dimensions not in (1, 4):
        raise ValueError(f"{_EXPECTED}, got an array of shape {tuple(images.shape)}.")
    rows = list(images)
    if not rows:
        raise ValueError("There are no images.")
    return rows


def opened(image: Any, name: str = "The image") -> Image.Image:
    """Return an image of Pillow's, upright if its file says how a camera was turned.

    Args:
        image: a path, an image of Pillow's, or an array of integers from 0 to 255 or floats from 0
            to 1: (height, width), or (height, width, 1, 3 or 4).
        name: what errors call it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file or an array is no image.

    >>> opened(np.zeros((4, 6, 3), "uint8")).size
    (6, 4)
    """
    if isinstance(image, str | os.PathLike):
        where = os.fspath(image)
        if re.match(r"https?://", str(where)):
            raise ValueError(f"{name} is an address, {where}: download it, and give the file.")
        try:
            with Image.open(where) as file:
                image = ImageOps.exif_transpose(file)
                image.load()
        except FileNotFoundError:
            raise FileNotFoundError(f"{name}: there is no file {where}.") from None
        except (OSError, SyntaxError) as error:  # Pillow's own have no number
            if getattr(error, "errno", None) is not None:
                raise
            raise ValueError(
                f"{name}: {where} is no image that Pillow can read: {error}"
            ) from error
        return image
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image)
    shape = getattr(image, "shape", None)
    if shape is None or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        got = type(image).__name__ if shape is None else f"an array of shape {tuple(shape)}"
        raise ValueError(
            f"{name} is {got}; expected a path, an image of Pillow's, or an array (height, width) "
            "or (height, width, 1, 3 or 4): channels come last."
        )
    return Image.fromarray(_bytes(np.asarray(image), name))


def _bytes(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return integers from 0 to 255, which is what Pillow resizes."""
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if 0 in pixels.shape:
        raise ValueError(f"{name} has the shape {pixels.shape}: there are no pixels.")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    scale = 255 / _white(pixels, name)
    return np.rint(pixels.astype("float64") * scale).astype("uint8")


def _white(pixels: np.ndarray, name: str) -> int:
    """Return the value of white: 255 for integers, 1 for floats; other numbers are refused."""
    whole = pixels.dtype.kind in "iu"
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind not in "iuf" or not (low >= 0 and high <= (255 if whole else 1)):
        raise ValueError(
            f"{name} has {pixels.dtype} from {low} to {high}; expected integers from 0 to 255, or "
            "floats from 0 to 1."
        )
    return 255 if whole else 1


def red_green_blue(image: Image.Image) -> Image.Image:
    """Return an image in RGB, laid on white where it is transparent.

    Args:
        image: of any mode.
    """
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _arrays(images: Any, converted: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Return images of any form, or a batch of them, as one array."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return np.asarray(converted(opened(images)))
    if isinstance(images, list | tuple):
        return np.stack([_arrays(image, converted) for image in images])
    return np.asarray(images)


def pixels_of(image: Any, count: int) -> np.ndarray:
    """Return images (count, height, width, 3) between -1 and 1.

    Args:
        image: one for all or one for each: arrays of uint8 or of floats from 0 to 1, which are not
            rounded, images of Pillow's, or paths.
        count: the number of images.

    Raises:
        ValueError: they are of another number, or have another shape.
    """
    images = _arrays(image, red_green_blue)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or len(images) not in (1, count):
        raise ValueError(
            f"image has the shape {images.shape}, expected (height, width, 3) or ({count}, height, "
            "width, 3)."
        )
    images = images.astype("float32") / (_white(images, "image") / 2) - 1
    return np.repeat(images, count, axis=0) if len(images) != count else images


def masks_of(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return masks (count, height, width, 1) of 0 and 1.

    Args:
        mask: one for all or one for each: arrays, images of Pillow's, or paths; 1, True or white.
        shape: (count, height, width) of the images.

    Raises:
        ValueError: they are of another number, or of another size than the images.
    """
    masks = _arrays(mask, lambda grey: grey.convert("L"))
    masks = masks[..., 0] if masks.shape[-1:] in ((1,), (3,)) and masks.ndim > 2 else masks
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.shape[1:] != shape[1:] or masks.ndim != 3 or len(masks) not in (1, shape[0]):
        raise ValueError(f"mask has the shape {masks.shape}, expected {tuple(shape[1:])}.")
    bytes_ = masks.dtype.kind in "iu" and masks.max() > 1
    return (masks >= (127.5 if bytes_ else 0.5)).astype("float32")[..., None]
