"""EfficientNet (Tan and Le, 2019, arXiv:1905.11946): width, depth and image size grow together.

The networks of Keras take pixels from 0 to 255. V2 (`efficientnet_v2.py`) has the same blocks, but
for plain convolutions in its first stages; both have checkpoints in `efficientnet_backbone.py`.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
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
    excite,
    strided_padding,
)
from keraslite import initializers, layers


def scaled(filters: int, width: float, divisor: int = 8) -> int:
    """Return a number of filters times a width, rounded to a multiple of a number.

    Args:
        filters: of the smallest network.
        width: the factor.
        divisor: the number.

    >>> scaled(40, 1.1), scaled(112, 1.1)
    (48, 120)
    """
    return max(divisor, int(filters * width + divisor / 2) // divisor * divisor)


@dataclass(frozen=True)
class Stage:
    """A stage of blocks that have the same shape.

    Attributes:
        filters: of the outputs.
        blocks: their number.
        size: of the kernel.
        expansion: the channels inside a block, as a multiple of its inputs'.
        strides: of the first block.
        fused: whether one plain convolution stands for the expansion and the depthwise convolution,
            without squeeze and excitation.
        squeeze: the channels of squeeze and excitation, as a share of the block's inputs'.
    """

    filters: int
    blocks: int
    size: int = 3
    expansion: int = 6
    strides: int = 1
    fused: bool = False
    squeeze: float = 0.25


STAGES = (
    Stage(16, 1, expansion=1), Stage(24, 2, strides=2), Stage(40, 2, 5, strides=2),
    Stage(80, 3, strides=2), Stage(112, 3, 5), Stage(192, 4, 5, strides=2), Stage(320, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How the blocks of an EfficientNet are laid out.

    Attributes:
        stages: the blocks of the network before it is scaled.
        stem_filters: of the first convolution, before it is scaled.
        width: the factor of all filters.
        depth: the factor of the number of blocks of each stage.
        divisor: numbers of filters are rounded to a multiple of it.
        capped: whether rounding takes away less than 10 % of the filters.
        activation: of the convolutions.
        epsilon: of the normalisations.
        momentum: of the normalisations.
        padding: of a convolution with a stride: "same" as TensorFlow's, "symmetric" on all sides,
            "bottom_right" with one row and column less above and on the left, and "keras", which is
            as "same", in a layer of its own that is made for the size of the images.
        symmetric_blocks: the numbers of the blocks with "symmetric" where it is "bottom_right".
        drop_rate: the share of the images for which the last block is dropped in training.
        scheduled_blocks: the number of blocks at which the rate is that; all by default.
        suffix: of the names of depthwise convolutions.
    """

    stages: Sequence[Stage] = STAGES
    stem_filters: int = 32
    width: float = 1.0
    depth: float = 1.0
    divisor: int = 8
    capped: bool = True
    activation: str = "swish"
    epsilon: float = 1e-3
    momentum: float = 0.99
    padding: str = "keras"
    symmetric_blocks: Collection[int] = ()
    drop_rate: float = 0.2
    scheduled_blocks: int | None = None
    suffix: str = ""

    def scaled(self, filters: int) -> int:
        """Return a number of filters times the width, rounded.

        Args:
            filters: before.
        """
        rounded = scaled(filters, self.width, self.divisor)
        too_few = rounded < 0.9 * (filters * self.width)
        return rounded + self.divisor if self.capped and too_few else rounded

    def count(self, stage: Stage) -> int:
        """Return the number of blocks of a stage.

        Args:
            stage: the stage.
        """
        return math.ceil(self.depth * stage.blocks)


