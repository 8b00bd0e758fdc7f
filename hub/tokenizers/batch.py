"""Batches of texts: checks, truncation and padding, for all tokenizers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Encoding = tuple[np.ndarray, np.ndarray]
"""Ids and segment ids of one text, both int32 of shape (length,)."""


def batch_inputs(texts: Any, pairs: Any = None) -> list[str] | list[tuple[str, str]]:
    """Return the inputs of the `tokenizers` library: strings, or pairs of strings.

    Raises:
        TypeError: an element is not a string.
        ValueError: the batch is empty, texts and pairs differ in number, or a text is no Unicode.
    """
    texts = _strings("texts", texts)
    if pairs is None:
        return texts
    pairs = _strings("pairs", pairs)
    if len(texts) != len(pairs):
        raise ValueError(f"{len(texts)} texts but {len(pairs)} pairs: give one pair a text")
    return list(zip(texts, pairs, strict=True))


def _strings(name: str, texts: Any) -> list[str]:
    if not isinstance(texts, str | Iterable):
        raise TypeError(f"{name} must be a string or strings, got {type(texts).__name__}")
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError(f"{name} is an empty batch: give at least one text")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}] must be a string, got {type(text).__name__} {text!r:.40}")
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError(f"{name}[{i}] has half of a surrogate pair, so it is no Unicode text")
    return texts


def truncate(encoding: Any, limit: int, truncation: str | bool) -> Encoding:
    """Return at most `limit` ids and segment ids of one of the library's encodings.

    The library could truncate too, but its limit is a state of the tokenizer, which threads share.
    """
    ids, segments = np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int32)
    indices = truncated_indices(encoding, limit, truncation)
    return (ids, segments) if indices is None else (ids[indices], segments[indices])


def truncated_indices(encoding: Any, limit: int, truncation: str | bool) -> list[int] | None:
    """Return the indices of the ids that remain after truncation; None for all of them."""
    if len(encoding.ids) <= limit or truncation is False:
        return None
    # The text (0 or 1) of each id; None for a special token, which is not truncated.
    sequence_ids = encoding.sequence_ids
    lengths = sequence_ids.count(0), sequence_ids.count(1)
    remaining = list(truncated_lengths(*lengths, limit - sequence_ids.count(None), truncation))
    indices = []
    for i, sequence in enumerate(sequence_ids):
        if sequence is None or remaining[sequence] > 0:
            indices.append(i)
        if sequence is not None:
            remaining[sequence] -= 1
    return indices


def truncated_lengths(
    first: int, second: int, limit: int, truncation: str | bool
) -> tuple[int, int]:
    """Return the lengths of two texts after truncation to `limit` ids in total."""
    if truncation in ("longest_first", True):
        shorter = min(first, second, max(limit, 0) // 2)
        lengths = (shorter, limit - shorter) if first <= second else (limit - shorter, shorter)
    elif truncation == "only_first":
        lengths = (limit - second, second)
    elif truncation == "only_second":
        lengths = (first, limit - first)
    else:
        raise ValueError(
            f"truncation must be 'longest_first', 'only_first', 'only_second' or False, "
            f"got {truncation!r}"
        )
    if min(lengths) < 0:
        raise ValueError(
            f"texts of {first} and {second} ids cannot be truncated to {limit} by {truncation!r}"
        )
    return lengths


def pack(
    encodings: Sequence[Encoding],
    pad_token_id: int,
    length: int | None = None,
    pad_to_multiple_of: int | None = None,
) -> dict[str, np.ndarray]:
    """Return encodings as one batch, padded on the right.

    Args:
        encodings: ids and segment ids of each text.
        pad_token_id: the id to pad with.
        length: the length to pad to; that of the longest by default.
        pad_to_multiple_of: a number whose multiple the length is, so that fewer shapes are
            compiled.

    Raises:
        ValueError: the batch is empty, or an encoding is longer than `length`.

    Example:
        >>> row = np.array([2, 5, 3], "int32")
        >>> pack([(row, row * 0)], 0, length=4)["token_ids"].tolist()
        [[2, 5, 3, 0]]
    """
    if not len(encodings):
        raise ValueError("an empty batch: give at least one text")
    longest = max(len(ids) for ids, _ in encodings)
    if length is None:
        length = longest
    elif length < longest:
        raise ValueError(f"length={length} is shorter than the longest text, {longest} ids")
    if pad_to_multiple_of is not None:
        length = -(-length // pad_to_multiple_of) * pad_to_multiple_of
    token_ids = np.full((len(encodings), length), pad_token_id, np.int32)
    segment_ids = np.zeros_like(token_ids)
    padding_mask = np.zeros(token_ids.shape, bool)
    for row, (ids, segments) in enumerate(encodings):
        token_ids[row, : len(ids)] = ids
        segment_ids[row, : len(ids)] = segments
        padding_mask[row, : len(ids)] = True
    return {"token_ids": token_ids, "padding_mask": padding_mask, "segment_ids": segment_ids}
