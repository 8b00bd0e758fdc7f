"""Embedding layers."""

from typing import Any

from keraslite import masking, ops
from keraslite.layers.base.config_layer import check_positive
from keraslite.layers.base.lora import AdaptedWeight
from keraslite.layers.base.modes import Int4Layout, int8_linear, rounded
from keraslite.layers.base.quantized import Quantized
from keraslite.quantizers import AbsMaxQuantizer
from keraslite.typing import Shape, Tensor


class Embedding(Quantized):
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
        quantization_config: how a layer of a quantized dtype policy came to be.

    >>> Embedding(10, 4)(np.array([[1, 2, 3]])).shape == (1, 3, 4)
    True
    """

    adapted_weight = "embeddings"
    embeddings = AdaptedWeight()
    quantization_modes = ("int8", "int4")
    saves_activity_regularizer = True

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
        check_positive("input_dim", input_dim)
        check_positive("output_dim", output_dim)
        kwargs.pop("input_length", None)  # Keras 2 had it
        self.set_arguments({k: v for k, v in locals().items() if k != "weights"})
        self.supports_masking, self.autocast = mask_zero, False
        if weights is not None:
            self.build()
            one = isinstance(weights, list) and len(weights) == 1
            self.set_weights(weights if one else [weights])

    def build(self, input_shape: Shape | None = None) -> None:
        """Make the table."""
        if not self.built:
            self.add_large_weight("embeddings", (self.input_dim, self.output_dim))
            self.build_lora()

    def call(self, inputs: Tensor) -> Tensor:
        """Look up."""
        if ops.dtype(inputs) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        if (mode := self.weight_mode) is None:
            return ops.cast(ops.take(self.effective_weight(), inputs, axis=0), self.compute_dtype)
        rows = mode.rows(self, "embeddings", inputs)
        return self.finish_call(inputs, ops.cast(rows, self.compute_dtype))

    def apply_update(self, inputs: Any, a: Any, b: Any) -> Any:
        return ops.matmul(ops.take(a, inputs, axis=0), b)

    def scale_axes(self, name: str) -> tuple[int, ...]:
        return (1,)

    def int4_layout(self, name: str) -> Int4Layout:
        return Int4Layout((self.input_dim, self.output_dim), summed=1)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
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
        self.set_attributes(
            tie_weights=tie_weights, reverse_dtype=reverse_dtype, logit_soft_cap=logit_soft_cap
        )

    def build(self, input_shape: Shape | None = None) -> None:
        """Make the table, and a second one if they are not tied."""
        super().build(input_shape)
        if not self.tie_weights:
            shape, initializer = (self.output_dim, self.input_dim), self.embeddings_initializer
            self.add_large_weight("reverse_embeddings", shape, initializer=initializer)

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
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
        logits = self._scores(ops.cast(inputs, self.reverse_dtype or self.compute_dtype))
        cap = self.logit_soft_cap
        return logits if cap is None else ops.multiply(ops.tanh(ops.divide(logits, cap)), cap)

    def _scores(self, inputs: Any) -> Any:
        dtype = ops.dtype(inputs)
        if self.quantization_mode is None:
            tied = self.tie_weights
            table = ops.transpose(self.effective_weight()) if tied else self.reverse_embeddings
            return ops.linear(inputs, ops.cast(table, dtype))
        out = self._quantized_scores(inputs)
        if not (self.tie_weights and self.lora_enabled):
            return out
        update = ops.cast(ops.transpose(self.weight_update()), dtype)
        return ops.add(out, ops.matmul(inputs, update))

    def _quantized_scores(self, inputs: Any) -> Any:
        name, dtype = self.large_weights()[-1], ops.dtype(inputs)
        if self.quantization_mode == "int8":
            table, scale = (self.__dict__[n].value for n in (name, f"{name}_scale"))
            table = ops.transpose(table) if self.tie_weights else table
            return int8_linear(inputs, table, ops.cast(scale, dtype), self.inputs_quantizer)
        mode: Any = self.weight_mode
        return ops.cast(
            mode.scores(self, name, rounded(inputs, self.inputs_quantizer, (-1,))), dtype
        )

    @property
    def inputs_quantizer(self) -> Any:
        """The quantizer of the vectors that go back; None leaves them floats."""
        if self.quantization_config is None:
            return AbsMaxQuantizer(axis=-1)
        return self.quantization_config.activation_quantizer

    def int4_layout(self, name: str) -> Int4Layout:
        if name == "embeddings":
            return super().int4_layout(name)
        return Int4Layout((self.output_dim, self.input_dim), packed=0, zero_dtype=None)

    def large_weights(self) -> tuple[str, ...]:
        return ("embeddings",) if self.tie_weights else ("embeddings", "reverse_embeddings")

    def scale_axes(self, name: str) -> tuple[int, ...]:
        return (1,) if name == "embeddings" else (0,)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """None: `call` sets the mask, on the way there alone."""
        return None
