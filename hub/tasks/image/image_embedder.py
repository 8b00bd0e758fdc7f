"""ImageEmbedder: one vector an image."""

from typing import Any

import numpy as np

from hub.families import Family, Head, family_of, register_heads
from hub.preprocessing.image_inputs import list_images
from hub.tasks.image.image_task import ImageTask
from keraslite import ops


class ImageEmbedder(ImageTask):
    """A backbone whose features are pooled into one vector an image.

    The vectors are what the classifier of the checkpoint reads: the average over all positions, or
    the class token of a vision transformer.

    Args:
        backbone: an image backbone.
        preprocessor: a `hub.ImagePreprocessor`; None if inputs are ready arrays.
        normalize: whether the vectors have length 1.

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
        self, backbone: Any, preprocessor: Any = None, normalize: bool = True, **kwargs: Any
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        self.normalize = normalize
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return vectors (images, pooled_dim) of a batch of ready images."""
        features = self.backbone(inputs, training=training)
        pooled = ops.cast(self.backbone.pool(features), "float32")
        return ops.normalize(pooled, axis=-1, order=2, epsilon=1e-12) if self.normalize else pooled

    def config_json(self) -> dict[str, Any]:
        """Return the keys of config.json by which timm makes a model without a classifier."""
        is_of_timm = family_of(self.backbone.family).library == "timm"
        return {"num_classes": 0} if is_of_timm else {}

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the vector of each image."""
        vectors = np.asarray(self.predict(list_images(inputs), verbose=0), "float64")
        return [{"vector": [round(v, 7) for v in row]} for row in vectors.tolist()]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {**super().get_config(), "normalize": self.normalize}


def _head(family: Family) -> Head | None:
    """Return an empty head for the families that classify images."""
    return Head() if "ImageClassifier" in family.heads else None


register_heads(ImageEmbedder.task, _head)