def block_name(stage: int, block: int) -> str:
    """Return the prefix of the layers of a block.

    Args:
        stage: its number, from 0.
        block: its number in the stage, from 0.

    >>> block_name(0, 1)
    'block1b_'
    """
    return f"block{stage + 1}{chr(ord('a') + block)}_"


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the outputs of the stages, P1 to P4, and P5, that of the last convolution.

    Args:
        x: images.
        layout: of the blocks.
    """
    x = _convolve(x, layout.scaled(layout.stem_filters), "stem_", layout, 3, 2)
    total = layout.scheduled_blocks or sum(map(layout.count, layout.stages))
    pyramid, level, done = {}, 1, 0
    for number, stage in enumerate(layout.stages):
        level += stage.strides == 2
        for i in range(layout.count(stage)):
            strides, rate = stage.strides if i == 0 else 1, layout.drop_rate * done / total
            name, padding = block_name(number, i), layout.padding
            if padding == "bottom_right" and done in layout.symmetric_blocks:
                padding = "symmetric"
            inputs, block = x, _fused_block if stage.fused else _block
            x = block(x, stage, strides, name, layout, padding)
            x = _residual(x, inputs, strides, rate, name)
            done += 1
        pyramid[f"P{level}"] = x
    pyramid[f"P{level}"] = _convolve(x, layout.scaled(1280), "top_", layout)
    return pyramid


def _kernel_initializer() -> Any:
    """Return the initializer of convolutions, with a seed of its own."""
    return initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _pad(x: Any, size: int, strides: int, padding: str, name: str) -> tuple[Any, str]:
    """Return the images and the padding that is left to a convolution."""
    if strides == 1 or padding == "same":
        return x, "same"
    half = size // 2
    amount = {
        "symmetric": half,
        "bottom_right": ((half - 1, half),) * 2,
        "keras": strided_padding(x, size),
    }[padding]
    return layers.ZeroPadding2D(amount, name=f"{name}conv_pad")(x), "valid"


def _normalize(x: Any, name: str, layout: Layout, activation: Any = None) -> Any:
    x = batch_norm(x, f"{name}bn", layout.epsilon, momentum=layout.momentum)
    return x if activation is None else activate(x, f"{name}activation", activation)


def _convolve(
    x: Any, filters: int, name: str, layout: Layout, size: int = 1, strides: int = 1,
    padding: str | None = None, activates: bool = True,
) -> Any:  # fmt: skip
    """Convolve, normalise and activate."""
    x, padding = _pad(x, size, strides, padding or layout.padding, name)
    x = layers.Conv2D(
        filters, size, strides, padding, use_bias=False, kernel_initializer=_kernel_initializer(),
        name=f"{name}conv",
    )(x)  # fmt: skip
    return _normalize(x, name, layout, layout.activation if activates else None)


def _block(x: Any, stage: Stage, strides: int, name: str, layout: Layout, padding: str) -> Any:
    """Expand the channels, convolve each of them, weight them and project them ("MBConv")."""
    width = x.shape[channel_axis()]
    if stage.expansion != 1:
        x = _convolve(x, width * stage.expansion, f"{name}expand_", layout)
    x, padding = _pad(x, stage.size, strides, padding, f"{name}dw")
    x = layers.DepthwiseConv2D(
        stage.size, strides, padding, use_bias=False, depthwise_initializer=_kernel_initializer(),
        name=f"{name}dwconv{layout.suffix}",
    )(x)  # fmt: skip
    x = _normalize(x, name, layout, layout.activation)
    x = excite(
        x, max(1, int(width * stage.squeeze)), name,
        ("se_squeeze", "se_reduce", "se_expand", "se_excite"), layout.activation,
        reshape="se_reshape", kernel_initializer=_kernel_initializer(),
    )  # fmt: skip
    return _convolve(x, layout.scaled(stage.filters), f"{name}project_", layout, activates=False)


def _fused_block(
    x: Any, stage: Stage, strides: int, name: str, layout: Layout, padding: str
) -> Any:
    """Expand the channels by a plain convolution and project them ("Fused-MBConv")."""
    filters = layout.scaled(stage.filters)
    if stage.expansion == 1:
        return _convolve(x, filters, f"{name}project_", layout, stage.size, strides, padding)
    width = x.shape[channel_axis()] * stage.expansion
    x = _convolve(x, width, f"{name}expand_", layout, stage.size, strides, padding)
    return _convolve(x, filters, f"{name}project_", layout, activates=False)


def _residual(x: Any, inputs: Any, strides: int, drop_rate: float, name: str) -> Any:
    """Add the inputs of a block to its outputs where both have one shape."""
    if strides > 1 or x.shape[channel_axis()] != inputs.shape[channel_axis()]:
        return x
    if drop_rate > 0:
        x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
    return layers.Add(name=f"{name}add")([x, inputs])


# -- applications of Keras ------------------------------------------------------------------------


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


def _preprocess(x: Any, imagenet: bool) -> Any:
    """Normalise pixels; Keras's weights of ImageNet expect one more division."""
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(axis=channel_axis())(x)
    if imagenet:
        x = layers.Rescaling([1 / math.sqrt(std) for std in (0.229, 0.224, 0.225)])(x)
    return x


def _application(function: str, width: float, depth: float, size: int, dropout: float) -> Any:
    layout = Layout(width=width, depth=depth)

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
            lambda x: features(_preprocess(x, weights == "imagenet"), layout)["P5"], name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size,
            top=partial(classify, dropout=dropout), files=function,
        )  # fmt: skip

    return describe(constructor, function)


# (width, depth, image size, dropout) of each.
SIZES = {
    "B0": (1.0, 1.0, 224, 0.2), "B1": (1.0, 1.1, 240, 0.2), "B2": (1.1, 1.2, 260, 0.3),
    "B3": (1.2, 1.4, 300, 0.3), "B4": (1.4, 1.8, 380, 0.4), "B5": (1.6, 2.2, 456, 0.4),
    "B6": (1.8, 2.6, 528, 0.5), "B7": (2.0, 3.1, 600, 0.5),
}  # fmt: skip
(
    EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3, EfficientNetB4, EfficientNetB5,
    EfficientNetB6, EfficientNetB7,
) = (_application(f"EfficientNet{size}", *SIZES[size]) for size in SIZES)  # fmt: skip
