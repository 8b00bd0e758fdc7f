"""The codec between pixels and the scaled latents of an autoencoder.

Traps: latents are shifted and scaled outside of the autoencoder; published ones overflow in
float16.
"""

import warnings
from typing import Any

import numpy as np

from hub.diffusion.batches import run_in_batches
from hub.diffusion.denoising import noise
from keraslite import ops
from keraslite.training import CompiledFunctions


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Return images of uint8 for images of floats from 0 to 1.

    Args:
        images: of any shape.

    >>> to_uint8(np.array([0.0, 0.5, 1.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    return (images * 255).round().astype("uint8")


class LatentCodec:
    """Images to scaled latents and back.

    Args:
        vae: an `AutoencoderKL`.

    >>> from hub import AutoencoderKL
    >>> vae = AutoencoderKL(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
    >>> LatentCodec(vae).decode(np.zeros((1, 4, 4, 4), "float32")).shape
    (1, 8, 8, 3)
    """

    def __init__(self, vae: Any):
        self.vae = vae
        self.scaling = float(vae.config["scaling_factor"])
        self.shift = float(vae.config["shift_factor"] or 0.0)
        self._network = vae  # in float32 once half precision has overflowed
        self._functions = CompiledFunctions()

    def moments(self, images: Any) -> Any:
        """Return means and log variances, not scaled: (images, height / 8, width / 8, 8).

        Args:
            images: (images, height, width, 3) between -1 and 1.
        """
        return ops.convert_to_tensor(self._run("encode", images))

    def encode(self, images: Any, seeds: Any, call: int = -1) -> Any:
        """Return scaled latents (images, height / 8, width / 8, 4), drawn around their means.

        Args:
            images: (images, height, width, 3) between -1 and 1.
            seeds: (images,) of int32.
            call: tells these draws from others of the same seed.
        """
        moments = self.moments(images)
        shape = (*moments.shape[1:-1], moments.shape[-1] // 2)
        return self.sample(moments, noise(seeds, call, shape))

    def sample(self, moments: Any, normal: Any) -> Any:
        """Return scaled latents (images, height / 8, width / 8, 4).

        Args:
            moments: as `moments` returns them.
            normal: normal noise of the shape of the latents.
        """
        mean, logvar = ops.split(moments, 2, axis=-1)
        return (mean + ops.exp(0.5 * logvar) * normal - self.shift) * self.scaling

    def decode(self, latents: Any) -> np.ndarray:
        """Return images (images, height, width, 3) of uint8.

        Args:
            latents: scaled.

        Raises:
            ValueError: pixels are not finite.
        """
        return to_uint8(self.decode_floats(latents))

    def decode_floats(self, latents: Any) -> np.ndarray:
        """Return images (images, height, width, 3) of float32 from 0 to 1.

        Args:
            latents: scaled.

        Raises:
            ValueError: pixels are not finite.
        """
        images = self._run("decode", ops.convert_to_tensor(latents) / self.scaling + self.shift)
        if not np.isfinite(images).all():
            raise ValueError(
                "The pixels of an image must be finite, got NaN or infinity from the autoencoder."
            )
        return np.clip(images / 2 + 0.5, 0, 1)

    def _run(self, name: str, value: Any) -> np.ndarray:
        """Run the autoencoder; in float32 where half precision overflows. Returns numpy float32."""
        out = self._run_once(name, value)
        half = self._network is self.vae and self.vae.compute_dtype != "float32"
        if half and not np.isfinite(out).all():
            warnings.warn(
                f"The autoencoder overflowed in {self.vae.compute_dtype}, as published ones do; "
                "from now on it works in float32.", stacklevel=5,
            )  # fmt: skip
            self._network = self.vae.in_float32()
            out = self._run_once(name, value)
        return out

    def _run_once(self, name: str, value: Any) -> np.ndarray:
        self._network.tiling = self.vae.tiling
        function = getattr(self._network, name)
        if self.vae.tiling:  # a compiled program of all tiles would hold them all at once
            out = function(value)
        else:
            out = run_in_batches(self._functions, self._network, function, value)
        out = ops.concatenate(out, axis=-1) if name == "encode" else out
        return ops.convert_to_numpy(ops.cast(out, "float32"))
