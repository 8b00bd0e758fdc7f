"""Masks that travel beside tensors, kept by identity: any framework's tensor can have one."""

import weakref
from typing import Any

_masks: dict[int, tuple[weakref.ref, Any]] = {}


def set_mask(x: Any, mask: Any) -> None:
    """Note that `mask` says which steps of `x` count; None removes the note."""
    key = id(x)
    if mask is None:
        _masks.pop(key, None)
    else:
        _masks[key] = (weakref.ref(x, lambda _: _masks.pop(key, None)), mask)


def get_mask(x: Any) -> Any:
    """The mask of a tensor, or None.

    >>> get_mask(object()) is None
    True
    """
    if not _masks:
        return None
    found = _masks.get(id(x))
    return found[1] if found is not None and found[0]() is x else None


def any_masks() -> bool:
    """Whether any tensor alive has a mask."""
    return bool(_masks)
