"""Prompts of any length, and the weights of their words, as the field writes them."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import ops

_MORE = 1.1  # what a pair of brackets multiplies by
_SIGNS = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*[+-]?\d*\.?\d+\s*\)|[^\\()\[\]:]+|.", re.DOTALL)


def weighted_parts(prompt: str) -> list[tuple[str, float]]:
    r"""The parts of a prompt with their weights.

    `(words)` weigh 1.1 times as much, `[words]` 1.1 times less, `(words:1.5)` 1.5 times as much;
    brackets may stand in each other, and `\(` is a bracket of the text. One that is never closed
    holds until the end.

    Args:
        prompt: the text.

    >>> weighted_parts("a (red:1.5) [old] house")
    [('a ', 1.0), ('red', 1.5), (' ', 1.0), ('old', 0.909), (' house', 1.0)]
    """
    parts: list[list[Any]] = []
    opened: list[tuple[str, int]] = []  # brackets, and the part that each begins with

    def weigh(start: int, factor: float) -> None:
        for part in parts[start:]:
            part[1] *= factor

    for sign in _SIGNS.findall(prompt):
        last = opened[-1][0] if opened else ""
        if sign in ("(", "["):
            opened.append((sign, len(parts)))
        elif sign == ")" and last == "(":
            weigh(opened.pop()[1], _MORE)
        elif sign == "]" and last == "[":
            weigh(opened.pop()[1], 1 / _MORE)
        elif sign[0] == ":" and sign[-1] == ")" and last == "(":
            weigh(opened.pop()[1], float(sign[1:-1]))
        else:
            parts.append([sign[1:] if sign[0] == "\\" and len(sign) > 1 else sign, 1.0])
    while opened:
        kind, start = opened.pop()
        weigh(start, _MORE if kind == "(" else 1 / _MORE)
    joined: list[tuple[str, float]] = []
    for text, weight in parts:
        weight = round(weight, 3)
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + text, weight)
        else:
            joined.append((text, weight))
    return joined or [("", 1.0)]


def pieces(
    tokenizer: Any, prompt: str, length: int, weighted: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and weights (pieces, length) of a prompt, which is cut where the encoder's places end.

    Args:
        tokenizer: with a token for the beginning and one for the end.
        prompt: the text.
        length: the places of the encoder.
        weighted: whether brackets in it are weights, as `weighted_parts` says.
    """
    parts = weighted_parts(prompt) if weighted else [(prompt, 1.0)]
    found = tokenizer.encode_batch(
        [text for text, _ in parts], truncation=False, add_special_tokens=False
    )
    ids = np.concatenate([ids for ids, _ in found])
    weights = np.concatenate(
        [np.full(len(own), w) for (own, _), (_, w) in zip(found, parts, strict=True)]
    )
    room = length - 2
    count = max(math.ceil(len(ids) / room), 1)
    all_ids = np.full((count, length), tokenizer.pad_token_id, "int32")
    all_weights = np.ones((count, length), "float32")
    for i in range(count):
        part = slice(i * room, (i + 1) * room)
        own = [tokenizer.bos_token_id, *ids[part], tokenizer.eos_token_id]
        all_ids[i, : len(own)] = own
        all_weights[i, 1 : len(own) - 1] = weights[part]
    return all_ids, all_weights


def weighed(hidden: Any, weights: np.ndarray) -> Any:
    """Hidden states of tokens multiplied by their weights; the mean of each piece stays.

    Args:
        hidden: (pieces, length, width).
        weights: (pieces, length).
    """
    if (weights == 1).all():
        return hidden
    wide = ops.cast(hidden, "float32")
    more = ops.multiply(wide, weights[:, :, None])
    means = (ops.mean(x, axis=(1, 2), keepdims=True) for x in (wide, more))
    return ops.cast(more * ops.divide(*means), ops.dtype(hidden))


def evened(contexts: Sequence[Any]) -> list[Any]:
    """Contexts (count, length, width) of the same length.

    Shorter ones are repeated as a whole: attention over a context that stands there twice gives
    what it gave before, so that no image depends on another one's prompt.

    Args:
        contexts: of lengths that may differ.
    """
    longest = math.lcm(*(context.shape[1] for context in contexts))
    return [ops.tile(x, (1, longest // x.shape[1], 1)) for x in contexts]
