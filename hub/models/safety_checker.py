"""The safety checker of Stable Diffusion: flags images that are close to unsafe concepts (Rombach
et al., 2022, arXiv:2112.10752; analysed by Rando et al., 2022, arXiv:2210.04610).

Traps of the published checkpoint: its config.json calls it a CLIP, but the file has the image
encoder only; newer versions of transformers write the encoder under a shorter prefix; scores are
rounded to three digits before they are compared.
"""

from typing import Any

from hub.families import Family, register
from hub.models.backbone import Backbone
from hub.models.clip_towers import CLIP_VISION, CLIPVisionEncoder, unit_vectors
from hub.weights.tables import WeightTable
from keraslite import layers, ops

_NUM_CONCEPTS, _NUM_SPECIAL_CARE = 17, 3
_ADJUSTMENT = 0.01  # added to the scores of images with special care
_DIGITS = 3


class StableDiffusionSafetyChecker(Backbone):
    """An image encoder of CLIP, and embeddings of concepts with a threshold of similarity for each.

    Args:
        vision_encoder: a `CLIPVisionEncoder`, or a dict of the arguments that make one.
        projection_dim: the width of the embeddings.

    Inputs: images (images, height, width, channels), normalised as the checkpoint expects, or a
    dict with these as `images`. Output: a dict of `flags` (images,), True for images that are too
    similar to any concept; `concept_scores` (images, 17), the similarity minus the threshold,
    rounded to three digits; and `special_care` (images,), True for images that are too similar to
    a special-care concept, which raises their scores by 0.01.

    >>> tower = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    >>> model = StableDiffusionSafetyChecker({**tower, "image_size": 8, "patch_size": 4}, 6)
    >>> {k: tuple(v.shape) for k, v in model(np.ones((2, 8, 8, 3), "float32")).items()}
    {'flags': (2,), 'concept_scores': (2, 17), 'special_care': (2,)}
    """

    family = "StableDiffusionSafetyChecker"

    def __init__(
        self,
        vision_encoder: CLIPVisionEncoder | dict[str, Any],
        projection_dim: int = 768,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        policy = self.dtype_policy
        if isinstance(vision_encoder, dict):
            vision_encoder = CLIPVisionEncoder(**vision_encoder, dtype=policy)
        self.vision_encoder, self.projection_dim = vision_encoder, projection_dim
        self.visual_projection = layers.Dense(
            projection_dim, use_bias=False, dtype=policy, name="visual_projection"
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.visual_projection.build((None, self.vision_encoder.hidden_dim))

        def constant(name: str, *shape: int) -> Any:
            # Always in float32: with rounded thresholds other images would be flagged.
            return self.add_weight(
                shape, "ones", dtype="float32", trainable=False, autocast=False, name=name
            )

        self.concept_embeds = constant("concept_embeds", _NUM_CONCEPTS, self.projection_dim)
        self.concept_embeds_weights = constant("concept_embeds_weights", _NUM_CONCEPTS)
        self.special_care_embeds = constant(
            "special_care_embeds", _NUM_SPECIAL_CARE, self.projection_dim
        )
        self.special_care_embeds_weights = constant(
            "special_care_embeds_weights", _NUM_SPECIAL_CARE
        )
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the flags and scores of images."""
        pooled = self.vision_encoder(inputs, training=training)["pooled_output"]
        images = unit_vectors(self.visual_projection(pooled))

        def score(concepts: Any, thresholds: Any) -> Any:
            similarity = ops.matmul(images, ops.transpose(unit_vectors(concepts.value)))
            return similarity - thresholds.value

        def is_flagged(scores: Any) -> Any:
            return ops.any(ops.round(scores, _DIGITS) > 0, axis=-1)

        special_care = is_flagged(score(self.special_care_embeds, self.special_care_embeds_weights))
        adjustment = ops.cast(special_care, "float32")[:, None] * _ADJUSTMENT
        scores = score(self.concept_embeds, self.concept_embeds_weights) + adjustment
        return {
            "flags": is_flagged(scores), "concept_scores": ops.round(scores, _DIGITS),
            "special_care": special_care,
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "vision_encoder": dict(self.vision_encoder.config),
            "projection_dim": self.projection_dim,
        }


_PREFIX = "vision_model.vision_model."  # as published; all versions of transformers read it
_NAMES = ("visual_projection", "concept_embeds", "concept_embeds_weights", "special_care_embeds",
          "special_care_embeds_weights")  # fmt: skip

SAFETY_CHECKER = register(
    Family(
        model_type="StableDiffusionSafetyChecker",
        config_type="clip",
        backbone=StableDiffusionSafetyChecker,
        architecture="StableDiffusionSafetyChecker",
        config={"projection_dim": "projection_dim"},
        defaults={"projection_dim": 512},  # as in transformers
        parts={"vision_encoder": ("clip_vision_model", "vision_config")},
        weights=CLIP_VISION.weights.prefixed("vision_encoder/", _PREFIX).joined(
            WeightTable(
                {name: name for name in _NAMES},
                renamed={r"^vision_model\.(?!vision_model\.)": _PREFIX},  # of newer versions
            )
        ),
    )
)
