"""Images as arguments: paths, Pillow images, arrays."""

import io
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_EXPECTED = (
    "Expected images: paths, bytes, files, Pillow images, arrays (height, width), (height, width, "
    "channels) or (images, height, width, channels), or a list of these"
)


class RowImage:
    """The image of a row of a data set, read when it is opened.

    Args:
        read: a function from the number of a row to its image, as for `open_image`.
        row: the number.

    >>> open_image(RowImage([Image.new("RGB", (6, 4))].__getitem__, 0)).size
    (6, 4)
    """

    def __init__(self, read: Callable, row: int):
        self.read_row, self.row = read, row

    def __str__(self) -> str:
        return f"Row {self.row}"

    def image(self, name: str) -> Any:
        """Return the image.

        Args:
            name: of the image in error messages.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return self.read_row(self.row)
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{name}: row {self.row} cannot be read: {error}") from error


def is_single_image(x: Any) -> bool:
    """Return whether an argument is one image that is no array: encoded, or of Pillow's.

    Args:
        x: the argument.

    >>> is_single_image("a.jpg"), is_single_image(b"..."), is_single_image(["a.jpg"])
    (True, True, False)
    """
    own = str | os.PathLike | bytes | Image.Image | RowImage
    return isinstance(x, own) or hasattr(x, "read")


def outcome(read: Callable, *arguments: Any, **options: Any) -> Any:
    """Return what a function reads, or the error of what cannot be read.

    Args:
        read: the function.
        arguments: its arguments.
        options: its keyword arguments.

    >>> outcome(open_image, b"no image")
    ValueError(...)
    """
    try:
        return read(*arguments, **options)
    except (OSError, ValueError) as error:
        return error


def is_read(result: Any, on_error: str) -> bool:
    """Return whether `outcome` is no error; raise the error, or warn.

    Args:
        result: what `outcome` returned.
        on_error: "raise", or "skip" for a warning.
    """
    if not isinstance(result, Exception):
        return True
    if on_error == "raise":
        raise result
    warnings.warn(f"{result} It is left out.", stacklevel=3)
    return False


def list_images(images: Any) -> list[Any]:
    """Return a list of the images of an argument, without reading files.

    Args:
        images: a path, the bytes of a file, an open file, a Pillow image, an array of one or
            several images, or a list of these.

    Raises:
        TypeError: the argument is of another type.
        ValueError: there is no image, or an array has another shape.

    >>> len(list_images(np.zeros((2, 4, 6, 3))))
    2
    """
    if is_single_image(images):
        return [images]
    if isinstance(images, Mapping) or not hasattr(images, "__iter__"):
        raise TypeError(f"{_EXPECTED}, got {type(images).__name__}.")
    dimensions = len(getattr(images, "shape", (0,)))
    if dimensions in (2, 3):
        return [images]
    if dimensions not in (1, 4):
        raise ValueError(f"{_EXPECTED}, got an array of shape {tuple(images.shape)}.")
    rows = list(images)
    if not rows:
        raise ValueError(f"{_EXPECTED}, got none.")
    return rows


def open_image(image: Any, name: str = "The image") -> Image.Image:
    """Return a Pillow image, rotated by the orientation in its metadata.

    Args:
        image: a path, the bytes of a file, an open file, a Pillow image, or an array of integers
            from 0 to 255, of uint16 from 0 to 65535, or of floats from 0 to 1: (height, width), or
            (height, width, 1, 3 or 4). Grey images of these types are scaled to 8 bits.
        name: the name of the image in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a file or an array is not an image, or has other values.

    >>> open_image(np.zeros((4, 6, 3), "uint8")).size
    (6, 4)
    """
    if isinstance(image, RowImage):
        image = image.image(name)
    if is_single_image(image) and not isinstance(image, Image.Image):
        return _to_8_bits(_decoded(image, name), name)
    if isinstance(image, Image.Image):
        return _to_8_bits(ImageOps.exif_transpose(image), name)
    shape = getattr(image, "shape", None)
    if shape is None or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        got = type(image).__name__ if shape is None else f"an array of shape {tuple(shape)}"
        raise ValueError(
            f"{name} must be a path, a Pillow image, or an array (height, width) or (height, "
            f"width, 1, 3 or 4), channels last; got {got}."
        )
    return Image.fromarray(_to_uint8(np.asarray(image), name))


def readable_images(images: Sequence[Any]) -> tuple[list[int], list[str]]:
    """Open images, several at once, and return which of them can be read.

    Args:
        images: as for `open_image`.

    Returns:
        The positions of those that can be read, and the errors of the others.

    >>> readable_images([np.zeros((4, 6, 3), "uint8"), "missing.jpg"])
    ([0], ['Image 1: there is no file missing.jpg.'])
    """

    def error_of(place: int) -> str | None:
        try:
            open_image(images[place], f"Image {place}")
        except (OSError, ValueError) as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as threads:
        errors = list(threads.map(error_of, range(len(images))))
    readable = [place for place, error in enumerate(errors) if error is None]
    return readable, [error for error in errors if error is not None]


def _decoded(file: Any, name: str) -> Image.Image:
    """Return the first image of a file: its path, its bytes, or the open file."""
    path = "a file" if hasattr(file, "read") else "the bytes"
    if isinstance(file, str | os.PathLike):
        path = str(os.fspath(file))
        if re.match(r"https?://", path):
            raise ValueError(f"{name} must be a file, got the URL {path}: download it first.")
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: there is no file {path}.") from None
    except UnidentifiedImageError:
        raise ValueError(
            f"{name}: Pillow cannot read {path}: it is no image, or of a format that Pillow lacks."
        ) from None
    # Pillow's own errors have no errno.
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{name}: Pillow cannot read {path}: {error}") from error
    return image


def _to_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Return an image of 16 bits, integers or floats in grey, which Pillow would cut off at 255."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_uint8(np.asarray(image), name))
    return image


def _to_uint8(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return pixels as uint8, which Pillow resizes."""
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if 0 in pixels.shape:
        raise ValueError(f"{name} must have pixels, got the shape {pixels.shape}.")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    scale = 255 / _white_value(pixels, name)
    return np.rint(pixels.astype("float64") * scale).astype("uint8")


