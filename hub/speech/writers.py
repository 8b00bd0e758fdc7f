"""Files of a transcription: subtitles (SRT, WebVTT), plain text, a table (TSV), JSON.

Each writer is a function of a transcription to the content of a file, `WRITERS` the table of them.
Sources: WebVTT (https://www.w3.org/TR/webvtt1/) for escapes and times; the options of subtitles
and the columns of TSV are those of openai-whisper.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hub.speech.results import Segment, Transcription

_PAUSE = 3.0  # seconds without a new word, after which a subtitle that spans segments ends


class _Part(NamedTuple):
    """A word of a subtitle, or the text of a segment whose words are unknown."""

    text: str
    start: float
    end: float


class _Subtitle(NamedTuple):
    start: str
    end: str
    text: str


def _time(seconds: float, mark: str, hours: bool = True) -> str:
    """Return a time as hh:mm:ss and milliseconds; without hours if there are none to show."""
    total, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(total, 60)
    hour, minute = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minute:02d}:{second:02d}{mark}{milliseconds:03d}"


def _parts(segment: "Segment") -> list[_Part]:
    if segment.words:
        return [_Part(w.word, w.start, w.end) for w in segment.words]
    return [_Part(segment.text, segment.start, segment.end)]


def _groups(
    segments: Iterable["Segment"], width: int | None, lines: int | None, words: int | None
) -> list[list[_Part]]:
    """Return the words of each subtitle; one that begins a line has a line break before it.

    Subtitles go across segments where both `width` and `lines` are set, else no further.
    """
    across = width is not None and lines is not None
    groups: list[list[_Part]] = []
    length = count = 0  # characters of the line, lines of the subtitle
    last = 0.0  # the start of the word before
    for segment in segments:
        for i, part in enumerate(_parts(segment)):
            first = i == 0 if words is None else i % words == 0
            new_subtitle = not groups or (part.start - last > _PAUSE if across else first)
            last = part.start
            text = part.text
            if new_subtitle or (width is not None and length + len(text) > width):
                text = text.strip()
                length = len(text)
                if new_subtitle or count == lines:
                    groups.append([])
                    count = 1
                else:
                    text = f"\n{text}"
                    count += 1
            else:
                length += len(text)
            groups[-1].append(part._replace(text=text))
    return groups


def _underlined(group: list[_Part], time: Callable[[float], str]) -> Iterator[_Subtitle]:
    """Yield the subtitle once for each word, which is underlined while it is spoken."""
    texts = [part.text for part in group]
    last = time(group[0].start)
    for i, part in enumerate(group):
        start, end = time(part.start), time(part.end)
        if start != last:
            yield _Subtitle(last, start, "".join(texts))
        underlined = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", texts[i], flags=re.S)
        yield _Subtitle(start, end, "".join([*texts[:i], underlined, *texts[i + 1 :]]))
        last = end


def _subtitles(
    result: "Transcription",
    time: Callable[[float], str],
    escape: Callable[[str], str],
    max_line_width: int | None = None,
    max_line_count: int | None = None,
    max_words_per_line: int | None = None,
    highlight_words: bool = False,
) -> Iterator[_Subtitle]:
    """Yield the subtitles of a transcription.

    Args:
        result: the transcription.
        time: writes seconds.
        escape: replaces what the format reserves.
        max_line_width: the maximum number of characters of a line.
        max_line_count: the maximum number of lines of a subtitle.
        max_words_per_line: the maximum number of words of a subtitle that stays in its segment.
        highlight_words: whether to underline each word while it is spoken.

    Raises:
        ValueError: an option needs words, and the transcription has none; or is below 1.
    """
    limits = {
        "max_line_width": max_line_width,
        "max_line_count": max_line_count,
        "max_words_per_line": max_words_per_line,
    }
    for name, value in limits.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    segments = [segment for segment in result.segments if segment.text.strip()]
    names = [name for name, value in limits.items() if value is not None]
    names += ["highlight_words"] * highlight_words
    if names and segments and not any(segment.words for segment in segments):
        raise ValueError(
            f"{names[0]} needs the times of words: transcribe with word_timestamps=True"
        )
    for group in _groups(segments, max_line_width, max_line_count, max_words_per_line):
        group = [part._replace(text=escape(part.text)) for part in group]
        if highlight_words:
            yield from _underlined(group, time)
        else:
            text = "".join(part.text for part in group)
            yield _Subtitle(time(group[0].start), time(group[-1].end), text)


def write_srt(result: "Transcription", **options: int | bool | None) -> str:
    r"""Return the subtitles as SubRip (.srt).

    Args:
        result: the transcription.
        options: `max_line_width` (characters), `max_line_count`, `max_words_per_line`,
            `highlight_words`; all need word timestamps.

    Raises:
        ValueError: an option needs words, and the transcription has none.

    >>> from hub.speech.results import Segment, Transcription
    >>> write_srt(Transcription.from_segments([Segment(0, 0.0, 61.5, " A fox.")]))
    '1\n00:00:00,000 --> 00:01:01,500\nA fox.\n\n'
    """
    subtitles = _subtitles(
        result, lambda s: _time(s, ","), lambda text: text.replace("-->", "->"), **options
    )
    return "".join(
        f"{i}\n{s.start} --> {s.end}\n{s.text}\n\n" for i, s in enumerate(subtitles, start=1)
    )


def _escape_vtt(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("-->", "--&gt;")


def write_vtt(result: "Transcription", **options: int | bool | None) -> str:
    r"""Return the subtitles as WebVTT (.vtt).

    Args:
        result: the transcription.
        options: as for `write_srt`.

    Raises:
        ValueError: an option needs words, and the transcription has none.

    >>> from hub.speech.results import Segment, Transcription
    >>> write_vtt(Transcription.from_segments([Segment(0, 0.0, 61.5, " Salt & fox.")]))
    'WEBVTT\n\n00:00.000 --> 01:01.500\nSalt &amp; fox.\n\n'
    """
    subtitles = _subtitles(result, lambda s: _time(s, ".", hours=False), _escape_vtt, **options)
    return "WEBVTT\n\n" + "".join(f"{s.start} --> {s.end}\n{s.text}\n\n" for s in subtitles)


def write_txt(result: "Transcription") -> str:
    r"""Return the text, a line a segment.

    Args:
        result: the transcription.

    >>> from hub.speech.results import Segment, Transcription
    >>> write_txt(Transcription.from_segments([Segment(0, 0.0, 1.5, " A fox.")]))
    'A fox.\n'
    """
    texts = [segment.text.strip() for segment in result.segments] or [result.text]
    return "".join(f"{text}\n" for text in texts if text)


def write_tsv(result: "Transcription") -> str:
    r"""Return a table of start, end (in milliseconds) and text, with a line of heads.

    Args:
        result: the transcription.

    >>> from hub.speech.results import Segment, Transcription
    >>> write_tsv(Transcription.from_segments([Segment(0, 0.0, 1.5, " A fox.")]))
    'start\tend\ttext\n0\t1500\tA fox.\n'
    """
    rows = [("start", "end", "text")]
    for s in result.segments:
        text = re.sub(r"[\t\r\n]+", " ", s.text.strip())
        if text:
            rows.append((str(round(1000 * s.start)), str(round(1000 * s.end)), text))
    return "".join("\t".join(row) + "\n" for row in rows)


def write_json(result: "Transcription") -> str:
    r"""Return all there is, by the names of openai-whisper.

    Args:
        result: the transcription.

    >>> from hub.speech.results import Transcription
    >>> write_json(Transcription("A fox.", "en"))
    '{"text": "A fox.", "language": "en", "segments": []}\n'
    """
    return json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"


WRITERS: dict[str, Callable[..., str]] = {
    "srt": write_srt,
    "vtt": write_vtt,
    "txt": write_txt,
    "tsv": write_tsv,
    "json": write_json,
}


# Options of subtitles, which need the times of words.
STYLES = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")


def style_of(format: str, style: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a format: those of subtitles, or none.

    Args:
        format: of a file.
        style: options of subtitles.

    >>> style_of("vtt", {"max_line_width": 40}), style_of("json", {"max_line_width": 40})
    ({'max_line_width': 40}, {})
    """
    return dict(style) if format in ("srt", "vtt") else {}


def output_files(
    recordings: Sequence[str], folder: str | os.PathLike | None, format: str | None
) -> list[list[Path]]:
    """Return the files to write for each recording; none where all is printed.

    Args:
        recordings: their paths, whose stems name the files.
        folder: of the files, which is made; None to print.
        format: of the files; None for all formats.

    Raises:
        ValueError: several recordings would be printed as one file, or written to one name.

    >>> output_files(["a.wav"], None, "srt")
    [[]]
    """
    if folder is None:
        if len(recordings) > 1 and format not in (None, "txt"):
            raise ValueError(
                f"The {format} of {len(recordings)} recordings must be several files: name their "
                "folder by --output-dir, or leave --format out for a line of JSON a recording."
            )
        return [[] for _ in recordings]
    stems = [Path(recording).stem for recording in recordings]
    for recording, stem in zip(recordings, stems, strict=True):
        if stems.count(stem) > 1:
            raise ValueError(
                f"Recordings must have different names for their files in {folder}, got "
                f"{recording} and another {stem}: write them to several folders."
            )
    Path(folder).mkdir(parents=True, exist_ok=True)
    formats = list(WRITERS) if format is None else [format]
    return [[Path(folder, f"{stem}.{suffix}") for suffix in formats] for stem in stems]
