"""Residual blocks, downsampling, upsampling and tiling of latent diffusion models (Rombach et al.,
2022, arXiv:2112.10752). Channels come last everywhere.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import layers, ops

_OVERLAP = 0.25  # of neighbouring tiles


def conv(filters: int, size: int, policy: Any, **kwargs: Any) -> layers.Conv2D:
    """Make a convolution with "same" padding unless `kwargs` say otherwise."""
    return layers.Conv2D(filters, size, **{"padding": "same", **kwargs}, dtype=policy)


class ResidualBlock(layers.Layer):
    """Two normalised convolutions with a residual connection, and the time embedding in between.

    Args:
        channels: the channels of the output.
        groups: of the normalisations.
        epsilon: of the normalisations.
        time_dim: the width of the time embedding; None without one.
        dropout: before the second convolution.

    Inputs: (batch, height, width, channels) and the time embedding (batch, time_dim).

    >>> ResidualBlock(8, groups=4)(np.ones((1, 4, 4, 4), "float32")).shape == (1, 4, 4, 8)
    True
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        epsilon: float = 1e-6,
        time_dim: int | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.channels, self.time_dim = channels, time_dim
        self.norm1 = layers.GroupNormalization(groups, epsilon=epsilon, dtype=policy)
        self.conv1 = conv(channels, 3, policy)
        self.time_emb_proj = layers.Dense(channels, dtype=policy) if time_dim else None
        self.norm2 = layers.GroupNormalization(groups, epsilon=epsilon, dtype=policy)
        self.dropout = layers.Dropout(dropout, dtype=policy)
        self.conv2 = conv(channels, 3, policy)
        self.conv_shortcut = None

    def build(self, hidden_shape: Any, time_shape: Any = None) -> None:
        """Make the weights.

        Args:
            hidden_shape: of the images.
            time_shape: not used.
        """
        in_shape = tuple(hidden_shape)
        out_shape = (*in_shape[:-1], self.channels)
        self.norm1.build(in_shape)
        self.conv1.build(in_shape)
        if self.time_emb_proj is not None:
            self.time_emb_proj.build((None, self.time_dim))
        self.norm2.build(out_shape)
        self.conv2.build(out_shape)
        if in_shape[-1] != self.channels:
            self.conv_shortcut = conv(self.channels, 1, self.dtype_policy)
            self.conv_shortcut.build(in_shape)
        self.built = True

    def call(self, hidden: Any, time: Any = None, training: bool = False) -> Any:
        """Return the block's output.

        Args:
            hidden: (batch, height, width, channels).
            time: (batch, time_dim).
            training: whether to apply dropout.
        """
        out = self.conv1(self.norm1(hidden, activation="silu"))
        if self.time_emb_proj is not None:
            out = out + self.time_emb_proj(ops.silu(time))[:, None, None, :]
        out = self.dropout(self.norm2(out, activation="silu"), training=training)
        out = self.conv2(out)
        return out + (hidden if self.conv_shortcut is None else self.conv_shortcut(hidden))


class Downsample(layers.Layer):
    """Downsample by a strided convolution.

    Args:
        channels: the channels of input and output.
        padding: the padding before and after, in height and width.
    """

    def __init__(self, channels: int, padding: tuple[int, int] = (1, 1), **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = conv(channels, 3, self.dtype_policy, strides=2, padding=[padding, padding])

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.conv.build(input_shape)
        self.built = True

    def call(self, hidden: Any) -> Any:
        """Return (batch, height / 2, width / 2, channels)."""
        return self.conv(hidden)


class Upsample(layers.Layer):
    """Upsample by nearest neighbours, then a convolution.

    Args:
        channels: the channels of input and output.
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = conv(channels, 3, self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.conv.build(input_shape)
        self.built = True

    def call(self, hidden: Any, like: Any = None) -> Any:
        """Return (batch, 2 height, 2 width, channels), cropped to the size of `like`.

        Args:
            hidden: (batch, height, width, channels).
            like: a tensor whose height and width the output is cropped to.
        """
        batch, height, width, channels = ops.shape(hidden)
        shape = (batch, height, 2, width, 2, channels)
        repeated = ops.broadcast_to(hidden[:, :, None, :, None], shape)
        hidden = ops.reshape(repeated, (batch, 2 * height, 2 * width, channels))
        if like is not None and tuple(like.shape[1:3]) != tuple(hidden.shape[1:3]):
            hidden = hidden[:, : ops.shape(like)[1], : ops.shape(like)[2]]
        return self.conv(hidden)


def apply_in_tiles(network: Callable[[Any], Any], images: Any, tile: int, out_tile: int) -> Any:
    """Apply a network to large images tile by tile, with the activations of one tile at a time.

    A quarter of a tile overlaps its neighbour and is blended with it. Normalisations are over one
    tile, so colours may differ slightly between distant tiles.

    Args:
        network: the function of images to apply.
        images: (batch, height, width, channels).
        tile: height and width of a tile.
        out_tile: height and width of the network's output for a tile.
    """
    step, blend = int(tile * (1 - _OVERLAP)), int(out_tile * _OVERLAP)
    rows: list[list[Any]] = []
    for top in range(0, images.shape[1], step):
        row: list[Any] = []
        for left in range(0, images.shape[2], step):
            out = network(images[:, top : top + tile, left : left + tile])
            out = _blend(rows[-1][len(row)], out, blend, 1) if rows else out
            row.append(_blend(row[-1], out, blend, 2) if row else out)
        rows.append(row)
    size = out_tile - blend
    strips = [ops.concatenate([out[:, :size, :size] for out in row], axis=2) for row in rows]
    return ops.concatenate(strips, axis=1)


def _blend(previous: Any, out: Any, blend: int, axis: int) -> Any:
    """Return a tile whose beginning is blended with the end of the previous one."""
    blend = min(previous.shape[axis], out.shape[axis], blend)
    shape = [blend if i == axis else 1 for i in range(4)]
    ramp = ops.cast(np.reshape(np.arange(blend) / blend, shape), ops.dtype(out))
    size = previous.shape[axis]
    end = ops.take(previous, np.arange(size - blend, size), axis=axis)
    start, rest = ops.split(out, [blend], axis=axis)
    return ops.concatenate([end * (1 - ramp) + start * ramp, rest], axis=axis)
