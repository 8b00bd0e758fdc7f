"""Pictures in files: `load_img`, `save_img`, and Pillow images as arrays and back."""

import functools
import io
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keraslite import backend as backends
from keraslite import config, dtypes
from keraslite.ops.image.resampling import weights
from keraslite.ops.image.resizing import in_aspect, resize
from keraslite.ops.layout import is_channels_first

if TYPE_CHECKING:
    from PIL.Image import Image

# color_mode -> the mode of Pillow and the number of channels.
COLOR_MODES = {"grayscale": ("L", 1), "rgb": ("RGB", 3), "rgba": ("RGBA", 4)}
# Modes of grey pictures that keep more than 8 bits.
_GREY = ("L", "I;16", "I")
_FILTERS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


def check_word(name: str, value: Any, words: Any) -> None:
    """Raise a ValueError unless an argument is one of some words.

    >>> check_word("color_mode", "rgb", COLOR_MODES)
    """
    if value not in words:
        raise ValueError(f"{name} must be one of {list(words)}, got {value!r}.")


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: Sequence[int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> "Image":
    """Read a picture from a file.

    Args:
        path: the path, or the bytes of a file in an `io.BytesIO`.
        color_mode: "grayscale", "rgb" or "rgba".
        target_size: (height, width) to resize to; that of the file by default.
        interpolation: a filter of Pillow: "nearest", "bilinear", "bicubic", "lanczos", "box" or
            "hamming".
        keep_aspect_ratio: whether the picture is cut around its middle first, so that nothing is
            distorted.

    Returns:
        A Pillow image.

    Raises:
        ValueError: an unknown color mode or interpolation.
        OSError: the file does not exist, or is no picture.

    >>> file = io.BytesIO()
    >>> save_img(file, np.ones((4, 6, 3)), file_format="png")
    >>> load_img(file, "grayscale", target_size=(2, 2)).size
    (2, 2)
    """
    from PIL import Image

    check_word("color_mode", color_mode, COLOR_MODES)
    if isinstance(path, io.BytesIO):
        image: Image.Image = Image.open(path)
    elif isinstance(path, str | bytes | os.PathLike):
        with open(path, "rb") as file:
            image = Image.open(io.BytesIO(file.read()))
    else:
        raise TypeError(f"path must be a path or an io.BytesIO, got {type(path).__name__}.")
    mode = COLOR_MODES[color_mode][0]
    if image.mode != mode and not (mode == "L" and image.mode in _GREY):
        image = image.convert(mode)
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    check_word("interpolation", interpolation, _FILTERS)
    resample = Image.Resampling[interpolation.upper()]
    height, width = target_size
    box = None
    if keep_aspect_ratio:
        rows = min(image.height, image.width * height // width)
        columns = min(image.width, image.height * width // height)
        top, left = (image.height - rows) // 2, (image.width - columns) // 2
        box = (left, top, left + columns, top + rows)
    return image.resize((width, height), resample, box=box)


def img_to_array(img: Any, data_format: str | None = None, dtype: Any = None) -> np.ndarray:
    """Return a Pillow image as an array.

    Args:
        img: the image.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        dtype: of the array; floatx by default.

    Returns:
        (height, width, channels), with values as in the image.

    >>> from PIL import Image
    >>> img_to_array(Image.new("L", (6, 4))).shape
    (4, 6, 1)
    """
    pixels = np.asarray(img, dtype=dtypes.standardize(dtype or config.floatx()))
    if pixels.ndim not in (2, 3):
        raise ValueError(f"img must have 2 or 3 axes, got a shape of {pixels.shape}.")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.moveaxis(pixels, -1, 0) if is_channels_first(data_format) else pixels


def array_to_img(
    x: Any, data_format: str | None = None, scale: bool = True, dtype: Any = None
) -> "Image":
    """Return an array as a Pillow image.

    Args:
        x: (height, width, channels) with 1, 3 or 4 channels.
        data_format: "channels_last" or "channels_first"; the configured one by default.
        scale: whether the least value becomes 0 and the largest 255.
        dtype: in which it is scaled; floatx by default.

    Returns:
        A Pillow image of 8 bits; grey values beyond 255 make one of 32 bits.

    Raises:
        ValueError: another shape.

    >>> array_to_img(np.ones((4, 6, 3))).size
    (6, 4)
    """
    from PIL import Image

    x = np.asarray(backends.to_numpy(x), dtype=dtypes.standardize(dtype or config.floatx()))
    if x.ndim != 3:
        raise ValueError(f"x must have rank 3, (height, width, channels), got {x.shape}.")
    x = np.moveaxis(x, 0, -1) if is_channels_first(data_format) else x
    channels = x.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(f"x must have 1, 3 or 4 channels, got {channels}.")
    if scale:
        x = x - x.min()
        largest = x.max()
        x = (x / largest if largest != 0 else x) * 255
    if channels > 1:
        return Image.fromarray(x.astype("uint8"))
    return Image.fromarray(x[..., 0].astype("int32" if x.max() > 255 else "uint8"))


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Write an array to a file as a picture.

    Args:
        path: the path, or an open file.
        x: (height, width, channels).
        data_format: "channels_last" or "channels_first"; the configured one by default.
        file_format: of the file; by default what the path ends in.
        scale: whether the least value becomes 0 and the largest 255.
        kwargs: as for `PIL.Image.Image.save`.

    >>> file = io.BytesIO()
    >>> save_img(file, np.ones((4, 6, 3)), file_format="png", optimize=True)
    >>> file.getvalue()[1:4]
    b'PNG'
    """
    if file_format is None and isinstance(path, str | os.PathLike):
        file_format = os.path.splitext(path)[1][1:].lower()
    if file_format and file_format.lower() == "jpg":
        file_format = "jpeg"
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warnings.warn("JPEG has no transparency: the picture is written as RGB.", stacklevel=2)
        image = image.convert("RGB")
    image.save(path, format=file_format, **kwargs)


def smart_resize(
    x: Any,
    size: Sequence[int],
    interpolation: str = "bilinear",
    data_format: str = "channels_last",
    **kwargs: Any,
) -> Any:
    """Resize images without distortion: the largest part around their middle of the right aspect.

    Args:
        x: (height, width, channels), or a batch of them; an array or a tensor.
        size: (height, width) of the result.
        interpolation: one of `INTERPOLATIONS`.
        data_format: "channels_last" or "channels_first".
        kwargs: `backend_module`, taken for Keras's sake and not used.

    Returns:
        An array for an array, else a tensor.

    Raises:
        ValueError: an argument is not valid.

    >>> smart_resize(np.arange(8.0).reshape(2, 4, 1), (2, 2))[..., 0].tolist()
    [[1.0, 2.0], [5.0, 6.0]]
    """
    if unknown := kwargs.keys() - {"backend_module"}:
        raise TypeError(f"smart_resize() got unexpected arguments: {sorted(unknown)}.")
    # Arrays stay on the host.
    with backends.backend_scope("numpy" if isinstance(x, np.ndarray) else backends.backend()):
        return resize(
            x, size, interpolation, crop_to_aspect_ratio=True, data_format=data_format
        )  # fmt: skip


@functools.lru_cache(256)
def _taps(before: int, after: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the elements that each element of a resized axis is made of, and their weights."""
    table = weights(None, before, after, after / before, 0.0, interpolation, antialias=False)
    used = table != 0
    count = used.sum(1).max()
    index = np.minimum(used.argmax(1), before - count)[:, None] + np.arange(count)
    return index, np.take_along_axis(table, index, 1)


def resized(
    pixels: np.ndarray,
    size: Sequence[int],
    interpolation: str = "bilinear",
    crop: bool = False,
    pad: bool = False,
) -> np.ndarray:
    """Return a picture of another size: the same numbers as `ops.image.resize` on numpy, faster.

    Args:
        pixels: (height, width, channels) of float32.
        size: (height, width).
        interpolation: one of `INTERPOLATIONS`.
        crop: whether the picture is cut around its middle first, so that nothing is distorted.
        pad: whether it is padded by zeros first instead.

    >>> resized(np.float32([[[0.0], [2.0]]]), (1, 4))[0, :, 0].tolist()
    [0.0, 0.5, 1.5, 2.0]
    """
    if crop or pad:
        with backends.backend_scope("numpy"):
            pixels = in_aspect(pixels[None], tuple(size), pad, 0.0)[0]
    for axis, after in enumerate(size):
        before = pixels.shape[axis]
        if before == after:
            continue
        if interpolation == "nearest":
            at = np.minimum((np.arange(after) + 0.5) * (before / after), before - 1)
            pixels = np.take(pixels, at.astype("int32"), axis)
            continue
        index, weight = _taps(before, after, interpolation)
        shape = (-1, 1, 1) if axis == 0 else (-1, 1)
        taps = range(index.shape[1])
        parts = (np.take(pixels, index[:, i], axis) * weight[:, i].reshape(shape) for i in taps)
        pixels = functools.reduce(np.add, parts)
    return pixels
