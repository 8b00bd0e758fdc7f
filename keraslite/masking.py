"""Masks that travel beside tensors, kept by identity: any framework's tensor can have one.

Where Python itself is compiled, by torch.compile, a tensor has no identity yet: torch's have their
masks in an attribute as well.
"""

import weakref
from typing import Any

from keraslite.backend import MODULES, OF

_masks: dict[int, tuple[weakref.ref, Any]] = {}
_any = False  # whether there are any; compiled functions of torch are guarded by it, not by a count
_attributes = False  # whether a compiled function gave a tensor the attribute


def _remove(key: int) -> None:
    global _any
    _masks.pop(key, None)
    _any = bool(_masks) or _attributes


def set_mask(x: Any, mask: Any) -> None:
    """Attach a mask to a tensor: True at the steps that count; None removes it."""
    global _any, _attributes
    module = MODULES.get(OF.get(type(x)) or "")
    if module is not None and module.COMPILES_PYTHON:
        x._kl_mask = mask
        if module.is_compiling():
            _any = _attributes = True
            return
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
    module = MODULES.get(OF.get(type(x)) or "")
    if module is not None and module.COMPILES_PYTHON:
        return getattr(x, "_kl_mask", None)
    entry = _masks.get(id(x))
    return entry[1] if entry is not None and entry[0]() is x else None


def any_masks() -> bool:
    """Whether any tensor alive has a mask."""
    return _any
