"""Reuters: newswires of 46 topics, as word numbers."""

from keraslite.datasets.arrays import read_npz
from keraslite.datasets.files import fetch
from keraslite.datasets.splitting import Split, shuffled, split
from keraslite.datasets.words import below_length, marked, of_known_words, read_word_index

# By label.
_TOPICS = (
    "cocoa", "grain", "veg-oil", "earn", "acq", "wheat", "copper", "housing", "money-supply",
    "coffee", "sugar", "trade", "reserves", "ship", "cotton", "carcass", "crude", "nat-gas", "cpi",
    "money-fx", "interest", "gnp", "meal-feed", "alum", "oilseed", "gold", "tin", "strategic-metal",
    "livestock", "retail", "ipi", "iron-steel", "rubber", "heat", "jobs", "lei", "bop", "zinc",
    "orange", "pet-chem", "dlr", "gas", "silver", "wpi", "hog", "lead",
)  # fmt: skip


def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
) -> Split:
    """Return the Reuters newswires: 11,228 texts of 46 topics, each a list of numbers.

    Words are numbered from 1 on by how frequent they are; `index_from` is added to that.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.
        num_words: numbers from this on become `oov_char`; all but the largest are kept by default.
        skip_top: numbers below this become `oov_char`.
        maxlen: texts of this length and longer ones are left out.
        test_split: the part of the texts for testing.
        seed: of the order of the texts.
        start_char: the first number of each text; None for none.
        oov_char: what stands for words that are not kept; None leaves them out.
        index_from: what is added to the numbers of words.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: arrays (texts,) of lists of numbers, and int64
        arrays of the labels from 0 to 45, whose names are those of `get_label_names`.

    Raises:
        ValueError: no text is shorter than maxlen.
        OSError: the file is not in the cache and cannot be downloaded.

    The data are of Reuters-21578, of David Lewis and Reuters Ltd.

        (x_train, y_train), (x_test, y_test) = keras.datasets.reuters.load_data(num_words=10000)
    """
    file = read_npz(fetch("reuters.npz", path))
    x, y = shuffled(seed, file["x"], file["y"])
    texts, labels = below_length(marked(x, start_char, index_from), y, maxlen)
    return split(of_known_words(texts, num_words, skip_top, oov_char), labels, test_split)


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Return the number of each word of the Reuters newswires, without what `load_data` adds.

    Args:
        path: the name of the file in the cache, in the folder `datasets`.

    Raises:
        OSError: the file is not in the cache and cannot be downloaded.

    The first text, with the defaults of `load_data`:

        index = keras.datasets.reuters.get_word_index()
        words = {number + 3: word for word, number in index.items()}
        " ".join(words.get(number, "?") for number in x_train[0])
    """
    return read_word_index("reuters_word_index.json", path)


def get_label_names() -> tuple[str, ...]:
    """Return the topics of the Reuters newswires, in the order of their labels.

    >>> get_label_names()[:3]
    ('cocoa', 'grain', 'veg-oil')
    """
    return _TOPICS
