"""Half precision in float32, and floating-point errors without warnings."""

from collections.abc import Callable
from contextvars import copy_context
from functools import partial, wraps
from typing import Any

import numpy as np

from keraslite import dtypes
from keraslite.scopes import scopes

LARGE = 2**16  # elements, whose values nothing depends on where a shape alone is asked
HALVES = frozenset([np.dtype("float16"), dtypes.to_numpy("bfloat16")])


def _ignored_errors() -> tuple[Any, Any]:
    """The context variable of numpy's error state, and its value where errors are ignored.

    `np.errstate` makes that value anew in each call, which takes longer than a small addition.
    """
    before = copy_context()
    with np.errstate(all="ignore"):
        inside = copy_context()
    return next((v, value) for v, value in inside.items() if before.get(v) is not value)


_STATE, _IGNORED = _ignored_errors()


def quiet(fn: Callable) -> Callable:
    """Infinities and NaNs are values here, as on the other backends: no warnings."""

    @wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = _STATE.set(_IGNORED)
        try:
            return fn(*args, **kwargs)
        finally:
            _STATE.reset(token)

    return call


def in_float32(fn: Callable) -> Callable:
    """float16 and bfloat16 are computed in float32, as the other backends do; without warnings."""
    widened = quiet(partial(_widened, fn))

    @wraps(fn)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if x.dtype in HALVES:
            return widened(x, *args, **kwargs)
        return fn(x, *args, **kwargs)

    return call


def quiet_in_float32(fn: Callable) -> Callable:
    """Both of the above, in one call."""
    widened, elementwise = quiet(partial(_widened, fn)), isinstance(fn, np.ufunc)

    @wraps(fn)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if elementwise and scopes.abstract and x.size > LARGE:
            return outline(widened if x.dtype in HALVES else fn, x, *args)
        if x.dtype in HALVES:
            return widened(x, *args, **kwargs)
        token = _STATE.set(_IGNORED)
        try:
            return fn(x, *args, **kwargs)
        finally:
            _STATE.reset(token)

    return call


def outline(fn: Callable, *args: Any) -> np.ndarray:
    """Return a result of the right shape and dtype, out of the first element of each argument.

    Args:
        fn: an elementwise function.
        args: arrays and numbers.
    """
    first = [a[(slice(1),) * a.ndim] if isinstance(a, np.ndarray) else a for a in args]
    return np.broadcast_to(fn(*first), np.broadcast_shapes(*map(np.shape, args)))


def _widened(fn: Callable, x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
    args = [a.astype(np.float32) if getattr(a, "dtype", None) == x.dtype else a for a in args]
    out = fn(x.astype(np.float32), *args, **kwargs)
    return out.astype(x.dtype) if getattr(out, "dtype", None) == np.float32 else out
