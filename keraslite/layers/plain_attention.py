"""Attention without projections."""

from typing import Any

from keraslite import ops, random
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.heads import positions
from keraslite.random import SeedGenerator
from keraslite.typing import Tensor


class Attention(ConfigLayer):
    """Attention without projections, of [query, value] or [query, value, key].

    Source: https://arxiv.org/abs/1508.04025

    Args:
        use_scale: whether a learned number scales the scores.
        score_mode: "dot", or "concat" for `sum(tanh(query + key))`.
        dropout: of the scores, in training.
        seed: of the dropout.

    >>> x = np.ones((2, 5, 8), "float32")
    >>> Attention()([x, x]).shape == (2, 5, 8)
    True
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"score_mode must be 'dot' or 'concat'. Received: {score_mode}")
        self.set_arguments(locals())
        self.supports_masking = True
        if dropout > 0:
            self.seed_generator = SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        """Make the scale."""
        self._check(input_shape)
        ones = {"shape": (), "initializer": "ones"}
        self.scale = self.add_weight(name="scale", **ones) if self.use_scale else None
        self.concat_score_weight = None
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", **ones)

    def _check(self, inputs: Any) -> None:
        if not isinstance(inputs, list | tuple) or len(inputs) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} layer must be called on a list of inputs, namely "
                f"[query, value] or [query, value, key]. Received: inputs={inputs}."
            )

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else ops.multiply(scores, self.scale)
        both = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        both = both if self.scale is None else ops.multiply(both, self.scale)
        return ops.multiply(ops.sum(ops.tanh(both), axis=-1), self.concat_score_weight)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """Attend.

        Args:
            inputs: [query, value] or [query, value, key].
            mask: [query mask, value mask].
            training: whether dropout is at work.
            return_attention_scores: whether (outputs, scores) is returned.
            use_causal_mask: whether a query sees only the keys up to its own position.
        """
        self._check(inputs)
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = (mask[0], mask[1]) if mask else (None, None)
        scores = self._calculate_scores(query, key)
        visible = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if use_causal_mask:
            rows, columns = positions(query, key)
            past = ops.expand_dims(ops.greater_equal(rows, columns), 0)
            visible = past if visible is None else ops.logical_and(visible, past)
        if visible is not None:
            lowest = 65504.0 if ops.dtype(scores) == "float16" else 1.0e9
            scores = ops.where(visible, scores, ops.subtract(scores, lowest))
        weights = dropped = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            dropped = random.dropout(weights, self.dropout, seed=self.seed_generator)
        out = ops.matmul(dropped, value)
        if query_mask is not None:
            out = ops.where(ops.expand_dims(ops.cast(query_mask, "bool"), -1), out, 0)
        return (out, dropped) if return_attention_scores else out

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """The query's mask."""
        return None if mask is None or mask[0] is None else mask[0]


class AdditiveAttention(Attention):
    """Attention whose scores are `sum(scale * tanh(query + key))`.

    Source: https://arxiv.org/abs/1409.0473

    Args:
        use_scale: whether a learned vector scales the features.
        dropout: of the scores, in training.

    >>> x = np.ones((2, 5, 8), "float32")
    >>> AdditiveAttention()([x, x]).shape == (2, 5, 8)
    True
    """

    unsaved_arguments = ("score_mode",)

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Make the scale."""
        self._check(input_shape)
        size = input_shape[0][-1]
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(size,), initializer="glorot_uniform")

    def _calculate_scores(self, query: Any, key: Any) -> Any:
        both = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(both if self.scale is None else ops.multiply(both, self.scale), axis=-1)
