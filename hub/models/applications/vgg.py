"""VGG (Simonyan and Zisserman, 2014, arXiv:1409.1556): 3 x 3 convolutions, three dense layers."""

from collections.abc import Sequence
from typing import Any

from hub.models.applications.frame import application, unnamed_pool
from keraslite import layers

_FILTERS = (64, 128, 256, 512, 512)


def features(x: Any, convolutions: Sequence[int]) -> Any:
    """Return the output of the last block, a 32nd of the image's size.

    Args:
        x: images.
        convolutions: their number in each of the five blocks.
    """
    for block, (filters, count) in enumerate(zip(_FILTERS, convolutions, strict=True), 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def _application(function: str, convolutions: Sequence[int]) -> Any:
    return application(function, lambda x: features(x, convolutions), top=_top, pooled=unnamed_pool)


VGG16 = _application("VGG16", (2, 2, 3, 3, 3))
VGG19 = _application("VGG19", (2, 2, 4, 4, 4))
