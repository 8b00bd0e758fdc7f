"""The U-Net of Stable Diffusion 1 and 2: High-Resolution Image Synthesis with Latent Diffusion
Models (Rombach et al., 2022, arXiv:2112.10752).

Traps of the published checkpoints: `attention_head_dim` is the number of heads; projections around
the transformers are 1x1 convolutions in version 1, dense layers in version 2; queries, keys and
values have no bias, but the output has; normalisations have an epsilon of 1e-5 in the residual
blocks and 1e-6 before the transformers; the timestep embedding begins with the cosines.
"""

import math
from typing import Any

from hub.blocks.convolutional import Downsample, ResidualBlock, Upsample, conv
from hub.blocks.transformer import Attention
from hub.families import Family, register
from hub.models.backbone import Backbone
from hub.weights.tables import WeightTable
from keraslite import layers, ops

_HAS_ATTENTION = {
    "CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True,
    "UpBlock2D": False,
}  # fmt: skip


def timestep_embedding(
    timesteps: Any, width: int, flip_sin_to_cos: bool = True, freq_shift: float = 0
) -> Any:
    """Return the sinusoidal embedding of timesteps (Vaswani et al., 2017, arXiv:1706.03762).

    Args:
        timesteps: (batch,).
        width: the width of the embedding.
        flip_sin_to_cos: whether the cosines come first.
        freq_shift: subtracted from the number of frequencies in their spacing.

    >>> tuple(timestep_embedding(np.array([1.0, 2.0], "float32"), 8).shape)
    (2, 8)
    """
    half = width // 2
    exponents = ops.arange(half, dtype="float32") * (-math.log(10000.0) / (half - freq_shift))
    angles = ops.cast(timesteps, "float32")[:, None] * ops.exp(exponents)[None]
    sin, cos = ops.sin(angles), ops.cos(angles)
    return ops.concatenate([cos, sin] if flip_sin_to_cos else [sin, cos], axis=-1)


