"""What the networks of latent diffusion share: residual blocks, halving, doubling (Rombach et al.,
2022, arXiv:2112.10752). Channels come last everywhere.
"""

from typing import Any

from keraslite import layers, ops


def conv(filters: int, size: int, policy: Any, **kwargs: Any) -> layers.Conv2D:
    """A convolution that keeps the sizes unless it is told otherwise."""
    return layers.Conv2D(filters, size, **{"padding": "same", **kwargs}, dtype=policy)


class ResidualBlock(layers.Layer):
    """Two normalised convolutions, between them the time where there is one, and the input again.

    Args:
        channels: of the output.
        groups: of the normalisations.
        epsilon: of the normalisations.
        time_dim: the width of the embedded time; None without one.
        dropout: before the second convolution.

    Inputs: (batch, height, width, channels) and the embedded time (batch, time_dim).

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
        start, after = tuple(hidden_shape), (*tuple(hidden_shape)[:-1], self.channels)
        self.norm1.build(start)
        self.conv1.build(start)
        if self.time_emb_proj is not None:
            self.time_emb_proj.build((None, self.time_dim))
        self.norm2.build(after)
        self.conv2.build(after)
        if start[-1] != self.channels:
            self.conv_shortcut = conv(self.channels, 1, self.dtype_policy)
            self.conv_shortcut.build(start)
        self.built = True

    def call(self, hidden: Any, time: Any = None, training: bool = False) -> Any:
        """The block's output.

        Args:
            hidden: (batch, height, width, channels).
            time: (batch, time_dim).
            training: whether dropout works.
        """
        inside = self.conv1(ops.silu(self.norm1(hidden)))
        if self.time_emb_proj is not None:
            inside = inside + self.time_emb_proj(ops.silu(time))[:, None, None, :]
        inside = self.dropout(ops.silu(self.norm2(inside)), training=training)
        inside = self.conv2(inside)
        return inside + (hidden if self.conv_shortcut is None else self.conv_shortcut(hidden))


class Halved(layers.Layer):
    """A convolution that halves height and width.

    Args:
        channels: of input and output.
        padding: how much is added before and after.
    """

    def __init__(self, channels: int, padding: tuple[int, int] = (1, 1), **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = conv(channels, 3, self.dtype_policy, strides=2, padding=[padding, padding])

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.conv.build(input_shape)
        self.built = True

    def call(self, hidden: Any) -> Any:
        """(batch, height / 2, width / 2, channels)."""
        return self.conv(hidden)


class Doubled(layers.Layer):
    """Each pixel four times, then a convolution.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = conv(channels, 3, self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.conv.build(input_shape)
        self.built = True

    def call(self, hidden: Any, like: Any = None) -> Any:
        """(batch, 2 height, 2 width, channels), or a row or column less.

        Args:
            hidden: (batch, height, width, channels).
            like: an image of the height and width that are wanted.
        """
        batch, height, width, channels = ops.shape(hidden)
        wide = ops.broadcast_to(hidden[:, :, None, :, None], (batch, height, 2, width, 2, channels))
        hidden = ops.reshape(wide, (batch, 2 * height, 2 * width, channels))
        if like is not None and tuple(like.shape[1:3]) != tuple(hidden.shape[1:3]):
            hidden = hidden[:, : ops.shape(like)[1], : ops.shape(like)[2]]
        return self.conv(hidden)
