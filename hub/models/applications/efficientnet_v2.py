"""EfficientNetV2 (Tan and Le, 2021, arXiv:2104.00298): plain convolutions in the first stages.

B0 to B3 are one network at four scales; S, M and L have filters and blocks of their own. Keras
builds a network only under its own name; here the name is free, as in the other families.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.models.applications.efficientnet import (
    classify,
    convolve,
    inverted_residual,
    residual,
    scaled,
    stack,
)
from hub.models.applications.frame import CLASSES, assemble, channel_axis, describe
from keraslite import layers

_MOMENTUM = 0.9
_FUSED = 3  # the number of stages with plain convolutions
# (expansion, stride) of each stage; the smaller networks have no seventh.
_STAGES = ((1, 1), (4, 2), (4, 2), (4, 2), (6, 1), (6, 2), (6, 1))


@dataclass(frozen=True)
class Layout:
    """How the blocks of a network are laid out.

    Attributes:
        stem_filters: of the first convolution.
        filters: of each stage.
        blocks: of each stage.
        normalized: whether colours are normalised by mean and variance of ImageNet, as in V1,
            rather than brought to the range from -1 to 1.
        width: the factor of all filters.
        depth: the factor of the number of blocks of each stage.
    """

    stem_filters: int
    filters: Sequence[int]
    blocks: Sequence[int]
    normalized: bool = False
    width: float = 1.0
    depth: float = 1.0


def features(x: Any, layout: Layout, include_preprocessing: bool) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images.
        layout: of the blocks.
        include_preprocessing: whether their pixels are from 0 to 255, and brought to the range of
            the weights here.
    """
    if include_preprocessing:
        x = _preprocess(x, layout.normalized)
    x = convolve(x, scaled(layout.stem_filters, layout.width), "stem", 3, 2, momentum=_MOMENTUM)
    stages = []
    for i, (filters, count) in enumerate(zip(layout.filters, layout.blocks, strict=True)):
        expansion, strides = _STAGES[i]
        block = partial(
            _fused_block if i < _FUSED else _block,
            filters=scaled(filters, layout.width), expansion=expansion,
        )  # fmt: skip
        stages.append((block, strides, math.ceil(layout.depth * count)))
    # Keras counts the blocks before their number is scaled: the last rates are above 0.2.
    x = stack(x, stages, total=sum(layout.blocks))
    return convolve(x, scaled(1280, layout.width), "top", momentum=_MOMENTUM)


def _preprocess(x: Any, normalized: bool) -> Any:
    if not normalized or x.shape[channel_axis()] != 3:
        return layers.Rescaling(1 / 128, offset=-1)(x)
    x = layers.Rescaling(1 / 255)(x)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return layers.Normalization(channel_axis(), mean, std**2)(x)


_block = partial(inverted_residual, size=3, momentum=_MOMENTUM, suffix="2", pad=False)


def _fused_block(
    x: Any, strides: int, drop_rate: float, name: str, *, filters: int, expansion: int
) -> Any:
    """Expand the channels by a plain convolution and project them ("Fused-MBConv")."""
    inputs = x
    if expansion == 1:
        x = convolve(x, filters, f"{name}project", 3, strides, momentum=_MOMENTUM)
    else:
        width = x.shape[channel_axis()] * expansion
        x = convolve(x, width, f"{name}expand", 3, strides, momentum=_MOMENTUM)
        x = convolve(x, filters, f"{name}project", activation=None, momentum=_MOMENTUM)
    return residual(x, inputs, strides, drop_rate, name)


# -- applications of Keras ------------------------------------------------------------------------


def _application(function: str, size: int, layout: Layout) -> Any:
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
        return assemble(
            lambda x: features(x, layout, include_preprocessing), name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size, top=classify,
            files=function,
        )  # fmt: skip

    return describe(
        constructor, function,
        include_preprocessing="whether pixels are from 0 to 255, and rescaled in the network.",
    )  # fmt: skip


_B = partial(Layout, 32, (16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8), normalized=True)
EfficientNetV2B0 = _application("EfficientNetV2B0", 224, _B())
EfficientNetV2B1 = _application("EfficientNetV2B1", 240, _B(depth=1.1))
EfficientNetV2B2 = _application("EfficientNetV2B2", 260, _B(width=1.1, depth=1.2))
EfficientNetV2B3 = _application("EfficientNetV2B3", 300, _B(width=1.2, depth=1.4))
EfficientNetV2S = _application(
    "EfficientNetV2S", 384, Layout(24, (24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15))
)
EfficientNetV2M = _application(
    "EfficientNetV2M", 480, Layout(24, (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5))
)
EfficientNetV2L = _application(
    "EfficientNetV2L", 480, Layout(32, (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7))
)
