"""MobileNetV3 (Howard et al., 2019, arXiv:1905.02244): V2's blocks, chosen by a search."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keraslite as keras
from hub.models.applications.frame import CLASSES, assemble, batch_norm, channel_axis, describe
from hub.models.applications.mobilenet import check_width
from hub.models.applications.mobilenet_v2 import (
    Block,
    Style,
    activate,
    check_input_tensor,
    divisible,
    inverted_residual,
)
from keraslite import layers

_WIDTHS = {False: (0.75, 1.0), True: (1.0,)}  # minimalistic -> widths for which Keras has weights
_HARD = "hard_swish"
SMALL = (
    Block(None, 16, 3, 2, "relu", 0.25),
    Block(72 / 16, 24, 3, 2, "relu"),
    Block(88 / 24, 24, 3, 1, "relu"),
    Block(4, 40, 5, 2, _HARD, 0.25),
    *(Block(6, 40, 5, 1, _HARD, 0.25),) * 2,
    *(Block(3, 48, 5, 1, _HARD, 0.25),) * 2,
    Block(6, 96, 5, 2, _HARD, 0.25),
    *(Block(6, 96, 5, 1, _HARD, 0.25),) * 2,
)
LARGE = (
    Block(None, 16, 3, 1, "relu"),
    Block(4, 24, 3, 2, "relu"),
    Block(3, 24, 3, 1, "relu"),
    Block(3, 40, 5, 2, "relu", 0.25),
    *(Block(3, 40, 5, 1, "relu", 0.25),) * 2,
    Block(6, 80, 3, 2, _HARD),
    Block(2.5, 80, 3, 1, _HARD),
    *(Block(2.3, 80, 3, 1, _HARD),) * 2,
    *(Block(6, 112, 3, 1, _HARD, 0.25),) * 2,
    Block(6, 160, 5, 2, _HARD, 0.25),
    *(Block(6, 160, 5, 1, _HARD, 0.25),) * 2,
)


def features(
    x: Any, blocks: Sequence[Block], alpha: float, activation: str, preprocess: bool
) -> Any:
    """Return the output of the last convolution before pooling, a 32nd of the image's size.

    Args:
        x: images.
        blocks: of width 1.
        alpha: the factor of the filters of blocks.
        activation: of the first and the last convolution.
        preprocess: whether pixels are from 0 to 255, rather than from -1 to 1.
    """
    if preprocess:
        x = layers.Rescaling(1 / 127.5, -1.0)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = activate(batch_norm(x, "conv_bn", momentum=0.999), activation)
    for i, block in enumerate(blocks):
        block = block._replace(filters=divisible(block.filters * alpha))
        x = inverted_residual(x, block, f"expanded_conv_{i}_" if i else "expanded_conv_", Style())
    last = divisible(6 * x.shape[channel_axis()])
    x = layers.Conv2D(last, 1, use_bias=False, name="conv_1")(x)
    return activate(batch_norm(x, "conv_1_bn", momentum=0.999), activation)


def _classify(
    x: Any, classes: int, classifier_activation: Any, filters: int, activation: str, dropout: float
) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = activate(layers.Conv2D(filters, 1, name="conv_2")(x), activation)
    if dropout > 0:
        x = layers.Dropout(dropout)(x)
    x = layers.Flatten()(layers.Conv2D(classes, 1, name="logits")(x))
    return layers.Activation(classifier_activation, name="predictions")(x)


# -- applications of Keras ------------------------------------------------------------------------


def _application(function: str, full: Sequence[Block], filters: int) -> Any:
    def constructor(
        input_shape: Any = None,
        alpha: float = 1.0,
        minimalistic: bool = False,
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        classes: int = CLASSES,
        pooling: str | None = None,
        dropout_rate: float = 0.2,
        classifier_activation: Any = "softmax",
        include_preprocessing: bool = True,
        name: str = function,
    ) -> keras.Model:
        check_width(alpha, weights, _WIDTHS[minimalistic])
        check_input_tensor(input_tensor, input_shape)
        if input_shape is None and isinstance(input_tensor, keras.KerasTensor):
            input_shape = tuple(input_tensor.shape[1:])
        blocks, activation = full, _HARD
        if minimalistic:
            blocks = [block._replace(size=3, activation="relu", se_ratio=None) for block in full]
            activation = "relu"
        top = partial(
            _classify, filters=divisible(filters * max(1.0, alpha)), activation=activation,
            dropout=dropout_rate,
        )  # fmt: skip
        return assemble(
            lambda x: features(x, blocks, alpha, activation, include_preprocessing), name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, top=top, needs_fixed_size=False,
            files=f"{function}_{float(alpha)}{'_minimalistic' * minimalistic}",
        )  # fmt: skip

    return describe(
        constructor, function, alpha="the factor of the filters of blocks.",
        minimalistic="whether without weighted channels, kernels of 5 and hard swish.",
        dropout_rate="before the classifier.",
        include_preprocessing="whether pixels are from 0 to 255, rather than from -1 to 1.",
    )  # fmt: skip


MobileNetV3Small = _application("MobileNetV3Small", SMALL, 1024)
MobileNetV3Large = _application("MobileNetV3Large", LARGE, 1280)