class GatedBlock(layers.Layer):
    """Self-attention, cross-attention to the context, and a gated feed-forward network.

    Args:
        hidden_dim: the width.
        num_heads: the number of heads.
        context_dim: the width of the context.
        dropout: of the attention's outputs and before the last layer of the network.
        upcast: whether attention is computed in float32 in half precision too.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, context_dim: int, dropout: float = 0.0,
        upcast: bool = False, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        policy, self.hidden_dim = self.dtype_policy, hidden_dim

        def attention(source_dim: int) -> Attention:
            return Attention(
                hidden_dim, num_heads, use_bias=False, output_bias=True, source_dim=source_dim,
                upcast=upcast, dtype=policy,
            )  # fmt: skip

        self.norm1, self.norm2, self.norm3 = (
            layers.LayerNormalization(epsilon=1e-5, dtype=policy) for _ in range(3)
        )
        self.attn1, self.attn2 = attention(hidden_dim), attention(context_dim)
        self.gated = layers.Dense(8 * hidden_dim, dtype=policy)
        self.output_dense = layers.Dense(hidden_dim, dtype=policy)
        self.dropout = layers.Dropout(dropout, dtype=policy)

    def build(self, hidden_shape: Any, context_shape: Any = None) -> None:
        """Make the weights.

        Args:
            hidden_shape: not used.
            context_shape: not used.
        """
        shape = (None, None, self.hidden_dim)
        for layer in (self.norm1, self.norm2, self.norm3, self.attn1, self.attn2, self.gated):
            layer.build(shape)
        self.output_dense.build((None, None, 4 * self.hidden_dim))
        self.built = True

    def call(self, hidden: Any, context: Any, training: bool = False) -> Any:
        """Return the new hidden states.

        Args:
            hidden: the hidden states (batch, pixels, hidden_dim).
            context: the states to attend to (batch, length, context_dim).
            training: whether to apply dropout.
        """
        out = self.attn1(self.norm1(hidden), training=training)
        hidden = hidden + self.dropout(out, training=training)
        out = self.attn2(self.norm2(hidden), keys=self.attn2.project(context), training=training)
        hidden = hidden + self.dropout(out, training=training)
        linear, gate = ops.split(self.gated(self.norm3(hidden)), 2, axis=-1)
        out = self.dropout(linear * ops.gelu(gate, approximate=False), training=training)
        return hidden + self.output_dense(out)


class SpatialTransformer(layers.Layer):
    """A transformer block over all pixels of an image, between two projections.

    Args:
        channels: the channels of the image.
        num_heads: the number of heads.
        context_dim: the width of the context.
        groups: of the normalisation.
        linear: whether the projections are dense layers instead of convolutions.
        dropout: as for the block.
        upcast: as for the block.
    """

    def __init__(
        self, channels: int, num_heads: int, context_dim: int, groups: int = 32,
        linear: bool = False, dropout: float = 0.0, upcast: bool = False, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        policy, self.channels = self.dtype_policy, channels

        def projection() -> layers.Layer:
            return layers.Dense(channels, dtype=policy) if linear else conv(channels, 1, policy)

        self.norm = layers.GroupNormalization(groups, epsilon=1e-6, dtype=policy)
        self.proj_in, self.proj_out = projection(), projection()
        self.block = GatedBlock(channels, num_heads, context_dim, dropout, upcast, dtype=policy)

    def build(self, hidden_shape: Any, context_shape: Any = None) -> None:
        """Make the weights.

        Args:
            hidden_shape: of the images.
            context_shape: not used.
        """
        for layer in (self.norm, self.proj_in, self.proj_out):
            layer.build(hidden_shape)
        self.block.build((None, None, self.channels))
        self.built = True

    def call(self, hidden: Any, context: Any, training: bool = False) -> Any:
        """Return the new image.

        Args:
            hidden: the image (batch, height, width, channels).
            context: the states to attend to (batch, length, context_dim).
            training: whether to apply dropout.
        """
        shape = ops.shape(hidden)
        pixels = self.proj_in(self.norm(hidden))
        pixels = ops.reshape(pixels, (shape[0], shape[1] * shape[2], shape[3]))
        pixels = ops.reshape(self.block(pixels, context, training=training), shape)
        return hidden + self.proj_out(pixels)


class Stage(layers.Layer):
    """Residual blocks of one resolution, each followed by a transformer if there are any.

    Args:
        blocks: the residual blocks.
        transformers: one for each block, or for each but the last, or none.
        halved: a `Downsample` after the blocks, or None.
        doubled: an `Upsample` after the blocks, or None.
    """

    def __init__(
        self, blocks: list, transformers: list, halved: Any = None, doubled: Any = None,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.resnets, self.attentions = blocks, transformers
        self.halved, self.doubled = halved, doubled
        self.built = True

    def call(
        self, hidden: Any, time: Any, context: Any, skips: list | None = None,
        like: Any = None, training: bool = False,
    ) -> Any:  # fmt: skip
        """Return the last output of an upsampling stage, else the list of all outputs.

        Args:
            hidden: the image.
            time: the timestep embedding.
            context: the states that the transformers attend to.
            skips: of an upsampling stage, the outputs of the downsampling stages to concatenate,
                one for each block, the last one first.
            like: a tensor whose height and width the upsampled output is cropped to.
            training: whether to apply dropout.
        """
        outputs = []
        for i, block in enumerate(self.resnets):
            if skips is not None:
                hidden = ops.concatenate([hidden, skips[-1 - i]], axis=-1)
            hidden = block(hidden, time, training=training)
            if i < len(self.attentions):
                hidden = self.attentions[i](hidden, context, training=training)
            outputs.append(hidden)
        if self.halved is not None:
            outputs.append(self.halved(hidden))
        if skips is None:
            return outputs
        return hidden if self.doubled is None else self.doubled(hidden, like)


class UNet2DConditionModel(Backbone):
    """The U-Net that predicts the noise of latents, conditioned on a text.

    Args:
        in_channels: the channels of the latents; 9 with a mask and a masked image (inpainting).
        out_channels: the channels of the output.
        block_out_channels: the channels of each stage; all but the last downsample the image.
        layers_per_block: the number of residual blocks of a stage.
        cross_attention_dim: the width of the context.
        attention_head_dim: the number of heads, in spite of its name; for each stage or for all.
        down_block_types: "CrossAttnDownBlock2D" or "DownBlock2D" for each stage.
        up_block_types: "UpBlock2D" or "CrossAttnUpBlock2D", from the smallest image on.
        use_linear_projection: whether the projections around the transformers are dense layers.
        norm_num_groups: groups of the normalisations.
        norm_eps: their epsilon in the residual blocks.
        flip_sin_to_cos: whether the timestep embedding begins with the cosines.
        freq_shift: of the timestep embedding.
        upcast_attention: whether attention is computed in float32 in half precision too.
        dropout: of residual blocks and transformers.
        sample_size: the default height and width of the latents.

    Inputs: a dict of `latents` (batch, height, width, in_channels), `timestep` (batch,) or a
    number, and `context` (batch, length, cross_attention_dim). Output: (batch, height, width,
    out_channels).

    >>> model = UNet2DConditionModel(block_out_channels=(8, 16), attention_head_dim=2,
    ...     down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), norm_num_groups=4,
    ...     up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=6)
    >>> out = model({"latents": np.ones((1, 8, 8, 4), "float32"), "timestep": 3,
    ...     "context": np.ones((1, 5, 6), "float32")})
    >>> tuple(out.shape)
    (1, 8, 8, 4)
    """

    family = "UNet2DConditionModel"

    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 768,
        attention_head_dim: int | tuple[int, ...] = 8,
        down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        use_linear_projection: bool = False,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        flip_sin_to_cos: bool = True,
        freq_shift: float = 0,
        upcast_attention: bool = False,
        dropout: float = 0.0,
        sample_size: int | tuple[int, ...] | None = 64,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        super().__init__(dtype=dtype, **kwargs)
        channels = tuple(block_out_channels)
        num_stages, policy = len(channels), self.dtype_policy
        heads = attention_head_dim
        heads = (heads,) * num_stages if isinstance(heads, int) else tuple(heads)
        down, up = tuple(down_block_types), tuple(up_block_types)
        if not len(down) == len(up) == len(heads) == num_stages:
            raise ValueError(
                "The options of stages must have the same length, got "
                f"block_out_channels={channels}, attention_head_dim={heads}, "
                f"down_block_types={down}, up_block_types={up}."
            )
        for block_type in (*down, *up):
            if block_type not in _HAS_ATTENTION:
                raise ValueError(
                    f"A block type must be one of {list(_HAS_ATTENTION)}, got {block_type!r}."
                )
        self.config, self.time_dim = config, 4 * channels[0]

        def block(size: int) -> ResidualBlock:
            return ResidualBlock(
                size, norm_num_groups, norm_eps, self.time_dim, dropout, dtype=policy
            )

        def transformers(stage: int, count: int) -> list[SpatialTransformer]:
            return [
                SpatialTransformer(
                    channels[stage], heads[stage], cross_attention_dim, norm_num_groups,
                    use_linear_projection, dropout, upcast_attention, dtype=policy,
                )
                for _ in range(count)
            ]  # fmt: skip

        self.time_embedding_1 = layers.Dense(self.time_dim, "silu", dtype=policy)
        self.time_embedding_2 = layers.Dense(self.time_dim, dtype=policy)
        self.conv_in = conv(channels[0], 3, policy)
        self.down = [
            Stage(
                [block(channels[i]) for _ in range(layers_per_block)],
                transformers(i, layers_per_block * _HAS_ATTENTION[down[i]]),
                halved=Downsample(channels[i], dtype=policy) if i < num_stages - 1 else None,
                dtype=policy,
            )
            for i in range(num_stages)
        ]  # fmt: skip
        self.mid = Stage([block(channels[-1]) for _ in range(2)], transformers(-1, 1), dtype=policy)
        self.up = [
            Stage(
                [block(channels[-1 - i]) for _ in range(layers_per_block + 1)],
                transformers(-1 - i, (layers_per_block + 1) * _HAS_ATTENTION[up[i]]),
                doubled=Upsample(channels[-1 - i], dtype=policy) if i < num_stages - 1 else None,
                dtype=policy,
            )
            for i in range(num_stages)
        ]  # fmt: skip
        self.conv_norm_out = layers.GroupNormalization(
            norm_num_groups, epsilon=norm_eps, dtype=policy
        )
        self.conv_out = conv(out_channels, 3, policy)
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        channels, depth = tuple(self.config["block_out_channels"]), self.config["layers_per_block"]
        self.time_embedding_1.build((None, channels[0]))
        self.time_embedding_2.build((None, self.time_dim))
        self.conv_in.build((None, None, None, self.config["in_channels"]))
        skips, width = [channels[0]], channels[0]
        for stage, size in zip(self.down, channels, strict=True):
            width = _build_stage(stage, [width] + [size] * (depth - 1), size)
            skips += [size] * (depth + (stage.halved is not None))
        _build_stage(self.mid, [width] * 2, width)
        for stage, size in zip(self.up, reversed(channels), strict=True):
            in_channels = [n + skips.pop() for n in [width] + [size] * depth]
            width = _build_stage(stage, in_channels, size)
        self.conv_norm_out.build((None, None, None, channels[0]))
        self.conv_out.build((None, None, None, channels[0]))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the model output for latents: noise or velocity, by the prediction type.

        Args:
            inputs: `latents`, `timestep` and `context`.
            training: whether to apply dropout.

        Raises:
            ValueError: latents or context have a wrong number of channels.
        """
        latents, context = inputs["latents"], inputs["context"]
        for name, value, size in (
            ("latents", latents, self.config["in_channels"]),
            ("context", context, self.config["cross_attention_dim"]),
        ):
            if value.shape[-1] != size:
                raise ValueError(
                    f"`{name}` must have {size} channels on the last axis, got the shape "
                    f"{tuple(value.shape)}."
                )
        timesteps = ops.broadcast_to(
            ops.reshape(ops.cast(inputs["timestep"], "float32"), (-1,)), (ops.shape(latents)[0],)
        )
        width = self.config["block_out_channels"][0]
        time = timestep_embedding(
            timesteps, width, self.config["flip_sin_to_cos"], self.config["freq_shift"]
        )
        time = ops.cast(time, self.compute_dtype)
        time = self.time_embedding_2(self.time_embedding_1(time))
        hidden = self.conv_in(latents)
        skips = [hidden]
        for stage in self.down:
            skips += stage(hidden, time, context, training=training)
            hidden = skips[-1]
        hidden = self.mid(hidden, time, context, training=training)[-1]
        for stage in self.up:
            start = len(skips) - len(stage.resnets)
            like = skips[start - 1] if stage.doubled is not None else None
            hidden = stage(hidden, time, context, skips[start:], like, training=training)
            skips = skips[:start]
        return self.conv_out(self.conv_norm_out(hidden, activation="silu"))


