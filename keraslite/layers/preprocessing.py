"""Preprocessing layers."""

from typing import Any

from keraslite import config, ops, registry
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.typing import Tensor


class Rescaling(ConfigLayer):
    """`inputs * scale + offset`, in the layer's dtype.

    Args:
        scale: a number, or one a channel.
        offset: likewise.

    >>> ops.convert_to_numpy(Rescaling(1 / 255)(np.array([0, 255]))).tolist()
    [0.0, 1.0]
    """

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        scale = registry.deserialize_keras_object(scale)
        offset = registry.deserialize_keras_object(offset)
        self.set_arguments(locals())
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Scale and shift."""
        dtype = self.compute_dtype
        scale, offset = (
            v if isinstance(v, int | float) else ops.convert_to_tensor(v, dtype)
            for v in (self.scale, self.offset)
        )
        shape = getattr(scale, "shape", ())
        if len(shape) and config.image_data_format() == "channels_first":
            scale = ops.reshape(scale, (*shape, *(1,) * (3 - len(shape))))
        return ops.add(ops.multiply(ops.cast(inputs, dtype), scale), offset)
