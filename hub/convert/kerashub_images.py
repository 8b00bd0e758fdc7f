"""Convert the preparation of images of KerasHub's presets, both ways.

KerasHub multiplies pixels and adds an offset, where ours subtracts a mean and divides; it cuts the
largest window of the right shape and resizes it, where ours resizes the shorter edge and cuts.
Pillow averages when it makes an image smaller, which KerasHub does where `antialias` is set.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hub.preprocessing.image import ImagePreprocessor
from hub.presets.files import PresetFiles

CONVERTER = "image_converter.json"
# KerasHub's name of an interpolation -> the number of Pillow's filter.
_FILTERS = {"nearest": 0, "lanczos3": 1, "bilinear": 2, "bicubic": 3}
_SCALE = 1 / 255


def read_image_converter(source: PresetFiles) -> ImagePreprocessor | None:
    """Return the preparation of images of a preset; None where it has none.

    Args:
        source: the preset.

    Raises:
        ValueError: it has a setting that ours has not.
    """
    if CONVERTER not in source:
        return None
    config = source.json(CONVERTER).get("config")
    if not isinstance(config, dict):
        raise ValueError(f"{CONVERTER} of {source.location} has no 'config'.")
    size, crops = config.get("image_size"), config.get("crop_to_aspect_ratio", True)
    interpolation = config.get("interpolation", "bilinear")
    is_pair = isinstance(size, list) and len(size) == 2
    if (
        config.get("pad_to_aspect_ratio") or interpolation not in _FILTERS
        or not (size is None or (is_pair and (size[0] == size[1] or not crops)))
    ):  # fmt: skip
        raise ValueError(
            f"{CONVERTER} of {source.location} has image_size={size}, crop_to_aspect_ratio={crops},"
            f" pad_to_aspect_ratio={config.get('pad_to_aspect_ratio')}, interpolation="
            f"{interpolation!r}; supported are squares, other sizes without crop_to_aspect_ratio, "
            f"and {list(_FILTERS)}. Without that file the model is converted alone."
        )
    std = _SCALE / np.broadcast_to(1.0 if config.get("scale") is None else config["scale"], 3)
    mean = -np.broadcast_to(0.0 if config.get("offset") is None else config["offset"], 3) * std
    settings: dict[str, Any] = {
        "rescale_factor": _SCALE, "resample": _FILTERS[interpolation],
        "image_mean": [float(f"{value:.7g}") for value in mean],
        "image_std": [float(f"{value:.7g}") for value in std],
    }  # fmt: skip
    if size is None:
        return ImagePreprocessor("ViT", do_resize=False, **settings)
    if crops:
        return ImagePreprocessor("CLIP", size=size[0], crop_size=size[0], **settings)
    return ImagePreprocessor("ViT", size=size, **settings)


def write_image_files(source: PresetFiles, folder: Path) -> None:
    """Write the preparation of images of a preset, if it has one.

    Args:
        source: the preset.
        folder: of the new checkpoint.
    """
    preprocessor = read_image_converter(source)
    if preprocessor is not None:
        preprocessor.save(folder)


def converter_config(preprocessor: ImagePreprocessor) -> tuple[dict[str, Any], str]:
    """Return the arguments of KerasHub's converter, and what it does otherwise ("" for nothing).

    Args:
        preprocessor: ours.

    Raises:
        ValueError: KerasHub cannot resize so.

    >>> config, differs = converter_config(ImagePreprocessor("ViT", size=8))
    >>> config["image_size"], config["offset"], differs
    ([8, 8], [-1.0, -1.0, -1.0], '')
    """
    resized, cropped = preprocessor.resized, preprocessor.cropped
    names = {number: name for name, number in _FILTERS.items()}
    resample = preprocessor.settings["resample"]
    size = cropped or resized or {}
    if (
        resample not in names
        or "shortest_edge" in size
        or (cropped and not resized)
        or ("max_height" in (resized or {}))
    ):
        raise ValueError(
            f"KerasHub cannot resize images to {resized} with filter {resample} and crop {cropped}:"
            " it resizes to a height and a width, by one of "
            f"{_FILTERS}. Set model.preprocessor = None to write the model without it."
        )
    differs = ""
    if cropped and resized and set(resized.values()) != set(cropped.values()):
        differs = f"its converter resizes to {cropped} what this one crops out of {resized}"
    black, white = (preprocessor.values(np.full((1, 1, 3), v, "uint8"))[0, 0] for v in (0, 255))
    return {
        "image_size": [size["height"], size["width"]] if size else None,
        "scale": [float(v) for v in (white - black) / 255], "offset": [float(v) for v in black],
        "interpolation": names[resample], "antialias": bool(resample),
        "crop_to_aspect_ratio": bool(resized) and "height" not in resized,
        "pad_to_aspect_ratio": False, "bounding_box_format": "yxyx",
    }, differs  # fmt: skip
