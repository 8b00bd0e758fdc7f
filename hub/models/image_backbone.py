"""ImageBackbone: a network from images to features, as a graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keraslite as keras
from hub.models.backbone import Backbone
from keraslite import ops
from keraslite.dtype_policies import dtype_policy_scope


class ImageBackbone(Backbone):
    """A network from images to features, without a classifier.

    Args:
        features: a function of the symbolic images that returns the features of the stages by
            their level ("P2" at a quarter of the size of the images, "P3" at an eighth ...), the
            last stage last.
        image_shape: the shape of an image, None where sizes vary.
        dtype: a dtype or policy.

    Raises:
        ValueError: the shape has no channels where `image_data_format` has them.

    Attributes:
        default_family: the model type of checkpoints that a new model is saved as.
        pyramid_outputs: the symbolic features of each level:
            `keras.Model(backbone.inputs, backbone.pyramid_outputs)`.
        pyramid: a function from images to the features of each level, for detectors and
            segmenters, with the layers of the backbone.
        hidden_dim: the channels of the features.
        pooled_dim: the size of the vectors that `pool` returns.
        spatial_axes: those of the height and the width of features.
    """

    default_family: str
    input_names: Mapping[str, str] = {}

    def __init__(
        self,
        features: Callable[[Any], dict[str, Any]],
        image_shape: Sequence[int | None],
        dtype: Any = None,
        **kwargs: Any,
    ):
        data_format = keras.config.image_data_format()
        first = data_format == "channels_first"
        if len(image_shape) != 3 or image_shape[0 if first else -1] is None:
            raise ValueError(
                f"image_shape must be {'(3, height, width)' if first else '(height, width, 3)'}, "
                f"as image_data_format is {data_format!r}, got {tuple(image_shape)}. Presets are "
                "channels last: keraslite.config.set_image_data_format('channels_last')."
            )
        with dtype_policy_scope(dtype):
            images = keras.Input(tuple(image_shape), name="images")
            levels = features(images)
        outputs = list(levels.values())[-1]
        super().__init__(images, outputs, dtype=dtype, **kwargs)
        self.pyramid_outputs = levels
        self.pyramid = keras.Function(images, levels)
        self.hidden_dim = self.pooled_dim = outputs.shape[1 if first else -1]
        self.spatial_axes = (2, 3) if first else (1, 2)

    def pool(self, features: Any) -> Any:
        """Return the vector of each image that a classifier reads: the average over positions.

        Families with layers between pooling and classes have them here.

        Args:
            features: the output.
        """
        return ops.mean(features, axis=self.spatial_axes)

    def stage_weights(self) -> list[list[Any]]:
        """Return the weights of each stage, from the images on."""
        stages: list[list[Any]] = []
        earlier: set[str] = set()
        for features in self.pyramid_outputs.values():
            weights = keras.Model(self.inputs, features).weights
            stages.append([w for w in weights if w.path not in earlier])
            earlier |= {w.path for w in weights}
        return stages

    @property
    def family(self) -> str:
        """The model type of its checkpoint, or that of new ones."""
        return getattr(self, "source_config", {}).get("model_type", self.default_family)


def timm_arguments(
    variants: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a backbone from a config.json of timm.

    Args:
        variants: name of an architecture of timm -> arguments.
        config: the content of the config.json.

    Raises:
        ValueError: the architecture is not supported, or the config changes it.
    """
    name = config["architecture"]
    if name not in variants:
        raise ValueError(
            f"The architecture {name!r} of timm is not supported; supported: {sorted(variants)}."
        )
    changes = {k: v for k, v in (config.get("model_args") or {}).items() if v is not None}
    if changes:
        raise ValueError(f"The model_args {changes} of a config of timm are not supported.")
    return dict(variants[name])


def timm_config(
    variants: Mapping[str, Mapping[str, Any]], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keys of a config.json of timm for the arguments of a backbone.

    Args:
        variants: name of an architecture of timm -> arguments.
        arguments: of the backbone.

    Raises:
        ValueError: timm has no architecture with these arguments.
    """
    for name, values in variants.items():
        if has_arguments(arguments, values):
            return {"architecture": name}
    raise ValueError(
        f"timm has no architecture with the arguments {dict(arguments)}: save the model with "
        "`Model.save` or `Model.save_weights` instead."
    )


def has_arguments(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether arguments have certain values.

    Args:
        arguments: of a backbone; sequences may be lists or tuples.
        values: of some of the arguments.

    >>> has_arguments({"filters": [8, 16], "epsilon": 1e-5}, {"filters": (8, 16)})
    True
    """
    return all(_plain(arguments[key]) == _plain(value) for key, value in values.items())


def _plain(value: Any) -> Any:
    """Return sequences as tuples, so that those of a JSON file compare."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
