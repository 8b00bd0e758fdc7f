"""Texts in bulk: read, standardized, split into tokens, counted.

The work on characters is done by the methods of one long string and by NumPy, never one by one.
Tokens are kept as numbers into a list of the distinct ones, so that what is done to a token (looked
up, decoded, hashed) is done once.
"""

import codecs
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from keraslite import backend as backends

STANDARDIZE = ("lower_and_strip_punctuation", "lower", "strip_punctuation")
SPLIT = ("whitespace", "character")
# Of which a text's bytes below 128 are ASCII characters.
_ASCII_BASED = {"utf-8", "ascii", "iso8859-1"}
_LOWER = bytes(range(256)).lower()
_PUNCTUATION = string.punctuation.encode()
_BAD = "surrogateescape"  # bytes that are no text come back as they were


@dataclass
class Tokens:
    """The tokens of texts.

    Args:
        values: the distinct tokens: str, or for numbers ints.
        codes: (tokens,) of all texts one after the other: which of the values each is.
        lengths: (texts,) the number of tokens of each.
    """

    values: list[Any]
    codes: np.ndarray
    lengths: np.ndarray


def read_texts(x: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Return texts as (a flat list of str, or of bytes; the shape that they have).

    Args:
        x: a text, lists of texts, an array or a tensor of strings, or a column of pandas.

    Raises:
        TypeError: there is something else among them.
        ValueError: the lists have no shape.
    """
    if isinstance(x, str | bytes):
        items, shape = [x], ()
    elif isinstance(x, list | tuple) and x and isinstance(x[0], list | tuple):
        rows = [read_texts(row) for row in x]
        if len({shape for _, shape in rows}) > 1:
            raise ValueError(
                "Lists of texts must have the same length, got "
                f"{sorted({shape[0] for _, shape in rows})[:5]}: pad them."
            )
        items, shape = list(chain.from_iterable(r for r, _ in rows)), (len(x), *rows[0][1])
    elif isinstance(x, list | tuple) and (not x or isinstance(x[0], str | bytes)):
        items, shape = list(x), (len(x),)
    else:
        if hasattr(x, "to_numpy"):  # of pandas
            x = x.to_numpy()
        array = x if isinstance(x, np.ndarray) else np.asarray(x)
        items, shape = array.ravel().tolist(), array.shape
    types = set(map(type, items))
    wrong = [t.__name__ for t in types if not issubclass(t, str | bytes)]
    if wrong:
        raise TypeError(f"Texts must be str or bytes, got {wrong[0]}: {_first(items, wrong[0])!r}.")
    if len({issubclass(t, bytes) for t in types}) > 1:  # one or the other
        items = [v.encode() if isinstance(v, str) else v for v in items]
    return items, shape


def _first(items: list, type_name: str) -> Any:
    return next(v for v in items if type(v).__name__ == type_name)


def as_str(items: list[Any], encoding: str = "utf-8") -> list[str]:
    """Decode a list of bytes; one of str stays as it is.

    >>> as_str([b"caf\\xc3\\xa9", b""])
    ['café', '']
    """
    if not items or isinstance(items[0], str):
        return items
    if codecs.lookup(encoding).name in _ASCII_BASED:
        joined = b"\0".join(items)
        if joined.count(0) == len(items) - 1:
            return joined.decode(encoding, _BAD).split("\0")
    return [v.decode(encoding, _BAD) for v in items]


def as_bytes(values: Iterable[str]) -> list[bytes]:
    """Encode texts in UTF-8.

    >>> as_bytes(["é"])
    [b'\\xc3\\xa9']
    """
    return [v.encode("utf-8", _BAD) for v in values]


def text_array(values: Sequence[Any], shape: Any = -1) -> np.ndarray:
    """Return texts as an array of objects."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def numbered(values: Sequence[Any], first: Sequence[Any] = ()) -> tuple[list[Any], np.ndarray]:
    """Return the distinct values, and for each value which one it is.

    Args:
        values: the values.
        first: those that have the first numbers.

    >>> numbered(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    index: defaultdict = defaultdict(None, zip(first, range(len(first)), strict=True))
    index.default_factory = index.__len__  # a new value has the next number
    codes = np.fromiter(map(index.__getitem__, values), np.int64, len(values))
    index.default_factory = None  # which would keep it alive
    return list(index), codes


# -- standardizing and splitting ------------------------------------------------------------------


def tokenize(
    x: Any, standardize: str | Callable | None, split: str | Callable | None, encoding: str
) -> tuple[Tokens, tuple[int, ...]]:
    """Standardize texts and split them into tokens.

    Args:
        x: texts in any form that `read_texts` takes.
        standardize: one of STANDARDIZE, a function of an array of str, or None.
        split: one of SPLIT, a function of an array of str, or None: each text is a token.
        encoding: of texts that are bytes.

    Returns:
        (the tokens, the shape of the texts).

    Raises:
        ValueError: texts that are to be split have more than one axis.
    """
    items, shape = read_texts(x)
    if callable(standardize):
        items, shape = read_texts(standardize(text_array(as_str(items, encoding), shape)))
        standardize = None
    if split is not None and len(shape) > 1:
        if shape[-1] != 1 or len(shape) > 2:
            raise ValueError(
                "Texts that are split must have the shape (batch,) or (batch, 1), got "
                f"{shape}. Give split=None if each is a token."
            )
        shape = shape[:-1]
    if items and isinstance(items[0], bytes) and codecs.lookup(encoding).name != "utf-8":
        items = as_str(items, encoding)
    lower = _LOWER if standardize in ("lower_and_strip_punctuation", "lower") else None
    drop = _PUNCTUATION if (standardize or "").endswith("strip_punctuation") else b""
    if split == "whitespace":
        return _split_whitespace(items, lower, drop), shape
    items = _standardized(items, lower, drop)
    if split == "character":
        return _split_characters(as_str(items)), shape
    if split is None:
        values, codes = numbered(as_str(items))
        last = shape[-1] if len(shape) > 1 else 1
        return Tokens(values, codes, np.full(len(items) // last if last else 0, last)), shape
    return _rows(split(text_array(as_str(items), shape))), shape


def _joined(items: list[Any], between: str) -> bytes:
    if items and isinstance(items[0], str):
        return between.join(items).encode("utf-8", _BAD)
    return between.encode().join(items)


def _standardized(items: list[Any], lower: bytes | None, drop: bytes) -> list[Any]:
    if (lower is None and not drop) or not items:
        return items
    joined = _joined(items, "\0").translate(lower, drop)
    if joined.count(0) == len(items) - 1:
        return joined.split(b"\0")
    return [_joined([v], "").translate(lower, drop) for v in items]


def _split_whitespace(items: list[Any], lower: bytes | None, drop: bytes) -> Tokens:
    joined = _joined(items, " \0 ").translate(lower, drop)
    if not items:
        return Tokens([], np.zeros(0, np.int64), np.zeros(0, np.int64))
    if joined.count(0) != len(items) - 1:  # there are zeros in the texts
        rows = [v.split() for v in _standardized([_joined([v], "") for v in items], lower, drop)]
        return _rows(rows)
    values, codes = numbered(joined.split(), [b"\0"])  # a zero stands between two texts
    return _without_marks(as_str(values[1:]), codes)


def _without_marks(values: list[str], codes: np.ndarray) -> Tokens:
    """Return tokens for codes in which a zero stands between two texts."""
    ends = np.flatnonzero(codes == 0)
    lengths = np.diff(ends, prepend=-1, append=len(codes)) - 1
    return Tokens(values, codes[codes != 0] - 1, lengths)


def _split_characters(items: list[str]) -> Tokens:
    lengths = np.fromiter(map(len, items), np.int64, len(items))
    points = np.frombuffer("".join(items).encode("utf-32-le", "surrogatepass"), "<u4")
    present = np.flatnonzero(np.bincount(points)) if len(points) else points
    codes = np.zeros(int(present.max(initial=0)) + 1, np.int64)
    codes[present] = np.arange(len(present))
    return Tokens([chr(point) for point in present], codes[points], lengths)


def _rows(result: Any) -> Tokens:
    """Return the tokens of rows of them: lists, an array, or TensorFlow's ragged tensor."""
    if hasattr(result, "to_list"):
        result = result.to_list()
    elif backends.of(result) is not None:
        result = backends.to_numpy(result)
    rows = [list(row) for row in result]
    values, codes = numbered(as_str(read_texts(list(chain.from_iterable(rows)))[0]))
    return Tokens(values, codes, np.fromiter(map(len, rows), np.int64, len(rows)))


def ngrams(tokens: Tokens, widths: Sequence[int]) -> Tokens:
    """Return the n-grams of tokens: for each text those of the first width, then the next.

    Args:
        tokens: the tokens.
        widths: how many tokens are joined, by spaces.
    """
    row = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    values, codes, grams = tokens.values, tokens.codes, {}
    for width in range(1, max(widths, default=0) + 1):
        if width > 1:  # each gram of the width before, and the token behind it
            ahead = tokens.codes[width - 1 :]
            pairs, codes = np.unique(
                codes[: len(ahead)] * max(len(tokens.values), 1) + ahead, return_inverse=True
            )
            pairs = zip(*(part.tolist() for part in np.divmod(pairs, len(tokens.values) or 1)),
                        strict=True)  # fmt: skip
            values = [f"{values[a]} {tokens.values[b]}" for a, b in pairs]
        grams[width] = values, codes
    parts, rows, all_values = [np.zeros(0, np.int64)], [row[:0]], []
    for width in widths:
        values, codes = grams[width]
        inside = row[: len(codes)] == row[width - 1 :]
        parts.append(codes[inside] + len(all_values))
        rows.append(row[: len(codes)][inside])
        all_values.extend(values)
    codes, row = np.concatenate(parts), np.concatenate(rows)
    values, numbers = numbered(all_values)
    codes = numbers[codes[np.argsort(row, kind="stable")]]
    return Tokens(values, codes, np.bincount(row, minlength=len(tokens.lengths)))


# -- rows of numbers ------------------------------------------------------------------------------


def padded(numbers: np.ndarray, lengths: np.ndarray, size: int | None, fill: int) -> np.ndarray:
    """Return rows of several lengths as one array.

    Args:
        numbers: the numbers of all rows one after the other.
        lengths: of each row.
        size: to which they are cut and filled; the longest by default.
        fill: what they are filled with.

    >>> padded(np.array([1, 2, 3]), np.array([2, 1]), None, 0).tolist()
    [[1, 2], [3, 0]]
    """
    size = int(lengths.max(initial=0)) if size is None else size
    numbers, lengths = cut(numbers, lengths, size)
    array = np.full((len(lengths), size), fill, numbers.dtype)
    array[np.arange(size) < lengths[:, None]] = numbers
    return array


def cut(
    numbers: np.ndarray, lengths: np.ndarray, size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (numbers, lengths) of rows without what stands behind the first `size` places."""
    if size is None or not (lengths > size).any():
        return numbers, lengths
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    inside = np.arange(len(numbers)) - starts < size
    return numbers[inside], np.minimum(lengths, size)


class TokenCounts:
    """How often tokens occurred, and in how many documents.

    What it holds grows with the number of distinct tokens alone.

    Args:
        of_documents: whether documents are counted too.
    """

    def __init__(self, of_documents: bool):
        self.counts: Counter = Counter()
        self.documents: Counter | None = Counter() if of_documents else None
        self.num_documents = 0

    def update(self, tokens: Tokens) -> None:
        """Count the tokens of some documents."""
        size = len(tokens.values)
        self.counts.update(_positive(tokens.values, np.bincount(tokens.codes, minlength=size)))
        if self.documents is not None:
            row = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
            once = np.unique(row * max(size, 1) + tokens.codes) % max(size, 1)
            self.documents.update(_positive(tokens.values, np.bincount(once, minlength=size)))
        self.num_documents += len(tokens.lengths)

    def most_common(self, limit: int | None, without: Sequence[Any]) -> list[Any]:
        """Return the tokens by their number, equal ones from the last to the first in order.

        Args:
            limit: the largest number of tokens.
            without: tokens that do not count.
        """
        rows = [(n, token) for token, n in self.counts.items() if token not in without]
        return [token for _, token in sorted(rows, reverse=True)[:limit]]

    def inverse_document_frequencies(self, tokens: Sequence[Any]) -> np.ndarray:
        """Return the weights of tokens: log(1 + documents / (1 + documents with the token))."""
        having = np.array([(self.documents or {}).get(token, 0) for token in tokens], "float64")
        return np.log(1 + self.num_documents / (1 + having))


def _positive(values: list[Any], counts: np.ndarray) -> dict[Any, int]:
    return dict(zip(values, counts.tolist(), strict=True))
