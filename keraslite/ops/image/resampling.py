"""Resampling: weights of kernels along an axis, and values at coordinates."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keraslite.ops import numpy as k
from keraslite.ops.common import positions
from keraslite.ops.core import cast, dtype, shape

# ---- weights along an axis ----


def _triangle(f: Any, x: Any) -> Any:
    return f.maximum(1.0 - x, 0.0)


def _keys_cubic(f: Any, x: Any) -> Any:
    """The cubic of Keys (1981) with a = -1/2."""
    near = ((1.5 * x - 2.5) * x) * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return f.where(x < 1.0, near, f.where(x < 2.0, far, 0.0))


def _lanczos(radius: float) -> Callable:
    def kernel(f: Any, x: Any) -> Any:
        safe = f.where(x > 1e-3, x, 1.0)
        y = radius * f.sin(math.pi * safe) * f.sin(math.pi * safe / radius)
        y = f.where(x > 1e-3, y / (math.pi**2 * safe * safe), 1.0)
        return f.where(x > radius, 0.0, y)

    return kernel


KERNELS = {
    "bilinear": _triangle, "linear": _triangle, "triangle": _triangle, "trilinear": _triangle,
    "bicubic": _keys_cubic, "cubic": _keys_cubic, "tricubic": _keys_cubic,
    "lanczos3": _lanczos(3.0), "lanczos5": _lanczos(5.0),
}  # fmt: skip


def weights(
    like: Any, before: Any, after: Any, scale: Any, translation: Any, method: str, antialias: bool
) -> Any:
    """Return the weights that resample an axis, of shape (after, before).

    Element i of the new axis stands at `(i + 1/2 - translation) / scale - 1/2` of the old one.
    Weights sum to 1, and are 0 for elements beyond the ends.

    Args:
        like: a tensor of the backend, for sizes that are not numbers.
        before: the size of the axis.
        after: the size of the new one.
        scale: how much larger an element becomes.
        translation: how far it is moved, in new elements.
        method: a name of `KERNELS`.
        antialias: whether the kernel is widened where the axis shrinks.
    """
    numbers = all(isinstance(v, int | float) for v in (before, after, scale, translation))
    f: Any = np if numbers else k
    precise = "float64" if not numbers and dtype(scale) == "float64" else "float32"
    old, new = (
        np.arange(n, dtype="float64") if numbers else cast(positions(like, n), precise)
        for n in (before, after)
    )
    at = (new + 0.5 - translation) / scale - 0.5
    wide = f.maximum(1.0 / scale, 1.0) if antialias else 1.0
    table = KERNELS[method](f, f.abs(f.expand_dims(at, 1) - f.expand_dims(old, 0)) / wide)
    total = f.sum(table, axis=1, keepdims=True)
    usable = f.abs(total) > 1000 * float(np.finfo("float32").eps)
    table = f.where(usable, table / f.where(total != 0, total, 1.0), 0.0)
    last = before - 0.5 if numbers else cast(before, precise) - 0.5
    inside = f.logical_and(at >= -0.5, at <= last)
    table = f.where(f.expand_dims(inside, 1), table, 0.0)
    return table.astype("float32") if numbers else cast(table, "float32")


def along(x: Any, axis: int, table: Any) -> Any:
    """Multiply an axis of a tensor by a table (after, before).

    Args:
        x: a tensor of floats.
        axis: the axis, from 0 on.
        table: the weights.
    """
    sizes = shape(x)
    rest = sizes[axis + 1 :]
    flat = k.reshape(x, (*sizes[: axis + 1], -1))
    out = k.matmul(cast(table, x.dtype), flat)
    return k.reshape(out, (*sizes[:axis], shape(out)[axis], *rest))


# ---- values at coordinates ----


def _mirrored(i: Any, size: int) -> Any:
    period = max(size - 1, 1)
    return k.abs(k.mod(i + period, 2 * period) - period) if size > 1 else i * 0


def _reflected(i: Any, size: Any) -> Any:
    i = k.mod(i, 2 * size)
    return k.minimum(i, 2 * size - 1 - i)


FIXERS: dict[str, Callable] = {
    "constant": lambda i, size: k.clip(i, 0, size - 1),
    "nearest": lambda i, size: k.clip(i, 0, size - 1),
    "wrap": lambda i, size: k.mod(i, size),
    "mirror": _mirrored,
    "reflect": _reflected,
}


def sample(
    gather: Callable, coordinates: Sequence, sizes: Sequence, order: int, mode: str, fill: Any
) -> Any:
    """Interpolate between the elements of a grid.

    Args:
        gather: from one integer index an axis to values.
        coordinates: one float tensor for each axis; they and the values broadcast together.
        sizes: the sizes of the axes.
        order: 0 takes the nearest element, 1 interpolates linearly.
        mode: how coordinates beyond the ends are treated, a name of `FIXERS`.
        fill: the value there for "constant".
    """
    corners = []  # for each axis the elements around: place, whether it is inside, weight
    for at, size in zip(coordinates, sizes, strict=True):
        if order == 0:
            near = [(k.trunc(at + k.where(at < 0, -0.5, 0.5)), None)]
        else:
            low = k.floor(at)
            near = [(low, 1.0 - (at - low)), (low + 1.0, at - low)]
        corners.append([])
        for index, share in near:
            index, inside = cast(index, "int32"), None
            if mode == "constant":
                inside = k.logical_and(index >= 0, index < size)
            corners[-1].append((FIXERS[mode](index, size), inside, share))
    total = None
    for chosen in itertools.product(*corners):
        indices, weight, inside = [], None, None
        for index, valid, share in chosen:
            indices.append(index)
            if valid is not None:
                inside = valid if inside is None else k.logical_and(inside, valid)
            if share is not None:
                weight = share if weight is None else weight * share
        value = gather(indices)
        if inside is not None:
            value = k.where(inside, value, cast(fill, value.dtype))
        value = value if weight is None else value * cast(weight, value.dtype)
        total = value if total is None else total + value
    return total
