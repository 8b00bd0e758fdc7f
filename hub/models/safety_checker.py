"""The safety checker of Stable Diffusion: which images come near to concepts that are not wanted
(Rombach et al., 2022, arXiv:2112.10752; looked into by Rando et al., 2022, arXiv:2210.04610).

Traps of the published checkpoint: its config.json calls it a CLIP, but only the tower for images is
in the file; newer versions of transformers write the tower under a shorter name; a score counts
after it is rounded to three digits.
"""

from typing import Any

from hub.families import Family, register
from hub.models.backbone import Backbone
from hub.models.clip_towers import CLIP_VISION, CLIPVisionEncoder, unit
from hub.weights.tables import WeightTable
from keraslite import layers, ops

_CONCEPTS, _SPECIAL = 17, 3
_CARE = 0.01  # what an image's scores gain where special care is due
_DIGITS = 3


class StableDiffusionSafetyChecker(Backbone):
    """A CLIP tower for images, and the vectors of concepts with how near an image may come to each.

    Args:
        vision_encoder: a `CLIPVisionEncoder`, or a dict of the arguments that make one.
        projection_dim: the width of the vectors.

    Inputs: images (images, height, width, channels), normalised as the checkpoint wants them, or a
    dict with these as `images`. Output: a dict of `flags` (images,), true where an image is too
    near to any concept; `concept_scores` (images, 17), how much too near, to three digits; and
    `special_care` (images,), true where the image came too near to another concept for which the
    scores were raised by 0.01.

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
        """Make the variables; their shapes follow from the config alone."""
        self.visual_projection.build((None, self.vision_encoder.hidden_dim))

        def kept(name: str, *shape: int) -> Any:
            # In float32 always: a limit that is rounded flags other images.
            return self.add_weight(
                shape, "ones", dtype="float32", trainable=False, autocast=False, name=name
            )

        self.concept_embeds = kept("concept_embeds", _CONCEPTS, self.projection_dim)
        self.concept_embeds_weights = kept("concept_embeds_weights", _CONCEPTS)
        self.special_care_embeds = kept("special_care_embeds", _SPECIAL, self.projection_dim)
        self.special_care_embeds_weights = kept("special_care_embeds_weights", _SPECIAL)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Flags and scores of images."""
        pooled = self.vision_encoder(inputs, training=training)["pooled_output"]
        vectors = unit(self.visual_projection(pooled))

        def over(concepts: Any, limits: Any) -> Any:
            return ops.matmul(vectors, ops.transpose(unit(concepts.value))) - limits.value

        def counts(scores: Any) -> Any:
            return ops.any(ops.round(scores, _DIGITS) > 0, axis=-1)

        special = counts(over(self.special_care_embeds, self.special_care_embeds_weights))
        raised = ops.cast(special, "float32")[:, None] * _CARE
        scores = over(self.concept_embeds, self.concept_embeds_weights) + raised
        return {
            "flags": counts(scores), "concept_scores": ops.round(scores, _DIGITS),
            "special_care": special,
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the model."""
        return {
            **super().get_config(),
            "vision_encoder": dict(self.vision_encoder.config),
            "projection_dim": self.projection_dim,
        }


_TOWER = "vision_model.vision_model."  # as published; every version of transformers reads it
_NAMES = ("visual_projection", "concept_embeds", "concept_embeds_weights", "special_care_embeds",
          "special_care_embeds_weights")  # fmt: skip

SAFETY_CHECKER = register(
    Family(
        model_type="StableDiffusionSafetyChecker",
        config_type="clip",
        backbone=StableDiffusionSafetyChecker,
        architecture="StableDiffusionSafetyChecker",
        config={"projection_dim": "projection_dim"},
        defaults={"projection_dim": 512},  # of a config.json that does not say; transformers' own
        parts={"vision_encoder": ("clip_vision_model", "vision_config")},
        weights=CLIP_VISION.weights.prefixed("vision_encoder/", _TOWER).joined(
            WeightTable({name: name for name in _NAMES})
        ),
        renamed={r"^vision_model\.(?!vision_model\.)": _TOWER},  # newer ones, here
    )
)
