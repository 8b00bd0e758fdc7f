"""The decoder of GPT-2 and OPT: embeddings, causal blocks, and a cache of keys and values."""

from collections.abc import Sequence
from typing import Any

from hub.blocks.transformer import (
    TransformerBlock,
    cached_positions,
    decode_blocks,
    empty_caches,
    sequence_positions,
)
from hub.models.backbone import Backbone
from hub.models.inputs import padding_mask
from keraslite import initializers, layers, ops


class Decoder(Backbone):
    """A decoder-only transformer: embeddings and causal blocks, configured by its subclasses.

    Args:
        config: the arguments of the subclass's constructor.
        position_offset: the number of position embeddings before that of the first position.
        embedding_dim: the width of the token embedding; that of the blocks by default.
        norm_first: whether the blocks normalise their inputs and there is a final normalisation.
        fused: whether the blocks have one projection for query, key and value.
        scales: of the products of attention in each block; `1 / sqrt(head_dim)` by default.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        position_offset: int = 0,
        embedding_dim: int | None = None,
        norm_first: bool = True,
        fused: bool = False,
        scales: Sequence[float] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        policy = self.dtype_policy
        self.config, self.position_offset = config, position_offset
        self.vocabulary_size, self.hidden_dim = config["vocabulary_size"], config["hidden_dim"]
        self.num_layers, self.num_heads = config["num_layers"], config["num_heads"]
        self.max_sequence_length = config["max_sequence_length"]
        self.embedding_dim = embedding_dim or self.hidden_dim

        self.token_embedding = layers.ReversibleEmbedding(
            self.vocabulary_size, self.embedding_dim, dtype=policy, name="token_embedding",
            embeddings_initializer=initializers.RandomNormal(stddev=0.02),
        )  # fmt: skip
        self.position_embedding = layers.Embedding(
            self.max_sequence_length + position_offset, self.hidden_dim,
            initializers.RandomNormal(stddev=0.02), dtype=policy, name="position_embedding",
        )  # fmt: skip
        self.embeddings_dropout = layers.Dropout(
            config.get("embedding_dropout", config["dropout"]), dtype=policy
        )
        self.project_in = self.project_out = None
        if self.embedding_dim != self.hidden_dim:
            self.project_in, self.project_out = (
                layers.Dense(size, use_bias=False, dtype=policy, name=name)
                for size, name in (
                    (self.hidden_dim, "project_in"), (self.embedding_dim, "project_out"),
                )
            )  # fmt: skip
        self.blocks = [
            TransformerBlock(
                self.hidden_dim, self.num_heads, config["intermediate_dim"], config["activation"],
                config["dropout"], config["attention_dropout"], config["layer_norm_epsilon"],
                norm_first, fused, scale, dtype=policy,
            )
            for scale in scales or [None] * self.num_layers
        ]  # fmt: skip
        self.final_norm = (
            layers.LayerNormalization(epsilon=config["layer_norm_epsilon"], dtype=policy)
            if norm_first
            else None
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.token_embedding.build((None, None))
        self.position_embedding.build((None, None))
        for block in self.blocks:
            block.build((None, None, self.hidden_dim))
        for layer, width in (
            (self.project_in, self.embedding_dim),
            (self.project_out, self.hidden_dim),
            (self.final_norm, self.hidden_dim),
        ):
            if layer is not None:
                layer.build((None, None, width))
        self.built = True

    def _embed(self, token_ids: Any, positions: Any, training: bool = False) -> Any:
        hidden = self.token_embedding(token_ids)
        if self.project_in is not None:
            hidden = self.project_in(hidden)
        hidden = hidden + self.position_embedding(positions + self.position_offset)
        return self.embeddings_dropout(hidden, training=training)

    def _finish(self, hidden: Any) -> Any:
        hidden = hidden if self.final_norm is None else self.final_norm(hidden)
        return hidden if self.project_out is None else self.project_out(hidden)

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return hidden states (batch, length, embedding_dim), with causal attention.

        Args:
            inputs: `token_ids` and perhaps `padding_mask`.
            training: whether to apply dropout.
            output_hidden_states: whether to return a dict of these, as `sequence_output`, and of
                those of every layer, as `hidden_states`.
        """
        mask = padding_mask(inputs)
        length = inputs["token_ids"].shape[1]
        if length is not None and length > self.max_sequence_length:
            raise ValueError(
                f"A sequence of {length} tokens is longer than the {self.max_sequence_length} "
                "positions of the model; truncate it."
            )
        hidden = self._embed(inputs["token_ids"], sequence_positions(mask), training)
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden, mask, training=training, causal=True)
            if output_hidden_states:
                states.append(hidden)
        output = self._finish(hidden)
        if not output_hidden_states:
            return output
        return {"sequence_output": output, "hidden_states": [*states[:-1], output]}

    def logits(self, hidden: Any) -> Any:
        """Return the logits (batch, length, vocabulary_size) of the next token, by the embedding.

        Args:
            hidden: hidden states, as `call` returns them.
        """
        return self.token_embedding(hidden, reverse=True)

    def get_quantization_layer_structure(self, mode: str | None = None) -> dict[str, Any]:
        """Return which layers are fitted to texts by `quantize("gptq")` and "awq": the blocks."""

        def embed(token_ids: Any) -> Any:
            return self._embed(token_ids, ops.arange(token_ids.shape[1])[None])

        return {
            "pre_block_layers": [embed], "sequential_blocks": self.blocks,
            "block_arguments": {"causal": True},
        }  # fmt: skip

    # -- generation ---------------------------------------------------------------------------

    def new_cache(self, batch: int, length: int) -> list[dict[str, Any]]:
        """Return an empty cache for the keys and values of `length` positions.

        Args:
            batch: the number of rows.
            length: the number of positions.
        """
        width = self.hidden_dim // self.num_heads
        return empty_caches(
            self.num_layers, batch, length, self.num_heads, width, self.compute_dtype
        )

    def call_with_cache(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return hidden states of tokens that follow those in the cache, and the cache with them.

        Args:
            token_ids: (batch, new tokens).
            attention_mask: (batch, cache length) of booleans: False where a row's prompt is
                padded, on the left.
            cache: as `new_cache` or this method returned it; it must not be used again.
            index: the position of the first new token: 0, or a later one.
        """
        positions = cached_positions(
            attention_mask, index, token_ids.shape[1], self.max_sequence_length
        )
        hidden = self._embed(token_ids, positions)
        hidden, caches = decode_blocks(self.blocks, hidden, attention_mask, cache, index)
        return self._finish(hidden), caches

    def call_with_past(
        self, token_ids: Any, attention_mask: Any, past: Sequence[dict[str, Any]] | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Return hidden states of tokens, and the keys and values with those of the tokens.

        Unlike `call_with_cache` it allocates nothing: what it returns is longer than the past.

        Args:
            token_ids: (batch, length) of prompts; after a past (batch, 1).
            attention_mask: (batch, all tokens) of booleans: False for padding.
            past: keys and values (batch, past tokens, heads, head_dim), one dict a block; None for
                prompts.
        """
        positions, mask = sequence_positions(attention_mask), attention_mask
        if past is not None:
            positions, mask = positions[:, -1:], ops.expand_dims(attention_mask, (1, 2))
        hidden, present = self._embed(token_ids, positions), []
        for i, block in enumerate(self.blocks):
            cache = {} if past is None else past[i]
            hidden, cache = block(hidden, mask, causal=past is None, cache=cache)
            present.append(cache)
        return self._finish(hidden), present
