"""Pictures in a box of a detector's size, with grey borders, and their boxes there and back."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

import keraslite as keras
from hub.files import write_json
from hub.preprocessing.image_inputs import list_images, open_image, to_rgb

FILE = "preprocessor_config.json"
_TYPE = "DetectionPreprocessor"
GREY = 114  # of the borders that published detectors were trained with


class Letterbox(NamedTuple):
    """Where a picture lies in the input of a detector.

    Args:
        scale: the size in the input by that of the picture, along x and along y; they differ by
            the rounding to whole pixels.
        left: pixels of border on the left.
        top: pixels of border at the top.
        height: of the picture.
        width: of the picture.

    >>> place = Letterbox((0.5, 0.5), left=0, top=8, height=32, width=64)
    >>> place.to_input([[0, 0, 64, 32]]).tolist()
    [[0.0, 8.0, 32.0, 24.0]]
    >>> place.to_picture([[-4, 8, 32, 20]]).tolist()
    [[0.0, 0.0, 64.0, 24.0]]
    """

    scale: tuple[float, float]
    left: int
    top: int
    height: int
    width: int

    def to_input(self, boxes: Any) -> np.ndarray:
        """Return boxes of the picture in pixels of the input.

        Args:
            boxes: (..., 4) as "xyxy".
        """
        scale, offset = self._columns()
        return np.asarray(boxes, "float32") * scale + offset

    def to_picture(self, boxes: Any) -> np.ndarray:
        """Return boxes of the input in pixels of the picture, clipped to it.

        Args:
            boxes: (..., 4) as "xyxy".
        """
        scale, offset = self._columns()
        moved = (np.asarray(boxes, "float32") - offset) / scale
        return clip_boxes(moved, self.height, self.width)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.scale * 2, "float32"), np.array((self.left, self.top) * 2, "float32")


def clip_boxes(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """Return boxes (..., 4) as "xyxy" cut off at the edges of a picture.

    >>> clip_boxes(np.array([[-1.0, 2.0, 9.0, 4.0]]), height=3, width=8).tolist()
    [[0.0, 2.0, 8.0, 3.0]]
    """
    return np.clip(boxes, 0, np.array((width, height) * 2, boxes.dtype))


def fitted_size(
    height: int, width: int, box: tuple[int, int], upscale: bool = True
) -> tuple[int, int]:
    """Return the height and width of a picture that is resized to fit into a box.

    Args:
        height: of the picture.
        width: of the picture.
        box: the height and width of the box.
        upscale: whether smaller pictures are enlarged.

    >>> fitted_size(480, 640, (320, 320))
    (240, 320)
    """
    scale = min(box[0] / height, box[1] / width)
    scale = scale if upscale else min(scale, 1.0)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def resize_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture in another size, interpolated linearly.

    One that shrinks by a factor of 2 or more is first averaged over whole blocks of pixels, which
    takes a fifth of the time.

    Args:
        picture: the picture.
        size: the height and width of the result.

    >>> resize_picture(Image.new("RGB", (64, 40)), (10, 16)).size
    (16, 10)
    """
    if size == (picture.height, picture.width):
        return picture
    return picture.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=1.0)


