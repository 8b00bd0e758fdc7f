"""Whisper: Robust Speech Recognition via Large-Scale Weak Supervision (Radford et al., 2022,
arXiv:2212.04356), an encoder of log-mel spectrograms and a decoder of texts.

Traps of the published checkpoints: keys have no bias; the sinusoids of the encoder are stored and
never trained; a spectrogram is (frames, mels) here and (mels, frames) there, and always of 30
seconds; large-v3 has 128 mels, and its turbo version a decoder of 4 layers below an encoder of 32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import keraslite as keras
from hub.blocks.transformer import (
    TransformerBlock,
    cached_positions,
    decode_blocks,
    empty_caches,
    sequence_positions,
)
from hub.families import Family, Head, register
from hub.models.backbone import Backbone
from hub.models.inputs import padding_mask
from hub.weights.tables import WeightTable
from keraslite import initializers, layers, ops

_LAYER_NORM_EPSILON = 1e-5


def _sinusoids(shape: Sequence[int], dtype: Any = None) -> Any:
    """Return position embeddings: the sines, then the cosines of positions by time scales."""
    length, width = shape
    scales = np.exp(-math.log(10000) / (width // 2 - 1) * np.arange(width // 2))
    angles = np.arange(length)[:, None] * scales[None]
    values = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return ops.convert_to_tensor(values.astype("float32"), dtype)


def _blocks(
    config: dict[str, Any], num_layers: int, policy: Any, has_source: bool
) -> list[TransformerBlock]:
    return [
        TransformerBlock(
            config["hidden_dim"], config["num_heads"], config["intermediate_dim"], "gelu",
            config["dropout"], config["attention_dropout"], _LAYER_NORM_EPSILON, norm_first=True,
            key_bias=False, has_source=has_source, dtype=policy,
        )
        for _ in range(num_layers)
    ]  # fmt: skip


class WhisperEncoder(layers.Layer):
    """Two convolutions, of which the second halves the frames, sinusoidal positions, and blocks.

    Args:
        config: the arguments of the backbone.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        policy, width = self.dtype_policy, config["hidden_dim"]
        self.num_mels, self.hidden_dim = config["num_mels"], width
        self.num_positions = config["max_encoder_sequence_length"] // 2
        self.conv_1 = layers.Conv1D(width, 3, padding="same", activation="gelu", dtype=policy)
        self.conv_2 = layers.Conv1D(width, 3, strides=2, activation="gelu", dtype=policy)
        self.dropout = layers.Dropout(config["dropout"], dtype=policy)
        self.blocks = _blocks(config, config["num_layers"], policy, has_source=False)
        self.final_norm = layers.LayerNormalization(epsilon=_LAYER_NORM_EPSILON, dtype=policy)

    def build(self, features_shape: Any) -> None:
        """Make the weights."""
        self.conv_1.build((None, None, self.num_mels))
        self.conv_2.build((None, None, self.hidden_dim))
        self.position_embedding = self.add_weight(
            (self.num_positions, self.hidden_dim), _sinusoids, trainable=False,
            name="position_embedding",
        )  # fmt: skip
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True

    def call(
        self, features: Any, training: bool = False, output_hidden_states: bool = False
    ) -> Any:
        """Return the hidden states (batch, frames / 2, hidden_dim), and on request all layers'.

        Args:
            features: log-mel spectrograms (batch, frames, num_mels).
            training: whether to apply dropout.
            output_hidden_states: whether to return a pair with the list of those of every layer.
        """
        hidden = self.conv_2(ops.pad(self.conv_1(features), ((0, 0), (1, 1), (0, 0))))
        positions = ops.cast(self.position_embedding.value, hidden.dtype)
        hidden = self.dropout(hidden + positions[: ops.shape(hidden)[1]], training=training)
        states = []
        for block in self.blocks:
            if output_hidden_states:
                states.append(hidden)
            hidden = block(hidden, training=training)
            if self.compute_dtype == "float16":  # which overflows in the larger checkpoints
                hidden = ops.clip(hidden, -64504.0, 64504.0)
        hidden = self.final_norm(hidden)
        return (hidden, [*states, hidden]) if output_hidden_states else hidden


