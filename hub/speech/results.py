"""Transcriptions: a text, its segments and its words, with times in seconds."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from hub.speech.writers import WRITERS


@dataclass(frozen=True)
class Word:
    """A word in time.

    Args:
        word: its text, with the space before it and with its punctuation.
        start: in seconds.
        end: in seconds.
        probability: the mean probability of its tokens.

    >>> Word(" fox,", 0.5, 0.75, 0.9).to_dict()
    {'word': ' fox,', 'start': 0.5, 'end': 0.75, 'probability': 0.9}
    """

    word: str
    start: float
    end: float
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return its fields by name, without those that are None."""
        return _to_dict(self)


@dataclass(frozen=True)
class Segment:
    """A part of a recording with its text: a sentence or a phrase.

    Args:
        id: its number in the recording, from 0.
        start: in seconds.
        end: in seconds.
        text: with the space before it.
        tokens: the ids of its tokens.
        temperature: the temperature that its window was decoded with.
        avg_logprob: the mean log-probability of the tokens of its window.
        compression_ratio: of the text of its window; large for text that repeats itself.
        no_speech_prob: the probability that its window has no speech.
        words: None where no word timestamps were asked for.
        seek: the frame (of 10 ms) at which its window begins.

    >>> Segment(0, 0.0, 1.5, " A fox.").to_dict()["text"]
    ' A fox.'
    """

    id: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None
    words: tuple[Word, ...] | None = None
    seek: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return its fields by the names of openai-whisper, without those that are None."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the segment of a dict as `to_dict` and openai-whisper return it.

        Args:
            values: the fields by name; those that a segment does not have are left out.
        """
        words = values.get("words")
        return cls(**{
            **_fields_of(cls, values),
            "tokens": tuple(values.get("tokens", ())),
            "words": None if words is None else tuple(Word(**_fields_of(Word, w)) for w in words),
        })  # fmt: skip


@dataclass(frozen=True)
class Transcription:
    """The text of a recording.

    Args:
        text: the whole text.
        language: its code, such as "en".
        segments: the parts in their order.
        duration: of the recording, in seconds.
        language_probability: None where the language was not detected.

    >>> import hub
    >>> result = hub.Transcription.from_segments([hub.Segment(0, 0.0, 1.5, " A fox.")], "en")
    >>> result.text
    'A fox.'
    >>> print(result.to_string("srt"), end="")
    1
    00:00:00,000 --> 00:00:01,500
    A fox.
    <BLANKLINE>
    """

    text: str
    language: str | None = None
    segments: tuple[Segment, ...] = ()
    duration: float | None = None
    language_probability: float | None = None

    @classmethod
    def from_segments(
        cls,
        segments: Iterable[Segment],
        language: str | None = None,
        duration: float | None = None,
        language_probability: float | None = None,
    ) -> Self:
        """Return the transcription of segments, whose texts it joins and which it numbers.

        Args:
            segments: in their order.
            language: its code.
            duration: of the recording, in seconds.
            language_probability: None where the language was not detected.
        """
        numbered = tuple(replace(segment, id=i) for i, segment in enumerate(segments))
        text = "".join(segment.text for segment in numbered).strip()
        return cls(text, language, numbered, duration, language_probability)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the transcription of a dict as `to_dict` and openai-whisper return it.

        Args:
            values: the fields by name; those that a transcription does not have are left out.

        >>> Transcription.from_dict({"text": " A fox.", "language": "en"}).text
        'A fox.'
        """
        segments = tuple(Segment.from_dict(segment) for segment in values.get("segments", ()))
        text = values.get("text", "").strip()
        return cls(**{**_fields_of(cls, values), "text": text, "segments": segments})

    def to_dict(self) -> dict[str, Any]:
        """Return its fields by the names of openai-whisper, without those that are None."""
        return _to_dict(self)

    def to_string(self, format: str = "txt", **options: Any) -> str:
        """Return the content of a file of a format.

        Args:
            format: "srt", "vtt", "txt", "tsv" or "json".
            options: of the writer: `max_line_width`, `max_line_count`, `max_words_per_line` and
                `highlight_words` for "srt" and "vtt", which need word timestamps.

        Raises:
            ValueError: the format is unknown, or word timestamps are missing.
        """
        if format not in WRITERS:
            raise ValueError(f"format must be one of {', '.join(WRITERS)}, got {format!r}")
        return WRITERS[format](self, **options)

    def save(self, path: str | os.PathLike, **options: Any) -> None:
        """Write a file; the suffix of its name says in which format.

        Args:
            path: a name that ends in .srt, .vtt, .txt, .tsv or .json.
            options: as for `to_string`.

        Raises:
            ValueError: the suffix is unknown, or word timestamps are missing.
        """
        path = Path(path)
        format = path.suffix.lower().removeprefix(".")
        if format not in WRITERS:
            suffixes = ", ".join(f".{name}" for name in WRITERS)
            raise ValueError(f"path must end in one of {suffixes}, got {str(path)!r}")
        path.write_text(self.to_string(format, **options), encoding="utf-8", newline="\n")


def _to_dict(value: Any) -> Any:
    """Return a value of a field as what JSON has: numbers of Python, lists, dicts."""
    if isinstance(value, Word | Segment | Transcription):
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _to_dict(x) for name, x in values.items() if x is not None}
    if isinstance(value, list | tuple):
        return [_to_dict(item) for item in value]
    return value.item() if hasattr(value, "item") else value  # a number of numpy


def _fields_of(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(cls) if field.name in values}
