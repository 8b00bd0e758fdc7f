"""Xception (Chollet, 2016, arXiv:1610.02357): residual blocks of separable convolutions.

The networks of Keras and timm are one, but for the epsilon and the momentum of the normalisations,
and the padding of poolings: Keras pads as TensorFlow, timm on all sides alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import (
    activate,
    application,
    batch_norm,
    padded_max_pool,
    unnamed_pool,
)
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers

# The filters of the convolutions of each block, and whether it halves the size.
_FILTERS = (
    (32, 64), (128, 128), (256, 256), (728, 728), *(8 * [(728, 728, 728)]), (728, 1024),
    (1536, 2048),
)  # fmt: skip
_POOLING = (True, True, True, True, *(8 * [False]), True, False)


@dataclass(frozen=True)
class Layout:
    """How the blocks of an Xception are laid out.

    Attributes:
        filters: of the convolutions of each block. Those of the first are not separable, and those
            of the last are not residual.
        pooling: whether a block halves the size.
        epsilon: of the normalisations.
        momentum: of the normalisations' averages.
        tf_padding: whether poolings are padded as in TensorFlow, rather than on all sides alike.
        named_shortcuts: whether the layers of shortcuts have names, which they lack in Keras.
    """

    filters: Sequence[Sequence[int]] = _FILTERS
    pooling: Sequence[bool] = _POOLING
    epsilon: float = 1e-5
    momentum: float = 0.9
    tf_padding: bool = False
    named_shortcuts: bool = True


def features(x: Any, layout: Layout) -> dict[str, Any]:
    """Return the activated features of each size, P2 to P5.

    Args:
        x: images.
        layout: of the blocks.
    """
    first, *middle, last = layout.filters
    for i, filters in enumerate(first, 1):
        name, strides = f"block1_conv{i}", 2 if i == 1 and layout.pooling[0] else 1
        x = layers.Conv2D(filters, 3, strides=strides, use_bias=False, name=name)(x)
        x = activate(_normalize(x, f"{name}_bn", layout), f"{name}_act")
    pyramid, level = {}, int(layout.pooling[0])
    for block, filters in enumerate(middle, 2):
        # The input of the first block is activated already.
        activated = x if block == 2 else activate(x, f"block{block}_sepconv1_act")
        halve = layout.pooling[block - 1]
        if halve and level > 1:
            pyramid[f"P{level}"] = activated
        level += halve
        x = _block(x, activated, block, filters, halve, layout)
    for i, filters in enumerate(last, 1):
        name = f"block{len(layout.filters)}_sepconv{i}"
        x = activate(_separable(x, filters, name, layout), f"{name}_act")
    return {**pyramid, f"P{level}": x}


def _normalize(x: Any, name: str | None, layout: Layout) -> Any:
    return batch_norm(x, name, layout.epsilon, momentum=layout.momentum)


def _separable(x: Any, filters: int, name: str, layout: Layout) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return _normalize(x, f"{name}_bn", layout)


def _block(
    x: Any, activated: Any, block: int, filters: Sequence[int], halve: bool, layout: Layout
) -> Any:
    """Add separable convolutions to the input, or to a projection of it where the size halves."""
    shortcut = x
    if halve:
        conv, norm = None, None
        if layout.named_shortcuts:
            conv, norm = f"block{block}_shortcut", f"block{block}_shortcut_bn"
        shortcut = layers.Conv2D(
            filters[-1], 1, strides=2, padding="same", use_bias=False, name=conv
        )(x)  # fmt: skip
        shortcut = _normalize(shortcut, norm, layout)
    x = activated
    for i, count in enumerate(filters, 1):
        name = f"block{block}_sepconv{i}"
        x = activate(x, f"{name}_act") if i > 1 else x
        x = _separable(x, count, name, layout)
    if halve and layout.tf_padding:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    elif halve:
        x = padded_max_pool(x, f"block{block}_pool")
    return layers.Add()([x, shortcut])


# -- the application of Keras ---------------------------------------------------------------------

_KERAS = Layout(epsilon=1e-3, momentum=0.99, tf_padding=True, named_shortcuts=False)

Xception = application(
    "Xception", lambda x: features(x, _KERAS)["P5"], default_size=299, min_size=71,
    pooled=unnamed_pool,
)  # fmt: skip


# -- the backbone ---------------------------------------------------------------------------------


class XceptionBackbone(ImageBackbone):
    """Xception without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_conv_filters: the filters of the convolutions of each block. Those of the first
            block are not separable, and those of the last are not residual.
        stackwise_pooling: whether a block halves the size; the last must not.
        tf_padding: whether poolings are padded as in TensorFlow, rather than on all sides alike.
        epsilon: of the normalisations.
        image_shape: of an image.

    Raises:
        ValueError: a block lacks one of its arguments, the last one halves the size, or one that
            does not halve it changes the number of channels.

    >>> model = XceptionBackbone([[4, 8], [12, 12], [16, 20]], [True, True, False])
    >>> tuple(model(np.ones((1, 63, 63, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 15, 15, 20), ['P2'])
    """

    default_family = "timm_xception"

    def __init__(
        self,
        stackwise_conv_filters: Sequence[Sequence[int]] = _FILTERS,
        stackwise_pooling: Sequence[bool] = _POOLING,
        tf_padding: bool = False,
        epsilon: float = 1e-5,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if len(stackwise_conv_filters) != len(stackwise_pooling) or stackwise_pooling[-1]:
            raise ValueError(
                "stackwise_pooling must have a truth value for each row of stackwise_conv_filters, "
                f"the last False, got {stackwise_pooling}."
            )
        for i in range(1, len(stackwise_pooling) - 1):
            before, filters = stackwise_conv_filters[i - 1 : i + 1]
            if not stackwise_pooling[i] and before[-1] != filters[-1]:
                raise ValueError(
                    "stackwise_conv_filters must end with the same number as the row before where "
                    f"stackwise_pooling is False, got {filters} after {before}."
                )
        layout = Layout(
            stackwise_conv_filters, stackwise_pooling, epsilon, tf_padding=tf_padding
        )  # fmt: skip
        super().__init__(lambda x: features(x, layout), image_shape, **kwargs)


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {
    "legacy_xception": {
        "stackwise_conv_filters": _FILTERS, "stackwise_pooling": _POOLING, "tf_padding": False,
        "epsilon": 1e-5,
    }
}  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    first, *middle, last = arguments["stackwise_conv_filters"]
    rows, separable = {}, {}
    for i in range(1, len(first) + 1):
        rows |= {f"block1_conv{i}": f"conv{i}", f"block1_conv{i}_bn": f"bn{i}"}
    for i in range(1, len(last) + 1):
        number = len(first) + i
        separable[f"block{len(middle) + 2}_sepconv{i}"] = f"conv{number}", f"bn{number}"
    for block, filters in enumerate(middle, 2):
        place = f"block{block - 1}"
        rows |= {f"block{block}_shortcut": f"{place}.skip"}
        rows |= {f"block{block}_shortcut_bn": f"{place}.skipbn"}
        # Activation, convolution and normalisation are counted; the first block has no activation
        # at its begin.
        number = 0 if block == 2 else 1
        for i in range(len(filters)):
            pair = f"{place}.rep.{number + 3 * i}", f"{place}.rep.{number + 3 * i + 1}"
            separable[f"block{block}_sepconv{i + 1}"] = pair
    for ours, (conv, norm) in separable.items():
        rows[f"{ours}/depthwise_kernel"] = f"{conv}.conv1.weight"
        rows[f"{ours}/pointwise_kernel"] = f"{conv}.pointwise.weight"
        rows[f"{ours}_bn"] = norm
    return WeightTable(rows)


register(
    Family(
        "timm_xception", XceptionBackbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"fc\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "fc"}))},
    )
)  # fmt: skip
