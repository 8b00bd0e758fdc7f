"""Aligned Xception (Chen et al., 2018, arXiv:1802.02611) as timm has it: a deeper Xception.

Strided separable convolutions replace the poolings of Xception, and depthwise convolutions are
normalised too. timm's variants whose names end with "p" normalise and activate before separable
convolutions instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import activate, batch_norm, channel_axis, padded_conv
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers


@dataclass(frozen=True)
class Layout:
    """How the blocks of an Aligned Xception are laid out.

    Attributes:
        filters: of the three separable convolutions of each block.
        strides: of the last convolution of each block.
        stem_filters: of the first two convolutions.
        pre_activation: whether normalisation and activation stand before separable convolutions.
        epsilon: of the normalisations.
    """

    filters: Sequence[Sequence[int]]
    strides: Sequence[int]
    stem_filters: Sequence[int]
    pre_activation: bool
    epsilon: float


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the inputs of the strided convolutions, P1 to P4, and the activated output, P5.

    Args:
        x: images.
        layout: of the blocks.
    """
    first, second = layout.stem_filters
    x = padded_conv(x, first, 3, 2, "stem1", use_bias=False)
    x = _normalize_and_activate(x, "stem1", layout)
    x = padded_conv(x, second, 3, 1, "stem2", use_bias=False)
    if not layout.pre_activation:
        x = _normalize_and_activate(x, "stem2", layout)
    pyramid, level = {}, 1
    for i, (filters, stride) in enumerate(zip(layout.filters, layout.strides, strict=True)):
        is_last = i == len(layout.filters) - 1
        x, before = _block(x, filters, stride, f"block{i}", layout, residual=not is_last)
        if stride > 1:
            pyramid[f"P{level}"] = before
            level += 1
    return {**pyramid, f"P{level}": activate(x, "relu") if layout.pre_activation else x}


def _normalize(x: Any, name: str, layout: Layout) -> Any:
    return batch_norm(x, f"{name}_bn", layout.epsilon, momentum=0.9)


def _normalize_and_activate(x: Any, name: str, layout: Layout) -> Any:
    return activate(_normalize(x, name, layout), f"{name}_relu")


def _block(
    x: Any, filters: Sequence[int], stride: int, name: str, layout: Layout, residual: bool
) -> tuple[Any, Any]:
    """Return the output of a block, and the input of its last convolution.

    A block that is not residual activates behind each convolution, unless all do before.
    """
    pre_activation = layout.pre_activation
    if pre_activation:
        x = _normalize_and_activate(x, name, layout)
    shortcut = before = x
    normalize = _normalize if residual else _normalize_and_activate
    for i, width in enumerate(filters, 1):
        part = f"{name}_conv{i}"
        if residual and not pre_activation:
            x = activate(x, f"{part}_relu")
        before = x
        if pre_activation and i > 1:
            x = _normalize_and_activate(x, part, layout)
        x = _depthwise(x, stride if i == len(filters) else 1, part)
        if not pre_activation:
            x = normalize(x, f"{part}_dw", layout)
        x = layers.Conv2D(width, 1, use_bias=False, name=f"{part}_pw")(x)
        if not pre_activation:
            x = normalize(x, f"{part}_pw", layout)
    if not residual:
        return x, before
    if stride > 1 or shortcut.shape[channel_axis()] != filters[-1]:
        place = f"{name}_shortcut"
        shortcut = padded_conv(shortcut, filters[-1], 1, stride, place, use_bias=False)
        if not layout.pre_activation:
            shortcut = _normalize(shortcut, place, layout)
    return layers.Add(name=f"{name}_add")([x, shortcut]), before


def _depthwise(x: Any, stride: int, name: str) -> Any:
    """Convolve each channel, padded on all sides alike."""
    padding = "same"
    if stride > 1:
        x, padding = layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    return layers.DepthwiseConv2D(3, stride, padding, use_bias=False, name=f"{name}_dw")(x)


# -- the backbone ---------------------------------------------------------------------------------


