"""ResNet and ResNet V2 (He et al., 2015, arXiv:1512.03385; 2016, arXiv:1603.05027), and ResNet-RS
(Bello et al., 2021, arXiv:2103.07579): V1 with a deep stem, pooled shortcuts and weighted channels.
ResNet-C has the deep stem, and ResNet-D pooled shortcuts too (He et al., 2018, arXiv:1812.01187);
timm's ResNet-S is a C with twice the filters in the stem, its ResNet-T a D with fewer at first.

The networks of Keras, timm and transformers differ. Keras's V1 has biases and the stride in the
first convolution of a bottleneck; timm and transformers have no biases and the stride in the 3 x 3
convolution ("V1.5"). Keras's V2 has the stride in the last block of a stage, timm in the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    channel_axis,
    excite,
    padded_conv,
    padded_max_pool,
)
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.storage import DENSE_AS_CONV
from hub.weights.tables import WeightTable
from keraslite import layers


@dataclass(frozen=True)
class Layout:
    """How the blocks of a ResNet are laid out.

    Attributes:
        filters: of the 3 x 3 convolutions of each stage.
        blocks: of each stage.
        bottleneck: whether a block is 1 x 1, 3 x 3, 1 x 1, rather than two 3 x 3 convolutions.
        pre_activation: whether normalisation and activation stand before the convolutions (V2).
        use_bias: whether convolutions that are not followed by a normalisation alone have biases.
        epsilon: of the normalisations.
        momentum: of the normalisations' averages.
        strided_first_conv: whether the stride is in the first convolution of a bottleneck.
        strided_last_block: whether the stride is in the last block of a stage, and images are
            padded with zeros before the first pooling, as in Keras's V2.
        stem_filters: of the first convolution, or of each of the 3 x 3 convolutions of a deep stem.
        strided_stem: whether a further convolution replaces the pooling behind the deep stem.
        pooled_shortcut: whether shortcuts are halved by average pooling instead of a stride.
        se_ratio: the channels of squeeze and excitation, as a share of those of the block; 0 for
            none.
    """

    filters: Sequence[int] = (64, 128, 256, 512)
    blocks: Sequence[int] = (3, 4, 6, 3)
    bottleneck: bool = True
    pre_activation: bool = False
    use_bias: bool = False
    epsilon: float = 1e-5
    momentum: float = 0.9
    strided_first_conv: bool = False
    strided_last_block: bool = False
    stem_filters: int | Sequence[int] = 64
    strided_stem: bool = False
    pooled_shortcut: bool = False
    se_ratio: float = 0.0


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the outputs of the stages, P2 to P5, the last of them normalised in V2.

    Args:
        x: images.
        layout: of the blocks.
    """
    v2 = layout.pre_activation
    x = (_stem if isinstance(layout.stem_filters, int) else _deep_stem)(x, layout)
    pyramid = {}
    for stage, (filters, count) in enumerate(zip(layout.filters, layout.blocks, strict=True)):
        # Keras's V2 halves the size at the end of the first three stages, the others at the start
        # of the last three.
        strided = count if layout.strided_last_block else 1
        halves = stage < len(layout.filters) - 1 if layout.strided_last_block else stage > 0
        for block in range(1, count + 1):
            stride = 2 if halves and block == strided else 1
            name = f"conv{stage + 2}_block{block}"
            x = (_block_v2 if v2 else _block_v1)(x, filters, stride, block == 1, name, layout)
        pyramid[f"P{stage + 2}"] = x
    if v2:
        pyramid[f"P{len(layout.filters) + 1}"] = _normalize(x, "post", layout)
    return pyramid


def _stem(x: Any, layout: Layout) -> Any:
    """Quarter the size by a convolution and by pooling."""
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(
        layout.stem_filters, 7, strides=2, use_bias=layout.use_bias, name="conv1_conv"
    )(x)
    if not layout.pre_activation:
        x = _normalize(x, "conv1", layout)
    if layout.pre_activation and not layout.strided_last_block:
        return padded_max_pool(x, "pool1_pool")
    return _pool(x)  # with zeros in Keras, even where values may be negative


def _deep_stem(x: Any, layout: Layout) -> Any:
    """Quarter the size by small convolutions, and by pooling unless the last of them halves it."""
    convolutions = [(width, 1) for width in layout.stem_filters]
    convolutions[0] = layout.stem_filters[0], 2
    if layout.strided_stem:
        convolutions.append((layout.stem_filters[-1], 2))
    for i, (width, stride) in enumerate(convolutions, 1):
        x = padded_conv(x, width, 3, stride, f"conv1_{i}", use_bias=layout.use_bias)
        x = _normalize(x, f"conv1_{i}", layout)
    return x if layout.strided_stem else _pool(x)


