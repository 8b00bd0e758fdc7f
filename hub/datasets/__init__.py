"""Small data sets bundled with the hub.

`reviews.tsv` holds short English reviews (films, products, restaurants, books, apps, hotels)
written for this project and released under CC0-1.0; see the `LICENSE` file beside it.
"""

from importlib import resources

import numpy as np


def load_reviews() -> tuple[tuple[list[str], np.ndarray], tuple[list[str], np.ndarray]]:
    """Load the bundled review sentences with their sentiment labels.

    Returns:
        `((train_texts, train_labels), (test_texts, test_labels))`: lists of strings and int32
        arrays of the same length, where 1 is positive and 0 is negative.

    Example:
        >>> (train_texts, train_labels), (test_texts, test_labels) = load_reviews()
        >>> len(train_texts) == len(train_labels)
        True
        >>> sorted(set(test_labels.tolist()))
        [0, 1]
    """
    text = resources.files(__name__).joinpath("reviews.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]

    def part(name: str) -> tuple[list[str], np.ndarray]:
        chosen = [(int(label), sentence) for split, label, sentence in rows if split == name]
        return [s for _, s in chosen], np.array([y for y, _ in chosen], dtype=np.int32)

    return part("train"), part("test")
