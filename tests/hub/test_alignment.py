# ruff: noqa: RUF001
"""Word timestamps: against scipy, transformers, and sound whose times are known."""

import numpy as np
import pytest
import scipy.ndimage
import torch
import whisper_checkpoints
from transformers.models.whisper import generation_whisper
from whisper_checkpoints import HEADS

import hub
from hub.speech.alignment import (
    AlignedWord,
    add_words,
    align,
    default_alignment_heads,
    dynamic_time_warping,
    median_filter,
    merge_punctuation,
    split_words,
    token_times,
)
from keraslite import ops

# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("shape", [(30,), (3, 40), (2, 3, 10)])
def test_median_filter_against_scipy(width, shape):
    x = np.random.default_rng(width).normal(size=shape).astype(np.float32)
    size = [1] * (len(shape) - 1) + [width]
    expected = scipy.ndimage.median_filter(x, size=size, mode="mirror")
    np.testing.assert_array_equal(median_filter(x, width), expected)


def test_a_short_axis_is_not_filtered():
    x = np.array([[3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(median_filter(x, 7), x)


@pytest.mark.parametrize("width", [0, 4, -1])
def test_a_median_needs_an_odd_width(width):
    with pytest.raises(ValueError, match=f"odd and positive, got {width}"):
        median_filter(np.zeros(9), width)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 3), (7, 40), (40, 7), (20, 150)])
@pytest.mark.parametrize("seed", range(3))
def test_dynamic_time_warping_against_transformers(shape, seed):
    cost = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    expected = generation_whisper._dynamic_time_warping(cost)
    for actual, theirs in zip(dynamic_time_warping(cost), expected, strict=True):
        np.testing.assert_array_equal(actual, theirs)


def cheapest(cost: np.ndarray) -> float:
    """The cost of the best monotonic path, by the definition."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(cost):
        for j, value in enumerate(row):
            total[i + 1, j + 1] = value + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total[-1, -1]


@pytest.mark.parametrize("seed", range(10))
def test_a_path_with_ties_is_the_cheapest(seed):
    cost = np.random.default_rng(seed).integers(0, 3, size=(9, 13))
    rows, columns = dynamic_time_warping(cost)
    steps = np.diff([rows, columns])
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, 8, 12)
    assert ((steps >= 0) & (steps <= 1)).all() and steps.sum(0).min() == 1
    assert cost[rows, columns].sum() == cheapest(cost)


def test_default_heads_are_those_of_the_upper_layers():
    assert default_alignment_heads(4, 2) == [(2, 0), (2, 1), (3, 0), (3, 1)]


# -- times of tokens ------------------------------------------------------------------------------


def times_of_transformers(weights: torch.Tensor, num_frames: int, prompt_length: int) -> np.ndarray:
    """Times by the parts of transformers, on the frames without padding as the authors have it."""
    weights = weights[:, :, : num_frames // 2]
    weights = weights / weights.sum(-1, keepdim=True)
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
    matrix = generation_whisper._median_filter((weights - mean)[None] / deviation, 7)[0].mean(0)
    cost = -matrix[prompt_length - 1 : -1].double().numpy()
    rows, columns = generation_whisper._dynamic_time_warping(cost)
    begins = np.pad(np.diff(rows), (1, 0), constant_values=1).astype(bool)
    return columns[begins] * 0.02


@pytest.mark.parametrize("num_frames", [240, 101])
def test_token_times_by_the_parts_of_transformers(num_frames):
    logits = torch.randn(3, 12, 120, generator=torch.Generator().manual_seed(0)) * 3
    weights = logits.softmax(-1)
    actual = token_times(weights.numpy(), num_frames, 3)
    assert actual.shape == (12 - 3,)
    np.testing.assert_allclose(actual, times_of_transformers(weights, num_frames, 3), rtol=1e-12)


def test_token_times_of_a_network(backend, tmp_path):
    theirs = whisper_checkpoints.make(tmp_path)
    model = hub.WhisperBackbone.from_preset(tmp_path)
    inputs, batch = whisper_checkpoints.inputs()
    with torch.no_grad():
        attentions = theirs(**batch, output_attentions=True).cross_attentions
    source = model.encode(ops.convert_to_tensor(inputs["encoder_features"]))
    ids, mask = inputs["decoder_token_ids"], inputs["decoder_padding_mask"]
    weights, _ = model.cross_attention_weights(
        ops.convert_to_tensor(ids), source, HEADS, ops.convert_to_tensor(mask)
    )
    expected = torch.stack([attentions[layer][:, head] for layer, head in HEADS], 1)
    for row, length in enumerate(mask.sum(1)[:2]):  # the third is shorter than a prompt
        actual = token_times(ops.convert_to_numpy(weights)[row, :, :length], 40, 3)
        assert len(actual) == length - 3
        wanted = times_of_transformers(expected[row, :, :length], 40, 3)
        np.testing.assert_allclose(actual, wanted, rtol=1e-12)


def attention_to(starts: list[int], num_frames: int, prompt_length: int, seed: int = 0):
    """Attention of 4 heads in which token i looks at the frames from starts[i] to the next."""
    generator = np.random.default_rng(seed)
    weights = generator.uniform(0.5, 1.5, size=(4, prompt_length + len(starts), num_frames))
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], num_frames], strict=True)):
        weights[:, prompt_length - 1 + i, start:end] += 30
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def test_token_times_of_known_sound():
    starts = [0, 20, 45, 90, 110, 200]
    times = token_times(attention_to(starts, 250, 4), 500, 4)
    np.testing.assert_allclose(times, np.multiply(starts, 0.02), atol=0.021)


def test_padding_has_no_part_in_the_times():
    attention = attention_to([0, 20, 45, 60], 80, 3)
    padded = np.concatenate([attention * 0.3, np.full((4, 7, 40), 0.7 / 40, np.float32)], axis=-1)
    np.testing.assert_array_equal(token_times(padded, 160, 3), token_times(attention, 160, 3))


def test_attention_must_have_the_text():
    with pytest.raises(ValueError, match=r"more tokens than the prompt's 3, got shape \(4, 3, 9\)"):
        token_times(np.ones((4, 3, 9)), 18, 3)


def test_even_attention_has_times():
    times = token_times(np.full((2, 6, 10), 0.1), 20, 2)
    assert np.isfinite(times).all() and (np.diff(times) >= 0).all()


# -- words ----------------------------------------------------------------------------------------


def byte_tokenizer() -> hub.BytePairTokenizer:
    """One token a byte, as GPT-2 writes bytes; ids are the bytes themselves."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    letters = {chr(b if b in plain else next(others)): b for b in range(256)}
    return hub.BytePairTokenizer(
        {**letters, "<|end|>": 256}, [], special_tokens={"eos_token": "<|end|>"}
    )


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", " Hello, world.", [" Hello", ",", " world", "."]),
        ("en", " The end...", [" The", " end", ".", ".", "."]),
        (None, " naïve café", [" naïve", " café"]),
        ("ru", " Привет, мир", [" Привет", ",", " мир"]),
        ("en", " a 👍🏽 b", [" a", " 👍🏽", " b"]),
        ("ko", " 안녕 세계", [" 안녕", " 세계"]),
        ("zh", "你好，世界", ["你", "好", "，", "世", "界"]),
        ("ja", "これは", ["こ", "れ", "は"]),
        ("th", "กา", ["ก", "า"]),
    ],
)
def test_words_of_a_text(language, text, expected):
    words = split_words(list(text.encode()), byte_tokenizer(), language)
    assert words == [(word, len(word.encode())) for word in expected]


