"""Results of speech to text and their files. The expected texts follow from the formats' pages."""

import dataclasses
import json

import numpy as np
import pytest

import hub
from hub.speech.writers import WRITERS

WORDS = (
    hub.Word(" One", 0.0, 0.4, 0.9),
    hub.Word(" fox", 0.4, 0.8, 0.8),
    hub.Word(" &", 1.0, 1.2, 0.7),
    hub.Word(" two", 1.2, 1.5, 0.6),
    hub.Word(" <b>dogs.", 1.5, 2.0, 0.5),
)
LATER = (hub.Word(" It", 3661.25, 3661.5), hub.Word(" ends.", 3661.5, 3662.0))
TEXTS = (" One fox & two <b>dogs.", " It ends.")


def transcription(words: bool) -> hub.Transcription:
    segments = [
        hub.Segment(0, 0.0, 2.0, TEXTS[0], (3, 4), 0.2, -0.25, 1.5, 0.125, WORDS),
        hub.Segment(1, 3661.25, 3662.0, TEXTS[1], (5,), words=LATER, seek=366000),
    ]
    if not words:
        segments = [dataclasses.replace(segment, words=None) for segment in segments]
    return hub.Transcription.from_segments(segments, "en", 3663.0)


SRT = """\
1
00:00:00,000 --> 00:00:02,000
One fox & two <b>dogs.

2
01:01:01,250 --> 01:01:02,000
It ends.

"""
VTT = """\
WEBVTT

00:00.000 --> 00:02.000
One fox &amp; two &lt;b>dogs.

01:01:01.250 --> 01:01:02.000
It ends.

"""
TXT = "One fox & two <b>dogs.\nIt ends.\n"
TSV = "start\tend\ttext\n0\t2000\tOne fox & two <b>dogs.\n3661250\t3662000\tIt ends.\n"


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize(
    ("format", "expected"), [("srt", SRT), ("vtt", VTT), ("txt", TXT), ("tsv", TSV)]
)
def test_files_of_a_format(format, expected, words):
    assert transcription(words).to_string(format) == expected


def cues(srt: str) -> list[str]:
    """The subtitles of a SubRip file without their numbers, hours and milliseconds' zeros."""
    blocks = srt.strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [str(i + 1) for i in range(len(blocks))]
    return [block.split("\n", 1)[1].replace("00:00:", "") for block in blocks]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Lines alone: subtitles stay as they are.
        (
            {"max_line_width": 9},
            ["00,000 --> 02,000\nOne fox &\ntwo\n<b>dogs.", "01:01:01,250 --> 01:01:02,000\nIt ends."],
        ),
        # Both limits: a subtitle ends when it is full, and at a pause.
        (
            {"max_line_width": 9, "max_line_count": 2},
            [
                "00,000 --> 01,500\nOne fox &\ntwo",
                "01,500 --> 02,000\n<b>dogs.",
                "01:01:01,250 --> 01:01:02,000\nIt ends.",
            ],
        ),
        (
            {"max_words_per_line": 3},
            [
                "00,000 --> 01,200\nOne fox &",
                "01,200 --> 02,000\ntwo <b>dogs.",
                "01:01:01,250 --> 01:01:02,000\nIt ends.",
            ],
        ),
        # Between words, nothing is underlined.
        (
            {"max_words_per_line": 3, "highlight_words": True},
            [
                "00,000 --> 00,400\n<u>One</u> fox &",
                "00,400 --> 00,800\nOne <u>fox</u> &",
                "00,800 --> 01,000\nOne fox &",
                "01,000 --> 01,200\nOne fox <u>&</u>",
                "01,200 --> 01,500\n<u>two</u> <b>dogs.",
                "01,500 --> 02,000\ntwo <u><b>dogs.</u>",
                "01:01:01,250 --> 01:01:01,500\n<u>It</u> ends.",
                "01:01:01,500 --> 01:01:02,000\nIt <u>ends.</u>",
            ],
        ),
    ],
    ids=["width", "width_and_count", "words", "highlight"],
)  # fmt: skip
def test_subtitles_are_cut_by_words(options, expected):
    assert cues(transcription(True).to_string("srt", **options)) == expected


def test_a_subtitle_goes_across_segments():
    segments = [
        hub.Segment(0, 0.0, 1.0, " A", words=(hub.Word(" A", 0.0, 1.0),)),
        hub.Segment(1, 1.0, 2.0, " B", words=(hub.Word(" B", 1.0, 2.0),)),
        hub.Segment(2, 4.5, 5.0, " C", words=(hub.Word(" C", 4.5, 5.0),)),
    ]
    result = hub.Transcription.from_segments(segments)
    text = result.to_string("srt", max_line_width=40, max_line_count=1)
    assert cues(text) == ["00,000 --> 02,000\nA B", "04,500 --> 05,000\nC"]


