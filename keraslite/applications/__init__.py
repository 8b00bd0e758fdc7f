"""The image networks of `keras.applications`, each in a module of its family.

They are built in `hub`, which is imported when the first of them is asked for: this is the one
place where keraslite reaches for hub. The modules are made here out of a table.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

_HUB = "hub.models.applications"
# Module -> where its networks are built, how their pixels are preprocessed, and their names.
_MODULES: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "convnext": ("convnext", None, (
        "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtSmall", "ConvNeXtTiny", "ConvNeXtXLarge",
    )),
    "densenet": ("densenet", "torch", ("DenseNet121", "DenseNet169", "DenseNet201")),
    "efficientnet": ("efficientnet", None, tuple(f"EfficientNetB{i}" for i in range(8))),
    "efficientnet_v2": ("efficientnet_v2", None, tuple(
        f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")
    )),
    "inception_resnet_v2": ("inception_resnet_v2", "tf", ("InceptionResNetV2",)),
    "inception_v3": ("inception_v3", "tf", ("InceptionV3",)),
    "mobilenet": ("mobilenet", "tf", ("MobileNet",)),
    "mobilenet_v2": ("mobilenet_v2", "tf", ("MobileNetV2",)),
    "mobilenet_v3": ("mobilenet_v3", None, ("MobileNetV3Large", "MobileNetV3Small")),
    "nasnet": ("nasnet", "tf", ("NASNetLarge", "NASNetMobile")),
    "resnet": ("resnet", "caffe", ("ResNet50", "ResNet101", "ResNet152")),
    "resnet50": ("resnet", "caffe", ("ResNet50",)),
    "resnet_v2": ("resnet", "tf", ("ResNet50V2", "ResNet101V2", "ResNet152V2")),
    "vgg16": ("vgg", "caffe", ("VGG16",)),
    "vgg19": ("vgg", "caffe", ("VGG19",)),
    "xception": ("xception", "tf", ("Xception",)),
}  # fmt: skip
_HELPERS = ("decode_predictions", "preprocess_input")


def _preprocessing(module: str, mode: str | None) -> Callable[..., Any]:
    def preprocess_input(x: Any, data_format: str | None = None) -> Any:
        """Return pixels as the weights of these networks expect them.

        Args:
            x: RGB pixels from 0 to 255, (height, width, 3) or (batch, height, width, 3). An array
                of floats may be changed in place.
            data_format: "channels_last" or "channels_first"; that of the config by default.
        """
        return x if mode is None else _of_hub("frame").preprocess_input(x, data_format, mode)

    preprocess_input.__module__ = f"{__name__}.{module}"  # by which it is pickled
    preprocess_input.__qualname__ = "preprocess_input"
    return preprocess_input


def _of_hub(name: str) -> ModuleType:
    return import_module(f"{_HUB}.{name}")


def _member(module: ModuleType, file: str, name: str) -> Any:
    """Return a network or a helper of a module, which is kept there from then on."""
    if name not in module.__all__:
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name)
    value = getattr(_of_hub("frame" if name in _HELPERS else file), name)
    setattr(module, name, value)
    return value


def _lazy_module(name: str, file: str, names: tuple[str, ...], about: str) -> ModuleType:
    """Return a module that is known to `import`, and whose members are found when asked for."""
    module = ModuleType(f"{__name__}.{name}", about)
    module.__all__ = sorted((*names, *_HELPERS))
    module.__getattr__ = partial(_member, module, file)
    module.__dir__ = lambda: list(module.__all__)
    sys.modules[module.__name__] = module
    return module


for _name, (_file, _mode, _networks) in _MODULES.items():
    _module = _lazy_module(_name, _file, _networks, f"{', '.join(_networks)}, as Keras has them.")
    _module.preprocess_input = _preprocessing(_name, _mode)
    globals()[_name] = _module
imagenet_utils = _lazy_module("imagenet_utils", "frame", (), "Pixels, and classes of ImageNet.")

_OWNERS = {network: name for name, (_, _, networks) in _MODULES.items() for network in networks}
__all__ = sorted((*_MODULES, *_OWNERS, "imagenet_utils"))


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    value = globals()[name] = getattr(globals()[_OWNERS[name]], name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
