"""Xception (Chollet, 2016, arXiv:1610.02357): residual blocks of separable convolutions."""

from collections.abc import Sequence
from typing import Any

from hub.models.applications.frame import activate, application, batch_norm, unnamed_pool
from keraslite import layers

# The filters of the separable convolutions of the blocks that halve the size: before and after
# eight blocks that keep it.
_ENTRY = {2: (128, 128), 3: (256, 256), 4: (728, 728)}
_MIDDLE = dict.fromkeys(range(5, 13), (728, 728, 728))
_EXIT = {13: (728, 1024)}


def features(x: Any) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images.
    """
    for i, (filters, strides) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{i}"
        x = layers.Conv2D(filters, 3, strides=strides, use_bias=False, name=name)(x)
        x = activate(batch_norm(x, f"{name}_bn"), f"{name}_act")
    for block, filters in (_ENTRY | _MIDDLE | _EXIT).items():
        x = _block(x, block, filters, halve=block not in _MIDDLE)
    for i, filters in enumerate((1536, 2048), 1):
        name = f"block14_sepconv{i}"
        x = activate(_separable(x, filters, name), f"{name}_act")
    return x


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return batch_norm(x, f"{name}_bn")


def _block(x: Any, block: int, filters: Sequence[int], halve: bool) -> Any:
    """Add separable convolutions to the input, or to a projection of it where the size halves."""
    shortcut = x
    if halve:
        shortcut = layers.Conv2D(filters[-1], 1, strides=2, padding="same", use_bias=False)(x)
        shortcut = batch_norm(shortcut, None)
    for i, count in enumerate(filters, 1):
        name = f"block{block}_sepconv{i}"
        if (block, i) != (2, 1):  # whose input is activated already
            x = activate(x, f"{name}_act")
        x = _separable(x, count, name)
    if halve:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.Add()([x, shortcut])


Xception = application(
    "Xception", features, default_size=299, min_size=71, pooled=unnamed_pool
)  # fmt: skip
