"""Tests of the bundled review sentences."""

import re
from itertools import combinations

import numpy as np
import pytest

from hub.datasets import load_reviews


@pytest.fixture(scope="module")
def reviews():
    return load_reviews()


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


def test_counts_and_balance(reviews):
    for (texts, labels), least in zip(reviews, (480, 240)):
        assert len(texts) == len(labels) >= least
        assert labels.dtype == np.int32
        assert np.bincount(labels).tolist() == [len(labels) // 2] * 2


def test_rows_are_shuffled(reviews):
    for _, labels in reviews:
        changes = int(np.count_nonzero(np.diff(labels)))
        assert changes > len(labels) // 3


def test_text_is_clean(reviews):
    for texts, _ in reviews:
        for text in texts:
            assert text == text.strip() and text.isascii() and text.isprintable()
            assert '"' not in text and "  " not in text


def test_no_overlap_between_splits(reviews):
    (train, _), (test, _) = reviews
    assert not {t.lower() for t in train} & {t.lower() for t in test}


def test_no_near_duplicates(reviews):
    (train, _), (test, _) = reviews
    texts = train + test
    sets = [words(text) for text in texts]
    pairs = [
        (texts[i], texts[j])
        for i, j in combinations(range(len(sets)), 2)
        if len(shared := sets[i] & sets[j]) > 0.6 * (len(sets[i]) + len(sets[j]) - len(shared))
    ]
    assert not pairs


def test_lengths_vary(reviews):
    for texts, labels in reviews:
        lengths = np.array([len(text.split()) for text in texts])
        assert lengths.min() >= 3 and lengths.max() <= 45
        assert np.count_nonzero(lengths <= 6) >= 10 and np.count_nonzero(lengths >= 25) >= 10
        # Length alone must not give the label away.
        assert abs(lengths[labels == 1].mean() - lengths[labels == 0].mean()) < 2
