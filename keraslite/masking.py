"""Masks that travel beside tensors, kept by identity: any framework's tensor can have one."""

import weakref
from typing import Any

_masks: dict[int, tuple[weakref.ref, Any]] = {}


def set_mask(x: Any, mask: Any) -> None:
    """Attach a mask to a tensor: True at the steps that count; None removes it."""
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
    entry = _masks.get(id(x))
    return entry[1] if entry is not None and entry[0]() is x else None


def any_masks() -> bool:
    """Whether any tensor alive has a mask."""
    return bool(_masks)
