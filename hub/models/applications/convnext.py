"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545): a ResNet with the design of a vision transformer.

The networks of Keras, timm and transformers are one, but for the epsilon of the normalisation of
the pooled features: transformers reads it from the config, where it is 1e-12, the others have 1e-6.
Keras has stochastic depth as well, but none of its five networks uses it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import keraslite as keras
from hub.families import Family, Head, register
from hub.models.applications.frame import (
    CLASSES,
    assemble,
    describe,
    require_channels_last,
    unnamed_pool,
)
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.storage import DENSE_AS_CONV
from hub.weights.tables import WeightTable
from keraslite import layers, ops

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
        return ops.multiply(inputs, self.gamma)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        arguments = {"init_values": self.init_values, "projection_dim": self.projection_dim}
        return {**super().get_config(), **arguments}


@dataclass(frozen=True)
class Layout:
    """How the blocks of a ConvNeXt are laid out.

    Attributes:
        filters: of each stage.
        blocks: of each stage.
        activation: between the dense layers of a block.
        epsilon: of the normalisations.
        layer_scale: the factor of the channels of a block at first; no factors where it is 0.
        drop_path_rate: the share of the images for which the last block is dropped in training.
    """

    filters: Sequence[int] = (96, 192, 384, 768)
    blocks: Sequence[int] = (3, 3, 9, 3)
    activation: str = "gelu"
    epsilon: float = 1e-6
    layer_scale: float = 1e-6
    drop_path_rate: float = 0.0


def features(x: Any, layout: Layout, name: str) -> dict[str, Any]:
    """Return the outputs of the stages, P2 to P5.

    Args:
        x: images, channels last.
        layout: of the blocks.
        name: of the model, the prefix of the names of layers.
    """
    require_channels_last("ConvNeXt")
    rates = iter(np.linspace(0, layout.drop_path_rate, sum(layout.blocks)).tolist())
    pyramid = {}
    for stage, (width, count) in enumerate(zip(layout.filters, layout.blocks, strict=True)):
        x = _downsample(x, width, stage, layout.epsilon, name)
        for block in range(count):
            x = _block(x, width, next(rates), layout, f"{name}_stage_{stage}_block_{block}")
        pyramid[f"P{stage + 2}"] = x
    return pyramid


def _normalize(name: str | None, epsilon: float = 1e-6) -> Any:
    return layers.LayerNormalization(epsilon=epsilon, name=name)


def _downsample(x: Any, filters: int, stage: int, epsilon: float, name: str) -> Any:
    """Convolve patches, normalised after the first stage's convolution, and before the others'."""
    if stage == 0:
        conv = layers.Conv2D(filters, 4, strides=4, name=f"{name}_stem_conv")
        parts, model = [conv, _normalize(f"{name}_stem_layernorm", epsilon)], "stem"
    else:
        i, prefix = stage - 1, f"{name}_downsampling"
        conv = layers.Conv2D(filters, 2, strides=2, name=f"{prefix}_conv_{i}")
        norm = _normalize(f"{prefix}_layernorm_{i}", epsilon)
        parts, model = [norm, conv], f"downsampling_block_{i}"
    return keras.Sequential(parts, name=f"{name}_{model}")(x)


def _block(x: Any, filters: int, drop_rate: float, layout: Layout, name: str) -> Any:
    """Add to the input its depthwise convolution, followed by two dense layers."""
    y = layers.Conv2D(
        filters, 7, padding="same", groups=filters, name=f"{name}_depthwise_conv"
    )(x)  # fmt: skip
    y = _normalize(f"{name}_layernorm", layout.epsilon)(y)
    y = layers.Dense(4 * filters, name=f"{name}_pointwise_conv_1")(y)
    y = layers.Activation(layout.activation, name=f"{name}_gelu")(y)
    y = layers.Dense(filters, name=f"{name}_pointwise_conv_2")(y)
    if layout.layer_scale > 0:
        y = LayerScale(layout.layer_scale, filters, name=f"{name}_layer_scale")(y)
    if drop_rate > 0:
        y = layers.Dropout(drop_rate, (None, 1, 1, 1), name=f"{name}_stochastic_depth")(y)
    else:
        y = layers.Activation("linear", name=f"{name}_identity")(y)
    return x + y


