"""Bad arguments that kernels refuse only where there are values: checked before symbolic calls."""

import inspect
from collections.abc import Callable
from typing import Any

from keraslite import dtypes
from keraslite.ops.common import normalize_axis
from keraslite.ops.core import dtype, shape

# Where the axis is one of the result, or of another argument than the first.
_OTHER_AXIS = {
    "expand_dims", "geomspace", "linspace", "logspace", "multi_hot", "one_hot",
    "sparse_categorical_crossentropy", "stack",
}  # fmt: skip


def check_arguments(row: Any, args: tuple, kwargs: dict) -> None:
    """Raise what an operation would raise if its tensors had values.

    Args:
        row: the operation.
        args: its arguments, its tensors among them.
        kwargs: its keyword arguments.

    Raises:
        ValueError: there is no such axis, or an option has no meaning.
        TypeError: floats where integers are expected.
    """
    check = _CHECKS.get(row.name)
    if check is None and (row.name in _OTHER_AXIS or "axis" not in row.positional):
        return
    arguments = inspect.signature(row.body).bind(*args, **kwargs).arguments
    axis = arguments.get("axis")
    first = next(iter(arguments.values()))
    axes = [axis] if hasattr(axis, "__index__") else axis
    if isinstance(axes, list | tuple) and hasattr(first, "shape"):
        places = [normalize_axis(a, len(first.shape)) for a in axes]
        if len(set(places)) < len(places):
            raise ValueError(f"axis must not name an axis twice, got {axis}")
    if check is not None:
        check(**arguments)


def _integers(**arguments: Any) -> None:
    for x in arguments.values():
        if not dtypes.is_int(dtype(x)) and dtype(x) != "bool":
            raise TypeError(f"the arguments must be integers, got dtype {dtype(x)}")


def _reshape(x: Any, newshape: Any) -> None:
    if isinstance(newshape, list | tuple) and list(newshape).count(-1) > 1:
        raise ValueError(f"newshape must have -1 at most once, got {newshape}")


def _repeats(repeats: Any, **_: Any) -> None:
    counts = [repeats] if isinstance(repeats, int) else repeats
    if isinstance(counts, list | tuple) and any(isinstance(n, int) and n < 0 for n in counts):
        raise ValueError(f"repeats must not be negative, got {repeats}")


def _side(side: str = "left", **_: Any) -> None:
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}")


def _scatter(indices: Any, values: Any, shape: Any) -> None:
    depth, rank = indices.shape[-1], len(shape)
    if depth is not None and depth > rank:
        raise ValueError(f"the last axis of indices must have at most {rank} elements, got {depth}")


def _in_top_k(targets: Any, predictions: Any, k: int) -> None:
    rows = {shape(targets)[0], shape(predictions)[0]} - {None}
    if len(rows) > 1:
        raise ValueError(f"targets and predictions must have as many rows, got {sorted(rows)}")


_CHECKS: dict[str, Callable] = {
    "reshape": _reshape, "repeat": _repeats, "tile": _repeats, "searchsorted": _side,
    "scatter": _scatter, "in_top_k": _in_top_k,
    **dict.fromkeys(
        ("bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or",
         "bitwise_right_shift", "bitwise_xor", "gcd", "lcm", "left_shift", "right_shift"),
        _integers,
    ),
}  # fmt: skip
