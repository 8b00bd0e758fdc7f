"""Audio as an argument: files, arrays, raw samples and live input, as float32 of one channel.

Files are decoded by soundfile (libsndfile) and resampled by soxr; both are imported when they are
needed. Everything goes through blocks, so that the memory does not grow with the recording.
"""

import importlib
import io
import math
import numbers
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import keraslite as keras
from hub.preprocessing.audio_length import length_problem

INSTALL = 'pip install "keraslite-hub[audio]"'
_EXPECTED = (
    "a path, the bytes of a file, an open file, an array (samples,) or (samples, channels), a pair "
    "(rate, array), or an iterator of arrays"
)
_CHUNK = 1 << 18  # samples that are read at a time
_DECODED = 1 << 15  # of a file: of a damaged one as many are lost
_MAX_CHANNELS = 32
_LOUDEST = 64.0  # of floats from -1 to 1, with room for clipped ones; those of int16 are hundreds
_BYTES = bytes | bytearray | memoryview
_UNKNOWN_LENGTH = 1 << 62  # libsndfile says more where a header has no length


@dataclass(frozen=True)
class _Audio:
    """An opened source: its samples by chunks, of one or two axes."""

    name: str
    rate: float
    length: int | None  # in samples
    chunks: Iterable[Any]
    axis: int | None = 0  # of time; None if the first chunk has to say it


def load_audio(
    source: Any,
    sample_rate: int = 16000,
    *,
    pcm: Any = None,
    channels: int = 1,
    name: str = "The audio",
) -> np.ndarray:
    """Return the samples of a recording, float32 (samples,), at a sample rate.

    Args:
        source: a path, the bytes of a file, or an open file (wav, flac, ogg, mp3 ...); an array or
            tensor (samples,), (samples, channels) or (channels, samples); a pair (rate, array), a
            dict of `array` and `sampling_rate`; or an iterator of such arrays, the chunks of live
            input. Floats are from -1 to 1, integers are scaled by their type, and channels are
            averaged. Arrays without a rate are taken to be at `sample_rate`.
        sample_rate: samples a second of the result.
        pcm: the type of raw samples without a header, such as "int16" or "<f4": `source` is then
            bytes, a path, an open file, an iterator of bytes, or a pair (rate, one of these).
        channels: the number of interleaved channels of raw samples.
        name: the name of the recording in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: soundfile or soxr is needed and not installed.
        TypeError: the source is of another type.
        ValueError: the source cannot be read, is empty, has NaN or infinite samples, or floats with
            the scale of integers.

    >>> load_audio((8000, np.zeros((800, 2), "int16"))).shape
    (1600,)
    >>> load_audio(np.array([0, 16384], "int16").tobytes(), pcm="int16").tolist()
    [0.0, 0.5]
    """
    blocks = read_blocks(source, sample_rate, pcm=pcm, channels=channels, name=name)
    return np.concatenate(list(blocks))


def read_blocks(
    source: Any,
    sample_rate: int = 16000,
    block_seconds: float = 30.0,
    *,
    pcm: Any = None,
    channels: int = 1,
    name: str = "The audio",
) -> Iterator[np.ndarray]:
    """Yield the samples of a recording of any length in blocks, float32 (samples,).

    Args:
        source: as for `load_audio`.
        sample_rate: samples a second of the blocks.
        block_seconds: the length of a block; the last may be shorter.
        pcm: as for `load_audio`.
        channels: as for `load_audio`.
        name: the name of the recording in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: soundfile or soxr is needed and not installed.
        TypeError: the source is of another type.
        ValueError: the source cannot be read, is empty, or has NaN or infinite samples.

    >>> [len(block) for block in read_blocks(np.zeros(40000, "float32"), block_seconds=1)]
    [16000, 16000, 8000]
    """
    size = round(block_seconds * _checked_rate(sample_rate, "sample_rate"))
    if size < 1:
        raise ValueError(f"block_seconds must be positive, got {block_seconds}.")
    with _opened(source, sample_rate, pcm, channels, name) as audio:
        samples = _resampled(_mono_chunks(audio), audio.rate, sample_rate)
        yield from _regrouped(samples, size, audio.name)


def audio_duration(
    source: Any,
    sample_rate: int = 16000,
    *,
    pcm: Any = None,
    channels: int = 1,
    name: str = "The audio",
) -> float | None:
    """Return the seconds of a recording, by its header; None for live input.

    Args:
        source: as for `load_audio`.
        sample_rate: the rate of arrays and of raw samples without one.
        pcm: as for `load_audio`.
        channels: as for `load_audio`.
        name: the name of the recording in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: soundfile is needed and not installed.
        TypeError: the source is of another type.
        ValueError: the source cannot be read.

    >>> audio_duration((8000, np.zeros((4000, 2))))
    0.5
    """
    with _opened(source, sample_rate, pcm, channels, name) as audio:
        return None if audio.length is None else audio.length / audio.rate


