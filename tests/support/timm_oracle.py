"""timm without torchvision, as an oracle: the names that it imports from there are empty classes."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image, ImageOps


class _Names(type):
    """A class whose attributes are their names, as those of an enumeration."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all modules in it, whose names are empty classes."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        return None

    def exec_module(self, module: Any) -> None:
        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return _Names(name, (), {})

        module.__getattr__ = attribute


def import_timm() -> Any:
    """Import timm; the stub of torchvision is there while it is imported alone."""
    if importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    stub = _Stub()
    sys.meta_path.insert(0, stub)
    try:
        return importlib.import_module("timm")
    finally:
        sys.meta_path.remove(stub)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


# -- what the evaluation transform of timm takes from torchvision, of its documentation ----------


def _resize(image: Image.Image, size: Any, interpolation: str) -> Image.Image:
    if isinstance(size, int):
        short, long = sorted(image.size)
        long = int(size * long / short)
        size = (size, long) if image.height < image.width else (long, size)
    return image.resize((size[1], size[0]), Image.Resampling[interpolation])


def _crop(image: Image.Image, top: int, left: int, height: int, width: int) -> Image.Image:
    return image.crop((left, top, left + width, top + height))


def _center_crop(image: Image.Image, size: Any) -> Image.Image:
    top, left = (round((a - b) / 2) for a, b in zip(image.size[::-1], size, strict=True))
    return _crop(image, top, left, *size)


def evaluate_pixels(image: Image.Image, **settings: Any) -> np.ndarray:
    """Return what timm's evaluation transform makes of an image, channels last."""
    import_timm()
    factory = importlib.import_module("timm.data.transforms_factory")
    own = importlib.import_module("timm.data.transforms")
    kept, functional = (factory.transforms, factory.MaybeToTensor), own.F
    own.F = SimpleNamespace(
        get_dimensions=lambda image: (3, image.height, image.width), resize=_resize, crop=_crop,
        pad=lambda image, padding, fill, padding_mode: ImageOps.expand(
            image, tuple(padding), tuple(fill)
        ),
    )  # fmt: skip
    factory.MaybeToTensor = lambda: lambda image: np.asarray(image, "float64") / 255
    factory.transforms = SimpleNamespace(
        Resize=lambda size, interpolation: lambda image: _resize(image, size, interpolation),
        CenterCrop=lambda size: lambda image: _center_crop(image, size),
        Normalize=lambda mean, std: lambda x: (x - mean.numpy()) / std.numpy(),
        Compose=lambda steps: steps,
    )
    try:
        for step in factory.transforms_imagenet_eval(**settings):
            image = step(image)
    finally:
        (factory.transforms, factory.MaybeToTensor), own.F = kept, functional
    return image
