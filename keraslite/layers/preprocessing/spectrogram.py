"""Spectrograms of recordings: by a Fourier transform on the mel scale, and by a convolution."""

import warnings
from typing import Any

import numpy as np

from keraslite import config, initializers, ops
from keraslite.layers.base.config_layer import ConfigLayer
from keraslite.layers.base.input_spec import InputSpec
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.typing import Shape, Tensor

_MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


class MelSpectrogram(DataLayer):
    """Turn recordings (..., samples) into mel spectrograms (..., mel bins, times).

    Args:
        fft_length: the size of a transform.
        sequence_stride: the samples from one window to the next.
        sequence_length: the size of a window; `fft_length` by default.
        window: "hann", "hamming", an array of `sequence_length` numbers, or None.
        sampling_rate: samples in a second.
        num_mel_bins: the number of bins.
        min_freq: where the first bin begins, in Hertz.
        max_freq: where the last one ends; half of `sampling_rate` by default.
        power_to_db: whether the result is in decibels.
        top_db: how far below the largest value of all the others are cut off.
        mag_exp: the exponent of the magnitudes: 2 for power.
        min_power: the smallest power.
        ref_power: the power of 0 decibels.

    Raises:
        ValueError: a window is longer than the transform.

    >>> MelSpectrogram(num_mel_bins=8, fft_length=64, sequence_stride=32)(np.ones(320)).shape
    (8, 11)
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: Any = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        **kwargs: Any,
    ):
        sequence_length = sequence_length or fft_length
        max_freq = max_freq or int(sampling_rate / 2)
        if fft_length < sequence_length:
            raise ValueError(
                "`fft_length` must be at least `sequence_length`, got "
                f"fft_length={fft_length} and sequence_length={sequence_length}."
            )
        self.set_arguments(locals())

    def call(self, inputs: Tensor) -> Tensor:
        """Compute the spectrograms."""
        dtype = self.compute_dtype
        exact = dtype if dtype in ("float32", "float64") else "float32"
        real, imaginary = ops.stft(
            ops.cast(ops.convert_to_tensor(inputs), exact), self.sequence_length,
            self.sequence_stride, self.fft_length, self.window, center=True,
        )  # fmt: skip
        powers = ops.add(ops.square(real), ops.square(imaginary))
        if self.mag_exp != 2.0:
            powers = ops.power(powers, self.mag_exp / 2)
        weights = ops.convert_to_tensor(self._mel_weights(), exact)
        outputs = ops.swapaxes(ops.matmul(powers, weights), -1, -2)
        if self.power_to_db:
            decibels = 10.0 * ops.log10(ops.maximum(outputs, self.min_power))
            decibels = decibels - 10.0 * float(np.log10(max(abs(self.ref_power), self.min_power)))
            outputs = ops.maximum(decibels, ops.max(decibels) - self.top_db)
        return ops.cast(outputs, dtype)

    def _mel_weights(self) -> np.ndarray:
        """Return (frequencies, mel bins): triangles on the mel scale of HTK, of height 1."""
        frequencies = np.linspace(0.0, self.sampling_rate / 2, self.fft_length // 2 + 1)
        low, high = _mel(np.array([self.min_freq, self.max_freq], "float64"))
        edges = np.linspace(low, high, self.num_mel_bins + 2)
        place = _mel(frequencies)[:, None]
        rising = (place - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - place) / (edges[2:] - edges[1:-1])
        weights = np.maximum(np.minimum(rising, falling), 0.0)
        weights[0] = 0.0  # the constant part is in no bin
        return weights


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hertz / 700.0)


class STFTSpectrogram(ConfigLayer):
    """Turn signals (batch, times, channels) into spectrograms, by a trainable convolution.

    Args:
        mode: "log", "magnitude", "psd" (power spectral density), "real", "imag", "angle", or
            "stft", the real and then the imaginary parts.
        frame_length: the size of a window.
        frame_step: the steps from one window to the next; half of `frame_length` by default.
        fft_length: the size of a transform; the next power of 2 by default.
        window: "hann", "hamming", another window of scipy, an array, or None.
        periodic: whether the window is periodic, not symmetric.
        scaling: "density" or "spectrum": the window is divided by its L2 or L1 norm; or None.
        padding: "valid" or "same".
        expand_dims: whether frequencies and channels have an axis each, as in images; else they
            share one, the frequencies of each channel together.
        data_format: "channels_last", or "channels_first" for (batch, channels, times).

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> STFTSpectrogram(frame_length=8)(np.ones((2, 32, 1), "float32")).shape
    (2, 7, 5)
    """

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        if frame_step is not None and not 1 <= frame_step <= frame_length:
            raise ValueError(
                f"`frame_step` must be from 1 to frame_length={frame_length}, got {frame_step}."
            )
        if fft_length is not None and fft_length < frame_length:
            raise ValueError(
                f"`fft_length` must be at least frame_length={frame_length}, got {fft_length}."
            )
        if fft_length is not None and fft_length & (fft_length - 1):
            warnings.warn(f"`fft_length` should be a power of two, got {fft_length}.", stacklevel=2)
        if mode not in _MODES:
            raise ValueError(f"`mode` must be one of {', '.join(_MODES)}, got {mode!r}.")
        if padding not in ("valid", "same"):
            raise ValueError(f"`padding` must be 'valid' or 'same', got {padding!r}.")
        initializers.STFT("real", window, scaling, periodic)  # which checks them
        self.set_arguments(locals())
        self.input_spec = InputSpec(ndim=3)

    @property
    def _frequencies(self) -> int:
        return (self.fft_length or 1 << (self.frame_length - 1).bit_length()) // 2 + 1

    def build(self, input_shape: Shape) -> None:
        """Make the kernels of the real and the imaginary part, as far as the mode takes them."""
        for side, other in (("real", "imag"), ("imag", "real")):
            if self.mode != other:
                kernel = self.add_weight(
                    name=f"{side}_kernel",
                    shape=(self.frame_length, 1, self._frequencies),
                    initializer=initializers.STFT(side, self.window, self.scaling, self.periodic),
                )
                setattr(self, f"{side}_kernel", kernel)

    def _part(self, signals: Tensor, kernel: Any) -> Tensor:
        """Return (batch, channels, times, frequencies) of signals (batch, channels, times)."""
        batch, channels, times = ops.shape(signals)
        frames = ops.conv(
            ops.reshape(signals, (batch * channels, times, 1)), ops.cast(kernel, signals.dtype),
            strides=self.frame_step or self.frame_length // 2, padding=self.padding,
            data_format="channels_last",
        )  # fmt: skip
        return ops.reshape(frames, (batch, channels, ops.shape(frames)[1], self._frequencies))

    def call(self, inputs: Tensor) -> Tensor:
        """Compute the spectrograms."""
        first = self.data_format == "channels_first"
        signals = inputs if first else ops.swapaxes(inputs, 1, 2)
        kernels = [getattr(self, f"{s}_kernel", None) for s in ("real", "imag")]
        parts = [self._part(signals, kernel) for kernel in kernels if kernel is not None]
        outputs = self._combined(parts)
        if self.expand_dims:
            return outputs if first else ops.transpose(outputs, (0, 2, 3, 1))
        batch, channels, times, frequencies = ops.shape(outputs)
        if first:
            outputs = ops.swapaxes(outputs, 2, 3)
            return ops.reshape(outputs, (batch, channels * frequencies, times))
        outputs = ops.swapaxes(outputs, 1, 2)
        return ops.reshape(outputs, (batch, times, channels * frequencies))

    def _combined(self, parts: list[Tensor]) -> Tensor:
        """Return what the mode makes of the real and the imaginary part."""
        if self.mode in ("real", "imag"):
            return parts[0]
        real, imaginary = parts
        if self.mode == "angle":
            return ops.arctan2(imaginary, real)
        if self.mode == "stft":
            return ops.concatenate([real, imaginary], axis=-1)
        power = ops.add(ops.square(real), ops.square(imaginary))
        if self.mode == "psd":  # of both halves of the frequencies
            return power + ops.pad(power[..., 1:-1], [[0, 0]] * 3 + [[1, 1]])
        magnitude = ops.sqrt(ops.maximum(power, config.epsilon()))
        if self.mode == "magnitude":
            return magnitude
        return ops.log(ops.maximum(magnitude, config.epsilon()))
