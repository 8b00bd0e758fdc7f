"""IntegerLookup: the places of integers in a vocabulary."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keraslite import backend as backends
from keraslite.layers.preprocessing.graph_lookup import UNKNOWN
from keraslite.layers.preprocessing.lookup import IndexLookup, buckets

_DENSE = 1 << 20  # a table of so many integers is small


class _Index(NamedTuple):
    """A table of places by integer, or where that were too large, sorted integers."""

    low: int
    high: int
    keys: np.ndarray | None
    places: np.ndarray


class IntegerLookup(IndexLookup):
    """Turn integers, such as numbers of users, into their places in a vocabulary.

    Args:
        max_tokens: the largest size of the vocabulary, special tokens included.
        num_oov_indices: how many places stand for integers that are not in the vocabulary.
        mask_token: an integer that has the place 0; in other output modes than "int" it is dropped.
        oov_token: what places outside the vocabulary become if `invert` is true.
        vocabulary: a list, an array, or a text file of an integer in each line; else call `adapt`.
        vocabulary_dtype: "int64".
        idf_weights: the inverse document frequencies of the vocabulary, for "tf_idf".
        invert: whether places are turned into integers of the vocabulary.
        output_mode: "int", "one_hot", "multi_hot", "count" or "tf_idf".
        sparse: whether encoded outputs are sparse tensors of the backend.
        pad_to_max_tokens: whether encoded outputs have the size `max_tokens`.
        oov_method: which of `num_oov_indices`: "floormod", the rest of the division by their
            number, or "farmhash", by the FarmHash64 of the digits.
        salt: an integer or two; with "farmhash", SipHash with this key chooses.

    Raises:
        ValueError: an argument is wrong, or does not fit another.

    >>> layer = IntegerLookup(vocabulary=[12, 36])
    >>> ops.convert_to_numpy(layer([[36, 5]])).tolist()
    [[2, 0]]
    """

    term, term_dtype = int, "int64"
    input_dtype = "int64"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int | None = -1,
        vocabulary: Any = None,
        vocabulary_dtype: str = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        if vocabulary_dtype != "int64":
            raise ValueError(f"`vocabulary_dtype` must be 'int64', got {vocabulary_dtype!r}.")
        super().__init__(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert,
            output_mode, sparse, pad_to_max_tokens, oov_method, salt, name, **kwargs,
        )  # fmt: skip
        self.set_attributes(vocabulary_dtype=vocabulary_dtype)

    def read(self, x: Any) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return the integers of inputs as (a flat array, their shape)."""
        if hasattr(x, "to_numpy"):  # of pandas
            x = x.to_numpy()
        array = np.asarray(x if isinstance(x, list | tuple) else backends.to_numpy(x))
        if array.dtype.kind not in "iufb":
            raise TypeError(f"Layer {self.name!r} takes integers, got {array.dtype}.")
        return array.astype(np.int64).ravel(), array.shape

    def make_index(self, terms: Sequence[int], places: np.ndarray) -> _Index:
        """Return the table of the vocabulary."""
        keys = np.asarray(terms, np.int64)
        order = np.argsort(keys)
        keys, places = keys[order], places[order]
        low, high = (int(keys[0]), int(keys[-1])) if len(keys) else (0, -1)
        if high - low >= max(_DENSE, 8 * len(keys)):
            return _Index(low, high, keys, places)
        table = np.full(high - low + 2, -1, np.int64)
        table[:-1] = np.iinfo(np.int64).min
        table[keys - low] = places
        return _Index(low, high, None, table)

    def find(self, index: _Index, terms: np.ndarray) -> np.ndarray:
        """Return the places of integers."""
        if index.keys is None:
            inside = (terms >= index.low) & (terms <= index.high)
            places = index.places[np.where(inside, terms - index.low, 0)]
            inside &= places != np.iinfo(np.int64).min
        else:
            at = np.minimum(np.searchsorted(index.keys, terms), len(index.keys) - 1)
            inside, places = index.keys[at] == terms, index.places[at]
        return np.where(inside, places, UNKNOWN)

    def numbered(self, terms: np.ndarray) -> tuple[list[int], np.ndarray]:
        """Return the distinct integers, and which each is."""
        values, codes = np.unique(terms, return_inverse=True)
        return values.tolist(), codes.ravel()

    def oov_buckets(self, terms: Sequence[int]) -> np.ndarray:
        """Return the buckets of integers."""
        if self.oov_method == "farmhash":
            return buckets([b"%d" % t for t in terms], self.num_oov_indices, self.salt)
        return np.mod(np.asarray(terms, np.int64), self.num_oov_indices)
