"""Inception-ResNet V2 (Szegedy et al., 2016, arXiv:1602.07261): residual blocks of branches."""

from collections.abc import Sequence
from typing import Any

import keraslite as keras
from hub.models.applications.frame import activate, application, channel_axis, unnamed_pool
from hub.models.applications.inception_v3 import Branch, convolve, mixed, stem
from keraslite import layers


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
        return inputs[0] + inputs[1] * self.scale

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "scale": self.scale}


_BLOCKS: dict[str, list[Branch]] = {
    "block35": [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]],
    "block17": [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]],
    "block8": [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]],
}
# What stands before each group of blocks, the blocks, their number, their scale.
_GROUPS: list[tuple[str, list[Branch], str, int, float]] = [
    (
        "mixed_5b",
        [[(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (64, 1)]],
        "block35", 10, 0.17,
    ),
    (
        "mixed_6a", [[(384, 3, 2)], [(256, 1), (256, 3), (384, 3, 2)], ["max"]],
        "block17", 20, 0.1,
    ),
    (
        "mixed_7a",
        [
            [(256, 1), (384, 3, 2)], [(256, 1), (288, 3, 2)],
            [(256, 1), (288, 3), (320, 3, 2)], ["max"],
        ],
        "block8", 9, 0.2,
    ),
]  # fmt: skip


def features(x: Any) -> Any:
    """Return the output of the last convolution, a 32nd of the image's size.

    Args:
        x: images.
    """
    x = stem(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for name, branches, block, count, scale in _GROUPS:
        x = mixed(x, branches, name)
        for i in range(1, count + 1):
            x = activate(_block(x, block, f"{block}_{i}", scale), f"{block}_{i}_ac")
    # The last block is neither scaled nor activated.
    return convolve(_block(x, "block8", "block8_10", 1.0), 1536, 1, name="conv_7b")


def _block(x: Any, block: str, name: str, scale: float) -> Any:
    y = mixed(x, _BLOCKS[block], f"{name}_mixed")
    y = layers.Conv2D(x.shape[channel_axis()], 1, padding="same", name=f"{name}_conv")(y)
    return CustomScaleLayer(scale)([x, y])


InceptionResNetV2 = application(
    "InceptionResNetV2", features, model_name="inception_resnet_v2", default_size=299, min_size=75,
    pooled=unnamed_pool,
)  # fmt: skip
