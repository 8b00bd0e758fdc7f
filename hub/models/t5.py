"""T5: Exploring the Limits of Transfer Learning (Raffel et al., 2019, arXiv:1910.10683), with
v1.1 and Flan-T5 (Chung et al., 2022, arXiv:2210.11416).

Traps of the published checkpoints: attention is not scaled, and its inner width may differ from
the model's; the relative position bias that all blocks of a stack share is stored in the first;
the first version ties the head to the embedding and then scales the decoder's output; the later
ones have a separate head, gated activations, and "gelu" means the form with tanh; newer configs
state that all of them are tied, and tell them apart by `scale_decoder_outputs`.
"""

import math
from typing import Any

import numpy as np

from hub.blocks.transformer import (
    Attention,
    activation_of,
    decode_blocks,
    empty_caches,
    is_empty_cache,
)
from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.models.inputs import ONE_SEQUENCE, TWO_SEQUENCES, padding_mask
from hub.weights.tables import WeightTable
from keraslite import initializers, layers, ops


def _relative_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> np.ndarray:
    """Return the bucket of each distance (key minus query), -max_distance to max_distance."""
    distance = np.arange(-max_distance, max_distance + 1)
    if bidirectional:
        num_buckets //= 2
        offset, distance = (distance > 0) * num_buckets, np.abs(distance)
    else:
        offset, distance = 0, np.maximum(-distance, 0)
    max_exact = num_buckets // 2
    # In float32, as the checkpoints were trained: a bucket's edge may depend on it.
    log_ratio = np.log(np.maximum(distance, 1).astype("float32") / np.float32(max_exact))
    log_bucket = log_ratio / math.log(max_distance / max_exact) * (num_buckets - max_exact)
    log_bucket = max_exact + log_bucket.astype("float32").astype(int)
    bucket = np.where(distance < max_exact, distance, np.minimum(log_bucket, num_buckets - 1))
    return (offset + bucket).astype("int32")


class FeedForward(layers.Layer):
    """A feed-forward network of two dense layers, or a gated linear unit (Shazeer, 2020,
    arXiv:2002.05202).

    Args:
        hidden_dim: the width of input and output.
        intermediate_dim: the width between the layers.
        activation: of the first layer, or of the gate.
        gated: whether the output of the gate is multiplied by that of a linear layer.
        dropout: before the last layer.
    """

    def __init__(
        self, hidden_dim: int, intermediate_dim: int, activation: str, gated: bool,
        dropout: float, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)

        def dense(size: int, activation: Any = None) -> layers.Dense:
            return layers.Dense(size, activation, use_bias=False, dtype=self.dtype_policy)

        self.hidden_dim, self.intermediate_dim = hidden_dim, intermediate_dim
        activation = activation_of(activation)
        self.intermediate = None if gated else dense(intermediate_dim, activation)
        self.gate = dense(intermediate_dim, activation) if gated else None
        self.gated = dense(intermediate_dim) if gated else None
        self.output_dense = dense(hidden_dim)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        for layer in (self.intermediate, self.gate, self.gated):
            if layer is not None:
                layer.build((None, None, self.hidden_dim))
        self.output_dense.build((None, None, self.intermediate_dim))
        self.built = True

    def call(self, hidden: Any, training: bool = False) -> Any:
        """Return the output (batch, length, hidden_dim)."""
        if self.gate is None:
            intermediate = self.intermediate(hidden)
        else:
            intermediate = self.gate(hidden) * self.gated(hidden)
        return self.output_dense(self.dropout(intermediate, training=training))


