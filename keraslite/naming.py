"""Names: automatic ones for objects, and paths made of the names around a variable."""

import re
from collections import Counter
from contextvars import ContextVar
from typing import Any

_counts: Counter[str] = Counter()
_scope: ContextVar[str] = ContextVar("keraslite_name_scope", default="")


def to_snake_case(name: str) -> str:
    """A class name in snake case, as automatic names are.

    >>> to_snake_case("Conv2D"), to_snake_case("LayerNormalization")
    ('conv2d', 'layer_normalization')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(prefix: str) -> str:
    """Return a name no other object has: the prefix, and a number from the second use on."""
    count = _counts[prefix]
    _counts[prefix] += 1
    return f"{prefix}_{count}" if count else prefix


def reset_names() -> None:
    """Start the automatic numbers again."""
    _counts.clear()


class name_scope:  # noqa: N801 - used like the function it is in Keras
    """A block whose name stands in the paths of the variables made inside.

    Args:
        name: the name.
    """

    def __init__(self, name: str, **kwargs: Any):
        self.name = name

    def __enter__(self) -> "name_scope":
        self._token = _scope.set(f"{_scope.get()}{self.name}/")
        return self

    def __exit__(self, *_: Any) -> None:
        _scope.reset(self._token)


def path_of(name: str) -> str:
    """Return a name with the names of the open scopes before it."""
    return _scope.get() + name