def _white_value(pixels: np.ndarray, name: str) -> int:
    """Return the value of white: 65535 for uint16, 255 for other integers and 1 for floats.

    Raises ValueError for other values.
    """
    white = 1
    if pixels.dtype.kind in "iu":
        white = 65535 if _is_uint16(pixels) else 255
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind not in "iuf" or not (low >= 0 and high <= white):
        is_byte = pixels.dtype.kind == "f" and low >= 0 and 1 < high <= 255
        raise ValueError(
            f"{name} must have integers from 0 to 255, uint16 from 0 to 65535, or floats from 0 to "
            f"1, got {pixels.dtype} from {low} to {high}{': divide by 255' if is_byte else ''}."
        )
    return white


def _is_uint16(pixels: np.ndarray) -> bool:
    return pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2  # of either byte order


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB, with white under transparent pixels; one in RGB as it is.

    Args:
        image: a Pillow image of any mode.
    """
    if image.mode == "La":  # with its greys multiplied by alpha, which becomes no colour at once
        image = image.convert("LA")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _to_array(images: Any, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Return an image of any form, or a batch of images, as one array."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return np.asarray(convert(open_image(images)))
    if isinstance(images, list | tuple):
        return np.stack([_to_array(image, convert) for image in images])
    return np.asarray(images)


def load_images(image: Any, count: int) -> np.ndarray:
    """Return images (count, height, width, 3) between -1 and 1.

    Args:
        image: one image, or `count` of them: arrays of uint8, of uint16 or of floats from 0 to 1,
            which are not rounded, Pillow images, or paths.
        count: the number of images.

    Raises:
        ValueError: there are more or fewer images, or they have another shape.
    """
    images = _to_array(image, to_rgb)
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or len(images) not in (1, count):
        raise ValueError(
            f"image must have the shape (height, width, 3) or ({count}, height, width, 3), got "
            f"{images.shape}."
        )
    images = images.astype("float32") / (_white_value(images, "image") / 2) - 1
    return np.repeat(images, count, axis=0) if len(images) != count else images


def load_masks(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return masks (count, height, width, 1) of 0 and 1.

    Args:
        mask: one mask, or one for each image: arrays, Pillow images, or paths; 1, True or white
            where the mask is set.
        shape: (count, height, width) of the images.

    Raises:
        ValueError: there are more or fewer masks than images, or they have another size.
    """
    masks = _to_array(mask, lambda grey: grey.convert("L"))
    masks = masks[..., 0] if masks.shape[-1:] in ((1,), (3,)) and masks.ndim > 2 else masks
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.shape[1:] != shape[1:] or masks.ndim != 3 or len(masks) not in (1, shape[0]):
        raise ValueError(f"mask must have the shape {tuple(shape[1:])}, got {masks.shape}.")
    white = 1
    if masks.dtype.kind in "iu" and masks.max() > 1:
        white = 65535 if _is_uint16(masks) else 255
    return (masks >= white / 2).astype("float32")[..., None]
