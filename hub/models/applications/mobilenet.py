"""MobileNet (Howard et al., 2017, arXiv:1704.04861): depthwise, then pointwise convolutions."""

import warnings
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import keraslite as keras
from hub.models.applications.frame import (
    CLASSES,
    assemble,
    batch_norm,
    channel_axis,
    describe,
    image_shape,
    unnamed_pool,
)
from keraslite import layers

# The filters of the pointwise convolution and the stride of the depthwise one, of each block.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip
_SIZES = (128, 160, 192, 224)  # of images, for which Keras has weights
_WIDTHS = (0.25, 0.5, 0.75, 1.0)


def image_size(
    shape: Sequence[int | None] | None, include_top: bool, weights: Any, sizes: Sequence[int]
) -> tuple[int, int | None]:
    """Return the default size of images, and the size by which a network is named.

    Args:
        shape: of an image; None for the default size.
        include_top: whether the classifier is there.
        weights: as for `assemble`. Where Keras has none for images of that shape it takes those of
            the largest size, with a warning.
        sizes: those for which Keras has weights, the largest one last.

    Raises:
        ValueError: the shape does not fit the weights.

    >>> image_size((160, 160, 3), True, None, (160, 224))
    (160, 160)
    >>> image_size((70, 90, 3), True, None, (160, 224))
    (224, 70)
    """
    edges: Sequence[int | None] = (None,)
    if shape is not None:
        edges = tuple(shape)[1:] if channel_axis() == 1 else tuple(shape)[:-1]
    elif include_top:
        edges = (sizes[-1],)
    published = len(set(edges)) == 1 and edges[0] in sizes
    if weights == "imagenet" and not published:
        image_shape(shape, sizes[-1], 32, include_top, weights)  # no warning of what is refused
        warnings.warn(
            f"Images should be squares of a size in {list(sizes)}, got {shape}: the weights are "
            f"those for {sizes[-1]}.",
            stacklevel=3,
        )
        return sizes[-1], sizes[-1]
    return edges[0] if published and edges[0] is not None else sizes[-1], edges[0]


def check_width(alpha: float, weights: Any, widths: Collection[float]) -> None:
    """Check that Keras has weights for a width.

    Args:
        alpha: the factor of all filters.
        weights: as for `assemble`; "imagenet" alone is limited.
        widths: those for which Keras has weights.

    Raises:
        ValueError: it has none.
    """
    if weights == "imagenet" and alpha not in widths:
        raise ValueError(
            f"alpha must be one of {list(widths)} with weights='imagenet', got {alpha}."
        )


def features(x: Any, alpha: float, depth_multiplier: int) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images.
        alpha: the factor of all filters.
        depth_multiplier: the number of outputs of each channel of a depthwise convolution.
    """
    x = layers.Conv2D(
        int(32 * alpha), 3, strides=2, padding="same", use_bias=False, name="conv1"
    )(x)  # fmt: skip
    x = _normalize(x, "conv1")
    for i, (filters, strides) in enumerate(_BLOCKS, 1):
        padding = "same"
        if strides == 2:
            x, padding = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{i}")(x), "valid"
        x = layers.DepthwiseConv2D(
            3, strides, padding, depth_multiplier, use_bias=False, name=f"conv_dw_{i}"
        )(x)
        x = _normalize(x, f"conv_dw_{i}")
        x = layers.Conv2D(int(filters * alpha), 1, use_bias=False, name=f"conv_pw_{i}")(x)
        x = _normalize(x, f"conv_pw_{i}")
    return x


def _normalize(x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=f"{name}_relu")(batch_norm(x, f"{name}_bn"))


def _classify(x: Any, classes: int, activation: Any, dropout: float) -> Any:
    for layer in (
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Dropout(dropout, name="dropout"),
        layers.Conv2D(classes, 1, name="conv_preds"),
        layers.Reshape((classes,), name="reshape_2"),
        layers.Activation(activation, name="predictions"),
    ):
        x = layer(x)
    return x


# -- the application of Keras ---------------------------------------------------------------------


def _mobilenet(
    input_shape: Any = None,
    alpha: float = 1.0,
    depth_multiplier: int = 1,
    dropout: float = 1e-3,
    include_top: bool = True,
    weights: Any = "imagenet",
    input_tensor: Any = None,
    pooling: str | None = None,
    classes: int = CLASSES,
    classifier_activation: Any = "softmax",
    name: str | None = None,
) -> keras.Model:
    check_width(alpha, weights, _WIDTHS)
    if weights == "imagenet" and depth_multiplier != 1:
        raise ValueError(
            f"depth_multiplier must be 1 with weights='imagenet', got {depth_multiplier}."
        )
    default_size, size = image_size(input_shape, include_top, weights, _SIZES)
    return assemble(
        lambda x: features(x, alpha, depth_multiplier),
        name=f"mobilenet_{alpha:0.2f}_{size}" if name is None else name, include_top=include_top,
        weights=weights, input_tensor=input_tensor, input_shape=input_shape, pooling=pooling,
        classes=classes, classifier_activation=classifier_activation, default_size=default_size,
        top=partial(_classify, dropout=dropout), pooled=unnamed_pool,
        files=f"MobileNet_{float(alpha)}_{size}",
    )  # fmt: skip


MobileNet = describe(
    _mobilenet, "MobileNet", alpha="the factor of all filters.",
    depth_multiplier="the number of outputs of each channel of a depthwise convolution.",
    dropout="before the classifier.",
)  # fmt: skip
