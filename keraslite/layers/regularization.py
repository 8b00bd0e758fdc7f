"""Regularization layers: noise in training, nothing in inference.

Their random numbers depend on (seed, count of draws, position) alone, so the masks are the same on
every backend.
"""

import math
from collections.abc import Sequence
from typing import Any

from keraslite import ops, random, regularizers
from keraslite.declare import REQUIRED, declare
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.base.symbolic_call import keeps_shape
from keraslite.random import SeedGenerator
from keraslite.typing import Tensor


class _Random(ConfigLayer):
    """A layer with random numbers: a seed, and its state once there is something to draw."""

    _amount = "rate"  # the argument that switches the layer off if it is 0

    def set_arguments(self, arguments: dict[str, Any]) -> None:
        """Take the arguments, and make the state of the random numbers."""
        amount = arguments[self._amount]
        if not 0 <= amount <= 1:
            raise ValueError(
                f"Invalid value received for argument `{self._amount}`. Expected a float value "
                f"between 0 and 1. Received: {self._amount}={amount}"
            )
        super().set_arguments(arguments)
        self.supports_masking = True
        if amount > 0:
            self.seed_generator = SeedGenerator(self.seed)


class Dropout(_Random):
    """Set a random part of the inputs to zero in training, and scale the rest up.

    Source: https://jmlr.org/papers/v15/srivastava14a.html

    Args:
        rate: the part that becomes zero, from [0, 1].
        noise_shape: the shape of the mask; an axis of size 1 shares it, None is the input's size.
        seed: an int.

    >>> ops.convert_to_numpy(Dropout(0.5)(np.ones(3, "float32"))).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())
        if noise_shape is not None:
            self.noise_shape = tuple(noise_shape)
            if any(d is not None and (type(d) is not int or d <= 0) for d in self.noise_shape):
                raise ValueError(
                    "Invalid value received for argument `noise_shape`. Expected positive "
                    f"integers or None. Received: noise_shape={noise_shape}"
                )

    @keeps_shape
    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Drop, in training."""
        if not training or not self.rate:
            return inputs
        return random.dropout(inputs, self.rate, self._mask_shape(inputs), self.seed_generator)

    def _mask_shape(self, inputs: Any) -> Any:
        return self.noise_shape


class _SpatialDropout(Dropout):
    """Dropout of whole feature maps."""

    unsaved_arguments = ("noise_shape",)

    def setup(self, **arguments: Any) -> None:
        """Take the arguments; the shape of the mask follows from the rank."""
        self.set_arguments({**arguments, "noise_shape": None})
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def _mask_shape(self, inputs: Any) -> tuple:
        ones = (1,) * self._rank
        first = self._rank > 1 and self.data_format == "channels_first"
        return (None, None, *ones) if first else (None, *ones, None)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        del config["trainable"]
        return config | {"dtype": self.dtype}


def _spatial(rank: int) -> type:
    parameters = {"rate": REQUIRED, "data_format": None, "seed": None, "name": None, "dtype": None}
    if rank == 1:
        del parameters["data_format"]
    shape = "batch, " + "".join(f"size{i + 1}, " for i in range(rank)) + "channels"
    doc = f"""Dropout of whole {rank}D feature maps.

    Input shape ({shape}). Source: https://arxiv.org/abs/1411.4280

    Args:
        rate: the part of the channels that becomes zero.{
        '''
        data_format: "channels_last" or "channels_first".'''
        if rank > 1
        else ""
    }
        seed: an int.
        name: a name.
        dtype: a dtype or policy.
    """
    return declare(_SpatialDropout, f"SpatialDropout{rank}D", doc, parameters, _rank=rank)


SpatialDropout1D, SpatialDropout2D, SpatialDropout3D = map(_spatial, (1, 2, 3))


class GaussianDropout(_Random):
    """Multiply the inputs by normal noise around 1 in training.

    Source: https://jmlr.org/papers/v15/srivastava14a.html

    Args:
        rate: the standard deviation is `sqrt(rate / (1 - rate))`, as that of Dropout.
        seed: an int.

    >>> GaussianDropout(0.5)(np.ones((2, 3), "float32"), training=True).shape == (2, 3)
    True
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        self.set_arguments(locals())

    @keeps_shape
    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Add noise, in training."""
        if not training or not self.rate:
            return inputs
        deviation = math.sqrt(self.rate / (1.0 - self.rate))
        return inputs * random.normal(
            ops.shape(inputs), 1.0, deviation, self.compute_dtype, self.seed_generator
        )


class GaussianNoise(_Random):
    """Add normal noise around 0 to the inputs in training.

    Args:
        stddev: its standard deviation.
        seed: an int.

    >>> GaussianNoise(0.1)(np.ones((2, 3), "float32"), training=True).shape == (2, 3)
    True
    """

    _amount = "stddev"

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        self.set_arguments(locals())

    @keeps_shape
    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Add noise, in training."""
        if not training or not self.stddev:
            return inputs
        return inputs + random.normal(
            ops.shape(inputs), 0.0, self.stddev, self.compute_dtype, self.seed_generator
        )


class AlphaDropout(_Random):
    """Dropout that keeps mean and variance, for networks of `selu` activations.

    Source: https://arxiv.org/abs/1706.02515

    Args:
        rate: the part of the inputs that is replaced by the negative saturation value.
        noise_shape: the shape of the mask; an axis of size 1 shares it, None is the input's size.
        seed: an int.

    >>> AlphaDropout(0.5)(np.ones((2, 3), "float32"), training=True).shape == (2, 3)
    True
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.set_arguments(locals())

    @keeps_shape
    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Drop, in training."""
        if not training or not self.rate:
            return inputs
        full = ops.shape(inputs)
        noise_shape = self.noise_shape or (None,) * len(full)
        shape = tuple(f if n is None else n for n, f in zip(noise_shape, full, strict=True))
        low = -1.6732632423543772 * 1.0507009873554805  # the limit of selu
        mask = random.keep_mask(shape, self.rate, self.seed_generator)
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        return ops.where(mask, inputs, low) * scale - scale * low * self.rate


class ActivityRegularization(ConfigLayer):
    """A penalty on the inputs, which pass through.

    Args:
        l1: the factor of the absolute values.
        l2: the factor of the squares.

    >>> layer = ActivityRegularization(l1=1.0)
    >>> _ = layer(np.ones((1, 3), "float32"))
    >>> [float(x) for x in layer.losses]
    [3.0]
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        penalty = regularizers.L1L2(l1=l1, l2=l2)
        self.set_arguments({"l1": l1, "l2": l2, "activity_regularizer": penalty, "kwargs": kwargs})
        self.supports_masking = True

    @keeps_shape
    def call(self, inputs: Tensor) -> Tensor:
        """Give the inputs back."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the layer again."""
        config = super().get_config()
        del config["activity_regularizer"]
        return config
