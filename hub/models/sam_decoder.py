"""The mask decoder of Segment Anything (Kirillov et al., 2023, arXiv:2304.02643): a transformer in
which a few tokens and the positions of an image attend to each other, and masks as products of
tokens and the enlarged image.

An image has thousands of positions, and a prompt a dozen tokens. So nothing is projected at the
positions that can be at the tokens: `q @ (image @ W)` is computed as `(q @ W) @ image`, which takes
half of the time; and what prompts of an image have in common is computed once.

Trap: the authors' normalisations have an epsilon of 1e-5, the config of transformers says 1e-6, and
the last one has 1e-5 there as well.
"""

from typing import Any

from hub.blocks.transformer import activation_of
from hub.families import Family, register
from hub.weights.tables import WeightTable
from keraslite import initializers, layers, ops

_FINAL_EPSILON, _UPSCALE_EPSILON = 1e-5, 1e-6
_HYPERNETWORK_DEPTH = 3


class SAMMaskDecoder(layers.Layer):
    """Masks and estimates of their quality, from embeddings of images and prompts.

    Args:
        hidden_size: the width.
        num_layers: the number of blocks of the transformer.
        intermediate_dim: the width inside its feed-forward networks.
        num_heads: attention heads of a block.
        embedding_dim: the width of the embeddings, which is `hidden_size`.
        num_multimask_outputs: the number of masks for an ambiguous prompt; there is one more, for
            prompts that are not.
        iou_head_depth: the number of layers of the network that estimates the quality.
        iou_head_hidden_dim: its width inside.
        activation: behind the enlargements of the image.
        attention_downsample_rate: the width is divided by it in attention to and from the image.
        intermediate_activation: of the feed-forward networks.
        layer_norm_epsilon: of the normalisations in the blocks.

    Inputs, by name: see `call`. Outputs: a dict of `masks` (batch, masks, 4 * rows, 4 * columns),
    logits, and `iou_pred` (batch, masks); of several sets of prompts for each image both have an
    axis of these behind the batch.

    >>> decoder = SAMMaskDecoder(16, 2, 32, 2)
    >>> image, tokens = np.ones((1, 4, 4, 16), "float32"), np.ones((1, 2, 16), "float32")
    >>> out = decoder(image, image, tokens, image)
    >>> tuple(out["masks"].shape), tuple(out["iou_pred"].shape)
    ((1, 4, 16, 16), (1, 4))
    """

    family = "sam_mask_decoder"

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        intermediate_dim: int,
        num_heads: int,
        embedding_dim: int | None = None,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        activation: str = "gelu",
        attention_downsample_rate: int = 2,
        intermediate_activation: str = "relu",
        layer_norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        self.keep_config(locals())
        super().__init__(**kwargs)
        if embedding_dim not in (None, hidden_size):
            raise ValueError(
                f"embedding_dim must be hidden_size={hidden_size}, got {embedding_dim}."
            )
        if num_layers < 1 or iou_head_depth < 2 or hidden_size % 8:
            raise ValueError(
                "num_layers must be at least 1, iou_head_depth at least 2 and hidden_size a "
                f"multiple of 8, got {num_layers}, {iou_head_depth} and {hidden_size}."
            )
        self.hidden_size, self.num_mask_tokens = hidden_size, num_multimask_outputs + 1
        policy = self.dtype_policy
        self.blocks = [
            TwoWayBlock(
                hidden_size, num_heads, intermediate_dim, attention_downsample_rate,
                intermediate_activation, layer_norm_epsilon, is_first=i == 0, dtype=policy,
            )
            for i in range(num_layers)
        ]  # fmt: skip
        self.final_attention = DownsampledAttention(
            hidden_size, num_heads, attention_downsample_rate, dtype=policy
        )
        self.final_norm = layers.LayerNormalization(epsilon=_FINAL_EPSILON, dtype=policy)
        self.upscale_conv_1, self.upscale_conv_2 = (
            layers.Conv2DTranspose(hidden_size // n, 2, strides=2, dtype=policy) for n in (4, 8)
        )
        self.upscale_norm = layers.LayerNormalization(epsilon=_UPSCALE_EPSILON, dtype=policy)
        self.activation = layers.Activation(activation_of(activation), dtype=policy)
        self.hypernetworks = [
            FeedForward(hidden_size, hidden_size // 8, _HYPERNETWORK_DEPTH, dtype=policy)
            for _ in range(self.num_mask_tokens)
        ]
        self.iou_head = FeedForward(
            iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth, dtype=policy
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables; their shapes follow from the config alone."""
        initializer = initializers.RandomNormal(stddev=0.02)
        self.iou_token, self.mask_tokens = (
            self.add_weight((count, self.hidden_size), initializer, name=name)
            for count, name in ((1, "iou_token"), (self.num_mask_tokens, "mask_tokens"))
        )
        shape = (None, None, self.hidden_size)
        for layer in (*self.blocks, self.final_attention, self.final_norm, self.iou_head):
            layer.build(shape)
        for layer in self.hypernetworks:
            layer.build(shape)
        self.upscale_conv_1.build((None, None, None, self.hidden_size))
        self.upscale_norm.build((None, None, None, self.hidden_size // 4))
        self.upscale_conv_2.build((None, None, None, self.hidden_size // 4))
        for attention in (*(block.to_image for block in self.blocks), self.final_attention):
            attention.key.bias.trainable = False  # it changes no weight, and has no gradient
        self.built = True

    def call(
        self,
        image_embeddings: Any,
        prompt_dense_positional_embeddings: Any,
        prompt_sparse_embeddings: Any,
        prompt_dense_embeddings: Any,
        prompt_padding_mask: Any = None,
        multimask_output: bool | None = None,
    ) -> dict[str, Any]:
        """Return masks and estimates of their intersection over union with the true ones.

        Args:
            image_embeddings: (batch, rows, columns, hidden_size); one image for all prompts may
                stand for a batch.
            prompt_dense_positional_embeddings: (1, rows, columns, hidden_size).
            prompt_sparse_embeddings: (batch, [sets,] tokens, hidden_size).
            prompt_dense_embeddings: (batch, [sets or 1,] rows, columns, hidden_size).
            prompt_padding_mask: (batch, [sets,] tokens), False for tokens that nothing attends to.
            multimask_output: True for the masks of an ambiguous prompt, False for that of a clear
                one, None for all: this one first.
        """
        sparse, dense = prompt_sparse_embeddings, prompt_dense_embeddings
        padding_mask = prompt_padding_mask
        has_sets = len(sparse.shape) == 4
        if not has_sets:
            sparse, dense = ops.expand_dims(sparse, 1), ops.expand_dims(dense, 1)
            padding_mask = None if padding_mask is None else ops.expand_dims(padding_mask, 1)
        batch, sets, _, width = ops.shape(sparse)
        rows, columns = image_embeddings.shape[1:3]
        own = ops.cast(
            ops.concatenate([ops.convert_to_tensor(self.iou_token),
                             ops.convert_to_tensor(self.mask_tokens)]), sparse.dtype,
        )  # fmt: skip
        own = ops.broadcast_to(own, (batch, sets, *own.shape))
        if padding_mask is not None:
            present = ops.ones(ops.shape(own)[:-1], "bool")
            padding_mask = ops.concatenate([present, padding_mask], axis=2)
        tokens = hidden = ops.concatenate([own, sparse], axis=2)
        image = ops.expand_dims(image_embeddings, 1) + dense
        image = ops.reshape(image, (*ops.shape(image)[:2], rows * columns, width))
        positions = ops.reshape(prompt_dense_positional_embeddings, (1, 1, rows * columns, width))
        for block in self.blocks:
            hidden, image = block(hidden, image, tokens, positions, padding_mask)
        attended = self.final_attention.attend_to_image(hidden + tokens, image + positions, image)
        hidden = self.final_norm(hidden + attended)
        chosen = {None: slice(None), True: slice(1, None), False: slice(0, 1)}[multimask_output]
        outputs = {
            "masks": self._masks(hidden[:, :, 1 : 1 + self.num_mask_tokens], image, rows, chosen),
            "iou_pred": self.iou_head(hidden[:, :, 0])[..., chosen],
        }
        return outputs if has_sets else {name: value[:, 0] for name, value in outputs.items()}

    def _masks(self, tokens: Any, image: Any, rows: int, chosen: slice) -> Any:
        """Return the logits (batch, sets, masks, 4 * rows, 4 * columns).

        Args:
            tokens: of all masks, (batch, sets, masks, hidden_size).
            image: (batch, sets, rows * columns, hidden_size).
            rows: of the image.
            chosen: which masks.
        """
        networks = range(self.num_mask_tokens)[chosen]
        weights = ops.stack([self.hypernetworks[i](tokens[:, :, i]) for i in networks], axis=2)
        x = self.activation(self.upscale_norm(_enlarge(self.upscale_conv_1, image)))
        x = self.activation(_enlarge(self.upscale_conv_2, x))
        # The last axes of x are those inside a position: rows and columns, each twice.
        batch, sets, cells, width = *ops.shape(x)[:3], x.shape[-1]
        x = ops.reshape(x, (batch, sets, cells * 16, width))
        masks = ops.matmul(weights, ops.swapaxes(x, -1, -2))
        count, columns = len(networks), cells // rows
        masks = ops.reshape(masks, (batch * sets, count, rows, columns, 2, 2, 2, 2))
        masks = ops.transpose(masks, (0, 1, 2, 4, 6, 3, 5, 7))
        return ops.reshape(masks, (batch, sets, count, 4 * rows, 4 * columns))


class TwoWayBlock(layers.Layer):
    """Attention of tokens to each other and to an image, a feed-forward network over the tokens,
    and attention of the image to the tokens.

    Args:
        hidden_dim: the width.
        num_heads: attention heads.
        intermediate_dim: the width inside the feed-forward network.
        downsample_rate: the width is divided by it in attention to and from the image.
        activation: of the feed-forward network.
        layer_norm_epsilon: of the normalisations.
        is_first: whether the tokens' attention to each other is without their positions, and takes
            the place of the tokens instead of being added.

    Inputs: see `call`. Output: tokens and image.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        downsample_rate: int = 2,
        activation: str = "relu",
        layer_norm_epsilon: float = 1e-5,
        is_first: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.intermediate_dim, self.is_first = intermediate_dim, is_first

        def attention(rate: int) -> DownsampledAttention:
            return DownsampledAttention(hidden_dim, num_heads, rate, dtype=policy)

        self.attention, self.to_image = attention(1), attention(downsample_rate)
        self.from_image = attention(downsample_rate)
        self.attention_norm, self.to_image_norm, self.output_norm, self.image_norm = (
            layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy) for _ in range(4)
        )
        self.intermediate = layers.Dense(
            intermediate_dim, activation=activation_of(activation), dtype=policy
        )
        self.output_dense = layers.Dense(hidden_dim, dtype=policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights.

        Args:
            input_shape: of the tokens.
        """
        for layer in (
            self.attention, self.attention_norm, self.to_image, self.to_image_norm,
            self.intermediate, self.output_norm, self.from_image, self.image_norm,
        ):  # fmt: skip
            layer.build(input_shape)
        self.output_dense.build((*input_shape[:-1], self.intermediate_dim))
        self.built = True

    def call(
        self, hidden: Any, image: Any, tokens: Any, positions: Any, padding_mask: Any = None
    ) -> tuple[Any, Any]:
        """Return the hidden states of tokens and image.

        Args:
            hidden: of the tokens, (batch, sets, tokens, hidden_dim).
            image: (batch, sets or 1, positions, hidden_dim).
            tokens: the positions of the tokens, which are the tokens at first.
            positions: of the image, (1, 1, positions, hidden_dim).
            padding_mask: (batch, sets, tokens), False for tokens that nothing attends to.
        """
        if self.is_first:
            hidden = self.attention.attend_to_each_other(hidden, hidden, padding_mask)
        else:
            placed = hidden + tokens
            hidden = hidden + self.attention.attend_to_each_other(placed, hidden, padding_mask)
        hidden = self.attention_norm(hidden)
        placed_image = image + positions
        attended = self.to_image.attend_to_image(hidden + tokens, placed_image, image)
        hidden = self.to_image_norm(hidden + attended)
        hidden = self.output_norm(hidden + self.output_dense(self.intermediate(hidden)))
        attended = self.from_image.attend_from_image(
            placed_image, hidden + tokens, hidden, padding_mask
        )
        return hidden, self.image_norm(image + attended)


class DownsampledAttention(layers.Layer):
    """Multi-head attention of a smaller width, between the tokens of prompts and an image.

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        downsample_rate: what the width inside is smaller by.

    Inputs: see its methods, one of which a block uses.
    """

    def __init__(self, hidden_dim: int, num_heads: int, downsample_rate: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        inner = hidden_dim // downsample_rate
        if inner % num_heads:
            raise ValueError(
                f"hidden_size / {downsample_rate} must be a multiple of num_heads={num_heads}, got "
                f"hidden_size={hidden_dim}."
            )
        self.num_heads, self.head_dim, self.inner = num_heads, inner // num_heads, inner

        def dense(size: int, name: str) -> layers.Dense:
            return layers.Dense(size, dtype=self.dtype_policy, name=name)

        self.query, self.key = dense(inner, "query"), dense(inner, "key")
        self.value, self.output_dense = dense(inner, "value"), dense(hidden_dim, "output")

    def build(self, input_shape: Any) -> None:
        """Make the projections.

        Args:
            input_shape: of tokens or image, (..., hidden_dim).
        """
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        self.output_dense.build((*input_shape[:-1], self.inner))
        self.built = True

    def attend_to_each_other(self, placed: Any, tokens: Any, padding_mask: Any = None) -> Any:
        """Return attention between the tokens of each set.

        Args:
            placed: the tokens with their positions, (batch, sets, tokens, hidden_dim).
            tokens: (batch, sets, tokens, hidden_dim).
            padding_mask: (batch, sets, tokens), False for tokens that nothing attends to.
        """
        batch, sets, count, _ = ops.shape(tokens)
        query, key, value = (
            ops.reshape(x, (batch * sets, count, self.num_heads, self.head_dim))
            for x in (self.query(placed), self.key(placed), self.value(tokens))
        )
        if padding_mask is not None:
            padding_mask = ops.reshape(padding_mask, (batch * sets, 1, 1, count))
        out = ops.dot_product_attention(query, key, value, mask=padding_mask)
        return self.output_dense(ops.reshape(out, (batch, sets, count, self.inner)))

    def attend_to_image(self, tokens: Any, placed_image: Any, image: Any) -> Any:
        """Return attention of tokens to an image.

        Args:
            tokens: with their positions, (batch, sets, tokens, hidden_dim).
            placed_image: the image with its positions, (batch, sets or 1, positions, hidden_dim).
            image: likewise.
        """
        # The bias of the keys changes all logits of a query by as much, and so no weight.
        query = self._heads(self.query(tokens))
        logits = self._logits(query, self.key, placed_image)
        weights = ops.cast(ops.softmax(logits, axis=-1), image.dtype)
        shape = ops.shape(weights)
        shared = image.shape[1] == 1
        pairs = (shape[0], 1, -1) if shared else (*shape[:2], shape[2] * shape[3])
        attended = ops.matmul(ops.reshape(weights, (*pairs, shape[4])), image)
        attended = ops.reshape(attended, (*shape[:4], image.shape[-1]))
        kernel = self._kernel(self.value)
        out = ops.einsum("bphtc,chd->bpthd", attended, kernel)
        out = ops.reshape(out, (*ops.shape(out)[:3], self.inner))
        return self.output_dense(out + ops.cast(self.value.bias.value, out.dtype))

    def attend_from_image(
        self, placed_image: Any, placed: Any, tokens: Any, padding_mask: Any = None
    ) -> Any:
        """Return attention of an image to tokens.

        Args:
            placed_image: the image with its positions, (batch, sets or 1, positions, hidden_dim).
            placed: the tokens with their positions, (batch, sets, tokens, hidden_dim).
            tokens: (batch, sets, tokens, hidden_dim).
            padding_mask: (batch, sets, tokens), False for tokens that nothing attends to.
        """
        key, value = self._heads(self.key(placed)), self._heads(self.value(tokens))
        bias = ops.reshape(self.query.bias.value, (self.num_heads, self.head_dim))
        bias = ops.einsum("bpthd,hd->bpht", key, ops.cast(bias, key.dtype)) * self.head_dim**-0.5
        bias = ops.cast(ops.expand_dims(bias, -1), "float32")
        logits = self._logits(key, self.query, placed_image) + bias
        if padding_mask is not None:
            hidden = ops.logical_not(padding_mask)[:, :, None, :, None]
            logits = ops.where(hidden, -1e9, logits)
        weights = ops.cast(ops.softmax(logits, axis=-2), value.dtype)
        kernel = ops.reshape(
            dense_kernel(self.output_dense, value.dtype), (self.num_heads, self.head_dim, -1)
        )
        values = ops.einsum("bpthd,hdc->bphtc", value, kernel)
        batch, sets, heads, count, positions = ops.shape(weights)
        weights = ops.reshape(weights, (batch, sets, heads * count, positions))
        values = ops.reshape(values, (batch, sets, heads * count, values.shape[-1]))
        out = ops.matmul(ops.swapaxes(weights, -1, -2), values)
        return out + ops.cast(self.output_dense.bias.value, out.dtype)

    def _heads(self, x: Any) -> Any:
        return ops.reshape(x, (*ops.shape(x)[:3], self.num_heads, self.head_dim))

    def _kernel(self, dense: layers.Dense) -> Any:
        """Return the kernel of a projection as (hidden_dim, heads, head_dim)."""
        kernel = dense_kernel(dense, self.compute_dtype)
        return ops.reshape(kernel, (kernel.shape[0], self.num_heads, self.head_dim))

    def _logits(self, tokens: Any, projection: layers.Dense, image: Any) -> Any:
        """Return (batch, sets, heads, tokens, positions), without the projection's bias.

        Args:
            tokens: projected, (batch, sets, tokens, heads, head_dim).
            projection: of the image, which is applied to the tokens instead, transposed.
            image: (batch, sets or 1, positions, hidden_dim).
        """
        scaled = tokens * self.head_dim**-0.5
        mapped = ops.einsum("bpthd,chd->bphtc", scaled, self._kernel(projection))
        shape = ops.shape(mapped)
        shared = image.shape[1] == 1
        pairs = (shape[0], 1, -1) if shared else (*shape[:2], shape[2] * shape[3])
        mapped = ops.reshape(mapped, (*pairs, shape[4]))
        logits = ops.matmul(mapped, ops.swapaxes(image, -1, -2))
        logits = ops.reshape(logits, (*shape[:4], image.shape[2]))
        return ops.cast(logits, "float32")


class FeedForward(layers.Layer):
    """Dense layers with rectified linear units between them.

    Args:
        hidden_dim: the width inside.
        output_dim: the width of the output.
        depth: the number of layers, at least 2.

    Inputs: (..., width). Output: (..., output_dim).
    """

    def __init__(self, hidden_dim: int, output_dim: int, depth: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim

        def dense(size: int, activation: str | None = "relu") -> layers.Dense:
            return layers.Dense(size, activation=activation, dtype=self.dtype_policy)

        self.first, self.last = dense(hidden_dim), dense(output_dim, None)
        self.between = [dense(hidden_dim) for _ in range(depth - 2)]

    def build(self, input_shape: Any) -> None:
        """Make the weights.

        Args:
            input_shape: (..., width).
        """
        self.first.build(input_shape)
        for layer in (*self.between, self.last):
            layer.build((*input_shape[:-1], self.hidden_dim))
        self.built = True

    def call(self, x: Any) -> Any:
        """Return the output.

        Args:
            x: (..., width).
        """
        x = self.first(x)
        for layer in self.between:
            x = layer(x)
        return self.last(x)


def dense_kernel(layer: layers.Dense, dtype: Any) -> Any:
    """Return the kernel of a dense layer as floats, with an update by LoRA, and not quantized.

    Args:
        layer: a built layer.
        dtype: of the result.
    """
    return ops.cast(layer.effective_weight(), dtype)


def _enlarge(layer: layers.Conv2DTranspose, x: Any) -> Any:
    """Return the products of a transposed convolution without overlap, (..., 2, 2, filters).

    Args:
        layer: with a kernel of 2 x 2 and strides of 2.
        x: (..., channels); the positions are not arranged to an image of twice the size.
    """
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), x.dtype)
    kernel = ops.reshape(ops.transpose(kernel, (3, 0, 1, 2)), (x.shape[-1], 4 * layer.filters))
    out = ops.reshape(ops.matmul(x, kernel), (*ops.shape(x)[:-1], 2, 2, layer.filters))
    return out + ops.cast(layer.bias.value, x.dtype)


# -- checkpoints ----------------------------------------------------------------------------------

_ATTENTIONS = {
    "blocks/{i}/attention": "transformer.layers.{i}.self_attn",
    "blocks/{i}/to_image": "transformer.layers.{i}.cross_attn_token_to_image",
    "blocks/{i}/from_image": "transformer.layers.{i}.cross_attn_image_to_token",
    "final_attention": "transformer.final_attn_token_to_image",
}
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output_dense": "out_proj"}
_NORMS = ("attention_norm", "to_image_norm", "output_norm", "image_norm")


def weight_rows(names: dict[str, str], depth: int | None = None) -> dict[str, str]:
    """Return the rows of the weight table, by the names of the parts in a checkpoint.

    Args:
        names: of `norm`, which a number follows, `final_norm`, `upscale_conv_1`, `upscale_norm` and
            `upscale_conv_2`.
        depth: the number of layers in each of the networks where these are numbered; None where
            the first and the last have names.
    """
    rows = {
        "iou_token": "iou_token.weight",
        "mask_tokens": "mask_tokens.weight",
        "final_norm": names["final_norm"],
        "blocks/{i}/intermediate": "transformer.layers.{i}.mlp.lin1",
        "blocks/{i}/output_dense": "transformer.layers.{i}.mlp.lin2",
    }
    for ours, theirs in _ATTENTIONS.items():
        rows |= {f"{ours}/{a}": f"{theirs}.{b}" for a, b in _PROJECTIONS.items()}
    for i, norm in enumerate(_NORMS, 1):
        rows[f"blocks/{{i}}/{norm}"] = f"transformer.layers.{{i}}.{names['norm']}{i}"
    for part in ("upscale_conv_1", "upscale_norm", "upscale_conv_2"):
        rows[part] = names[part]
    for ours, theirs in (
        ("hypernetworks/{i}", "output_hypernetworks_mlps.{i}"), ("iou_head", "iou_prediction_head")
    ):  # fmt: skip
        if depth is None:
            rows |= {
                f"{ours}/first": f"{theirs}.proj_in", f"{ours}/last": f"{theirs}.proj_out",
                f"{ours}/between/{{j}}": f"{theirs}.layers.{{j}}",
            }  # fmt: skip
        else:
            parts = ("first", *(f"between/{j}" for j in range(depth - 2)), "last")
            rows |= {f"{ours}/{part}": f"{theirs}.layers.{j}" for j, part in enumerate(parts)}
    return rows


_NAMES = {
    "norm": "layer_norm", "final_norm": "transformer.layer_norm_final_attn",
    "upscale_conv_1": "upscale_conv1", "upscale_norm": "upscale_layer_norm",
    "upscale_conv_2": "upscale_conv2",
}  # fmt: skip

SAM_DECODER = register(
    Family(
        "sam_mask_decoder", SAMMaskDecoder,
        {
            "hidden_size": "hidden_size", "num_layers": "num_hidden_layers",
            "intermediate_dim": "mlp_dim", "num_heads": "num_attention_heads",
            "num_multimask_outputs": "num_multimask_outputs", "iou_head_depth": "iou_head_depth",
            "iou_head_hidden_dim": "iou_head_hidden_dim",
            "attention_downsample_rate": "attention_downsample_rate",
            "intermediate_activation": "hidden_act", "layer_norm_epsilon": "layer_norm_eps",
        },
        WeightTable(weight_rows(_NAMES)),
        defaults={
            "hidden_size": 256, "hidden_act": "relu", "mlp_dim": 2048, "num_hidden_layers": 2,
            "num_attention_heads": 8, "attention_downsample_rate": 2, "num_multimask_outputs": 3,
            "iou_head_depth": 3, "iou_head_hidden_dim": 256, "layer_norm_eps": 1e-6,
        },
    )
)  # fmt: skip