def test_a_highlighted_line_break_stays_before_the_word():
    text = transcription(True).to_string("vtt", max_line_width=9, highlight_words=True)
    assert "One fox &amp;\n<u>two</u>\n&lt;b>dogs." in text


def test_text_cannot_break_a_file():
    segments = [
        hub.Segment(0, 0.0, 1.0, " a --> b\tc"),
        hub.Segment(1, 1.0, 2.0, "  "),
        hub.Segment(2, 59.9996, 61.0, " d\n e"),
    ]
    result = hub.Transcription.from_segments(segments)
    assert "a -> b\tc" in result.to_string("srt")
    assert "a --&gt; b\tc" in result.to_string("vtt")
    assert result.to_string("tsv").splitlines()[1:] == ["0\t1000\ta --> b c", "60000\t61000\td  e"]
    assert cues(result.to_string("srt"))[1].startswith("00:01:00,000 --> 00:01:01,000")
    assert len(cues(result.to_string("srt"))) == 2


@pytest.mark.parametrize("words", [False, True])
def test_json_has_all_and_is_read_back(words):
    result = transcription(words)
    values = json.loads(result.to_string("json"))
    assert values == result.to_dict()
    first = values["segments"][0]
    assert (
        (" One fox" in first["text"]) and first["tokens"] == [3, 4] and ("words" in first) == words
    )
    assert (first["avg_logprob"], first["no_speech_prob"], first["seek"]) == (-0.25, 0.125, 0)
    assert hub.Transcription.from_dict(values) == result


def test_numbers_of_numpy_are_written():
    segment = hub.Segment(0, np.float32(0.5), np.float64(1), " A", (np.int64(3),))
    text = hub.Transcription.from_segments([segment]).to_string("json")
    values = json.loads(text)["segments"][0]
    assert (values["start"], values["end"], values["tokens"]) == (0.5, 1.0, [3])


def test_a_dict_of_openai_whisper_is_read():
    values = {
        "text": " A fox.", "language": "en",
        "segments": [{
            "id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": " A fox.", "tokens": [50363, 317],
            "temperature": 0.0, "avg_logprob": -0.5, "compression_ratio": 0.5,
            "no_speech_prob": 0.01, "words": [
                {"word": " A", "start": 0.0, "end": 0.5, "probability": 0.9},
                {"word": " fox.", "start": 0.5, "end": 1.5, "probability": 0.8},
            ],
        }],
    }  # fmt: skip
    result = hub.Transcription.from_dict(values)
    assert result.text == "A fox."
    assert result.segments[0].to_dict() == values["segments"][0]


def test_the_suffix_says_the_format(tmp_path):
    result = transcription(True)
    for format in WRITERS:
        path = tmp_path / f"out.{format.upper()}"
        result.save(path)
        assert path.read_bytes().decode() == result.to_string(format)
    result.save(tmp_path / "out.srt", max_line_width=9)
    assert "\ntwo\n" in (tmp_path / "out.srt").read_text()


def test_segments_are_numbered_and_their_texts_joined():
    result = hub.Transcription.from_segments(
        [hub.Segment(7, 0, 1, " A"), hub.Segment(7, 1, 2, " B")]
    )
    assert result.text == "A B"
    assert [segment.id for segment in result.segments] == [0, 1]


def test_wrong_formats_and_options_are_refused(tmp_path):
    result = transcription(False)
    with pytest.raises(ValueError, match=r"must end in one of \.srt, .*got '.*out\.doc'"):
        result.save(tmp_path / "out.doc")
    with pytest.raises(ValueError, match="format must be one of srt, .*got 'doc'"):
        result.to_string("doc")
    for options in ({"max_line_width": 40}, {"highlight_words": True}):
        with pytest.raises(ValueError, match=r"needs the times of words.*word_timestamps=True"):
            result.to_string("srt", **options)
    with pytest.raises(ValueError, match="max_line_count must be at least 1, got 0"):
        transcription(True).to_string("vtt", max_line_count=0)


def test_a_recording_without_speech_has_empty_files():
    result = hub.Transcription.from_segments([], "en", 2.0)
    texts = {format: result.to_string(format) for format in ("srt", "vtt", "txt", "tsv")}
    assert texts == {"srt": "", "vtt": "WEBVTT\n\n", "txt": "", "tsv": "start\tend\ttext\n"}
    assert result.to_string("srt", max_line_width=40) == ""
