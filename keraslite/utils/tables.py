"""Tables of text with lines around their cells, as `summary` prints them."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence


def line_length_for(columns: int) -> int:
    """Return the width of a table: a number of characters, or what the terminal has room for.

    Args:
        columns: the number of characters.
    """
    return min(columns, shutil.get_terminal_size((columns + 4, 24)).columns - 4)


def text_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    shares: Sequence[float],
    aligns: Sequence[str],
    line_length: int,
) -> str:
    """Return a table as text.

    Args:
        heads: the heads of the columns.
        rows: the cells of each row.
        shares: the part of the width that each column takes; they sum up to 1.
        aligns: how each column is aligned: "l", "c" or "r".
        line_length: the width in characters.

    Raises:
        ValueError: the width is too small.

    >>> print(text_table(["a", "b"], [["c", "10"]], [0.5, 0.5], "lr", 27))
    ┏━━━━━━━━━━━━┳━━━━━━━━━━━━┓
    ┃ a          ┃          b ┃
    ┡━━━━━━━━━━━━╇━━━━━━━━━━━━┩
    │ c          │         10 │
    └────────────┴────────────┘
    """
    widths = _widths(shares, line_length, heads)
    return "\n".join(_box(heads, rows, widths, aligns))


def _widths(shares: Sequence[float], line_length: int, heads: Sequence[str]) -> list[int]:
    """The widths of the columns' texts: each has a blank on both sides, and lines stand between."""
    room = line_length - 3 * len(shares) - 1
    if room < 6 * len(shares):
        raise ValueError(f"A line of {line_length} characters is too short for a summary.")
    ends = [round(room * sum(shares[: i + 1])) for i in range(len(shares))]
    widths = [end - begin for begin, end in zip([0, *ends], ends)]
    for i, head in enumerate(heads):  # no heading is broken where another column has room
        missing = len(head) - widths[i]
        if missing > 0 and widths[0] - missing >= len(heads[0]):
            widths[0], widths[i] = widths[0] - missing, len(head)
    return widths


def _box(
    heads: Sequence[str], rows: Sequence[Sequence[str]], widths: list[int], aligns: Sequence[str]
) -> Iterable[str]:
    def rule(left: str, line: str, cross: str, right: str) -> str:
        return left + cross.join(line * (w + 2) for w in widths) + right

    yield rule("┏", "━", "┳", "┓")
    yield from _cells(heads, widths, ["l" if a == "c" else a for a in aligns], "┃")
    yield rule("┡", "━", "╇", "┩")
    for i, row in enumerate(rows):
        if i:
            yield rule("├", "─", "┼", "┤")
        yield from _cells(row, widths, aligns, "│")
    yield rule("└", "─", "┴", "┘")


def _cells(
    texts: Sequence[str], widths: list[int], aligns: Sequence[str], line: str
) -> Iterable[str]:
    put = {"l": str.ljust, "r": str.rjust, "c": str.center}
    columns = [_wrap(t, w) for t, w in zip(texts, widths, strict=True)]
    for i in range(max(map(len, columns))):
        parts = [
            put[a](c[i] if i < len(c) else "", w)
            for c, w, a in zip(columns, widths, aligns, strict=True)
        ]
        yield f"{line} " + f" {line} ".join(parts) + f" {line}"


def _wrap(text: str, width: int) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(text.lstrip(), width, initial_indent=indent, subsequent_indent=indent)
