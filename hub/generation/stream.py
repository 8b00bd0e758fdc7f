"""Text as it is generated: pieces that end neither within a character nor within a stop string."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


def first_stop(text: str, stop_strings: list[str]) -> int | None:
    """Return where the first stop string ends in a text; None where there is none.

    Args:
        text: the text.
        stop_strings: strings that end it.

    >>> first_stop("a. b", [". "])
    3
    """
    ends = [at + len(s) for s in stop_strings if (at := text.find(s)) >= 0]
    return min(ends, default=None)


class TextStream:
    """Turns growing token ids into pieces of text.

    Args:
        detokenize: from ids to a text.
        stop_strings: strings at which a text ends.
        count: the number of texts.

    >>> stream = TextStream(lambda ids: "".join(map(chr, ids)), ["!"], 1)
    >>> list(stream.pieces([[[72]], [[72, 105, 33, 72]]]))
    [['H'], ['i!']]
    """

    def __init__(self, detokenize: Callable[[Any], str], stop_strings: list[str], count: int):
        self._detokenize, self._stop_strings = detokenize, stop_strings
        self._emitted = [""] * count
        # A piece must not end within what may become a stop string.
        self._held_back = max((len(s) - 1 for s in stop_strings), default=0)

    def pieces(self, snapshots: Iterable[list[np.ndarray]]) -> Iterator[list[str]]:
        """Yield the new piece of each text, where any has one.

        Args:
            snapshots: the ids of each text so far, again and again.
        """
        before = None
        for snapshot in snapshots:
            if before is not None:
                yield from self._advance(before, is_last=False)
            before = snapshot
        if before is not None:
            yield from self._advance(before, is_last=True)

    def _advance(self, snapshot: Any, is_last: bool) -> Iterator[list[str]]:
        pieces = []
        for i, ids in enumerate(snapshot):
            text = self._complete(self._detokenize(ids), is_last)
            pieces.append(text[len(self._emitted[i]) :])
            self._emitted[i] = max(self._emitted[i], text, key=len)
        if any(pieces):
            yield pieces

    def _complete(self, text: str, is_last: bool) -> str:
        """Return the part of a text that later tokens cannot change."""
        end = first_stop(text, self._stop_strings)
        if end is not None or is_last:
            return text[:end]
        if self._held_back:
            text = text[: len(text) - self._held_back]
        return text.rstrip("\ufffd")  # the first bytes of a character
