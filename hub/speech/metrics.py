"""How far texts are from what was said: the rates of wrong words and of wrong characters."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import ops

# Letters that Unicode does not take apart into a letter and a sign.
_PLAIN_LETTERS = str.maketrans({
    "œ": "oe", "æ": "ae", "ø": "o", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l",
})  # fmt: skip


def normalize_text(text: str, remove_diacritics: bool = False) -> str:
    """Return a text in lower case, without punctuation, symbols and remarks in brackets.

    Whisper's authors compare texts of all languages so ("Robust Speech Recognition via Large-Scale
    Weak Supervision", appendix C); their rules for English spelling are not among these.

    Args:
        text: any text.
        remove_diacritics: whether to write "é" as "e".

    >>> normalize_text("Well -- [coughs] the CAFÉ's open!")
    'well the café s open'
    >>> normalize_text("Straße, café", remove_diacritics=True)
    'strasse cafe'
    """
    text = re.sub(r"[<\[][^>\]]*[>\]]", "", text.lower())
    text = re.sub(r"\([^)]+?\)", "", text)
    text = unicodedata.normalize("NFKD" if remove_diacritics else "NFKC", text).lower()
    if remove_diacritics:
        text = text.translate(_PLAIN_LETTERS)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    # Marks, symbols and punctuation.
    text = "".join(" " if unicodedata.category(c)[0] in "MSP" else c for c in text)
    return " ".join(text.split())


def edit_distance(reference: Sequence[Any], hypothesis: Sequence[Any]) -> int:
    """Return how many items are to be replaced, left out or put in to make two sequences equal.

    Args:
        reference: items that can be compared, such as words.
        hypothesis: likewise.

    >>> edit_distance("kitten", "sitting")
    3
    """
    numbers: dict[Any, int] = {}
    rows, columns = (
        np.array([numbers.setdefault(item, len(numbers)) for item in items], np.int64)
        for items in (reference, hypothesis)
    )
    # The distance of the items so far to each beginning of the hypothesis.
    steps = np.arange(len(columns) + 1)
    distance = steps
    for i, item in enumerate(rows, start=1):
        best = np.minimum(distance[:-1] + (columns != item), distance[1:] + 1)
        # Further items put in cost 1 each: a running minimum, once that is taken off.
        distance = np.minimum.accumulate(np.concatenate([[i], best]) - steps) + steps
    return int(distance[-1])


@keras.saving.register_keras_serializable("hub")
class WordErrorRate(keras.metrics.Metric):
    """The number of wrong, missing and surplus words over the number of words that were said.

    Args:
        normalize: whether to compare texts without case and punctuation, as `normalize_text` does.
        name: a name for logs.
        dtype: the dtype of the result.

    >>> metric = WordErrorRate()
    >>> metric.update_state(["the quick fox"], ["a quick fox"])
    >>> metric.update_state("jumps", "jumps")
    >>> float(metric.result())
    0.25
    """

    _direction = "down"

    def __init__(self, normalize: bool = False, name: str = "word_error_rate", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.normalize = normalize
        self.errors = self.add_variable((), dtype="int32", name="errors")
        self.total = self.add_variable((), dtype="int32", name="total")

    def split(self, text: str) -> Sequence[str]:
        """Return the items of a text that are compared.

        Args:
            text: already normalised where that is asked for.
        """
        return text.split()

    def update_state(
        self, references: str | Iterable[str], hypotheses: str | Iterable[str]
    ) -> None:
        """Take texts into account.

        Args:
            references: what was said; one text or several.
            hypotheses: what was recognised, one for each.

        Raises:
            TypeError: a text is no string.
            ValueError: there is not one hypothesis for each reference.
        """
        references, hypotheses = _texts(references), _texts(hypotheses)
        if len(references) != len(hypotheses):
            raise ValueError(
                f"there must be one hypothesis for each reference, got {len(hypotheses)} "
                f"hypotheses for {len(references)} references"
            )
        errors = total = 0
        for texts in zip(references, hypotheses, strict=True):
            reference, hypothesis = (
                self.split(normalize_text(text) if self.normalize else text) for text in texts
            )
            errors += edit_distance(reference, hypothesis)
            total += len(reference)
        self.errors.assign_add(errors)
        self.total.assign_add(total)

    def result(self) -> Any:
        """Return the rate so far; where nothing was said, the number of surplus words."""
        return ops.cast(self.errors, self.dtype) / ops.cast(ops.maximum(self.total, 1), self.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make it."""
        return {**super().get_config(), "normalize": self.normalize}


@keras.saving.register_keras_serializable("hub")
class CharacterErrorRate(WordErrorRate):
    """The number of wrong, missing and surplus characters over the number that were said.

    Spaces count as characters. For languages that are written without spaces between words.

    Args:
        normalize: whether to compare texts without case and punctuation, as `normalize_text` does.
        name: a name for logs.
        dtype: the dtype of the result.

    >>> float(CharacterErrorRate()(["abcd"], ["abxd"]))
    0.25
    """

    def __init__(
        self, normalize: bool = False, name: str = "character_error_rate", dtype: Any = None
    ):
        super().__init__(normalize, name, dtype)

    def split(self, text: str) -> Sequence[str]:
        """Return the characters of a text.

        Args:
            text: already normalised where that is asked for.
        """
        return text.strip()


def _texts(texts: str | Iterable[str]) -> list[str]:
    texts = [texts] if isinstance(texts, str) else list(texts)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise TypeError(f"texts must be strings, got {wrong[0]!r:.80}")
    return texts
