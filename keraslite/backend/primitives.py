"""How a backend lists its primitives: a table in a file for each topic of `ops/`.

A primitive lies in the file named after the topic file of `ops/` that defines its op; `MERGED`
names the small topics that share a file with another. Names that begin with an underscore are the
primitives of ops that only other ops call.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

# topic of ops/ -> the file of a backend that it shares
MERGED = {
    "arithmetic": "elementwise",
    "exponential": "elementwise",
    "logic": "elementwise",
    "core": "shapes",
    "common": "shapes",
    "searching": "indexing",
    "ctc": "crossentropy",
}

# Ops whose native function takes a Python number beside a tensor and follows the tensor's dtype.
_NUMBERS = """add subtract multiply divide power mod fmod floor_divide equal not_equal
    less less_equal greater greater_equal maximum minimum where clip bitwise_and bitwise_or
    bitwise_xor bitwise_left_shift bitwise_right_shift"""
TAKE_NUMBERS = frozenset(_NUMBERS.split())


def primitive(table: dict[str, Any]) -> Callable:
    """Return a decorator that puts a function into a table under its name.

    An underscore at the end of the name is left out: `sum_` hides no builtin.

    >>> table = {}
    >>> @primitive(table)
    ... def sum_(x):
    ...     return x
    >>> list(table)
    ['sum']
    """

    def collect(fn: Callable) -> Callable:
        table[fn.__name__.removesuffix("_")] = fn
        return fn

    return collect


def merged(*topics: ModuleType) -> dict[str, Any]:
    """Return one table of the primitives of several files, each name of which stands in one."""
    tables = [topic.TABLE for topic in topics]
    union = {name: fn for table in tables for name, fn in table.items()}
    if len(union) != sum(map(len, tables)):
        raise ValueError("A primitive must stand in one file, got one that stands in two.")
    return union


def with_remainders(shape: Any, starts: Any, sizes: Any) -> tuple:
    """Put what is behind the start in the place of -1 in the shape of a slice.

    Args:
        shape: the shape of a slice.
        starts: where it begins.
        sizes: the shape of the whole.
    """
    return tuple(
        n - start if length == -1 else length
        for length, start, n in zip(shape, starts, sizes, strict=True)
    )
