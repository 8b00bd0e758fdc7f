"""Connected regions of a binary mask, and the removal of small ones.

Regions are not of pixels but of runs along the rows, of which a mask has few: each run is joined
with those that it touches in the next row, and the least number of a region spreads in it.
"""

from typing import Any, NamedTuple

import numpy as np


class Regions(NamedTuple):
    """The runs of a mask, row by row, and the regions that they belong to.

    Args:
        starts: where each run begins, as y * width + x.
        lengths: of the runs in pixels.
        labels: the number of the region of each run, from 0 on, in the order of their first pixel.
        areas: of the regions in pixels.
    """

    starts: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    areas: np.ndarray


def connected_regions(mask: Any, connectivity: int = 8) -> Regions:
    """Return the connected regions of a mask.

    Args:
        mask: (height, width) of bool.
        connectivity: 8 where pixels that touch at a corner are of one region, or 4.

    Raises:
        ValueError: the mask has not two axes, or the connectivity is another number.

    >>> mask = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]], bool)
    >>> connected_regions(mask).areas.tolist(), connected_regions(mask, 4).areas.tolist()
    ([4, 1], [1, 3, 1])
    """
    mask = np.asarray(mask, bool)
    if mask.ndim != 2 or connectivity not in (4, 8):
        raise ValueError(
            "mask must be (height, width), and connectivity 4 or 8, got the shape "
            f"{mask.shape} and {connectivity!r}."
        )
    height, width = mask.shape
    wide = width + 2  # a zero before and after each row, so that runs end with it
    edges = np.zeros((height, wide), bool)
    edges[:, 1:-1] = mask
    edges = edges.reshape(-1)
    places = np.flatnonzero(edges[1:] != edges[:-1])
    starts, ends = places[0::2], places[1::2]  # both after the pixel before the run
    lengths = ends - starts
    labels = _join(*_touching(starts, ends, wide, reach=connectivity == 8), len(starts))
    areas = np.bincount(labels, lengths).astype("int64") if len(labels) else np.zeros(0, "int64")
    rows, columns = np.divmod(starts, wide)
    return Regions(rows * width + columns, lengths, labels, areas)


def _touching(
    starts: np.ndarray, ends: np.ndarray, wide: int, reach: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of runs that touch each other in neighbouring rows."""
    # Those that a run touches follow each other: from the first that does not end before its
    # start to the last that does not begin after its end.
    first = np.searchsorted(ends, starts + wide, "left" if reach else "right")
    last = np.searchsorted(starts, ends + wide, "right" if reach else "left")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    offsets = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + offsets


def _join(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Return the number of the component of each node of a graph, from 0 on in their order."""
    parents = np.arange(count)
    while True:
        a, b = parents[first], parents[second]
        differ = a != b
        if not differ.any():
            return np.unique(parents, return_inverse=True)[1]
        first, second, a, b = (x[differ] for x in (first, second, a, b))
        np.minimum.at(parents, np.maximum(a, b), np.minimum(a, b))
        while (parents[parents] != parents).any():
            parents = parents[parents]


def remove_small_regions(mask: Any, area: float, mode: str) -> tuple[np.ndarray, bool]:
    """Fill small holes of a mask, or remove small islands.

    A region touches others at corners too, as with the authors' `remove_small_regions`. Of a mask
    that has small islands alone, the largest one is left.

    Args:
        mask: (height, width) of bool.
        area: regions with fewer pixels are small.
        mode: "holes" or "islands".

    Returns:
        The new mask, and whether it differs.

    Raises:
        ValueError: the mode is another one.

    >>> mask = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]], bool)
    >>> remove_small_regions(mask, 2, "holes")[0].astype(int).tolist()
    [[1, 1, 1, 0, 1], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]]
    >>> remove_small_regions(mask, 2, "islands")[0].astype(int).tolist()
    [[1, 1, 1, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]
    """
    if mode not in ("holes", "islands"):
        raise ValueError(f"mode must be 'holes' or 'islands', got {mode!r}.")
    mask = np.asarray(mask, bool)
    regions = connected_regions(mask if mode == "islands" else ~mask)
    is_small = regions.areas < area
    if not is_small.any():
        return mask, False
    if mode == "islands" and is_small.all():
        is_small[regions.areas.argmax()] = False
    changed = is_small[regions.labels]
    # A step up where a run begins, and one down where it ends.
    steps = np.zeros(mask.size + 1, "int8")
    starts = regions.starts[changed]
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + regions.lengths[changed], -1)
    flipped = np.cumsum(steps[:-1], dtype="int8").astype(bool).reshape(mask.shape)
    return mask ^ flipped, bool(changed.any())
