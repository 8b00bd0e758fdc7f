"""Attention, transformer blocks and activations that several architectures share."""

from collections.abc import Sequence
from typing import Any

import keraslite as keras
from keraslite import layers, ops


@keras.saving.register_keras_serializable("hub")
def gelu_new(x: Any) -> Any:
    """Apply the tanh form of the Gaussian error linear unit, as in GPT-2 and some BERTs."""
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("hub")
def quick_gelu(x: Any) -> Any:
    """Apply `x * sigmoid(1.702 * x)`, the approximation of GELU in OpenAI's CLIP."""
    return x * ops.sigmoid(1.702 * x)


# Activations that Keras does not have, or has under another name.
_ACTIVATIONS = {"gelu_new": gelu_new, "gelu_pytorch_tanh": gelu_new, "quick_gelu": quick_gelu}


def activation_of(name: str) -> Any:
    """Return the activation of a name in a config.json, in a form that layers take.

    Args:
        name: the value of a key such as `hidden_act`.
    """
    return _ACTIVATIONS.get(name, name)


class Attention(layers.Layer):
    """Multi-head attention of a sequence to itself or to another one (Vaswani et al., 2017,
    arXiv:1706.03762).

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        dropout: of the attention probabilities.
        head_dim: the width of a head; `hidden_dim / num_heads` by default.
        use_bias: whether the projections have biases.
        scale: of the products; `1 / sqrt(head_dim)` by default.
        fused: whether query, key and value come out of one dense layer, `qkv`.
        source_dim: the width of the sequence that is attended to; `hidden_dim` by default.
        output_bias: whether the output projection has a bias; `use_bias` by default.
        upcast: whether attention is computed in float32 in half precision too.
        key_bias: whether the projection of the keys has a bias; `use_bias` by default.

    Inputs: hidden states (batch, length, hidden_dim), padding mask (batch, keys) of booleans.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        head_dim: int | None = None,
        use_bias: bool = True,
        scale: float | None = None,
        fused: bool = False,
        source_dim: int | None = None,
        output_bias: bool | None = None,
        upcast: bool = False,
        key_bias: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if head_dim is None and hidden_dim % num_heads:
            raise ValueError(
                f"hidden_dim must be a multiple of num_heads={num_heads}, got {hidden_dim}."
            )
        self.hidden_dim, self.num_heads, self.scale = hidden_dim, num_heads, scale
        self.head_dim = head_dim or hidden_dim // num_heads
        self.fused, self.source_dim, self.upcast = fused, source_dim or hidden_dim, upcast
        inner = num_heads * self.head_dim

        def dense(size: int, name: str, bias: bool = use_bias) -> layers.Dense:
            return layers.Dense(size, use_bias=bias, dtype=self.dtype_policy, name=name)

        if fused:
            self.qkv = dense(3 * inner, "qkv")
        else:
            self.query, self.value = dense(inner, "query"), dense(inner, "value")
            self.key = dense(inner, "key", use_bias if key_bias is None else key_bias)
        bias = use_bias if output_bias is None else output_bias
        self.output_dense = dense(hidden_dim, "output", bias)
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the projections."""
        for dense in [self.qkv] if self.fused else [self.query]:
            dense.build((None, None, self.hidden_dim))
        for dense in [] if self.fused else [self.key, self.value]:
            dense.build((None, None, self.source_dim))
        self.output_dense.build((None, None, self.num_heads * self.head_dim))
        self.built = True

    def _heads(self, projected: Any) -> Any:
        return ops.reshape(projected, (*ops.shape(projected)[:2], self.num_heads, self.head_dim))

    def project(self, source: Any) -> dict[str, Any]:
        """Return the keys and values (batch, length, heads, head_dim) of a sequence.

        Args:
            source: hidden states (batch, length, hidden_dim).
        """
        return {"key": self._heads(self.key(source)), "value": self._heads(self.value(source))}

    def arrange(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Return keys and values as `attend` reads them: scaled, and in that order in memory.

        Args:
            keys: as `project` returns them.

        Returns:
            Keys (batch, heads, head_dim, length) and values (batch, heads, length, head_dim).
        """
        orders = {"key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        keys = {**keys, "key": keys["key"] * scale}
        arranged = {name: ops.transpose(keys[name], order) for name, order in orders.items()}
        # Flattened in between: a transposition alone may leave the memory as it is.
        return {name: ops.reshape(ops.reshape(x, -1), ops.shape(x)) for name, x in arranged.items()}

    def probabilities(self, hidden: Any, key: Any, heads: Any = None) -> Any:
        """Return the attention probabilities (batch, heads, queries, keys) in float32.

        Args:
            hidden: the queries' hidden states (batch, queries, hidden_dim).
            key: keys, as `arrange` returns them.
            heads: indices of heads; all by default.
        """
        query = ops.transpose(self._heads(self.query(hidden)), (0, 2, 1, 3))
        if heads is not None:
            heads = ops.convert_to_tensor(heads, "int32")
            query, key = ops.take(query, heads, axis=1), ops.take(key, heads, axis=1)
        return ops.softmax(ops.cast(ops.matmul(query, key), "float32"), axis=-1)

    def attend(self, hidden: Any, keys: dict[str, Any]) -> Any:
        """Return what `call` does over another sequence, faster for a few queries.

        Args:
            hidden: the queries' hidden states (batch, queries, hidden_dim).
            keys: keys and values of the sequence, as `arrange` returns them: of as many rows, or of
                one row for several of `hidden` that follow each other.
        """
        shape = ops.shape(hidden)
        if hidden.shape[0] != keys["key"].shape[0]:  # several texts of a prompt
            hidden = ops.reshape(hidden, (keys["key"].shape[0], -1, self.hidden_dim))
        weights = ops.cast(self.probabilities(hidden, keys["key"]), keys["value"].dtype)
        out = ops.transpose(ops.matmul(weights, keys["value"]), (0, 2, 1, 3))
        width = self.num_heads * self.head_dim
        out = self.output_dense(ops.reshape(out, (*ops.shape(out)[:2], width)))
        return ops.reshape(out, shape)

    def call(
        self,
        hidden: Any,
        padding_mask: Any = None,
        training: bool = False,
        causal: bool = False,
        bias: Any = None,
        keys: Any = None,
        cache: Any = None,
        index: Any = None,
    ) -> Any:
        """Return the attention output (batch, queries, hidden_dim).

        Args:
            hidden: the queries' hidden states.
            padding_mask: True for keys to attend to: (batch, keys), or (batch, 1, queries, keys).
            training: whether to apply dropout.
            causal: whether a query attends only to keys up to its own position.
            bias: added to the logits (1 or batch, heads, queries, keys).
            keys: the keys and values of another sequence, as `project` returns them: of as many
                rows, or of one row for several of `hidden` that follow each other.
            cache: a dict of keys and values, written from `index` on; the result is then a pair
                with the new cache. At index 0 only the new keys are attended to. Without an index
                the new ones are appended, to an empty dict too.
            index: the position of the first query.
        """
        if self.fused:
            query, *key_value = (self._heads(x) for x in ops.split(self.qkv(hidden), 3, axis=-1))
            keys = dict(zip(("key", "value"), key_value, strict=True))
        else:
            query = self._heads(self.query(hidden))
            keys = self.project(hidden) if keys is None else keys
        if cache is not None and index is None:
            cache = keys = {
                n: ops.concatenate([cache[n], x], axis=1) if cache else x for n, x in keys.items()
            }
        elif cache is not None:
            start = (0, index, 0, 0)
            cache = {n: ops.overwrite(cache[n], start, keys[n]) for n in ("key", "value")}
            if not is_empty_cache(index):
                keys = cache
        mask = padding_mask
        if mask is not None and len(mask.shape) == 2:
            mask = ops.expand_dims(mask, (1, 2))  # LiteRT has no new axes of booleans by slices
        rate = self.dropout.rate if training else 0.0
        seed = self.dropout.seed_generator if rate else None
        key, value = keys["key"], keys["value"]
        shape = ops.shape(query)[:2]
        if query.shape[0] != key.shape[0]:  # several texts of a prompt
            query = ops.reshape(query, (key.shape[0], -1, self.num_heads, self.head_dim))
        if self.upcast:
            query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
        out = ops.dot_product_attention(
            query, key, value, bias, mask, self.scale, is_causal=causal, dropout_rate=rate,
            seed=seed,
        )  # fmt: skip
        out = ops.cast(out, self.compute_dtype) if self.upcast else out
        width = self.num_heads * self.head_dim
        out = self.output_dense(ops.reshape(out, (*shape, width)))
        return out if cache is None else (out, cache)


class TransformerBlock(layers.Layer):
    """A transformer block: attention and a feed-forward network, and on request attention to the
    output of an encoder between them, each with dropout, a residual connection and normalisation.

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        intermediate_dim: the width inside the feed-forward network.
        activation: of the feed-forward network.
        dropout: of the outputs of attention and feed-forward network.
        attention_dropout: of the attention probabilities.
        layer_norm_epsilon: of the normalisations.
        norm_first: whether inputs are normalised instead of the sums after the residuals.
        fused: as for `Attention`.
        scale: as for `Attention`.
        key_bias: as for `Attention`.
        has_source: whether there is attention to the output of an encoder.

    Inputs: hidden states (batch, length, hidden_dim), padding mask (batch, length) of booleans.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        activation: Any = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-12,
        norm_first: bool = False,
        fused: bool = False,
        scale: float | None = None,
        key_bias: bool | None = None,
        has_source: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.hidden_dim, self.intermediate_dim = hidden_dim, intermediate_dim
        self.norm_first = norm_first

        def attention(fused: bool = False) -> Attention:
            return Attention(
                hidden_dim, num_heads, attention_dropout, scale=scale, fused=fused,
                key_bias=key_bias, dtype=policy,
            )  # fmt: skip

        def norm() -> layers.LayerNormalization:
            return layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)

        self.attention, self.attention_norm = attention(fused), norm()
        self.cross_attention = attention() if has_source else None
        self.cross_attention_norm = norm() if has_source else None
        self.intermediate = layers.Dense(
            intermediate_dim, activation=activation_of(activation), dtype=policy
        )
        self.output_dense = layers.Dense(hidden_dim, dtype=policy)
        self.output_norm = norm()
        self.dropout = layers.Dropout(dropout, dtype=policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        shape = (None, None, self.hidden_dim)
        for layer in (self.attention, self.cross_attention, self.intermediate):
            if layer is not None:
                layer.build(shape)
        self.output_dense.build((None, None, self.intermediate_dim))
        for layer in (self.attention_norm, self.cross_attention_norm, self.output_norm):
            if layer is not None:
                layer.build(shape)
        self.built = True

    def call(
        self,
        hidden: Any,
        padding_mask: Any = None,
        training: bool = False,
        causal: bool = False,
        cache: Any = None,
        index: Any = None,
        source: Any = None,
    ) -> Any:
        """Return the hidden states; with a cache a pair with the new one, as of `Attention`.

        Args:
            hidden: (batch, length, hidden_dim).
            padding_mask: as for `Attention`.
            training: whether to apply dropout.
            causal: as for `Attention`.
            cache: as for `Attention`.
            index: as for `Attention`.
            source: keys and values of the encoder's output, of `cross_attention`: as `project`
                returns them, or with a cache as `arrange` does.
        """
        hidden, new_cache = self.self_attend(hidden, padding_mask, training, causal, cache, index)
        if source is not None:
            hidden = self.cross_attend(hidden, source, training, is_arranged=cache is not None)
        hidden = self.feed_forward(hidden, training)
        return hidden if cache is None else (hidden, new_cache)

    # -- the parts of the block -----------------------------------------------------------------

    def self_attend(
        self, hidden: Any, padding_mask: Any = None, training: bool = False, causal: bool = False,
        cache: Any = None, index: Any = None,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Return the hidden states after self-attention, and the new cache if there is one.

        Args:
            hidden: (batch, length, hidden_dim).
            padding_mask: as for `Attention`.
            training: whether to apply dropout.
            causal: as for `Attention`.
            cache: as for `Attention`.
            index: as for `Attention`.
        """
        attended = self.attention(
            self.attention_norm(hidden) if self.norm_first else hidden, padding_mask,
            training=training, causal=causal, cache=cache, index=index,
        )  # fmt: skip
        if cache is not None:
            attended, cache = attended
        return self._add(hidden, attended, self.attention_norm, training), cache

    def cross_attend(
        self, hidden: Any, source: Any, training: bool = False, is_arranged: bool = False
    ) -> Any:
        """Return the hidden states after attention to the output of an encoder.

        Args:
            hidden: (batch, length, hidden_dim).
            source: its keys and values.
            training: whether to apply dropout.
            is_arranged: whether they are as `arrange` returns them, not `project`.
        """
        norm, attention = self.cross_attention_norm, self.cross_attention
        query = norm(hidden) if self.norm_first else hidden
        if is_arranged:
            attended = attention.attend(query, source)
        else:
            attended = attention(query, training=training, keys=source)
        return self._add(hidden, attended, norm, training)

    def feed_forward(self, hidden: Any, training: bool = False) -> Any:
        """Return the hidden states after the feed-forward network.

        Args:
            hidden: (batch, length, hidden_dim).
            training: whether to apply dropout.
        """
        output = self.intermediate(self.output_norm(hidden) if self.norm_first else hidden)
        return self._add(hidden, self.output_dense(output), self.output_norm, training)

    def _add(self, hidden: Any, output: Any, norm: Any, training: bool) -> Any:
        """Return the sum of the residual connection, normalised if inputs are not."""
        hidden = hidden + self.dropout(output, training=training)
        return hidden if self.norm_first else norm(hidden)


def bert_initializer(stddev: float = 0.02) -> Any:
    """Return the initializer of BERT's weights: a normal distribution truncated at two deviations.

    Args:
        stddev: the standard deviation.
    """
    return keras.initializers.TruncatedNormal(stddev=stddev)


def is_empty_cache(index: Any) -> bool:
    """Return whether nothing is cached yet, by the position of the first new token.

    Args:
        index: the position.
    """
    return type(index) is int and index == 0


def cached_attention_mask(attention_mask: Any, index: Any, num_new: int) -> Any:
    """Return the mask of the cached positions that each new token may attend to.

    Args:
        attention_mask: (batch, cache length): False where a row is padded.
        index: the position of the first new token.
        num_new: the number of new tokens.

    Returns:
        (batch, num_new) if nothing is cached yet, else (batch, 1, num_new, keys).
    """
    if is_empty_cache(index):
        return attention_mask[:, :num_new]  # `causal` masks the later ones
    keys = ops.arange(attention_mask.shape[1], dtype="int32")
    causal = keys[None] <= index + ops.arange(num_new, dtype="int32")[:, None]
    return ops.logical_and(attention_mask[:, None, None], causal)


def sequence_positions(mask: Any) -> Any:
    """Return the position of each token, counted from the first of its row that is not padding.

    Args:
        mask: (batch, length) of booleans: False for padding.
    """
    return ops.maximum(ops.cumsum(ops.cast(mask, "int32"), axis=1) - 1, 0)


def cached_positions(attention_mask: Any, index: Any, num_new: int, num_positions: int) -> Any:
    """Return the positions of tokens that follow those in a cache, as `sequence_positions` counts.

    Args:
        attention_mask: (batch, cache length): False where a row is padded.
        index: the index of the first new token in the cache.
        num_new: the number of new tokens.
        num_positions: the number of positions of the model.
    """
    length = attention_mask.shape[1]
    padding = length - ops.sum(ops.cast(attention_mask, "int32"), axis=1, keepdims=True)
    indices = index + ops.arange(num_new, dtype="int32")
    # A row that has reached the last position may be waiting for others in its batch.
    return ops.clip(indices[None] - padding, 0, num_positions - 1)


def empty_caches(
    num_layers: int, batch: int, length: int, num_heads: int, head_dim: int, dtype: Any
) -> list[dict[str, Any]]:
    """Return caches of keys and values (batch, length, num_heads, head_dim), one a layer.

    Args:
        num_layers: the number of caches.
        batch: the number of rows.
        length: the number of positions.
        num_heads: the number of heads.
        head_dim: the width of a head.
        dtype: of the values.
    """
    shape = (batch, length, num_heads, head_dim)
    return [{name: ops.zeros(shape, dtype) for name in ("key", "value")} for _ in range(num_layers)]


def decode_blocks(
    blocks: Sequence[Any], hidden: Any, attention_mask: Any, caches: Sequence[Any], index: Any,
    sources: Sequence[Any] | None = None, **arguments: Any,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """Run blocks over tokens that follow those in their caches.

    Args:
        blocks: the blocks of a decoder.
        hidden: of the new tokens (batch, new tokens, width).
        attention_mask: (batch, cache length): False where a row is padded.
        caches: of the keys and values, one a block.
        index: the position of the first new token.
        sources: keys and values of the encoder's output, for each block.
        arguments: further ones of each block.

    Returns:
        The hidden states and the new caches.
    """
    mask = cached_attention_mask(attention_mask, index, hidden.shape[1])
    new_caches = []
    for i, (block, cache) in enumerate(zip(blocks, caches, strict=True)):
        if sources is not None:
            arguments["source"] = sources[i]
        hidden, cache = block(
            hidden, mask, causal=is_empty_cache(index), cache=cache, index=index, **arguments
        )
        new_caches.append(cache)
    return hidden, new_caches
