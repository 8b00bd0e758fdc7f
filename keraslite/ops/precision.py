"""Half precision inputs are computed in float32; the result has the input's dtype."""

from functools import wraps
from typing import Any

from keraslite.ops.core import cast, dtype

_HALF = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def _wide(x: Any) -> tuple[Any, str]:
    """A tensor in at least float32, and the dtype that it had."""
    name = dtype(x)
    return (cast(x, "float32") if name in _HALF else x), name


def _back(x: Any, name: str) -> Any:
    return cast(x, name) if name in _HALF else x


def _in_float32(body: Any) -> Any:
    """A body that computes half precision in float32."""

    @wraps(body)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        wide, name = _wide(x)
        return _back(body(wide, *args, **kwargs), name)

    return call
