"""RegNet X and Y (Radosavovic et al., 2020, arXiv:2003.13678): residual bottlenecks without a neck.

The widths of the blocks of a published network grow linearly with their number and are rounded to
a few sizes, which are the stages. Y is X with squeeze and excitation, whose width is a share of the
channels that a block reads, not of those that it weights.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import activate, batch_norm, channel_axis, excite, padded_conv
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers

_SE_RATIO = 0.25  # of Y; X has none


class RegNetBackbone(ImageBackbone):
    """RegNet without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_num_filters: the channels of each stage.
        stackwise_num_blocks: the blocks of each stage.
        group_width: the channels of a group of the 3 x 3 convolutions.
        se_ratio: the channels of squeeze and excitation, as a share of those that the block reads;
            0 for none (X).
        input_conv_filters: of the first convolution.
        downsample_in_first_stage: whether the first stage halves the size, as the others do.
        epsilon: of the normalisations.
        image_shape: of an image.

    Raises:
        ValueError: the groups do not divide the channels of a stage.

    >>> model = RegNetBackbone((8, 8, 16, 16), (1, 1, 1, 1), group_width=4, input_conv_filters=4)
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 16), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "regnet"

    def __init__(
        self,
        stackwise_num_filters: Sequence[int] = (128, 192, 512, 1088),
        stackwise_num_blocks: Sequence[int] = (2, 6, 12, 2),
        group_width: int = 64,
        se_ratio: float = _SE_RATIO,
        input_conv_filters: int = 32,
        downsample_in_first_stage: bool = True,
        epsilon: float = 1e-5,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if len(stackwise_num_filters) != len(stackwise_num_blocks):
            raise ValueError(
                "stackwise_num_filters and stackwise_num_blocks must have a number for each stage, "
                f"got {stackwise_num_filters} and {stackwise_num_blocks}."
            )
        for width in stackwise_num_filters:
            if width % _groups(width, group_width):
                raise ValueError(
                    f"The {_groups(width, group_width)} groups of group_width={group_width} must "
                    f"divide the channels of every stage, got {width}."
                )

        def features(images: Any) -> dict[str, Any]:
            x = _convolve(images, input_conv_filters, 3, 2, "stem", epsilon)
            level, pyramid = 1, {}
            for stage, width in enumerate(stackwise_num_filters, 1):
                stride = 2 if stage > 1 or downsample_in_first_stage else 1
                for block in range(1, stackwise_num_blocks[stage - 1] + 1):
                    name = f"stage{stage}_block{block}"
                    x = _block(x, width, stride, group_width, se_ratio, name, epsilon)
                    level, stride = level + stride - 1, 1
                pyramid[f"P{level}"] = x
            return pyramid

        super().__init__(features, image_shape, **kwargs)


def _groups(width: int, group_width: int) -> int:
    return max(1, width // group_width)


def _convolve(
    x: Any, filters: int, size: int, stride: int, name: str, epsilon: float, groups: int = 1,
    activates: bool = True,
) -> Any:  # fmt: skip
    """Convolve, normalise and activate."""
    x = padded_conv(x, filters, size, stride, name, groups=groups, use_bias=False)
    x = batch_norm(x, f"{name}_bn", epsilon, momentum=0.9)
    return activate(x, f"{name}_relu") if activates else x


def _block(
    x: Any, width: int, stride: int, group_width: int, se_ratio: float, name: str, epsilon: float
) -> Any:
    """Add three convolutions, the second of them in groups, to a block's input or a projection."""
    shortcut, inputs = x, x.shape[channel_axis()]
    if stride > 1 or inputs != width:
        shortcut = _convolve(x, width, 1, stride, f"{name}_0", epsilon, activates=False)
    x = _convolve(x, width, 1, 1, f"{name}_1", epsilon)
    x = _convolve(x, width, 3, stride, f"{name}_2", epsilon, _groups(width, group_width))
    if se_ratio > 0:
        x = excite(x, round(inputs * se_ratio), f"{name}_")
    x = _convolve(x, width, 1, 1, f"{name}_3", epsilon, activates=False)
    return activate(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_out")


# -- published networks ---------------------------------------------------------------------------

# Architecture of timm -> depth, initial width, slope and base of the widths, width of a group.
_PUBLISHED = {
    "regnetx_002": (13, 24, 36.44, 2.49, 8), "regnetx_004": (22, 24, 24.48, 2.54, 16),
    "regnetx_006": (16, 48, 36.97, 2.24, 24), "regnetx_008": (16, 56, 35.73, 2.28, 16),
    "regnetx_016": (18, 80, 34.01, 2.25, 24), "regnetx_032": (25, 88, 26.31, 2.25, 48),
    "regnetx_040": (23, 96, 38.65, 2.43, 40), "regnetx_064": (17, 184, 60.83, 2.07, 56),
    "regnetx_080": (23, 80, 49.56, 2.88, 120), "regnetx_120": (19, 168, 73.36, 2.37, 112),
    "regnetx_160": (22, 216, 55.59, 2.1, 128), "regnetx_320": (23, 320, 69.86, 2.0, 168),
    "regnety_002": (13, 24, 36.44, 2.49, 8), "regnety_004": (16, 48, 27.89, 2.09, 8),
    "regnety_006": (15, 48, 32.54, 2.32, 16), "regnety_008": (14, 56, 38.84, 2.4, 16),
    "regnety_016": (27, 48, 20.71, 2.65, 24), "regnety_032": (21, 80, 42.63, 2.66, 24),
    "regnety_040": (22, 96, 31.41, 2.24, 64), "regnety_064": (25, 112, 33.22, 2.27, 72),
    "regnety_080": (17, 192, 76.82, 2.19, 56), "regnety_120": (19, 168, 73.36, 2.37, 112),
    "regnety_160": (18, 200, 106.23, 2.48, 112), "regnety_320": (20, 232, 115.89, 2.53, 232),
    "regnety_640": (20, 352, 147.48, 2.4, 328), "regnety_1280": (27, 456, 160.83, 2.52, 264),
    "regnety_2560": (27, 640, 230.83, 2.53, 373),
}  # fmt: skip
# Architectures whose widths torchvision rounds otherwise.
_TORCHVISION = ("regnetx_004", "regnety_008", "regnety_080")


def _stages(
    depth: int, initial: int, slope: float, base: float, group_width: int, torchvision: bool = False
) -> dict[str, Any]:
    """Return the arguments of a backbone by the parameters of the paper (equations 2 to 4).

    Args:
        depth: the number of blocks.
        initial: the width of the first block.
        slope: by which the width grows from block to block.
        base: stages differ in width by a power of it.
        group_width: of which widths are multiples.
        torchvision: whether halves are rounded up to groups rather than to an even number of them,
            and no width to less than 90 % of it.
    """
    blocks: dict[int, int] = {}
    for i in range(depth):
        power = round(math.log((initial + slope * i) / initial) / math.log(base))
        width = 8 * round(initial * base**power / 8)
        blocks[width] = blocks.get(width, 0) + 1
    filters = []
    for width in blocks:
        group = min(group_width, width)
        if torchvision:
            rounded = group * math.floor(width / group + 0.5)
            filters.append(rounded + group if rounded < 0.9 * width else rounded)
        else:
            filters.append(group * round(width / group))
    return {
        "stackwise_num_filters": tuple(filters), "stackwise_num_blocks": tuple(blocks.values()),
        "group_width": group_width, "input_conv_filters": 32, "downsample_in_first_stage": True,
        "epsilon": 1e-5,
    }  # fmt: skip


def _se_ratio(name: str) -> dict[str, float]:
    return {"se_ratio": _SE_RATIO if name.startswith("regnety") else 0.0}


_VARIANTS = {name: {**_stages(*row), **_se_ratio(name)} for name, row in _PUBLISHED.items()} | {
    f"{name}_tv": {**_stages(*_PUBLISHED[name], torchvision=True), **_se_ratio(name)}
    for name in _TORCHVISION
}

# -- checkpoints ----------------------------------------------------------------------------------

_BLOCK = "stage{i}_block{j}"
_TIMM_WEIGHTS = WeightTable(
    {
        f"{ours}_{part}": f"{theirs}.{part}"
        for ours, theirs in (
            ("stem", "stem"),
            (f"{_BLOCK}_0", "s{i}.b{j}.downsample"),
            *((f"{_BLOCK}_{n}", f"s{{i}}.b{{j}}.conv{n}") for n in (1, 2, 3)),
        )
        for part in ("conv", "bn")
    }
    | {f"{_BLOCK}_se_reduce": "s{i}.b{j}.se.fc1", f"{_BLOCK}_se_expand": "s{i}.b{j}.se.fc2"}
)


def _transformers_weights(arguments: Mapping[str, Any]) -> WeightTable:
    has_se = arguments["se_ratio"] > 0  # a layer of its own before the last convolution
    convolutions = {"0": "shortcut", "1": "layer.0", "2": "layer.1", "3": f"layer.{2 + has_se}"}
    ends = {"conv": "convolution", "bn": "normalization"}
    parts = {
        f"{ours}_{part}": f"{theirs}.{end}"
        for ours, theirs in convolutions.items()
        for part, end in ends.items()
    }
    parts |= {"se_reduce": "layer.2.attention.0", "se_expand": "layer.2.attention.2"}
    stem = {f"stem_{part}": f"embedder.embedder.{end}" for part, end in ends.items()}
    rows = {
        f"stage{stage + 1}_block{block + 1}_{ours}": f"encoder.stages.{stage}.layers.{block}.{end}"
        for stage, count in enumerate(arguments["stackwise_num_blocks"])
        for block in range(count)
        for ours, end in parts.items()
    }
    return WeightTable(stem | rows)


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json of transformers has in another form."""
    return {"se_ratio": _SE_RATIO if config["layer_type"] == "y" else 0.0}


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    for name, allowed in (("se_ratio", (0, _SE_RATIO)), ("epsilon", (1e-5,))):
        if arguments[name] not in allowed:
            raise ValueError(
                f"{name} must be one of {allowed} in a config of transformers, got "
                f"{arguments[name]}: save the model with `Model.save` instead."
            )
    return {"layer_type": "y" if arguments["se_ratio"] else "x"}


register(
    Family(
        "timm_regnet", RegNetBackbone, {}, _TIMM_WEIGHTS, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"head\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "head.fc"}))},
    )
)  # fmt: skip
register(
    Family(
        "regnet", RegNetBackbone,
        {
            "stackwise_num_filters": "hidden_sizes", "stackwise_num_blocks": "depths",
            "group_width": "groups_width", "input_conv_filters": "embedding_size",
            "downsample_in_first_stage": "downsample_in_first_stage",
        },
        _transformers_weights, "RegNetModel", prefix="regnet.", read=_read, write=_write,
        defaults={
            "embedding_size": 32, "hidden_sizes": [128, 192, 512, 1088], "depths": [2, 6, 12, 2],
            "groups_width": 64, "layer_type": "y", "hidden_act": "relu", "num_channels": 3,
            "downsample_in_first_stage": True,
        },
        fixed={"hidden_act": ("relu",), "num_channels": (3,), "layer_type": ("y", "x")},
        other_heads=(r"classifier\..*",),
        heads={
            "ImageClassifier": Head(
                "RegNetForImageClassification", WeightTable({"head": "classifier.1"})
            )
        },
    )
)  # fmt: skip
