"""Fourier transforms on torch."""

from typing import Any

import torch

TABLE: dict[str, Any] = {
    "_complex": torch.complex,
    "_fft": torch.fft.fft,
    "_fft2": torch.fft.fft2,
    "_ifft2": torch.fft.ifft2,
    "_rfft": torch.fft.rfft,
    "_irfft": torch.fft.irfft,
}
