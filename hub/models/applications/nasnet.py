"""NASNet-A (Zoph et al., 2017, arXiv:1707.07012): two cells that a search has found, repeated.

A cell takes the outputs of the two cells before it. Keras refuses NASNetMobile on torch; here it
runs on every backend. The networks of Keras and timm are one, but for the momentum of the
normalisations, and the maxima at the borders of images: Keras counts the zeros around them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keraslite as keras
from hub.families import Family, Head, register
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
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers, ops


@keras.saving.register_keras_serializable("hub")
class AverageWithZeros(layers.Layer):
    """Halve the size of images by the averages of 3 x 3 values, counting the zeros around images.

    `AveragePooling2D` with its padding "same" leaves those zeros out.

    >>> AverageWithZeros()(np.full((1, 3, 3, 1), 9.0, "float32"))[0, :, :, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]
    """

    def call(self, inputs: Any) -> Any:
        """Return the averages.

        Args:
            inputs: images, channels last.
        """
        kernel = ops.full((3, 3, inputs.shape[-1], 1), 1 / 9, dtype=self.compute_dtype)
        return ops.depthwise_conv(inputs, kernel, 2, "same")


@dataclass(frozen=True)
class Layout:
    """How the cells of a NASNet are laid out.

    Attributes:
        filters: of the first cells that keep the size, doubled at each reduction.
        cells: the number of cells between two reductions.
        stem_filters: of the first convolution.
        skip_reduction: whether the cell after a reduction also sees what the reduction has seen
            second, rather than its input.
        epsilon: of the normalisations.
        momentum: of the normalisations' averages.
        padding_layers: whether layers of their own pad what is halved with zeros, as in Keras,
            which maxima then count. The sizes of images must be known for it.
    """

    filters: int
    cells: int
    stem_filters: int
    skip_reduction: bool
    epsilon: float = 1e-3
    momentum: float = 0.9997
    padding_layers: bool = True


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the outputs of the last cell of each size, P2 to P5, before they are activated.

    Args:
        x: images, channels last.
        layout: of the cells.
    """
    require_channels_last("NASNet")
    x = layers.Conv2D(
        layout.stem_filters, 3, 2, use_bias=False, kernel_initializer="he_normal",
        name="stem_conv1",
    )(x)  # fmt: skip
    stem = _normalize(x, "stem_bn1", layout)
    x = _reduction_cell(stem, None, layout.filters // 4, "stem_1", layout)
    pyramid = {"P2": x}
    x, p = _reduction_cell(x, stem, layout.filters // 2, "stem_2", layout, halve=True), x
    for stage in range(3):
        filters, number = layout.filters * 2**stage, stage * layout.cells
        if stage > 0:
            before = x
            x = _reduction_cell(x, p, filters, f"reduce_{number}", layout)
            p = p if layout.skip_reduction else before
        for i in range(layout.cells):
            name = str(number + i + (stage > 0))
            x, p = _normal_cell(x, p, filters, name, layout, halve=i == 0), x
        pyramid[f"P{3 + stage}"] = x
    return pyramid


def _normalize(x: Any, name: str, layout: Layout) -> Any:
    return batch_norm(x, name, layout.epsilon, momentum=layout.momentum)


def _project(x: Any, filters: int, name: str) -> Any:
    return layers.Conv2D(
        filters, 1, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def _average(x: Any, name: str) -> Any:
    return layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)


def _separable(x: Any, filters: int, size: int, name: str, layout: Layout, strides: int = 1) -> Any:
    """Activate, convolve and normalise twice; the first convolution has the stride."""
    for i in (1, 2):
        x, padding = activate(x, None), "same"
        if strides == 2 and layout.padding_layers:
            pad = f"separable_conv_{i}_pad_{name}"
            x, padding = layers.ZeroPadding2D(strided_padding(x, size), name=pad)(x), "valid"
        x = layers.SeparableConv2D(
            filters, size, strides, padding, use_bias=False, name=f"separable_conv_{i}_{name}"
        )(x)
        x, strides = _normalize(x, f"separable_conv_{i}_bn_{name}", layout), 1
    return x


def _adjust(p: Any, x: Any, filters: int, name: str, layout: Layout, halve: bool) -> Any:
    """Return the output of the cell before the last in the size of the last one's."""
    if layout.padding_layers:  # Keras takes unknown sizes as equal
        halve = p.shape[2] != x.shape[2]
    if halve:
        p = activate(p, f"adjust_relu_1_{name}")
        halves = []
        for i in (1, 2):  # the even rows and columns, then the odd ones
            if i == 2:
                p = layers.ZeroPadding2D(((0, 1), (0, 1)))(p)
                p = layers.Cropping2D(((1, 0), (1, 0)))(p)
            half = layers.AveragePooling2D(1, strides=2, name=f"adjust_avg_pool_{i}_{name}")(p)
            halves.append(_project(half, filters // 2, f"adjust_conv_{i}_{name}"))
        return _normalize(layers.Concatenate()(halves), f"adjust_bn_{name}", layout)
    if p.shape[3] != filters:
        p = _project(activate(p, None), filters, f"adjust_conv_projection_{name}")
        return _normalize(p, f"adjust_bn_{name}", layout)
    return p


def _enter(
    x: Any, p: Any, filters: int, cell: str, name: str, layout: Layout, halve: bool
) -> tuple[Any, Any]:
    """Return both inputs of a cell with its filters; the first cell has one only."""
    p = x if p is None else _adjust(p, x, filters, name, layout, halve)
    h = _project(activate(x, None), filters, f"{cell}_conv_1_{name}")
    return _normalize(h, f"{cell}_bn_1_{name}", layout), p


def _normal_cell(x: Any, p: Any, filters: int, name: str, layout: Layout, halve: bool) -> Any:
    """Return the output of a cell that keeps the size."""
    h, p = _enter(x, p, filters, "normal", name, layout, halve)

    def separable(x: Any, size: int, place: str) -> Any:
        return _separable(x, filters, size, f"normal_{place}_{name}", layout)

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


def _reduction_cell(
    x: Any, p: Any, filters: int, name: str, layout: Layout, halve: bool = False
) -> Any:
    """Return the output of a cell that halves the size."""
    h, p = _enter(x, p, filters, "reduction", name, layout, halve)
    pooled, padding = h, "same"
    if layout.padding_layers:
        pad = layers.ZeroPadding2D(strided_padding(h, 3), name=f"reduction_pad_1_{name}")
        pooled, padding = pad(h), "valid"

    def separable(x: Any, size: int, place: str, strides: int = 2) -> Any:
        return _separable(x, filters, size, f"reduction_{place}_{name}", layout, strides)

    def maximum(place: str) -> Any:
        return layers.MaxPooling2D(3, 2, padding, name=f"reduction_{place}_{name}")(pooled)

    def average(place: str) -> Any:
        if layout.padding_layers:
            return layers.AveragePooling2D(3, 2, name=f"reduction_{place}_{name}")(pooled)
        return AverageWithZeros(name=f"reduction_{place}_{name}")(h)

    def add(place: str | None, *parts: Any) -> Any:
        return layers.Add(name=place and f"reduction_{place}_{name}")(list(parts))

    one = add("add_1", separable(h, 5, "left1"), separable(p, 7, "right1"))
    two = add("add_2", maximum("left2"), separable(p, 7, "right2"))
    three = add("add3", average("left3"), separable(p, 5, "right3"))
    four = add(None, two, _average(one, f"reduction_left4_{name}"))
    five = add("add4", separable(one, 3, "left4", 1), maximum("right5"))
    return layers.Concatenate(name=f"reduction_concat_{name}")([two, three, four, five])


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = unnamed_pool(x, "avg")
    return layers.Dense(classes, activation=activation, name="predictions")(x)


# -- applications of Keras ------------------------------------------------------------------------


def _application(
    function: str, model_name: str, size: int, always_sized: bool, layout: Layout
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
            lambda x: activate(features(x, layout)["P5"], None), name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, default_size=size, top=_top,
            pooled=unnamed_pool, files=function,
        )  # fmt: skip

    return describe(constructor, function)


NASNetMobile = _application(
    "NASNetMobile", "nasnet_mobile", 224, always_sized=True,
    layout=Layout(filters=44, cells=4, stem_filters=32, skip_reduction=False),
)  # fmt: skip
NASNetLarge = _application(
    "NASNetLarge", "nasnet_large", 331, always_sized=False,
    layout=Layout(filters=168, cells=6, stem_filters=96, skip_reduction=True),
)  # fmt: skip


# -- the backbone ---------------------------------------------------------------------------------


class NASNetBackbone(ImageBackbone):
    """NASNet-A without a classifier: images (batch, height, width, channels) to features.

    The zeros around images count in averages where the size is halved, not in maxima.

    Args:
        filters: of the first cells that keep the size, doubled at each reduction; a multiple of 4.
        cells_per_stage: the number of cells between two reductions.
        stem_filters: of the first convolution.
        skip_reduction: whether the cell after a reduction also sees what the reduction has seen
            second, rather than its input.
        epsilon: of the normalisations.
        image_shape: of an image, of 32 x 32 pixels or more.

    Raises:
        ValueError: `filters` is not a multiple of 4, or images have their channels first.

    >>> model = NASNetBackbone(filters=8, cells_per_stage=1, stem_filters=4)
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 192), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "timm_nasnet"

    def __init__(
        self,
        filters: int = 168,
        cells_per_stage: int = 6,
        stem_filters: int = 96,
        skip_reduction: bool = True,
        epsilon: float = 1e-3,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if filters < 4 or filters % 4:
            raise ValueError(f"filters must be a multiple of 4, got {filters}.")
        layout = Layout(
            filters, cells_per_stage, stem_filters, skip_reduction, epsilon, momentum=0.9,
            padding_layers=False,
        )  # fmt: skip

        def activated(x: Any) -> dict[str, Any]:
            return {k: activate(v, f"{k}_relu") for k, v in features(x, layout).items()}

        super().__init__(activated, image_shape, **kwargs)


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {
    "nasnetalarge": {
        "filters": 168, "cells_per_stage": 6, "stem_filters": 96, "skip_reduction": True,
        "epsilon": 1e-3,
    }
}  # fmt: skip
# The separable convolutions of a cell, in our names and in those of timm.
_NORMAL = {
    "left1": "0_left", "right1": "0_right", "left2": "1_left", "right2": "1_right",
    "left5": "4_left",
}  # fmt: skip
_REDUCTION = {
    "left1": "0_left", "right1": "0_right", "right2": "1_right", "right3": "2_right",
    "left4": "4_left",
}  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    cells = arguments["cells_per_stage"]
    rows = {"stem_conv1": "conv0.conv", "stem_bn1": "conv0.bn"}
    rows |= _cell("stem_1", "cell_stem_0") | _cell("stem_2", "cell_stem_1", halves=True)
    for stage in range(3):
        if stage > 0:
            rows |= _cell(f"reduce_{stage * cells}", f"reduction_cell_{stage - 1}")
        for i in range(cells):
            number = stage * cells + i
            rows |= _cell(str(number + (stage > 0)), f"cell_{number}", halves=i == 0)
    return WeightTable(rows)


def _cell(name: str, theirs: str, halves: bool = False) -> dict[str, str]:
    """Return the rows of the weights of a cell.

    Args:
        name: of the cell here.
        theirs: its name in timm.
        halves: whether it halves the output of the cell before the last.
    """
    cell, branches = ("normal", _NORMAL) if name.isdecimal() else ("reduction", _REDUCTION)
    rows = {f"{cell}_conv_1_{name}": "conv_1x1.conv", f"{cell}_bn_1_{name}": "conv_1x1.bn"}
    if halves:
        rows |= {f"adjust_conv_{i}_{name}": f"path_{i}.conv" for i in (1, 2)}
        rows[f"adjust_bn_{name}"] = "final_path_bn"
    else:
        rows[f"adjust_conv_projection_{name}"] = "conv_prev_1x1.conv"
        rows[f"adjust_bn_{name}"] = "conv_prev_1x1.bn"
    for ours, branch in branches.items():
        for i in (1, 2):
            end, conv = f"{cell}_{ours}_{name}", f"comb_iter_{branch}.separable_{i}"
            for kernel in ("depthwise", "pointwise"):
                path = f"separable_conv_{i}_{end}/{kernel}_kernel"
                rows[path] = f"{conv}.{kernel}_conv2d.weight"
            rows[f"separable_conv_{i}_bn_{end}"] = f"comb_iter_{branch}.bn_sep_{i}"
    return {ours: f"{theirs}.{row}" for ours, row in rows.items()}


register(
    Family(
        "timm_nasnet", NASNetBackbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"last_linear\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "last_linear"}))},
    )
)  # fmt: skip
