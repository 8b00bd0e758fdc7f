"""The base of attention with several heads.

Unless the scores are returned, the heads go through `ops.dot_product_attention`, which has a fused
kernel on most backends.
"""

import math
from typing import Any

from keraslite import masking, ops
from keraslite.layers.activation import Softmax
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.core import EinsumDense
from keraslite.layers.regularization import Dropout
from keraslite.typing import Tensor


def _alias(name: str) -> property:
    """An attribute's second name: code that subclasses these layers uses Keras's private ones."""
    return property(lambda self: getattr(self, name), lambda self, v: setattr(self, name, v))


def positions(x: Any, y: Any) -> tuple[Any, Any]:
    """The positions of queries as a column and of keys as a row."""
    rows, columns = (ops.arange(ops.shape(v)[1], dtype="int32") for v in (x, y))
    return ops.expand_dims(rows, -1), ops.expand_dims(columns, 0)


class Heads(ConfigLayer):
    """The base of attention with several heads: masks, the product, and the order of a call."""

    saves_activity_regularizer = True
    unsaved_arguments = ("flash_attention",)
    _attention_axes: tuple[int, ...] = (1,)
    _dot_product_equation: str
    _combine_equation: str
    _query_dense, _key_dense = _alias("query_dense"), _alias("key_dense")
    _value_dense, _output_dense = _alias("value_dense"), _alias("output_dense")
    _dropout_layer, _flash_attention = _alias("dropout_layer"), _alias("flash_attention")

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Take the arguments, after a check of those of the attention."""
        window, flash = arguments["sliding_window"], arguments["flash_attention"]
        if window is not None and (not isinstance(window, int) or window <= 0):
            raise ValueError(
                "`sliding_window` must be `None` or a positive integer. Received: "
                f"sliding_window={window}"
            )
        if flash and arguments["dropout"] > 0:
            raise ValueError(
                "Dropout is not supported when flash attention is enabled. Please set dropout to "
                "0.0 to use flash attention."
            )
        super().set_arguments(arguments)
        self.supports_masking = True

    def make_projection(
        self, name: str, equation: str, output: tuple, bias: str, **extra: Any
    ) -> Any:
        """A projection with this layer's initializers, each with a seed of its own."""
        clones = {
            f"{k}_initializer": v.clone() if hasattr(v, "clone") else v
            for k, v in (("kernel", self.kernel_initializer), ("bias", self.bias_initializer))
        }
        return EinsumDense(
            equation, output_shape=output, bias_axes=bias if self.use_bias else None, name=name,
            dtype=self.dtype_policy, activity_regularizer=self.activity_regularizer,
            kernel_regularizer=self.kernel_regularizer, bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint, bias_constraint=self.bias_constraint,
            **clones, **extra,
        )  # fmt: skip

    def build_attention(self, size: int) -> None:
        """Make softmax and dropout of the scores."""
        self._scale = 1.0 / math.sqrt(size)
        axes = tuple(range(-len(self._attention_axes), 0))
        self._softmax = Softmax(axis=axes, dtype=self.dtype_policy)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """Attend.

        Args:
            query: (batch, queries, size).
            value: (batch, keys, size).
            key: (batch, keys, size); the value by default.
            query_mask: (batch, queries), which queries count.
            value_mask: (batch, keys), which values count.
            key_mask: (batch, keys), which keys count.
            attention_mask: (batch, queries, keys), or with the heads as axis 1: the keys that a
                query attends to.
            return_attention_scores: whether (outputs, scores) is returned.
            training: whether dropout is at work.
            use_causal_mask: whether a query sees only the keys up to its own position.
        """
        key = value if key is None else key
        # A causal mask alone is left to the fused kernel; unless a subclass computes attention.
        masks = (query_mask, value_mask, key_mask, attention_mask, self.sliding_window)
        causal = use_causal_mask and all(m is None for m in masks)
        causal = causal and type(self)._compute_attention is Heads._compute_attention
        mask = None
        if not causal:
            mask = self._compute_attention_mask(
                query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
            )
        gate = self.gate_dense(query) if self.use_gate else None
        query, key, value = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        extra = {"use_causal_mask": True} if causal else {}
        out, scores = self._compute_attention(
            query, key, value, mask, training, return_attention_scores, **extra
        )
        out = self.output_dense(out if gate is None else ops.multiply(out, gate))
        if query_mask is not None:
            masking.set_mask(out, query_mask)
        return (out, scores) if return_attention_scores else out

    def _compute_attention_mask(
        self,
        query: Any,
        value: Any,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """All masks as one of shape (batch, queries, keys), or None."""
        masks = [
            ops.expand_dims(ops.cast(m, "bool"), axis)
            for m, axis in ((query_mask, -1), (value_mask, -2), (key_mask, -2))
            if m is not None
        ]
        if use_causal_mask:
            masks.append(self._compute_causal_mask(query, value))
        if self.sliding_window is not None:
            rows, columns = positions(query, value)
            near = ops.less(ops.absolute(rows - columns), self.sliding_window)
            masks.append(ops.expand_dims(near, 0))
        auto = None
        for m in masks:
            auto = m if auto is None else ops.logical_and(auto, m)
        if attention_mask is None:
            return auto
        attention_mask = ops.cast(attention_mask, "bool")
        if auto is None:
            return attention_mask
        return ops.logical_and(attention_mask, self._with_heads(auto, len(attention_mask.shape)))

    def _compute_causal_mask(self, query: Any, value: Any = None) -> Any:
        rows, columns = positions(query, query if value is None else value)
        return ops.expand_dims(ops.greater_equal(rows, columns), 0)

    def _with_heads(self, mask: Any, rank: int) -> Any:
        """A mask with axes for the heads put in, up to a rank."""
        axis = -2 * len(self._attention_axes) - 1
        while mask is not None and len(mask.shape) < rank:
            mask = ops.expand_dims(mask, axis)
        return mask

    def _masked_softmax(self, attention_scores: Any, attention_mask: Any = None) -> Any:
        mask = self._with_heads(attention_mask, len(attention_scores.shape))
        return self._softmax(attention_scores, mask=mask)

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        """The heads' outputs and their scores, None where a fused kernel keeps them to itself."""
        if self.flash_attention and return_attention_scores:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled. "
                "Please disable flash attention to access attention scores."
            )
        dropped = self.dropout > 0 and training
        if not (return_attention_scores or len(query.shape) != 4):
            mask = self._with_heads(attention_mask, 4)
            seed = self.dropout_layer.seed_generator if dropped else None
            out = ops.dot_product_attention(
                query, key, value, mask=mask if mask is None else ops.cast(mask, "bool"),
                scale=self._scale, is_causal=use_causal_mask,
                flash_attention=None if dropped else self.flash_attention,
                dropout_rate=self.dropout if dropped else 0.0, seed=seed,
            )  # fmt: skip
            return out, None
        if use_causal_mask:
            causal = self._compute_causal_mask(query, value)
            attention_mask = causal if attention_mask is None else ops.logical_and(
                ops.cast(attention_mask, "bool"), causal
            )  # fmt: skip
        shared = query.shape[-2] // key.shape[-2]
        if shared > 1:
            key, value = ops.repeat(key, shared, axis=-2), ops.repeat(value, shared, axis=-2)
        query = ops.multiply(query, self._scale)
        scores = ops.einsum(self._dot_product_equation, key, query)
        scores = self._masked_softmax(scores, attention_mask)
        weights = self.dropout_layer(scores, training=training) if dropped else scores
        return ops.einsum(self._combine_equation, weights, value), scores
