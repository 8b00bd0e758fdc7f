"""Embedding layers."""

from typing import Any

from keraslite import masking, ops
from keraslite.layers.builtin import LoRA
from keraslite.layers.core import positive


class Embedding(LoRA):
    """A table of vectors, looked up by index.

    Input shape (batch, ...) of integers, output shape (batch, ..., output_dim).

    Args:
        input_dim: the number of rows.
        output_dim: the size of a row.
        embeddings_initializer: of the table.
        embeddings_regularizer: a penalty on it.
        embeddings_constraint: a projection of it.
        mask_zero: whether index 0 is padding, which later layers skip.
        weights: the table's values.
        lora_rank: train a low-rank update in place of the table.
        lora_alpha: the update is scaled by `lora_alpha / lora_rank`.
        quantization_config: kept for Keras code.

    >>> Embedding(10, 4)(np.array([[1, 2, 3]])).shape == (1, 3, 4)
    True
    """

    _adapted = "embeddings"
    _saves_activity = True

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ):
        positive("input_dim", input_dim)
        positive("output_dim", output_dim)
        kwargs.pop("input_length", None)  # Keras 2 had it
        given = {k: v for k, v in locals().items() if k != "weights"}
        self._keep(given)
        self.supports_masking, self.autocast = mask_zero, False
        if weights is not None:
            self.build()
            one = isinstance(weights, list) and len(weights) == 1
            self.set_weights(weights if one else [weights])

    def build(self, input_shape: Any = None) -> None:
        """Make the table."""
        if not self.built:
            self.embeddings = self._weight("embeddings", (self.input_dim, self.output_dim))
            self._build_lora()

    def call(self, inputs: Any) -> Any:
        """Look up."""
        if ops.dtype(inputs) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.cast(ops.take(self._effective(), inputs, axis=0), self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Which indices are not 0."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None


class ReversibleEmbedding(Embedding):
    """An embedding that also goes back, from vectors to logits over the rows.

    Source: https://arxiv.org/abs/1608.05859

    Args:
        input_dim: the number of rows.
        output_dim: the size of a row.
        tie_weights: whether the way back uses the same table, transposed.
        embeddings_initializer: of the table.
        embeddings_regularizer: a penalty on it.
        embeddings_constraint: a projection of it.
        mask_zero: whether index 0 is padding, which later layers skip.
        reverse_dtype: the dtype of the way back; the layer's by default.
        logit_soft_cap: bounds the logits softly: `cap * tanh(logits / cap)`.

    >>> layer = ReversibleEmbedding(10, 4)
    >>> layer(layer(np.array([[1, 2]])), reverse=True).shape == (1, 2, 10)
    True
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            input_dim, output_dim, embeddings_initializer, embeddings_regularizer,
            embeddings_constraint, mask_zero, **kwargs,
        )  # fmt: skip
        self.tie_weights, self.reverse_dtype = tie_weights, reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        self._kl_kept += ("tie_weights", "reverse_dtype", "logit_soft_cap")

    def build(self, input_shape: Any = None) -> None:
        """Make the table, and a second one if they are not tied."""
        super().build(input_shape)
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_weight(
                name="reverse_embeddings", shape=shape, initializer=self.embeddings_initializer
            )

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        """Look up; or, in reverse, score every row.

        Args:
            inputs: indices, or vectors (batch, ..., output_dim).
            reverse: whether to go back.
        """
        if not reverse:
            out = super().call(inputs)
            if self.mask_zero:
                masking.set_mask(out, ops.not_equal(inputs, 0))
            return out
        dtype = self.reverse_dtype or self.compute_dtype
        table = ops.transpose(self._effective()) if self.tie_weights else self.reverse_embeddings
        logits = ops.matmul(ops.cast(inputs, dtype), ops.cast(table, dtype))
        cap = self.logit_soft_cap
        return logits if cap is None else ops.multiply(ops.tanh(ops.divide(logits, cap)), cap)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """None: `call` sets the mask, on the way there alone."""
        return None
