"""Log-mel spectrograms as Whisper reads them, of recordings of any length.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022. Frames of 400
samples, 160 apart, centered on their samples; the power of each in triangular bands of Slaney's mel
scale, as a decimal logarithm. Values are cut off at 8 below the maximum of the whole recording, so
that the first frame depends on the last: a long recording is read once, and its frames are kept
before that step, which is done for the window that is asked for.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_MAX_FREQUENCY = 8000.0  # of the last band, at every sample rate
_RANGE = 8.0  # decades below the maximum
_FLOOR = 1e-10
_FRAMES_AT_ONCE = 256  # whose spectra fit into the cache of a core
_BLOCK = 3000  # frames that are allocated together


@cache
def mel_filters(num_mels: int, num_fft_bins: int = 400, sample_rate: int = 16000) -> np.ndarray:
    """Return the triangular filters of Slaney's mel scale, float32 (frequencies, mels).

    The scale is linear up to 1000 Hz and logarithmic above; each triangle has the area 1 (Slaney,
    "Auditory Toolbox", 1998).

    Args:
        num_mels: the number of bands, between 0 and 8000 Hz.
        num_fft_bins: the number of samples of a frame.
        sample_rate: samples a second.

    Raises:
        ValueError: an argument is not a positive integer.

    >>> mel_filters(80).shape
    (201, 80)
    """
    for name, value in (
        ("num_mels", num_mels), ("num_fft_bins", num_fft_bins), ("sample_rate", sample_rate),
    ):  # fmt: skip
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    frequencies = np.fft.rfftfreq(num_fft_bins, 1 / sample_rate)[:, None]
    # 15 mels are 1000 Hz; 27 more are a factor of 6.4.
    max_mel = 15 + 27 * np.log(_MAX_FREQUENCY / 1000) / np.log(6.4)
    mels = np.linspace(0, max_mel, num_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    low, center, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - low) / (center - low)
    falling = (high - frequencies) / (high - center)
    filters = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    filters = filters.astype("float32")
    filters.flags.writeable = False
    return filters


class LogMelReader:
    """The log-mel spectrogram of a recording that is read block by block.

    The memory is that of the frames: an hour has 115 MB of 80 mels, and 184 MB of 128; less where
    `discard` forgets the first ones. `window` gives the frames that `WhisperFeatureExtractor` of
    transformers gives for the recording as a whole; before `close` it takes the maximum of what was
    read so far.

    Args:
        num_mels: the number of bands.
        num_fft_bins: the number of samples of a frame.
        stride: the number of samples between frames.
        sample_rate: samples a second.
        min_samples: a shorter recording is padded to this length with silence.

    Attributes:
        num_samples: the number of samples that were read.
        num_frames: the number of frames that are ready; after `close` those of the recording.
        is_closed: whether the recording was read to its end.

    >>> reader = LogMelReader(min_samples=16000)
    >>> for block in np.split(np.ones(9600, "float32"), 3):
    ...     reader.append(block)
    >>> reader.num_frames, reader.close(), reader.num_frames
    (59, None, 100)
    >>> reader.window(90, 20).shape
    (20, 80)
    """

    def __init__(
        self,
        num_mels: int = 80,
        num_fft_bins: int = 400,
        stride: int = 160,
        sample_rate: int = 16000,
        *,
        min_samples: int = 0,
    ):
        if not 0 < stride < num_fft_bins // 2:
            raise ValueError(
                f"stride must be below half of num_fft_bins, got {stride} and {num_fft_bins}."
            )
        self._filters = mel_filters(num_mels, num_fft_bins, sample_rate)
        angles = 2 * np.pi * np.arange(num_fft_bins) / num_fft_bins
        self._hann = (0.5 - 0.5 * np.cos(angles)).astype("float32")
        self._stride, self._half, self._min_samples = stride, num_fft_bins // 2, min_samples
        self._pending = np.zeros(0, "float32")  # samples from the first frame that is not complete
        self._is_started = False
        self._blocks: dict[int, np.ndarray] = {}
        self._maximum = np.float32(-np.inf)
        self.num_samples = 0
        self.num_frames = 0
        self.is_closed = False

    def append(self, samples: np.ndarray) -> None:
        """Read a block.

        Args:
            samples: float32 (samples,), of any length.

        Raises:
            ValueError: the reader is closed, or the samples have another shape.
        """
        if self.is_closed or samples.ndim != 1:
            got = "a closed reader" if self.is_closed else f"the shape {samples.shape}"
            raise ValueError(f"Blocks must be (samples,), before close; got {got}.")
        self.num_samples += len(samples)
        self._add_frames(self._padded_start(samples))

    def close(self) -> None:
        """Complete the frames at the end: what was read is the whole recording.

        Raises:
            ValueError: the recording is too short for a frame.
        """
        if self.is_closed:
            return
        length = max(self.num_samples, self._min_samples)
        if length <= self._half:
            raise ValueError(
                f"A recording must have more than {self._half} samples, got {length}: pad it."
            )
        samples = self._padded_start(np.zeros(length - self.num_samples, "float32"))
        # The last frame is left out, as its authors do.
        count = (length + 2 * self._half - len(self._hann)) // self._stride - self.num_frames
        reflected = samples[-2 : -2 - self._half : -1]
        self._add_frames(np.concatenate([samples, reflected]), count)
        self.is_closed = True

    def window(self, start: int, length: int) -> np.ndarray:
        """Return frames float32 (length, mels), zero where the recording has none.

        Args:
            start: the first frame.
            length: the number of frames.

        Raises:
            ValueError: start or length is negative, or the frames were discarded.
        """
        if start < 0 or length < 0:
            raise ValueError(f"start and length must not be negative, got {start} and {length}.")
        first = min(self._blocks, default=self.num_frames // _BLOCK) * _BLOCK
        if start < first:
            raise ValueError(f"Frames before {first} were discarded, got start {start}.")
        out = np.zeros((length, self._filters.shape[1]), "float32")
        count = 0
        while count < min(length, self.num_frames - start):
            block, offset = divmod(start + count, _BLOCK)
            last = offset + min(length, self.num_frames - start) - count
            rows = self._blocks[block][offset:last]
            out[count : count + len(rows)] = rows
            count += len(rows)
        frames = out[:count]
        np.maximum(frames, self._maximum - _RANGE, out=frames)
        frames += 4
        frames /= 4
        return out

    def discard(self, frame: int) -> None:
        """Forget frames before one, which are not asked for again, to limit the memory.

        Args:
            frame: the first one that is kept; some before it may be.
        """
        for block in [b for b in self._blocks if (b + 1) * _BLOCK <= min(frame, self.num_frames)]:
            del self._blocks[block]

    def _padded_start(self, samples: np.ndarray) -> np.ndarray:
        """Return pending and new samples, reflected before the start of the recording."""
        samples = np.concatenate([self._pending, samples])
        if not self._is_started and len(samples) > self._half:
            samples = np.concatenate([samples[self._half : 0 : -1], samples])
            self._is_started = True
        return samples

    def _add_frames(self, samples: np.ndarray, limit: int | None = None) -> None:
        """Compute the frames that are complete, and keep the rest of the samples."""
        size, stride = len(self._hann), self._stride
        count = 0
        if self._is_started and len(samples) >= size:
            frames = sliding_window_view(samples, size)[::stride][:limit]
            count = len(frames)
            for first in range(0, count, _FRAMES_AT_ONCE):
                spectrum = np.fft.rfft(frames[first : first + _FRAMES_AT_ONCE] * self._hann)
                power = spectrum.real**2 + spectrum.imag**2
                self._store(np.log10(np.maximum(power @ self._filters, _FLOOR)))
        self._pending = samples[count * stride :].copy()

    def _store(self, frames: np.ndarray) -> None:
        self._maximum = max(self._maximum, np.float32(frames.max()))
        while len(frames):
            block, offset = divmod(self.num_frames, _BLOCK)
            if offset == 0:
                self._blocks[block] = np.empty((_BLOCK, frames.shape[1]), "float32")
            rows = frames[: _BLOCK - offset]
            self._blocks[block][offset : offset + len(rows)] = rows
            self.num_frames += len(rows)
            frames = frames[len(rows) :]
