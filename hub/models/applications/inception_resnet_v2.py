"""Inception-ResNet V2 (Szegedy et al., 2016, arXiv:1602.07261): residual blocks of branches.

The networks of Keras and timm are one, but for the normalisations: those of timm have a scale, and
their averages another momentum.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import keraslite as keras
from hub.families import Family, Head, register
from hub.models.applications.frame import activate, application, channel_axis, unnamed_pool
from hub.models.applications.inception_v3 import Branch, convolve, mixed, stem
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers, ops


@keras.saving.register_keras_serializable("hub")
class CustomScaleLayer(layers.Layer):
    """Add a multiple of the second input to the first; layers are numbered by Keras's name of it.

    Args:
        scale: the factor.
        kwargs: those of a layer.

    >>> CustomScaleLayer(0.5)([np.ones(2), np.full(2, 4.0)]).tolist()
    [3.0, 3.0]
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return the sum.

        Args:
            inputs: two tensors of the same shape.
        """
        return ops.add(inputs[0], ops.multiply(inputs[1], self.scale))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "scale": self.scale}


_BLOCKS: dict[str, list[Branch]] = {
    "block35": [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]],
    "block17": [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]],
    "block8": [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]],
}
# What stands before each group of blocks, the blocks, their scale.
_GROUPS: list[tuple[str, list[Branch], str, float]] = [
    (
        "mixed_5b",
        [[(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (64, 1)]],
        "block35", 0.17,
    ),
    (
        "mixed_6a", [[(384, 3, 2)], [(256, 1), (256, 3), (384, 3, 2)], ["max"]],
        "block17", 0.1,
    ),
    (
        "mixed_7a",
        [
            [(256, 1), (384, 3, 2)], [(256, 1), (288, 3, 2)],
            [(256, 1), (288, 3), (320, 3, 2)], ["max"],
        ],
        "block8", 0.2,
    ),
]  # fmt: skip
_NUM_BLOCKS = (10, 20, 10)


def features(
    x: Any,
    num_blocks: Sequence[int] = _NUM_BLOCKS,
    convolve: Callable[..., Any] = convolve,
) -> dict[str, Any]:
    """Return the outputs of the last block of each size, P2 to P5.

    Args:
        x: images.
        num_blocks: the number of blocks of each group. The last block of the last group is neither
            scaled nor activated.
        convolve: a function as that of Inception V3.
    """
    pyramid = {"P2": stem(x, convolve)}
    x = layers.MaxPooling2D(3, strides=2)(pyramid["P2"])
    for (name, branches, block, scale), blocks in zip(_GROUPS, num_blocks, strict=True):
        x = mixed(x, branches, name, convolve=convolve)
        for i in range(1, blocks + 1):
            place = f"{block}_{i}"
            if block == "block8" and i == blocks:
                x = _block(x, block, place, 1.0, convolve)
            else:
                x = activate(_block(x, block, place, scale, convolve), f"{place}_ac")
        pyramid[f"P{len(pyramid) + 2}"] = x
    return {**pyramid, "P5": convolve(x, 1536, 1, name="conv_7b")}


def _block(x: Any, block: str, name: str, scale: float, convolve: Callable[..., Any]) -> Any:
    y = mixed(x, _BLOCKS[block], f"{name}_mixed", convolve=convolve)
    y = layers.Conv2D(x.shape[channel_axis()], 1, padding="same", name=f"{name}_conv")(y)
    return CustomScaleLayer(scale)([x, y])


# -- the application of Keras ---------------------------------------------------------------------

InceptionResNetV2 = application(
    "InceptionResNetV2", lambda x: features(x)["P5"], model_name="inception_resnet_v2",
    default_size=299, min_size=75, pooled=unnamed_pool,
)  # fmt: skip


# -- the backbone ---------------------------------------------------------------------------------


class InceptionResNetV2Backbone(ImageBackbone):
    """Inception-ResNet V2 without a classifier: images (batch, ..., channels) to features.

    Args:
        stackwise_num_blocks: the number of residual blocks of each of the three sizes.
        epsilon: of the normalisations.
        image_shape: of an image, of 75 x 75 pixels or more.

    Raises:
        ValueError: `stackwise_num_blocks` has not three numbers of at least 1.

    >>> InceptionResNetV2Backbone((1, 1, 1), image_shape=(75, 75, 3)).output_shape
    (None, 1, 1, 1536)
    """

    default_family = "timm_inception_resnet_v2"

    def __init__(
        self,
        stackwise_num_blocks: Sequence[int] = _NUM_BLOCKS,
        epsilon: float = 1e-3,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        if len(stackwise_num_blocks) != 3 or min(stackwise_num_blocks) < 1:
            raise ValueError(
                "stackwise_num_blocks must have three numbers of at least 1, got "
                f"{stackwise_num_blocks}."
            )
        numbers = count(1)

        def numbered(*args: Any, name: str | None = None, **options: Any) -> Any:
            norm = {"scale": True, "epsilon": epsilon, "momentum": 0.9}
            return convolve(*args, name=name or f"conv{next(numbers)}", **options, **norm)

        super().__init__(
            lambda x: features(x, stackwise_num_blocks, numbered), image_shape, **kwargs
        )


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {"inception_resnet_v2": {"stackwise_num_blocks": _NUM_BLOCKS, "epsilon": 1e-3}}
_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")
_REPEATS = ("repeat", "repeat_1", "repeat_2")  # the groups of blocks


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    names, rows = list(_STEM), {}
    num_blocks = arguments["stackwise_num_blocks"]
    for (name, branches, block, _), repeat, blocks in zip(
        _GROUPS, _REPEATS, num_blocks, strict=True
    ):
        names += _convolutions(name, branches)
        for i in range(1, blocks + 1):
            is_last = block == "block8" and i == blocks
            place = "block8" if is_last else f"{repeat}.{i - 1}"
            names += _convolutions(place, _BLOCKS[block])
            rows[f"{block}_{i}_conv"] = f"{place}.conv2d"
    ours = {f"conv{i}": name for i, name in enumerate(names, 1)} | {"conv_7b": "conv2d_7b"}
    for conv, name in ours.items():
        rows |= {conv: f"{name}.conv", f"{conv}_bn": f"{name}.bn"}
    return WeightTable(rows)


def _convolutions(place: str, branches: Sequence[Branch]) -> list[str]:
    """Return timm's names of the convolutions of branches; steps are numbered if there are many."""
    return [
        f"{place}.branch{b}" + (f".{i}" if len(branch) > 1 else "")
        for b, branch in enumerate(branches)
        for i, step in enumerate(branch)
        if not isinstance(step, str)
    ]


register(
    Family(
        "timm_inception_resnet_v2", InceptionResNetV2Backbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"classif\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "classif"}))},
    )
)  # fmt: skip