def _build_stage(stage: Stage, in_channels: list[int], out_channels: int) -> int:
    """Build a stage from the input channels of its blocks, and return its output channels."""
    for block, channels in zip(stage.resnets, in_channels, strict=True):
        block.build((None, None, None, channels))
    for layer in (*stage.attentions, stage.halved, stage.doubled):
        if layer is not None:
            layer.build((None, None, None, out_channels))
    return out_channels


def _rows() -> dict[str, str]:
    """Return the names of the weights: ours -> those of diffusers."""
    rows = {
        "time_embedding_1": "time_embedding.linear_1", "time_embedding_2":
        "time_embedding.linear_2", "conv_in": "conv_in", "conv_norm_out": "conv_norm_out",
        "conv_out": "conv_out", "down/{i}/halved/conv": "down_blocks.{i}.downsamplers.0.conv",
        "up/{i}/doubled/conv": "up_blocks.{i}.upsamplers.0.conv",
    }  # fmt: skip
    attention = {
        "query": "to_q", "key": "to_k", "value": "to_v", "output_dense": "to_out.0",
    }  # fmt: skip
    block = {
        **{f"norm{n}": f"norm{n}" for n in (1, 2, 3)},
        **{f"attn{n}/{a}": f"attn{n}.{b}" for n in (1, 2) for a, b in attention.items()},
        "gated": "ff.net.0.proj", "output_dense": "ff.net.2",
    }  # fmt: skip
    for ours, theirs in (
        ("down/{i}", "down_blocks.{i}"), ("mid", "mid_block"), ("up/{i}", "up_blocks.{i}"),
    ):  # fmt: skip
        for name in ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"):
            rows[f"{ours}/resnets/{{j}}/{name}"] = f"{theirs}.resnets.{{j}}.{name}"
        for name in ("norm", "proj_in", "proj_out"):
            rows[f"{ours}/attentions/{{j}}/{name}"] = f"{theirs}.attentions.{{j}}.{name}"
        for a, b in block.items():
            rows[f"{ours}/attentions/{{j}}/block/{a}"] = (
                f"{theirs}.attentions.{{j}}.transformer_blocks.0.{b}"
            )
    return rows


