"""Words in time: which frames the decoder attends to while it writes each token.

Some heads of cross-attention follow the sound. Their probabilities, normalised over the tokens and
smoothed over the frames, make a matrix of tokens and frames; the best monotonic path through it
(dynamic time warping) says when each token begins. Tokens are then joined to words, and words that
are too long at the edges of sentences are cut, since pauses belong to no word.

Source: "Robust Speech Recognition via Large-Scale Weak Supervision" (https://arxiv.org/abs/2212.04356)
and its code (openai-whisper), whose constants these are.
"""

import string
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hub.speech.results import Segment, Word

FRAME_SECONDS = 0.02  # of the encoder's output; a frame of the log-mel is half of it
# With the full-width marks of Chinese and Japanese, which RUF001 takes for mistyped ones.
PREPENDED_PUNCTUATION = "\"'“¿([{-"
APPENDED_PUNCTUATION = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
_SENTENCE_ENDS = ".。!！?？"  # noqa: RUF001
_WITHOUT_SPACES = {"zh", "ja", "th", "lo", "my", "yue"}
_LONGEST_TYPICAL = 0.7  # seconds; a typical word is taken to be no longer
_FILTER_WIDTH = 7


class AlignedWord(NamedTuple):
    """A word of a window; times are in seconds from the window's start."""

    text: str
    start: float
    end: float
    probability: float
    num_tokens: int


