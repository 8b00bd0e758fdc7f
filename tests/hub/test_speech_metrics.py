"""Word and character error rates: values worked out by hand, and a plain edit distance."""

import numpy as np
import pytest
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

import hub
import keraslite as keras
from hub.speech.metrics import edit_distance, normalize_text


def plain_distance(a: str, b: str) -> int:
    """The recursion of Wagner and Fischer (1974), cell by cell."""
    table = [[i + j if 0 in (i, j) else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            )  # fmt: skip
    return table[-1][-1]


@pytest.mark.parametrize("seed", range(20))
def test_edit_distance_by_its_definition(seed):
    generator = np.random.default_rng(seed)
    a, b = ("".join(generator.choice(list("abcd"), size=generator.integers(0, 15))) for _ in "ab")
    assert edit_distance(a, b) == plain_distance(a, b)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("intention", "execution", 5), ("ab", "ba", 2)],
)
def test_edit_distances_of_textbooks(a, b, expected):
    assert edit_distance(a, b) == expected
    assert edit_distance(list(a), list(b)) == expected


def test_word_error_rate(backend):
    metric = hub.WordErrorRate()
    # One word replaced, one left out, one put in; then a text without an error.
    metric.update_state(["the cat sat on the mat"], ["the hat sat on mat today"])
    assert float(metric.result()) == pytest.approx(3 / 6)
    metric.update_state("and slept", "and slept")
    assert float(metric.result()) == pytest.approx(3 / 8)
    metric.reset_state()
    assert float(metric(["a b"], [""])) == 1.0


def test_character_error_rate(backend):
    metric = hub.CharacterErrorRate()
    assert float(metric(["今天天气"], ["今天天汽好"])) == pytest.approx(2 / 4)
    assert float(metric(["a b"], ["ab"])) == pytest.approx(3 / 7)


def test_texts_count_by_their_length(backend):
    metric = hub.WordErrorRate()
    references = np.array(["a", "b c d e f g h i j"])
    assert float(metric(references, ["x", "b c d e f g h i j"])) == pytest.approx(1 / 10)


def test_case_and_punctuation_may_be_left_out():
    texts = ["Hello, World! [laughs]"], ["hello world"]
    assert float(hub.WordErrorRate()(*texts)) == 1.0
    assert float(hub.WordErrorRate(normalize=True)(*texts)) == 0.0
    assert float(hub.CharacterErrorRate(normalize=True)(*texts)) == 0.0


def test_nothing_said():
    assert float(hub.WordErrorRate().result()) == 0.0
    assert float(hub.WordErrorRate()([""], [""])) == 0.0
    assert float(hub.WordErrorRate()([""], ["so so"])) == 2.0


def test_state_is_a_function_of_the_state_before(backend):
    metric = hub.WordErrorRate()
    state = metric.stateless_update_state([v.value for v in metric.variables], ["a b"], ["a c"])
    assert float(metric.stateless_result(state)) == 0.5
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("name", ["WordErrorRate", "CharacterErrorRate"])
def test_a_metric_is_saved_as_a_config(name):
    metric = getattr(hub, name)(normalize=True, name="errors")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(copy) is type(metric) and copy.get_config() == metric.get_config()
    assert copy.normalize and copy.name == "errors"


def test_wrong_texts_are_refused():
    metric = hub.WordErrorRate()
    with pytest.raises(
        ValueError, match="one hypothesis for each reference, got 1 hypotheses for 2"
    ):
        metric.update_state(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="must be strings, got 3"):
        metric.update_state(["a"], [3])
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("remove_diacritics", [False, True])
def test_normalized_texts_against_transformers(remove_diacritics):
    texts = [
        "Mr. O'Neill -- (aside) said: “NO!”", "ÉTÉ à l'Œuvre, ½ Øre & Straße", "[music] <unk> Wait...",
        "价格：５０元。", "नमस्ते दुनिया", "Ťažký kôň", "  two\t lines\n here ", "a_b c-d 50% $3 #1 😀",  # noqa: RUF001
    ]  # fmt: skip
    theirs = BasicTextNormalizer(remove_diacritics)
    for text in texts:
        assert normalize_text(text, remove_diacritics) == theirs(text).strip()