def test_tokens_of_broken_characters_are_kept():
    sign, half = "\ufffd".encode(), "é".encode()[:1]
    for ids in ([*b" a", *sign, *b" b"], [*b" a", *half], [*b" a", *half, *b" b"]):
        words = split_words(ids, byte_tokenizer())
        assert sum(count for _, count in words) == len(ids)


def test_words_of_known_sound():
    text = " Hi, you"
    starts = [0, 10, 20, 30, 40, 50, 60, 70]
    attention = attention_to([*starts, 90], 120, 2)
    probabilities = np.linspace(0.1, 0.8, 8)
    words = align(attention, list(text.encode()), probabilities, byte_tokenizer(), 240, 2, "en")
    assert [(word.text, word.num_tokens) for word in words] == [(" Hi", 3), (",", 1), (" you", 4)]
    expected = [(0.0, 0.6), (0.6, 0.8), (0.8, 1.8)]
    np.testing.assert_allclose([(w.start, w.end) for w in words], expected, atol=0.021)
    np.testing.assert_allclose([w.probability for w in words], [0.2, 0.4, 0.65], rtol=1e-6)


def test_no_text_has_no_words():
    assert align(np.ones((2, 3, 5)), [], [], byte_tokenizer(), 10, 2) == []


def test_attention_must_have_a_row_for_each_token():
    with pytest.raises(ValueError, match=r"must have 5 rows .*, got shape \(2, 4, 5\)"):
        align(np.ones((2, 4, 5)), [65, 66], [1, 1], byte_tokenizer(), 10, 2)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([" Yes", ",", " sir", "!", "!"], [" Yes,", " sir!!"]),
        ([" (", "see", " “", "it", "”", ")"], [" (see", " “it”)"]),
        ([" ¿", "Qué", "?"], [" ¿Qué?"]),
        (["你", "好", "，", "世"], ["你", "好，", "世"]),
        ([" -", " [", "a"], [" - [a"]),
        ([" don", "'", "t"], [" don'", "t"]),
        ([","], [","]),
    ],
)
def test_punctuation_belongs_to_words(parts, expected):
    words = [AlignedWord(part, i, i + 1, 0.5, 2) for i, part in enumerate(parts)]
    merged = merge_punctuation(words)
    assert [word.text for word in merged] == expected
    assert sum(word.num_tokens for word in merged) == 2 * len(parts)
    bases = {part: i for i, part in enumerate(parts)}
    for word in merged:  # the times are those of the word itself
        assert any(bases[part] == word.start for part in bases if part.strip() in word.text)