# -- applications of Keras ------------------------------------------------------------------------


def _preprocess(x: Any, name: str) -> Any:
    """Normalise pixels of three channels by the statistics of ImageNet."""
    if x.shape[3] != 3:
        return x
    return layers.Normalization(
        mean=[255 * mean for mean in _MEAN],
        variance=[(255 * deviation) ** 2 for deviation in _DEVIATION],
        name=f"{name}_prestem_normalization",
    )(x)


def _application(function: str, filters: Sequence[int], blocks: Sequence[int]) -> Any:
    variant, layout = function.lower().replace("convnext", "convnext_"), Layout(filters, blocks)

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

        def convolve(x: Any) -> Any:
            require_channels_last("ConvNeXt")
            x = _preprocess(x, name) if include_preprocessing else x
            return features(x, layout, name)["P5"]

        return assemble(
            convolve, name=name, include_top=include_top, weights=weights,
            input_tensor=input_tensor, input_shape=input_shape, pooling=pooling, classes=classes,
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


# -- the backbone ---------------------------------------------------------------------------------


class ConvNeXtBackbone(ImageBackbone):
    """ConvNeXt without a classifier: images (batch, height, width, channels) to features.

    Args:
        stackwise_num_filters: of the blocks of each stage.
        stackwise_num_blocks: the blocks of each stage.
        activation: between the dense layers of a block.
        layer_norm_epsilon: of the normalisations.
        head_norm_epsilon: of the normalisation of the pooled features (`pool`).
        layer_scale_init_value: the factor of the channels of a block at first; no factors where it
            is 0.
        drop_path_rate: the share of the images for which the last block is dropped in training.
        image_shape: of an image.

    >>> model = ConvNeXtBackbone((4, 8, 8, 8), (1, 1, 1, 1))
    >>> tuple(model(np.ones((1, 64, 64, 3), "float32")).shape), list(model.pyramid_outputs)
    ((1, 2, 2, 8), ['P2', 'P3', 'P4', 'P5'])
    """

    default_family = "convnext"

    def __init__(
        self,
        stackwise_num_filters: Sequence[int] = (96, 192, 384, 768),
        stackwise_num_blocks: Sequence[int] = (3, 3, 9, 3),
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-6,
        head_norm_epsilon: float = 1e-6,
        layer_scale_init_value: float = 1e-6,
        drop_path_rate: float = 0.0,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        layout = Layout(
            stackwise_num_filters, stackwise_num_blocks, activation, layer_norm_epsilon,
            layer_scale_init_value, drop_path_rate,
        )  # fmt: skip
        super().__init__(lambda x: features(x, layout, "convnext"), image_shape, **kwargs)
        self.head_norm = layers.LayerNormalization(
            epsilon=head_norm_epsilon, dtype=self.dtype_policy, name="head_norm"
        )
        self.head_norm.build((None, self.hidden_dim))

    def pool(self, features: Any) -> Any:
        """Return one vector of each image: the average over all positions, normalised.

        Args:
            features: the output.
        """
        return self.head_norm(super().pool(features))


# -- checkpoints ----------------------------------------------------------------------------------

_SIZES = {
    "tiny": (96, (3, 3, 9, 3)), "small": (96, (3, 3, 27, 3)), "base": (128, (3, 3, 27, 3)),
    "large": (192, (3, 3, 27, 3)), "xlarge": (256, (3, 3, 27, 3)), "xxlarge": (384, (3, 4, 30, 3)),
}  # fmt: skip
# Those whose dense layers are stored as convolutions of single pixels.
_SMALL_SIZES = {
    "atto": (40, (2, 2, 6, 2)), "femto": (48, (2, 2, 6, 2)), "pico": (64, (2, 2, 6, 2)),
    "nano": (80, (2, 2, 8, 2)),
}  # fmt: skip


def _variants(sizes: Mapping[str, tuple[int, Sequence[int]]]) -> dict[str, dict[str, Any]]:
    """Return the arguments of timm's architectures."""
    variants = {}
    for size, (width, blocks) in sizes.items():
        epsilon = 1e-5 if size == "xxlarge" else 1e-6
        variants[f"convnext_{size}"] = {
            "stackwise_num_filters": [width * 2**stage for stage in range(4)],
            "stackwise_num_blocks": blocks,
            "layer_norm_epsilon": epsilon, "head_norm_epsilon": epsilon,
        }  # fmt: skip
    return variants


def _rows(
    stem: Sequence[str], downsample: str, block: str, parts: Sequence[str], head_norm: str
) -> dict[str, str]:
    """Return the rows of a weight table: the names in a checkpoint.

    Args:
        stem: of the convolution and the normalisation of the stem.
        downsample: of the normalisation and the convolution before a stage, without their numbers.
        block: the prefix of a block.
        parts: of the weights of a block, in the order in which they are used.
        head_norm: of the normalisation of the pooled features.
    """
    ours = (
        "depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale/gamma"
    )  # fmt: skip
    rows = {
        f"convnext_stem/convnext_stem_{part}": name
        for part, name in zip(("conv", "layernorm"), stem, strict=True)
    }
    for part, name in zip(ours, parts, strict=True):
        rows[f"convnext_stage_{{i}}_block_{{j}}_{part}"] = f"{block}.{name}"
    for i in range(3):
        for number, part in enumerate(("layernorm", "conv")):
            path = f"convnext_downsampling_block_{i}/convnext_downsampling_{part}_{i}"
            rows[path] = f"{downsample.format(i + 1)}.{number}"
    return {**rows, "head_norm": head_norm}


def _write(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check what is no key of a config.json of transformers."""
    if arguments["layer_norm_epsilon"] != 1e-6:
        raise ValueError(
            "layer_norm_epsilon must be 1e-6 in a checkpoint of transformers, got "
            f"{arguments['layer_norm_epsilon']}: save the model with `Model.save`."
        )
    return {}


_TIMM_ROWS = _rows(
    ("stem.0", "stem.1"), "stages.{}.downsample", "stages.{i}.blocks.{j}",
    ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"), "head.norm",
)  # fmt: skip
_AS_CONV = {
    f"convnext_stage_{{i}}_block_{{j}}_pointwise_conv_{n}/kernel": DENSE_AS_CONV for n in (1, 2)
}
for _model_type, _sizes, _storage in (
    ("timm_convnext", _SIZES, {}),
    ("timm_convnext_small", _SMALL_SIZES, _AS_CONV),
):
    register(
        Family(
            _model_type, ConvNeXtBackbone, {}, WeightTable(_TIMM_ROWS, storage=_storage),
            library="timm", read=partial(timm_arguments, _variants(_sizes)),
            write=partial(timm_config, _variants(_sizes)), other_heads=(r"head\.fc\..*",),
            heads={
                "ImageClassifier": Head(
                    weights=WeightTable({"head": "head.fc"}),
                    options={"dropout": 0.0},
                )
            },
        )
    )  # fmt: skip
register(
    Family(
        "convnext", ConvNeXtBackbone,
        {
            "stackwise_num_filters": "hidden_sizes", "stackwise_num_blocks": "depths",
            "activation": "hidden_act", "head_norm_epsilon": "layer_norm_eps",
            "layer_scale_init_value": "layer_scale_init_value", "drop_path_rate": "drop_path_rate",
        },
        WeightTable(
            _rows(
                ("embeddings.patch_embeddings", "embeddings.layernorm"),
                "encoder.stages.{}.downsampling_layer", "encoder.stages.{i}.layers.{j}",
                ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"), "layernorm",
            )
        ),
        "ConvNextModel", prefix="convnext.", write=_write,
        defaults={
            "hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "hidden_act": "gelu",
            "layer_norm_eps": 1e-12, "layer_scale_init_value": 1e-6, "drop_path_rate": 0.0,
            "patch_size": 4, "num_stages": 4, "num_channels": 3,
        },
        fixed={"patch_size": (4,), "num_stages": (4,), "num_channels": (3,)},
        other_heads=(r"classifier\..*",),
        heads={
            "ImageClassifier": Head(
                "ConvNextForImageClassification",
                WeightTable({"head": "classifier"}),
                options={"dropout": 0.0},
            )
        },
    )
)  # fmt: skip
