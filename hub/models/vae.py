"""The autoencoder of Stable Diffusion: images to latents of an eighth of their size, and back
(Rombach et al., 2022, arXiv:2112.10752).

Traps of the published checkpoints: older files call the projections of the attention query, key,
value and proj_attn; the encoder pads below and to the right alone before it halves; latents are
scaled by `scaling_factor` outside of the network; in float16 the larger numbers overflow.
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
    """Attention among all pixels of an image, with one head.

    Args:
        channels: of the image.
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
        """(batch, height, width, channels), as `hidden`."""
        shape = ops.shape(hidden)
        flat = ops.reshape(self.group_norm(hidden), (shape[0], shape[1] * shape[2], shape[3]))
        return hidden + ops.reshape(self.attention(flat), shape)


class Stack(layers.Layer):
    """One half of the autoencoder: stages of residual blocks, and a middle with attention.

    Args:
        sizes: the channels of the stages, in the order in which they run.
        depth: residual blocks of a stage.
        outputs: channels of the output.
        groups: of the normalisations.
        down: whether each stage but the last halves the image and the middle comes last; else each
            doubles it and the middle comes first.
        attends: whether the middle has attention.
    """

    def __init__(
        self, sizes: tuple[int, ...], depth: int, outputs: int, groups: int, down: bool,
        attends: bool = True, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        policy, self.sizes, self.is_down = self.dtype_policy, sizes, down

        def block(size: int) -> ResidualBlock:
            return ResidualBlock(size, groups, _EPSILON, dtype=policy)

        self.conv_in = conv(sizes[0], 3, policy)
        self.blocks = [[block(size) for _ in range(depth)] for size in sizes]
        self.resized = [
            Downsample(size, (0, 1), dtype=policy) if down else Upsample(size, dtype=policy)
            for size in sizes[:-1]
        ]
        middle = sizes[-1] if down else sizes[0]
        self.mid = [block(middle), block(middle)]
        self.mid_attention = PixelAttention(middle, groups, dtype=policy) if attends else None
        self.conv_norm_out = layers.GroupNormalization(groups, epsilon=_EPSILON, dtype=policy)
        self.conv_out = conv(outputs, 3, policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""

        def shape(channels: int) -> tuple:
            return (None, None, None, channels)

        self.conv_in.build(input_shape)
        width = self.sizes[0]
        for stage, size in zip(self.blocks, self.sizes, strict=True):
            for block in stage:
                block.build(shape(width))
                width = size
        for layer, size in zip(self.resized, self.sizes[:-1], strict=True):
            layer.build(shape(size))
        middle = self.sizes[-1] if self.is_down else self.sizes[0]
        for layer in (*self.mid, self.mid_attention):
            if layer is not None:
                layer.build(shape(middle))
        self.conv_norm_out.build(shape(self.sizes[-1]))
        self.conv_out.build(shape(self.sizes[-1]))
        self.built = True

    def _middle(self, hidden: Any) -> Any:
        hidden = self.mid[0](hidden)
        hidden = hidden if self.mid_attention is None else self.mid_attention(hidden)
        return self.mid[1](hidden)

    def call(self, hidden: Any) -> Any:
        """Images of another size and other channels."""
        hidden = self.conv_in(hidden)
        hidden = hidden if self.is_down else self._middle(hidden)
        for i, stage in enumerate(self.blocks):
            for block in stage:
                hidden = block(hidden)
            if i < len(self.resized):
                hidden = self.resized[i](hidden)
        hidden = self._middle(hidden) if self.is_down else hidden
        return self.conv_out(self.conv_norm_out(hidden, activation="silu"))


class AutoencoderKL(Backbone):
    """Images to the moments of their latents, and latents to images.

    Args:
        in_channels: of the images.
        out_channels: of the images that come back.
        block_out_channels: of the stages; each but the last halves the image.
        layers_per_block: residual blocks of a stage of the encoder; the decoder's have one more.
        latent_channels: of the latents.
        norm_num_groups: groups of the normalisations.
        sample_size: the usual height and width of the images.
        scaling_factor: by which latents are multiplied for the diffusion.
        shift_factor: taken from them before.
        force_upcast: whether the published weights overflow in float16.
        mid_block_add_attention: whether there is attention in the middle.
        use_quant_conv: whether a convolution stands behind the encoder.
        use_post_quant_conv: whether one stands before the decoder.

    Attributes:
        factor: how many times higher and wider images are than their latents.
        tiling: may be set, for images that are larger than `sample_size`: they are then encoded and
            decoded in tiles of that size.

    Inputs: images (batch, height, width, in_channels) between -1 and 1. Output: images that were
    encoded, and decoded from the mean.

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
        sample_size: int | None = 512,
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
        sizes, policy = tuple(block_out_channels), self.dtype_policy
        self.config, self.latent_channels = config, latent_channels
        self.factor, self.tiling = 2 ** (len(sizes) - 1), False
        self.encoder = Stack(
            sizes, layers_per_block, 2 * latent_channels, norm_num_groups, True,
            mid_block_add_attention, dtype=policy,
        )  # fmt: skip
        self.decoder = Stack(
            sizes[::-1], layers_per_block + 1, out_channels, norm_num_groups, False,
            mid_block_add_attention, dtype=policy,
        )  # fmt: skip
        self.quant_conv = conv(2 * latent_channels, 1, policy) if use_quant_conv else None
        self.post_quant_conv = conv(latent_channels, 1, policy) if use_post_quant_conv else None
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Make the variables; their shapes follow from the config alone."""
        for layer, channels in (
            (self.encoder, self.config["in_channels"]), (self.decoder, self.latent_channels),
            (self.quant_conv, 2 * self.latent_channels),
            (self.post_quant_conv, self.latent_channels),
        ):  # fmt: skip
            if layer is not None:
                layer.build((None, None, None, channels))
        self.built = True

    def encode(self, images: Any) -> tuple[Any, Any]:
        """The mean and the logarithm of the variance of the latents, not scaled.

        Args:
            images: (batch, height, width, in_channels) between -1 and 1.
        """
        height, width, channels = images.shape[1:]
        sizes = [n for n in (height, width) if n is not None]
        if channels != self.config["in_channels"] or any(n % self.factor for n in sizes):
            raise ValueError(
                f"Images of shape {tuple(images.shape)} must have {self.config['in_channels']} "
                f"channels at the end, and a height and width that are multiples of {self.factor}."
            )
        images = ops.cast(ops.convert_to_tensor(images), self.compute_dtype)
        tile = self._tile
        moments = (
            apply_in_tiles(self._moments, images, tile, tile // self.factor)
            if self.tiling and max(height, width) > tile
            else self._moments(images)
        )
        mean, logvar = ops.split(moments, 2, axis=-1)
        return mean, ops.clip(logvar, -30.0, 20.0)

    def decode(self, latents: Any) -> Any:
        """Images (batch, height, width, out_channels), about between -1 and 1.

        Args:
            latents: (batch, height / 8, width / 8, latent_channels), not scaled.
        """
        if latents.shape[-1] != self.latent_channels:
            raise ValueError(
                f"Latents of shape {tuple(latents.shape)} must have {self.latent_channels} "
                "channels at the end."
            )
        latents = ops.cast(ops.convert_to_tensor(latents), self.compute_dtype)
        tile = self._tile // self.factor
        if self.tiling and max(latents.shape[1:3]) > tile:
            return apply_in_tiles(self._decoded, latents, tile, self._tile)
        return self._decoded(latents)

    @property
    def _tile(self) -> int:
        return self.config["sample_size"] or 512

    def _moments(self, images: Any) -> Any:
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decoded(self, latents: Any) -> Any:
        first = self.post_quant_conv
        return self.decoder(latents if first is None else first(latents))

    def in_float32(self) -> "AutoencoderKL":
        """The same in float32, for numbers that half precision does not hold."""
        wide, ours = AutoencoderKL(**{**self.config, "dtype": "float32"}), merged_weights(self)
        for path, variable in wide.named_weights():
            variable.assign(np.asarray(ours[path].numpy(), "float32"))
        return wide

    def call(self, inputs: Any) -> Any:
        """Images, encoded and decoded from the mean."""
        return self.decode(self.encode(inputs)[0])


def _rows() -> dict[str, str]:
    """Our names on the left, those of diffusers on the right."""
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


def _types(config: dict[str, Any]) -> dict[str, Any]:
    """Refuses blocks of other kinds; there is nothing to take from their names."""
    for key, kind in (("down_block_types", "DownEncoderBlock2D"),
                      ("up_block_types", "UpDecoderBlock2D")):  # fmt: skip
        if set(config.get(key, [kind])) != {kind}:
            raise ValueError(
                f"AutoencoderKL has {key}={config[key]}, which is not supported; supported: {kind}."
            )
    return {}


def _written(ours: dict[str, Any]) -> dict[str, Any]:
    count = len(ours["block_out_channels"])
    return {
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
    }


VAE = register(
    Family(
        model_type="AutoencoderKL",
        library="diffusers",
        backbone=AutoencoderKL,
        config={name: name for name in _CONFIG},
        fixed={
            "act_fn": ("silu", None), "latents_mean": (None,), "latents_std": (None,),
        },
        read=_types,
        write=_written,
        weights=WeightTable(
            _rows(),
            # In the oldest files these are convolutions of single pixels.
            storage={
                f"{half}/mid_attention/attention/{name}/kernel": DENSE_OR_CONV
                for half in ("encoder", "decoder")
                for name in ("query", "key", "value", "output_dense")
            },
        ),
        renamed={
            r"(mid_block\.attentions\.0)\.query\.": r"\1.to_q.",
            r"(mid_block\.attentions\.0)\.key\.": r"\1.to_k.",
            r"(mid_block\.attentions\.0)\.value\.": r"\1.to_v.",
            r"(mid_block\.attentions\.0)\.proj_attn\.": r"\1.to_out.0.",
        },
    )
)  # fmt: skip