def _pool(x: Any) -> Any:
    """Halve the size by maxima, padded with zeros."""
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)


def _normalize(x: Any, name: str, layout: Layout) -> Any:
    return activate(_batch_norm(x, name, layout), f"{name}_relu")


def _batch_norm(x: Any, name: str, layout: Layout) -> Any:
    return batch_norm(x, f"{name}_bn", layout.epsilon, momentum=layout.momentum)


def _block_v1(x: Any, filters: int, stride: int, first: bool, name: str, layout: Layout) -> Any:
    """Add the convolutions of a block to its input, or to a projection of it."""
    width = 4 * filters if layout.bottleneck else filters
    sizes = (1, 3, 1) if layout.bottleneck else (3, 3)
    strided = 1 if layout.bottleneck and not layout.strided_first_conv else 0
    shortcut, bias = x, layout.use_bias
    if first and (stride > 1 or x.shape[channel_axis()] != width):
        remaining = 1 if layout.pooled_shortcut else stride
        if remaining < stride:
            shortcut = layers.AveragePooling2D(stride, padding="same", name=f"{name}_0_pool")(x)
        shortcut = padded_conv(shortcut, width, 1, remaining, f"{name}_0", use_bias=bias)
        shortcut = _batch_norm(shortcut, f"{name}_0", layout)
    for i, size in enumerate(sizes):
        outputs = width if i == len(sizes) - 1 else filters
        part = f"{name}_{i + 1}"
        x = padded_conv(x, outputs, size, stride if i == strided else 1, part, use_bias=bias)
        x = _batch_norm(x, part, layout)
        if i < len(sizes) - 1:
            x = activate(x, f"{part}_relu")
    if layout.se_ratio > 0:
        x = excite(x, round(width * layout.se_ratio), f"{name}_")
    return activate(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


def _block_v2(x: Any, filters: int, stride: int, first: bool, name: str, layout: Layout) -> Any:
    """Add the convolutions of a normalised input to the input, or to a projection of it."""
    normalized, bias = _normalize(x, f"{name}_preact", layout), layout.use_bias
    if first:
        shortcut = padded_conv(normalized, 4 * filters, 1, stride, f"{name}_0", use_bias=bias)
    else:
        shortcut = layers.MaxPooling2D(1, stride)(x) if stride > 1 else x
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(normalized)
    x = _normalize(x, f"{name}_1", layout)
    x = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(x)
    x = layers.Conv2D(filters, 3, stride, use_bias=False, name=f"{name}_2_conv")(x)
    x = _normalize(x, f"{name}_2", layout)
    x = layers.Conv2D(4 * filters, 1, use_bias=bias, name=f"{name}_3_conv")(x)
    return layers.Add(name=f"{name}_out")([shortcut, x])


# -- applications of Keras ------------------------------------------------------------------------

_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}


def _application(depth: str, version: str) -> Any:
    layout = Layout(
        blocks=_DEPTHS[depth], pre_activation=version == "V2", use_bias=True, epsilon=1.001e-5,
        momentum=0.99, strided_first_conv=True, strided_last_block=version == "V2",
    )  # fmt: skip
    return application(f"ResNet{depth}{version}", lambda x: features(x, layout)["P5"])


ResNet50, ResNet101, ResNet152 = (_application(depth, "") for depth in _DEPTHS)
ResNet50V2, ResNet101V2, ResNet152V2 = (_application(depth, "V2") for depth in _DEPTHS)


# -- the backbone ---------------------------------------------------------------------------------


