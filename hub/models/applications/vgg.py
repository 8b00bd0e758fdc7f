"""VGG (Simonyan and Zisserman, 2014, arXiv:1409.1556): 3 x 3 convolutions, three dense layers.

Keras and timm have the same networks; timm also has them with batch normalisation. Where Keras
flattens the features, timm convolves them, so that it takes images of any size.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hub.families import Family, Head, register
from hub.models.applications.frame import activate, application, batch_norm, unnamed_pool
from hub.models.image_backbone import ImageBackbone, timm_arguments, timm_config
from hub.weights.tables import WeightTable
from keraslite import layers, ops
from keraslite.dtype_policies import dtype_policy_scope

_FILTERS = (64, 128, 256, 512, 512)
_POOLED_SIZE = 7  # the least height and width that the first of the two large layers reads


def features(
    x: Any,
    convolutions: Sequence[int],
    filters: Sequence[int] = _FILTERS,
    use_batch_norm: bool = False,
    epsilon: float = 1e-5,
) -> dict[str, Any]:
    """Return the outputs of the blocks before their pooling, P0 to P4, and the pooled last, P5.

    Args:
        x: images.
        convolutions: their number in each of the blocks.
        filters: of the convolutions of each block.
        use_batch_norm: whether a normalisation follows each convolution.
        epsilon: of the normalisations.
    """
    pyramid = {}
    for block, (width, count) in enumerate(zip(filters, convolutions, strict=True), 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            activation = None if use_batch_norm else "relu"
            x = layers.Conv2D(width, 3, padding="same", activation=activation, name=name)(x)
            if use_batch_norm:
                x = batch_norm(x, f"{name}_bn", epsilon, momentum=0.9)
                x = activate(x, f"{name}_relu")
        pyramid[f"P{block - 1}"] = x
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return {**pyramid, f"P{len(filters)}": x}


# -- applications of Keras ------------------------------------------------------------------------

_DEPTHS = {
    "11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4),
}  # fmt: skip


def _top(x: Any, classes: int, activation: Any) -> Any:
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
    return layers.Dense(classes, activation=activation, name="predictions")(x)


def _application(depth: str) -> Any:
    return application(
        f"VGG{depth}", lambda x: features(x, _DEPTHS[depth])["P5"], top=_top, pooled=unnamed_pool
    )


VGG16, VGG19 = map(_application, ("16", "19"))


# -- the backbone ---------------------------------------------------------------------------------


class VGGBackbone(ImageBackbone):
    """VGG without a classifier: images (batch, height, width, channels) to features.

    The two large layers before the classes are part of it: `pool` applies them.

    Args:
        stackwise_num_repeats: the convolutions of each block.
        stackwise_num_filters: the filters of the convolutions of each block.
        use_batch_norm: whether a normalisation follows each convolution.
        pooling_hidden_dim: the width of the two large layers.
        epsilon: of the normalisations.
        image_shape: of an image.

    >>> model = VGGBackbone((1, 1, 2), (4, 8, 8), pooling_hidden_dim=16)
    >>> features = model(np.ones((1, 64, 64, 3), "float32"))
    >>> tuple(features.shape), tuple(model.pool(features).shape), list(model.pyramid_outputs)
    ((1, 8, 8, 8), (1, 16), ['P0', 'P1', 'P2', 'P3'])
    """

    default_family = "timm_vgg"

    def __init__(
        self,
        stackwise_num_repeats: Sequence[int] = (2, 2, 3, 3, 3),
        stackwise_num_filters: Sequence[int] = _FILTERS,
        use_batch_norm: bool = False,
        pooling_hidden_dim: int = 4096,
        epsilon: float = 1e-5,
        image_shape: Sequence[int | None] = (None, None, 3),
        **kwargs: Any,
    ):
        self.keep_config(locals())
        arguments = (stackwise_num_repeats, stackwise_num_filters, use_batch_norm, epsilon)
        super().__init__(lambda x: features(x, *arguments), image_shape, **kwargs)
        self.pooled_dim = pooling_hidden_dim
        with dtype_policy_scope(self.dtype_policy):
            self.fc1, self.fc2 = (
                layers.Conv2D(pooling_hidden_dim, size, activation="relu", name=name)
                for name, size in (("fc1", _POOLED_SIZE), ("fc2", 1))
            )
        for layer, channels in ((self.fc1, self.hidden_dim), (self.fc2, pooling_hidden_dim)):
            sizes = [_POOLED_SIZE] * 2
            first = self.spatial_axes == (2, 3)
            layer.build((None, channels, *sizes) if first else (None, *sizes, channels))

    def pool(self, features: Any) -> Any:
        """Return one vector of each image: of two convolutions, the average over all positions.

        Features smaller than 7 x 7 are resized to it, each value the average of those it covers.

        Args:
            features: the output.
        """
        sizes = [features.shape[axis] for axis in self.spatial_axes]
        if min(sizes) < _POOLED_SIZE:
            sizes = [max(size, _POOLED_SIZE) for size in sizes]
            features = ops.adaptive_average_pool(features, sizes)
        return super().pool(self.fc2(self.fc1(features)))


# -- checkpoints ----------------------------------------------------------------------------------

_VARIANTS = {
    f"vgg{depth}{'_bn' if use_batch_norm else ''}": {
        "stackwise_num_repeats": convolutions, "stackwise_num_filters": _FILTERS,
        "use_batch_norm": use_batch_norm, "pooling_hidden_dim": 4096, "epsilon": 1e-5,
    }
    for depth, convolutions in _DEPTHS.items()
    for use_batch_norm in (False, True)
}  # fmt: skip


def _weights(arguments: Mapping[str, Any]) -> WeightTable:
    rows, number = {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2"}, 0
    for block, count in enumerate(arguments["stackwise_num_repeats"], 1):
        for i in range(1, count + 1):
            rows[f"block{block}_conv{i}"] = f"features.{number}"
            rows[f"block{block}_conv{i}_bn"] = f"features.{number + 1}"
            # timm counts the activations and the poolings as well.
            number += 3 if arguments["use_batch_norm"] else 2
        number += 1
    return WeightTable(rows)


register(
    Family(
        "timm_vgg", VGGBackbone, {}, _weights, library="timm",
        read=partial(timm_arguments, _VARIANTS), write=partial(timm_config, _VARIANTS),
        other_heads=(r"head\..*",),
        heads={"ImageClassifier": Head(weights=WeightTable({"head": "head.fc"}))},
    )
)  # fmt: skip
