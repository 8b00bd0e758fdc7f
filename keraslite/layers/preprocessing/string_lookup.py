"""StringLookup: the numbers of texts in a vocabulary."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite.layers.preprocessing import texts
from keraslite.layers.preprocessing.graph_lookup import UNKNOWN
from keraslite.layers.preprocessing.lookup import IndexLookup, buckets


class _Table(dict):
    """Places by text. (Faster than `dict.get` with a default.)"""

    def __missing__(self, text: str) -> int:
        return UNKNOWN


class StringLookup(IndexLookup):
    """Turn texts into their numbers in a vocabulary.

    Texts are str or bytes: one, lists, arrays, or TensorFlow's tensors of strings. Equal numbers
    come out on every backend, and inside `tf.data.Dataset.map`.

    Args:
        max_tokens: the largest size of the vocabulary, special tokens included.
        num_oov_indices: how many numbers stand for texts that are not in the vocabulary; of
            several, the FarmHash64 of a text chooses one. With 0 such texts are refused.
        mask_token: a text that has the number 0; in other output modes than "int" it is dropped.
        oov_token: what numbers outside the vocabulary become if `invert` is true.
        vocabulary: a list, an array, or a text file of a term in each line; else call `adapt`.
        idf_weights: the inverse document frequencies of the vocabulary, for "tf_idf".
        invert: whether numbers are turned into texts; they come as arrays of str.
        output_mode: "int", "one_hot", "multi_hot", "count" or "tf_idf".
        pad_to_max_tokens: whether encoded outputs have the size `max_tokens`.
        sparse: whether encoded outputs are sparse tensors of the backend.
        encoding: of texts that are bytes.
        salt: an integer or two; SipHash with this key then chooses among `num_oov_indices`.

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> layer = StringLookup(vocabulary=["a", "b"])
    >>> ops.convert_to_numpy(layer([["b", "z"]])).tolist()
    [[2, 0]]
    """

    term, term_dtype = str, "string"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str | None = "[UNK]",
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        name: str | None = None,
        salt: Any = None,
        **kwargs: Any,
    ):
        self.encoding = encoding
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, sparse, pad_to_max_tokens, salt=salt, name=name, **kwargs,
        )  # fmt: skip
        self.set_attributes(encoding=encoding)

    def read(self, x: Any) -> tuple[list[str], tuple[int, ...]]:
        """Return the texts of inputs as (a flat list, their shape)."""
        items, shape = texts.read_texts(x)
        return texts.as_str(items, self.encoding), shape

    def make_index(self, terms: Sequence[str], places: np.ndarray) -> dict[str, int]:
        """Return the table of the vocabulary."""
        return _Table(zip(terms, places.tolist(), strict=True))

    def find(self, index: dict[str, int], terms: list[str]) -> np.ndarray:
        """Return the places of texts."""
        return np.fromiter(map(index.__getitem__, terms), np.int64, len(terms))

    def numbered(self, terms: list[str]) -> tuple[list[str], np.ndarray]:
        """Return the distinct texts, and which each is."""
        return texts.numbered(terms)

    def numbers_in_saved_graph(self, terms: Any) -> Any:
        """Return the numbers of texts in a graph that is saved."""
        from keraslite.backend.tensorflow import texts as graph

        terms = graph.standardized(terms, lower=False, strip=False, encoding=self.encoding)
        return self.numbers_of_utf8(terms)

    def numbers_of_utf8(self, terms: Any) -> Any:
        """Return the numbers of texts in a graph that is saved.

        Args:
            terms: in UTF-8.
        """
        return super().numbers_in_saved_graph(terms)

    def oov_buckets(self, terms: Sequence[str]) -> np.ndarray:
        """Return the buckets of texts."""
        return buckets(texts.as_bytes(terms), self.num_oov_indices, self.salt)
