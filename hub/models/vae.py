"""The autoencoder of Stable Diffusion: encodes images to latents of an eighth of their size, and
decodes latents (Rombach et al., 2022, arXiv:2112.10752).

Traps of the published checkpoints: older files call the projections of the attention query, key,
value and proj_attn; the encoder pads only at the bottom and right before downsampling; latents are
scaled by `scaling_factor` outside of the network; in float16 large activations overflow.
"""

from typing import Any

import numpy as np

from hub.blocks.convolutional import Downsample, ResidualBlock, Upsample, apply_in_tiles, conv
from hub.blocks.transformer import Attention
from hub.families import Family, register
from hub.models.backbone import Backbone
from hub.weights.loading import merged_weights
from hub.weights.storage import DENSE_OR_CONV
from hub.weights.tables import WeightTable
from keraslite import layers, ops

_EPSILON = 1e-6


class PixelAttention(layers.Layer):
    """Single-head attention over all pixels of an image.

    Args:
        channels: the channels of the image.
        groups: of the normalisation.
    """

    def __init__(self, channels: int, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.group_norm = layers.GroupNormalization(groups, epsilon=_EPSILON, dtype=policy)
        self.attention = Attention(channels, 1, dtype=policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.group_norm.build(input_shape)
        self.attention.build((None, None, input_shape[-1]))
        self.built = True

    def call(self, hidden: Any) -> Any:
        """Return the new image (batch, height, width, channels)."""
        shape = ops.shape(hidden)
        pixels = ops.reshape(self.group_norm(hidden), (shape[0], shape[1] * shape[2], shape[3]))
        return hidden + ops.reshape(self.attention(pixels), shape)


class Stack(layers.Layer):
    """The encoder or the decoder: stages of residual blocks, and a middle block with attention.

    Args:
        stage_channels: the channels of the stages, in the order in which they run.
        depth: the number of residual blocks of a stage.
        out_channels: the channels of the output.
        groups: of the normalisations.
        is_encoder: whether all stages but the last downsample and the middle block comes last;
            else they upsample and the middle block comes first.
        mid_attention: whether the middle block has attention.
    """

    def __init__(
        self, stage_channels: tuple[int, ...], depth: int, out_channels: int, groups: int,
        is_encoder: bool, mid_attention: bool = True, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.stage_channels, self.is_encoder = stage_channels, is_encoder
        self.mid_channels = stage_channels[-1] if is_encoder else stage_channels[0]

        def block(channels: int) -> ResidualBlock:
            return ResidualBlock(channels, groups, _EPSILON, dtype=policy)

        def resize(channels: int) -> layers.Layer:
            if is_encoder:
                return Downsample(channels, (0, 1), dtype=policy)
            return Upsample(channels, dtype=policy)

        self.conv_in = conv(stage_channels[0], 3, policy)
        self.blocks = [[block(channels) for _ in range(depth)] for channels in stage_channels]
        self.resized = [resize(channels) for channels in stage_channels[:-1]]
        self.mid = [block(self.mid_channels), block(self.mid_channels)]
        self.mid_attention = (
            PixelAttention(self.mid_channels, groups, dtype=policy) if mid_attention else None
        )
        self.conv_norm_out = layers.GroupNormalization(groups, epsilon=_EPSILON, dtype=policy)
        self.conv_out = conv(out_channels, 3, policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""

        def shape(channels: int) -> tuple:
            return (None, None, None, channels)

        self.conv_in.build(input_shape)
        in_channels = self.stage_channels[0]
        for stage, channels in zip(self.blocks, self.stage_channels, strict=True):
            for block in stage:
                block.build(shape(in_channels))
                in_channels = channels
        for layer, channels in zip(self.resized, self.stage_channels[:-1], strict=True):
            layer.build(shape(channels))
        for layer in (*self.mid, self.mid_attention):
            if layer is not None:
                layer.build(shape(self.mid_channels))
        self.conv_norm_out.build(shape(self.stage_channels[-1]))
        self.conv_out.build(shape(self.stage_channels[-1]))
        self.built = True

    def _apply_mid(self, hidden: Any) -> Any:
        hidden = self.mid[0](hidden)
        hidden = hidden if self.mid_attention is None else self.mid_attention(hidden)
        return self.mid[1](hidden)

    def call(self, hidden: Any) -> Any:
        """Return the output, smaller by the encoder or larger by the decoder."""
        hidden = self.conv_in(hidden)
        hidden = hidden if self.is_encoder else self._apply_mid(hidden)
        for i, stage in enumerate(self.blocks):
            for block in stage:
                hidden = block(hidden)
            if i < len(self.resized):
                hidden = self.resized[i](hidden)
        hidden = self._apply_mid(hidden) if self.is_encoder else hidden
        return self.conv_out(self.conv_norm_out(hidden, activation="silu"))


class AutoencoderKL(Backbone):
    """A variational autoencoder (VAE) between images and latents.

    Args:
        in_channels: the channels of the images.
        out_channels: the channels of the decoded images.
        block_out_channels: the channels of each stage; all but the last downsample the image.
        layers_per_block: residual blocks of a stage of the encoder; the decoder's have one more.
        latent_channels: the channels of the latents.
        norm_num_groups: groups of the normalisations.
        sample_size: the default height and width of the images.
        scaling_factor: by which latents are multiplied for the diffusion.
        shift_factor: subtracted from the latents before scaling.
        force_upcast: whether the published weights overflow in float16.
        mid_block_add_attention: whether the middle block has attention.
        use_quant_conv: whether there is a convolution after the encoder.
        use_post_quant_conv: whether there is a convolution before the decoder.

    Attributes:
        factor: the ratio of an image's height and width to those of its latents.
        tiling: whether images larger than `sample_size` are encoded and decoded in tiles of that
            size; may be set.

    Inputs: images (batch, height, width, in_channels) between -1 and 1. Output: the images decoded
    from the means of their latents.

    >>> model = AutoencoderKL(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    >>> mean, logvar = model.encode(np.zeros((1, 16, 16, 3), "float32"))
    >>> tuple(mean.shape), tuple(model.decode(mean).shape)
    ((1, 8, 8, 4), (1, 16, 16, 3))
    """

    family = "AutoencoderKL"

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        sample_size: int | tuple[int, ...] | None = 512,
        scaling_factor: float = 0.18215,
        shift_factor: float | None = None,
        force_upcast: bool = True,
        mid_block_add_attention: bool = True,
        use_quant_conv: bool = True,
        use_post_quant_conv: bool = True,
        dtype: Any = None,
        **kwargs: Any,
    ):
        config = self.keep_config(locals())
        super().__init__(dtype=dtype, **kwargs)
        channels, policy = tuple(block_out_channels), self.dtype_policy
        self.config, self.latent_channels = config, latent_channels
        self.factor, self.tiling = 2 ** (len(channels) - 1), False
        self.encoder = Stack(
            channels, layers_per_block, 2 * latent_channels, norm_num_groups, True,
            mid_block_add_attention, dtype=policy,
        )  # fmt: skip
        self.decoder = Stack(
            channels[::-1], layers_per_block + 1, out_channels, norm_num_groups, False,
            mid_block_add_attention, dtype=policy,
        )  # fmt: skip
        self.quant_conv = conv(2 * latent_channels, 1, policy) if use_quant_conv else None
        self.post_quant_conv = conv(latent_channels, 1, policy) if use_post_quant_conv else None
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables, whose shapes follow from the config."""
        for layer, channels in (
            (self.encoder, self.config["in_channels"]), (self.decoder, self.latent_channels),
            (self.quant_conv, 2 * self.latent_channels),
            (self.post_quant_conv, self.latent_channels),
        ):  # fmt: skip
            if layer is not None:
                layer.build((None, None, None, channels))
        self.built = True

    def encode(self, images: Any) -> tuple[Any, Any]:
        """Return the mean and the log variance of the latents of images, not scaled.

        Args:
            images: (batch, height, width, in_channels) between -1 and 1.

        Raises:
            ValueError: the images have a wrong number of channels, or a size that is no multiple
                of `factor`.
        """
        height, width, channels = images.shape[1:]
        sizes = [n for n in (height, width) if n is not None]
        if channels != self.config["in_channels"] or any(n % self.factor for n in sizes):
            raise ValueError(
                f"Images must have {self.config['in_channels']} channels on the last axis, and a "
                f"height and width that are multiples of {self.factor}, got the shape "
                f"{tuple(images.shape)}."
            )
        images = ops.cast(ops.convert_to_tensor(images), self.compute_dtype)
        tile = self._tile
        moments = (
            apply_in_tiles(self._encode_tile, images, tile, tile // self.factor)
            if self.tiling and max(height, width) > tile
            else self._encode_tile(images)
        )
        mean, logvar = ops.split(moments, 2, axis=-1)
        return mean, ops.clip(logvar, -30.0, 20.0)

    def decode(self, latents: Any) -> Any:
        """Return images (batch, height, width, out_channels), approximately between -1 and 1.

        Args:
            latents: (batch, height / factor, width / factor, latent_channels), not scaled.

        Raises:
            ValueError: the latents have a wrong number of channels.
        """
        if latents.shape[-1] != self.latent_channels:
            raise ValueError(
                f"Latents must have {self.latent_channels} channels on the last axis, got the "
                f"shape {tuple(latents.shape)}."
            )
        latents = ops.cast(ops.convert_to_tensor(latents), self.compute_dtype)
        tile = self._tile // self.factor
        if self.tiling and max(latents.shape[1:3]) > tile:
            return apply_in_tiles(self._decode_tile, latents, tile, self._tile)
        return self._decode_tile(latents)

    @property
    def _tile(self) -> int:
        return self.config["sample_size"] or 512

    def _encode_tile(self, images: Any) -> Any:
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decode_tile(self, latents: Any) -> Any:
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)

    def in_float32(self) -> "AutoencoderKL":
        """Return a copy in float32, for activations that overflow in half precision."""
        copy, weights = AutoencoderKL(**{**self.config, "dtype": "float32"}), merged_weights(self)
        for path, variable in copy.named_weights():
            variable.assign(np.asarray(weights[path].numpy(), "float32"))
        return copy

    def call(self, inputs: Any) -> Any:
        """Return the images decoded from the means of their latents."""
        return self.decode(self.encode(inputs)[0])


def _rows() -> dict[str, str]:
    """Return the names of the weights: ours -> those of diffusers."""
    rows = {}
    block = ("norm1", "conv1", "norm2", "conv2", "conv_shortcut")
    for half, stage, resized in (
        ("encoder", "down_blocks", "downsamplers"), ("decoder", "up_blocks", "upsamplers"),
    ):  # fmt: skip
        rows |= {f"{half}/{n}": f"{half}.{n}" for n in ("conv_in", "conv_norm_out", "conv_out")}
        rows[f"{half}/resized/{{i}}/conv"] = f"{half}.{stage}.{{i}}.{resized}.0.conv"
        for name in block:
            rows[f"{half}/blocks/{{i}}/{{j}}/{name}"] = f"{half}.{stage}.{{i}}.resnets.{{j}}.{name}"
            rows[f"{half}/mid/{{i}}/{name}"] = f"{half}.mid_block.resnets.{{i}}.{name}"
        ours, theirs = f"{half}/mid_attention", f"{half}.mid_block.attentions.0"
        rows[f"{ours}/group_norm"] = f"{theirs}.group_norm"
        for a, b in (
            ("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("output_dense", "to_out.0"),
        ):  # fmt: skip
            rows[f"{ours}/attention/{a}"] = f"{theirs}.{b}"
    return {**rows, "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}


_CONFIG = (
    "in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels",
    "norm_num_groups", "sample_size", "scaling_factor", "shift_factor", "force_upcast",
    "mid_block_add_attention", "use_quant_conv", "use_post_quant_conv",
)  # fmt: skip


_BLOCK_TYPES = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}


def _read(config: dict[str, Any]) -> dict[str, Any]:
    """Check the types of blocks, of which only one is supported; they give no arguments."""
    for key, block_type in _BLOCK_TYPES.items():
        if set(config.get(key, [block_type])) != {block_type}:
            raise ValueError(
                f"AutoencoderKL has {key}={config[key]}, which is not supported; supported: "
                f"{block_type}."
            )
    return {}


def _write(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that `_read` checks."""
    num_stages = len(arguments["block_out_channels"])
    return {key: [block_type] * num_stages for key, block_type in _BLOCK_TYPES.items()}


VAE = register(
    Family(
        model_type="AutoencoderKL",
        library="diffusers",
        backbone=AutoencoderKL,
        config={name: name for name in _CONFIG},
        fixed={
            "act_fn": ("silu", None), "latents_mean": (None,), "latents_std": (None,),
        },
        read=_read,
        write=_write,
        weights=WeightTable(
            _rows(),
            # In the oldest files these are 1x1 convolutions.
            storage={
                f"{half}/mid_attention/attention/{name}/kernel": DENSE_OR_CONV
                for half in ("encoder", "decoder")
                for name in ("query", "key", "value", "output_dense")
            },
            renamed={
                r"(mid_block\.attentions\.0)\.query\.": r"\1.to_q.",
                r"(mid_block\.attentions\.0)\.key\.": r"\1.to_k.",
                r"(mid_block\.attentions\.0)\.value\.": r"\1.to_v.",
                r"(mid_block\.attentions\.0)\.proj_attn\.": r"\1.to_out.0.",
            },
        ),
    )
)  # fmt: skip
