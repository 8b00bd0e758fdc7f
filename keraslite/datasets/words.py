"""Texts as lists of word numbers: what `imdb` and `reuters` share."""

import json
from collections.abc import Iterable, Sequence

import numpy as np

from keraslite.datasets.files import fetch


def marked(texts: Iterable, start_char: int | None, index_from: int | None) -> list[list[int]]:
    """Return texts with their word numbers moved up, behind a mark of the start.

    Args:
        texts: lists of word numbers.
        start_char: the mark; None for none.
        index_from: what is added to word numbers.

    >>> marked([[1, 5]], 1, 3)
    [[1, 4, 8]]
    """
    start = [] if start_char is None else [start_char]
    return [[*start, *(word + (index_from or 0) for word in text)] for text in texts]


def below_length(
    texts: Sequence, labels: Sequence, maxlen: int | None
) -> tuple[Sequence, np.ndarray]:
    """Return the texts with fewer than `maxlen` words, and their labels; all for None.

    >>> below_length([[1], [1, 2]], [7, 8], 2)
    ([[1]], array([7]))
    """
    if not maxlen:
        return texts, np.asarray(labels)
    kept = [i for i, text in enumerate(texts) if len(text) < maxlen]
    if not kept:
        raise ValueError(
            f"No text has fewer than maxlen={maxlen} words, with its mark of the start: increase "
            "maxlen."
        )
    return [texts[i] for i in kept], np.asarray(labels)[kept]


def of_known_words(
    texts: Sequence, num_words: int | None, skip_top: int, oov_char: int | None
) -> np.ndarray:
    """Return texts with a mark in the place of rare and of the most frequent words.

    Args:
        texts: lists of word numbers.
        num_words: the numbers of the words that are kept are below; the largest number of all
            texts by default, as in Keras.
        skip_top: the least number of a word that is kept.
        oov_char: the mark; None leaves the words out.

    Returns:
        A one-dimensional array of lists.

    >>> of_known_words([[1, 9, 4], [5]], 6, 2, 2).tolist()
    [[2, 2, 4], [5]]
    """
    if not num_words:
        num_words = max(max(text) for text in texts)
    result = np.empty(len(texts), dtype="object")
    for i, text in enumerate(texts):
        if oov_char is None:
            result[i] = [word for word in text if skip_top <= word < num_words]
        else:
            result[i] = [word if skip_top <= word < num_words else oov_char for word in text]
    return result


def read_word_index(name: str, path: str) -> dict[str, int]:
    """Return the numbers of words, from a JSON file of a data set.

    Args:
        name: the file, a key of `datasets.files.FILES`.
        path: its name in the cache.
    """
    return json.loads(fetch(name, path).read_text(encoding="utf-8"))
