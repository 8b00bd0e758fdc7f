"""Masks of a picture's size out of the small ones that a segmenter predicts.

Low-resolution logits are resized to the input, cut off where its padding begins, and resized to the
picture, both times linearly, without antialiasing: `F.interpolate(align_corners=False)`. Both
steps are linear and separate for rows and columns, so that one sparse matrix for each axis does the
work of both. Its rows have 2 or 3 neighbouring values: it is multiplied block by block.

Where a mask alone is wanted, most blocks are not computed: a mean of values that all lie above a
threshold, or all below it, does too.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from hub.preprocessing.segmentation import ImageGeometry

_BLOCK = 64  # rows or columns of the result at a time


class _Block(NamedTuple):
    """Neighbouring places of the result along an axis, and what they are computed from."""

    places: slice
    sources: slice
    weights: np.ndarray  # (places, sources)


_Blocks = tuple[_Block, ...]


def upsample_logits(low_res_logits: Any, geometry: ImageGeometry) -> np.ndarray:
    """Return logits of the size of a picture, (..., height, width) of float32.

    They are, to rounding, those of `SamImageProcessor.post_process_masks` of transformers without
    `binarize`.

    Args:
        low_res_logits: (..., low height, low width), for the whole input with its padding.
        geometry: of the picture.

    >>> geometry = ImageGeometry.of((2, 4), longest_side=8)
    >>> upsample_logits([[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [9, 9, 9, 9]], geometry)
    array([[0.125, 1.   , 2.   , 2.875],
           [0.125, 1.   , 2.   , 2.875]], dtype=float32)
    """
    low, shape = _as_batch(low_res_logits)
    rows, columns = _axes(low.shape[1:], geometry)
    wide = np.empty((*low.shape[:2], geometry.size[1]), "float32")
    for block in columns:
        np.matmul(low[..., block.sources], block.weights.T, out=wide[..., block.places])
    out = np.empty((len(low), *geometry.size), "float32")
    for block in rows:
        np.matmul(block.weights, wide[:, block.sources], out=out[:, block.places])
    return out.reshape(*shape, *geometry.size)


def upsample_masks(
    low_res_logits: Any, geometry: ImageGeometry, threshold: float = 0.0
) -> np.ndarray:
    """Return where logits of the size of a picture exceed a threshold, (..., height, width).

    It is `upsample_logits(...) > threshold`, in a fraction of the time.

    Args:
        low_res_logits: (..., low height, low width), for the whole input with its padding.
        geometry: of the picture.
        threshold: of the logits.

    >>> low = np.full((4, 4), -1.0)
    >>> low[1:3, :2] = 1.0
    >>> upsample_masks(low, ImageGeometry.of((4, 4), longest_side=8)).astype(int)
    array([[0, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 0, 0]])
    """
    low, shape = _as_batch(low_res_logits)
    rows, columns = _axes(low.shape[1:], geometry)
    least, mixed = _extremes(low, rows, columns, threshold, threshold)
    constant = np.repeat(least > threshold, _lengths(columns), axis=2)
    out = np.repeat(constant, _lengths(rows), axis=1)
    for i, j, numbers in _nonempty(mixed):
        part = out[:, rows[i].places, columns[j].places]
        part[numbers] = _values(low, numbers, rows[i], columns[j]) > threshold
    return out.reshape(*shape, *geometry.size)


def count_above(low_res_logits: Any, geometry: ImageGeometry, *thresholds: float) -> np.ndarray:
    """Return how many pixels of a picture have logits above thresholds, (..., thresholds) of ints.

    Args:
        low_res_logits: (..., low height, low width), for the whole input with its padding.
        geometry: of the picture.
        thresholds: of the logits, one at least.

    >>> low = np.array([[-3.0, 3.0], [-3.0, 3.0]])
    >>> count_above(low, ImageGeometry.of((2, 2), longest_side=4), -4, -1, 2).tolist()
    [4, 2, 2]
    """
    low, shape = _as_batch(low_res_logits)
    rows, columns = _axes(low.shape[1:], geometry)
    least, mixed = _extremes(low, rows, columns, min(thresholds), max(thresholds))
    sizes = np.outer(_lengths(rows), _lengths(columns)) * ~mixed
    out = np.stack([(sizes * (least > level)).sum((1, 2)) for level in thresholds], -1)
    for i, j, numbers in _nonempty(mixed):
        values = _values(low, numbers, rows[i], columns[j]).reshape(len(numbers), -1)
        for k, level in enumerate(thresholds):
            out[numbers, k] += np.count_nonzero(values > level, axis=1)
    return out.reshape(*shape, len(thresholds))


def _as_batch(low_res_logits: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return logits (masks, height, width), and the shape of what was before the last two axes."""
    low = np.asarray(low_res_logits, "float32")
    if low.ndim < 2:
        raise ValueError(f"Logits of masks must be (..., height, width), got {low.shape}.")
    shape = low.shape[:-2]
    return low.reshape(int(np.prod(shape)), *low.shape[-2:]), shape


def _extremes(
    low: np.ndarray, rows: _Blocks, columns: _Blocks, lowest: float, highest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known of blocks of the result, (masks, row blocks, column blocks) both.

    That is the least of the values that a block has means of, and whether some of these may lie on
    either side of one of the thresholds. All of another block lie on the side of the least one.
    """
    least = _reduce(np.minimum, _reduce(np.minimum, low, rows, 1), columns, 2)
    most = _reduce(np.maximum, _reduce(np.maximum, low, rows, 1), columns, 2)
    return least, (least <= highest) & (most > lowest)


def _reduce(extreme: np.ufunc, values: np.ndarray, blocks: _Blocks, axis: int) -> np.ndarray:
    """Return the extremes of the sources of each block along an axis."""
    ranges = [(slice(None),) * axis + (block.sources,) for block in blocks]
    return np.stack([extreme.reduce(values[place], axis) for place in ranges], axis)


def _lengths(blocks: _Blocks) -> list[int]:
    return [len(block.weights) for block in blocks]


def _nonempty(mixed: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the row and the column of blocks, and for which masks they must be computed."""
    numbers = np.moveaxis(mixed, 0, -1)
    for i, j in np.argwhere(numbers.any(-1)).tolist():
        yield i, j, np.flatnonzero(numbers[i, j])


def _values(low: np.ndarray, numbers: np.ndarray, rows: _Block, columns: _Block) -> np.ndarray:
    """Return the logits (numbers, rows, columns) of a block of some masks."""
    part = low[:, rows.sources, columns.sources][numbers]
    return rows.weights @ (part @ columns.weights.T)


def _axes(low: tuple[int, ...], geometry: ImageGeometry) -> Iterator[_Blocks]:
    """Return the blocks of the rows and those of the columns."""
    sides = zip(low, geometry.padded, geometry.resized, geometry.size, strict=True)
    return (_axis_blocks(*side) for side in sides)


@lru_cache(maxsize=64)
def _axis_blocks(low: int, padded: int, resized: int, size: int) -> _Blocks:
    """Return the blocks of an axis: low -> padded, cut off after `resized`, -> size."""
    to_padded = _linear(low, padded)
    start, weight = _neighbours(resized, size)
    end = np.minimum(start + 1, resized - 1)
    matrix = (1 - weight) * to_padded[start] + weight * to_padded[end]
    out = []
    for first in range(0, size, _BLOCK):
        rows = matrix[first : first + _BLOCK]
        used = np.flatnonzero(rows.any(0))
        sources = slice(int(used[0]), int(used[-1]) + 1)
        weights = np.ascontiguousarray(rows[:, sources])
        weights.flags.writeable = False  # as it is shared
        out.append(_Block(slice(first, first + len(rows)), sources, weights))
    return tuple(out)


def _linear(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old) of a linear interpolation."""
    start, weight = _neighbours(old, new)
    matrix, places = np.zeros((new, old), "float32"), np.arange(new)
    matrix[places, start] = 1 - weight[:, 0]
    matrix[places, np.minimum(start + 1, old - 1)] += weight[:, 0]
    return matrix


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the two neighbours of each new place, and the weight of the second.

    Places are computed in float32, as torch does: of many pixels, rounding is seen in the result.
    """
    scale = np.float32(old) / np.float32(new)
    place = (np.arange(new, dtype="float32") + np.float32(0.5)) * scale - np.float32(0.5)
    place = np.maximum(place, np.float32(0))
    start = np.minimum(place.astype("int64"), old - 1)
    return start, (place - start.astype("float32"))[:, None]
