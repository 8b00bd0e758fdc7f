"""Layers that two or more architectures share."""

from typing import Any

import keraslite as keras
from keraslite import layers, ops


@keras.saving.register_keras_serializable("hub")
def gelu_new(x: Any) -> Any:
    """The tanh form of the Gaussian error linear unit, as GPT-2 and some BERTs have it."""
    return ops.gelu(x, approximate=True)


# Names in config.json that are not Keras's.
_ACTIVATIONS = {"gelu_new": gelu_new, "gelu_pytorch_tanh": gelu_new}


def activation(name: str) -> Any:
    """The activation that a config.json names, as layers take it.

    Args:
        name: the value of `hidden_act` or its like.
    """
    return _ACTIVATIONS.get(name, name)


class SelfAttention(layers.Layer):
    """Multi-head attention of a sequence to itself (Vaswani et al., 2017, arXiv:1706.03762).

    Args:
        hidden_dim: the width.
        num_heads: the number of heads; it divides the width.
        dropout: of the attention probabilities.

    Inputs: hidden states (batch, length, hidden_dim), padding mask (batch, length) of booleans.
    """

    def __init__(self, hidden_dim: int, num_heads: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ValueError(f"hidden_dim={hidden_dim} is not a multiple of num_heads={num_heads}.")
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.query, self.key, self.value, self.output_dense = (
            layers.Dense(hidden_dim, dtype=self.dtype_policy, name=n)
            for n in ("query", "key", "value", "output")
        )
        self.dropout = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the projections."""
        for dense in (self.query, self.key, self.value, self.output_dense):
            dense.build((None, None, self.hidden_dim))
        self.built = True

    def call(self, hidden: Any, padding_mask: Any = None, training: bool = False) -> Any:
        """Attend."""
        shape = ops.shape(hidden)
        split = (*shape[:2], self.num_heads, self.hidden_dim // self.num_heads)
        query, key, value = (
            ops.reshape(dense(hidden), split) for dense in (self.query, self.key, self.value)
        )
        mask = None if padding_mask is None else padding_mask[:, None, None, :]
        rate = self.dropout.rate if training else 0.0
        seed = self.dropout.seed_generator if rate else None
        out = ops.dot_product_attention(query, key, value, mask=mask, dropout_rate=rate, seed=seed)
        return self.output_dense(ops.reshape(out, shape))


class TransformerEncoderBlock(layers.Layer):
    """Attention and a feed-forward network, each followed by dropout, residual and normalisation.

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        intermediate_dim: the width inside the feed-forward network.
        activation: its activation.
        dropout: of the outputs of both parts.
        attention_dropout: of the attention probabilities.
        layer_norm_epsilon: of the normalisations.

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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.hidden_dim, self.intermediate_dim = hidden_dim, intermediate_dim
        self.attention = SelfAttention(hidden_dim, num_heads, attention_dropout, dtype=policy)
        self.attention_norm = layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)
        self.intermediate = layers.Dense(
            intermediate_dim, activation=_ACTIVATIONS.get(activation, activation), dtype=policy
        )
        self.output_dense = layers.Dense(hidden_dim, dtype=policy)
        self.output_norm = layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy)
        self.dropout = layers.Dropout(dropout, dtype=policy)

    def build(self, hidden_shape: Any) -> None:
        """Make the weights."""
        shape = (None, None, self.hidden_dim)
        self.attention.build(shape)
        self.intermediate.build(shape)
        self.output_dense.build((None, None, self.intermediate_dim))
        self.attention_norm.build(shape)
        self.output_norm.build(shape)
        self.built = True

    def call(self, hidden: Any, padding_mask: Any = None, training: bool = False) -> Any:
        """Encode."""
        attended = self.attention(hidden, padding_mask, training=training)
        hidden = self.attention_norm(hidden + self.dropout(attended, training=training))
        fed = self.output_dense(self.intermediate(hidden))
        return self.output_norm(hidden + self.dropout(fed, training=training))


def bert_initializer(stddev: float = 0.02) -> Any:
    """The initializer of BERT's weights: a normal one, cut at two standard deviations.

    Args:
        stddev: the standard deviation.
    """
    return keras.initializers.TruncatedNormal(stddev=stddev)
