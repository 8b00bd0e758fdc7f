"""Prompts of any length and with weights of words, in the notation of A1111's web UI."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import ops

_EMPHASIS = 1.1  # the factor of a pair of brackets
_SIGNS = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*[+-]?\d*\.?\d+\s*\)|[^\\()\[\]:]+|.", re.DOTALL)


def weighted_parts(prompt: str) -> list[tuple[str, float]]:
    r"""Split a prompt into parts with their weights.

    `(words)` weigh 1.1 times as much, `[words]` 1.1 times less, `(words:1.5)` 1.5 times as much;
    brackets may stand in each other, and `\(` is a bracket of the text. One that is never closed
    holds until the end.

    Args:
        prompt: the text.

    >>> weighted_parts("a (red:1.5) [old] house")
    [('a ', 1.0), ('red', 1.5), (' ', 1.0), ('old', 0.909), (' house', 1.0)]
    """
    parts: list[list[Any]] = []
    open_brackets: list[tuple[str, int]] = []  # each with the index of its first part

    def weigh(start: int, factor: float) -> None:
        for part in parts[start:]:
            part[1] *= factor

    for sign in _SIGNS.findall(prompt):
        last = open_brackets[-1][0] if open_brackets else ""
        if sign in ("(", "["):
            open_brackets.append((sign, len(parts)))
        elif sign == ")" and last == "(":
            weigh(open_brackets.pop()[1], _EMPHASIS)
        elif sign == "]" and last == "[":
            weigh(open_brackets.pop()[1], 1 / _EMPHASIS)
        elif sign[0] == ":" and sign[-1] == ")" and last == "(":
            weigh(open_brackets.pop()[1], float(sign[1:-1]))
        else:
            parts.append([sign[1:] if sign[0] == "\\" and len(sign) > 1 else sign, 1.0])
    while open_brackets:
        bracket, start = open_brackets.pop()
        weigh(start, _EMPHASIS if bracket == "(" else 1 / _EMPHASIS)
    joined: list[tuple[str, float]] = []
    for text, weight in parts:
        weight = round(weight, 3)
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + text, weight)
        else:
            joined.append((text, weight))
    return joined or [("", 1.0)]


def chunk_prompt(
    tokenizer: Any,
    prompt: str,
    length: int,
    weighted: bool = False,
    max_chunks: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenize a prompt into chunks of the encoder's length: ids and weights (chunks, length).

    Args:
        tokenizer: with a token for the beginning and one for the end.
        prompt: the text.
        length: the number of positions of the encoder.
        weighted: whether brackets in it are weights, as of `weighted_parts`.
        max_chunks: the number of chunks after which the prompt is cut off; None for no limit.

    Raises:
        ValueError: `max_chunks` is not positive.
    """
    if max_chunks is not None and max_chunks < 1:
        raise ValueError(f"The number of pieces of a prompt must be positive, got {max_chunks}.")
    parts = weighted_parts(prompt) if weighted else [(prompt, 1.0)]
    encodings = tokenizer.encode_batch(
        [text for text, _ in parts], truncation=False, add_special_tokens=False
    )
    ids = np.concatenate([ids for ids, _ in encodings])
    weights = np.concatenate(
        [np.full(len(part), w) for (part, _), (_, w) in zip(encodings, parts, strict=True)]
    )
    room = length - 2
    count = max(math.ceil(len(ids) / room), 1)
    count = count if max_chunks is None else min(count, max_chunks)
    chunk_ids = np.full((count, length), tokenizer.pad_token_id, "int32")
    chunk_weights = np.ones((count, length), "float32")
    for i in range(count):
        part = slice(i * room, (i + 1) * room)
        row = [tokenizer.bos_token_id, *ids[part], tokenizer.eos_token_id]
        chunk_ids[i, : len(row)] = row
        chunk_weights[i, 1 : len(row) - 1] = weights[part]
    return chunk_ids, chunk_weights


def apply_weights(hidden: Any, weights: np.ndarray) -> Any:
    """Multiply the hidden states of tokens by their weights, keeping the mean of each chunk.

    Args:
        hidden: (chunks, length, width).
        weights: (chunks, length).
    """
    if (weights == 1).all():
        return hidden
    hidden32 = ops.cast(hidden, "float32")
    weighted = ops.multiply(hidden32, weights[:, :, None])
    means = (ops.mean(x, axis=(1, 2), keepdims=True) for x in (hidden32, weighted))
    return ops.cast(weighted * ops.divide(*means), ops.dtype(hidden))


def repeat_to_same_length(contexts: Sequence[Any]) -> list[Any]:
    """Repeat contexts (count, length, width) to the least common multiple of their lengths.

    Attention over a context that stands there twice gives what it gave before, so that no image
    depends on another one's prompt.

    Args:
        contexts: of lengths that may differ.
    """
    length = math.lcm(*(context.shape[1] for context in contexts))
    return [ops.tile(x, (1, length // x.shape[1], 1)) for x in contexts]
