"""Pictures and masks as inputs of a promptable segmenter, and coordinates there and back.

A picture is resized so that its longest side has the size of the input, normalized, and padded
with zeros at the bottom and on the right (Kirillov et al., "Segment Anything", 2023).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

import keraslite as keras
from hub.files import write_json
from hub.preprocessing.image import FILE, ImagePreprocessor
from hub.preprocessing.image_inputs import list_images, open_image, to_rgb

_TYPE = "SamImageProcessor"
_SWITCHES = ("do_resize", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb")
# What a file may have beside the settings, all of which change nothing.
_OTHERS = {"image_processor_type", "feature_extractor_type", "processor_class", "data_format",
           "input_data_format", "return_tensors", "device", "disable_grouping"}  # fmt: skip


class ImageGeometry(NamedTuple):
    """The size of a picture, and that of what is left of it in the input of a segmenter.

    Coordinates are scaled as the authors' `ResizeLongestSide.apply_coords` does, which published
    weights were trained with: x * resized width / width. The prompt encoder then adds half a pixel.
    For a point at the center of a pixel i of the picture, given as i, that is i * s + 0.5, where
    (i + 0.5) * s would be exact: off by (1 - s) / 2 pixels of the input, which is not corrected.

    Args:
        size: height and width of the picture.
        resized: height and width of the resized picture.
        padded: height and width of the input.

    >>> geometry = ImageGeometry.of((600, 800))
    >>> geometry.resized, geometry.to_input([[400, 300]]).tolist()
    ((768, 1024), [[512.0, 384.0]])
    >>> geometry.to_picture([[0, 0, 512, 384]]).tolist()
    [[0.0, 0.0, 400.0, 300.0]]
    """

    size: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, size: Sequence[int], longest_side: int = 1024) -> "ImageGeometry":
        """Return the geometry of a picture in a square input.

        Args:
            size: height and width of the picture.
            longest_side: of the input.
        """
        height, width = (int(side) for side in size)
        resized = resized_size(height, width, longest_side)
        return cls((height, width), resized, (longest_side, longest_side))

    def to_input(self, coordinates: Any) -> np.ndarray:
        """Return points or boxes of the picture in pixels of the input, of float32.

        Args:
            coordinates: (..., 2) points as x and y, or (..., 4) boxes as "xyxy".
        """
        return self._scaled(coordinates, self.resized, self.size)

    def to_picture(self, coordinates: Any) -> np.ndarray:
        """Return points or boxes of the input in pixels of the picture, of float32.

        Args:
            coordinates: as for `to_input`.
        """
        return self._scaled(coordinates, self.size, self.resized)

    def _scaled(self, coordinates: Any, new: tuple[int, int], old: tuple[int, int]) -> np.ndarray:
        values = np.asarray(coordinates, "float64")
        if values.shape[-1:] not in ((2,), (4,)):
            raise ValueError(
                "Coordinates must be points (..., 2) or boxes (..., 4), got the shape "
                f"{values.shape}."
            )
        scale = np.array([new[1] / old[1], new[0] / old[0]])
        return (values * np.tile(scale, values.shape[-1] // 2)).astype("float32")


def resized_size(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Return the height and width of a picture whose longest side is resized; halves round up.

    Args:
        height: of the picture.
        width: likewise.
        longest_side: the size of the longest side of the result.

    Raises:
        ValueError: the other side would have no pixel.

    >>> resized_size(427, 640, 1024)
    (683, 1024)
    """
    scale = longest_side / max(height, width)
    new = int(height * scale + 0.5), int(width * scale + 0.5)
    if not min(new):
        raise ValueError(
            f"A picture of {height} x {width} pixels cannot be resized to a longest side of "
            f"{longest_side}, as nothing is left of the other one: crop it."
        )
    return new