def default_alignment_heads(num_layers: int, num_heads: int) -> list[tuple[int, int]]:
    """Return (layer, head) of all heads of the upper half of the decoder.

    For checkpoints whose generation_config.json names no `alignment_heads`.

    Args:
        num_layers: of the decoder.
        num_heads: of a layer.

    >>> default_alignment_heads(2, 3)
    [(1, 0), (1, 1), (1, 2)]
    """
    return [(i, j) for i in range(num_layers // 2, num_layers) for j in range(num_heads)]


# -- from attention to times ----------------------------------------------------------------------


def median_filter(x: np.ndarray, width: int = _FILTER_WIDTH) -> np.ndarray:
    """Return the medians of windows along the last axis, which is reflected at its ends.

    Args:
        x: any shape; returned as it is where the last axis is no longer than half a window.
        width: of the window; odd.

    Raises:
        ValueError: the width is even or below 1.

    >>> median_filter(np.array([0.0, 9.0, 1.0, 2.0]), 3)
    array([9., 1., 2., 1.])
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd and positive, got {width}")
    half = width // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    shifted = list(np.moveaxis(sliding_window_view(padded, width, axis=-1), -1, 0))
    # Of half + 2 values of a window, the largest and the smallest are not its median. Comparing
    # whole arrays so is ten times faster than sorting the windows.
    values, waiting = shifted[: half + 2], shifted[half + 2 :]
    while len(values) > 1:
        for i in range(1, len(values)):  # moves the largest to the end
            values[i - 1 : i + 1] = _in_order(values[i - 1], values[i])
        for i in range(len(values) - 2, 0, -1):  # moves the smallest to the front
            values[i - 1 : i + 1] = _in_order(values[i - 1], values[i])
        values, waiting = values[1:-1] + waiting[:1], waiting[1:]
    return values[0]


def _in_order(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(a, b), np.maximum(a, b)


def dynamic_time_warping(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cheapest path from the first corner of a matrix to the last, as rows and columns.

    A step goes to the next row, the next column, or both; of equal steps it goes along the row.

    Args:
        cost: (rows, columns), of finite numbers; summed in float32.

    >>> rows, columns = dynamic_time_warping(np.array([[0, 0, 5], [5, 5, 0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 0, 1], [0, 1, 2])
    """
    height, width = cost.shape
    # An anti-diagonal depends on the two before it alone, so it is computed at once. Row d of these
    # arrays is the anti-diagonal d.
    skewed = np.full((height + width - 1, height), np.inf, np.float32)
    for i, row in enumerate(cost):
        skewed[i : i + width, i] = row
    totals = np.full((height + width + 1, height + 1), np.inf, np.float32)
    totals[0, 0] = 0
    for d in range(2, len(totals)):
        total, before = totals[d, 1:], totals[d - 1]
        np.minimum(before[:-1], before[1:], out=total)
        np.minimum(total, totals[d - 2, :-1], out=total)
        total += skewed[d - 2]
    i, j = height, width
    path = []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        both, down, along = totals[i + j - 2, i - 1], totals[i + j - 1, i - 1], totals[i + j - 1, i]
        if along <= both and along <= down:
            j -= 1
        elif both <= down:
            i, j = i - 1, j - 1
        else:
            i -= 1
    rows, columns = np.array(path[::-1]).T
    return rows, columns


def token_times(attention: np.ndarray, num_frames: int, prompt_length: int) -> np.ndarray:
    """Return when each token of a text begins, and when the last one ends: (text + 1,) seconds.

    Args:
        attention: (heads, tokens, frames), the probabilities of cross-attention of the alignment
            heads for the prompt, the text and the end of text.
        num_frames: the frames of the log-mel that have sound, of 10 ms.
        prompt_length: the number of tokens before the text, <|notimestamps|> the last of them.

    Raises:
        ValueError: there are fewer tokens than the prompt and an end of text.
    """
    attention = np.asarray(attention, np.float32)
    if attention.ndim != 3 or attention.shape[1] <= prompt_length:
        raise ValueError(
            f"attention must be (heads, tokens, frames) with more tokens than the prompt's "
            f"{prompt_length}, got shape {attention.shape}"
        )
    # What remains of the probabilities without the frames of padding sums to 1 again.
    attention = attention[:, :, : max(num_frames // 2, 1)]
    attention = attention / np.maximum(attention.sum(-1, keepdims=True), 1e-30)
    matrix = np.zeros(attention.shape[1:], np.float32)
    for head in attention:
        deviation = head.std(axis=0)
        scores = (head - head.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
        matrix += median_filter(scores) / len(attention)
    # A row is about the token that comes after it.
    rows, columns = dynamic_time_warping(-matrix[prompt_length - 1 : -1])
    return columns[np.diff(rows, prepend=-1) > 0] * FRAME_SECONDS


# -- from tokens to words -------------------------------------------------------------------------


def split_words(
    token_ids: Sequence[int], tokenizer: Any, language: str | None = None
) -> list[tuple[str, int]]:
    """Return the words of a text and how many tokens each has.

    Chinese, Japanese, Thai, Lao, Burmese and Cantonese are written without spaces: there, each
    piece that is whole characters is a word.

    Args:
        token_ids: of text only.
        tokenizer: with `detokenize`.
        language: its code; as English if None.
    """
    pieces = _whole_characters(token_ids, tokenizer)
    if language in _WITHOUT_SPACES:
        return pieces
    words: list[tuple[str, int]] = []
    for text, count in pieces:
        # As the authors have it: several signs count where they are a part of `punctuation`.
        begins = text.startswith(" ") or text.strip() in string.punctuation
        if begins or not words:
            words.append((text, count))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1] + count)
    return words


def _whole_characters(token_ids: Sequence[int], tokenizer: Any) -> list[tuple[str, int]]:
    """Return the shortest runs of tokens that are whole characters, and their lengths."""

    def decode(ids: Sequence[int]) -> str:
        return tokenizer.detokenize(ids, skip_special_tokens=False)

    whole = decode(token_ids)
    pieces: list[tuple[str, int]] = []
    start = position = 0
    for end in range(1, len(token_ids) + 1):
        text = decode(token_ids[start:end])
        # A part of a character is decoded to this sign, unless the text has it itself.
        broken = text.find("\ufffd")
        here = position + broken
        if broken < 0 or whole[here : here + 1] == "\ufffd" or end == len(token_ids):
            pieces.append((text, end - start))
            start, position = end, position + len(text)
    return pieces


def align(
    attention: np.ndarray,
    token_ids: Sequence[int],
    probabilities: Sequence[float],
    tokenizer: Any,
    num_frames: int,
    prompt_length: int,
    language: str | None = None,
) -> list[AlignedWord]:
    """Return the words of a window with their times.

    Args:
        attention: (heads, tokens, frames), for the prompt, the text and the end of text.
        token_ids: those of the text.
        probabilities: of the tokens of the text.
        tokenizer: with `detokenize`.
        num_frames: the frames of the log-mel that have sound, of 10 ms.
        prompt_length: the number of tokens before the text.
        language: the code of the text's language.

    Raises:
        ValueError: `attention` has not a row for each token.
    """
    if not len(token_ids):
        return []
    expected = prompt_length + len(token_ids) + 1
    if np.ndim(attention) != 3 or np.shape(attention)[1] != expected:
        raise ValueError(
            f"attention must have {expected} rows (prompt, text, end of text), "
            f"got shape {np.shape(attention)}"
        )
    times = token_times(attention, num_frames, prompt_length).tolist()
    words = split_words(token_ids, tokenizer, language)
    bounds = np.cumsum([0, *(count for _, count in words)]).tolist()
    return [
        AlignedWord(text, times[i], times[j], float(np.mean(probabilities[i:j])), count)
        for (text, count), (i, j) in zip(words, pairwise(bounds), strict=True)
    ]


def merge_punctuation(
    words: Sequence[AlignedWord],
    prepended: str = PREPENDED_PUNCTUATION,
    appended: str = APPENDED_PUNCTUATION,
) -> list[AlignedWord]:
    """Return the words with punctuation joined to the word that it belongs to.

    A word keeps its own times and probability.

    Args:
        words: as `align` returns them.
        prepended: the signs that belong to the next word.
        appended: the signs that belong to the word before.

    >>> parts = [" (", "Hello", ",", " you", ")"]
    >>> words = [AlignedWord(text, 0.0, 1.0, 1.0, 1) for text in parts]
    >>> [(word.text, word.num_tokens) for word in merge_punctuation(words)]
    [(' (Hello,', 3), (' you)', 2)]
    """
    backwards: list[AlignedWord] = []
    for word in reversed(words):
        if backwards and word.text.startswith(" ") and word.text.strip() in prepended:
            backwards[-1] = _extend(backwards[-1], word, word.text + backwards[-1].text)
        else:
            backwards.append(word)
    merged: list[AlignedWord] = []
    for word in reversed(backwards):
        if merged and not merged[-1].text.endswith(" ") and word.text in appended:
            merged[-1] = _extend(merged[-1], word, merged[-1].text + word.text)
        else:
            merged.append(word)
    return merged


def _extend(word: AlignedWord, sign: AlignedWord, text: str) -> AlignedWord:
    return word._replace(text=text, num_tokens=word.num_tokens + sign.num_tokens)


# -- from words to segments -----------------------------------------------------------------------


def add_words(
    segments: Sequence[Segment],
    words: Sequence[AlignedWord],
    text_lengths: Sequence[int],
    offset: float = 0.0,
    last_speech: float = 0.0,
    prepended: str = PREPENDED_PUNCTUATION,
    appended: str = APPENDED_PUNCTUATION,
) -> list[Segment]:
    """Return the segments of a window with their words, and with the words' start and end.

    Args:
        segments: of the window; times in seconds from the recording's start.
        words: of all segments, as `align` returns them.
        text_lengths: the number of tokens of text of each segment.
        offset: the start of the window in the recording.
        last_speech: the end of the last word of the windows before.
        prepended: the signs that belong to the next word.
        appended: the signs that belong to the word before.
    """
    durations = [word.end - word.start for word in words if word.end != word.start]
    typical = min(_LONGEST_TYPICAL, float(np.median(durations))) if durations else 0.0
    if durations:
        words = _cut_at_sentences(words, 2 * typical)
    waiting = merge_punctuation(words, prepended, appended)[::-1]
    result = []
    for segment, length in zip(segments, text_lengths, strict=True):
        count, timed = 0, []
        while waiting and count < length:
            word = waiting.pop()
            start, end = round(offset + word.start, 2), round(offset + word.end, 2)
            timed.append(Word(word.text, start, end, word.probability))
            count += word.num_tokens
        if timed:
            segment = _fit(segment, timed, last_speech, typical)
            last_speech = segment.end
        else:
            segment = replace(segment, words=())
        result.append(segment)
    return result


def _cut_at_sentences(words: Sequence[AlignedWord], longest: float) -> list[AlignedWord]:
    """Return the words without the pauses in those that end and begin sentences."""
    result = list(words[:1])
    for before, word in pairwise(words):
        if word.end - word.start > longest:
            if word.text in _SENTENCE_ENDS:
                word = word._replace(end=word.start + longest)
            elif before.text in _SENTENCE_ENDS:
                word = word._replace(start=word.end - longest)
        result.append(word)
    return result


def _fit(segment: Segment, words: list[Word], last_speech: float, typical: float) -> Segment:
    """Return a segment with its words, where pauses are in neither its first word nor its last.

    Args:
        segment: with the times that the timestamps of its text gave it.
        words: at least one.
        last_speech: the end of the word before.
        typical: the duration of a typical word.
    """
    longest = 2 * typical
    first, second = words[0], words[1] if len(words) > 1 else None
    is_long = first.end - first.start > longest or (
        second is not None and second.end - first.start > 2 * longest
    )
    if first.end - last_speech > 4 * typical and is_long:
        if second is not None and second.end - second.start > longest:
            bound = max(second.end / 2, second.end - longest)
            first, words[1] = _moved(first, end=bound), _moved(second, start=bound)
        first = _moved(first, start=max(0, first.end - longest))
    # The time of the segment holds where a word would make it more than half a second longer.
    if first.start + 0.5 < segment.start < first.end:
        first = _moved(first, start=max(0, min(first.end - typical, segment.start)))
        start = segment.start
    else:
        start = first.start
    words[0] = first
    last = words[-1]
    if last.start < segment.end < last.end - 0.5:
        words[-1] = _moved(last, end=max(last.start + typical, segment.end))
        end = segment.end
    else:
        end = last.end
    return replace(segment, start=start, end=end, words=tuple(words))


def _moved(word: Word, **times: float) -> Word:
    return replace(word, **{name: round(time, 3) for name, time in times.items()})
