"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381): residuals between narrow layers."""

from typing import Any, NamedTuple

import keraslite as keras
from hub.models.applications.efficientnet import scaled
from hub.models.applications.frame import (
    CLASSES,
    assemble,
    batch_norm,
    channel_axis,
    describe,
    excite,
    strided_padding,
    unnamed_pool,
)
from hub.models.applications.mobilenet import check_width, image_size
from keraslite import layers

# (expansion, filters, blocks, stride of the first block) of each stage.
STAGES = (
    (None, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
_SIZES = (96, 128, 160, 192, 224)  # of images, for which Keras has weights
_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def divisible(filters: float, divisor: int = 8) -> int:
    """Return a number of filters as a multiple of a number that is at least 90 % of it.

    Args:
        filters: as scaled by a width.
        divisor: the number.

    >>> divisible(24 * 0.75), divisible(16 * 0.35)
    (24, 8)
    """
    rounded = scaled(filters, 1, divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded


class Block(NamedTuple):
    """An inverted residual block.

    Attributes:
        expansion: the channels of the depthwise convolution, as a multiple of the inputs'; None for
            no convolution before it.
        filters: of the projection.
        size: of the depthwise kernel.
        strides: of the depthwise convolution.
        activation: as for `activate`.
        se_ratio: the channels that those of the depthwise convolution are squeezed into, as a share
            of them, to weight them; None for no weights.
    """

    expansion: float | None
    filters: int
    size: int = 3
    strides: int = 1
    activation: str = "relu6"
    se_ratio: float | None = None


class Style(NamedTuple):
    """The padding, normalisation and residuals that all blocks of a network share.

    Attributes:
        named: whether activations have names, and normalisations those of Keras's V2.
        epsilon: of the normalisations.
        padding: of strided convolutions: "zeros" by a layer of its own as in Keras, "same" as in
            TensorFlow, or "symmetric" as in PyTorch.
        activate_projection: whether the projection is activated, as in V1.
        depthwise_residual: whether a block without an expansion adds its inputs where it can.
        momentum: of the normalisations' averages.
        se_activation: of the squeezed channels; None for that of the block.
        se_divisor: squeezed channels are a multiple of it.
    """

    named: bool = False
    epsilon: float = 1e-3
    padding: str = "zeros"
    activate_projection: bool = False
    depthwise_residual: bool = True
    momentum: float = 0.999
    se_activation: str | None = "relu"
    se_divisor: int = 8


def activate(x: Any, activation: str, name: str | None = None) -> Any:
    """Apply an activation in a layer of its own.

    Args:
        x: images.
        activation: "relu", "relu6", or another one of Keras.
        name: of the layer.
    """
    if activation == "relu":
        return layers.ReLU(name=name)(x)
    if activation == "relu6":
        return layers.ReLU(6.0, name=name)(x)
    return layers.Activation(activation, name=name)(x)


def pad(x: Any, size: int, padding: str, name: str) -> tuple[Any, str]:
    """Return images for a convolution with stride 2, and the padding of the convolution itself.

    Args:
        x: images.
        size: of the kernel.
        padding: as in `Style`.
        name: of the layer.
    """
    if padding == "same":
        return x, "same"
    edges = size // 2 if padding == "symmetric" else strided_padding(x, size)
    return layers.ZeroPadding2D(edges, name=name)(x), "valid"


def inverted_residual(x: Any, block: Block, name: str, style: Style) -> Any:
    """Expand the channels, convolve each of them and project them.

    Args:
        x: images.
        block: its sizes.
        name: the prefix of the layers.
        style: of the network.
    """
    inputs, channels, bn = x, x.shape[channel_axis()], "BN" if style.named else "bn"

    def normalize(x: Any, part: str) -> Any:
        return batch_norm(x, f"{name}{part}_{bn}", style.epsilon, momentum=style.momentum)

    def normalize_and_activate(x: Any, part: str) -> Any:
        relu = f"{name}{part}_relu" if style.named else None
        return activate(normalize(x, part), block.activation, relu)

    if block.expansion is not None:
        width = divisible(channels * block.expansion)
        x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}expand")(x)
        x = normalize_and_activate(x, "expand")
    padding = "same"
    if block.strides == 2:
        layer = f"{name}pad" if style.named else f"{name}depthwise_pad"
        x, padding = pad(x, block.size, style.padding, layer)
    x = layers.DepthwiseConv2D(
        block.size, block.strides, padding, use_bias=False, name=f"{name}depthwise"
    )(x)
    x = normalize_and_activate(x, "depthwise")
    if block.se_ratio is not None:
        squeezed = divisible(x.shape[channel_axis()] * block.se_ratio, style.se_divisor)
        excited, function = f"{name}squeeze_excite_", style.se_activation or block.activation
        x = excite(
            x, squeezed, excited, ("avg_pool", "conv", "conv_1", "mul"),
            lambda y: activate(y, function, f"{excited}relu"), _hard_sigmoid,
        )  # fmt: skip
    x = layers.Conv2D(block.filters, 1, use_bias=False, name=f"{name}project")(x)
    x = (normalize_and_activate if style.activate_projection else normalize)(x, "project")
    adds = style.depthwise_residual or block.expansion is not None
    if adds and block.strides == 1 and channels == block.filters:
        x = layers.Add(name=f"{name}add")([inputs, x])
    return x


def _hard_sigmoid(x: Any) -> Any:
    """Compute "hard_sigmoid" in the layers that Keras's V3 has."""
    return layers.ReLU(6.0)(x + 3.0) * (1 / 6)


def check_input_tensor(input_tensor: Any, input_shape: Any) -> None:
    """Check that a tensor to build on fits the shape of an image, where both are given.

    Args:
        input_tensor: a KerasTensor, or None.
        input_shape: of an image, or None.

    Raises:
        ValueError: it is no KerasTensor, or has another width.
    """
    if input_tensor is None or input_shape is None:
        return
    if not isinstance(input_tensor, keras.KerasTensor):
        raise ValueError(f"input_tensor must be a KerasTensor, got {type(input_tensor).__name__}.")
    shape = tuple(input_tensor.shape)
    width = 3 if channel_axis() == 1 else 2
    if len(input_shape) == 3 and shape[width] != input_shape[width - 1]:
        raise ValueError(
            f"input_tensor must be of images of the shape {tuple(input_shape)}, got {shape}."
        )


def features(x: Any, alpha: float) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images.
        alpha: the factor of all filters, but not below the default of the last convolution's.
    """
    x = layers.Conv2D(
        divisible(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="Conv1"
    )(x)
    x = activate(batch_norm(x, "bn_Conv1", momentum=0.999), "relu6", "Conv1_relu")
    i = 0
    for expansion, filters, count, strides in STAGES:
        for first in (True, *(False,) * (count - 1)):
            block = Block(
                expansion, divisible(int(filters * alpha)), strides=strides if first else 1
            )
            name = f"block_{i}_" if i else "expanded_conv_"
            x = inverted_residual(x, block, name, Style(named=True))
            i += 1
    last = divisible(1280 * max(1.0, alpha))
    x = layers.Conv2D(last, 1, use_bias=False, name="Conv_1")(x)
    return activate(batch_norm(x, "Conv_1_bn", momentum=0.999), "relu6", "out_relu")


def _classify(x: Any, classes: int, activation: Any) -> Any:
    x = unnamed_pool(x, "avg")
    return layers.Dense(classes, activation=activation, name="predictions")(x)


# -- the application of Keras ---------------------------------------------------------------------


def _mobilenet_v2(
    input_shape: Any = None,
    alpha: float = 1.0,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> keras.Model:
    check_width(alpha, weights, _WIDTHS)
    check_input_tensor(input_tensor, input_shape)
    default_size, size = image_size(input_shape, include_top, weights, _SIZES)
    if input_shape is None and isinstance(input_tensor, keras.KerasTensor):
        default_size, _ = image_size(input_tensor.shape[1:], include_top, None, _SIZES)
        size = default_size if include_top else size
    return assemble(
        lambda x: features(x, alpha),
        name=f"mobilenetv2_{alpha:0.2f}_{size}" if name is None else name, include_top=include_top,
        weights=weights, input_tensor=input_tensor, input_shape=input_shape, pooling=pooling,
        classes=classes, classifier_activation=classifier_activation, default_size=default_size,
        top=_classify, pooled=unnamed_pool, files=f"MobileNetV2_{float(alpha)}_{size}",
    )  # fmt: skip


MobileNetV2 = describe(_mobilenet_v2, "MobileNetV2", alpha="the factor of all filters.")
