"""MobileNetBackbone: MobileNet, V2 and V3 as transformers and timm publish them.

They differ from Keras's networks, and from each other. The weights that come from TensorFlow
(transformers' all, timm's `tf_`) have its padding of strided convolutions and an epsilon of 1e-3,
timm's own are padded on all sides alike and have 1e-5. The number of filters is rounded to a
multiple of 8 by timm, and in V1 cut off by transformers. The first block of transformers' V2 adds
nothing to its outputs, timm's does where the filters are as many. The dense layer before V3's
classes (`last_layer_filter`) stands behind pooling. timm's `mobilenetv3_rw` is an earlier V3: its
squeezed channels are no multiples of 8, and are activated as their block is.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import batch_norm
from hub.models.applications.mobilenet_v2 import (
    STAGES,
    Block,
    Style,
    activate,
    divisible,
    inverted_residual,
    pad,
)
from hub.models.applications.mobilenet_v3 import LARGE, SMALL
from hub.models.image_backbone import ImageBackbone, has_arguments, timm_arguments, timm_config
from hub.weights.storage import DENSE_AS_CONV
from hub.weights.tables import WeightTable
from keraslite import layers


def _features(
    x: Any, stem: tuple[int, str], stages: Sequence[Sequence[Block]],
    last: tuple[int | None, str, int], style: Style,
) -> dict[str, Any]:  # fmt: skip
    """Return the outputs before each halving of the size, P1 to P5, and of the last convolutions.

    Args:
        x: images.
        stem: the filters and the activation of the first convolution.
        stages: the blocks of each.
        last: the filters, if any, the activation and the number of the last convolutions.
        style: of the blocks.
    """

    def normalize(x: Any, name: str, activation: str) -> Any:
        x = batch_norm(x, f"{name}_BN", style.epsilon, momentum=style.momentum)
        return activate(x, activation, f"{name}_relu")

    x, padding = pad(x, 3, style.padding, "stem_pad")
    x = layers.Conv2D(stem[0], 3, 2, padding, use_bias=False, name="stem")(x)
    x = normalize(x, "stem", stem[1])
    pyramid, level = {}, 1
    for i, blocks in enumerate(stages):
        for j, block in enumerate(blocks):
            x = inverted_residual(x, block, f"stage{i}_block{j}_", style)
            level += block.strides == 2
            pyramid[f"P{level}"] = x
    filters, activation, number = last
    for name in _last_names(number) if filters is not None else ():
        x = layers.Conv2D(filters, 1, use_bias=False, name=name)(x)
        x = pyramid[f"P{level}"] = normalize(x, name, activation)
    return pyramid


def _last_names(number: int) -> list[str]:
    """Return the names of the last convolutions.

    Args:
        number: of them.
    """
    return ["last", *(f"last{i}" for i in range(2, number + 1))]


class MobileNetBackbone(ImageBackbone):
    """MobileNet, V2 or V3 without a classifier: images (batch, height, width, 3) to features.

    Arguments with `stackwise` have a list for each stage, with an item for each block.

    Args:
        stackwise_expansion: the channels of the depthwise convolution, a multiple of 8; None for no
            convolution before it.
        stackwise_num_filters: of the projection.
        stackwise_kernel_size: of the depthwise convolution.
        stackwise_num_strides: of the depthwise convolution.
        stackwise_se_ratio: the channels that all are squeezed into, as a share of them, to weight
            them; None for no weights.
        stackwise_activation: "relu", "relu6", "hard_swish" ...
        input_num_filters: of the first convolution.
        input_activation: of the first convolution.
        output_num_filters: of the last convolution; None for none.
        output_activation: of the last convolution, and of the layer of `last_layer_filter`.
        last_layer_filter: the width of a dense layer behind pooling; None for none.
        last_layer_bias: whether that layer has a bias.
        output_num_convolutions: the number of last convolutions, where there are any.
        activate_projection: whether projections are activated (V1).
        depthwise_residual: whether blocks without an expansion add their inputs where they can.
        tf_padding: whether strided convolutions are padded as in TensorFlow, rather than on all
            sides alike.
        epsilon: of the normalisations.
        se_activation: of the squeezed channels; None for that of the block.
        se_divisor: squeezed channels are rounded to a multiple of it.
        image_shape: of an image.

    Raises:
        ValueError: the lists have not one form.

    >>> model = MobileNetBackbone(
    ...     stackwise_expansion=[[None], [48, 96]], stackwise_num_filters=[[8], [16, 16]],
    ...     stackwise_kernel_size=[[3], [5, 5]], stackwise_num_strides=[[1], [2, 1]],
    ...     stackwise_se_ratio=[[None], [0.25, 0.25]], output_num_filters=96,
    ...     stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
    ... )
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 16, 16, 96), ['P1', 'P2'])
    """

    default_family = "timm_mobilenetv3"

    def __init__(
        self,
        stackwise_expansion: Sequence[Sequence[int | None]],
        stackwise_num_filters: Sequence[Sequence[int]],
        stackwise_kernel_size: Sequence[Sequence[int]],
        stackwise_num_strides: Sequence[Sequence[int]],
        stackwise_se_ratio: Sequence[Sequence[float | None]],
        stackwise_activation: Sequence[Sequence[str]],
        input_num_filters: int = 16,
        input_activation: str = "hard_swish",
        output_num_filters: int | None = None,
        output_activation: str = "hard_swish",
        last_layer_filter: int | None = None,
        last_layer_bias: bool = True,
        output_num_convolutions: int = 1,
        activate_projection: bool = False,
        depthwise_residual: bool = True,
        tf_padding: bool = False,
        epsilon: float = 1e-5,
        se_activation: str | None = "relu",
        se_divisor: int = 8,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        columns = (
            stackwise_expansion, stackwise_num_filters, stackwise_kernel_size,
            stackwise_num_strides, stackwise_activation, stackwise_se_ratio,
        )  # fmt: skip
        forms = [[len(stage) for stage in column] for column in columns]
        if any(form != forms[0] for form in forms):
            raise ValueError(
                f"The stackwise arguments must have the same numbers of blocks, got {forms}."
            )
        stages, channels = [], input_num_filters
        for rows in zip(*columns, strict=True):
            blocks = []
            for width, filters, size, strides, activation, ratio in zip(*rows, strict=True):
                expansion = None if width is None else width / channels
                blocks.append(Block(expansion, filters, size, strides, activation, ratio))
                channels = filters
            stages.append(blocks)
        style = Style(
            True, epsilon, "same" if tf_padding else "symmetric", activate_projection,
            depthwise_residual, momentum=0.9, se_activation=se_activation, se_divisor=se_divisor,
        )  # fmt: skip
        stem = input_num_filters, input_activation
        last = output_num_filters, output_activation, output_num_convolutions
        super().__init__(lambda x: _features(x, stem, stages, last, style), image_shape, **kwargs)
        self.hidden = None
        if last_layer_filter is not None:
            self.hidden = layers.Dense(
                last_layer_filter, output_activation, last_layer_bias, dtype=self.dtype_policy,
                name="hidden",
            )  # fmt: skip
            self.hidden.build((None, self.hidden_dim))
            self.pooled_dim = last_layer_filter

    def pool(self, features: Any) -> Any:
        """Return one vector of each image, by V3 through a dense layer.

        Args:
            features: the output.
        """
        pooled = super().pool(features)
        return pooled if self.hidden is None else self.hidden(pooled)


# -- networks as arguments ------------------------------------------------------------------------

# (expansion, filters, blocks, stride of the first block) of each stage of V1.
_V1_STAGES = (
    (None, 64, 1, 1), (None, 128, 2, 2), (None, 256, 2, 2), (None, 512, 6, 2), (None, 1024, 2, 2),
)  # fmt: skip


def _stages(rows: Iterable[tuple], counts: Iterable[int] | None = None) -> list[list[Block]]:
    """Return the blocks of stages that differ in the first stride alone.

    Args:
        rows: (expansion, filters, blocks, stride) of each stage.
        counts: the numbers of blocks, where they are other ones.
    """
    rows = list(rows)
    return [
        [Block(expansion, filters, strides=strides if i == 0 else 1) for i in range(count)]
        for (expansion, filters, _, strides), count in zip(
            rows, counts or [row[2] for row in rows], strict=True
        )
    ]


def _arguments(
    stages: Sequence[Sequence[Block]], stem: int, scale: Callable[[int], int], **arguments: Any
) -> dict[str, Any]:
    """Return the arguments of a backbone.

    Args:
        stages: blocks of width 1.
        stem: the filters of the first convolution.
        scale: from the filters of width 1 to those of this network.
        arguments: further ones.
    """
    names = ("expansion", "num_filters", "kernel_size", "num_strides", "se_ratio", "activation")
    columns: dict[str, list[list[Any]]] = {f"stackwise_{name}": [] for name in names}
    channels = stem
    for blocks in stages:
        for column in columns.values():
            column.append([])
        for block in blocks:
            width = None if block.expansion is None else divisible(channels * block.expansion)
            channels = scale(block.filters)
            row = (width, channels, block.size, block.strides, block.se_ratio, block.activation)
            for column, value in zip(columns.values(), row, strict=True):
                column[-1].append(value)
    return {**columns, "input_num_filters": stem, **arguments}


# What all networks but `mobilenetv3_rw` have in common.
_COMMON = {"last_layer_bias": True, "se_activation": "relu", "se_divisor": 8}
_RELU6 = {
    "input_activation": "relu6", "output_activation": "relu6", "last_layer_filter": None,
    "output_num_convolutions": 1, **_COMMON,
}  # fmt: skip
_V1 = {**_RELU6, "activate_projection": True, "depthwise_residual": False}
_V2 = {**_RELU6, "activate_projection": False}


def _scaled(width: float) -> Callable[[int], int]:
    return lambda filters: divisible(filters * width)


def _timm_v1(width: float, output: int | None = None) -> dict[str, Any]:
    scale = _scaled(width)
    return _arguments(
        _stages(_V1_STAGES), scale(32), scale, output_num_filters=output, **_V1
    )  # fmt: skip


def _timm_v2(width: float, depth: float = 1.0) -> dict[str, Any]:
    """Return the arguments of a V2; a deeper one keeps its first and last filters and blocks."""
    scale, deeper = _scaled(width), depth > 1
    counts = [count for _, _, count, _ in STAGES]
    counts[1:-1] = [math.ceil(depth * count) for count in counts[1:-1]]
    return _arguments(
        _stages(STAGES, counts), 32 if deeper else scale(32), scale,
        output_num_filters=1280 if deeper else max(1280, scale(1280)), depthwise_residual=True,
        **_V2,
    )  # fmt: skip


# How often each block of the large V3 stands in its deeper form.
_REPEATS = (2, 1, 2, 1, 1, 2, 1, 2, 1, 1, 1, 2, 1, 1, 2)


def _timm_v3(
    size: str, width: float, tf: bool, minimal: bool = False, deeper: bool = False
) -> dict[str, Any]:
    scale = _scaled(width)
    blocks, counts, last, hidden = {
        "small": (SMALL, (1, 2, 3, 2, 3), 576, 1024),
        "large": (LARGE, (1, 2, 3, 4, 2, 3), 960, 1280),
    }[size]
    if minimal:
        blocks = [block._replace(size=3, activation="relu", se_ratio=None) for block in blocks]
    if deeper:
        counts = (2, 3, 4, 5, 3, 4)
        blocks = [block for block, n in zip(blocks, _REPEATS, strict=True) for _ in range(n)]
    activation, rest = "relu" if minimal else "hard_swish", iter(blocks)
    return _arguments(
        [[next(rest) for _ in range(count)] for count in counts], max(16, scale(16)), scale,
        input_activation=activation, output_activation=activation,
        output_num_filters=scale(last), output_num_convolutions=2 if deeper else 1,
        last_layer_filter=hidden,
        activate_projection=False, depthwise_residual=True, tf_padding=tf,
        epsilon=1e-3 if tf else 1e-5, **_COMMON,
    )  # fmt: skip


_VARIANTS = {
    "mobilenetv1_100": _timm_v1(1.0), "mobilenetv1_100h": _timm_v1(1.0, 1024),
    "mobilenetv1_125": _timm_v1(1.25),
    **{f"mobilenetv2_{n:03}": _timm_v2(n / 100) for n in (35, 50, 75, 100, 140)},
    "mobilenetv2_110d": _timm_v2(1.1, 1.2), "mobilenetv2_120d": _timm_v2(1.2, 1.4),
}  # fmt: skip
_VARIANTS = {k: {**v, "tf_padding": False, "epsilon": 1e-5} for k, v in _VARIANTS.items()}
_RW = {
    **_timm_v3("large", 1.0, False), "epsilon": 1e-3, "depthwise_residual": False,
    "last_layer_bias": False, "se_activation": None, "se_divisor": 1,
}  # fmt: skip
_VARIANTS_V3 = {
    "mobilenetv3_rw": _RW,
    **{f"mobilenetv3_large_{n:03}": _timm_v3("large", n / 100, False) for n in (75, 100)},
    "mobilenetv3_large_150d": _timm_v3("large", 1.5, False, deeper=True),
    **{f"mobilenetv3_small_{n:03}": _timm_v3("small", n / 100, False) for n in (50, 75, 100)},
    **{
        f"tf_mobilenetv3_{size}_{n:03}": _timm_v3(size, n / 100, True)
        for size in ("large", "small")
        for n in (75, 100)
    },
    **{
        f"tf_mobilenetv3_{size}_minimal_100": _timm_v3(size, 1.0, True, minimal=True)
        for size in ("large", "small")
    },
}


def _read_v1(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json of transformers has in another form."""

    def scale(filters: int) -> int:
        return max(int(filters * config["depth_multiplier"]), 8)

    return _arguments(_stages(_V1_STAGES), scale(32), scale, output_num_filters=None, **_V1)


