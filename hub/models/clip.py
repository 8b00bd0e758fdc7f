"""The text tower of CLIP: Learning Transferable Visual Models From Natural Language Supervision
(Radford et al., 2021, arXiv:2103.00020).

Traps of the published checkpoints: OpenAI's activation is the quick form of gelu, LAION's the exact
one; a text is pooled at its first end token, in older configs (which say 2) at its largest id;
positions stand in the file as integers of no use; the padding is seen, since attention is causal
and the end stands before it.
"""

from typing import Any

from hub.blocks import TransformerBlock
from hub.models.backbone import Backbone, Family, register
from hub.models.encoder import given
from hub.presets.naming import WeightTable
from keraslite import initializers, layers, ops

_OLDER_END = 2  # in configs that were written before the end token was used


class CLIPTextEncoder(Backbone):
    """Causal attention over the tokens of a text.

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
        end_token_id: where a text is pooled; 2 for the largest id.

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
        end_token_id: int = _OLDER_END,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = given(locals())
        super().__init__(dtype=dtype, **kwargs)
        policy, self.config = self.dtype_policy, config
        self.vocabulary_size, self.hidden_dim = vocabulary_size, hidden_dim
        self.max_sequence_length, self.end_token_id = max_sequence_length, end_token_id

        def embedding(size: int, name: str) -> layers.Embedding:
            start = initializers.RandomNormal(stddev=0.02)
            return layers.Embedding(size, hidden_dim, start, dtype=policy, name=name)

        self.token_embedding = embedding(vocabulary_size, "token_embedding")
        self.position_embedding = embedding(max_sequence_length, "position_embedding")
        self.blocks = [
            TransformerBlock(
                hidden_dim, num_heads, intermediate_dim, activation,
                attention_dropout=attention_dropout, layer_norm_epsilon=layer_norm_epsilon,
                norm_first=True, dtype=policy,
            )
            for _ in range(num_layers)
        ]  # fmt: skip
        self.final_norm = layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables; their shapes follow from the config alone."""
        self.token_embedding.build((None, None))
        self.position_embedding.build((None, None))
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True

    def call(self, inputs: Any, training: bool = False, skip: int = 0) -> Any:
        """Hidden states and the pooled one.

        Args:
            inputs: `token_ids` and perhaps `padding_mask`.
            training: whether dropout works.
            skip: how many of the last blocks are left out ("clip skip").
        """
        token_ids, mask = inputs["token_ids"], inputs.get("padding_mask")
        length = token_ids.shape[1]
        if length is not None and length > self.max_sequence_length:
            raise ValueError(
                f"A text of {length} tokens is longer than the {self.max_sequence_length} "
                "positions of the model; truncate it."
            )
        if not 0 <= skip < len(self.blocks):
            raise ValueError(f"skip={skip} must be less than the {len(self.blocks)} blocks.")
        positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        hidden = self.token_embedding(token_ids) + self.position_embedding(positions)
        mask = None if mask is None else ops.cast(mask, "bool")
        for block in self.blocks[: len(self.blocks) - skip]:
            hidden = block(hidden, mask, training=training, causal=True)
        hidden = self.final_norm(hidden)
        ids = ops.cast(token_ids, "int32")
        marks = ids if self.end_token_id == _OLDER_END else ops.equal(ids, self.end_token_id)
        at = ops.argmax(ops.cast(marks, "int32"), axis=-1)
        pooled = ops.take_along_axis(hidden, ops.cast(at, "int32")[:, None, None], axis=1)[:, 0]
        return {"sequence_output": hidden, "pooled_output": pooled}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the model."""
        return {**super().get_config(), **self.config}


def _rows() -> dict[str, str]:
    block = {
        "attention/query": "self_attn.q_proj", "attention/key": "self_attn.k_proj",
        "attention/value": "self_attn.v_proj", "attention/output_dense": "self_attn.out_proj",
        "attention_norm": "layer_norm1", "intermediate": "mlp.fc1", "output_dense": "mlp.fc2",
        "output_norm": "layer_norm2",
    }  # fmt: skip
    return {
        "token_embedding": "embeddings.token_embedding",
        "position_embedding": "embeddings.position_embedding",
        **{f"blocks/{{i}}/{a}": f"encoder.layers.{{i}}.{b}" for a, b in block.items()},
        "final_norm": "final_layer_norm",
    }


CLIP_TEXT = register(
    Family(
        model_type="clip_text_model",
        backbone=CLIPTextEncoder,
        tokenizer="CLIPTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "num_hidden_layers",
            "num_heads": "num_attention_heads",
            "hidden_dim": "hidden_size",
            "intermediate_dim": "intermediate_size",
            "max_sequence_length": "max_position_embeddings",
            "activation": "hidden_act",
            "layer_norm_epsilon": "layer_norm_eps",
            "attention_dropout": "attention_dropout",
            "end_token_id": "eos_token_id",
        },
        fixed={"hidden_act": ("quick_gelu", "gelu", "gelu_new", None)},
        weights=WeightTable(_rows(), ignore=(r"embeddings\.position_ids",)),
        prefix="text_model.",
        own_prefix="text_model.",
        architectures={"Backbone": "CLIPTextModel"},
    )
)
