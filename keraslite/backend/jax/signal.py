"""Fourier transforms on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

TABLE: dict[str, Any] = {
    "_complex": jax.lax.complex,
    "_fft": jnp.fft.fft,
    "_fft2": jnp.fft.fft2,
    "_ifft2": jnp.fft.ifft2,
    "_rfft": jnp.fft.rfft,
    "_irfft": jnp.fft.irfft,
}