# -- segments -------------------------------------------------------------------------------------


def timed(*words: tuple[str, float, float]) -> list[AlignedWord]:
    return [AlignedWord(text, start, end, 0.5, 1) for text, start, end in words]


def times(segment: hub.Segment) -> list[tuple[float, float]]:
    return [(round(word.start, 6), round(word.end, 6)) for word in segment.words]


def test_words_go_to_their_segments():
    words = timed((" a", 0, 0.3), (" b", 0.3, 0.6), (",", 0.6, 0.6), (" c", 0.6, 0.9))
    segments = [hub.Segment(0, 30.0, 30.7, " a b,"), hub.Segment(1, 30.7, 31.0, " c")]
    first, second = add_words(segments, words, [3, 1], offset=30.0, last_speech=29.9)
    assert [word.word for word in first.words] == [" a", " b,"]
    assert times(first) == [(30.0, 30.3), (30.3, 30.6)] and times(second) == [(30.6, 30.9)]
    # The times of a segment become those of its words.
    assert (first.start, first.end, second.start, second.end) == (30.0, 30.6, 30.6, 30.9)
    assert first.text == " a b," and first.words[0].probability == 0.5


def test_a_segment_without_text_has_no_words():
    empty, full = add_words(
        [hub.Segment(0, 0.0, 1.0, ""), hub.Segment(1, 1.0, 2.0, " a")],
        timed((" a", 1, 1.5)),
        [0, 1],
    )
    assert empty.words == () and (empty.start, empty.end) == (0.0, 1.0)
    assert len(full.words) == 1
    assert add_words([], [], []) == []


def test_a_pause_is_no_part_of_a_sentence_end():
    # Words of 0.4 s: what is longer than 0.8 s is cut beside the end of a sentence.
    words = timed(
        (" a", 0, 0.4), (" b", 0.4, 0.8), (".", 0.8, 3.0), (" c", 3.0, 5.0), (" d", 5.0, 5.4)
    )
    words += timed((" e", 5.4, 5.8), (" f", 5.8, 8.0))
    (segment,) = add_words([hub.Segment(0, 0.0, 8.0, "")], words, [len(words)])
    assert times(segment) == [
        (0, 0.4), (0.4, 0.8), (4.2, 5.0), (5.0, 5.4), (5.4, 5.8), (5.8, 8.0)
    ]  # fmt: skip


def test_the_first_word_after_a_pause_is_cut():
    # The typical word has 0.4 s, the pause before is longer than four of them.
    words = timed((" a", 0, 5.0), (" b", 5.0, 5.4), (" c", 5.4, 5.8), (" d", 5.8, 6.2))
    (segment,) = add_words([hub.Segment(0, 4.0, 6.2, "")], words, [4])
    assert times(segment)[0] == (4.2, 5.0) and segment.start == 4.2
    # The second is cut as well if it is long.
    words = timed((" a", 0, 3.0), (" b", 3.0, 5.4), (" c", 5.4, 5.8), (" d", 5.8, 6.2))
    words += timed((" e", 6.2, 6.6), (" f", 6.6, 7.0))
    (segment,) = add_words([hub.Segment(0, 4.0, 7.0, "")], words, [6])
    assert times(segment)[:2] == [(3.8, 4.6), (4.6, 5.4)]
    # Without a pause before, the word stays as it is.
    words = timed((" a", 0, 1.5), (" b", 1.5, 1.9), (" c", 1.9, 2.3), (" d", 2.3, 2.7))
    (segment,) = add_words([hub.Segment(0, 0.0, 2.7, "")], words, [4], last_speech=0.0)
    assert times(segment)[0] == (0, 1.5)


def test_the_times_of_a_segment_hold_against_words_that_are_too_long():
    words = timed((" a", 0, 1.5), (" b", 1.5, 1.9), (" c", 1.9, 2.3), (" d", 2.3, 4.0))
    (segment,) = add_words([hub.Segment(0, 0.8, 2.6, "")], words, [4], last_speech=0.0)
    typical = 0.7  # of the durations 1.5, 0.4, 0.4, 1.7 the median is 0.95, which is limited
    assert times(segment) == [(0.8, 1.5), (1.5, 1.9), (1.9, 2.3), (2.3, 2.3 + typical)]
    assert (segment.start, segment.end) == (0.8, 2.6)
