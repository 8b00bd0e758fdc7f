"""Preprocessing of images as a checkpoint says, in numpy and Pillow, without a framework.

How they are resized, cut and normalised belongs to the weights: it is read from the
preprocessor_config.json beside them, whose keys are the names of our settings.
"""

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hub.files import write_json
from hub.preprocessing.image_inputs import listed, opened, red_green_blue
from hub.preprocessing.text import TextPreprocessor

FILE = "preprocessor_config.json"
_WHOLE = "processor_config.json"  # newer files hold the settings for texts and others too
# What each kind of processor does where its file does not say. `square` is no key of the files: it
# says whether a size that is one number is that of both edges, or of the shorter one.
_USUAL = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "rescale_factor": 1 / 255,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "CLIP": {
        **_USUAL, "size": 224, "square": False, "do_center_crop": True, "crop_size": 224,
        "resample": 3, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "ViT": {
        **_USUAL, "size": 224, "square": True, "do_center_crop": False, "crop_size": 224,
        "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    },
}  # fmt: skip
_SIZES = ({"shortest_edge"}, {"height", "width"})


class ImagePreprocessor:
    """Images to the pixels that a model takes.

    Args:
        kind: whose defaults hold: "CLIP" or "ViT".
        settings: what differs from them, by the keys of a preprocessor_config.json: `do_resize`,
            `size` (a number, `{"shortest_edge": n}` or `{"height": n, "width": n}`), `resample` (a
            filter of Pillow's, by its number), `do_center_crop`, `crop_size`, `do_rescale`,
            `rescale_factor`, `do_normalize`, `image_mean`, `image_std`, `do_convert_rgb`.

    Raises:
        ValueError: a setting is unknown, or has a value that is none.

    >>> images = ImagePreprocessor("ViT", size=8)
    >>> pixels = images([np.zeros((5, 9, 3), "uint8"), np.ones((6, 6))])
    >>> pixels.shape, float(pixels.min()), float(pixels.max())
    ((2, 8, 8, 3), -1.0, 1.0)
    """

    def __init__(self, kind: str = "CLIP", **settings: Any):
        if kind not in KINDS:
            raise ValueError(f"There are no images of the kind {kind!r}; there are: {list(KINDS)}.")
        defaults = KINDS[kind]
        unknown = sorted(set(settings) - (set(defaults) - {"square"}))
        if unknown:
            supported = sorted(set(defaults) - {"square"})
            raise ValueError(f"Unknown settings {unknown}; there are: {supported}.")
        self.kind = kind
        # A null in a file is what its writer took for the default.
        values = {**defaults, **{k: v for k, v in settings.items() if v is not None}}
        square = values.pop("square")
        values["size"] = _sized("size", values["size"], square)
        values["crop_size"] = _sized("crop_size", values["crop_size"], True)
        if set(values["crop_size"]) != {"height", "width"}:
            raise ValueError(f"crop_size={values['crop_size']} must have a height and a width.")
        try:
            values["resample"] = int(Image.Resampling(values["resample"]))
        except ValueError as error:
            filters = {f.name.lower(): int(f) for f in Image.Resampling}
            raise ValueError(
                f"resample={values['resample']!r} is no filter; there are: {filters}."
            ) from error
        self.settings: dict[str, Any] = values
        self._values = self._table()

    def _table(self) -> np.ndarray:
        """Return the pixel (256, 3) that each value of each channel becomes."""
        settings = self.settings
        values = np.arange(256, dtype="float64")[:, None]
        values = (values * (settings["rescale_factor"] if settings["do_rescale"] else 1)).astype(
            "float32"
        )
        if settings["do_normalize"]:
            mean, std = (
                np.broadcast_to(np.asarray(settings[key], "float32"), (3,))
                for key in ("image_mean", "image_std")
            )
            values = (values - mean) / std
        return np.ascontiguousarray(np.broadcast_to(values, (256, 3)))

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ImagePreprocessor":
        """Return the preprocessor of a preprocessor_config.json.

        Args:
            config: its content.

        Raises:
            ValueError: it asks for something that is not supported.
        """
        processor = (
            config.get("image_processor_type") or config.get("feature_extractor_type") or "CLIP"
        )
        kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(processor))
        if kind not in KINDS:
            raise ValueError(
                f"Images for a {processor} are not supported; supported: {list(KINDS)}."
            )
        keys = set(KINDS[kind]) - {"square"}
        others = sorted(k for k, v in config.items() if k.startswith("do_") and v and k not in keys)
        if others:
            raise ValueError(f"{others} of a preprocessor_config.json are not supported.")
        return cls(kind, **{key: config[key] for key in keys if key in config})

    @classmethod
    def from_files(cls, files: Any) -> "ImagePreprocessor":
        """Return the preprocessor of a checkpoint.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: the checkpoint does not say how images are prepared.
            ValueError: as of `from_config`.
        """
        if FILE not in files and _WHOLE in files:
            return cls.from_config(files.json(_WHOLE).get("image_processor") or {})
        return cls.from_config(files.json(FILE))

    def to_config(self) -> dict[str, Any]:
        """Return the content of a preprocessor_config.json, as transformers reads it."""
        name = f"{self.kind}ImageProcessor"
        extractor = name.replace("ImageProcessor", "FeatureExtractor")
        return {
            **copy.deepcopy(self.settings),
            "image_processor_type": name, "feature_extractor_type": extractor,
        }  # fmt: skip

    def save(self, folder: Any) -> None:
        """Write a preprocessor_config.json.

        Args:
            folder: where; it must be there.
        """
        write_json(Path(os.fspath(folder)) / FILE, self.to_config())

    # -- images -------------------------------------------------------------------------------

    def __call__(self, images: Any) -> np.ndarray:
        """Return pixels (images, height, width, 3) of float32.

        Args:
            images: a path, an image of Pillow's, or an array (height, width), (height, width, 1, 3
                or 4), or (images, height, width, channels) of integers from 0 to 255 or floats from
                0 to 1; or any number of these, of any sizes. Grey ones, those with a palette and
                those with transparency, which is laid on white, become red, green and blue.

        Raises:
            TypeError: it is none of these.
            FileNotFoundError: there is no such file.
            ValueError: a file or an array is no image, or images have different sizes in the end.
        """
        rows = [self.pixels(image, f"Image {i}") for i, image in enumerate(listed(images))]
        sizes = sorted({pixels.shape[:2] for pixels in rows})
        if len(sizes) > 1:
            raise ValueError(
                f"Images of the sizes {sizes} make no batch: resize them to a height and a width, "
                "crop them, or give them one by one."
            )
        return np.stack(rows)

    def pixels(self, image: Any, name: str = "The image") -> np.ndarray:
        """Return pixels (height, width, 3) of one image.

        Args:
            image: a path, an image of Pillow's, or an array, as for a call.
            name: what errors call it.
        """
        image, settings = opened(image, name), self.settings
        if settings["do_convert_rgb"]:
            image = red_green_blue(image)
        elif image.mode != "RGB":
            raise ValueError(
                f"{name} is of the mode {image.mode!r}, the model takes RGB alone; convert it, or "
                "set do_convert_rgb."
            )
        if settings["do_resize"]:
            height, width = _resized(image.height, image.width, settings["size"])
            image = image.resize((width, height), settings["resample"])
        pixels = np.asarray(image)
        if settings["do_center_crop"]:
            pixels = _cut(pixels, settings["crop_size"]["height"], settings["crop_size"]["width"])
        return np.stack([self._values[pixels[..., c], c] for c in range(3)], axis=-1)


