"""Inception V3 (Szegedy et al., 2015, arXiv:1512.00567): convolutions side by side, concatenated.

What Inception-ResNet V2 has in common with it stands here as well.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    channel_axis,
    unnamed_pool,
)
from keraslite import layers

Branch = Sequence[Any]  # of steps: (filters, kernel size), with a stride of 2, "average" or "max"


def convolve(
    x: Any, filters: int, size: Any, strides: int = 1, padding: str = "same",
    name: str | None = None,
) -> Any:  # fmt: skip
    """Convolve, normalise without a scale, and activate.

    Args:
        x: images.
        filters: of the convolution.
        size: of its kernel.
        strides: of the convolution.
        padding: of the convolution.
        name: of the convolution, and the prefix of the other layers; numbers where it is None.
    """
    x = layers.Conv2D(filters, size, strides, padding, use_bias=False, name=name)(x)
    x = batch_norm(x, name and f"{name}_bn", scale=False)
    return activate(x, name and f"{name}_ac")


def stem(x: Any) -> Any:
    """Return the features that the first branches see, an 8th of the image's size.

    Args:
        x: images.
    """
    x = convolve(x, 32, 3, 2, "valid")
    x = convolve(x, 32, 3, padding="valid")
    x = convolve(x, 64, 3)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = convolve(x, 80, 1, padding="valid")
    x = convolve(x, 192, 3, padding="valid")
    return layers.MaxPooling2D(3, strides=2)(x)


def run(x: Any, branch: Branch) -> Any:
    """Return the output of one branch.

    Args:
        x: images.
        branch: its steps.
    """
    for step in branch:
        if step == "average":
            x = layers.AveragePooling2D(3, strides=1, padding="same")(x)
        elif step == "max":
            x = layers.MaxPooling2D(3, strides=2)(x)
        else:
            filters, size, *strides = step
            x = convolve(x, filters, size, *strides, padding="valid" if strides else "same")
    return x


def mixed(x: Any, branches: Iterable[Branch], name: str | None) -> Any:
    """Concatenate the outputs of branches side by side.

    Args:
        x: images.
        branches: each a sequence of steps.
        name: of the concatenation.
    """
    return layers.Concatenate(channel_axis(), name=name)([run(x, branch) for branch in branches])


def _square(pooled: int) -> list[Branch]:
    return [
        [(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (pooled, 1)],
    ]  # fmt: skip


def _factorized(inner: int) -> list[Branch]:
    """Return branches whose kernels of 7 x 7 are split in rows and columns."""
    row, column = (1, 7), (7, 1)
    return [
        [(192, 1)],
        [(inner, 1), (inner, row), (192, column)],
        [(inner, 1), (inner, column), (inner, row), (inner, column), (192, row)],
        ["average", (192, 1)],
    ]


_MIXED: list[list[Branch]] = [
    _square(32), _square(64), _square(64),
    [[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], ["max"]],
    _factorized(128), _factorized(160), _factorized(160), _factorized(192),
    [[(192, 1), (320, 3, 2)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)], ["max"]],
]  # fmt: skip


def features(x: Any) -> Any:
    """Return the output of the last branches, a 32nd of the image's size.

    Args:
        x: images.
    """
    x = stem(x)
    for i, branches in enumerate(_MIXED):
        x = mixed(x, branches, f"mixed{i}")
    for i in range(2):
        parts = [run(x, [(320, 1)])]
        for steps, name in (([(384, 1)], f"mixed9_{i}"), ([(448, 1), (384, 3)], None)):
            parts.append(mixed(run(x, steps), [[(384, (1, 3))], [(384, (3, 1))]], name))
        parts.append(run(x, ["average", (192, 1)]))
        x = layers.Concatenate(channel_axis(), name=f"mixed{9 + i}")(parts)
    return x


InceptionV3 = application(
    "InceptionV3", features, model_name="inception_v3", default_size=299, min_size=75,
    pooled=unnamed_pool,
)  # fmt: skip