_CONFIG = (
    "in_channels", "out_channels", "block_out_channels", "layers_per_block", "cross_attention_dim",
    "attention_head_dim", "down_block_types", "up_block_types", "use_linear_projection",
    "norm_num_groups", "norm_eps", "flip_sin_to_cos", "freq_shift", "upcast_attention", "dropout",
    "sample_size",
)  # fmt: skip

# Options that Stable Diffusion does not use, by the values that switch them off.
_ONES = """downsample_padding mid_block_scale_factor resnet_out_scale_factor
    transformer_layers_per_block"""
_OFF = """center_input_sample dual_cross_attention only_cross_attention resnet_skip_time_act
    class_embeddings_concat mid_block_only_cross_attention"""
_ABSENT = """time_embedding_dim time_embedding_act_fn timestep_post_act time_cond_proj_dim
    class_embed_type addition_embed_type num_class_embeds encoder_hid_dim encoder_hid_dim_type
    num_attention_heads reverse_transformer_layers_per_block cross_attention_norm"""
_FIXED = {
    "act_fn": ("silu", "swish", None),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
    "resnet_time_scale_shift": ("default", None),
    "time_embedding_type": ("positional", None),
    "attention_type": ("default", None),
    **dict.fromkeys(("conv_in_kernel", "conv_out_kernel"), (3, None)),
    **dict.fromkeys(_ONES.split(), (1, None)),
    **dict.fromkeys(_OFF.split(), (False, None)),
    **dict.fromkeys(_ABSENT.split(), (None,)),
}


UNET = register(
    Family(
        model_type="UNet2DConditionModel",
        library="diffusers",
        backbone=UNet2DConditionModel,
        config={name: name for name in _CONFIG},
        fixed=_FIXED,
        weights=WeightTable(_rows()),
    )
)  # fmt: skip
