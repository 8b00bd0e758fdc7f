"""IMDB: reviews of movies, positive and negative, as word numbers."""

from typing import Any

import numpy as np

from keraslite.datasets.arrays import read_npz
from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split
from keraslite.datasets.words import below_length, marked, of_known_words, read_word_index


def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
    **kwargs: Any,
) -> Split:
    """Return the IMDB reviews: 25,000 for training and 25,000 for testing, each a list of numbers.

    Words are numbered from 1 on by how frequent they are; `index_from` is added to that.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.
        num_words: numbers from this on become `oov_char`; all but the largest are kept by default.
        skip_top: numbers below this become `oov_char`.
        maxlen: reviews of this length and longer ones are left out.
        seed: of the order of the reviews.
        start_char: the first number of each review; None for none.
        oov_char: what stands for words that are not kept; None leaves them out.
        index_from: what is added to the numbers of words.
        kwargs: taken for Keras's sake and not used.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays (reviews,) of lists of numbers, and int64
        arrays of 1 for positive reviews and 0 for negative ones.

    Raises:
        ValueError: no review is shorter than maxlen.
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of Maas et al. (2011), https://ai.stanford.edu/~amaas/data/sentiment.

        (x_train, y_train), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=10000)
    """
    file = read_npz(fetch("imdb.npz", path))
    # One generator shuffles both parts, one after the other.
    generator = np.random.RandomState(seed)
    texts: list[Any] = []
    labels = []
    for part in ("train", "test"):
        order = np.arange(len(file[f"x_{part}"]))
        generator.shuffle(order)
        x = marked(file[f"x_{part}"][order], start_char, index_from)
        x, y = below_length(x, file[f"y_{part}"][order], maxlen)
        texts.extend(x)
        labels.append(y)
    at = len(labels[0])
    known = of_known_words(texts, num_words, skip_top, oov_char)
    return (known[:at], labels[0]), (known[at:], labels[1])


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Return the number of each word of the IMDB reviews, without what `load_data` adds.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.

    Raises:
        OSError: the file is not in the cache and cannot be downloaded.

    The first review as a text, with the defaults of `load_data`:

        words = {number + 3: word for word, number in keras.datasets.imdb.get_word_index().items()}
        " ".join(words.get(number, "?") for number in x_train[0])
    """
    return read_word_index("imdb_word_index.json", path)
