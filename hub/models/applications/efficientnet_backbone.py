"""EfficientNetBackbone: EfficientNet and EfficientNetV2 as transformers and timm publish them.

The networks are those of Keras without the preprocessing, but for how convolutions with a stride
are padded, and for epsilon. timm's own (`efficientnet_b0`) pad on all sides alike and have 1e-5;
those with weights of Google (`tf_efficientnet_b0`) pad as TensorFlow and have 1e-3. Those of
transformers have those weights too, padded as for images of an even size, but for the blocks that
the config names.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.efficientnet import (
    SIZES,
    STAGES,
    Layout,
    Stage,
    block_name,
    features,
)
from hub.models.applications.efficientnet_v2 import LAYOUTS
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable

_PADDINGS = ("same", "symmetric", "bottom_right")


class EfficientNetBackbone(ImageBackbone):
    """EfficientNet without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_output_filters: of the blocks of each stage, before they are scaled.
        stackwise_num_repeats: the blocks of each stage, before their number is scaled.
        stackwise_kernel_sizes: of each stage.
        stackwise_expansion_ratios: the channels inside a block, as multiples of its inputs'.
        stackwise_strides: of the first block of each stage.
        stackwise_block_types: of each stage "unfused", or "fused", where one plain convolution
            stands for the expansion and the depthwise convolution (V2).
        width_coefficient: the factor of all filters.
        depth_coefficient: the factor of the number of blocks of each stage.
        depth_divisor: numbers of filters are rounded to a multiple of it.
        cap_round_filter_decrease: whether rounding takes away less than 10 % of the filters.
        input_conv_filters: of the first convolution, before they are scaled.
        squeeze_and_excite_ratio: the channels of squeeze and excitation, as a share of the inputs'.
        activation: of the convolutions.
        batch_norm_epsilon: of the normalisations.
        batch_norm_momentum: of the normalisations.
        padding: of a convolution with a stride: "same" as TensorFlow's, "symmetric" on all sides,
            or "bottom_right", with one row and column less above and on the left.
        symmetric_blocks: the numbers of the blocks with "symmetric" where it is "bottom_right".
        dropout: the share of the images for which the last block is dropped in training.
        image_shape: of an image.

    >>> model = EfficientNetBackbone((8, 16), (1, 2), (3, 5), (1, 6), (1, 2), ("unfused",) * 2, 0.1)
    >>> tuple(model(np.ones((1, 32, 32, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 8, 8, 128), ['P1', 'P2'])
    """

    default_family = "efficientnet"

    def __init__(
        self,
        stackwise_output_filters: Sequence[int] = tuple(stage.filters for stage in STAGES),
        stackwise_num_repeats: Sequence[int] = tuple(stage.blocks for stage in STAGES),
        stackwise_kernel_sizes: Sequence[int] = tuple(stage.size for stage in STAGES),
        stackwise_expansion_ratios: Sequence[int] = tuple(stage.expansion for stage in STAGES),
        stackwise_strides: Sequence[int] = tuple(stage.strides for stage in STAGES),
        stackwise_block_types: Sequence[str] = ("unfused",) * len(STAGES),
        width_coefficient: float = 1.0,
        depth_coefficient: float = 1.0,
        depth_divisor: int = 8,
        cap_round_filter_decrease: bool = True,
        input_conv_filters: int = 32,
        squeeze_and_excite_ratio: float = 0.25,
        activation: str = "swish",
        batch_norm_epsilon: float = 1e-3,
        batch_norm_momentum: float = 0.99,
        padding: str = "bottom_right",
        symmetric_blocks: Sequence[int] = (),
        dropout: float = 0.2,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        if padding not in _PADDINGS:
            raise ValueError(f"padding must be one of {_PADDINGS}, got {padding!r}.")
        layout = _layout(self.keep_config(locals()))
        if padding != "bottom_right":  # which transformers has alone
            self.default_family = "timm_efficientnet"
        super().__init__(partial(features, layout=layout), image_shape, **kwargs)


def _layout(arguments: Mapping[str, Any]) -> Layout:
    """Return the layout of the blocks of a backbone's arguments."""
    stages = [
        Stage(filters, blocks, size, expansion, strides, block_type == "fused", squeeze)
        for filters, blocks, size, expansion, strides, block_type, squeeze in zip(
            *(arguments[name] for name in _STACKWISE),
            [arguments["squeeze_and_excite_ratio"]] * len(arguments[_STACKWISE[0]]),
            strict=True,
        )
    ]
    return Layout(
        stages, arguments["input_conv_filters"], arguments["width_coefficient"],
        arguments["depth_coefficient"], arguments["depth_divisor"],
        arguments["cap_round_filter_decrease"], arguments["activation"],
        arguments["batch_norm_epsilon"], arguments["batch_norm_momentum"], arguments["padding"],
        arguments["symmetric_blocks"], arguments["dropout"],
    )  # fmt: skip


_STACKWISE = (
    "stackwise_output_filters", "stackwise_num_repeats", "stackwise_kernel_sizes",
    "stackwise_expansion_ratios", "stackwise_strides", "stackwise_block_types",
)  # fmt: skip


# -- checkpoints of timm --------------------------------------------------------------------------


def _timm_variant(layout: Layout, tensorflow: bool) -> dict[str, Any]:
    columns = zip(
        *(
            (s.filters, s.blocks, s.size, s.expansion, s.strides, "fused" if s.fused else "unfused")
            for s in layout.stages
        ),
        strict=True,
    )
    return {
        **dict(zip(_STACKWISE, columns, strict=True)),
        "width_coefficient": layout.width, "depth_coefficient": layout.depth,
        "depth_divisor": layout.divisor, "squeeze_and_excite_ratio": layout.stages[0].squeeze,
        "activation": layout.activation, "symmetric_blocks": (),
        "cap_round_filter_decrease": layout.capped, "input_conv_filters": layout.stem_filters,
        "batch_norm_epsilon": 1e-3 if tensorflow else 1e-5, "batch_norm_momentum": 0.9,
        "padding": "same" if tensorflow else "symmetric", "dropout": 0.0,
    }  # fmt: skip


_COEFFICIENTS = {size.lower(): values[:2] for size, values in SIZES.items()} | {
    "b8": (2.2, 3.6), "l2": (4.3, 5.3),
}  # fmt: skip
_VARIANTS = {
    f"{prefix}efficientnet_{size}": _timm_variant(Layout(width=width, depth=depth), bool(prefix))
    for prefix in ("", "tf_")
    for size, (width, depth) in _COEFFICIENTS.items()
} | {
    f"tf_efficientnetv2_{size.lower()}": _timm_variant(layout, True)
    for size, layout in LAYOUTS.items()
}

_STEM_AND_TOP = ("stem_conv", "stem_bn", "top_conv", "top_bn")
_SQUEEZE = {"se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
# The names of the layers of a block here and there, by whether it is fused, and whether it expands.
_TIMM_PARTS = {
    (False, False): {
        "dwconv": "conv_dw", "bn": "bn1", **_SQUEEZE, "project_conv": "conv_pw",
        "project_bn": "bn2",
    },
    (False, True): {
        "expand_conv": "conv_pw", "expand_bn": "bn1", "dwconv": "conv_dw", "bn": "bn2",
        **_SQUEEZE, "project_conv": "conv_pwl", "project_bn": "bn3",
    },
    (True, False): {"project_conv": "conv", "project_bn": "bn1"},
    (True, True): {
        "expand_conv": "conv_exp", "expand_bn": "bn1", "project_conv": "conv_pwl",
        "project_bn": "bn2",
    },
}  # fmt: skip


def _timm_weights(arguments: Mapping[str, Any]) -> WeightTable:
    layout = _layout(arguments)
    names = ("conv_stem", "bn1", "conv_head", "bn2")
    rows = dict(zip(_STEM_AND_TOP, names, strict=True))
    for number, stage in enumerate(layout.stages):
        parts = _TIMM_PARTS[stage.fused, stage.expansion != 1]
        for i in range(layout.count(stage)):
            block = block_name(number, i)
            rows |= {f"{block}{a}": f"blocks.{number}.{i}.{b}" for a, b in parts.items()}
    return WeightTable(rows)


register(
    Family(
        "timm_efficientnet", EfficientNetBackbone, {}, _timm_weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"classifier\..*",),
        heads={
            "ImageClassifier": Head(
                weights=WeightTable({"head": "classifier"}), options={"dropout": 0.0}
            )
        },
    )
)  # fmt: skip


# -- checkpoints of transformers ------------------------------------------------------------------

_PARTS = {
    "expand_conv": "expansion.expand_conv", "expand_bn": "expansion.expand_bn",
    "dwconv": "depthwise_conv.depthwise_conv", "bn": "depthwise_conv.depthwise_norm",
    "se_reduce": "squeeze_excite.reduce", "se_expand": "squeeze_excite.expand",
    "project_conv": "projection.project_conv", "project_bn": "projection.project_bn",
}  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    layout = _layout(arguments)
    names = (
        "embeddings.convolution", "embeddings.batchnorm", "encoder.top_conv", "encoder.top_bn"
    )  # fmt: skip
    rows, done = dict(zip(_STEM_AND_TOP, names, strict=True)), 0
    for number, stage in enumerate(layout.stages):
        for i in range(layout.count(stage)):
            block = block_name(number, i)
            rows |= {f"{block}{a}": f"encoder.blocks.{done}.{b}" for a, b in _PARTS.items()}
            done += 1
    return WeightTable(rows)


def _derived(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json of transformers that follow from others.

    Raises:
        ValueError: the first block of a stage would be added to its inputs, which transformers
            does with the others alone.
    """
    filters = list(arguments["stackwise_output_filters"])
    layout = _layout(arguments)
    widths = [layout.scaled(n) for n in (layout.stem_filters, *filters)]
    for number, strides in enumerate(arguments["stackwise_strides"]):
        if strides == 1 and widths[number] == widths[number + 1]:
            raise ValueError(
                "A stage without a stride must have other filters than the one before it in "
                f"EfficientNet of transformers, got {widths[1:]} after {widths[0]} of the stem."
            )
    return {
        "in_channels": [layout.stem_filters, *filters[:-1]], "hidden_dim": layout.scaled(1280),
    }  # fmt: skip


def _read(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check what follows from other keys, or is no argument."""
    keys = {name: config[key] for name, key in _CONFIG.items()}
    others = {**_FIXED, "stackwise_block_types": ("unfused",) * len(config["out_channels"])}
    derived = _derived({**keys, **others})
    for key, expected in derived.items():
        if (list(config[key]) if key == "in_channels" else config[key]) != expected:
            raise ValueError(
                f"{key} must be {expected} in a config of efficientnet, got {config[key]}."
            )
    return others


def _write(arguments: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: arguments[name] for name in _FIXED}
    if others != _FIXED or "fused" in arguments["stackwise_block_types"]:
        raise ValueError(
            f"transformers has EfficientNet with {_FIXED} and without fused blocks alone, got "
            f"{others} and {arguments['stackwise_block_types']}: save the model with `Model.save`."
        )
    return _derived(arguments)


_CONFIG = {
    "stackwise_output_filters": "out_channels", "stackwise_num_repeats": "num_block_repeats",
    "stackwise_kernel_sizes": "kernel_sizes", "stackwise_expansion_ratios": "expand_ratios",
    "stackwise_strides": "strides", "width_coefficient": "width_coefficient",
    "depth_coefficient": "depth_coefficient", "depth_divisor": "depth_divisor",
    "squeeze_and_excite_ratio": "squeeze_expansion_ratio", "activation": "hidden_act",
    "batch_norm_epsilon": "batch_norm_eps", "batch_norm_momentum": "batch_norm_momentum",
    "symmetric_blocks": "depthwise_padding", "dropout": "drop_connect_rate",
}  # fmt: skip
_FIXED = {
    "cap_round_filter_decrease": True, "input_conv_filters": 32, "padding": "bottom_right",
}  # fmt: skip
register(
    Family(
        "efficientnet", EfficientNetBackbone, _CONFIG, _weights, "EfficientNetModel",
        prefix="efficientnet.", read=_read, write=_write,
        defaults={
            "width_coefficient": 2.0, "depth_coefficient": 3.1, "depth_divisor": 8,
            "kernel_sizes": [3, 3, 5, 3, 5, 5, 3], "out_channels": [16, 24, 40, 80, 112, 192, 320],
            "in_channels": [32, 16, 24, 40, 80, 112, 192], "depthwise_padding": [],
            "strides": [1, 2, 2, 2, 1, 2, 1], "num_block_repeats": [1, 2, 2, 3, 3, 4, 1],
            "expand_ratios": [1, 6, 6, 6, 6, 6, 6], "squeeze_expansion_ratio": 0.25,
            "hidden_act": "swish", "hidden_dim": 2560, "pooling_type": "mean",
            "batch_norm_eps": 1e-3, "batch_norm_momentum": 0.99, "dropout_rate": 0.5,
            "drop_connect_rate": 0.2, "num_channels": 3,
        },
        fixed={"pooling_type": ("mean",), "num_channels": (3,)},
        other_heads=(r"classifier\..*",),
        heads={
            "ImageClassifier": Head(
                "EfficientNetForImageClassification", WeightTable({"head": "classifier"}),
                options={"dropout_key": "dropout_rate", "dropout": 0.5},
            )
        },
    )
)  # fmt: skip
