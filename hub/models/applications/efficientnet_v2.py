"""EfficientNetV2 (Tan and Le, 2021, arXiv:2104.00298): plain convolutions in the first stages.

B0 to B3 are one network at four scales; S, M and L have filters and blocks of their own. Keras
builds a network only under its own name; here the name is free, as in the other families.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import keraslite as keras
from hub.models.applications.efficientnet import Layout, Stage, classify, features
from hub.models.applications.frame import CLASSES, assemble, channel_axis, describe
from keraslite import layers

# (expansion, stride, whether its convolutions are plain) of each stage; the smaller networks have
# no seventh.
_STAGES = (
    (1, 1, True), (4, 2, True), (4, 2, True), (4, 2, False), (6, 1, False), (6, 2, False),
    (6, 1, False),
)  # fmt: skip


def _layout(stem_filters: int, filters: Sequence[int], blocks: Sequence[int]) -> Layout:
    stages = [
        Stage(width, count, 3, *shape)
        for width, count, shape in zip(filters, blocks, _STAGES, strict=False)
    ]
    # Keras counts the blocks before their number is scaled: the last rates are above 0.2.
    return Layout(
        stages, stem_filters, capped=False, momentum=0.9, padding="same",
        scheduled_blocks=sum(blocks), suffix="2",
    )  # fmt: skip


_B = _layout(32, (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8))
LAYOUTS = {
    "B0": _B,
    "B1": replace(_B, depth=1.1),
    "B2": replace(_B, width=1.1, depth=1.2),
    "B3": replace(_B, width=1.2, depth=1.4),
    "S": _layout(24, (24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15)),
    "M": _layout(24, (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5)),
    "L": _layout(32, (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7)),
}


# -- applications of Keras ------------------------------------------------------------------------


def _preprocess(x: Any, normalized: bool) -> Any:
    """Normalise pixels as V1 does, or bring them to the range from -1 to 1."""
    if not normalized or x.shape[channel_axis()] != 3:
        return layers.Rescaling(1 / 128, offset=-1)(x)
    x = layers.Rescaling(1 / 255)(x)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return layers.Normalization(channel_axis(), mean, std**2)(x)


def _application(function: str, size: int) -> Any:
    variant = function.removeprefix("EfficientNetV2")

    def constructor(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Any = "softmax",
        include_preprocessing: bool = True,
        name: str = function.lower().replace("v2", "v2-"),
    ) -> keras.Model:
        def convolve(x: Any) -> Any:
            x = _preprocess(x, variant.startswith("B")) if include_preprocessing else x
            return features(x, LAYOUTS[variant])["P5"]

        return assemble(
            convolve, name=name, include_top=include_top, weights=weights,
            input_tensor=input_tensor, input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size, top=classify,
            files=function,
        )  # fmt: skip

    return describe(
        constructor, function,
        include_preprocessing="whether pixels are from 0 to 255, and rescaled in the network.",
    )  # fmt: skip


EfficientNetV2B0 = _application("EfficientNetV2B0", 224)
EfficientNetV2B1 = _application("EfficientNetV2B1", 240)
EfficientNetV2B2 = _application("EfficientNetV2B2", 260)
EfficientNetV2B3 = _application("EfficientNetV2B3", 300)
EfficientNetV2S = _application("EfficientNetV2S", 384)
EfficientNetV2M = _application("EfficientNetV2M", 480)
EfficientNetV2L = _application("EfficientNetV2L", 480)
