"""Preprocessing of images for a checkpoint, in numpy and Pillow, without a framework.

Resizing, cropping and normalisation belong to the weights: they are read from the
preprocessor_config.json of the checkpoint, whose keys are the names of the settings.
"""

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

import keraslite as keras
from hub.files import write_json
from hub.preprocessing.image_inputs import list_images, open_image, to_rgb
from hub.preprocessing.text import TextPreprocessor

FILE = "preprocessor_config.json"
_COMBINED_FILE = "processor_config.json"  # of newer checkpoints, for all kinds of inputs
# The default settings of each image processor of transformers. `square` is not a key of the files:
# it is True if a size that is one number is that of both edges, False if of the shorter one.
_COMMON = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
    "rescale_factor": 1 / 255,
}  # fmt: skip
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_MOBILENET = {
    **_COMMON, "size": 256, "square": False, "do_center_crop": True, "crop_size": 224,
    "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIP": {
        **_COMMON, "size": 224, "square": False, "do_center_crop": True, "crop_size": 224,
        "resample": 3, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "ViT": {
        **_COMMON, "size": 224, "square": True, "do_center_crop": False, "crop_size": 224,
        "resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    },
    "DeiT": {
        **_COMMON, **_IMAGENET, "size": 256, "square": True, "do_center_crop": True,
        "crop_size": 224, "resample": 3,
    },
    "ConvNext": {
        **_COMMON, **_IMAGENET, "size": 384, "square": False, "do_center_crop": False,
        "crop_size": 224, "resample": 3, "crop_pct": 224 / 256,
    },
    "Bit": {
        **_COMMON, "size": 224, "square": False, "do_center_crop": True, "crop_size": 224,
        "resample": 3, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
    "EfficientNet": {
        **_COMMON, **_IMAGENET, "size": 346, "square": True, "do_center_crop": False,
        "crop_size": 289, "resample": 3, "rescale_offset": False, "include_top": True,
    },
    # Of timm, whose settings are the pretrained_cfg of a config.json.
    "timm": {
        **_COMMON, **_IMAGENET, "size": 224, "square": True, "do_center_crop": True,
        "crop_size": 224, "resample": 3, "crop_pct": 0.875, "crop_mode": "center",
    },
}  # fmt: skip
_SIZE_KEYS = ({"shortest_edge"}, {"height", "width"})


@keras.saving.register_keras_serializable("hub")
class ImagePreprocessor:
    """A preprocessor from images to a model's inputs.

    Args:
        processor: the image processor of transformers with the default settings, such as "CLIP",
            "ViT" or "ConvNext", or "timm".
        settings: settings that differ, by the keys of a preprocessor_config.json: `do_resize`,
            `size` (a number, `{"shortest_edge": n}` or `{"height": n, "width": n}`), `resample` (a
            filter of Pillow's, by its number), `do_center_crop`, `crop_size`, `do_rescale`,
            `rescale_factor`, `do_normalize`, `image_mean`, `image_std`, `do_convert_rgb`; of
            "ConvNext" and "timm" `crop_pct`, the part of the resized image that is left by the
            crop, of "timm" `crop_mode`: "center", "squash" (both edges are resized, whatever the
            aspect) or "border" (the whole image, on a ground of the mean colour).

    Attributes:
        resized: what images are resized to, `{"shortest_edge": n}`, a height and a width, or those
            that it covers (`min_height`, `min_width`) or fits into (`max_height`, `max_width`);
            None where they are not.
        cropped: the height and the width of the center that is left; None where all of it is.

    Raises:
        ValueError: a setting is unknown, or has a value that is not valid.

    >>> images = ImagePreprocessor("ViT", size=8)
    >>> pixels = images([np.zeros((5, 9, 3), "uint8"), np.ones((6, 6))])
    >>> pixels.shape, float(pixels.min()), float(pixels.max())
    ((2, 8, 8, 3), -1.0, 1.0)
    """

    def __init__(self, processor: str = "CLIP", **settings: Any):
        if processor not in PROCESSORS:
            raise ValueError(f"processor must be one of {list(PROCESSORS)}, got {processor!r}.")
        defaults = PROCESSORS[processor]
        unknown = sorted(set(settings) - (set(defaults) - {"square"}))
        if unknown:
            supported = sorted(set(defaults) - {"square"})
            raise ValueError(f"Settings must be among {supported}, got {unknown}.")
        self.processor = processor
        # A null in a file stands for the default.
        values = {**defaults, **{k: v for k, v in settings.items() if v is not None}}
        square = values.pop("square")
        values["size"] = _parse_size("size", values["size"], square)
        values["crop_size"] = _parse_size("crop_size", values["crop_size"], True)
        if set(values["crop_size"]) != {"height", "width"}:
            raise ValueError(
                f"crop_size must have a height and a width, got {values['crop_size']}."
            )
        try:
            values["resample"] = int(Image.Resampling(values["resample"]))
        except ValueError as error:
            filters = {f.name.lower(): int(f) for f in Image.Resampling}
            raise ValueError(
                f"resample must be one of {filters}, got {values['resample']!r}."
            ) from error
        self.settings: dict[str, Any] = values
        self.resized, self.cropped = _geometry(processor, values)
        self._pixel_values = self._pixel_table()

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """Height and width of the results; None where they depend on the image."""
        settings = self.settings
        size = settings["crop_size"] if settings["do_center_crop"] else settings["size"]
        if not (settings["do_center_crop"] or settings["do_resize"]):
            size = {}
        return size.get("height"), size.get("width")

    def _pixel_table(self) -> np.ndarray:
        """Return the input of the model (256, 3) for each byte of each channel."""
        settings = self.settings
        values = np.arange(256, dtype="float64")[:, None]
        values = (values * (settings["rescale_factor"] if settings["do_rescale"] else 1)).astype(
            "float32"
        )
        if settings.get("rescale_offset"):
            values = values - 1
        if settings["do_normalize"]:
            mean, std = (
                np.broadcast_to(np.asarray(settings[key], "float32"), (3,))
                for key in ("image_mean", "image_std")
            )
            values = (values - mean) / std
            if settings.get("include_top"):  # of EfficientNet, whose weights expect it twice
                values = values / std
        return np.ascontiguousarray(np.broadcast_to(values, (256, 3)))

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ImagePreprocessor":
        """Return the preprocessor of a preprocessor_config.json.

        Args:
            config: its content.

        Raises:
            ValueError: it has a processor or a setting that is not supported.
        """
        class_name = (
            config.get("image_processor_type") or config.get("feature_extractor_type") or "CLIP"
        )
        processor = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(class_name))
        if processor not in PROCESSORS:
            raise ValueError(
                f"The image processor {class_name} is not supported; supported: {list(PROCESSORS)}."
            )
        keys = set(PROCESSORS[processor]) - {"square"}
        others = sorted(k for k, v in config.items() if k.startswith("do_") and v and k not in keys)
        if others:
            raise ValueError(f"{others} of a preprocessor_config.json are not supported.")
        return cls(processor, **{key: config[key] for key in keys if key in config})

    @classmethod
    def from_files(cls, files: Any) -> "ImagePreprocessor":
        """Return the preprocessor of a checkpoint.

        Args:
            files: what `hub.presets.resolve` returned.

        Raises:
            FileNotFoundError: the checkpoint has no settings for images.
            ValueError: as of `from_config`.
        """
        if FILE not in files and _COMBINED_FILE in files:
            return cls.from_config(files.json(_COMBINED_FILE).get("image_processor") or {})
        if FILE not in files and "config.json" in files:
            config = files.json("config.json")
            if "pretrained_cfg" in config or "architecture" in config:
                return cls.from_timm(config.get("pretrained_cfg") or {})
        return cls.from_config(files.json(FILE))

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> "ImagePreprocessor":
        """Return the evaluation transform of a pretrained_cfg of timm.

        Args:
            config: its content.

        Raises:
            ValueError: it has a setting that is not supported.

        >>> ImagePreprocessor.from_timm({"input_size": [3, 8, 8]})(np.ones((9, 12))).shape
        (1, 8, 8, 3)
        """
        size = config.get("test_input_size") or config.get("input_size") or (3, 224, 224)
        names = {"bilinear": 2, "bicubic": 3, "lanczos": 1, "nearest": 0, "box": 4, "hamming": 5}
        name = config.get("interpolation") or "bicubic"
        if name not in names:
            raise ValueError(f"interpolation must be one of {list(names)}, got {name!r}.")
        return cls(
            "timm", size=list(size[1:]), crop_size=list(size[1:]), resample=names[name],
            crop_pct=config.get("test_crop_pct") or config.get("crop_pct"),
            crop_mode=config.get("crop_mode"), image_mean=config.get("mean"),
            image_std=config.get("std"),
        )  # fmt: skip

    def to_config(self) -> dict[str, Any]:
        """Return the content of a preprocessor_config.json, as transformers reads it."""
        name = f"{self.processor}ImageProcessor"
        extractor = name.replace("ImageProcessor", "FeatureExtractor")
        return {
            **copy.deepcopy(self.settings),
            "image_processor_type": name, "feature_extractor_type": extractor,
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` reads."""
        return self.to_config()

    def save(self, folder: Any) -> None:
        """Write a preprocessor_config.json.

        Args:
            folder: an existing folder.
        """
        write_json(Path(os.fspath(folder)) / FILE, self.to_config())

    # -- images -------------------------------------------------------------------------------

    def __call__(self, images: Any) -> np.ndarray:
        """Return pixels (images, height, width, 3) of float32.

        Args:
            images: a path, a Pillow image, or an array (height, width), (height, width, 1, 3 or 4),
                or (images, height, width, channels) of integers from 0 to 255 or floats from 0 to
                1; or a list of these, of any sizes. Greyscale, palette and transparent images are
                converted to RGB, with white under transparent pixels.

        Raises:
            TypeError: the images are of another type.
            FileNotFoundError: a file does not exist.
            ValueError: a file or an array is not an image, or images differ in size after resizing.
        """
        rows = [self.pixels(image, f"Image {i}") for i, image in enumerate(list_images(images))]
        sizes = sorted({pixels.shape[:2] for pixels in rows})
        if len(sizes) > 1:
            raise ValueError(
                f"The images of a batch must have the same size, got {sizes}: resize them to a "
                "height and a width, crop them, or pass them one by one."
            )
        return np.stack(rows)

    def pixels(self, image: Any, name: str = "The image") -> np.ndarray:
        """Return pixels (height, width, 3) of one image.

        Args:
            image: a path, a Pillow image, or an array, as for `__call__`.
            name: the name of the image in error messages.
        """
        image, settings = open_image(image, name), self.settings
        if settings["do_convert_rgb"]:
            image = to_rgb(image)
        elif image.mode != "RGB":
            raise ValueError(
                f"{name} must be of mode 'RGB', got mode {image.mode!r}; convert it, or set "
                "do_convert_rgb."
            )
        if self.resized is not None:
            height, width = _resized_shape(image.height, image.width, self.resized)
            image = image.resize((width, height), settings["resample"])
        pixels = np.asarray(image)
        if self.cropped is not None:
            # Of an odd rest timm cuts half, rounded to even, where transformers rounds down.
            pixels = _center_crop(
                pixels, self.cropped["height"], self.cropped["width"], self.processor == "timm",
                settings["image_mean"] if settings.get("crop_mode") == "border" else 0,
            )  # fmt: skip
        return self.values(pixels)

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Return the inputs of the model for pixels that have its size already.

        Args:
            pixels: (height, width, 3) of uint8, in RGB.
        """
        return np.stack([self._pixel_values[pixels[..., c], c] for c in range(3)], axis=-1)


def _parse_size(name: str, value: Any, square: bool) -> dict[str, int]:
    """Return a size of any form in files as a dict with the keys of one of `_SIZE_KEYS`."""
    if isinstance(value, int | float):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    if isinstance(value, Mapping):
        value = {k: v for k, v in value.items() if v is not None}
        valid = all(isinstance(v, int | float) and int(v) == v > 0 for v in value.values())
        if set(value) in _SIZE_KEYS and valid:
            return {k: int(v) for k, v in value.items()}
    raise ValueError(
        f"{name} must be a positive integer, {{'shortest_edge': n}} or "
        f"{{'height': n, 'width': n}}, got {value!r}."
    )


def _geometry(
    processor: str, settings: Mapping[str, Any]
) -> tuple[dict[str, int] | None, dict[str, int] | None]:
    """Return the size to resize to and that of the crop, each None where it is left out."""
    size, share = settings["size"], settings.get("crop_pct")
    if processor == "ConvNext" and settings["do_resize"]:
        edge = size.get("shortest_edge")
        if edge is None:
            raise ValueError(f"size must be {{'shortest_edge': n}}, got {size}.")
        whole = {"height": edge, "width": edge}
        return ({"shortest_edge": int(edge / share)}, whole) if edge < 384 else (whole, None)
    if processor == "timm":
        if (mode := settings["crop_mode"]) not in ("center", "squash", "border"):
            raise ValueError(f"crop_mode must be 'center', 'squash' or 'border', got {mode!r}.")
        scaled = {edge: int(length / share) for edge, length in size.items()}
        if mode == "center" and len(set(scaled.values())) == 1:
            return {"shortest_edge": scaled["height"]}, size
        prefix = {"center": "min_", "squash": "", "border": "max_"}[mode]
        return {f"{prefix}{edge}": length for edge, length in scaled.items()}, size
    return (
        size if settings["do_resize"] else None,
        settings["crop_size"] if settings["do_center_crop"] else None,
    )


def _resized_shape(height: int, width: int, size: dict[str, int]) -> tuple[int, int]:
    """Return height and width after resizing; the longer edge is rounded down."""
    if "height" in size:
        return size["height"], size["width"]
    if "shortest_edge" not in size:
        choose, bound = (min, "min") if "min_height" in size else (max, "max")
        ratio = choose(height / size[f"{bound}_height"], width / size[f"{bound}_width"])
        return round(height / ratio), round(width / ratio)
    short = size["shortest_edge"]
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if height < width else (long, short)


def _center_crop(
    pixels: np.ndarray, height: int, width: int, as_timm: bool, ground: Any
) -> np.ndarray:
    """Return the center of an image, on a ground from 0 to 1 where the image is smaller."""
    (top, bottom, pad_top), (left, right, pad_left) = (
        _window(*pair, as_timm) for pair in zip(pixels.shape, (height, width), strict=False)
    )
    cropped = pixels[top:bottom, left:right]
    if cropped.shape[:2] == (height, width):
        return cropped
    out = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    out[:] = np.rint(np.multiply(ground, 255))
    out[pad_top : pad_top + len(cropped), pad_left : pad_left + cropped.shape[1]] = cropped
    return out


def _window(size: int, target: int, as_timm: bool) -> tuple[int, int, int]:
    """Return start and end of the center along an axis, and the padding before it."""
    # Odd padding is larger before than after, but in timm.
    offset = (size - target) // 2
    if as_timm:
        offset = round((size - target) / 2) if size > target else -((target - size) // 2)
    start = max(offset, 0)
    return start, start + min(target, size), max(-offset, 0)


@keras.saving.register_keras_serializable("hub")
class ImageTextPreprocessor(TextPreprocessor):
    """A preprocessor from images and texts to the inputs of a model that compares them.

    Args:
        tokenizer: a tokenizer of `hub.tokenizers`.
        images: an `ImagePreprocessor`.
        sequence_length: the maximum number of tokens of a text; longer ones are truncated.

    >>> tokenizer = hub.WordPieceTokenizer("[PAD] [UNK] [CLS] [SEP] [MASK] fox ran".split())
    >>> preprocessor = hub.ImageTextPreprocessor(tokenizer, hub.ImagePreprocessor(size=8))
    >>> preprocessor.encode(["fox"])[0][0].tolist()
    [2, 5, 3]
    """

    def __init__(self, tokenizer: Any, images: ImagePreprocessor, sequence_length: int = 77):
        super().__init__(tokenizer, sequence_length)
        self.images = images

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the whole tokenizer among them."""
        return {
            "tokenizer": self.tokenizer.serialized(),
            "images": {"processor": self.images.processor, **self.images.settings},
            "sequence_length": self.sequence_length,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the preprocessor of a config.

        Args:
            config: what `get_config` returned.
        """
        return super().from_config({**config, "images": ImagePreprocessor(**config["images"])})

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the inputs for a dict of `images` and `texts`, or of either alone.

        Args:
            x: the dict.
            y: not used.
            sample_weight: not used.

        Raises:
            ValueError: x is not a dict of these.
        """
        if not isinstance(x, Mapping) or not x or set(x) - {"images", "texts"}:
            got = sorted(x) if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"Expected a dict of images and texts, got {got}.")
        inputs = {"images": self.images(x["images"])} if "images" in x else {}
        if "texts" in x:
            packed = self.pack(self.encode(x["texts"]))
            inputs |= {name: packed[name] for name in ("token_ids", "padding_mask")}
        return inputs