def _sized(name: str, value: Any, square: bool) -> dict[str, int]:
    """Return a size, in any form that files have, as a dict of one of `_SIZES`."""
    if isinstance(value, int | float):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    if isinstance(value, Mapping):
        value = {k: v for k, v in value.items() if v is not None}
        whole = all(isinstance(v, int | float) and int(v) == v > 0 for v in value.values())
        if set(value) in _SIZES and whole:
            return {k: int(v) for k, v in value.items()}
    raise ValueError(
        f"{name}={value!r} is no size; supported: a whole number, {{'shortest_edge': n}}, and "
        "{'height': n, 'width': n}."
    )


def _resized(height: int, width: int, size: dict[str, int]) -> tuple[int, int]:
    """Return height and width after resizing; the longer edge is rounded down."""
    if "height" in size:
        return size["height"], size["width"]
    short = size["shortest_edge"]
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if height < width else (long, short)


def _cut(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the middle of an image, with black around it where the image is smaller."""
    (top, bottom, low), (left, right, near) = (
        _window(*pair) for pair in zip(pixels.shape, (height, width), strict=False)
    )
    inside = pixels[top:bottom, left:right]
    if inside.shape[:2] == (height, width):
        return inside
    out = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
    out[low : low + len(inside), near : near + inside.shape[1]] = inside
    return out


def _window(size: int, target: int) -> tuple[int, int, int]:
    """Return begin and end of the middle along an axis, and its begin in the result."""
    start = (size - target) // 2  # rounded down: of an odd border the larger half comes first
    first = max(start, 0)
    return first, first + min(target, size), max(-start, 0)


class ImageTextPreprocessor(TextPreprocessor):
    """Images and texts to the inputs of a model that compares them.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        images: an `ImagePreprocessor`.
        sequence_length: the most tokens of a text; longer ones are truncated.
    """

    def __init__(self, tokenizer: Any, images: ImagePreprocessor, sequence_length: int = 77):
        super().__init__(tokenizer, sequence_length)
        self.images = images

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the inputs for a dict of `images` and `texts`, or of either alone.

        Args:
            x: the dict.
            y: not used.
            sample_weight: not used.

        Raises:
            ValueError: the dict has other names.
        """
        if not isinstance(x, Mapping) or not x or set(x) - {"images", "texts"}:
            got = sorted(x) if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"Expected a dict of images and texts, got {got}.")
        inputs = {"images": self.images(x["images"])} if "images" in x else {}
        if "texts" in x:
            packed = self.pack(self.encode(x["texts"]))
            inputs |= {name: packed[name] for name in ("token_ids", "padding_mask")}
        return inputs