class ResNetBackbone(ImageBackbone):
    """ResNet without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_num_filters: the filters of the 3 x 3 convolutions of each stage.
        stackwise_num_blocks: the blocks of each stage.
        block_type: "basic_block" or "bottleneck_block".
        use_pre_activation: whether normalisation and activation precede the convolutions (V2).
        input_conv_filters: of the first convolution, or a list of those of each of the 3 x 3
            convolutions that replace it in ResNet-C, -D, -RS, -S and -T.
        use_bias: whether convolutions have biases, as Keras's have.
        epsilon: of the normalisations.
        downsample_in_bottleneck: whether the stride is in the first convolution of a bottleneck.
        downsample_in_last_block: whether the stride is in the last block of a stage, as in Keras's
            V2.
        use_strided_stem: whether a further convolution replaces the pooling behind those, as in
            ResNet-RS.
        pool_in_shortcut: whether shortcuts are halved by average pooling, as in ResNet-D, -RS and
            -T.
        se_ratio: the channels of squeeze and excitation, as a share of those of the block; 0 for
            none. ResNet-RS has 0.25.
        image_shape: of an image.

    Raises:
        ValueError: an argument is not valid, or arguments exclude each other.

    >>> model = ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 8), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "resnet"

    def __init__(
        self,
        stackwise_num_filters: Sequence[int] = (64, 128, 256, 512),
        stackwise_num_blocks: Sequence[int] = (3, 4, 6, 3),
        block_type: str = "bottleneck_block",
        use_pre_activation: bool = False,
        input_conv_filters: int | Sequence[int] = 64,
        use_bias: bool = False,
        epsilon: float = 1e-5,
        downsample_in_bottleneck: bool = False,
        downsample_in_last_block: bool = False,
        use_strided_stem: bool = False,
        pool_in_shortcut: bool = False,
        se_ratio: float = 0.0,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        if block_type not in ("basic_block", "bottleneck_block"):
            raise ValueError(
                f"block_type must be 'basic_block' or 'bottleneck_block', got {block_type!r}."
            )
        self.keep_config(locals())
        is_deep = not isinstance(input_conv_filters, int)
        if use_strided_stem and not is_deep:
            raise ValueError(
                "use_strided_stem must be False with one first convolution, got "
                f"input_conv_filters={input_conv_filters}: give a list of filters."
            )
        is_newer = is_deep or pool_in_shortcut or se_ratio > 0
        if use_pre_activation and is_newer:
            raise ValueError(
                "use_pre_activation must be False with a list of input_conv_filters, "
                "pool_in_shortcut or se_ratio."
            )
        if use_pre_activation or is_newer:  # transformers has neither
            self.default_family = "timm_resnetv2" if use_pre_activation else "timm_resnet"
        layout = Layout(
            stackwise_num_filters, stackwise_num_blocks, block_type == "bottleneck_block",
            use_pre_activation, use_bias, epsilon,
            strided_first_conv=downsample_in_bottleneck,
            strided_last_block=downsample_in_last_block, stem_filters=input_conv_filters,
            strided_stem=use_strided_stem, pooled_shortcut=pool_in_shortcut, se_ratio=se_ratio,
        )  # fmt: skip
        super().__init__(lambda x: features(x, layout), image_shape, **kwargs)


# -- checkpoints ----------------------------------------------------------------------------------

_TIMM_DEPTHS = {
    "10": ("basic_block", (1, 1, 1, 1)), "14": ("bottleneck_block", (1, 1, 1, 1)),
    "18": ("basic_block", (2, 2, 2, 2)), "26": ("bottleneck_block", (2, 2, 2, 2)),
    "34": ("basic_block", (3, 4, 6, 3)),
    **{depth: ("bottleneck_block", blocks) for depth, blocks in _DEPTHS.items()},
    "200": ("bottleneck_block", (3, 24, 36, 3)),
}  # fmt: skip
_RS_BLOCKS = {
    "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3),
    "270": (4, 29, 53, 4), "350": (4, 36, 72, 4), "420": (4, 44, 87, 4),
}  # fmt: skip
# What all networks of timm have in common, but for those that say otherwise.
_COMMON = {
    "stackwise_num_filters": (64, 128, 256, 512), "block_type": "bottleneck_block",
    "use_pre_activation": False, "input_conv_filters": 64, "use_bias": False, "epsilon": 1e-5,
    "downsample_in_bottleneck": False, "downsample_in_last_block": False,
    "use_strided_stem": False, "pool_in_shortcut": False, "se_ratio": 0.0,
}  # fmt: skip
_DEEP = {"input_conv_filters": (32, 32, 64)}
_RS = {**_DEEP, "use_strided_stem": True, "pool_in_shortcut": True, "se_ratio": 0.25}
_PLAIN = ("18", "26", "34", *_DEPTHS, "200")
# The end of a name in timm -> the depths that it has, and its arguments.
_ENDS = {
    "": (_PLAIN, {}), "c": (_DEPTHS, _DEEP),
    "d": (_PLAIN, {**_DEEP, "pool_in_shortcut": True}),
    "s": (_DEPTHS, {"input_conv_filters": (64, 64, 128)}),
    "t": (
        ("10", "14", "26", "50"), {"input_conv_filters": (24, 32, 64), "pool_in_shortcut": True}
    ),
}  # fmt: skip
_VARIANTS = {
    f"resnet{depth}{end}": {
        **_COMMON,
        **parts,
        "stackwise_num_blocks": _TIMM_DEPTHS[depth][1],
        "block_type": _TIMM_DEPTHS[depth][0],
    }
    for end, (depths, parts) in _ENDS.items()
    for depth in depths
} | {
    f"resnetrs{depth}": {**_COMMON, **_RS, "stackwise_num_blocks": blocks}
    for depth, blocks in _RS_BLOCKS.items()
}
_VARIANTS_V2 = {
    f"resnetv2_{depth}": {**_COMMON, "stackwise_num_blocks": blocks, "use_pre_activation": True}
    for depth, blocks in _DEPTHS.items()
}


def _block_rows(arguments: Mapping[str, Any], block: str, parts: Mapping[str, str]) -> dict:
    """Return the rows of the blocks: their paths here and in a checkpoint.

    Args:
        arguments: of the backbone.
        block: the name of a block in a checkpoint, with the numbers of the stage and of the block.
        parts: the ends of names here and there.
    """
    return {
        f"conv{stage + 2}_block{i + 1}_{ours}": f"{block.format(stage, i)}.{theirs}"
        for stage, count in enumerate(arguments["stackwise_num_blocks"])
        for i in range(count)
        for ours, theirs in parts.items()
    }


def _timm_weights(arguments: Mapping[str, Any]) -> WeightTable:
    first = 1 if arguments["pool_in_shortcut"] else 0  # behind the pooling
    parts = {"0_conv": f"downsample.{first}", "0_bn": f"downsample.{first + 1}"}
    parts |= {"se_reduce": "se.fc1", "se_expand": "se.fc2"}
    parts |= {f"{n}_{part}": f"{part}{n}" for n in (1, 2, 3) for part in ("conv", "bn")}
    rows = _block_rows(arguments, "layer{}.{}", parts)
    # timm counts the stages from one.
    rows = {k: f"layer{int(v[5]) + 1}{v[6:]}" for k, v in rows.items()}
    stem = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    if not isinstance(arguments["input_conv_filters"], int):
        places = (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1"),
                  ("maxpool.0", "maxpool.1"))  # fmt: skip
        stem = {
            f"conv1_{i}_{part}": place
            for i, pair in enumerate(places, 1)
            for part, place in zip(("conv", "bn"), pair, strict=True)
        }
    return WeightTable({**stem, **rows})


def _timm_weights_v2(arguments: Mapping[str, Any]) -> WeightTable:
    parts = {
        "0_conv": "downsample.conv", "preact_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2",
        "2_conv": "conv2", "2_bn": "norm3", "3_conv": "conv3",
    }  # fmt: skip
    rows = _block_rows(arguments, "stages.{}.blocks.{}", parts)
    return WeightTable({"conv1_conv": "stem.conv", **rows, "post_bn": "norm"})


def _transformers_weights(arguments: Mapping[str, Any]) -> WeightTable:
    ends = {"conv": "convolution", "bn": "normalization"}
    parts = {f"0_{part}": f"shortcut.{end}" for part, end in ends.items()}
    parts |= {f"{n + 1}_{part}": f"layer.{n}.{end}" for n in range(3) for part, end in ends.items()}
    rows = _block_rows(arguments, "encoder.stages.{}.layers.{}", parts)
    stem = {f"conv1_{part}": f"embedder.embedder.{end}" for part, end in ends.items()}
    return WeightTable({**stem, **rows})


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json of transformers has in another form."""
    bottleneck = config["layer_type"] == "bottleneck"
    return {
        "block_type": "bottleneck_block" if bottleneck else "basic_block",
        "stackwise_num_filters": [n // 4 if bottleneck else n for n in config["hidden_sizes"]],
    }


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    bottleneck = arguments["block_type"] == "bottleneck_block"
    filters = arguments["stackwise_num_filters"]
    return {
        "layer_type": "bottleneck" if bottleneck else "basic",
        "hidden_sizes": [4 * n if bottleneck else n for n in filters],
    }


register(
    Family(
        "timm_resnet", ResNetBackbone, {}, _timm_weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"fc\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "fc"}))},
    )
)  # fmt: skip
register(
    Family(
        "timm_resnetv2", ResNetBackbone, {}, _timm_weights_v2, library="timm",
        read=partial(timm_arguments, _VARIANTS_V2), write=partial(timm_config, _VARIANTS_V2),
        other_heads=(r"head\..*",),
        heads={
            "ImageClassifier": Head(
                weights=WeightTable({"head": "head.fc"}, storage={"head/kernel": DENSE_AS_CONV})
            )
        },
    )
)  # fmt: skip
register(
    Family(
        "resnet", ResNetBackbone,
        {
            "input_conv_filters": "embedding_size", "stackwise_num_blocks": "depths",
            "downsample_in_bottleneck": "downsample_in_bottleneck",
        },
        _transformers_weights, "ResNetModel", prefix="resnet.", read=_read, write=_write,
        defaults={
            "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3],
            "layer_type": "bottleneck", "hidden_act": "relu", "num_channels": 3,
            "downsample_in_first_stage": False, "downsample_in_bottleneck": False,
        },
        fixed={
            "hidden_act": ("relu",), "downsample_in_first_stage": (False,), "num_channels": (3,),
        },
        other_heads=(r"classifier\..*",),
        heads={
            "ImageClassifier": Head(
                "ResNetForImageClassification", WeightTable({"head": "classifier.1"})
            )
        },
    )
)  # fmt: skip