def is_single_audio(x: Any) -> bool:
    """Return whether an argument is one recording; a list or a batch of them is not.

    Args:
        x: the argument. An array (samples, channels) is one recording, (rows, samples) is a batch.

    >>> is_single_audio("a.wav"), is_single_audio(np.zeros(9)), is_single_audio(np.zeros((2, 9)))
    (True, True, False)
    >>> is_single_audio((16000, np.zeros((9, 2)))), is_single_audio(["a.wav", "b.wav"])
    (True, False)
    """
    if isinstance(x, list | tuple):
        return _is_pair(x) or (bool(x) and isinstance(x[0], numbers.Real))
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) == 2:
        return shape[0] > shape[1] and shape[1] <= _MAX_CHANNELS
    return len(shape) < 2


def audio_name(source: Any, name: str = "The audio") -> str:
    """Return the name of a recording in messages, with its path if it has one.

    Args:
        source: as for `load_audio`.
        name: its name among others.

    >>> audio_name("a.wav", "Audio 3"), audio_name(np.zeros(9))
    ('Audio 3 (a.wav)', 'The audio')
    """
    source = _split_rate(source)[1]
    return f"{name} ({os.fspath(source)})" if _is_path(source) else name


def is_live(source: Any) -> bool:
    """Return whether a recording is an iterator of chunks, whose length is unknown.

    Args:
        source: as for `load_audio`.

    >>> is_live(iter([np.zeros(9)])), is_live("a.wav"), is_live([0.0, 0.5]), is_live(np.zeros(9))
    (True, False, False, False)
    """
    source = _split_rate(source)[1]
    is_file = _is_path(source) or isinstance(source, _BYTES) or hasattr(source, "read")
    is_samples = isinstance(source, list | tuple | Mapping) or hasattr(source, "shape")
    return isinstance(source, Iterable) and not is_file and not is_samples


# -- sources ------------------------------------------------------------------------------------


@contextmanager
def _opened(
    source: Any, sample_rate: float, pcm: Any, channels: int, name: str
) -> Iterator[_Audio]:
    """Open any source, and close it in the end if it was opened here."""
    name = audio_name(source, name)
    rate, source = _split_rate(source)
    with ExitStack() as stack:
        if pcm is not None:
            rate = rate or sample_rate
            yield _open_pcm(source, rate, pcm, channels, name, stack)
        elif _is_path(source) or isinstance(source, _BYTES) or hasattr(source, "read"):
            if rate is not None:
                raise TypeError(f"{name} must have no rate beside a file, which has its own.")
            yield _open_file(source, name, stack)
        else:
            yield _open_array(source, rate or sample_rate, name)


def _is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def _is_pair(x: Any) -> bool:
    """Return whether a value is a rate and samples, in either order."""
    return isinstance(x, tuple) and len(x) == 2 and sum(isinstance(v, numbers.Real) for v in x) == 1


def _split_rate(source: Any) -> tuple[float | None, Any]:
    """Return the rate beside a source, or None, and the source."""
    rate = None
    if isinstance(source, Mapping) and "sampling_rate" in source:
        rate = source["sampling_rate"]
        source = source.get("array", source.get("raw"))
    elif _is_pair(source):
        rate, source = source if isinstance(source[0], numbers.Real) else source[::-1]
    return rate if rate is None else _checked_rate(rate, "The rate of the samples"), source


def _checked_rate(rate: Any, name: str) -> float:
    if not isinstance(rate, numbers.Real) or not 0 < rate < math.inf:
        raise ValueError(f"{name} must be a positive number, got {rate!r}.")
    return rate


