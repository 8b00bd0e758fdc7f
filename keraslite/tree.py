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


def map_structure(func: Callable[..., Any], *structures: Any, none_is_leaf: bool = True) -> Any:
    """Apply a function leaf by leaf over structures of the same form.

    Args:
        func: of a leaf of each structure.
        structures: the structures.
        none_is_leaf: whether the function is called with None too, or None is left as it is.

    >>> map_structure(lambda x, y: x + y, {"a": 1}, {"a": 2})
    {'a': 3}
    """
    return optree.tree_map(func, *structures, none_is_leaf=none_is_leaf, namespace=_SPACE)


def map_structure_up_to(shallow_structure: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """Apply a function to the parts of structures that stand where the shallow one has leaves.

    >>> map_structure_up_to({"a": 0}, len, {"a": [1, 2]})
    {'a': 2}
    """
    spec = optree.tree_structure(shallow_structure, none_is_leaf=True, namespace=_SPACE)
    parts = [spec.flatten_up_to(s) for s in structures]
    return spec.unflatten(map(func, *parts))


def pack_sequence_as(structure: Any, flat_sequence: list[Any]) -> Any:
    """Put leaves into the form of `structure`.

    >>> pack_sequence_as({"a": 0, "b": (0, 0)}, [1, 2, 3])
    {'a': 1, 'b': (2, 3)}
    """
    spec = optree.tree_structure(structure, none_is_leaf=True, namespace=_SPACE)
    return spec.unflatten(flat_sequence)


def is_nested(structure: Any) -> bool:
    """Whether a value is a list, a tuple or a dict.

    >>> is_nested([1]), is_nested(1)
    (True, False)
    """
    return isinstance(structure, _NESTED)


def assert_same_structure(a: Any, b: Any, check_types: Any = None) -> None:
    """Raise ValueError unless two structures have the same form.

    Args:
        a: a structure.
        b: another.
        check_types: without effect, as in Keras; `assert_same_paths` is the looser check.

    >>> assert_same_structure([1, (2,)], [3, (4,)])
    """
    spec_a = optree.tree_structure(a, none_is_leaf=True, namespace=_SPACE)
    spec_b = optree.tree_structure(b, none_is_leaf=True, namespace=_SPACE)
    if spec_a != spec_b:
        raise ValueError(f"The structures differ: {spec_a} and {spec_b}.")


class MAP_TO_NONE:  # noqa: N801 - Keras's name
    """A marker that a function of `traverse` returns to put None in a place."""


def traverse(func: Callable[[Any], Any], structure: Any, top_down: bool = True) -> Any:
    """Apply a function to a structure and to all parts of it, whether leaves or not.

    Args:
        func: of a part; None leaves the part as it is, `MAP_TO_NONE` makes it None, and
            anything else takes its place.
        structure: the structure.
        top_down: whether a part comes before what is inside it, which is left out where the part
            is replaced; else after it.

    >>> traverse(lambda x: sum(x) if isinstance(x, list) else None, {"a": [1, 2], "b": 3})
    {'a': 3, 'b': 3}
    """
    if top_down:
        out = func(structure)
    if not top_down or out is None:
        parts, spec = optree.tree_flatten(
            structure, lambda x: x is not structure, none_is_leaf=True, namespace=_SPACE
        )
        if not spec.is_leaf():
            structure = spec.unflatten([traverse(func, x, top_down) for x in parts])
        out = structure if top_down else func(structure)
    if out is MAP_TO_NONE:
        return None
    return structure if out is None else out


def lists_to_tuples(structure: Any) -> Any:
    """Make tuples of the lists in a structure.

    >>> lists_to_tuples({"a": [1, [2]]})
    {'a': (1, (2,))}
    """
    return traverse(lambda x: tuple(x) if type(x) is list else None, structure, top_down=False)


def flatten_with_path(structure: Any) -> list[tuple[tuple, Any]]:
    """The leaves of a structure in order, each after the indices and keys that lead to it.

    >>> flatten_with_path({"a": 1, "b": [2]})
    [(('a',), 1), (('b', 0), 2)]
    """
    paths, leaves, _ = optree.tree_flatten_with_path(structure, none_is_leaf=True, namespace=_SPACE)
    return list(zip(paths, leaves, strict=True))


def assert_same_paths(a: Any, b: Any) -> None:
    """Raise ValueError unless the same paths lead to the leaves, in whatever lists and tuples.

    >>> assert_same_paths([1, (2,)], (3, [4]))
    """
    paths_a, paths_b = ({path for path, _ in flatten_with_path(x)} for x in (a, b))
    if paths_a != paths_b:
        raise ValueError(
            "The structures must have the same paths: the first alone has "
            f"{sorted(paths_a - paths_b, key=str)}, the second alone "
            f"{sorted(paths_b - paths_a, key=str)}."
        )


def map_shape_structure(func: Callable[[tuple], Any], structure: Any) -> Any:
    """Apply a function to the shapes in a structure: lists or tuples of ints and None.

    >>> map_shape_structure(len, {"a": (2, None), "b": [(1,)]})
    {'a': 2, 'b': [1]}
    """

    def is_shape(x: Any) -> bool:
        return isinstance(x, list | tuple) and all(e is None or isinstance(e, int) for e in x)

    return optree.tree_map(func, structure, is_leaf=is_shape, none_is_leaf=True, namespace=_SPACE)
