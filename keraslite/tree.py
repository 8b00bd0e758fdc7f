"""Nested structures of lists, tuples and dicts, over optree; None is a leaf."""

from collections.abc import Callable
from typing import Any

import optree

_SPACE = "keraslite"
_NESTED = (list, tuple, dict)  # a tuple, not a union: Dynamo does not trace `list | tuple`


def flatten(structure: Any) -> list[Any]:
    """The leaves of a structure, in order.

    >>> flatten({"a": 1, "b": [2, None]})
    [1, 2, None]
    """
    return optree.tree_leaves(structure, none_is_leaf=True, namespace=_SPACE)


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """Apply a function leaf by leaf over structures of the same form.

    >>> map_structure(lambda x, y: x + y, {"a": 1}, {"a": 2})
    {'a': 3}
    """
    return optree.tree_map(function, *structures, none_is_leaf=True, namespace=_SPACE)


def map_structure_up_to(shallow: Any, function: Callable[..., Any], *structures: Any) -> Any:
    """Apply a function to the parts of structures that stand where `shallow` has leaves.

    >>> map_structure_up_to({"a": 0}, len, {"a": [1, 2]})
    {'a': 2}
    """
    spec = optree.tree_structure(shallow, none_is_leaf=True, namespace=_SPACE)
    parts = [spec.flatten_up_to(s) for s in structures]
    return spec.unflatten(map(function, *parts))


def pack_sequence_as(structure: Any, flat: list[Any]) -> Any:
    """Put leaves into the form of `structure`.

    >>> pack_sequence_as({"a": 0, "b": (0, 0)}, [1, 2, 3])
    {'a': 1, 'b': (2, 3)}
    """
    spec = optree.tree_structure(structure, none_is_leaf=True, namespace=_SPACE)
    return spec.unflatten(flat)


def is_nested(structure: Any) -> bool:
    """Whether a value is a list, a tuple or a dict.

    >>> is_nested([1]), is_nested(1)
    (True, False)
    """
    return isinstance(structure, _NESTED)


def assert_same_structure(a: Any, b: Any) -> None:
    """Raise ValueError unless two structures have the same form.

    >>> assert_same_structure([1, (2,)], [3, (4,)])
    """
    spec_a = optree.tree_structure(a, none_is_leaf=True, namespace=_SPACE)
    spec_b = optree.tree_structure(b, none_is_leaf=True, namespace=_SPACE)
    if spec_a != spec_b:
        raise ValueError(f"The structures differ: {spec_a} and {spec_b}.")