def _open_file(source: Any, name: str, stack: ExitStack) -> _Audio:
    """Open a file that has a header: its path, its bytes, or the open file."""
    soundfile = _library("soundfile", "files are decoded")
    file = stack.enter_context(_open_path(source, name)) if _is_path(source) else source
    if isinstance(file, _BYTES):
        file = io.BytesIO(file)
    if not isinstance(file.read(0), bytes):
        raise ValueError(f"{name} must be opened in binary mode.")
    if file.seekable():
        stack.callback(file.seek, file.tell())  # an open file can be read again
    else:
        file = io.BytesIO(file.read())
    try:
        sound = stack.enter_context(soundfile.SoundFile(file))
    except (RuntimeError, TypeError) as error:  # TypeError: RAW, by the name of the file
        if file.seek(0, os.SEEK_END) == 0:
            raise ValueError(f"{name} is empty: it has no bytes.") from error
        raise ValueError(
            f"{name} must be a file that libsndfile reads (wav, flac, ogg, mp3 ...; make one of "
            "m4a, mp4 or webm by `ffmpeg -i IN OUT.wav`), or raw samples with pcm: "
            f"{getattr(error, 'error_string', error)}"
        ) from error

    length = sound.frames if sound.frames < _UNKNOWN_LENGTH else None

    def chunks() -> Iterator[np.ndarray]:
        count = 0
        try:
            while len(chunk := sound.read(_DECODED, dtype="float32", always_2d=True)):
                count += len(chunk)
                yield chunk
        except RuntimeError as error:
            seconds = f"{count / sound.samplerate:.1f} s"
            cause = "" if length else ", or does not say its length in its header"
            raise ValueError(
                f"{name} is damaged after {seconds}{cause} (libsndfile: {error})"
            ) from error
        problem = length_problem(sound, file, count) if length else None
        if problem:
            warnings.warn(f"{name} {problem}", stacklevel=2)

    return _Audio(name, sound.samplerate, length, chunks())


def _open_path(path: Any, name: str) -> io.BufferedReader:
    if re.match(r"https?://", str(path)):
        raise ValueError(f"{name} must be a file, got a URL: download it first.")
    try:
        return open(path, "rb")  # the caller closes it
    except IsADirectoryError:
        raise ValueError(f"{name} must be a file, got a folder.") from None


def _open_array(source: Any, rate: float, name: str) -> _Audio:
    """Open samples in memory, or an iterator of chunks of them."""
    if isinstance(source, list | tuple):
        try:
            source = np.asarray(source)
        except ValueError as error:
            raise ValueError(f"{name} must have channels of the same length: {error}") from None
    if not hasattr(source, "shape"):
        if isinstance(source, Mapping) or not isinstance(source, Iterable):
            raise TypeError(f"{name} must be {_EXPECTED}, got {type(source).__name__}.")
        return _Audio(name, rate, None, source, axis=None)
    axis = _time_axis(tuple(source.shape), name)
    length = source.shape[axis]

    def chunks() -> Iterator[Any]:
        for start in range(0, length, _CHUNK):
            part = slice(start, start + _CHUNK)
            yield source[part] if axis == 0 else source[:, part]

    return _Audio(name, rate, length, chunks(), axis)


def _open_pcm(
    source: Any, rate: float, pcm: Any, channels: int, name: str, stack: ExitStack
) -> _Audio:
    """Open raw samples: bytes, a file of them, or an iterator of bytes."""
    try:
        dtype = np.dtype(pcm)
    except TypeError:
        dtype = np.dtype(bool)
    if dtype.kind not in "iuf":
        raise ValueError(f"pcm must be a type of numpy's such as 'int16' or '<f4', got {pcm!r}.")
    if not isinstance(channels, int) or not 0 < channels <= _MAX_CHANNELS:
        raise ValueError(f"channels must be from 1 to {_MAX_CHANNELS}, got {channels!r}.")
    size, length, pieces = dtype.itemsize * channels, None, source
    if isinstance(source, _BYTES):
        view = memoryview(source).cast("B")
        length = len(view) // size
        pieces = (view[i : i + _CHUNK * size] for i in range(0, len(view), _CHUNK * size))
    elif _is_path(source) or hasattr(source, "read"):
        file = stack.enter_context(_open_path(source, name)) if _is_path(source) else source
        if _is_path(source):
            length = os.fstat(file.fileno()).st_size // size
        read = getattr(file, "read1", file.read)  # of a pipe what there is, without waiting
        pieces = iter(lambda: read(_CHUNK * size), b"")
    elif not isinstance(source, Iterable) or hasattr(source, "shape"):
        raise TypeError(
            f"{name} must be bytes, a file or an iterator of bytes with pcm, got "
            f"{type(source).__name__}."
        )

    def chunks() -> Iterator[np.ndarray]:
        rest = b""
        for piece in pieces:
            if not isinstance(piece, _BYTES):
                raise TypeError(f"{name} must be bytes with pcm, got {type(piece).__name__}.")
            rest += bytes(piece)
            whole = len(rest) // size * size
            yield np.frombuffer(rest[:whole], dtype).reshape(-1, channels)
            rest = rest[whole:]
        if rest:
            raise ValueError(
                f"{name} must have whole samples of {size} bytes, got {len(rest)} bytes at the end."
            )

    return _Audio(name, rate, length, chunks())


