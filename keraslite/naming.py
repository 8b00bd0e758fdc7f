"""Names: automatic ones for objects, and paths made of the names around a variable."""

import re
from collections import defaultdict
from collections.abc import Container
from itertools import count
from typing import Any

from keraslite import backend as backends
from keraslite.scopes import scopes

_counts: defaultdict[str, count] = defaultdict(count)  # which threads may share
_uids: defaultdict[str, int] = defaultdict(int)


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
    number = next(_counts[prefix])
    return f"{prefix}_{number}" if number else prefix


def get_uid(prefix: str = "") -> int:
    """Return how often it was called with a prefix, this time included.

    >>> get_uid("doc"), get_uid("doc")
    (1, 2)
    """
    _uids[prefix] += 1
    return _uids[prefix]


def is_automatic_name(name: str, prefix: str) -> bool:
    """Return whether a name is one that `auto_name` makes of a prefix.

    >>> [is_automatic_name(name, "dense") for name in ("dense", "dense_7", "dense_out")]
    [True, True, False]
    """
    number = name.removeprefix(prefix)
    return name.startswith(prefix) and (not number or (number[0] == "_" and number[1:].isdigit()))


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken: the name itself, or with the first number that is free.

    >>> free_name("dense", {"dense", "dense_1"})
    'dense_2'
    """
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def reset_names() -> None:
    """Start the automatic numbers again."""
    _counts.clear()
    _uids.clear()


backends.get_uid = get_uid  # type: ignore[attr-defined]


class name_scope:  # noqa: N801 - used like the function it is in Keras
    """A block whose name stands in the paths of the variables made inside.

    Args:
        name: the name.
        caller: whose scope it is; kept for Keras code.
    """

    def __init__(self, name: str, caller: Any = None, **kwargs: Any):
        self.name = name

    def __enter__(self) -> "name_scope":
        self._outer, scopes.path = scopes.path, f"{scopes.path}{self.name}/"
        return self

    def __exit__(self, *_: Any) -> None:
        scopes.path = self._outer


def path_of(name: str) -> str:
    """Return a name with the names of the open scopes before it."""
    return scopes.path + name


class layer_scope:  # noqa: N801 - used like `name_scope`
    """A block whose variables are a layer's: in its `build` and its `call`, or after them.

    Args:
        layer: the layer.
    """

    def __init__(self, layer: Any):
        self.layer = layer

    def __enter__(self) -> "layer_scope":
        self._outer, path = scopes.path, path_of_layer(self.layer)
        if not scopes.path.startswith(path):  # else a scope inside the layer is open
            scopes.path = path
        return self

    def __exit__(self, *_: Any) -> None:
        scopes.path = self._outer


def path_of_layer(layer: Any) -> str:
    """Return where a layer's variables are: below what builds it, once that is known."""
    return layer.__dict__.get("_kl_path") or f"{scopes.path}{layer.name}/"


def fix_path(layer: Any) -> str:
    """Return where a layer's variables are, from now on below the scopes that are open now."""
    path = layer.__dict__["_kl_path"] = path_of_layer(layer)
    return path
