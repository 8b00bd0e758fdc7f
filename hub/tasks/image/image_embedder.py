"""ImageEmbedder: one vector an image."""

from typing import Any

import numpy as np

from hub.families import Family, Head, family_of, register_heads
from hub.preprocessing.image_inputs import list_images
from hub.presets.build import read_config
from hub.tasks.image.image_task import ImageTask
from keraslite import layers, ops


class ImageEmbedder(ImageTask):
    """A backbone whose features are pooled into one vector an image.

    The vectors are what the classifier of the checkpoint reads: the average over all positions, or
    the class token of a vision transformer. Those of CLIP's images are projected, to be compared
    with the vectors of texts too.

    Args:
        backbone: an image backbone.
        preprocessor: a `hub.ImagePreprocessor`; None if inputs are ready arrays.
        normalize: whether the vectors have length 1.
        projection_dim: the size of vectors that a dense layer without a bias makes of those of the
            backbone, as in CLIP; None without that layer.

    >>> from hub import ResNetBackbone
    >>> backbone = ResNetBackbone((4, 8, 8, 8), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    >>> vectors = ImageEmbedder(backbone).predict(np.ones((2, 32, 32, 3), "float32"), verbose=0)
    >>> vectors.shape
    (2, 8)
    """

    task = "ImageEmbedder"
    pipeline = "image-feature-extraction"
    transformers_class = "AutoModel"

    def __init__(
        self,
        backbone: Any,
        preprocessor: Any = None,
        normalize: bool = True,
        projection_dim: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.normalize, self.projection_dim, self.projection = normalize, projection_dim, None
        if projection_dim is not None:
            self.projection = layers.Dense(
                projection_dim, use_bias=False, dtype=self.dtype_policy, name="projection"
            )
            self.projection.build((None, backbone.pooled_dim))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return vectors of a batch of ready images, (images, pooled_dim) or projected."""
        pooled = self.backbone.pool(self.backbone(inputs, training=training))
        pooled = pooled if self.projection is None else self.projection(pooled)
        pooled = ops.cast(pooled, "float32")
        return ops.normalize(pooled, axis=-1, order=2, epsilon=1e-12) if self.normalize else pooled

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict[str, Any]) -> dict[str, Any]:
        """Return the width of the projection of a checkpoint that has one.

        Args:
            files: of the checkpoint.
            config: its config.json, or that of its image encoder.
        """
        family = family_of(config["model_type"])
        if family.head(cls.task).weights is None:
            return {}
        whole = read_config(files)  # the only one that states the right width
        if (whole.get("architectures") or [None])[0] == family.architecture:
            return {}
        return {"projection_dim": whole.get("projection_dim", 512)}

    def config_json(self) -> dict[str, Any]:
        """Return the keys of config.json for a model without a classifier or a projection."""
        family = family_of(self.backbone.family)
        if family.library == "timm":
            return {"num_classes": 0}
        if self.projection is None:
            return {"architectures": [family.architecture]}
        return {"projection_dim": self.projection_dim}

    def export_answers(self) -> dict[str, Any]:
        """Return whether the vectors have length 1."""
        return {"normalized": self.normalize}

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the vector of each image."""
        vectors = np.asarray(self.predict(list_images(inputs), verbose=0), "float64")
        return [{"vector": [round(v, 7) for v in row]} for row in vectors.tolist()]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        options = {"normalize": self.normalize, "projection_dim": self.projection_dim}
        return {**super().get_config(), **options}


def _head(family: Family) -> Head | None:
    """Return an empty head for the families that classify images."""
    return Head() if "ImageClassifier" in family.heads else None


register_heads(ImageEmbedder.task, _head)
