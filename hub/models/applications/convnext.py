"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545): a ResNet with the design of a vision transformer.

Keras has stochastic depth as well, but none of its five networks uses it.
"""

from collections.abc import Sequence
from typing import Any

import keraslite as keras
from hub.models.applications.frame import (
    CLASSES,
    assemble,
    describe,
    require_channels_last,
    unnamed_pool,
)
from keraslite import layers

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, pixels up to 1


@keras.saving.register_keras_serializable("hub")
class LayerScale(layers.Layer):
    """Multiply each channel by a learned factor.

    Args:
        init_values: the factor at first.
        projection_dim: the number of channels.
        kwargs: those of a layer.

    >>> LayerScale(0.5, 2)(np.array([[2.0, 4.0]], "float32")).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, init_values: float, projection_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.init_values = init_values
        self.projection_dim = projection_dim

    def build(self, input_shape: Any) -> None:
        """Make the factors.

        Args:
            input_shape: of the inputs.
        """
        self.gamma = self.add_weight(
            shape=(self.projection_dim,),
            initializer=keras.initializers.Constant(self.init_values),
        )

    def call(self, inputs: Any) -> Any:
        """Return the scaled inputs.

        Args:
            inputs: a tensor, channels last.
        """
        return inputs * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        arguments = {"init_values": self.init_values, "projection_dim": self.projection_dim}
        return {**super().get_config(), **arguments}


def features(
    x: Any, filters: Sequence[int], blocks: Sequence[int], preprocess: bool, name: str
) -> Any:
    """Return the output of the last block, a 32nd of the image's size.

    Args:
        x: images, channels last.
        filters: of each stage.
        blocks: of each stage.
        preprocess: whether images of three channels are normalised by the statistics of ImageNet.
        name: of the model, the prefix of the names of layers.
    """
    require_channels_last("ConvNeXt")
    if preprocess and x.shape[3] == 3:
        x = layers.Normalization(
            mean=[255 * mean for mean in _MEAN],
            variance=[(255 * deviation) ** 2 for deviation in _DEVIATION],
            name=f"{name}_prestem_normalization",
        )(x)
    for stage, (width, count) in enumerate(zip(filters, blocks, strict=True)):
        x = _downsample(x, width, stage, name)
        for block in range(count):
            x = _block(x, width, f"{name}_stage_{stage}_block_{block}")
    return x


def _normalize(name: str | None) -> Any:
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def _downsample(x: Any, filters: int, stage: int, name: str) -> Any:
    """Convolve patches, normalised after the first stage's convolution, and before the others'."""
    if stage == 0:
        conv = layers.Conv2D(filters, 4, strides=4, name=f"{name}_stem_conv")
        parts, model = [conv, _normalize(f"{name}_stem_layernorm")], "stem"
    else:
        i, prefix = stage - 1, f"{name}_downsampling"
        conv = layers.Conv2D(filters, 2, strides=2, name=f"{prefix}_conv_{i}")
        parts, model = [_normalize(f"{prefix}_layernorm_{i}"), conv], f"downsampling_block_{i}"
    return keras.Sequential(parts, name=f"{name}_{model}")(x)


def _block(x: Any, filters: int, name: str) -> Any:
    """Add to the input its depthwise convolution, followed by two dense layers."""
    y = layers.Conv2D(
        filters, 7, padding="same", groups=filters, name=f"{name}_depthwise_conv"
    )(x)  # fmt: skip
    for layer in (
        _normalize(f"{name}_layernorm"),
        layers.Dense(4 * filters, name=f"{name}_pointwise_conv_1"),
        layers.Activation("gelu", name=f"{name}_gelu"),
        layers.Dense(filters, name=f"{name}_pointwise_conv_2"),
        LayerScale(1e-6, filters, name=f"{name}_layer_scale"),
        layers.Activation("linear", name=f"{name}_identity"),
    ):
        y = layer(y)
    return x + y


# -- applications of Keras ------------------------------------------------------------------------


def _application(function: str, filters: Sequence[int], blocks: Sequence[int]) -> Any:
    variant = function.lower().replace("convnext", "convnext_")

    def constructor(
        include_top: bool = True,
        include_preprocessing: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = CLASSES,
        classifier_activation: Any = "softmax",
        name: str = variant,
    ) -> keras.Model:
        def classify(x: Any, classes: int, activation: Any) -> Any:
            x = layers.GlobalAveragePooling2D(name=f"{name}_head_gap")(x)
            x = _normalize(f"{name}_head_layernorm")(x)
            return layers.Dense(classes, activation=activation, name=f"{name}_head_dense")(x)

        if weights == "imagenet" and variant not in name:
            raise ValueError(
                f"name must contain {variant!r} with weights='imagenet', as in Keras, got {name!r}."
            )
        return assemble(
            lambda x: features(x, filters, blocks, include_preprocessing, name), name=name,
            include_top=include_top, weights=weights, input_tensor=input_tensor,
            input_shape=input_shape, pooling=pooling, classes=classes,
            classifier_activation=classifier_activation, top=classify,
            pooled=lambda x, pooling: _normalize(None)(unnamed_pool(x, pooling)), files=function,
        )  # fmt: skip

    return describe(
        constructor, function,
        include_preprocessing="whether pixels are from 0 to 255, and normalised in the network.",
    )  # fmt: skip


ConvNeXtTiny = _application("ConvNeXtTiny", (96, 192, 384, 768), (3, 3, 9, 3))
ConvNeXtSmall = _application("ConvNeXtSmall", (96, 192, 384, 768), (3, 3, 27, 3))
ConvNeXtBase = _application("ConvNeXtBase", (128, 256, 512, 1024), (3, 3, 27, 3))
ConvNeXtLarge = _application("ConvNeXtLarge", (192, 384, 768, 1536), (3, 3, 27, 3))
ConvNeXtXLarge = _application("ConvNeXtXLarge", (256, 512, 1024, 2048), (3, 3, 27, 3))
