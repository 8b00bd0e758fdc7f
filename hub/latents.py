"""Between pixels and the latents of an autoencoder, as diffusion uses them.

Traps: latents are shifted and scaled outside of the autoencoder; published ones overflow in
float16.
"""

import warnings
from typing import Any

import numpy as np

from hub.denoising import noise
from hub.generation import Compiled
from keraslite import ops


class LatentCodec:
    """Images to scaled latents and back.

    Args:
        vae: an `AutoencoderKL`.

    >>> from hub import AutoencoderKL
    >>> vae = AutoencoderKL(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    >>> LatentCodec(vae).images(np.zeros((1, 4, 4, 4), "float32")).shape
    (1, 8, 8, 3)
    """

    def __init__(self, vae: Any):
        self.vae = vae
        self.scaling = float(vae.config["scaling_factor"])
        self.shift = float(vae.config["shift_factor"] or 0.0)
        self._network = vae  # that decodes: in float32 once half precision has overflowed
        self._encoder, self._decoder = Compiled(vae), Compiled(vae)

    def moments(self, images: Any) -> Any:
        """Means and logarithms of variances, not scaled: (images, height / 8, width / 8, 8).

        Args:
            images: (images, height, width, 3) between -1 and 1.
        """
        parts = self._run(self._encoder, self.vae.encode, images)
        return ops.cast(ops.concatenate(parts, axis=-1), "float32")

    def sampled(self, images: Any, seeds: Any, call: int = -1) -> Any:
        """Scaled latents (images, height / 8, width / 8, 4), drawn around their means.

        Args:
            images: (images, height, width, 3) between -1 and 1.
            seeds: (images,) of int32.
            call: tells these draws from others of the same seed.
        """
        mean, logvar = ops.split(self.moments(images), 2, axis=-1)
        latents = mean + ops.exp(0.5 * logvar) * noise(seeds, call, tuple(mean.shape[1:]))
        return (latents - self.shift) * self.scaling

    def images(self, latents: Any) -> np.ndarray:
        """Images (images, height, width, 3) of uint8.

        Args:
            latents: scaled.

        Raises:
            ValueError: they give numbers that are not finite.
        """
        latents = ops.convert_to_tensor(latents) / self.scaling + self.shift
        images = self._decoded(latents)
        half = self._network is self.vae and self.vae.compute_dtype != "float32"
        if half and not np.isfinite(images).all():
            warnings.warn(
                f"The autoencoder overflowed in {self.vae.compute_dtype}, as published ones do; "
                "from now on images are decoded in float32.", stacklevel=4,
            )  # fmt: skip
            self._network = self.vae.in_float32()
            self._decoder = Compiled(self._network)
            images = self._decoded(latents)
        if not np.isfinite(images).all():
            raise ValueError("The latents give an image of numbers that are not finite.")
        return (np.clip(images / 2 + 0.5, 0, 1) * 255).round().astype("uint8")

    def _decoded(self, latents: Any) -> np.ndarray:
        self._network.tiling = self.vae.tiling
        images = self._run(self._decoder, self._network.decode, latents)
        return ops.convert_to_numpy(ops.cast(images, "float32"))

    def _run(self, compiled: Any, function: Any, value: Any) -> Any:
        """Tiles are compiled by none: a program of all of them would hold them all at once."""
        return function(value) if self.vae.tiling else compiled(function, value)
