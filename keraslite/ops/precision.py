"""Compute half precision in float32; the result has the dtype of the input."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from keraslite.ops.core import cast, dtype

_HALF = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def to_float32(x: Any) -> tuple[Any, str]:
    """Cast half precision to float32; return the tensor and the dtype that it had."""
    name = dtype(x)
    return (cast(x, "float32") if name in _HALF else x), name


def from_float32(x: Any, name: str) -> Any:
    """Undo `to_float32`, by the dtype that it returned."""
    return cast(x, name) if name in _HALF else x


def in_float32(body: Callable) -> Callable:
    """Make the body of an op compute half precision in float32."""

    @wraps(body)
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        wide, name = to_float32(x)
        return from_float32(body(wide, *args, **kwargs), name)

    return call
