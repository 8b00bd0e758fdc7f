"""Attention layers.

Where nobody asks for the scores, and no dropout is at work, the heads go through
`ops.dot_product_attention`, which has a fused kernel on most backends.
"""

import math
import string
from collections.abc import Sequence
from typing import Any

from keraslite import masking, ops, random
from keraslite.layers.activation import Softmax
from keraslite.layers.builtin import BuiltIn
from keraslite.layers.core import EinsumDense
from keraslite.layers.regularization import Dropout
from keraslite.random import SeedGenerator


def _alias(name: str) -> property:
    """An attribute's second name: code that subclasses these layers uses Keras's private ones."""
    return property(lambda self: getattr(self, name), lambda self, v: setattr(self, name, v))


def _positions(x: Any, y: Any) -> tuple[Any, Any]:
    """The positions of queries as a column and of keys as a row."""
    rows, columns = (ops.arange(ops.shape(v)[1], dtype="int32") for v in (x, y))
    return ops.expand_dims(rows, -1), ops.expand_dims(columns, 0)


class _Heads(BuiltIn):
    """What attention with several heads shares: masks, the product, and the order of a call."""

    _saves_activity = True
    _unsaved = ("flash_attention",)
    _attention_axes: tuple[int, ...] = (1,)
    _query_dense, _key_dense = _alias("query_dense"), _alias("key_dense")
    _value_dense, _output_dense = _alias("value_dense"), _alias("output_dense")
    _dropout_layer, _flash_attention = _alias("dropout_layer"), _alias("flash_attention")

    def _keep(self, given: dict[str, Any]) -> None:
        window, flash = given["sliding_window"], given["flash_attention"]
        if window is not None and (not isinstance(window, int) or window <= 0):
            raise ValueError(
                "`sliding_window` must be `None` or a positive integer. Received: "
                f"sliding_window={window}"
            )
        if flash and given["dropout"] > 0:
            raise ValueError(
                "Dropout is not supported when flash attention is enabled. Please set dropout to "
                "0.0 to use flash attention."
            )
        super()._keep(given)
        self.supports_masking = True

    def _dense(self, name: str, equation: str, output: tuple, bias: str, **extra: Any) -> Any:
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

    def _build_attention(self, size: int) -> None:
        """Softmax and dropout of the scores."""
        self._scale = 1.0 / math.sqrt(size)
        axes = tuple(range(-len(self._attention_axes), 0))
        self._softmax = Softmax(axis=axes, dtype=self.dtype_policy)
        self.dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Attend.

        Args:
            query: (batch, queries, size).
            value: (batch, keys, size).
            key: (batch, keys, size); the value by default.
            query_mask: (batch, queries), which queries count.
            value_mask: (batch, keys), which values count.
            key_mask: (batch, keys), which keys count.
            attention_mask: (batch, queries, keys) or with the heads as axis 1: who sees what.
            return_attention_scores: whether (outputs, scores) is returned.
            training: whether dropout is at work.
            use_causal_mask: whether a query sees only the keys up to its own position.
        """
        key = value if key is None else key
        # A causal mask alone is left to the fused kernel; unless a subclass computes attention.
        masks = (query_mask, value_mask, key_mask, attention_mask, self.sliding_window)
        causal = use_causal_mask and all(m is None for m in masks)
        causal = causal and type(self)._compute_attention is _Heads._compute_attention
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
            rows, columns = _positions(query, value)
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
        rows, columns = _positions(query, query if value is None else value)
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
        if not (dropped or return_attention_scores or len(query.shape) != 4):
            mask = self._with_heads(attention_mask, 4)
            out = ops.dot_product_attention(
                query, key, value, mask=mask if mask is None else ops.cast(mask, "bool"),
                scale=self._scale, is_causal=use_causal_mask, flash_attention=self.flash_attention,
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


class MultiHeadAttention(_Heads):
    """Attention in several heads, each with projections of its own.

    Source: https://arxiv.org/abs/1706.03762

    Args:
        num_heads: the number of heads.
        key_dim: the size of a head's queries and keys.
        value_dim: the size of a head's values; that of the keys by default.
        dropout: of the scores, in training.
        use_bias: whether the projections have biases.
        output_shape: the shape of one output; the queries' size by default.
        attention_axes: the axes that attention runs over; all but batch and features by default.
        sliding_window: a query sees only keys less than this far away.
        flash_attention: True insists on a fused kernel, False avoids it.
        kernel_initializer: of the kernels.
        bias_initializer: of the biases.
        kernel_regularizer: a penalty on the kernels.
        bias_regularizer: a penalty on the biases.
        activity_regularizer: a penalty on the projections' outputs.
        kernel_constraint: a projection of the kernels.
        bias_constraint: a projection of the biases.
        use_gate: whether a sigmoid of the query gates the heads' outputs.
        seed: of the dropout.

    >>> x = np.ones((2, 5, 8), "float32")
    >>> MultiHeadAttention(num_heads=2, key_dim=4)(x, x).shape == (2, 5, 8)
    True
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        value_dim = value_dim or key_dim
        sizes = {"num_heads": num_heads, "key_dim": key_dim, "value_dim": value_dim}
        for name, size in sizes.items():
            if not isinstance(size, int) or size <= 0:
                raise ValueError(
                    f"Received an invalid value for argument `{name}`, expected a positive "
                    f"integer. Received: {name}={size}"
                )
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        output_shape = tuple(output_shape) if output_shape else None
        if isinstance(attention_axes, int):
            attention_axes = (attention_axes,)
        self._keep({k: v for k, v in locals().items() if k not in ("sizes", "name", "size")})

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Make the projections."""
        key_shape = value_shape if key_shape is None else key_shape
        if value_shape[1:-1] != key_shape[1:-1]:
            raise ValueError(
                "All dimensions of `value` and `key`, except the last one, must be equal. "
                f"Received: value_shape={value_shape} and key_shape={key_shape}"
            )
        rank, free = len(query_shape) + 1, string.ascii_lowercase

        def project(name: str, shape: Any, size: int, **extra: Any) -> Any:
            x = free[: len(shape) - 1]
            output = (*(None,) * (len(shape) - 2), self.num_heads, size)
            dense = self._dense(name, f"{x}x,xyz->{x}yz", output, "yz", **extra)
            dense.build(shape)
            return dense

        self.query_dense = project("query", query_shape, self.key_dim)
        self.key_dense = project("key", key_shape, self.key_dim)
        if self.use_gate:
            self.gate_dense = project("gate", query_shape, self.value_dim, activation="sigmoid")
        self.value_dense = project("value", value_shape, self.value_dim)
        self._attention_axes = tuple(
            a % (rank - 1) for a in self.attention_axes or range(1, rank - 2)
        )
        self._equations(rank)
        self._build_attention(self.key_dim)
        outputs = self.output_shape or (query_shape[-1],)
        x, o = free[: rank - 2], "mnopqrstuvw"[: len(outputs)]
        self.output_dense = self._dense(
            "attention_output", f"{x}yz,yz{o}->{x}{o}", (*(None,) * (rank - 3), *outputs), o
        )
        self.output_dense.build((*query_shape[:-1], self.num_heads, self.value_dim))

    def _equations(self, rank: int) -> None:
        """The products of queries and keys, and of scores and values: the other axes are a batch.

        The projected shape is (batch, axes ..., heads, size).
        """
        query = string.ascii_lowercase[:rank]
        axes = self._attention_axes
        key = "".join(c.upper() if i in axes else c for i, c in enumerate(query))
        batch = "".join(c for i, c in enumerate(query[:-1]) if i not in axes)
        scores = batch + "".join(query[a] for a in axes) + "".join(key[a] for a in axes)
        self._dot_product_equation = f"{key},{query}->{scores}"
        self._combine_equation = f"{scores},{key}->{query}"


class GroupedQueryAttention(_Heads):
    """Attention in which groups of query heads share a key and a value head.

    Source: https://arxiv.org/abs/2305.13245

    Args:
        head_dim: the size of a head.
        num_query_heads: the number of query heads.
        num_key_value_heads: the number of key and value heads, which divides it.
        dropout: of the scores, in training.
        use_bias: whether the projections have biases.
        sliding_window: a query sees only keys less than this far away.
        flash_attention: True insists on a fused kernel, False avoids it.
        kernel_initializer: of the kernels.
        bias_initializer: of the biases.
        kernel_regularizer: a penalty on the kernels.
        bias_regularizer: a penalty on the biases.
        activity_regularizer: a penalty on the projections' outputs.
        kernel_constraint: a projection of the kernels.
        bias_constraint: a projection of the biases.
        use_gate: whether a sigmoid of the query gates the heads' outputs.
        seed: of the dropout.

    >>> x = np.ones((2, 5, 8), "float32")
    >>> GroupedQueryAttention(4, num_query_heads=4, num_key_value_heads=2)(x, x).shape == (2, 5, 8)
    True
    """

    _dot_product_equation = "bkuh,bquh->buqk"
    _combine_equation = "buqk,bkuh->bquh"

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if num_query_heads % num_key_value_heads:
            raise ValueError("`num_query_heads` must be divisible by `num_key_value_heads`.")
        self._keep(locals())

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Make the projections."""
        key_shape = value_shape if key_shape is None else key_shape

        def project(name: str, shape: Any, heads: int, **extra: Any) -> Any:
            dense = self._dense(name, "bqm,muh->bquh", (None, heads, self.head_dim), "uh", **extra)
            dense.build(shape)
            return dense

        queries, keys = self.num_query_heads, self.num_key_value_heads
        self.query_dense = project("query", query_shape, queries)
        self.key_dense = project("key", key_shape, keys)
        if self.use_gate:
            self.gate_dense = project("gate", query_shape, queries, activation="sigmoid")
        self.value_dense = project("value", value_shape, keys)
        self._build_attention(self.head_dim)
        self.output_dense = self._dense(
            "attention_output", "bquh,uhm->bqm", (None, query_shape[-1]), "m"
        )
        self.output_dense.build((None, None, queries, self.head_dim))


GroupQueryAttention = GroupedQueryAttention  # the name that Keras exports it by


class Attention(BuiltIn):
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
        self._keep(locals())
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
        inputs: Any,
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
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
        seen = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if use_causal_mask:
            rows, columns = _positions(query, key)
            past = ops.expand_dims(ops.greater_equal(rows, columns), 0)
            seen = past if seen is None else ops.logical_and(seen, past)
        if seen is not None:
            lowest = 65504.0 if ops.dtype(scores) == "float16" else 1.0e9
            scores = ops.where(seen, scores, scores - lowest)
        weights = dropped = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            dropped = random.dropout(weights, self.dropout, seed=self.seed_generator)
        out = ops.matmul(dropped, value)
        if query_mask is not None:
            out = ops.where(ops.expand_dims(ops.cast(query_mask, "bool"), -1), out, 0)
        return (out, dropped) if return_attention_scores else out

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
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

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)
        self._kl_kept = tuple(name for name in self._kl_kept if name != "score_mode")

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
