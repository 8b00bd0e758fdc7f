"""Masks that travel beside tensors, kept by identity: any framework's tensor can have one."""

import weakref
from typing import Any

_masks: dict[int, tuple[weakref.ref, Any]] = {}
_any = False  # whether there are any; compiled functions of torch are guarded by it, not by a count


def _remove(key: int) -> None:
    global _any
    _masks.pop(key, None)
    _any = bool(_masks)


def set_mask(x: Any, mask: Any) -> None:
    """Attach a mask to a tensor: True at the steps that count; None removes it."""
    global _any
    key = id(x)
    if mask is None:
        _remove(key)
    else:
        _masks[key] = (weakref.ref(x, lambda _: _remove(key)), mask)
        _any = True


def get_mask(x: Any) -> Any:
    """The mask of a tensor, or None.

    >>> get_mask(object()) is None
    True
    """
    if not _any:
        return None
    entry = _masks.get(id(x))
    return entry[1] if entry is not None and entry[0]() is x else None


def any_masks() -> bool:
    """Whether any tensor alive has a mask."""
    return _any