def _library(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: without libsndfile itself
        raise ImportError(f"Audio {purpose} by {module}, which is missing: {INSTALL}") from error


# -- samples ------------------------------------------------------------------------------------


def _time_axis(shape: tuple[int, ...], name: str) -> int:
    """Return the axis of time: of two, the longer one."""
    if len(shape) == 1 or 0 in shape:
        return 0
    if len(shape) == 2 and shape[0] != shape[1] and min(shape) <= _MAX_CHANNELS:
        return int(shape[1] > shape[0])
    raise ValueError(
        f"{name} must have the shape (samples,), (samples, channels) or (channels, samples), with "
        f"more samples than channels and at most {_MAX_CHANNELS} of these, got {shape}."
    )


def _mono_chunks(audio: _Audio) -> Iterator[np.ndarray]:
    """Yield chunks as float32 (samples,), the mean over channels."""
    position, axis, channels = 0, audio.axis, None
    for piece in audio.chunks:
        if isinstance(piece, _BYTES):
            raise TypeError(f"{audio.name} is of bytes: set pcm to their type, such as 'int16'.")
        is_array = isinstance(piece, np.ndarray | list | tuple | numbers.Real)
        if not is_array and not hasattr(piece, "shape"):
            raise TypeError(f"{audio.name} must have arrays as chunks, got {type(piece).__name__}.")
        chunk = np.asarray(piece) if is_array else keras.ops.convert_to_numpy(piece)
        if not chunk.size:
            continue
        # A last chunk may be shorter than its channels.
        if axis is None or chunk.ndim not in (1, 2):
            axis = _time_axis(chunk.shape, audio.name)
        count = chunk.shape[1 - axis] if chunk.ndim == 2 else 1
        channels = channels or count
        if count != channels:
            raise ValueError(
                f"{audio.name} must have {channels} channels in every chunk, got {count}."
            )
        chunk = _to_float(chunk, audio.name)
        with np.errstate(invalid="ignore"):  # infinite ones are refused by their place
            chunk = chunk.mean(axis=1 - axis) if chunk.ndim == 2 else chunk
        peak = max(chunk.max(), -chunk.min())  # NaN where a sample is
        if not peak <= _LOUDEST:
            finite = np.isfinite(chunk)
            if finite.all():
                raise ValueError(
                    f"{audio.name} must have floats from -1 to 1, got {peak:g}: leave integers as "
                    "they are, or divide those of 16 bits by 32768."
                )
            seconds = (position + int(finite.argmin())) / audio.rate
            raise ValueError(f"{audio.name} has a NaN or infinite sample at {seconds:.3f} s.")
        position += len(chunk)
        yield np.ascontiguousarray(chunk)


def _to_float(samples: np.ndarray, name: str) -> np.ndarray:
    """Return samples as float32, integers scaled by their type to -1 to 1."""
    dtype = samples.dtype
    if dtype.kind in "iu" and dtype.itemsize < 8:
        half = 2.0 ** (8 * dtype.itemsize - 1)
        offset = half if dtype.kind == "u" else 0.0
        return ((samples.astype("float64") - offset) / half).astype("float32")
    if dtype.kind == "f" or dtype.name == "bfloat16":
        with np.errstate(over="ignore"):
            return samples.astype("float32")
    raise ValueError(
        f"{name} must have floats from -1 to 1, or integers of 8, 16 or 32 bits, whose type says "
        f"the scale, got {dtype}."
    )


def _resampled(chunks: Iterable[np.ndarray], rate: float, target: float) -> Iterator[np.ndarray]:
    """Yield chunks at another rate, with the low-pass filter of soxr."""
    if rate == target:
        yield from chunks
        return
    stream = _library("soxr", "is resampled").ResampleStream(rate, target, 1)
    read = written = 0
    for chunk in chunks:
        samples = stream.resample_chunk(chunk)
        read, written = read + len(chunk), written + len(samples)
        yield samples
    if read:
        samples = stream.resample_chunk(np.zeros(0, "float32"), last=True)
        # soxr rounds the number of samples; a part of one at the end counts, as in transformers.
        missing = math.ceil(read * target / rate) - written - len(samples)
        yield np.pad(samples, (0, max(missing, 0)))


def _regrouped(chunks: Iterable[np.ndarray], size: int, name: str) -> Iterator[np.ndarray]:
    """Yield blocks of a size, the last one shorter."""
    pending: list[np.ndarray] = []
    count = total = 0
    for chunk in chunks:
        pending.append(chunk)
        count, total = count + len(chunk), total + len(chunk)
        if count >= size:
            samples = np.concatenate(pending)
            whole = count // size * size
            for start in range(0, whole, size):
                yield samples[start : start + size]
            pending, count = [samples[whole:]], count - whole
    if count:
        yield np.concatenate(pending)
    if not total:
        raise ValueError(f"{name} is empty: it has no samples.")
