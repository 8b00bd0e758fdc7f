"""Recordings of any length: windows one after the other by the times in their texts, or several at
a time that are cut at silences.

One after the other is what Whisper's authors do (Radford et al., 2022, arXiv:2212.04356, section
3.8): a window begins where the last complete part of the text before ended, and has that text as
its prompt. Windows cut at silences do not wait for each other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keraslite as keras
from hub.generation.sampling import Sampling
from hub.speech.alignment import add_words
from hub.speech.decoding import DecodingOptions, DecodingResult, Window, WindowDecoder
from hub.speech.results import Segment
from hub.speech.voice_activity import FRAMES_PER_SECOND, chunk_windows, find_speech

_FRAMES_PER_TIME = 2  # of the spectrogram, for a step of the tokens of times
_HOT = 0.5  # texts drawn at a higher temperature are no prompt
_MIN_REST = 50  # frames at the end of a stretch of speech that are not read once more


@dataclass(frozen=True)
class LongFormOptions:
    """How a recording is read.

    Attributes:
        condition_on_previous_text: whether the text before a window is its prompt.
        initial_prompt: tokens before the first window.
        hotwords: tokens before every window.
        word_timestamps: whether to find the times of words.
        hallucination_silence_threshold: with word timestamps: skip silence of more seconds around
            words that are too short, too long or too unlikely to be spoken.
        clips: (start, end) in frames; an end of None is that of the recording.
        min_rest: a part is done where no more than so many frames are left.
    """

    condition_on_previous_text: bool = False
    initial_prompt: tuple[int, ...] = ()
    hotwords: tuple[int, ...] = ()
    word_timestamps: bool = False
    hallucination_silence_threshold: float | None = None
    clips: Sequence[tuple[int, int | None]] = ((0, None),)
    min_rest: int = 0


@dataclass
class _Parts:
    """The segments of a window, and the number of frames after which the next one begins."""

    segments: list[Segment]
    advance: int
    is_complete: bool  # the text ends in a time


def split_segments(decoder: WindowDecoder, result: DecodingResult, seek: int, size: int) -> _Parts:
    """Split the text of a window where a pair of times stands.

    Args:
        decoder: the decoder of the window.
        result: the text.
        seek: the first frame of the window.
        size: the number of its frames.
    """
    begin, tokens = decoder.tokens.timestamp_begin, result.tokens
    is_time = [token >= begin for token in tokens]
    ends_in_time = is_time[-2:] == [False, True]
    cuts = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    advance = size
    if cuts and ends_in_time:
        cuts.append(len(tokens))
    elif cuts:
        advance = (tokens[cuts[-1] - 1] - begin) * _FRAMES_PER_TIME
    parts = [tokens[a:b] for a, b in zip([0, *cuts], cuts, strict=False)] if cuts else [tokens]
    segments = []
    for part in parts:
        times = [token - begin for token in part if token >= begin]
        # Without pairs the text is of the whole window, or up to its last time.
        first = times[0] * _FRAMES_PER_TIME if cuts else 0
        last = times[-1] * _FRAMES_PER_TIME if times and (cuts or times[-1]) else size
        segments.append(
            Segment(
                id=0, start=(seek + first) / FRAMES_PER_SECOND,
                end=(seek + last) / FRAMES_PER_SECOND, text=decoder.text(part),
                tokens=tuple(part), temperature=result.temperature,
                avg_logprob=result.avg_logprob, compression_ratio=result.compression_ratio,
                no_speech_prob=result.no_speech_prob, seek=seek,
            )
        )  # fmt: skip
    return _Parts(segments, advance, ends_in_time)


@dataclass
class Recording:
    """What is known of a recording.

    Attributes:
        number: its number among several.
        language: its code; None until it is detected.
        language_probability: None where the language was not detected.
        duration: in seconds; None of live input.
    """

    number: int = 0
    language: str | None = None
    language_probability: float | None = None
    duration: float | None = None


@dataclass
class Frames:
    """The frames of a recording, of live input as they are asked for.

    Attributes:
        features: a `LogMelReader`.
        blocks: the samples that are still to be read.
    """

    features: Any
    blocks: Iterator[Any] = field(default_factory=lambda: iter(()))

    def read_to(self, start: int, end: int) -> int:
        """Read live input until frames are ready or it ends; return the number of all frames.

        Args:
            start: the first frame that is asked for from now on.
            end: the last frame that is asked for.
        """
        while not self.features.is_closed and self.features.num_frames < end:
            block = next(self.blocks, None)
            if block is None:
                self.features.close()
            else:
                self.features.append(block)
            self.features.discard(start)
        return self.features.num_frames


class Reading:
    """Reads a part of a recording window by window, each from where the text before it ended.

    Args:
        recording: the recording.
        frames: of the recording.
        clips: (start, end) in frames; an end of None is that of the recording.
        decoder: the decoder of windows.
        options: how it is read.
        decoding: how windows are decoded.
        number: its number among the readings of the recording.

    Attributes:
        position: the frame at which the next window begins.
    """

    def __init__(
        self, recording: Recording, frames: Frames, clips: Sequence[tuple[int, int | None]],
        decoder: WindowDecoder, options: LongFormOptions, decoding: DecodingOptions,
        number: int = 0,
    ):  # fmt: skip
        self.recording, self.frames, self.number = recording, frames, number
        self.clips, self.decoder = list(clips), decoder
        self.options, self.decoding = options, decoding
        self.size = decoder.model.backbone.max_encoder_sequence_length
        self.position = self.clips[0][0] if self.clips else 0
        self._seek = self.position
        self._last_speech = self._end = 0.0
        self._tokens: list[int] = list(options.initial_prompt)

    @property
    def advance(self) -> int:
        """The number of frames by which the last window moved the position."""
        return self.position - self._seek

    def window(self) -> tuple[int, int] | None:
        """Return the first frame and the length of the next window; None at the end."""
        while self.clips:
            start, end = self.clips[0]
            self.position = max(self.position, start)
            total = self.frames.read_to(self.position, self.position + self.size)
            rest = (total if end is None else min(end, total)) - self.position
            if rest > self.options.min_rest:
                return self.position, min(self.size, rest)
            del self.clips[0]
        return None

    def request(self, window: tuple[int, int]) -> Window:
        """Return a window with its features and its prompt.

        Args:
            window: as `window` returned it.
        """
        recording, limit = self.recording, self.decoder.previous_length()
        previous = prompt_tokens(self.options.hotwords, self._tokens, limit)
        features = self.frames.features.window(*window)
        return Window(features, previous, recording.language, recording.number)

    def accept(self, window: tuple[int, int], result: DecodingResult) -> list[Segment]:
        """Return the segments of a window, and go on where the last complete one ended.

        Args:
            window: as `window` returned it.
            result: its text.
        """
        self._seek, size = seek, _ = window
        if self.recording.language is None:
            self.recording.language = result.language
            self.recording.language_probability = result.language_probability
        if result.is_silence(self.decoding):
            self.position = seek + size
            return []
        parts = split_segments(self.decoder, result, seek, size)
        self.position = seek + parts.advance
        if self.options.word_timestamps:
            before = self._last_speech
            self._add_words(parts, window, result)
            words = [word for segment in parts.segments for word in segment.words or ()]
            if not parts.is_complete and words and words[-1].end > seek / FRAMES_PER_SECOND:
                self.position = round(words[-1].end * FRAMES_PER_SECOND)
            if self.options.hallucination_silence_threshold is not None:
                self._skip_silence(parts, window, before)
        self.position = max(self.position, seek + 1)
        segments = [s for s in parts.segments if s.start != s.end and s.text.strip()]
        segments = in_bounds(segments, self._end, (seek + size) / FRAMES_PER_SECOND)
        self._end = max([self._end, *(segment.end for segment in segments)])
        self._tokens += [token for segment in segments for token in segment.tokens]
        if not self.options.condition_on_previous_text or result.temperature > _HOT:
            self._tokens.clear()
        del self._tokens[: -self.decoder.previous_length()]
        return segments

    def _add_words(self, parts: _Parts, window: tuple[int, int], result: DecodingResult) -> None:
        """Put the words into the segments of a window."""
        seek, size = window
        end = self.decoder.tokens.end
        texts = [[token for token in s.tokens if token < end] for s in parts.segments]
        text = [token for tokens in texts for token in tokens]
        words = self.decoder.align(
            result.encoder_output, text, size, result.language, self.decoding.task
        )
        start = seek / FRAMES_PER_SECOND
        parts.segments = add_words(
            parts.segments, words, list(map(len, texts)), start, self._last_speech
        )
        ends = [segment.end for segment in parts.segments if segment.words]
        self._last_speech = ends[-1] if ends else self._last_speech

    def _skip_silence(self, parts: _Parts, window: tuple[int, int], last_speech: float) -> None:
        """Go on behind the silence around segments that are not likely to be spoken."""
        threshold: Any = self.options.hallucination_silence_threshold
        seek, size = window
        start, end = seek / FRAMES_PER_SECOND, (seek + size) / FRAMES_PER_SECOND
        spoken = [segment for segment in parts.segments if segment.words]
        if not parts.is_complete and spoken and end - spoken[-1].words[-1].end <= threshold:
            self.position = seek + size
        if spoken and _is_anomalous(spoken[0]) and spoken[0].start - start > threshold:
            self.position = seek + round((spoken[0].start - start) * FRAMES_PER_SECOND)
            parts.segments, self._last_speech = [], last_speech
            return
        before = last_speech
        for i, segment in enumerate(spoken):
            following = spoken[i + 1] if i + 1 < len(spoken) else None
            if _is_anomalous(segment):
                next_start = end if following is None else following.words[0].start
                silent_before = (
                    segment.start - before > threshold
                    or segment.start < threshold
                    or segment.start - start < 2
                )
                silent_after = (
                    next_start - segment.end > threshold
                    or (following is not None and _is_anomalous(following))
                    or end - segment.end < 2
                )
                if silent_before and silent_after:
                    self.position = round(max(start + 1, segment.start) * FRAMES_PER_SECOND)
                    features = self.frames.features
                    rest = features.num_frames / FRAMES_PER_SECOND - segment.end
                    if features.is_closed and rest < threshold:
                        self.position = features.num_frames
                    parts.segments = parts.segments[: parts.segments.index(segment)]
                    self._last_speech = before
                    return
            before = segment.end


def in_bounds(segments: Sequence[Segment], start: float, end: float) -> list[Segment]:
    """Return segments with times that do not decrease, and are none outside of what was heard.

    Args:
        segments: in their order; with the times that the model gave them.
        start: the end of the segment before, in seconds.
        end: of the window, in seconds.

    >>> from hub.speech.results import Word
    >>> words = Word(" A", 1.5, 1.8), Word(" fox.", 1.8, 9.0)
    >>> segment, = in_bounds([Segment(0, 1.5, 9.0, " A fox.", words=words)], 1.6, 4.0)
    >>> segment.start, segment.end, segment.words[0].start, segment.words[1].end
    (1.6, 4.0, 1.6, 4.0)
    """
    bounded, last_word = [], start
    for segment in segments:
        first = _clip(segment.start, start, end)
        start = _clip(segment.end, first, end)
        words = []
        for word in segment.words or ():
            begin = _clip(word.start, last_word, end)
            last_word = _clip(word.end, begin, end)
            words.append(replace(word, start=begin, end=last_word))
        timed = None if segment.words is None else tuple(words)
        bounded.append(replace(segment, start=first, end=start, words=timed))
    return bounded


def _clip(time: float, low: float, high: float) -> float:
    return max(low, min(time, high))


def _is_anomalous(segment: Segment) -> bool:
    """Return whether words are too short, too long or too unlikely to be spoken."""
    words = [word for word in segment.words or () if any(map(str.isalnum, word.word))][:8]
    score = 0.0
    for word in words:
        duration = word.end - word.start
        score += float((word.probability or 0.0) < 0.15)
        score += max(0.133 - duration, 0.0) * 15 + max(duration - 2.0, 0.0)
    return bool(words) and (score >= 3 or score + 0.01 >= len(words))


def prompt_tokens(hotwords: Sequence[int], text: Sequence[int], limit: int) -> tuple[int, ...]:
    """Return hotwords and the end of a text, together at most so many tokens.

    Args:
        hotwords: tokens, of which at most half as many are taken.
        text: tokens.
        limit: the number of tokens.

    >>> prompt_tokens([1], [2, 3, 4, 5], 4)
    (1, 3, 4, 5)
    """
    first = tuple(hotwords)[: limit // 2]
    return first + tuple(text)[max(len(text) - limit + len(first), 0) :]


def readings_of(
    recording: Recording, frames: Frames, decoder: WindowDecoder, options: LongFormOptions,
    decoding: DecodingOptions, levels: Any = None,
) -> list[Reading]:  # fmt: skip
    """Return the readings of a recording: one, or one of each stretch of speech.

    Args:
        recording: the recording.
        frames: of the recording.
        decoder: the decoder of windows.
        options: how it is read.
        decoding: how windows are decoded.
        levels: the loudness of frames, as `hub.speech.voice_activity.loudness` returns it, by which
            speech is found and packed into windows that do not wait for each other.
    """
    if levels is None:
        return [Reading(recording, frames, options.clips, decoder, options, decoding)]
    total = frames.features.num_frames
    clips = [(a, total if b is None else min(b, total)) for a, b in options.clips]
    clips = [(a, b) for a, b in clips if a < b]
    options = replace(options, min_rest=_MIN_REST)
    longest = decoder.model.backbone.max_encoder_sequence_length / FRAMES_PER_SECOND
    speech, readings = find_speech(levels), []
    for first, last in clips:
        start, end = first / FRAMES_PER_SECOND, last / FRAMES_PER_SECOND
        parts = [(max(a, start), min(b, end)) for a, b in speech if a < end and b > start]
        for a, b in chunk_windows(parts, longest, levels):
            clip = round(a * FRAMES_PER_SECOND), min(round(b * FRAMES_PER_SECOND), last)
            reading = Reading(recording, frames, [clip], decoder, options, decoding, len(readings))
            readings.append(reading)
    return readings


def read_all(
    readings: Iterable[Reading], sampling: Sampling, batch_size: int
) -> Iterator[tuple[Reading, list[Segment]]]:
    """Yield a reading and its next segments, in any order of the readings.

    Args:
        readings: of one decoder; taken as others end, and not kept after their ends.
        sampling: as for `WindowDecoder`.
        batch_size: the maximum number of windows that are decoded at a time.
    """
    waiting, active = iter(readings), []
    while True:
        windows = [(reading, reading.window()) for reading in active]
        while len(batch := [pair for pair in windows if pair[1] is not None]) < batch_size:
            reading = next(waiting, None)
            if reading is None:
                break
            windows.append((reading, reading.window()))
        if not batch:
            return
        active = [reading for reading, _ in batch]
        requests = [reading.request(window) for reading, window in batch]
        results = active[0].decoder(requests, active[0].decoding, sampling)
        for (reading, window), result in zip(batch, results, strict=True):
            yield reading, reading.accept(window, result)


def with_progress(
    steps: Iterator[tuple[Reading, list[Segment]]], duration: int | None
) -> Iterator[tuple[Reading, list[Segment]]]:
    """Yield steps, and show how many seconds of all recordings are done.

    Args:
        steps: as `read_all` yields them.
        duration: of all recordings in seconds; None of live input.
    """
    bar = keras.utils.Progbar(duration, unit_name="second")
    done = 0
    for reading, segments in steps:
        done += reading.advance
        seconds = done // FRAMES_PER_SECOND
        bar.update(seconds if duration is None else min(seconds, duration))
        yield reading, segments
    bar.update(duration or done // FRAMES_PER_SECOND, finalize=True)


class SegmentStream(Iterator[Segment]):
    """The segments of a recording as they come, and what is known of the recording so far.

    Args:
        segments: the segments.
        recording: the recording.

    Attributes:
        language: its code; None until it is detected, in the first window.
        language_probability: None where the language was not detected.
        duration: in seconds; None of live input.
    """

    def __init__(self, segments: Iterator[Segment], recording: Recording):
        self._segments, self._recording = segments, recording

    def __next__(self) -> Segment:
        return next(self._segments)

    @property
    def language(self) -> str | None:
        """The code of the language."""
        return self._recording.language

    @property
    def language_probability(self) -> float | None:
        """The probability of the language."""
        return self._recording.language_probability

    @property
    def duration(self) -> float | None:
        """The duration in seconds."""
        return self._recording.duration


def in_order(
    steps: Iterator[tuple[Reading, list[Segment]]], readings: Sequence[Reading]
) -> Iterator[Segment]:
    """Yield the segments of one recording in their order, with their numbers, as soon as possible.

    Args:
        steps: as `read_all` yields them.
        readings: of the recording.
    """
    held: list[list[Segment]] = [[] for _ in readings]
    current = count = 0
    for reading, segments in steps:
        held[reading.number] += segments
        while current < len(readings):
            for segment in held[current]:
                yield replace(segment, id=count)
                count += 1
            held[current].clear()
            if readings[current].window() is not None:
                break
            current += 1
