"""Convolutions and pools on numpy, tap by tap, which makes few and large operations."""

from typing import Any

import numpy as np

from keraslite.backend.numpy.engine import zeros
from keraslite.backend.primitives import primitive
from keraslite.backend.windows import output_size, padding_pairs
from keraslite.scopes import scopes

TABLE: dict[str, Any] = {}


def _padded(x: np.ndarray, pairs: list, value: float = 0.0) -> np.ndarray:
    if not any(a or b for a, b in pairs):
        return x
    return np.pad(x, [(0, 0), *pairs, (0, 0)], constant_values=value)


def _taps(window: tuple, strides: tuple, dilation: tuple, sizes: tuple) -> Any:
    """For each element of a window, its place and where in the input it falls for every output."""
    out = [output_size(*v) for v in zip(sizes, window, strides, dilation, strict=True)]
    for tap in np.ndindex(*window):
        yield tap, (slice(None), *(
            slice(t * d, t * d + (n - 1) * s + 1 if n > 0 else 0, s)
            for t, d, n, s in zip(tap, dilation, out, strides, strict=True)
        ))  # fmt: skip


def _shape_alone(
    x: np.ndarray, window: tuple, strides: tuple, dilation: tuple, pairs: list, channels: int
) -> np.ndarray:
    """Zeros in the shape of the output, where that alone is asked."""
    sizes = (n + a + b for n, (a, b) in zip(x.shape[1:-1], pairs, strict=True))
    out = [output_size(*v) for v in zip(sizes, window, strides, dilation, strict=True)]
    return zeros((len(x), *out, channels), x.dtype.name)


def _product(x: np.ndarray, matrix: np.ndarray, groups: int) -> np.ndarray:
    """The channels of x times a matrix (channels / groups, filters), group by group."""
    if groups == 1:
        return x @ matrix
    part, filters = matrix.shape
    x = x.reshape(*x.shape[:-1], groups, part)
    weights = matrix.reshape(part, groups, filters // groups)
    return np.einsum("...gi,igo->...go", x, weights, optimize=part > 1).reshape(
        *x.shape[:-2], filters
    )


@primitive(TABLE)
def _conv(
    x: np.ndarray, kernel: np.ndarray, strides: tuple, padding: Any, dilation: tuple, groups: int
) -> np.ndarray:
    window, dtype = kernel.shape[:-2], x.dtype
    pairs = padding_pairs(padding, x.shape[1:-1], window, strides, dilation)
    if scopes.abstract:
        return _shape_alone(x, window, strides, dilation, pairs, kernel.shape[-1])
    if dtype.itemsize < 4:
        x, kernel = x.astype("float32"), kernel.astype("float32")
    x = _padded(x, pairs)
    out = 0.0
    for tap, where in _taps(window, strides, dilation, x.shape[1:-1]):
        out = out + _product(x[where], kernel[tap], groups)
    return out.astype(dtype, copy=False)


@primitive(TABLE)
def _conv_transpose(
    x: np.ndarray, kernel: np.ndarray, strides: tuple, crops: list, dilation: tuple
) -> np.ndarray:
    window, dtype = kernel.shape[:-2], x.dtype
    if dtype.itemsize < 4:
        x, kernel = x.astype("float32"), kernel.astype("float32")
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[1:-1], strides, window, dilation, strict=True)
    ]
    out = np.zeros((len(x), *full, kernel.shape[-2]), x.dtype)
    for tap, where in _taps(window, strides, dilation, tuple(full)):
        out[where] += x @ kernel[tap].T
    out = _padded(out, [(max(-a, 0), max(-b, 0)) for a, b in crops])
    kept = (slice(max(a, 0), n - max(b, 0)) for (a, b), n in zip(crops, out.shape[1:-1]))
    return out[(slice(None), *kept)].astype(dtype, copy=False)


@primitive(TABLE)
def _window(x: np.ndarray, kind: str, size: tuple, strides: tuple, padding: Any) -> np.ndarray:
    one, dtype = (1,) * len(size), x.dtype
    pairs = padding_pairs(padding, x.shape[1:-1], size, strides, one)
    if scopes.abstract:
        return _shape_alone(x, size, strides, one, pairs, x.shape[-1])
    if kind == "max_pool":
        low = np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf
        padded = _padded(x, pairs, low)
        taps = [padded[where] for _, where in _taps(size, strides, one, padded.shape[1:-1])]
        out = taps[0]
        for tap in taps[1:]:
            out = np.maximum(out, tap)
        return out
    padded = _padded(x.astype("float32") if dtype.itemsize < 4 else x, pairs)
    inside = _padded(np.ones((1, *x.shape[1:-1], 1), padded.dtype), pairs)
    places = [where for _, where in _taps(size, strides, one, padded.shape[1:-1])]
    total = sum(padded[where] for where in places)
    return (total / sum(inside[where] for where in places)).astype(dtype, copy=False)
