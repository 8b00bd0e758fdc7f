"""CLIP: Learning Transferable Visual Models From Natural Language Supervision
(Radford et al., 2021, arXiv:2103.00020).

Traps of the published checkpoints: the scale of the logits is stored as its logarithm; the config
holds those of the towers, LAION's twice, without the keys that have default values; only the outer
config states the right width of the projections.
"""

from typing import Any

from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.models.clip_towers import (
    CLIP_TEXT,
    CLIP_VISION,
    CLIPTextEncoder,
    CLIPVisionEncoder,
    unit_vectors,
)
from hub.weights.tables import WeightTable
from keraslite import initializers, layers, ops


class CLIPBackbone(Backbone):
    """An image encoder and a text encoder, projected to embeddings that are compared.

    Args:
        vision_encoder: a `CLIPVisionEncoder`, or a dict of the arguments that make one.
        text_encoder: a `CLIPTextEncoder`, or a dict of the arguments that make one.
        projection_dim: the width of the embeddings.
        logit_scale_init_value: the logarithm of the scale of the logits before training.

    Inputs: a dict of `images` (images, height, width, channels), `token_ids` (texts, length), and
    perhaps `padding_mask` (texts, length). Outputs: a dict of `vision_logits` (images, texts),
    `text_logits` (texts, images), and `image_embeddings` and `text_embeddings` of length 1.

    >>> tower = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    >>> model = CLIPBackbone(
    ...     {**tower, "image_size": 8, "patch_size": 4}, {**tower, "vocabulary_size": 9}, 6
    ... )
    >>> inputs = {"images": np.ones((2, 8, 8, 3), "float32"), "token_ids": np.ones((3, 5), "int32")}
    >>> tuple(model(inputs)["vision_logits"].shape)
    (2, 3)
    """

    family = "clip"

    def __init__(
        self,
        vision_encoder: CLIPVisionEncoder | dict[str, Any],
        text_encoder: CLIPTextEncoder | dict[str, Any],
        projection_dim: int = 512,
        logit_scale_init_value: float = 2.6592,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        policy = self.dtype_policy
        if isinstance(vision_encoder, dict):
            vision_encoder = CLIPVisionEncoder(**vision_encoder, dtype=policy)
        if isinstance(text_encoder, dict):
            text_encoder = CLIPTextEncoder(**text_encoder, dtype=policy)
        self.vision_encoder, self.text_encoder = vision_encoder, text_encoder
        self.projection_dim, self.max_sequence_length = (
            projection_dim, text_encoder.max_sequence_length,
        )  # fmt: skip
        self.logit_scale_init_value = logit_scale_init_value
        self.vocabulary_size = text_encoder.vocabulary_size

        def projection(name: str) -> layers.Dense:
            return layers.Dense(projection_dim, use_bias=False, dtype=policy, name=name)

        self.visual_projection = projection("visual_projection")
        self.text_projection = projection("text_projection")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables; their shapes follow from the config alone."""
        self.visual_projection.build((None, self.vision_encoder.hidden_dim))
        self.text_projection.build((None, self.text_encoder.hidden_dim))
        initializer = initializers.Constant(self.logit_scale_init_value)
        # Always in float32: it is an exponent, and in bfloat16 the scale would be 1 % off.
        self.logit_scale = self.add_weight(
            (), initializer, dtype="float32", autocast=False, name="logit_scale"
        )
        self.built = True

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        texts, images = self.text_encoder.symbolic_inputs(), self.vision_encoder.symbolic_inputs()
        return [{"images": x, **text} for x, text in zip(images, texts, strict=True)]

    def get_vision_embeddings(self, images: Any, training: bool = False) -> Any:
        """Return embeddings (images, projection_dim) of images, not normalised.

        Args:
            images: (images, height, width, channels).
            training: whether to apply dropout.
        """
        pooled = self.vision_encoder(images, training=training)["pooled_output"]
        return self.visual_projection(pooled)

    def get_text_embeddings(
        self, token_ids: Any, padding_mask: Any = None, training: bool = False
    ) -> Any:
        """Return embeddings (texts, projection_dim) of texts, not normalised.

        Args:
            token_ids: (texts, length).
            padding_mask: (texts, length), True for tokens; optional, since attention is causal
                and a text is pooled at its end token.
            training: whether to apply dropout.
        """
        inputs = {"token_ids": token_ids}
        if padding_mask is not None:
            inputs["padding_mask"] = padding_mask
        return self.text_projection(self.text_encoder(inputs, training=training)["pooled_output"])

    def compare(self, image_embeddings: Any, text_embeddings: Any) -> Any:
        """Return the logits (images, texts) of pairs of embeddings.

        Args:
            image_embeddings: (images, projection_dim), of length 1.
            text_embeddings: (texts, projection_dim), of length 1.
        """
        scale = ops.exp(ops.cast(self.logit_scale.value, image_embeddings.dtype))
        return scale * ops.matmul(image_embeddings, ops.transpose(text_embeddings))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the logits and embeddings of images and texts."""
        images = unit_vectors(self.get_vision_embeddings(inputs["images"], training))
        texts = unit_vectors(
            self.get_text_embeddings(inputs["token_ids"], inputs.get("padding_mask"), training)
        )
        logits = self.compare(images, texts)
        return {
            "vision_logits": logits, "text_logits": ops.transpose(logits),
            "image_embeddings": images, "text_embeddings": texts,
        }  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "vision_encoder": dict(self.vision_encoder.config),
            "text_encoder": dict(self.text_encoder.config),
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
        }


CLIP = register(
    Family(
        model_type="clip",
        backbone=CLIPBackbone,
        architecture="CLIPModel",
        tokenizer="CLIPTokenizer",
        config={
            "projection_dim": "projection_dim",
            "logit_scale_init_value": "logit_scale_init_value",
        },
        parts={
            "text_encoder": ("clip_text_model", "text_config"),
            "vision_encoder": ("clip_vision_model", "vision_config"),
        },
        weights=CLIP_TEXT.weights.prefixed("text_encoder/", CLIP_TEXT.own_prefix).joined(
            CLIP_VISION.weights.prefixed("vision_encoder/", CLIP_VISION.own_prefix),
            WeightTable(
                {
                    "visual_projection": "visual_projection",
                    "text_projection": "text_projection",
                    "logit_scale": "logit_scale",
                }
            ),
        ),
        heads={"ZeroShotImageClassifier": Head("CLIPModel")},
    )
)
