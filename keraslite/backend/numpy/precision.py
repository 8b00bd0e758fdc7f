"""Half precision in float32, and floating-point errors without warnings."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from keraslite import dtypes

HALVES = frozenset([np.dtype("float16"), dtypes.to_numpy("bfloat16")])


quiet = np.errstate(all="ignore")  # infinities and NaNs are values here, as on the other backends


def in_float32(fn: Callable) -> Callable:
    """float16 and bfloat16 are computed in float32, as the other backends do."""

    @wraps(fn)
    def call(x: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if x.dtype not in HALVES:
            return fn(x, *args, **kwargs)
        args = [a.astype(np.float32) if getattr(a, "dtype", None) == x.dtype else a for a in args]
        out = fn(x.astype(np.float32), *args, **kwargs)
        return out.astype(x.dtype) if getattr(out, "dtype", None) == np.float32 else out

    return call
