"""EfficientNet (Tan and Le, 2019, arXiv:1905.11946): width, depth and image size grow together.

The networks take pixels from 0 to 255. What V2 has in common with V1 stands here as well.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keraslite as keras
from hub.models.applications.frame import (
    CLASSES,
    activate,
    assemble,
    average_top,
    batch_norm,
    channel_axis,
    describe,
    strided_padding,
)
from keraslite import initializers, layers

_DROP_RATE = 0.2  # which the last block of the network nearly reaches
# (kernel, blocks, filters, expansion, stride) of each stage of B0.
_STAGES = (
    (3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1), (5, 4, 192, 6, 2), (3, 1, 320, 6, 1),
)  # fmt: skip


def scaled(filters: int, width: float) -> int:
    """Return a number of filters times a width, rounded to a multiple of 8.

    Args:
        filters: of the smallest network.
        width: the factor.

    >>> scaled(40, 1.1), scaled(112, 1.1)
    (48, 120)
    """
    return max(8, int(filters * width + 4) // 8 * 8)


def _scaled(filters: int, width: float) -> int:
    """Return the same, but never less than 90 % of what it is rounded from."""
    rounded = scaled(filters, width)
    return rounded + 8 if rounded < 0.9 * (filters * width) else rounded


def kernel_initializer() -> Any:
    """Return the initializer of convolutions, with a seed of its own."""
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def convolve(
    x: Any, filters: int, name: str, size: int = 1, strides: int = 1, padding: str = "same",
    activation: Any = "swish", momentum: float = 0.99,
) -> Any:  # fmt: skip
    """Convolve, normalise and activate.

    Args:
        x: images.
        filters: of the convolution.
        name: the prefix of the layers.
        size: of the kernel.
        strides: of the convolution.
        padding: of the convolution.
        activation: None for no layer of an activation.
        momentum: of the normalisation.
    """
    x = layers.Conv2D(
        filters, size, strides, padding, use_bias=False, kernel_initializer=kernel_initializer(),
        name=f"{name}_conv",
    )(x)  # fmt: skip
    x = batch_norm(x, f"{name}_bn", momentum=momentum)
    return x if activation is None else activate(x, f"{name}_activation", activation)


def residual(x: Any, inputs: Any, strides: int, drop_rate: float, name: str) -> Any:
    """Add the inputs of a block to its outputs where both have one shape.

    Args:
        x: the outputs, which are dropped for some images of a batch in training.
        inputs: of the block.
        strides: of the block.
        drop_rate: the share of the images; no layer drops them where it is 0.
        name: the prefix of the layers.
    """
    if strides > 1 or x.shape[channel_axis()] != inputs.shape[channel_axis()]:
        return x
    if drop_rate > 0:
        x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
    return layers.Add(name=f"{name}add")([x, inputs])


def _excite(x: Any, squeezed: int, name: str) -> Any:
    """Weight the channels by what all positions have in common (squeeze and excitation)."""
    filters = x.shape[channel_axis()]
    shape = (1, 1, filters) if channel_axis() == 3 else (filters, 1, 1)
    y = layers.GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
    y = layers.Reshape(shape, name=f"{name}se_reshape")(y)
    for part, width, activation in (("reduce", squeezed, "swish"), ("expand", filters, "sigmoid")):
        y = layers.Conv2D(
            width, 1, padding="same", activation=activation,
            kernel_initializer=kernel_initializer(), name=f"{name}se_{part}",
        )(y)  # fmt: skip
    return layers.Multiply(name=f"{name}se_excite")([x, y])


def inverted_residual(
    x: Any, strides: int, drop_rate: float, name: str, *, filters: int, size: int, expansion: int,
    momentum: float = 0.99, suffix: str = "", pad: bool = True,
) -> Any:  # fmt: skip
    """Expand the channels, convolve each of them, weight them and project them ("MBConv").

    Args:
        x: images.
        strides: of the block.
        drop_rate: the share of the images for which the block is dropped in training.
        name: the prefix of the layers.
        filters: of the projection.
        size: of the kernel.
        expansion: the channels of the depthwise convolution, as a multiple of the inputs'.
        momentum: of the normalisations.
        suffix: of the name of the depthwise convolution.
        pad: whether a layer of its own pads a convolution with a stride.
    """
    inputs, width = x, x.shape[channel_axis()]
    if expansion != 1:
        x = convolve(x, width * expansion, f"{name}expand", momentum=momentum)
    padding = "same"
    if strides == 2 and pad:
        x = layers.ZeroPadding2D(strided_padding(x, size), name=f"{name}dwconv_pad")(x)
        padding = "valid"
    x = layers.DepthwiseConv2D(
        size, strides, padding, use_bias=False, depthwise_initializer=kernel_initializer(),
        name=f"{name}dwconv{suffix}",
    )(x)  # fmt: skip
    x = activate(batch_norm(x, f"{name}bn", momentum=momentum), f"{name}activation", "swish")
    x = _excite(x, max(1, width // 4), name)
    x = convolve(x, filters, f"{name}project", activation=None, momentum=momentum)
    return residual(x, inputs, strides, drop_rate, name)


def stack(x: Any, stages: Sequence[tuple[Callable[..., Any], int, int]], total: int) -> Any:
    """Run blocks one after the other, dropped the more often the later they come.

    Args:
        x: images.
        stages: of each, the block as a function of (x, strides, drop rate, name), the stride of the
            first block, and the number of blocks.
        total: the number of blocks at which the rate would be 0.2.
    """
    done = 0
    for stage, (block, strides, count) in enumerate(stages, 1):
        for i in range(count):
            name = f"block{stage}{chr(ord('a') + i)}_"
            x = block(x, strides if i == 0 else 1, _DROP_RATE * done / total, name)
            done += 1
    return x


def classify(x: Any, classes: int, activation: Any, dropout: float = 0.2) -> Any:
    """Classify the average over all positions, with small weights to begin with.

    Args:
        x: the features.
        classes: their number.
        activation: of the outputs.
        dropout: before the dense layer.
    """
    initializer = initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return average_top(x, classes, activation, dropout, kernel_initializer=initializer)


def features(x: Any, width: float, depth: float, imagenet: bool) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images, with pixels from 0 to 255.
        width: the factor of all filters.
        depth: the factor of the number of blocks of each stage.
        imagenet: whether for Keras's weights of ImageNet, which expect channels that are divided by
            the root of their deviation as well.
    """
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(axis=channel_axis())(x)
    if imagenet:
        x = layers.Rescaling([1 / math.sqrt(std) for std in (0.229, 0.224, 0.225)])(x)
    x = layers.ZeroPadding2D(strided_padding(x, 3), name="stem_conv_pad")(x)
    x = convolve(x, _scaled(32, width), "stem", 3, 2, "valid")
    stages = []
    for size, count, filters, expansion, strides in _STAGES:
        block = partial(
            inverted_residual, filters=_scaled(filters, width), size=size, expansion=expansion
        )
        stages.append((block, strides, math.ceil(depth * count)))
    x = stack(x, stages, total=sum(count for _, _, count in stages))
    return convolve(x, _scaled(1280, width), "top")


# -- applications of Keras ------------------------------------------------------------------------


def _application(function: str, width: float, depth: float, size: int, dropout: float) -> Any:
    def constructor(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Any = "softmax",
        name: str = function.lower(),
    ) -> keras.Model:
        return assemble(
            lambda x: features(x, width, depth, weights == "imagenet"), name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size,
            top=partial(classify, dropout=dropout), files=function,
        )  # fmt: skip

    return describe(constructor, function)


EfficientNetB0 = _application("EfficientNetB0", 1.0, 1.0, 224, 0.2)
EfficientNetB1 = _application("EfficientNetB1", 1.0, 1.1, 240, 0.2)
EfficientNetB2 = _application("EfficientNetB2", 1.1, 1.2, 260, 0.3)
EfficientNetB3 = _application("EfficientNetB3", 1.2, 1.4, 300, 0.3)
EfficientNetB4 = _application("EfficientNetB4", 1.4, 1.8, 380, 0.4)
EfficientNetB5 = _application("EfficientNetB5", 1.6, 2.2, 456, 0.4)
EfficientNetB6 = _application("EfficientNetB6", 1.8, 2.6, 528, 0.5)
EfficientNetB7 = _application("EfficientNetB7", 2.0, 3.1, 600, 0.5)