class AlignedXceptionBackbone(ImageBackbone):
    """Aligned Xception without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_conv_filters: the filters of the three separable convolutions of each block. The
            last block is not residual.
        stackwise_num_strides: the stride of the last convolution of each block, 1 or 2.
        input_conv_filters: of the first two convolutions.
        use_pre_activation: whether normalisation and activation precede separable convolutions.
        epsilon: of the normalisations.
        image_shape: of an image.

    Raises:
        ValueError: a block lacks one of its arguments.

    >>> model = AlignedXceptionBackbone([[8, 8, 8], [8, 8, 12]], [2, 1], (4, 8))
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 16, 16, 12), ['P1', 'P2'])
    """

    default_family = "timm_xception_aligned"

    def __init__(
        self,
        stackwise_conv_filters: Sequence[Sequence[int]],
        stackwise_num_strides: Sequence[int],
        input_conv_filters: Sequence[int] = (32, 64),
        use_pre_activation: bool = False,
        epsilon: float = 1e-3,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if len(stackwise_conv_filters) != len(stackwise_num_strides):
            raise ValueError(
                "stackwise_num_strides must have a number for each row of stackwise_conv_filters, "
                f"got {stackwise_num_strides} for {len(stackwise_conv_filters)} rows."
            )
        layout = Layout(
            stackwise_conv_filters, stackwise_num_strides, input_conv_filters, use_pre_activation,
            epsilon,
        )  # fmt: skip
        super().__init__(lambda x: features(x, layout), image_shape, **kwargs)


# -- checkpoints ----------------------------------------------------------------------------------

_ENTRY = ((128, 2), (256, 2), (728, 2))  # (filters, stride) of the first blocks
_DEEP_ENTRY = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))


def _variant(
    entry: Sequence[tuple[int, int]],
    middle: int,
    pre_activation: bool = False,
    epsilon: float = 1e-3,
) -> dict[str, Any]:
    """Return the arguments of a backbone.

    Args:
        entry: (filters, stride) of the first blocks.
        middle: the number of blocks that keep the size.
        pre_activation: as for the backbone.
        epsilon: as for the backbone.
    """
    widths = [*([filters] * 3 for filters, _ in entry), *([[728] * 3] * middle)]
    return {
        "stackwise_conv_filters": (*widths, (728, 1024, 1024), (1536, 1536, 2048)),
        "stackwise_num_strides": (*(stride for _, stride in entry), *([1] * middle), 2, 1),
        "input_conv_filters": (32, 64), "use_pre_activation": pre_activation, "epsilon": epsilon,
    }  # fmt: skip


_VARIANTS = {
    "xception41": _variant(_ENTRY, 8), "xception65": _variant(_ENTRY, 16),
    "xception71": _variant(_DEEP_ENTRY, 16),
    "xception41p": _variant(_ENTRY, 8, pre_activation=True, epsilon=1e-5),
    "xception65p": _variant(_ENTRY, 16, pre_activation=True),
}  # fmt: skip
_ROWS = {
    "stem1_conv": "stem.0.conv", "stem1_bn": "stem.0.bn",
    "block{i}_conv{j}_dw": "blocks.{i}.stack.conv{j}.conv_dw",
    "block{i}_conv{j}_pw": "blocks.{i}.stack.conv{j}.conv_pw",
}  # fmt: skip
_WEIGHTS = WeightTable(
    {
        **_ROWS, "stem2_conv": "stem.1.conv", "stem2_bn": "stem.1.bn",
        "block{i}_shortcut_conv": "blocks.{i}.shortcut.conv",
        "block{i}_shortcut_bn": "blocks.{i}.shortcut.bn",
        "block{i}_conv{j}_dw_bn": "blocks.{i}.stack.conv{j}.bn_dw",
        "block{i}_conv{j}_pw_bn": "blocks.{i}.stack.conv{j}.bn_pw",
    }
)  # fmt: skip
_PRE_ACTIVATION_WEIGHTS = WeightTable(
    {
        **_ROWS, "stem2_conv": "stem.1", "block{i}_shortcut_conv": "blocks.{i}.shortcut",
        "block{i}_bn": "blocks.{i}.norm", "block{i}_conv{j}_bn": "blocks.{i}.stack.conv{j}.norm",
    }
)  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    return _PRE_ACTIVATION_WEIGHTS if arguments["use_pre_activation"] else _WEIGHTS


register(
    Family(
        "timm_xception_aligned", AlignedXceptionBackbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"head\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "head.fc"}))},
    )
)  # fmt: skip
