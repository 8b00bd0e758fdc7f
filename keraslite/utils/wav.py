"""Sound in WAV files, of numbers of any size, read without a library."""

from os import PathLike
from typing import Any

import numpy as np

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # codes of formats


def read_wav(path: str | PathLike) -> tuple[np.ndarray, int]:
    """Return the sound of a WAV file and its sampling rate.

    Args:
        path: the file: integers of 8, 16, 24 or 32 bits, or floats of 32 or 64.

    Returns:
        A float32 array (samples, channels), from -1 to 1 where they were integers, and the number
        of samples in a second.

    Raises:
        ValueError: the file is damaged, or compressed.

    The format is that of Microsoft's and IBM's "Multimedia Programming Interface and Data
    Specifications 1.0" (1991).

    >>> import tempfile, wave
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     with wave.open(file.name, "wb") as sound:
    ...         sound.setparams((1, 2, 8000, 0, "NONE", ""))
    ...         sound.writeframes(np.int16([0, 16384, -32768]).tobytes())
    ...     samples, rate = read_wav(file.name)
    >>> samples[:, 0].tolist(), rate
    ([0.0, 0.5, -1.0], 8000)
    """
    with open(path, "rb") as file:
        content = file.read()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError(f"{path} is no WAV file: it does not begin with RIFF and WAVE.")
    layout, data = None, None
    at = 12
    while at + 8 <= len(content) and data is None:
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        # Programs that write to a pipe do not know the size: what is there counts.
        part = content[at + 8 : at + 8 + size]
        if name == b"fmt ":
            layout = part
        elif name == b"data":
            data = part
        at += 8 + size + size % 2
    if layout is None or len(layout) < 16 or data is None:
        raise ValueError(f"{path} is damaged: a WAV file has a chunk 'fmt ', and then 'data'.")
    code, channels = _number(layout, 0, 2), _number(layout, 2, 2)
    rate, bits = _number(layout, 4, 4), _number(layout, 14, 2)
    if code == _EXTENSIBLE and len(layout) >= 26:
        code = _number(layout, 24, 2)
    if channels == 0 or (code, bits) not in _READERS:
        raise ValueError(
            f"{path} must hold integers of 8, 16, 24 or 32 bits, or floats, got format {code} of "
            f"{bits} bits: convert it first."
        )
    frame = channels * bits // 8
    data = data[: len(data) // frame * frame]
    return _READERS[code, bits](data).reshape(-1, channels), rate


def _number(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")


def _integers(dtype: str, zero: int = 0) -> Any:
    scale = 2.0 ** (8 * np.dtype(dtype).itemsize - 1)
    return lambda data: ((np.frombuffer(data, dtype) - np.float64(zero)) / scale).astype("float32")


def _integers_of_24_bits(data: bytes) -> np.ndarray:
    padded = np.zeros((len(data) // 3, 4), "uint8")
    padded[:, 1:] = np.frombuffer(data, "uint8").reshape(-1, 3)
    return (padded.view("<i4")[:, 0] / 2.0**31).astype("float32")


def _floats(dtype: str) -> Any:
    return lambda data: np.frombuffer(data, dtype).astype("float32")


_READERS = {  # (code, bits) -> function of the bytes
    (_PCM, 8): _integers("u1", zero=128),
    (_PCM, 16): _integers("<i2"),
    (_PCM, 24): _integers_of_24_bits,
    (_PCM, 32): _integers("<i4"),
    (_FLOAT, 32): _floats("<f4"),
    (_FLOAT, 64): _floats("<f8"),
}