class WhisperDecoder(layers.Layer):
    """Learned positions, and causal blocks that attend to the encoder's output.

    Args:
        config: the arguments of the backbone.
    """

    def __init__(self, config: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        policy, self.hidden_dim = self.dtype_policy, config["hidden_dim"]
        self.num_positions = config["max_decoder_sequence_length"]
        self.position_embedding = layers.Embedding(
            self.num_positions, self.hidden_dim, initializers.TruncatedNormal(stddev=0.02),
            dtype=policy, name="position_embedding",
        )  # fmt: skip
        self.dropout = layers.Dropout(config["dropout"], dtype=policy)
        self.blocks = _blocks(config, config["num_decoder_layers"], policy, has_source=True)
        self.final_norm = layers.LayerNormalization(epsilon=_LAYER_NORM_EPSILON, dtype=policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        self.position_embedding.build((None, None))
        for layer in (*self.blocks, self.final_norm):
            layer.build((None, None, self.hidden_dim))
        self.built = True

    def _add_positions(self, embeddings: Any, mask: Any) -> Any:
        """Return embeddings of whole sequences with their positions, counted from the first token
        of a row that is not padding.
        """
        return embeddings + self.position_embedding(sequence_positions(mask))

    def call(
        self, embeddings: Any, mask: Any, source: Any, training: bool = False,
        output_hidden_states: bool = False,
    ) -> Any:  # fmt: skip
        """Return the hidden states of whole sequences, and on request a list of all layers'.

        Args:
            embeddings: of the tokens (batch, length, hidden_dim).
            mask: (batch, length), True for tokens.
            source: the encoder's output.
            training: whether to apply dropout.
            output_hidden_states: whether to return a pair with the list.
        """
        hidden = self.dropout(self._add_positions(embeddings, mask), training=training)
        states = []
        for block in self.blocks:
            if output_hidden_states:
                states.append(hidden)
            keys = block.cross_attention.project(source)
            hidden = block(hidden, mask, training=training, causal=True, source=keys)
        hidden = self.final_norm(hidden)
        return (hidden, [*states, hidden]) if output_hidden_states else hidden

    def cross_attention_weights(
        self, embeddings: Any, mask: Any, source: Any, heads: Sequence[tuple[int, int]]
    ) -> tuple[Any, Any]:
        """Return the probabilities and the hidden states, as the backbone's method does.

        Args:
            embeddings: as for `call`.
            mask: as for `call`.
            source: as for `call`.
            heads: pairs of a layer and a head.
        """
        hidden, weights = self._add_positions(embeddings, mask), {}
        for i, block in enumerate(self.blocks):
            hidden, _ = block.self_attend(hidden, mask, causal=True)
            attention = block.cross_attention
            keys = attention.project(source)
            wanted = sorted({head for layer, head in heads if layer == i})
            if wanted:
                query, key = block.cross_attention_norm(hidden), attention.arrange(keys)["key"]
                of_layer = attention.probabilities(query, key, wanted)
                weights |= {(i, head): of_layer[:, n] for n, head in enumerate(wanted)}
            hidden = block.feed_forward(block.cross_attend(hidden, keys))
        return ops.stack([weights[tuple(pair)] for pair in heads], axis=1), self.final_norm(hidden)

    def decode(
        self, embeddings: Any, attention_mask: Any, cache: dict[str, Any], index: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return hidden states of tokens that follow those in a cache, and the new cache.

        Args:
            embeddings: of the new tokens (batch, new tokens, hidden_dim).
            attention_mask: (batch, cache length) of booleans: False where a row is padded.
            cache: as `WhisperBackbone.new_cache` or this method returned it.
            index: the position of the first new token.
        """
        num_new = embeddings.shape[1]
        positions = cached_positions(attention_mask, index, num_new, self.num_positions)
        hidden = embeddings + self.position_embedding(positions)
        hidden, caches = decode_blocks(
            self.blocks, hidden, attention_mask, cache["self"], index, cache["shared"]["keys"]
        )
        return self.final_norm(hidden), {**cache, "self": caches}

    def decode_with_past(
        self, embeddings: Any, attention_mask: Any, sources: Sequence[dict[str, Any]],
        past: Sequence[dict[str, Any]] | None = None,
    ) -> tuple[Any, list[dict[str, Any]]]:  # fmt: skip
        """Return hidden states of tokens, and the keys and values with those of the tokens.

        Unlike `decode` it allocates nothing: what it returns is longer than the past.

        Args:
            embeddings: (batch, length, hidden_dim) of prompts; after a past (batch, 1, hidden_dim).
            attention_mask: (batch, all tokens) of booleans: False for padding.
            sources: keys and values of the encoder's output, as `project` of each block's
                `cross_attention` returns them.
            past: keys and values (batch, past tokens, heads, head_dim), one dict a block; None for
                prompts.
        """
        positions, mask = sequence_positions(attention_mask), attention_mask
        if past is not None:
            positions, mask = positions[:, -1:], ops.expand_dims(attention_mask, (1, 2))
        hidden, present = embeddings + self.position_embedding(positions), []
        for i, (block, source) in enumerate(zip(self.blocks, sources, strict=True)):
            cache = {} if past is None else past[i]
            hidden, cache = block.self_attend(hidden, mask, causal=past is None, cache=cache)
            hidden = block.feed_forward(block.cross_attend(hidden, source))
            present.append(cache)
        return self.final_norm(hidden), present


class WhisperBackbone(Backbone):
    """The Whisper encoder of speech and decoder of texts.

    Args:
        vocabulary_size: the number of tokens.
        num_layers: the number of blocks of each stack.
        num_heads: attention heads of a block.
        hidden_dim: the width.
        intermediate_dim: the width inside the feed-forward networks.
        num_mels: the number of mel frequencies of a frame.
        dropout: of embeddings and block outputs.
        max_encoder_sequence_length: the number of frames of a spectrogram at most.
        max_decoder_sequence_length: the number of positions of a text.
        num_decoder_layers: the number of blocks of the decoder; `num_layers` by default.
        attention_dropout: of the attention probabilities.

    Inputs: a dict of `encoder_features`, log-mel spectrograms (batch, frames, num_mels), and
    `decoder_token_ids` and `decoder_padding_mask` (batch, length). Outputs: a dict of
    `encoder_sequence_output` (batch, frames / 2, hidden_dim) and `decoder_sequence_output` (batch,
    length, hidden_dim).

    >>> model = WhisperBackbone(100, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16)
    >>> features = np.zeros((1, 3000, 80), "float32")
    >>> inputs = {"encoder_features": features, "decoder_token_ids": np.ones((1, 4), "int32")}
    >>> {name: tuple(x.shape) for name, x in model(inputs).items()}
    {'encoder_sequence_output': (1, 1500, 8), 'decoder_sequence_output': (1, 4, 8)}
    """

    family = "whisper"
    input_names = {
        "input_features": "encoder_features", "decoder_input_ids": "decoder_token_ids",
        "decoder_attention_mask": "decoder_padding_mask",
    }  # fmt: skip

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        hidden_dim: int,
        intermediate_dim: int,
        num_mels: int = 80,
        dropout: float = 0.0,
        max_encoder_sequence_length: int = 3000,
        max_decoder_sequence_length: int = 448,
        num_decoder_layers: int | None = None,
        attention_dropout: float = 0.0,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        config["num_decoder_layers"] = num_decoder_layers or num_layers
        super().__init__(dtype=dtype, **kwargs)
        self.config, policy = config, self.dtype_policy
        self.vocabulary_size, self.hidden_dim = vocabulary_size, hidden_dim
        self.num_heads, self.num_mels = num_heads, num_mels
        self.max_encoder_sequence_length = max_encoder_sequence_length
        self.max_sequence_length = self.max_decoder_sequence_length = max_decoder_sequence_length
        self.encoder = WhisperEncoder(config, dtype=policy, name="encoder")
        self.token_embedding = layers.ReversibleEmbedding(
            vocabulary_size, hidden_dim, dtype=policy, name="token_embedding",
            embeddings_initializer=initializers.TruncatedNormal(stddev=0.02),
        )  # fmt: skip
        self.decoder = WhisperDecoder(config, dtype=policy, name="decoder")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.encoder.build((None, None, self.num_mels))
        self.token_embedding.build((None, None))
        self.decoder.build((None, None, self.hidden_dim))
        self.built = True

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return [
            {
                "encoder_features": keras.KerasTensor((rows, frames, self.num_mels)),
                **{
                    name: keras.KerasTensor((rows, length), "int32")
                    for name in ("decoder_token_ids", "decoder_padding_mask")
                },
            }
            for rows, frames, length in ((2, self.max_encoder_sequence_length, 4), (3, 8, 5))
        ]

    def encode(
        self, encoder_features: Any, training: bool = False, output_hidden_states: bool = False
    ) -> Any:
        """Return the encoder's output (batch, frames / 2, hidden_dim).

        Args:
            encoder_features: log-mel spectrograms (batch, frames, num_mels).
            training: whether to apply dropout.
            output_hidden_states: whether to return a pair with the list of every layer's.

        Raises:
            ValueError: they have another shape.
        """
        shape, longest = tuple(encoder_features.shape), self.max_encoder_sequence_length
        if len(shape) != 3 or shape[2] != self.num_mels or (shape[1] or 0) > longest:
            raise ValueError(
                f"encoder_features must be (batch, frames, {self.num_mels}) of at most {longest} "
                f"frames, got {shape}. (transformers has the frames last: transpose them.)"
            )
        return self.encoder(encoder_features, training, output_hidden_states)

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the output of the encoder and that of the decoder.

        Args:
            inputs: spectrograms, token ids and perhaps a padding mask.
            training: whether to apply dropout.
            output_hidden_states: whether to return those of every layer too, as `hidden_states`.
        """
        ids, mask = inputs["decoder_token_ids"], padding_mask(inputs, "decoder_token_ids")
        self._check_length(ids.shape[1])
        source = self.encode(inputs["encoder_features"], training, output_hidden_states)
        source, encoder_states = source if output_hidden_states else (source, None)
        hidden = self.decoder(
            self.token_embedding(ids), mask, source, training, output_hidden_states
        )
        hidden, states = hidden if output_hidden_states else (hidden, None)
        outputs = {"encoder_sequence_output": source, "decoder_sequence_output": hidden}
        if output_hidden_states:
            outputs["hidden_states"] = {"encoder": encoder_states, "decoder": states}
        return outputs

    def _check_length(self, length: int | None) -> None:
        """Raise ValueError if there are more tokens than positions."""
        if length is not None and length > self.max_sequence_length:
            raise ValueError(
                f"A text of {length} tokens is longer than the {self.max_sequence_length} "
                "positions of the decoder; truncate it."
            )

    def logits(self, hidden: Any) -> Any:
        """Return the logits (batch, length, vocabulary_size) of the next token, by the embedding.

        Args:
            hidden: hidden states of the decoder.
        """
        return self.token_embedding(hidden, reverse=True)

    def cross_attention_weights(
        self,
        token_ids: Any,
        source: Any,
        heads: Sequence[tuple[int, int]],
        padding_mask: Any = None,
    ) -> tuple[Any, Any]:
        """Return how the tokens of whole texts attend to the frames, for the alignment of words.

        Args:
            token_ids: (batch, length).
            source: the encoder's output, as `encode` returns it.
            heads: pairs of a layer and a head of the decoder.
            padding_mask: (batch, length), True for tokens; all of them by default.

        Returns:
            The probabilities (batch, pairs, length, frames / 2) in float32, and the hidden states
            of the decoder (batch, length, hidden_dim).

        Raises:
            ValueError: there are no pairs, the decoder has no such head, or a text is too long.
        """
        sizes = len(self.decoder.blocks), self.num_heads
        if not heads or not all(0 <= i < n for pair in heads for i, n in zip(pair, sizes)):
            raise ValueError(
                f"heads must be pairs of a layer and a head, of {sizes[0]} layers of {sizes[1]} "
                f"heads, got {list(heads)}."
            )
        self._check_length(token_ids.shape[1])
        if padding_mask is None:
            padding_mask = ops.ones_like(token_ids, "bool")
        return self.decoder.cross_attention_weights(
            self.token_embedding(token_ids), ops.cast(padding_mask, "bool"), source, heads
        )

    # -- generation ---------------------------------------------------------------------------

    def new_cache(self, source: Any, length: int) -> dict[str, Any]:
        """Return the keys and values of the encoder's output, and an empty cache for the decoder.

        Args:
            source: the encoder's output.
            length: the number of positions.
        """
        attentions = [block.cross_attention for block in self.decoder.blocks]
        return {
            "self": empty_caches(
                len(attentions),
                source.shape[0],
                length,
                self.num_heads,
                self.hidden_dim // self.num_heads,
                self.compute_dtype,
            ),
            "shared": {
                "keys": [attention.arrange(attention.project(source)) for attention in attentions]
            },
        }

    def call_with_cache(self, token_ids: Any, attention_mask: Any, cache: Any, index: Any) -> tuple:
        """Return hidden states of decoder tokens that follow a cache's, and the cache with them.

        Args:
            token_ids: (batch, new tokens).
            attention_mask: (batch, cache length) of booleans: False where a row's prompt is
                padded, on the left.
            cache: as `new_cache` or this method returned it; it must not be used again.
            index: the position of the first new token: 0, or a later one.
        """
        return self.decoder.decode(self.token_embedding(token_ids), attention_mask, cache, index)


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json states in another form."""
    for key in ("attention_heads", "ffn_dim"):
        encoder, decoder = config[f"encoder_{key}"], config[f"decoder_{key}"]
        if encoder != decoder:
            raise ValueError(
                f"The config has encoder_{key}={encoder!r} and decoder_{key}={decoder!r}: they "
                "must be equal for 'whisper'."
            )
    frames = config["max_source_positions"]
    if type(frames) is not int or frames < 1:
        raise ValueError(
            f"The config has max_source_positions={frames!r}: expected an integer of at least 1."
        )
    return {"max_encoder_sequence_length": 2 * frames}


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that follow from several arguments, or repeat one."""
    return {
        "decoder_attention_heads": arguments["num_heads"],
        "decoder_ffn_dim": arguments["intermediate_dim"],
        "max_source_positions": arguments["max_encoder_sequence_length"] // 2,
        "num_hidden_layers": arguments["num_layers"],
    }


def weight_rows(names: Mapping[str, str]) -> dict[str, str]:
    """Return the rows of a weight table, by the names of the parts in a checkpoint.

    Args:
        names: of `token_embedding`, `blocks`, the parts of a block, and of the leaves of each
            attention. The norm before an attention is named by that and `attention_norm`.
    """
    rows = {
        "token_embedding": f"decoder.{names['token_embedding']}",
        "decoder/position_embedding/embeddings": f"decoder.{names['decoder_positions']}",
        "encoder/position_embedding": f"encoder.{names['encoder_positions']}",
        "encoder/conv_1": "encoder.conv1",
        "encoder/conv_2": "encoder.conv2",
    }
    for stack, attentions in (
        ("encoder", ("attention",)), ("decoder", ("attention", "cross_attention")),
    ):  # fmt: skip
        ours, theirs = f"{stack}/blocks/{{i}}", f"{stack}.{names['blocks']}.{{i}}"
        rows[f"{stack}/final_norm"] = f"{stack}.{names[f'{stack}_norm']}"
        for part in attentions:
            place = f"{theirs}.{names[part]}"
            for projection in ("query", "key", "value", "output_dense"):
                rows[f"{ours}/{part}/{projection}"] = f"{place}.{names[projection]}"
            rows[f"{ours}/{part}_norm"] = place + names["attention_norm"]
        for part in ("intermediate", "output", "output_norm"):
            layer = "output_dense" if part == "output" else part
            rows[f"{ours}/{layer}"] = f"{theirs}.{names[part]}"
    return rows


_NAMES = {
    "token_embedding": "embed_tokens", "decoder_positions": "embed_positions.weight",
    "encoder_positions": "embed_positions.weight", "encoder_norm": "layer_norm",
    "decoder_norm": "layer_norm", "blocks": "layers", "attention": "self_attn",
    "cross_attention": "encoder_attn", "attention_norm": "_layer_norm", "query": "q_proj",
    "key": "k_proj", "value": "v_proj", "output_dense": "out_proj", "intermediate": "fc1",
    "output": "fc2", "output_norm": "final_layer_norm",
}  # fmt: skip


WHISPER = register(
    Family(
        model_type="whisper",
        backbone=WhisperBackbone,
        architecture="WhisperModel",
        tokenizer="WhisperTokenizer",
        config={
            "vocabulary_size": "vocab_size",
            "num_layers": "encoder_layers",
            "num_heads": "encoder_attention_heads",
            "hidden_dim": "d_model",
            "intermediate_dim": "encoder_ffn_dim",
            "num_mels": "num_mel_bins",
            "dropout": "dropout",
            "max_decoder_sequence_length": "max_target_positions",
            "num_decoder_layers": "decoder_layers",
            "attention_dropout": "attention_dropout",
        },
        defaults={
            "vocab_size": 51865, "num_mel_bins": 80, "encoder_layers": 4, "decoder_layers": 4,
            "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 1536,
            "decoder_ffn_dim": 1536, "d_model": 384, "max_source_positions": 1500,
            "max_target_positions": 448,
        },
        fixed={
            "activation_function": ("gelu", None),
            "scale_embedding": (False, None),
            "tie_word_embeddings": (True, None),
        },
        read=_read,
        write=_write,
        weights=WeightTable(weight_rows(_NAMES)),
        prefix="model.",
        heads={
            "SpeechToText": Head(
                "WhisperForConditionalGeneration",
                WeightTable({}, tied={"proj_out.weight": "model.decoder.embed_tokens.weight"}),
            ),
        },
        other_heads=(r"proj_out\.weight",),
    )
)  # fmt: skip
