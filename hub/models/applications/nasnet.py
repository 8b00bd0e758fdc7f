"""NASNet-A (Zoph et al., 2017, arXiv:1707.07012): two cells that a search has found, repeated.

A cell takes the outputs of the two cells before it. Keras refuses NASNetMobile on torch; here it
runs on every backend.
"""

from typing import Any

import keraslite as keras
from hub.models.applications.frame import (
    CLASSES,
    activate,
    assemble,
    batch_norm,
    describe,
    require_channels_last,
    strided_padding,
    unnamed_pool,
)
from keraslite import layers


def features(x: Any, filters: int, cells: int, stem_filters: int, skip_reduction: bool) -> Any:
    """Return the activated output of the last cell, a 32nd of the image's size.

    Args:
        x: images, channels last.
        filters: of the first cells that keep the size, doubled at each reduction.
        cells: the number of cells between two reductions.
        stem_filters: of the first convolution.
        skip_reduction: whether the cell after a reduction also sees what the reduction has seen
            second, rather than its input.
    """
    require_channels_last("NASNet")
    x = layers.Conv2D(
        stem_filters, 3, 2, use_bias=False, kernel_initializer="he_normal", name="stem_conv1"
    )(x)
    x, p = _normalize(x, "stem_bn1"), None
    for i, divisor in ((1, 4), (2, 2)):
        x, p = _reduction_cell(x, p, filters // divisor, f"stem_{i}"), x
    for stage in range(3):
        width = filters * 2**stage
        if stage > 0:
            before = x
            x = _reduction_cell(x, p, width, f"reduce_{stage * cells}")
            p = p if skip_reduction else before
        for i in range(cells):
            x, p = _normal_cell(x, p, width, str(stage * cells + i + (stage > 0))), x
    return activate(x, None)


def _normalize(x: Any, name: str) -> Any:
    return batch_norm(x, name, momentum=0.9997)


def _project(x: Any, filters: int, name: str) -> Any:
    return layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def _average(x: Any, name: str) -> Any:
    return layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)


def _separable(x: Any, filters: int, size: int, name: str, strides: int = 1) -> Any:
    """Activate, convolve and normalise twice; the first convolution has the stride."""
    for i in (1, 2):
        x, padding = activate(x, None), "same"
        if strides == 2:
            pad = f"separable_conv_{i}_pad_{name}"
            x, padding = layers.ZeroPadding2D(strided_padding(x, size), name=pad)(x), "valid"
        x = layers.SeparableConv2D(
            filters, size, strides, padding, use_bias=False, name=f"separable_conv_{i}_{name}"
        )(x)
        x, strides = _normalize(x, f"separable_conv_{i}_bn_{name}"), 1
    return x


def _adjust(p: Any, x: Any, filters: int, name: str) -> Any:
    """Return the output of the cell before the last in the size of the last one's."""
    if p is None:
        return x
    if p.shape[2] != x.shape[2]:
        p = activate(p, f"adjust_relu_1_{name}")
        halves = []
        for i in (1, 2):  # the even rows and columns, then the odd ones
            if i == 2:
                p = layers.ZeroPadding2D(((0, 1), (0, 1)))(p)
                p = layers.Cropping2D(((1, 0), (1, 0)))(p)
            half = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{i}_{name}")(p)
            halves.append(_project(half, filters // 2, f"adjust_conv_{i}_{name}"))
        return _normalize(layers.Concatenate()(halves), f"adjust_bn_{name}")
    if p.shape[3] != filters:
        p = _project(activate(p, None), filters, f"adjust_conv_projection_{name}")
        return _normalize(p, f"adjust_bn_{name}")
    return p


def _enter(x: Any, p: Any, filters: int, cell: str, name: str) -> tuple[Any, Any]:
    """Return both inputs of a cell with its filters."""
    p = _adjust(p, x, filters, name)
    h = _project(activate(x, None), filters, f"{cell}_conv_1_{name}")
    return _normalize(h, f"{cell}_bn_1_{name}"), p


def _normal_cell(x: Any, p: Any, filters: int, name: str) -> Any:
    """Return the output of a cell that keeps the size."""
    h, p = _enter(x, p, filters, "normal", name)

    def separable(x: Any, size: int, place: str) -> Any:
        return _separable(x, filters, size, f"normal_{place}_{name}")

    def add(i: int, *parts: Any) -> Any:
        return layers.Add(name=f"normal_add_{i}_{name}")(list(parts))

    parts = [
        p,
        add(1, separable(h, 5, "left1"), separable(p, 3, "right1")),
        add(2, separable(p, 5, "left2"), separable(p, 3, "right2")),
        add(3, _average(h, f"normal_left3_{name}"), p),
        add(4, _average(p, f"normal_left4_{name}"), _average(p, f"normal_right4_{name}")),
        add(5, separable(h, 3, "left5"), h),
    ]
    return layers.Concatenate(name=f"normal_concat_{name}")(parts)


def _reduction_cell(x: Any, p: Any, filters: int, name: str) -> Any:
    """Return the output of a cell that halves the size."""
    h, p = _enter(x, p, filters, "reduction", name)
    padded = layers.ZeroPadding2D(strided_padding(h, 3), name=f"reduction_pad_1_{name}")(h)

    def separable(x: Any, size: int, place: str, strides: int = 2) -> Any:
        return _separable(x, filters, size, f"reduction_{place}_{name}", strides)

    def pool(layer: Any, place: str) -> Any:
        return layer(3, strides=2, name=f"reduction_{place}_{name}")(padded)

    def add(place: str | None, *parts: Any) -> Any:
        return layers.Add(name=place and f"reduction_{place}_{name}")(list(parts))

    one = add("add_1", separable(h, 5, "left1"), separable(p, 7, "right1"))
    two = add("add_2", pool(layers.MaxPooling2D, "left2"), separable(p, 7, "right2"))
    three = add("add3", pool(layers.AveragePooling2D, "left3"), separable(p, 5, "right3"))
    four = add(None, two, _average(one, f"reduction_left4_{name}"))
    five = add("add4", separable(one, 3, "left4", 1), pool(layers.MaxPooling2D, "right5"))
    return layers.Concatenate(name=f"reduction_concat_{name}")([two, three, four, five])


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = unnamed_pool(x, "avg")
    return layers.Dense(classes, activation=activation, name="predictions")(x)


# -- applications of Keras ------------------------------------------------------------------------


def _application(
    function: str, model_name: str, size: int, always_sized: bool, **sizes: Any
) -> Any:
    def constructor(
        input_shape: Any = None,
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Any = "softmax",
        name: str = model_name,
    ) -> keras.Model:
        if always_sized and input_shape is None and not include_top:
            input_shape = (size, size, 3)
        if weights == "imagenet" and input_shape is not None and None in input_shape:
            raise ValueError(
                f"input_shape must have no None with weights='imagenet', got {input_shape}."
            )
        return assemble(
            lambda x: features(x, **sizes), name=name, include_top=include_top, weights=weights,
            input_tensor=input_tensor, input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size, top=_top,
            pooled=unnamed_pool, files=function,
        )  # fmt: skip

    return describe(constructor, function)


NASNetMobile = _application(
    "NASNetMobile", "nasnet_mobile", 224, always_sized=True,
    filters=44, cells=4, stem_filters=32, skip_reduction=False,
)  # fmt: skip
NASNetLarge = _application(
    "NASNetLarge", "nasnet_large", 331, always_sized=False,
    filters=168, cells=6, stem_filters=96, skip_reduction=True,
)  # fmt: skip
