"""Batches of texts: checking, truncation and padding, for every tokenizer."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Encoding = tuple[np.ndarray, np.ndarray]
"""Ids and segment ids of one text, both int32 of shape (length,)."""


def batch_inputs(texts: Any, pairs: Any = None) -> list[str] | list[tuple[str, str]]:
    """Return inputs for the library: strings, or tuples of two.

    Raises:
        TypeError: something is no string; says which.
        ValueError: an empty batch, texts and pairs of different number, or no Unicode text.
    """
    firsts = _strings("texts", texts)
    if pairs is None:
        return firsts
    seconds = _strings("pairs", pairs)
    if len(firsts) != len(seconds):
        raise ValueError(f"{len(firsts)} texts but {len(seconds)} pairs: give one pair a text")
    return list(zip(firsts, seconds, strict=True))


def _strings(name: str, texts: Any) -> list[str]:
    if not isinstance(texts, str | Iterable):
        raise TypeError(f"{name} must be a string or strings, got {type(texts).__name__}")
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError(f"{name} is an empty batch: give at least one text")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"{name}[{i}] is of type {type(text).__name__} ({text!r:.40}), expected a string"
            )
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError(f"{name}[{i}] has half of a surrogate pair, so it is no Unicode text")
    return texts


def cut(encoding: Any, limit: int, truncation: str | bool) -> Encoding:
    """Return ids and segment ids of one of the library's encodings, at most `limit` of them.

    The library could cut as well, but its limit is a state of the tokenizer that threads would
    have to share.
    """
    ids, segments = np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int32)
    kept = kept_places(encoding, limit, truncation)
    return (ids, segments) if kept is None else (ids[kept], segments[kept])


def kept_places(encoding: Any, limit: int, truncation: str | bool) -> list[int] | None:
    """Return which ids of one of the library's encodings stay; None for all of them."""
    if len(encoding.ids) <= limit or truncation is False:
        return None
    # Which text each id came from; None for a special token, which stays.
    sources = encoding.sequence_ids
    first, second = sources.count(0), sources.count(1)
    room = limit - sources.count(None)
    keep = dict(zip((0, 1), shares(first, second, room, truncation), strict=True))
    kept = []
    for i, source in enumerate(sources):
        if source is None or keep[source] > 0:
            kept.append(i)
        if source is not None:
            keep[source] -= 1
    return kept


def shares(first: int, second: int, room: int, truncation: str | bool) -> tuple[int, int]:
    """Return how many ids of each text stay when both have `room` together."""
    if truncation in ("longest_first", True):
        shorter = min(first, second, max(room, 0) // 2)
        shares = (shorter, room - shorter) if first <= second else (room - shorter, shorter)
    elif truncation == "only_first":
        shares = (room - second, second)
    elif truncation == "only_second":
        shares = (first, room - first)
    else:
        raise ValueError(
            f"truncation is 'longest_first', 'only_first', 'only_second' or False, "
            f"got {truncation!r}"
        )
    if min(shares) < 0:
        raise ValueError(
            f"no room: texts of {first} and {second} ids cannot be cut to {room} by {truncation!r}"
        )
    return shares


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
        length: the length to pad to; default the longest one's.
        pad_to_multiple_of: round the length up, so that fewer shapes are compiled.

    Raises:
        ValueError: an empty batch, or an encoding longer than `length`.

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