def _read_v2(config: Mapping[str, Any]) -> dict[str, Any]:
    width = config["depth_multiplier"]

    def scale(filters: int) -> int:
        return divisible(round(filters * width))

    stages = _stages((row[0] and config["expand_ratio"], *row[1:]) for row in STAGES)
    output = 1280 if config["finegrained_output"] and width < 1 else scale(1280)
    return _arguments(
        stages, scale(32), scale, output_num_filters=output, depthwise_residual=False, **_V2
    )


def _written(
    read: Callable[[Mapping[str, Any]], dict[str, Any]],
    configs: Iterable[Mapping[str, Any]],
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the first of some configs from which the arguments are read.

    Args:
        read: from a config to arguments.
        configs: keys of a config.json of transformers.
        arguments: of the backbone.

    Raises:
        ValueError: none of them is right.
    """
    for config in configs:
        if has_arguments(arguments, read(config)):
            return dict(config)
    raise ValueError(
        f"transformers has no MobileNet with the arguments {dict(arguments)}: save the model with "
        "`Model.save` or `Model.save_weights` instead."
    )


def _widths(arguments: Mapping[str, Any], filters: int) -> tuple[float, ...]:
    """Return the published widths, and those that the filters of the last block say.

    Args:
        arguments: of the backbone.
        filters: of the last block of width 1.
    """
    last = arguments["stackwise_num_filters"][-1][-1]
    return 1.0, 0.75, 0.5, 0.35, 0.25, 1.3, 1.4, last / filters, (last + 0.5) / filters


def _write_v1(arguments: Mapping[str, Any]) -> dict[str, Any]:
    configs = [{"depth_multiplier": width} for width in _widths(arguments, 1024)]
    return _written(_read_v1, configs, arguments)


def _write_v2(arguments: Mapping[str, Any]) -> dict[str, Any]:
    expanded, filters = arguments["stackwise_expansion"], arguments["stackwise_num_filters"]
    ratios = (6.0, (expanded[-1][0] or 0) / filters[-2][-1])
    configs = [
        {"depth_multiplier": width, "expand_ratio": ratio, "finegrained_output": finegrained}
        for ratio in ratios
        for width in _widths(arguments, 320)
        for finegrained in (True, False)
    ]
    return _written(_read_v2, configs, arguments)


# -- checkpoints ----------------------------------------------------------------------------------


def _block_rows(
    arguments: Mapping[str, Any], parts: Callable[[int, int, bool], Mapping[str, str]]
) -> dict[str, str]:
    """Return the rows of the blocks: their paths here and in a checkpoint.

    Args:
        arguments: of the backbone.
        parts: from the number of the stage, that of the block in it, and whether the block expands
            its channels, to the ends of names here and the names there.
    """
    return {
        f"stage{stage}_block{i}_{ours}": theirs
        for stage, widths in enumerate(arguments["stackwise_expansion"])
        for i, width in enumerate(widths)
        for ours, theirs in parts(stage, i, width is not None).items()
    }


def _timm_block(stage: int, i: int, expands: bool) -> dict[str, str]:
    names = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
    if not expands:
        names = ["", "", "conv_dw", "bn1", "conv_pw", "bn2"]
    ours = ("expand", "expand_BN", "depthwise", "depthwise_BN", "project", "project_BN")
    parts = {key: name for key, name in zip(ours, names, strict=True) if name}
    parts |= {"squeeze_excite_conv": "se.conv_reduce", "squeeze_excite_conv_1": "se.conv_expand"}
    return {key: f"blocks.{stage}.{i}.{name}" for key, name in parts.items()}


def _timm_weights(arguments: Mapping[str, Any]) -> WeightTable:
    rows = _block_rows(arguments, _timm_block)
    stem, last = {"stem": "conv_stem", "stem_BN": "bn1"}, {"last": "conv_head", "last_BN": "bn2"}
    return WeightTable({**stem, **rows, **last})


def _timm_weights_v3(arguments: Mapping[str, Any]) -> WeightTable:
    table = _timm_weights(arguments)
    stage = len(arguments["stackwise_expansion"])
    rows = {**table.rows, "hidden": "conv_head"}
    for i, name in enumerate(_last_names(arguments["output_num_convolutions"])):
        place = f"blocks.{stage}.{i}"
        rows |= {name: f"{place}.conv", f"{name}_BN": f"{place}.bn1"}
    return WeightTable(rows, storage={"hidden/kernel": DENSE_AS_CONV})


def _transformers_rows(names: Mapping[str, str]) -> dict[str, str]:
    """Return the rows of convolutions and their normalisations.

    Args:
        names: of the convolutions here and there.
    """
    ends = {"": "convolution", "_BN": "normalization"}
    return {
        f"{ours}{part}": f"{theirs}.{end}"
        for ours, theirs in names.items()
        for part, end in ends.items()
    }


def _number(arguments: Mapping[str, Any], stage: int, i: int) -> int:
    """Return the number of a block among those of all stages."""
    return sum(map(len, arguments["stackwise_expansion"][:stage])) + i


def _transformers_weights_v1(arguments: Mapping[str, Any]) -> WeightTable:
    def parts(stage: int, i: int, expands: bool) -> dict[str, str]:
        first = 2 * _number(arguments, stage, i)
        return _transformers_rows({"depthwise": f"layer.{first}", "project": f"layer.{first + 1}"})

    return WeightTable(
        {**_transformers_rows({"stem": "conv_stem"}), **_block_rows(arguments, parts)}
    )


def _transformers_weights_v2(arguments: Mapping[str, Any]) -> WeightTable:
    def parts(stage: int, i: int, expands: bool) -> dict[str, str]:
        place = f"layer.{_number(arguments, stage, i) - 1}" if expands else "conv_stem"
        names = {"depthwise": "conv_3x3", "project": "reduce_1x1"}
        names |= {"expand": "expand_1x1"} if expands else {}
        return _transformers_rows({ours: f"{place}.{name}" for ours, name in names.items()})

    ends = _transformers_rows({"stem": "conv_stem.first_conv", "last": "conv_1x1"})
    return WeightTable({**ends, **_block_rows(arguments, parts)})


_TRANSFORMERS = {
    "config": {"epsilon": "layer_norm_eps", "tf_padding": "tf_padding"},
    "defaults": {
        "num_channels": 3, "depth_multiplier": 1.0, "min_depth": 8, "hidden_act": "relu6",
        "tf_padding": True, "layer_norm_eps": 0.001,
    },
    "fixed": {"hidden_act": ("relu6",), "num_channels": (3,), "min_depth": (8,)},
    "other_heads": (r"classifier\..*",),
}  # fmt: skip


def _transformers_heads(architecture: str) -> dict[str, Head]:
    options = {"dropout_key": "classifier_dropout_prob"}
    return {
        "ImageClassifier": Head(architecture, WeightTable({"head": "classifier"}), options=options)
    }


register(
    Family(
        "timm_mobilenet", MobileNetBackbone, {}, _timm_weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"classifier\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "classifier"}))},
    )
)  # fmt: skip
register(
    Family(
        "timm_mobilenetv3", MobileNetBackbone, {}, _timm_weights_v3, library="timm",
        read=partial(timm_arguments, _VARIANTS_V3), write=partial(timm_config, _VARIANTS_V3),
        other_heads=(r"classifier\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "classifier"}))},
    )
)  # fmt: skip
register(
    Family(
        "mobilenet_v1", MobileNetBackbone, _TRANSFORMERS["config"], _transformers_weights_v1,
        "MobileNetV1Model", prefix="mobilenet_v1.", read=_read_v1, write=_write_v1,
        defaults=_TRANSFORMERS["defaults"], fixed=_TRANSFORMERS["fixed"],
        other_heads=_TRANSFORMERS["other_heads"],
        heads=_transformers_heads("MobileNetV1ForImageClassification"),
    )
)  # fmt: skip
register(
    Family(
        "mobilenet_v2", MobileNetBackbone, _TRANSFORMERS["config"], _transformers_weights_v2,
        "MobileNetV2Model", prefix="mobilenet_v2.", read=_read_v2, write=_write_v2,
        defaults={
            **_TRANSFORMERS["defaults"], "depth_divisible_by": 8, "expand_ratio": 6.0,
            "output_stride": 32, "first_layer_is_expansion": True, "finegrained_output": True,
        },
        fixed={
            **_TRANSFORMERS["fixed"], "depth_divisible_by": (8,), "output_stride": (32,),
            "first_layer_is_expansion": (True,),
        },
        other_heads=_TRANSFORMERS["other_heads"],
        heads=_transformers_heads("MobileNetV2ForImageClassification"),
    )
)  # fmt: skip
