"""DenseNet (Huang et al., 2016, arXiv:1608.06993): each block sees the outputs of all before it."""

from collections.abc import Sequence
from typing import Any

from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    channel_axis,
    require_channels_last,
)
from keraslite import layers

_EPSILON = 1.001e-5
_GROWTH = 32


def features(x: Any, blocks: Sequence[int]) -> Any:
    """Return the normalised output of the last stage, a 32nd of the image's size.

    Args:
        x: images, channels last.
        blocks: their number in each of the stages.
    """
    require_channels_last("DenseNet")
    x = layers.ZeroPadding2D(3)(x)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _normalize(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, count in enumerate(blocks, 2):
        for block in range(1, count + 1):
            x = _block(x, f"conv{stage}_block{block}")
        if stage < len(blocks) + 1:
            x = _transition(x, f"pool{stage}")
    return _normalize(x, "bn", "relu")


def _normalize(x: Any, norm: str, activation: str) -> Any:
    return activate(batch_norm(x, norm, _EPSILON), activation)


def _block(x: Any, name: str) -> Any:
    """Append new channels to those of the input."""
    y = _normalize(x, f"{name}_0_bn", f"{name}_0_relu")
    y = layers.Conv2D(4 * _GROWTH, 1, use_bias=False, name=f"{name}_1_conv")(y)
    y = _normalize(y, f"{name}_1_bn", f"{name}_1_relu")
    y = layers.Conv2D(_GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
    return layers.Concatenate(channel_axis(), name=f"{name}_concat")([x, y])


def _transition(x: Any, name: str) -> Any:
    """Halve the channels, the height and the width."""
    x = _normalize(x, f"{name}_bn", f"{name}_relu")
    filters = x.shape[channel_axis()] // 2
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _application(depth: int, blocks: Sequence[int]) -> Any:
    return application(f"DenseNet{depth}", lambda x: features(x, blocks))


DenseNet121 = _application(121, (6, 12, 24, 16))
DenseNet169 = _application(169, (6, 12, 32, 32))
DenseNet201 = _application(201, (6, 12, 48, 32))
