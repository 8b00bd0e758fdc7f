"""Find speech by its loudness, and pack it into windows that a model hears at once.

A frame of 10 ms belongs to speech where it is louder than the noise around it, which is the
quietest moment of some seconds. Sound is read block by block; of each frame one number is kept.
"""

from collections.abc import Iterable, Iterator

import numpy as np

FRAMES_PER_SECOND = 100
_SILENCE = -100.0  # dB of full scale, for samples that are zero
_SMOOTHING = 5  # frames
_NOISE_SECONDS = 5  # before and after a frame, in which the quietest moment is noise
_RANGE = 45.0  # dB; what is further below the loudest is no louder than noise
_AUDIBLE = -70.0  # dB of full scale; a recording that is nowhere louder has no speech
_MIN_CONTRAST = 10.0  # dB between loud and quiet, below which nothing passes for silence


def loudness(audio: np.ndarray | Iterable[np.ndarray], sample_rate: int = 16000) -> np.ndarray:
    """Return the loudness of each 10 ms in dB of full scale, without rumble.

    Args:
        audio: samples between -1 and 1, one channel; or blocks of them in their order.
        sample_rate: samples per second.

    Raises:
        ValueError: the samples have another shape than (samples,).

    >>> loudness(np.tile([0.1, -0.1], 160)).round().tolist()
    [-20.0, -20.0]
    """
    size = sample_rate // FRAMES_PER_SECOND
    powers, rest = [], np.zeros(0, np.float32)
    for block in [audio] if isinstance(audio, np.ndarray) else audio:
        if np.ndim(block) != 1:
            raise ValueError(f"audio must have the shape (samples,), got {np.shape(block)}")
        samples = np.concatenate([rest, block])
        whole = len(samples) // size * size
        powers.append(samples[:whole].reshape(-1, size).var(axis=1))
        rest = samples[whole:]
    if len(rest):
        powers.append(rest.var(keepdims=True))
    power = np.concatenate(powers) if powers else rest
    return 10 * np.log10(np.maximum(power, 10 ** (_SILENCE / 10)))


def find_speech(
    levels: np.ndarray,
    begin_db: float = 6.0,
    end_db: float = 3.5,
    min_speech: float = 0.1,
    min_silence: float = 0.3,
    padding: float = 0.2,
) -> list[tuple[float, float]]:
    """Return the start and the end of each stretch of speech, in seconds.

    Sound that cannot be told from noise counts as speech: a model that hears it says so, and words
    that nobody hears are lost.

    Args:
        levels: the loudness of frames of 10 ms in dB, as `loudness` returns it.
        begin_db: how far above the noise speech begins.
        end_db: how far above the noise it goes on.
        min_speech: seconds; what is shorter is no speech.
        min_silence: seconds; what is shorter is no silence.
        padding: seconds that are added before and after.

    Raises:
        ValueError: `end_db` is above `begin_db`.

    >>> levels = np.full(300, -60.0)
    >>> levels[100:200] = -20.0
    >>> find_speech(levels)
    [(0.78, 2.22)]
    """
    if end_db > begin_db:
        raise ValueError(f"end_db must be at most begin_db, got {end_db} and {begin_db}")
    if not len(levels) or np.max(levels) < _AUDIBLE:
        return []
    levels = _smooth(np.asarray(levels, np.float32))
    loud = float(np.percentile(levels, 95))
    noise = np.maximum(_quietest(levels), loud - _RANGE)
    if loud - noise.min() < _MIN_CONTRAST:
        return [(0.0, len(levels) / FRAMES_PER_SECOND)]
    runs = _merged(_runs(levels - noise, begin_db, end_db), min_silence * FRAMES_PER_SECOND)
    runs = [(a, b) for a, b in runs if b - a >= min_speech * FRAMES_PER_SECOND]
    pad = round(padding * FRAMES_PER_SECOND)
    padded = _merged([(max(a - pad, 0), min(b + pad, len(levels))) for a, b in runs], 1)
    return [(a / FRAMES_PER_SECOND, b / FRAMES_PER_SECOND) for a, b in padded]


