"""Augmentation of pictures by a seed, in workers: the same on every backend."""

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

import keraslite as keras

MEAN_COLOR = (124, 116, 104)  # of ImageNet, behind pictures that are moved


def _moved(picture: Image.Image, *matrix: float) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR,
        fillcolor=MEAN_COLOR,
    )  # fmt: skip


def _rotate(picture: Image.Image, degrees: float) -> Image.Image:
    return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=MEAN_COLOR)


def _solarize_add(picture: Image.Image, value: int) -> Image.Image:
    table = [min(255, i + value) if i < 128 else i for i in range(256)]
    return picture.point(table * 3)


def _enhance(enhancement: Callable) -> tuple[Callable, Callable]:
    def change(picture: Image.Image, amount: float) -> Image.Image:
        return enhancement(picture).enhance(max(0.1, 1 + amount))

    return change, lambda level: 0.9 * level


# What RandAugment draws from: a function of a picture and an amount, and the amount of a level from
# 0 to 1, which is negative for one picture in two: the same as a positive one for the first six.
OPERATIONS: dict[str, tuple[Callable, Callable]] = {
    "auto_contrast": (lambda x, _: ImageOps.autocontrast(x), abs),
    "equalize": (lambda x, _: ImageOps.equalize(x), abs),
    "invert": (lambda x, _: ImageOps.invert(x), abs),
    "posterize": (ImageOps.posterize, lambda level: max(4 - int(4 * abs(level)), 1)),
    "solarize": (ImageOps.solarize, lambda level: 256 - int(256 * abs(level))),
    "solarize_add": (_solarize_add, lambda level: int(110 * abs(level))),
    "rotate": (_rotate, lambda level: 30 * level),
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": (lambda x, s: _moved(x, 1, s, 0, 0, 1, 0), lambda level: 0.3 * level),
    "shear_y": (lambda x, s: _moved(x, 1, 0, 0, s, 1, 0), lambda level: 0.3 * level),
    "translate_x": (
        lambda x, part: _moved(x, 1, 0, part * x.width, 0, 1, 0), lambda level: 0.45 * level,
    ),
    "translate_y": (
        lambda x, part: _moved(x, 1, 0, 0, 0, 1, part * x.height), lambda level: 0.45 * level,
    ),
}  # fmt: skip


def rand_augment(
    picture: Image.Image, random: np.random.Generator, magnitude: float = 9.0,
    magnitude_std: float = 0.5, count: int = 2, probability: float = 0.5,
) -> Image.Image:  # fmt: skip
    """Change a picture by some of fifteen operations, at the strengths of the publication.

    `keraslite.layers.RandAugment` has Keras's operations and strengths, which are others.

    Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space",
    2019, with the strengths that grow with the magnitude, which DeiT, BEiT and ConvNeXt were
    fine-tuned with ("rand-m9-mstd0.5-inc1" of timm).

    Args:
        picture: in RGB.
        random: a generator.
        magnitude: the mean strength, from 0 to 10.
        magnitude_std: its standard deviation.
        count: how many operations are drawn.
        probability: that a drawn operation is applied.
    """
    names = list(OPERATIONS)
    for name in random.choice(names, count):
        applied, negative = random.random(2) < (probability, 0.5)
        level = min(max(random.normal(magnitude, magnitude_std), 0), 10) / 10
        if applied:
            change, amount = OPERATIONS[name]
            picture = change(picture, amount(-level if negative else level))
    return picture


def random_resized_crop(
    picture: Image.Image, size: tuple[int, int], random: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3),
    resample: int = Image.Resampling.BICUBIC,
) -> Image.Image:  # fmt: skip
    """Cut out a part of a random area and aspect, and resize it.

    Szegedy et al., "Going deeper with convolutions", 2014.

    Args:
        picture: the picture.
        size: the height and width of the result.
        random: a generator.
        scale: the range of the part of the area.
        ratio: the range of width to height of the part.
        resample: a filter of Pillow's.

    >>> picture = Image.new("RGB", (40, 30))
    >>> random_resized_crop(picture, (8, 16), np.random.default_rng(0)).size
    (16, 8)
    """
    width, height = picture.size
    for _ in range(10):
        area = random.uniform(*scale) * width * height
        aspect = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # the largest part around the middle whose aspect is in the range
        w = min(width, max(round(height * ratio[1]), 1))
        h = min(height, max(round(width / ratio[0]), 1))
        left, top = (width - w) // 2, (height - h) // 2
        return picture.resize(size[::-1], resample, (left, top, left + w, top + h))
    left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
    return picture.resize(size[::-1], resample, (left, top, left + w, top + h))


class AutoAugment:
    """A random resized crop, a flip and RandAugment: a `transform` of an `ImageFolder`.

    Args:
        size: the height and width of the results.
        scale: the range of the part of the area that is cut out.
        resample: a filter of Pillow's.

    >>> picture = Image.new("RGB", (40, 30))
    >>> AutoAugment((16, 16))(picture, seed=0).size
    (16, 16)
    """

    def __init__(
        self, size: tuple[int, int], scale: tuple[float, float] = (0.08, 1.0),
        resample: int = Image.Resampling.BICUBIC,
    ):  # fmt: skip
        self.size, self.scale, self.resample = size, scale, resample

    def __call__(self, picture: Any, seed: int) -> Image.Image:
        random = np.random.default_rng(seed)
        picture = random_resized_crop(
            picture, self.size, random, self.scale, resample=self.resample
        )
        if random.random() < 0.5:
            picture = ImageOps.mirror(picture)
        return rand_augment(picture, random)


class LayerAugment:
    """Layers of keraslite as a function of arrays and a seed, for workers.

    They run on NumPy, on whichever backend the model is; each thread has a copy of its own, whose
    generators begin anew at the seed of each call.

    Args:
        layer: a layer, a `Pipeline` or a model of them; it is not changed.

    >>> from keraslite import layers
    >>> flip = LayerAugment(layers.RandomFlip())
    >>> pixels = np.arange(12, dtype="uint8").reshape(2, 2, 3)
    >>> bool((flip(pixels, seed=1) == flip(pixels, seed=1)).all())
    True
    """

    def __init__(self, layer: Any):
        self.layer = layer
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer, self._local = state["layer"], threading.local()

    def __call__(self, data: Any, seed: int) -> Any:
        with keras.use_backend("numpy"):
            if not hasattr(self._local, "layer"):
                layer = copy.deepcopy(self.layer).to_backend("numpy")
                values = [v for own in layer.flatten_layers() for v in vars(own).values()]
                unique = {id(v): v for v in values if isinstance(v, keras.random.SeedGenerator)}
                self._local.layer, self._local.generators = layer, list(unique.values())
            for place, generator in enumerate(self._local.generators):
                first = np.random.SeedSequence((seed, place)).generate_state(1).view("int32")[0]
                generator.state.assign(np.array([first, 0], "int32"))
            return self._local.layer(data, training=True)


def to_pixels(values: Any) -> np.ndarray:
    """Return values from 0 to 255 as uint8.

    >>> to_pixels(np.array([-1.0, 0.6, 300.0])).tolist()
    [0, 1, 255]
    """
    return np.clip(np.round(np.asarray(values, "float32")), 0, 255).astype("uint8")
