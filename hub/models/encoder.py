"""The encoder of the BERT family: embeddings, blocks, and an optional pooled output."""

from typing import Any

from hub.blocks.transformer import TransformerBlock, bert_initializer
from hub.models.backbone import Backbone
from hub.models.inputs import padding_mask
from keraslite import layers, ops


class Encoder(Backbone):
    """An encoder-only transformer: embeddings and blocks, configured by its subclasses.

    Args:
        config: the arguments of the subclass's constructor.
        num_positions: the number of position embeddings.
        num_segments: the number of token types; 0 for none; 1 adds the same embedding to all
            tokens.
        embedding_dim: the width of the embeddings; that of the blocks by default.
        padding_id: as in RoBERTa the position of padding, which those of the tokens follow; None
            to count positions from 0.
        groups: as in ALBERT (groups, blocks of a group), which the layers share; None for
            `num_layers` blocks with weights of their own.
        pooler: whether there is a pooled output.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        num_positions: int,
        num_segments: int = 0,
        embedding_dim: int | None = None,
        padding_id: int | None = None,
        groups: tuple[int, int] | None = None,
        pooler: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        policy = self.dtype_policy
        if config.get("attention_dropout") is None:
            config["attention_dropout"] = config["dropout"]
        self.config, self.padding_id, self.num_layers = config, padding_id, config["num_layers"]
        self.hidden_dim = config["hidden_dim"]
        self.vocabulary_size = config.get("vocabulary_size") or config["vocab_size"]  # ELECTRA
        self.max_sequence_length = config["max_sequence_length"]
        self.embedding_dim = embedding_dim or self.hidden_dim
        self.num_segments = num_segments

        def embedding(size: int, name: str) -> layers.Embedding:
            return layers.Embedding(
                size, self.embedding_dim, bert_initializer(), dtype=policy, name=name
            )

        def block() -> TransformerBlock:
            return TransformerBlock(
                self.hidden_dim, config["num_heads"], config["intermediate_dim"],
                config["activation"], config["dropout"], config["attention_dropout"],
                config["layer_norm_epsilon"], dtype=policy,
            )  # fmt: skip

        self.token_embedding = layers.ReversibleEmbedding(
            self.vocabulary_size, self.embedding_dim, embeddings_initializer=bert_initializer(),
            dtype=policy, name="token_embedding",
        )  # fmt: skip
        self.position_embedding = embedding(num_positions, "position_embedding")
        self.segment_embedding = (
            embedding(num_segments, "segment_embedding") if num_segments else None
        )
        self.embeddings_norm = layers.LayerNormalization(
            epsilon=config["layer_norm_epsilon"], dtype=policy
        )
        self.embeddings_dropout = layers.Dropout(config["dropout"], dtype=policy)
        self.embeddings_projection = (
            layers.Dense(self.hidden_dim, dtype=policy, name="embeddings_projection")
            if self.embedding_dim != self.hidden_dim
            else None
        )
        if groups is None:
            self.blocks = [block() for _ in range(self.num_layers)]
        else:
            self.blocks = [[block() for _ in range(groups[1])] for _ in range(groups[0])]
        self.pooler = (
            layers.Dense(self.hidden_dim, activation="tanh", dtype=policy, name="pooled_dense")
            if pooler
            else None
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        for table in (self.token_embedding, self.position_embedding, self.segment_embedding):
            if table is not None:
                table.build((None, None))
        self.embeddings_norm.build((None, None, self.embedding_dim))
        if self.embeddings_projection is not None:
            self.embeddings_projection.build((None, None, self.embedding_dim))
        for block in self._blocks_in_order():
            if not block.built:
                block.build((None, None, self.hidden_dim))
        if self.pooler is not None:
            self.pooler.build((None, self.hidden_dim))
        self.built = True

    def _blocks_in_order(self) -> list[Any]:
        """Return the block of each layer in order; groups are spread evenly over the layers."""
        if not isinstance(self.blocks[0], list):
            return list(self.blocks)
        num_groups = len(self.blocks)
        groups = (self.blocks[i * num_groups // self.num_layers] for i in range(self.num_layers))
        return [block for group in groups for block in group]

    def _embed(self, inputs: Any, mask: Any) -> Any:
        token_ids = inputs["token_ids"]
        length = token_ids.shape[1]
        if length is not None and length > self.max_sequence_length:
            raise ValueError(
                f"A sequence of {length} tokens is longer than the {self.max_sequence_length} "
                "positions of the model; truncate it."
            )
        hidden, segments = self.token_embedding(token_ids), inputs.get("segment_ids")
        if self.num_segments == 1 or (self.num_segments and segments is None):
            segment = self.segment_embedding.effective_weight()[0]
            hidden = hidden + ops.cast(segment, ops.dtype(hidden))
        elif self.num_segments:
            hidden = hidden + self.segment_embedding(segments)
        if self.padding_id is None:
            positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        else:
            is_token = ops.cast(mask, "int32")
            positions = ops.cumsum(is_token, axis=1) * is_token + self.padding_id
        return hidden + self.position_embedding(positions)

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the hidden states, and the pooled output if there is a pooler.

        Args:
            inputs: `token_ids`, and perhaps `segment_ids` and `padding_mask`.
            training: whether to apply dropout.
            output_hidden_states: whether to return those of every layer too, as `hidden_states`.
        """
        mask = padding_mask(inputs)
        hidden = self.embeddings_norm(self._embed(inputs, mask))
        hidden = self.embeddings_dropout(hidden, training=training)
        if self.embeddings_projection is not None:
            hidden = self.embeddings_projection(hidden)
        states = [hidden]
        for block in self._blocks_in_order():
            hidden = block(hidden, mask, training=training)
            if output_hidden_states:
                states.append(hidden)
        outputs = {"sequence_output": hidden}
        if self.pooler is not None:
            outputs["pooled_output"] = self.pooler(hidden[:, 0])
        return outputs | {"hidden_states": states} if output_hidden_states else outputs