def multiple_of(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return a height and width rounded up to multiples of a stride.

    >>> multiple_of((240, 320), 32)
    (256, 320)
    """
    return -(-size[0] // stride) * stride, -(-size[1] // stride) * stride


def letterbox(
    picture: Image.Image,
    box: tuple[int, int] = (640, 640),
    stride: int | None = None,
    upscale: bool = True,
    fill: int = GREY,
    size: tuple[int, int] | None = None,
) -> tuple[np.ndarray, Letterbox]:
    """Resize a picture into a box without changing its aspect, and fill up the borders.

    Args:
        picture: in RGB.
        box: the height and width that the picture must fit into.
        stride: None for an input of the size of the box; a number for the least multiple of it
            that holds the resized picture.
        upscale: whether smaller pictures are enlarged.
        fill: the value of the borders, from 0 to 255.
        size: the height and width of the input, in place of those that follow from `stride`.

    Returns:
        Pixels (height, width, 3) of uint8, and where the picture lies.

    >>> pixels, place = letterbox(Image.new("RGB", (64, 40)), (32, 32), stride=16)
    >>> pixels.shape, place.top, pixels[:, 0, 0].tolist()[:7]
    ((32, 32, 3), 6, [114, 114, 114, 114, 114, 114, 0])
    """
    inner = fitted_size(picture.height, picture.width, box, upscale)
    if size is None:
        size = box if stride is None else multiple_of(inner, stride)
    resized = resize_picture(picture, inner)
    # An odd border is wider at the bottom and on the right.
    top, left = ((whole - part) // 2 for whole, part in zip(size, inner, strict=True))
    pixels = np.full((*size, 3), fill, "uint8")
    pixels[top : top + inner[0], left : left + inner[1]] = np.asarray(resized)
    scale = inner[1] / picture.width, inner[0] / picture.height
    return pixels, Letterbox(scale, left, top, picture.height, picture.width)


@keras.saving.register_keras_serializable("hub")
class DetectionPreprocessor:
    """A preprocessor from pictures of any sizes to the inputs of a detector.

    Pictures keep their aspect: they are resized to fit into a box, and borders are grey.

    Args:
        size: the height and width of the box, or one number for both.
        stride: of the network: heights and widths of inputs are multiples of it.
        rectangular: whether borders are as narrow as the stride allows: the inputs of a batch get
            the least size that holds all its pictures. Otherwise all have the size of the box.
        upscale: whether pictures that are smaller than the box are enlarged.
        rescale_factor: what pixels from 0 to 255 are multiplied by.
        pad_value: of the borders, from 0 to 255.

    Raises:
        ValueError: an argument has a value that is not valid.

    >>> preprocessor = DetectionPreprocessor(64)
    >>> inputs, places = preprocessor([np.ones((30, 40, 3)), np.zeros((80, 50, 3), "uint8")])
    >>> inputs.shape, float(inputs.max()), places[0].top, places[1].left
    ((2, 64, 64, 3), 1.0, 8, 12)
    """

    def __init__(
        self,
        size: int | Sequence[int] | Mapping[str, int] = 640,
        stride: int = 32,
        rectangular: bool = False,
        upscale: bool = True,
        rescale_factor: float = 1 / 255,
        pad_value: int = GREY,
    ):
        if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
            raise ValueError(f"stride must be a positive int, got {stride!r}.")
        if isinstance(pad_value, bool) or not 0 <= pad_value <= 255:
            raise ValueError(f"pad_value must be a number from 0 to 255, got {pad_value!r}.")
        self.stride, self.rectangular, self.upscale = stride, rectangular, upscale
        self.rescale_factor, self.pad_value = float(rescale_factor), pad_value
        self.size = _read_size(size, stride)

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """Height and width of the inputs; None where they depend on the pictures."""
        return (None, None) if self.rectangular else self.size

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_files(cls, files: Any) -> Self:
        """Return the preprocessor of a checkpoint; that of no arguments if it has no settings.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            ValueError: as of `from_config`.
        """
        return cls.from_config(files.json(FILE)) if FILE in files else cls()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the preprocessor of a preprocessor_config.json.

        Args:
            config: its content.

        Raises:
            ValueError: it is of another preprocessor, or has a setting that is not supported.
        """
        config = dict(config)
        name = config.pop("image_processor_type", _TYPE)
        if name != _TYPE:
            raise ValueError(f"image_processor_type must be {_TYPE!r}, got {name!r}.")
        supported = cls().get_config()
        if unknown := sorted(set(config) - set(supported)):
            raise ValueError(f"Settings must be among {sorted(supported)}, got {unknown}.")
        return cls(**config)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` reads."""
        return {
            "size": dict(zip(("height", "width"), self.size, strict=True)),
            "stride": self.stride, "rectangular": self.rectangular, "upscale": self.upscale,
            "rescale_factor": self.rescale_factor, "pad_value": self.pad_value,
        }  # fmt: skip

    def save(self, folder: Any) -> None:
        """Write a preprocessor_config.json.

        Args:
            folder: an existing folder.
        """
        content = {**self.get_config(), "image_processor_type": _TYPE}
        write_json(Path(os.fspath(folder)) / FILE, content)

    # -- pictures -----------------------------------------------------------------------------

    def __call__(self, images: Any) -> tuple[np.ndarray, list[Letterbox]]:
        """Return inputs (pictures, height, width, 3) of float32, and where each picture lies.

        Args:
            images: pictures, as for `hub.ImagePreprocessor`: a path, a Pillow image, an array, or a
                list of these, of any sizes.

        Raises:
            TypeError: the images are of another type.
            FileNotFoundError: a file does not exist.
            ValueError: a file or an array is not an image.
        """
        pictures = [
            to_rgb(open_image(image, f"Image {i}")) for i, image in enumerate(list_images(images))
        ]
        size = self.input_size([(picture.height, picture.width) for picture in pictures])
        rows = [self.placed(picture, size) for picture in pictures]
        return self.values(np.stack([pixels for pixels, _ in rows])), [place for _, place in rows]

    def input_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the height and width of the inputs for pictures of some sizes.

        Args:
            sizes: height and width of each picture.
        """
        if not self.rectangular:
            return self.size
        inner = [fitted_size(*size, self.size, self.upscale) for size in sizes]
        heights, widths = zip(*inner, strict=True)
        return multiple_of((max(heights), max(widths)), self.stride)

    def placed(
        self, picture: Image.Image, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, Letterbox]:
        """Return pixels (height, width, 3) of uint8 of an input, and where the picture lies.

        Args:
            picture: in RGB.
            size: the height and width of the input; those for the picture alone by default.
        """
        size = size or self.input_size([(picture.height, picture.width)])
        return letterbox(picture, self.size, upscale=self.upscale, fill=self.pad_value, size=size)

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Return the inputs of the network for pixels that have its size already.

        Args:
            pixels: (..., height, width, 3) of uint8, in RGB.
        """
        return np.multiply(pixels, np.float32(self.rescale_factor), dtype="float32")


def _read_size(value: Any, stride: int) -> tuple[int, int]:
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        value = value["height"], value["width"]
    sides = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 or n % stride for n in sides)
    ):
        raise ValueError(
            f"size must be a multiple of the stride, {stride}, or a height and a width that are, "
            f"got {value!r}."
        )
    return sides[0], sides[1]
