"""The text and image encoders of CLIP: Learning Transferable Visual Models From Natural Language
Supervision (Radford et al., 2021, arXiv:2103.00020).

Traps of the published checkpoints: OpenAI's activation is quick_gelu, LAION's the exact gelu; a
text is pooled at its first end token, in older configs (with `eos_token_id` 2) at its largest id;
`position_ids` is an unused buffer; padding needs no mask, since attention is causal and the end
token stands before it; the patch embedding has no bias; images are also normalised before the
blocks, under a misspelt name, and after them at the class token only; configs leave out the keys
that have default values.
"""

from typing import Any

from hub.blocks.transformer import TransformerBlock
from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.weights.tables import WeightTable
from keraslite import KerasTensor, initializers, layers, ops

_LEGACY_END_TOKEN = 2  # in configs that were written before the end token was used


class _Tower(Backbone):
    """The common part of the two encoders: positions, blocks and a final normalisation.

    Args:
        config: the arguments of the subclass's constructor.
        num_positions: the number of position embeddings.
    """

    def __init__(
        self, config: dict[str, Any], num_positions: int, dtype: Any = None, **kwargs: Any
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.config, self.hidden_dim = config, config["hidden_dim"]
        self.position_embedding = self._embedding(num_positions, "position_embedding")
        self.blocks = [
            TransformerBlock(
                self.hidden_dim, config["num_heads"], config["intermediate_dim"],
                config["activation"], attention_dropout=config["attention_dropout"],
                layer_norm_epsilon=config["layer_norm_epsilon"], norm_first=True,
                dtype=self.dtype_policy,
            )
            for _ in range(config["num_layers"])
        ]  # fmt: skip
        self.final_norm = self._norm()

    def _embedding(self, size: int, name: str) -> layers.Embedding:
        return layers.Embedding(
            size, self.hidden_dim, initializers.RandomNormal(stddev=0.02), dtype=self.dtype_policy,
            name=name,
        )  # fmt: skip

    def _norm(self) -> layers.LayerNormalization:
        epsilon = self.config["layer_norm_epsilon"]
        return layers.LayerNormalization(epsilon=epsilon, dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.position_embedding.build((None, None))
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True


class CLIPTextEncoder(_Tower):
    """The text encoder of CLIP: a transformer with causal attention.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        max_sequence_length: the number of positions.
        activation: of the feed-forward networks.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities.
        end_token_id: the token at which a text is pooled; 2 for the token with the largest id.

    Inputs: a dict of `token_ids` (batch, length), and perhaps `padding_mask` (batch, length).
    Output: a dict of `sequence_output` (batch, length, hidden_dim), after the last normalisation,
    and `pooled_output` (batch, hidden_dim), that at the end token.

    >>> model = CLIPTextEncoder(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> tuple(model({"token_ids": np.ones((1, 4), "int32")})["pooled_output"].shape)
    (1, 8)
    """

    family = "clip_text_model"

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        max_sequence_length: int = 77,
        activation: str = "quick_gelu",
        layer_norm_epsilon: float = 1e-5,
        attention_dropout: float = 0.0,
        end_token_id: int = _LEGACY_END_TOKEN,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(self.keep_config(locals()), max_sequence_length, dtype, **kwargs)
        self.vocabulary_size = vocabulary_size
        self.max_sequence_length, self.end_token_id = max_sequence_length, end_token_id
        self.token_embedding = self._embedding(vocabulary_size, "token_embedding")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.token_embedding.build((None, None))
        super().build()

    def call(
        self, inputs: Any, training: bool = False, skip: int = 0, output_hidden_states: bool = False
    ) -> Any:
        """Return the hidden states and the pooled output.

        Args:
            inputs: `token_ids` and perhaps `padding_mask`.
            training: whether to apply dropout.
            skip: the number of last blocks to leave out ("clip skip").
            output_hidden_states: whether to return those of every layer too, as `hidden_states`,
                before the last normalisation.

        Raises:
            ValueError: the text is longer than the positions, or `skip` leaves no block.
        """
        token_ids, mask = inputs["token_ids"], inputs.get("padding_mask")
        length = token_ids.shape[1]
        if length is not None and length > self.max_sequence_length:
            raise ValueError(
                f"A text of {length} tokens is longer than the {self.max_sequence_length} "
                "positions of the model; truncate it."
            )
        if not 0 <= skip < len(self.blocks):
            raise ValueError(
                f"skip must be from 0 to {len(self.blocks) - 1} (one less than the blocks), got "
                f"{skip}."
            )
        positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        hidden = self.token_embedding(token_ids) + self.position_embedding(positions)
        mask = None if mask is None else ops.cast(mask, "bool")
        states = [hidden]
        for block in self.blocks[: len(self.blocks) - skip]:
            hidden = block(hidden, mask, training=training, causal=True)
            if output_hidden_states:
                states.append(hidden)
        hidden = self.final_norm(hidden)
        ids = ops.cast(token_ids, "int32")
        if self.end_token_id != _LEGACY_END_TOKEN:
            ids = ops.equal(ids, self.end_token_id)
        end = ops.cast(ops.argmax(ops.cast(ids, "int32"), axis=-1), "int32")
        pooled = ops.take_along_axis(hidden, end[:, None, None], axis=1)[:, 0]
        outputs = {"sequence_output": hidden, "pooled_output": pooled}
        return outputs | {"hidden_states": states} if output_hidden_states else outputs


class CLIPVisionEncoder(_Tower):
    """The image encoder of CLIP: a vision transformer with a class token.

    Args:
        num_layers: the number of blocks.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        image_size: height and width of the images.
        patch_size: height and width of a patch; pixels after the last full patch are not used.
        num_channels: the channels of the images.
        activation: of the feed-forward networks.
        layer_norm_epsilon: of the normalisations.
        attention_dropout: of the attention probabilities.

    Inputs: images (batch, height, width, channels), normalised as the checkpoint expects, or a
    dict with these as `images`. Output: a dict of `sequence_output` (batch, 1 + patches,
    hidden_dim), and `pooled_output` (batch, hidden_dim), that of the class token after the final
    normalisation.

    >>> model = CLIPVisionEncoder(1, 2, 8, intermediate_dim=16, image_size=9, patch_size=4)
    >>> {k: tuple(v.shape) for k, v in model(np.ones((2, 9, 9, 3), "float32")).items()}
    {'sequence_output': (2, 5, 8), 'pooled_output': (2, 8)}
    """

    family = "clip_vision_model"

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        image_size: int = 224,
        patch_size: int = 32,
        num_channels: int = 3,
        activation: str = "quick_gelu",
        layer_norm_epsilon: float = 1e-5,
        attention_dropout: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        if not 0 < patch_size <= image_size:
            raise ValueError(f"patch_size must be from 1 to {image_size}, got {patch_size}.")
        num_patches = (image_size // patch_size) ** 2
        super().__init__(config, 1 + num_patches, dtype, **kwargs)
        self.pooled_dim = hidden_dim
        self.image_shape, self.num_patches = (image_size, image_size, num_channels), num_patches
        self.patch_embedding = layers.Conv2D(
            hidden_dim, patch_size, strides=patch_size, use_bias=False, dtype=self.dtype_policy,
            name="patch_embedding",
        )  # fmt: skip
        self.first_norm = self._norm()
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.class_embedding = self.add_weight(
            (self.hidden_dim,), initializers.RandomNormal(stddev=0.02), name="class_embedding"
        )
        self.patch_embedding.build((None, *self.image_shape))
        self.first_norm.build((None, None, self.hidden_dim))
        super().build()

    def pool(self, features: Any) -> Any:
        """Return one vector of each image: the normalised class token.

        Args:
            features: the output.
        """
        return features["pooled_output"]

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return [KerasTensor((count, *self.image_shape)) for count in (1, 2)]

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the hidden states and the pooled output.

        Args:
            inputs: images, or a dict of them.
            training: whether to apply dropout.
            output_hidden_states: whether to return those of every layer too, as `hidden_states`.
        """
        images = ops.convert_to_tensor(inputs["images"] if isinstance(inputs, dict) else inputs)
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"Images must have the shape (batch, {', '.join(map(str, self.image_shape))}), "
                f"got {tuple(images.shape)}."
            )
        patches = self.patch_embedding(ops.cast(images, self.compute_dtype))
        batch_size = ops.shape(patches)[0]
        patches = ops.reshape(patches, (batch_size, self.num_patches, self.hidden_dim))
        class_token = ops.cast(self.class_embedding.value, patches.dtype)
        class_token = ops.broadcast_to(class_token, (batch_size, 1, self.hidden_dim))
        positions = ops.arange(1 + self.num_patches, dtype="int32")
        hidden = ops.concatenate([class_token, patches], axis=1) + self.position_embedding(
            positions
        )
        hidden = self.first_norm(hidden)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden, training=training)
            if output_hidden_states:
                states.append(hidden)
        outputs = {"sequence_output": hidden, "pooled_output": self.final_norm(hidden[:, 0])}
        return outputs | {"hidden_states": states} if output_hidden_states else outputs


def unit_vectors(vectors: Any) -> Any:
    """Return vectors scaled to length 1, in float32: half precision is too coarse to compare them.

    Args:
        vectors: (..., width).
    """
    return ops.normalize(ops.cast(vectors, "float32"), axis=-1, order=2, epsilon=1e-12)


def _rows(embeddings: dict[str, str], final_norm: str) -> dict[str, str]:
    """Return the names of an encoder's weights: ours -> those of transformers."""
    block = {
        "attention/query": "self_attn.q_proj", "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj", "attention/output_dense": "self_attn.out_proj",
        "attention_norm": "layer_norm1", "intermediate": "mlp.fc1", "output_dense": "mlp.fc2",
        "output_norm": "layer_norm2",
    }  # fmt: skip
    return {
        **embeddings,
        "position_embedding": "embeddings.position_embedding",
        **{f"blocks/{{i}}/{a}": f"encoder.layers.{{i}}.{b}" for a, b in block.items()},
        "final_norm": final_norm,
    }


_CONFIG = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "activation": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "attention_dropout": "attention_dropout",
}
# The values of keys that a config.json leaves out, as in transformers.
_DEFAULTS = {
    "num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    "attention_dropout": 0.0,
}  # fmt: skip
_FIXED = {"hidden_act": ("quick_gelu", "gelu", "gelu_new", None)}
# Weights of a full CLIP, from which an encoder can be loaded, or of an encoder with a projection.
_OTHER_WEIGHTS = (r"text_projection\..*", r"visual_projection\..*", "logit_scale")
_IGNORED = (r"embeddings\.position_ids",)

CLIP_TEXT = register(
    Family(
        model_type="clip_text_model",
        backbone=CLIPTextEncoder,
        tokenizer="CLIPTokenizer",
        config={
            **_CONFIG,
            "vocabulary_size": "vocab_size",
            "max_sequence_length": "max_position_embeddings",
            "end_token_id": "eos_token_id",
        },
        defaults={
            **_DEFAULTS, "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048,
            "num_attention_heads": 8, "max_position_embeddings": 77, "eos_token_id": 49407,
        },
        fixed=_FIXED,
        weights=WeightTable(
            _rows({"token_embedding": "embeddings.token_embedding"}, "final_layer_norm"), _IGNORED
        ),
        prefix="text_model.",
        own_prefix="text_model.",
        other_heads=(r"vision_model\..*", *_OTHER_WEIGHTS),
        architecture="CLIPTextModel",
    )
)  # fmt: skip

CLIP_VISION = register(
    Family(
        model_type="clip_vision_model",
        backbone=CLIPVisionEncoder,
        config={
            **_CONFIG,
            "image_size": "image_size",
            "patch_size": "patch_size",
            "num_channels": "num_channels",
        },
        defaults={
            **_DEFAULTS, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
            "image_size": 224, "patch_size": 32, "num_channels": 3,
        },
        fixed=_FIXED,
        weights=WeightTable(
            _rows(
                {
                    "patch_embedding": "embeddings.patch_embedding",
                    "class_embedding": "embeddings.class_embedding",
                    "first_norm": "pre_layrnorm",
                },
                "post_layernorm",
            ),
            _IGNORED,
        ),
        prefix="vision_model.",
        own_prefix="vision_model.",
        other_heads=(r"text_model\..*", *_OTHER_WEIGHTS),
        architecture="CLIPVisionModel",
        heads={
            "ImageEmbedder": Head(
                "CLIPVisionModelWithProjection", WeightTable({"projection": "visual_projection"})
            )
        },
    )
)  # fmt: skip
