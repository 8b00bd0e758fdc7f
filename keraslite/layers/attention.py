"""Attention with several heads."""

import string
from collections.abc import Sequence
from typing import Any

from keraslite.layers.heads import Heads
from keraslite.typing import Shape


def _check_sizes(**sizes: Any) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size <= 0:
            raise ValueError(
                f"Received an invalid value for argument `{name}`, expected a positive integer. "
                f"Received: {name}={size}"
            )


class MultiHeadAttention(Heads):
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

    keras_attributes = {"gate_dense": "_gate_dense"}

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
        value_dim = key_dim if value_dim is None else value_dim
        _check_sizes(num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        output_shape = tuple(output_shape) if output_shape else None
        if isinstance(attention_axes, int):
            attention_axes = (attention_axes,)
        attention_axes = None if attention_axes is None else tuple(attention_axes)
        self.set_arguments(locals())

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
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
            dense = self.make_projection(name, f"{x}x,xyz->{x}yz", output, "yz", **extra)
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
        self.build_attention(self.key_dim)
        outputs = self.output_shape or (query_shape[-1],)
        x, o = free[: rank - 2], "mnopqrstuvw"[: len(outputs)]
        self.output_dense = self.make_projection(
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


class GroupedQueryAttention(Heads):
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

    # The names of its parts in Keras's files.
    keras_attributes = {
        f"{name}_dense": f"_{name}_dense" for name in ("query", "key", "value", "gate", "output")
    }

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
        _check_sizes(
            head_dim=head_dim, num_query_heads=num_query_heads,
            num_key_value_heads=num_key_value_heads,
        )  # fmt: skip
        if num_query_heads % num_key_value_heads:
            raise ValueError("`num_query_heads` must be divisible by `num_key_value_heads`.")
        self.set_arguments(locals())

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        """Make the projections."""
        key_shape = value_shape if key_shape is None else key_shape

        def project(name: str, shape: Any, heads: int, **extra: Any) -> Any:
            dense = self.make_projection(
                name, "bqm,muh->bquh", (None, heads, self.head_dim), "uh", **extra
            )
            dense.build(shape)
            return dense

        queries, keys = self.num_query_heads, self.num_key_value_heads
        self.query_dense = project("query", query_shape, queries)
        self.key_dense = project("key", key_shape, keys)
        if self.use_gate:
            self.gate_dense = project("gate", query_shape, queries, activation="sigmoid")
        self.value_dense = project("value", value_shape, keys)
        self.build_attention(self.head_dim)
        self.output_dense = self.make_projection(
            "attention_output", "bquh,uhm->bqm", (None, query_shape[-1]), "m"
        )
        self.output_dense.build((None, None, queries, self.head_dim))


GroupQueryAttention = GroupedQueryAttention  # the name that Keras exports it by