@keras.saving.register_keras_serializable("hub")
class SegmentationPreprocessor:
    """A preprocessor from pictures of any sizes to the inputs of a promptable segmenter.

    Args:
        size: the longest side of a resized picture, and the height and width of the input.
        mask_size: likewise of the masks that the network reads and predicts.
        resample: a filter of Pillow's, by its number.
        rescale_factor: what pixels from 0 to 255 are multiplied by.
        image_mean: what is then subtracted, for each channel.
        image_std: what it is then divided by.

    Raises:
        ValueError: an argument has a value that is not valid.

    >>> preprocessor = SegmentationPreprocessor(size=64, mask_size=16)
    >>> pixels, geometries = preprocessor([np.ones((30, 40, 3)), np.zeros((80, 50, 3), "uint8")])
    >>> pixels.shape, geometries[0].resized, float(pixels[0, 48:].max())
    ((2, 64, 64, 3), (48, 64), 0.0)
    """

    def __init__(
        self,
        size: int = 1024,
        mask_size: int = 256,
        resample: int = Image.Resampling.BILINEAR,
        rescale_factor: float = 1 / 255,
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
    ):
        for name, side in (("size", size), ("mask_size", mask_size)):
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise ValueError(f"{name} must be a positive int, got {side!r}.")
        self.size, self.mask_size = size, mask_size
        # Filters and the normalization are those of a classifier's pixels.
        self._pixels = ImagePreprocessor(
            "ViT", do_resize=False, resample=resample, rescale_factor=rescale_factor,
            image_mean=list(image_mean), image_std=list(image_std),
        )  # fmt: skip

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the inputs."""
        return self.size, self.size

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_files(cls, files: Any) -> Self:
        """Return the preprocessor of a checkpoint; the published one where it has no settings.

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
            config: its content, as transformers writes it.

        Raises:
            ValueError: it is of another processor, or has a setting that is not supported.

        >>> SegmentationPreprocessor.from_config({"size": {"longest_edge": 512}}).size
        512
        """
        name = str(config.get("image_processor_type") or _TYPE)
        if name.removesuffix("Fast").removesuffix("Pil") != _TYPE:
            raise ValueError(f"image_processor_type must be {_TYPE!r}, got {name!r}.")
        values = {k: v for k, v in config.items() if v is not None and k not in _OTHERS}
        off = sorted(name for name in _SWITCHES if not values.pop(name, True))
        if off:
            raise ValueError(f"{off} of a {FILE} must be true: the network expects these steps.")
        if values.pop("do_center_crop", False):
            raise ValueError(f"do_center_crop of a {FILE} must be false, got true.")
        values.pop("crop_size", None)
        for key in ("size", "mask_size"):
            if key in values:
                values[key] = _side(key, values[key], "longest_edge")
        paddings = {key: values.pop(key, None) for key in ("pad_size", "mask_pad_size")}
        supported = {"size", "mask_size", "resample", "rescale_factor", "image_mean", "image_std"}
        if unknown := sorted(set(values) - supported):
            raise ValueError(f"{unknown} of a {FILE} are not supported.")
        out = cls(**values)
        for (key, value), side in zip(paddings.items(), (out.size, out.mask_size), strict=True):
            if value is not None and _side(key, value, "height", "width") != side:
                raise ValueError(
                    f"{key} must be the longest side, {side}, got {value!r}: the input of the "
                    "network is a square."
                )
        return out

    def get_config(self) -> dict[str, Any]:
        """Return the content of a preprocessor_config.json, as transformers reads it."""
        settings = self._pixels.settings
        side, mask_side = self.size, self.mask_size
        return {
            "image_processor_type": _TYPE, "processor_class": "SamProcessor",
            **dict.fromkeys(_SWITCHES, True),
            "size": {"longest_edge": side}, "pad_size": {"height": side, "width": side},
            "mask_size": {"longest_edge": mask_side},
            "mask_pad_size": {"height": mask_side, "width": mask_side},
            **{
                key: settings[key]
                for key in ("resample", "rescale_factor", "image_mean", "image_std")
            },
        }  # fmt: skip

    def save(self, folder: Any) -> None:
        """Write a preprocessor_config.json.

        Args:
            folder: an existing folder.
        """
        write_json(Path(os.fspath(folder)) / FILE, self.get_config())

    # -- pictures -----------------------------------------------------------------------------

    def __call__(self, images: Any) -> tuple[np.ndarray, list[ImageGeometry]]:
        """Return inputs (pictures, size, size, 3) of float32, and the geometry of each picture.

        Args:
            images: pictures, as for `hub.ImagePreprocessor`: a path, a Pillow image, an array, or a
                list of these, of any sizes.

        Raises:
            TypeError: the images are of another type.
            FileNotFoundError: a file does not exist.
            ValueError: a file or an array is not an image.
        """
        pictures = list_images(images)
        pixels = np.zeros((len(pictures), self.size, self.size, 3), "float32")
        geometries = []
        for i, image in enumerate(pictures):
            picture = to_rgb(open_image(image, f"Image {i}"))
            geometry = self.geometry((picture.height, picture.width))
            height, width = geometry.resized
            resized = picture.resize((width, height), self._pixels.settings["resample"])
            pixels[i, :height, :width] = self._pixels.values(np.asarray(resized))
            geometries.append(geometry)
        return pixels, geometries

    def geometry(self, size: Sequence[int]) -> ImageGeometry:
        """Return the geometry of a picture.

        Args:
            size: its height and width.
        """
        return ImageGeometry.of(size, self.size)

    def targets(self, masks: Any) -> np.ndarray:
        """Return masks of pictures in the size of the network's own, (masks, size, size) of bool.

        They are resized to the nearest pixel, as transformers does, and padded with background.

        Args:
            masks: (masks, height, width) of one picture, or a list of (height, width) of several.

        >>> masks = np.arange(8) < 4  # the left half
        >>> SegmentationPreprocessor(16, mask_size=4).targets(masks[None, None].repeat(4, 1))[0]
        array([[ True,  True, False, False],
               [ True,  True, False, False],
               [False, False, False, False],
               [False, False, False, False]])
        """
        out = np.zeros((len(masks), self.mask_size, self.mask_size), bool)
        for row, mask in zip(out, masks, strict=True):
            pixels = np.asarray(mask).astype(bool)
            if pixels.ndim != 2:
                raise ValueError(f"A mask must be (height, width), got the shape {pixels.shape}.")
            height, width = resized_size(*pixels.shape, self.mask_size)
            picture = Image.fromarray(pixels.astype("uint8"))
            row[:height, :width] = picture.resize((width, height), Image.Resampling.NEAREST)
        return out


def _side(name: str, value: Any, *keys: str) -> int:
    """Return a size of a file that is one number, or a dict of keys with the same one."""
    sides = {value.get(key) for key in keys} if isinstance(value, Mapping) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        form = "{" + ", ".join(f"'{key}': n" for key in keys) + "}"
        raise ValueError(f"{name} must be {form}, got {value!r}.")
    return side
