"""ViTDet, the image encoder of Segment Anything: Exploring Plain Vision Transformer Backbones for
Object Detection (Li et al., 2022, arXiv:2203.16527).

Traps of the published checkpoints: the tokens that fill the last windows up are zeros before the
projections, so that they are keys and values like others and are not masked; biases of relative
positions are products with queries that are not scaled; the normalisations of the neck have an
epsilon of 1e-6 whatever the config says.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hub.blocks.transformer import activation_of
from hub.families import Family, register
from hub.models.backbone import Backbone
from hub.models.vit import cubic_weights
from hub.weights.tables import WeightTable
from keraslite import KerasTensor, initializers, layers, ops

_NECK_EPSILON = 1e-6
_BAND = 1024  # tokens of an image at a time


class ViTDetBackbone(Backbone):
    """A vision transformer whose blocks attend within windows, but for a few that are global.

    Args:
        hidden_size: the width.
        num_layers: the number of blocks.
        intermediate_dim: the width inside the feed-forward networks.
        num_heads: attention heads of a block.
        global_attention_layer_indices: the blocks that attend to the whole image.
        image_shape: height, width (equal) and channels of the images that the positions are for.
        patch_size: height and width of a patch.
        num_output_channels: the channels of the output.
        use_bias: whether the projections to queries, keys and values have biases.
        use_abs_pos: whether there are embeddings of positions.
        use_rel_pos: whether attention has biases for relative positions.
        window_size: height and width of a window, in patches.
        layer_norm_epsilon: of the normalisations in the blocks.
        activation: of the feed-forward networks.

    Inputs: images (batch, height, width, channels), normalised as the checkpoint expects, or a
    dict with these as `images`; of another size than `image_shape` the positions are interpolated.
    Output: (batch, height / patch_size, width / patch_size, num_output_channels).

    >>> model = ViTDetBackbone(8, 2, 16, 2, (1,), (16, 16, 3), 2, num_output_channels=4)
    >>> [tuple(model(np.ones((1, n, 16, 3), "float32")).shape) for n in (16, 12)]
    [(1, 8, 8, 4), (1, 6, 8, 4)]
    """

    family = "sam_vision_model"
    input_names: Mapping[str, str] = {}

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        intermediate_dim: int,
        num_heads: int,
        global_attention_layer_indices: Sequence[int],
        image_shape: Sequence[int] = (1024, 1024, 3),
        patch_size: int = 16,
        num_output_channels: int = 256,
        use_bias: bool = True,
        use_abs_pos: bool = True,
        use_rel_pos: bool = True,
        window_size: int = 14,
        layer_norm_epsilon: float = 1e-6,
        activation: str = "gelu",
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        config["global_attention_layer_indices"] = list(global_attention_layer_indices)
        config["image_shape"] = list(image_shape)
        height, width, num_channels = image_shape
        if height != width or not 0 < patch_size <= height or height % patch_size:
            raise ValueError(
                "image_shape must have equal height and width, a multiple of "
                f"patch_size={patch_size}, got {tuple(image_shape)}."
            )
        super().__init__(dtype=dtype, **kwargs)
        self.hidden_dim, self.num_output_channels = hidden_size, num_output_channels
        self.image_shape, self.patch_size = tuple(image_shape), patch_size
        self.grid, self.use_abs_pos = height // patch_size, use_abs_pos
        policy = self.dtype_policy
        self.patch_embedding = layers.Conv2D(
            hidden_size, patch_size, strides=patch_size, dtype=policy, name="patch_embedding"
        )
        self.blocks = [
            ViTDetBlock(
                hidden_size, num_heads, intermediate_dim, self.grid,
                0 if i in global_attention_layer_indices else window_size, activation, use_bias,
                use_rel_pos, layer_norm_epsilon, dtype=policy,
            )
            for i in range(num_layers)
        ]  # fmt: skip

        def neck(size: int, name: str) -> layers.Conv2D:
            return layers.Conv2D(
                num_output_channels, size, padding="same", use_bias=False, dtype=policy, name=name
            )

        self.neck_conv_1, self.neck_conv_2 = neck(1, "neck_conv_1"), neck(3, "neck_conv_2")
        self.neck_norm_1, self.neck_norm_2 = (
            layers.LayerNormalization(epsilon=_NECK_EPSILON, dtype=policy) for _ in range(2)
        )
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        self.patch_embedding.build((None, *self.image_shape))
        self.position_embedding = None
        if self.use_abs_pos:
            self.position_embedding = self.add_weight(
                (1, self.grid, self.grid, self.hidden_dim),
                initializers.TruncatedNormal(stddev=0.02), name="position_embedding",
            )  # fmt: skip
        for layer in (*self.blocks, self.neck_conv_1):
            layer.build((None, self.grid, self.grid, self.hidden_dim))
        for layer in (self.neck_norm_1, self.neck_conv_2, self.neck_norm_2):
            layer.build((None, self.grid, self.grid, self.num_output_channels))
        self.built = True

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return [KerasTensor((count, *self.image_shape)) for count in (1, 2)]

    def call(self, inputs: Any, training: bool = False, output_hidden_states: bool = False) -> Any:
        """Return the embeddings of the images.

        Args:
            inputs: images, or a dict of them.
            training: has no effect: there is no dropout.
            output_hidden_states: whether to return a dict of these as `sequence_output` and of the
                `hidden_states` (batch, rows, columns, hidden_size) of every layer.
        """
        images = ops.convert_to_tensor(inputs["images"] if isinstance(inputs, dict) else inputs)
        if len(images.shape) != 4 or images.shape[-1] != self.image_shape[-1]:
            raise ValueError(
                f"Images must have the shape (batch, height, width, {self.image_shape[-1]}), got "
                f"{tuple(images.shape)}."
            )
        hidden = self.patch_embedding(ops.cast(images, self.compute_dtype))
        if self.position_embedding is not None:
            hidden = hidden + self._positions(*hidden.shape[1:3])
        states = [hidden]
        for block in self.blocks:
            hidden = block(hidden)
            states.append(hidden)
        hidden = self.neck_norm_1(self.neck_conv_1(hidden))
        hidden = self.neck_norm_2(self.neck_conv_2(hidden))
        if output_hidden_states:
            return {"sequence_output": hidden, "hidden_states": states}
        return hidden

    def _positions(self, height: int, width: int) -> Any:
        """Return the position embeddings of a grid of patches."""
        positions = ops.cast(self.position_embedding.value, self.compute_dtype)
        if (height, width) == (self.grid, self.grid):
            return positions
        rows, columns = (
            ops.convert_to_tensor(cubic_weights(self.grid, size), positions.dtype)
            for size in (height, width)
        )
        return ops.einsum("hi,wj,nijd->nhwd", rows, columns, positions)


class ViTDetBlock(layers.Layer):
    """A transformer block on a grid of tokens, which are normalised before attention and before the
    feed-forward network.

    Args:
        hidden_dim: the width.
        num_heads: attention heads.
        intermediate_dim: the width inside the feed-forward network.
        grid: the height and width of the grid in tokens.
        window_size: the height and width of a window; 0 for attention to the whole grid.
        activation: of the feed-forward network.
        use_bias: whether the projections to queries, keys and values have biases.
        use_relative_positions: whether attention has biases for relative positions.
        layer_norm_epsilon: of the normalisations.

    Inputs: (batch, rows, columns, hidden_dim). Output: likewise.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        grid: int,
        window_size: int = 0,
        activation: str = "gelu",
        use_bias: bool = True,
        use_relative_positions: bool = True,
        layer_norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.window_size, self.intermediate_dim = window_size, intermediate_dim
        self.attention = GridAttention(
            hidden_dim, num_heads, window_size or grid, use_bias, use_relative_positions,
            dtype=policy,
        )  # fmt: skip
        self.attention_norm, self.output_norm = (
            layers.LayerNormalization(epsilon=layer_norm_epsilon, dtype=policy) for _ in range(2)
        )
        self.intermediate = layers.Dense(
            intermediate_dim, activation=activation_of(activation), dtype=policy
        )
        self.output_dense = layers.Dense(hidden_dim, dtype=policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights.

        Args:
            input_shape: (batch, rows, columns, hidden_dim).
        """
        for layer in (self.attention_norm, self.attention, self.output_norm, self.intermediate):
            layer.build(input_shape)
        self.output_dense.build((*input_shape[:-1], self.intermediate_dim))
        self.built = True

    def call(self, hidden: Any) -> Any:
        """Return the hidden states.

        Args:
            hidden: (batch, rows, columns, hidden_dim).
        """
        if self.window_size:
            return self._in_bands(self._in_windows, hidden, self.window_size)
        attended = self.attention(self.attention_norm(hidden))
        return self._in_bands(self._feed_forward, hidden + attended, 1)

    def _in_windows(self, hidden: Any) -> Any:
        """Return the hidden states after attention within windows and the feed-forward network."""
        qkv, bias = self.attention.qkv(self.attention_norm(hidden)), self.attention.qkv.bias
        # Zeros that are projected like other tokens are the bias.
        filling = None if bias is None else ops.cast(bias.value, qkv.dtype)
        windows = partition_windows(qkv, self.window_size, filling)
        x = join_windows(self.attention.attend(windows), self.window_size, hidden.shape[1:3])
        return self._feed_forward(hidden + self.attention.output_dense(x))

    def _feed_forward(self, hidden: Any) -> Any:
        """Return the hidden states after the feed-forward network."""
        return hidden + self.output_dense(self.intermediate(self.output_norm(hidden)))

    def _in_bands(self, function: Any, hidden: Any, least: int) -> Any:
        """Return a function of the grid, a few of its rows at a time.

        The wide values inside are then small enough to stay in the cache, and in memory that is
        used again.

        Args:
            function: of (batch, rows, columns, hidden_dim).
            hidden: likewise.
            least: rows that belong together.
        """
        rows, columns = hidden.shape[1:3]
        step = least * max(1, round(_BAND / (least * columns)))
        if step >= rows:
            return function(hidden)
        bands = [function(hidden[:, i : i + step]) for i in range(0, rows, step)]
        return ops.concatenate(bands, axis=1)


class GridAttention(layers.Layer):
    """Multi-head attention between tokens on a grid, with biases for relative rows and columns.

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        grid: the height and width that the relative positions are for; for others they are
            interpolated.
        use_bias: whether the projections to queries, keys and values have biases.
        use_relative_positions: whether there are biases for relative positions.

    Inputs: (batch, rows, columns, hidden_dim). Output: likewise.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        grid: int,
        use_bias: bool = True,
        use_relative_positions: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if hidden_dim % num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads={num_heads}, got {hidden_dim}."
            )
        self.num_heads, self.head_dim, self.grid = num_heads, hidden_dim // num_heads, grid
        self.use_relative_positions = use_relative_positions
        policy = self.dtype_policy
        self.qkv = layers.Dense(3 * hidden_dim, use_bias=use_bias, dtype=policy, name="qkv")
        self.output_dense = layers.Dense(hidden_dim, dtype=policy, name="output")

    def build(self, input_shape: Any) -> None:
        """Make the projections and the embeddings of relative positions.

        Args:
            input_shape: (batch, rows, columns, hidden_dim).
        """
        self.qkv.build(input_shape)
        self.output_dense.build(input_shape)
        if self.use_relative_positions:
            self.row_positions, self.column_positions = (
                self.add_weight((2 * self.grid - 1, self.head_dim), "zeros", name=name)
                for name in ("row_positions", "column_positions")
            )
        self.built = True

    def attend(self, qkv: Any) -> Any:
        """Return attention (batch, rows, columns, hidden_dim), before the output projection.

        Args:
            qkv: queries, keys and values in one, (batch, rows, columns, 3 * hidden_dim).
        """
        batch, rows, columns, width = ops.shape(qkv)
        shape, heads = (batch, rows, columns, width // 3), (self.num_heads, self.head_dim)
        qkv = ops.reshape(qkv, (batch, rows * columns, 3, *heads))
        query, key, value = (qkv[:, :, i] for i in range(3))
        if not self.use_relative_positions:
            out = ops.dot_product_attention(query, key, value)
            return ops.reshape(out, shape)
        on_grid = ops.reshape(query, (batch, rows, columns, *heads))
        by_row, by_column = (
            ops.reshape(
                ops.einsum(equation, on_grid, self._relative(positions, size)),
                (batch, self.num_heads, rows * columns, size),
            )
            for equation, positions, size in (
                ("brcnd,rkd->bnrck", self.row_positions, rows),
                ("brcnd,ckd->bnrck", self.column_positions, columns),
            )
        )
        return ops.reshape(ops.grid_attention(query, key, value, by_row, by_column), shape)

    def call(self, hidden: Any) -> Any:
        """Return the attention output.

        Args:
            hidden: (batch, rows, columns, hidden_dim).
        """
        return self.output_dense(self.attend(self.qkv(hidden)))

    def _relative(self, positions: Any, size: int) -> Any:
        """Return the embeddings (size, size, head_dim) of queries' positions relative to keys'."""
        table = ops.cast(positions.value, self.compute_dtype)
        if size != self.grid:
            weights = linear_weights(2 * self.grid - 1, 2 * size - 1)
            table = ops.matmul(ops.convert_to_tensor(weights, table.dtype), table)
        index = np.arange(size)[:, None] - np.arange(size)[None] + size - 1
        return ops.take(table, index.astype("int32"), axis=0)


def partition_windows(x: Any, size: int, filling: Any = None) -> Any:
    """Return the windows (batch * windows, size, size, channels) of grids.

    Args:
        x: (batch, rows, columns, channels).
        size: the height and width of a window.
        filling: the token (channels,) that fills the last windows up; zeros by default.

    >>> partition_windows(np.ones((1, 4, 6, 2), "float32"), 4).shape
    (2, 4, 4, 2)
    """
    x = ops.convert_to_tensor(x)
    channels = x.shape[-1]
    filling = ops.zeros((channels,), x.dtype) if filling is None else filling
    for axis in (1, 2):
        missing = -x.shape[axis] % size
        if missing:
            shape = list(ops.shape(x))
            shape[axis] = missing
            x = ops.concatenate([x, ops.broadcast_to(filling, tuple(shape))], axis=axis)
    down, across = x.shape[1] // size, x.shape[2] // size
    x = ops.reshape(x, (-1, down, size, across, size, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size, size, channels))


def join_windows(x: Any, size: int, grid: Sequence[int]) -> Any:
    """Return grids of tokens, the inverse of `partition_windows`.

    Args:
        x: (batch * windows, size, size, channels).
        size: the height and width of a window.
        grid: rows and columns.

    >>> x = np.arange(48.0, dtype="float32").reshape(1, 4, 6, 2)
    >>> bool(np.all(join_windows(partition_windows(x, 4), 4, (4, 6)) == x))
    True
    """
    rows, columns = grid
    down, across = -(-rows // size), -(-columns // size)
    x = ops.reshape(x, (-1, down, across, size, size, x.shape[-1]))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    x = ops.reshape(x, (-1, down * size, across * size, x.shape[-1]))
    return x[:, :rows, :columns]


@functools.cache
def linear_weights(source: int, target: int) -> np.ndarray:
    """Return the matrix (target, source) of PyTorch's linear interpolation along an axis.

    Args:
        source: the number of values.
        target: the number of interpolated values.

    >>> linear_weights(2, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    centers = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0.0, 1 - np.abs(centers[:, None] - np.arange(source)))


# -- checkpoints ----------------------------------------------------------------------------------


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a config.json states in another form."""
    size, indices = config["image_size"], config["global_attn_indexes"]
    if type(size) is not int or size < 1:
        raise ValueError(f"The vision config has image_size={size!r}: expected an integer.")
    if not isinstance(indices, list | tuple) or any(type(i) is not int for i in indices):
        raise ValueError(
            f"The vision config has global_attn_indexes={indices!r}: expected a list of integers."
        )
    inner = config.get("mlp_dim")
    if inner is None:
        inner = int(config["hidden_size"] * config["mlp_ratio"])
    return {
        "image_shape": (size, size, config["num_channels"]),
        "global_attention_layer_indices": indices,
        "intermediate_dim": inner,
    }


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that follow from several arguments."""
    size, _, channels = arguments["image_shape"]
    return {
        "image_size": size, "num_channels": channels,
        "global_attn_indexes": list(arguments["global_attention_layer_indices"]),
        "mlp_dim": arguments["intermediate_dim"],
        "num_pos_feats": arguments["num_output_channels"] // 2,
    }  # fmt: skip


_ROWS = {
    "patch_embedding": "patch_embed.projection",
    "position_embedding": "pos_embed",
    "blocks/{i}/attention_norm": "layers.{i}.layer_norm1",
    "blocks/{i}/attention/qkv": "layers.{i}.attn.qkv",
    "blocks/{i}/attention/output_dense": "layers.{i}.attn.proj",
    "blocks/{i}/attention/row_positions": "layers.{i}.attn.rel_pos_h",
    "blocks/{i}/attention/column_positions": "layers.{i}.attn.rel_pos_w",
    "blocks/{i}/output_norm": "layers.{i}.layer_norm2",
    "blocks/{i}/intermediate": "layers.{i}.mlp.lin1",
    "blocks/{i}/output_dense": "layers.{i}.mlp.lin2",
    "neck_conv_1": "neck.conv1",
    "neck_norm_1": "neck.layer_norm1",
    "neck_conv_2": "neck.conv2",
    "neck_norm_2": "neck.layer_norm2",
}

SAM_VISION = register(
    Family(
        "sam_vision_model", ViTDetBackbone,
        {
            "hidden_size": "hidden_size", "num_layers": "num_hidden_layers",
            "num_heads": "num_attention_heads", "patch_size": "patch_size",
            "num_output_channels": "output_channels", "use_bias": "qkv_bias",
            "use_abs_pos": "use_abs_pos", "use_rel_pos": "use_rel_pos",
            "window_size": "window_size", "layer_norm_epsilon": "layer_norm_eps",
            "activation": "hidden_act",
        },
        WeightTable(_ROWS), "SamVisionModel", prefix="vision_encoder.",
        own_prefix="vision_encoder.",
        other_heads=(r"(prompt_encoder|mask_decoder|shared_image_embedding)\..*",),
        defaults={
            "hidden_size": 768, "output_channels": 256, "num_hidden_layers": 12,
            "num_attention_heads": 12, "num_channels": 3, "image_size": 1024, "patch_size": 16,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "attention_dropout": 0.0,
            "qkv_bias": True, "mlp_ratio": 4.0, "use_abs_pos": True, "use_rel_pos": True,
            "window_size": 14, "global_attn_indexes": (2, 5, 8, 11),
        },
        fixed={"attention_dropout": (0.0,)}, read=_read, write=_write,
    )
)  # fmt: skip
