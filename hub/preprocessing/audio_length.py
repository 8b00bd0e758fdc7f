"""Whether a file of sound is as long as its header says.

libsndfile reads what a truncated file still has, and stops where the header of an mp3 says too
little, without an error in either case.
"""

import os
import re
from typing import Any

_TOLERANCE = 0.25  # seconds: encoders count their padding, some writers their header
_STREAMED = 0x7FFF0000  # a size of a header from here on stands for an unknown one
_AFTER = 1 << 13  # bytes after the sound that may be anything
# What libsndfile reports of the size of the samples, or of the file, that it lacks.
_SIZES = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)$", re.MULTILINE
)


def length_problem(sound: Any, file: Any, count: int) -> str | None:
    """Return what is wrong with the length of a file that was read to its end; None if nothing is.

    Args:
        sound: its `soundfile.SoundFile`.
        file: the open file below it, which can be sought.
        count: the samples that were read of each channel.
    """
    rate = sound.samplerate
    position = file.tell()
    is_mp3 = sound.format == "MP3"
    stated = sound.frames if not is_mp3 or _mp3_states_length(file) else 0
    for size, rest in _SIZES.findall(sound.extra_info):
        if 0 < int(rest) < int(size) < _STREAMED:
            stated = max(stated, round(sound.frames * int(size) / int(rest)))
    if stated - count > _TOLERANCE * rate:
        return (
            f"is truncated or damaged: by its header it has {stated / rate:.1f} s, of which "
            f"{count / rate:.1f} s could be read."
        )
    rest = file.seek(0, os.SEEK_END) - position
    if is_mp3 and rest > _AFTER and not _ends_in_tag(file):
        return (
            f"goes on for {rest} bytes after the {count / rate:.1f} s that were read: it is "
            "several mp3 files in one, or one of a variable rate that does not say its length. "
            "Convert it to wav or flac to read all of it."
        )
    return None


def _mp3_states_length(file: Any) -> bool:
    """Return whether an mp3 counts its frames; else its length is a guess by its first ones."""
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":  # a tag, whose size has seven bits a byte
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0)))
        file.seek(10 + size)
        head = b""
    head += file.read(512)
    return any(mark in head for mark in (b"Xing", b"Info", b"VBRI"))


def _ends_in_tag(file: Any) -> bool:
    """Return whether a file ends in a tag of titles and pictures (APE)."""
    file.seek(max(file.seek(0, os.SEEK_END) - 160, 0))
    return b"APETAGEX" in file.read()