class T5Block(layers.Layer):
    """Self-attention, cross-attention in a decoder, and a feed-forward network.

    Args:
        config: the arguments of the backbone.
        is_decoder: whether there is cross-attention to the output of an encoder.
    """

    def __init__(self, config: dict[str, Any], is_decoder: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_dim, policy = config["hidden_dim"], self.dtype_policy

        def attention(name: str) -> Attention:
            return Attention(
                self.hidden_dim, config["num_heads"], config["dropout"], config["key_value_dim"],
                use_bias=False, scale=1.0, dtype=policy, name=name,
            )  # fmt: skip

        def norm() -> layers.RMSNormalization:
            return layers.RMSNormalization(epsilon=config["layer_norm_epsilon"], dtype=policy)

        self.attention, self.attention_norm = attention("attention"), norm()
        self.cross_attention = attention("cross_attention") if is_decoder else None
        self.cross_attention_norm = norm() if is_decoder else None
        self.feed_forward = FeedForward(
            self.hidden_dim, config["intermediate_dim"], config["activation"],
            config["use_gated_activation"], config["dropout"], dtype=policy,
        )  # fmt: skip
        self.feed_forward_norm = norm()
        self.dropout = layers.Dropout(config["dropout"], dtype=policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        for layer in (
            self.attention, self.attention_norm, self.cross_attention, self.cross_attention_norm,
            self.feed_forward, self.feed_forward_norm,
        ):  # fmt: skip
            if layer is not None:
                layer.build((None, None, self.hidden_dim))
        self.built = True

    def _clip_float16(self, hidden: Any) -> Any:
        """Clip float16 values, which overflow in the larger checkpoints."""
        return ops.clip(hidden, -64504.0, 64504.0) if self.compute_dtype == "float16" else hidden

    def call(
        self,
        hidden: Any,
        padding_mask: Any = None,
        bias: Any = None,
        source: Any = None,
        source_mask: Any = None,
        training: bool = False,
        causal: bool = False,
        cache: Any = None,
        index: Any = None,
    ) -> Any:
        """Return the hidden states; with a cache a pair of them and the new cache.

        Args:
            hidden: (batch, length, hidden_dim).
            padding_mask: as for `Attention`.
            bias: of relative positions (1, heads, queries, keys).
            source: the keys and values of the encoder's output.
            source_mask: (batch, source length) of booleans.
            training: whether to apply dropout.
            causal: whether a token attends to itself and those before it only.
            cache: the keys and values of the tokens before, as for `Attention`.
            index: the position of the first token.
        """
        attended = self.attention(
            self.attention_norm(hidden), padding_mask, training=training, causal=causal, bias=bias,
            cache=cache, index=index,
        )  # fmt: skip
        if cache is not None:
            attended, cache = attended
        hidden = self._clip_float16(hidden + self.dropout(attended, training=training))
        if self.cross_attention is not None:
            attended = self.cross_attention(
                self.cross_attention_norm(hidden), source_mask, training=training, keys=source
            )
            hidden = self._clip_float16(hidden + self.dropout(attended, training=training))
        output = self.feed_forward(self.feed_forward_norm(hidden), training=training)
        hidden = self._clip_float16(hidden + self.dropout(output, training=training))
        return hidden if cache is None else (hidden, cache)


class T5Stack(layers.Layer):
    """The blocks of an encoder or a decoder, with the relative position bias that they share.

    Args:
        config: the arguments of the backbone.
        num_layers: the number of blocks.
        is_decoder: whether attention is causal and there is cross-attention to an encoder.
    """

    def __init__(self, config: dict[str, Any], num_layers: int, is_decoder: bool, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.hidden_dim, self.is_decoder = config["hidden_dim"], is_decoder
        self.max_distance = config["max_relative_distance"]
        self.buckets = _relative_buckets(
            config["num_relative_buckets"], self.max_distance, bidirectional=not is_decoder
        )
        self.relative_bias = layers.Embedding(
            config["num_relative_buckets"], config["num_heads"], dtype=policy
        )
        self.blocks = [T5Block(config, is_decoder, dtype=policy) for _ in range(num_layers)]
        self.final_norm = layers.RMSNormalization(
            epsilon=config["layer_norm_epsilon"], dtype=policy
        )
        self.dropout = layers.Dropout(config["dropout"], dtype=policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        self.relative_bias.build((None, None))
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True

    def _bias(self, queries: int, keys: int, index: Any = 0) -> Any:
        """Return the relative position bias (1, heads, queries, keys)."""
        query = index + ops.arange(queries, dtype="int32")
        distance = ops.arange(keys, dtype="int32")[None] - query[:, None]
        distance = ops.clip(distance, -self.max_distance, self.max_distance)
        buckets = ops.convert_to_tensor(self.buckets)
        buckets = ops.take(buckets, distance + self.max_distance, axis=0)
        return ops.transpose(self.relative_bias(buckets), (2, 0, 1))[None]

    def call(
        self, hidden: Any, padding_mask: Any, source: Any = None, source_mask: Any = None,
        training: bool = False, output_hidden_states: bool = False,
    ) -> Any:  # fmt: skip
        """Return the hidden states of complete sequences, and on request a list of all layers'.

        Args:
            hidden: embeddings (batch, length, hidden_dim).
            padding_mask: (batch, length), True for tokens.
            source: the encoder's output, of a decoder.
            source_mask: (batch, source length), True for tokens.
            training: whether to apply dropout.
            output_hidden_states: whether to return a pair with the list.
        """
        length = ops.shape(hidden)[1]
        bias = self._bias(length, length)
        hidden = self.dropout(hidden, training=training)
        states = []
        for block in self.blocks:
            if output_hidden_states:
                states.append(hidden)
            keys = block.cross_attention.project(source) if self.is_decoder else None
            hidden = block(
                hidden, padding_mask, bias, keys, source_mask, training=training,
                causal=self.is_decoder,
            )  # fmt: skip
        output = self.dropout(self.final_norm(hidden), training=training)
        return (output, [*states, output]) if output_hidden_states else output

    def decode(self, hidden: Any, attention_mask: Any, cache: dict[str, Any], index: Any) -> tuple:
        """Return hidden states of tokens that follow those in a cache, and the new cache.

        Args:
            hidden: (batch, new tokens, hidden_dim).
            attention_mask: (batch, cache length) of booleans: False where a row is padded.
            cache: as `T5Backbone.new_cache` or this method returned it.
            index: the position of the first new token.
        """
        num_new, length = hidden.shape[1], attention_mask.shape[1]
        is_first = is_empty_cache(index)
        bias = self._bias(num_new, num_new if is_first else length, index)
        shared = cache["shared"]
        hidden, caches = decode_blocks(
            self.blocks, hidden, attention_mask, cache["self"], index, shared["keys"],
            bias=bias, source_mask=shared["mask"],
        )  # fmt: skip
        return self.final_norm(hidden), {**cache, "self": caches}


class T5Backbone(Backbone):
    """The T5 encoder and decoder.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of blocks of each stack.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        key_value_dim: the width of a head; `hidden_dim / num_heads` by default.
        dropout: of embeddings, attention probabilities, feed-forward networks and outputs.
        activation: of the feed-forward networks; "gelu_new" is the form with tanh.
        use_gated_activation: whether the feed-forward networks are gated.
        layer_norm_epsilon: of the normalisations.
        num_decoder_layers: the number of blocks of the decoder; `num_layers` by default.
        num_relative_buckets: the number of buckets of relative positions.
        max_relative_distance: the distance from which on all positions share a bucket.
        encoder_only: whether to leave out the decoder.

    Inputs: a dict of `encoder_token_ids`, `encoder_padding_mask`, `decoder_token_ids` and
    `decoder_padding_mask`, each (batch, length). Outputs: a dict of `encoder_sequence_output` and
    `decoder_sequence_output` (batch, length, hidden_dim). With `encoder_only` the inputs are
    `token_ids` and `padding_mask`, and the output is `sequence_output`.

    >>> model = T5Backbone(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> ids = np.ones((1, 4), "int32")
    >>> names = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids",
    ...          "decoder_padding_mask")
    >>> tuple(model(dict.fromkeys(names, ids))["decoder_sequence_output"].shape)
    (1, 4, 8)
    """

    family = "t5"
    max_sequence_length = 512  # a default for truncation only; positions are relative

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        key_value_dim: int | None = None,
        dropout: float = 0.1,
        activation: str = "relu",
        use_gated_activation: bool = False,
        layer_norm_epsilon: float = 1e-6,
        num_decoder_layers: int | None = None,
        num_relative_buckets: int = 32,
        max_relative_distance: int = 128,
        encoder_only: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        config["key_value_dim"] = key_value_dim or hidden_dim // num_heads
        config["num_decoder_layers"] = num_decoder_layers or num_layers
        super().__init__(dtype=dtype, **kwargs)
        self.config, policy = config, self.dtype_policy
        self.vocabulary_size, self.hidden_dim = vocabulary_size, hidden_dim
        self.input_names = ONE_SEQUENCE if encoder_only else TWO_SEQUENCES
        self.token_embedding = layers.ReversibleEmbedding(
            vocabulary_size, hidden_dim, dtype=policy, name="token_embedding",
            embeddings_initializer=initializers.RandomNormal(stddev=1.0),
        )  # fmt: skip
        self.encoder = T5Stack(config, num_layers, False, dtype=policy, name="encoder")
        self.decoder = (
            None
            if encoder_only
            else T5Stack(config, config["num_decoder_layers"], True, dtype=policy, name="decoder")
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.token_embedding.build((None, None))
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                stack.build((None, None, self.hidden_dim))
        self.built = True

    def encode(self, token_ids: Any, padding_mask: Any, training: bool = False) -> Any:
        """Return the encoder's output (batch, length, hidden_dim).

        Args:
            token_ids: (batch, length).
            padding_mask: (batch, length), True for tokens.
            training: whether to apply dropout.
        """
        mask = ops.cast(padding_mask, "bool")
        return self.encoder(self.token_embedding(token_ids), mask, training=training)

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the output of the encoder, and that of the decoder if there is one.

        Args:
            inputs: token ids and padding masks.
            training: whether to apply dropout.
            output_hidden_states: whether to return those of every layer too, as `hidden_states`.
        """
        if output_hidden_states:
            return self._all_states(inputs, training)
        if self.decoder is None:
            hidden = self.encode(inputs["token_ids"], padding_mask(inputs), training)
            return {"sequence_output": hidden}
        source_mask = padding_mask(inputs, "encoder_token_ids")
        source = self.encode(inputs["encoder_token_ids"], source_mask, training)
        hidden = self.decoder(
            self.token_embedding(inputs["decoder_token_ids"]),
            padding_mask(inputs, "decoder_token_ids"), source, source_mask,
            training=training,
        )  # fmt: skip
        return {"encoder_sequence_output": source, "decoder_sequence_output": hidden}

    def _all_states(self, inputs: Any, training: bool) -> dict[str, Any]:
        """Return what `call` does, with the hidden states of every layer."""
        name = "token_ids" if self.decoder is None else "encoder_token_ids"
        source_mask = padding_mask(inputs, name)
        source, states = self.encoder(
            self.token_embedding(inputs[name]), source_mask, training=training,
            output_hidden_states=True,
        )  # fmt: skip
        if self.decoder is None:
            return {"sequence_output": source, "hidden_states": states}
        hidden, decoder_states = self.decoder(
            self.token_embedding(inputs["decoder_token_ids"]),
            padding_mask(inputs, "decoder_token_ids"), source, source_mask, training=training,
            output_hidden_states=True,
        )  # fmt: skip
        return {
            "encoder_sequence_output": source, "decoder_sequence_output": hidden,
            "hidden_states": {"encoder": states, "decoder": decoder_states},
        }  # fmt: skip

    # -- generation ---------------------------------------------------------------------------

    def new_cache(self, source: Any, source_mask: Any, length: int) -> dict[str, Any]:
        """Return the keys and values of the encoder's output, and an empty cache for the decoder.

        Args:
            source: the encoder's output.
            source_mask: (batch, source length), True for tokens.
            length: the number of positions.
        """
        config = self.config
        return {
            "self": empty_caches(
                len(self.decoder.blocks),
                source.shape[0],
                length,
                config["num_heads"],
                config["key_value_dim"],
                self.compute_dtype,
            ),
            "shared": {
                "keys": [block.cross_attention.project(source) for block in self.decoder.blocks],
                "mask": source_mask,
            },
        }

    def call_with_cache(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return hidden states of decoder tokens that follow a cache's, and the cache with them.

        Args:
            token_ids: (batch, new tokens).
            attention_mask: (batch, cache length) of booleans: False where a row is padded.
            cache: as `new_cache` or this method returned it; it must not be used again.
            index: the position of the first new token: 0, or a later one.
        """
        return self.decoder.decode(self.token_embedding(token_ids), attention_mask, cache, index)


_ACTIVATIONS = {"relu": "relu", "gelu": "gelu_new", "silu": "silu", "gelu_new": "gelu_new"}


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json states in another form."""
    feed_forward = config.get("feed_forward_proj", "relu")
    gated, name = feed_forward.startswith("gated-"), feed_forward.removeprefix("gated-")
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"The config has feed_forward_proj={feed_forward!r}, which is not supported for 't5'; "
            f"supported: {sorted(_ACTIVATIONS)}, each with or without 'gated-' before it."
        )
    architectures = config.get("architectures") or [""]
    return {
        "activation": _ACTIVATIONS[name] if gated else name,
        "use_gated_activation": gated,
        "encoder_only": architectures[0] == "T5EncoderModel",
    }


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that `_read` reads."""
    name = "gelu" if arguments["activation"] == "gelu_new" else arguments["activation"]
    return {"feed_forward_proj": ("gated-" if arguments["use_gated_activation"] else "") + name}


def _rows() -> dict[str, str]:
    rows = {"token_embedding": "shared"}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        theirs = f"{stack}.block.{{i}}.layer"
        ours = f"{stack}/blocks/{{i}}"
        first = f"{stack}.block.0.layer.0.SelfAttention"
        rows[f"{stack}/relative_bias"] = f"{first}.relative_attention_bias"
        rows[f"{stack}/final_norm"] = f"{stack}.final_layer_norm"
        parts = [("attention", "0.SelfAttention")]
        parts += [("cross_attention", "1.EncDecAttention")] if stack == "decoder" else []
        for part, name in parts:
            for projection, letter in (
                ("query", "q"), ("key", "k"), ("value", "v"), ("output_dense", "o"),
            ):  # fmt: skip
                rows[f"{ours}/{part}/{projection}"] = f"{theirs}.{name}.{letter}"
            rows[f"{ours}/{part}_norm"] = f"{theirs}.{name[0]}.layer_norm"
        for layer, name in (
            ("intermediate", "wi"), ("gate", "wi_0"), ("gated", "wi_1"), ("output_dense", "wo"),
        ):  # fmt: skip
            rows[f"{ours}/feed_forward/{layer}"] = f"{theirs}.{last}.DenseReluDense.{name}"
        rows[f"{ours}/feed_forward_norm"] = f"{theirs}.{last}.layer_norm"
    return rows


T5 = register(
    Family(
        model_type="t5",
        backbone=T5Backbone,
        architecture="T5Model",
        tokenizer="UnigramTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "num_layers",
            "num_heads": "num_heads",
            "hidden_dim": "d_model",
            "intermediate_dim": "d_ff",
            "key_value_dim": "d_kv",
            "dropout": "dropout_rate",
            "layer_norm_epsilon": "layer_norm_epsilon",
            "num_decoder_layers": "num_decoder_layers",
            "num_relative_buckets": "relative_attention_num_buckets",
            "max_relative_distance": "relative_attention_max_distance",
        },
        read=_read,
        write=_write,
        weights=WeightTable(
            _rows(),
            ignore=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
            tied={
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
            },
        ),
        heads={
            "Seq2SeqLM": Head(
                "T5ForConditionalGeneration",
                WeightTable({"head": "lm_head"}, tied={"lm_head.weight": "shared.weight"}),
            ),
            "TextEmbedder": Head("T5EncoderModel", backbone={"encoder_only": True}),
        },
        other_heads=(r"lm_head\.weight", r"classification_head\..*"),
    )
)  # fmt: skip
