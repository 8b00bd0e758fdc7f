"""DenseNet (Huang et al., 2016, arXiv:1608.06993): each block sees the outputs of all before it.

The networks of Keras and timm are one, but for the epsilon and the momentum of the normalisations.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    channel_axis,
    require_channels_last,
)
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers


def features(
    x: Any,
    blocks: Sequence[int],
    growth: int = 32,
    compression: float = 0.5,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> dict[str, Any]:
    """Return the outputs of the stages, P2 to P5, the last of them normalised.

    Args:
        x: images.
        blocks: their number in each of the stages.
        growth: the channels that a block appends.
        compression: the share of the channels that is left between two stages.
        epsilon: of the normalisations.
        momentum: of the normalisations' averages.
    """

    def normalize(x: Any, norm: str, activation: str) -> Any:
        return activate(batch_norm(x, norm, epsilon, momentum=momentum), activation)

    def block(x: Any, name: str) -> Any:
        """Append new channels to those of the input."""
        y = normalize(x, f"{name}_0_bn", f"{name}_0_relu")
        y = layers.Conv2D(4 * growth, 1, use_bias=False, name=f"{name}_1_conv")(y)
        y = normalize(y, f"{name}_1_bn", f"{name}_1_relu")
        y = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
        return layers.Concatenate(channel_axis(), name=f"{name}_concat")([x, y])

    def transition(x: Any, name: str) -> Any:
        """Reduce the channels, and halve the height and the width."""
        x = normalize(x, f"{name}_bn", f"{name}_relu")
        filters = int(x.shape[channel_axis()] * compression)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
        return layers.AveragePooling2D(2, name=f"{name}_pool")(x)

    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(2 * growth, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = normalize(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    pyramid = {}
    for stage, count in enumerate(blocks, 2):
        if stage > 2:
            x = transition(x, f"pool{stage - 1}")
        for i in range(1, count + 1):
            x = block(x, f"conv{stage}_block{i}")
        pyramid[f"P{stage}"] = x
    pyramid[f"P{len(blocks) + 1}"] = normalize(x, "bn", "relu")
    return pyramid


# -- applications of Keras ------------------------------------------------------------------------

_DEPTHS = {
    "121": (6, 12, 24, 16), "169": (6, 12, 32, 32), "201": (6, 12, 48, 32), "161": (6, 12, 36, 24),
}  # fmt: skip


def _application(depth: str) -> Any:
    def convolve(x: Any) -> Any:
        require_channels_last("DenseNet")
        return features(x, _DEPTHS[depth], epsilon=1.001e-5, momentum=0.99)["P5"]

    return application(f"DenseNet{depth}", convolve)


DenseNet121, DenseNet169, DenseNet201 = map(_application, ("121", "169", "201"))


# -- the backbone ---------------------------------------------------------------------------------


class DenseNetBackbone(ImageBackbone):
    """DenseNet without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_num_repeats: the blocks of each stage.
        compression_ratio: the share of the channels that is left between two stages.
        growth_rate: the channels that a block appends.
        epsilon: of the normalisations.
        image_shape: of an image.

    >>> model = DenseNetBackbone((1, 2, 1, 1), growth_rate=4)
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 9), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "timm_densenet"

    def __init__(
        self,
        stackwise_num_repeats: Sequence[int] = (6, 12, 24, 16),
        compression_ratio: float = 0.5,
        growth_rate: int = 32,
        epsilon: float = 1e-5,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        arguments = (stackwise_num_repeats, growth_rate, compression_ratio, epsilon)
        super().__init__(lambda x: features(x, *arguments), image_shape, **kwargs)


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {
    f"densenet{depth}": {
        "stackwise_num_repeats": blocks, "compression_ratio": 0.5,
        "growth_rate": 48 if depth == "161" else 32, "epsilon": 1e-5,
    }
    for depth, blocks in _DEPTHS.items()
}  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    parts = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}
    rows = {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0"}
    blocks = arguments["stackwise_num_repeats"]
    for stage, count in enumerate(blocks, 1):
        if stage > 1:
            place = f"features.transition{stage - 1}"
            rows |= {f"pool{stage}_bn": f"{place}.norm", f"pool{stage}_conv": f"{place}.conv"}
        for i in range(1, count + 1):
            place = f"features.denseblock{stage}.denselayer{i}"
            name = f"conv{stage + 1}_block{i}"
            rows |= {f"{name}_{ours}": f"{place}.{theirs}" for ours, theirs in parts.items()}
    return WeightTable({**rows, "bn": f"features.norm{len(blocks) + 1}"})


register(
    Family(
        "timm_densenet", DenseNetBackbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"classifier\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "classifier"}))},
    )
)  # fmt: skip
