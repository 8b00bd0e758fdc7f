"""Fourier transforms on numpy."""

from typing import Any

import numpy as np

from keraslite.backend.primitives import primitive

TABLE: dict[str, Any] = {
    "_fft": np.fft.fft,
    "_fft2": np.fft.fft2,
    "_ifft2": np.fft.ifft2,
    "_rfft": np.fft.rfft,
    "_irfft": np.fft.irfft,
}


@primitive(TABLE)
def _complex(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    out = np.empty(np.broadcast_shapes(re.shape, im.shape), np.result_type(re, np.complex64))
    out.real, out.imag = re, im
    return out