def _smooth(levels: np.ndarray) -> np.ndarray:
    padded = np.pad(levels, _SMOOTHING // 2, mode="edge")
    return np.convolve(padded, np.full(_SMOOTHING, 1 / _SMOOTHING, np.float32), mode="valid")


def _quietest(levels: np.ndarray) -> np.ndarray:
    """Return the lowest level of the seconds around each frame."""
    seconds = np.arange(0, len(levels), FRAMES_PER_SECOND)
    lowest = np.minimum.reduceat(levels, seconds)
    around = [
        lowest[max(i - _NOISE_SECONDS, 0) : i + _NOISE_SECONDS + 1].min()
        for i in range(len(lowest))
    ]
    return np.repeat(around, FRAMES_PER_SECOND)[: len(levels)]


def _runs(excess: np.ndarray, begin: float, end: float) -> list[tuple[int, int]]:
    """Return the runs of frames above `end` that have one above `begin`."""
    edges = np.flatnonzero(np.diff(excess >= end, prepend=False, append=False)).reshape(-1, 2)
    return [(a, b) for a, b in edges.tolist() if excess[a:b].max() >= begin]


def _merged(runs: Iterable[tuple[int, int]], min_gap: float) -> list[tuple[int, int]]:
    """Return the runs, joined where less than `min_gap` is between them."""
    merged: list[tuple[int, int]] = []
    for first, last in runs:
        if merged and first - merged[-1][1] < min_gap:
            merged[-1] = merged[-1][0], last
        else:
            merged.append((first, last))
    return merged


def detect_speech(
    audio: np.ndarray | Iterable[np.ndarray], sample_rate: int = 16000, **options: float
) -> list[tuple[float, float]]:
    """Return the start and the end of each stretch of speech in a recording, in seconds.

    Args:
        audio: samples between -1 and 1, one channel; or blocks of them in their order.
        sample_rate: samples per second.
        options: as for `find_speech`.

    >>> sound = np.zeros(48000, np.float32)
    >>> sound[16000:32000] = np.sin(np.arange(16000))
    >>> detect_speech(sound)
    [(0.8, 2.2)]
    """
    return find_speech(loudness(audio, sample_rate), **options)


def chunk_windows(
    segments: Iterable[tuple[float, float]],
    max_seconds: float = 30.0,
    levels: np.ndarray | None = None,
) -> list[tuple[float, float]]:
    """Return windows that hold the stretches of speech, as few as keep their order.

    A window begins and ends with speech; only a stretch that is too long for one is cut.

    Args:
        segments: (start, end) in seconds, in their order.
        max_seconds: the longest window.
        levels: the loudness of frames of 10 ms, to cut where it is quietest; without it, a stretch
            is cut into equal parts.

    Raises:
        ValueError: `max_seconds` is not positive.

    >>> chunk_windows([(0.5, 12.0), (13.0, 29.0), (31.0, 40.0)])
    [(0.5, 29.0), (31.0, 40.0)]
    """
    if max_seconds <= 0:
        raise ValueError(f"max_seconds must be positive, got {max_seconds}")
    windows: list[tuple[float, float]] = []
    for segment in segments:
        for start, end in _cut(segment, max_seconds, levels):
            if windows and end - windows[-1][0] <= max_seconds:
                windows[-1] = windows[-1][0], end
            else:
                windows.append((start, end))
    return windows


def _cut(
    segment: tuple[float, float], longest: float, levels: np.ndarray | None
) -> Iterator[tuple[float, float]]:
    """Yield the parts of a stretch, each at most `longest` seconds."""
    start, end = segment
    while end - start > longest:
        cut = start + (end - start) / np.ceil((end - start) / longest)
        if levels is not None:
            # In the second half of what fits, so that there are few parts.
            first = round((start + longest / 2) * FRAMES_PER_SECOND)
            last = int((start + longest) * FRAMES_PER_SECOND)
            cut = (first + int(np.argmin(_smooth(levels[first:last])))) / FRAMES_PER_SECOND
        yield start, float(cut)
        start = float(cut)
    yield start, end
