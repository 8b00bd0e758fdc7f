"""Run-length encoding of binary masks, in the two forms of COCO.

A mask is read column by column. Its runs have alternately the values 0 and 1; the first, which may
be empty, is of zeros. `counts` is the list of their lengths, or, compressed, a string: from the
fourth run on the difference to the run before the last, in groups of 5 bits, lowest first, each
with a bit that says whether another one follows, as a character from "0" on. The string is what
`pycocotools.mask` reads and writes, as bytes there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FIRST = 48  # the character of a group of zeros, "0"
_MOST_GROUPS = 12  # of 5 bits in a number of 64 bits

RLE = dict[str, Any]  # {"size": [height, width], "counts": list of ints or a string}


def encode(masks: Any, compressed: bool = False) -> Any:
    """Return the run-length encoding of a mask, or those of several.

    Args:
        masks: (height, width) or (masks, height, width); what is not 0 is set.
        compressed: whether the counts are strings.

    Returns:
        A dict of "size" and "counts", or a list of these.

    Raises:
        ValueError: the masks have another number of axes, or no pixel.

    >>> encode(np.array([[0, 1, 1], [0, 0, 1]]))
    {'size': [2, 3], 'counts': [2, 1, 1, 2]}
    >>> encode(np.ones((2, 3)), compressed=True)
    {'size': [2, 3], 'counts': '06'}
    """
    masks = np.asarray(masks)
    if masks.ndim not in (2, 3) or 0 in masks.shape[-2:]:
        raise ValueError(
            f"masks must be (height, width) or (masks, height, width), got the shape {masks.shape}."
        )
    size = list(masks.shape[-2:])
    masks = masks if masks.dtype == bool else masks != 0
    out = []
    for mask in masks.reshape(-1, *size):
        counts = np.diff(_changes(mask), prepend=0, append=mask.size)
        out.append({"size": size[:], "counts": compress(counts) if compressed else counts.tolist()})
    return out if masks.ndim == 3 else out[0]


def _changes(mask: np.ndarray) -> np.ndarray:
    """Return the places, column by column, of pixels that differ from the one before them.

    The first one differs if it is set. Pixels are compared row by row, as they lie in memory.
    """
    height, width = mask.shape
    differs = np.zeros(-(-mask.size // 8) * 8, bool)
    rows = differs[: mask.size].reshape(mask.shape)
    np.not_equal(mask[1:], mask[:-1], out=rows[1:])
    np.not_equal(mask[0, 1:], mask[-1, :-1], out=rows[0, 1:])
    rows[0, 0] = mask[0, 0]
    # Few pixels differ: they are looked for eight at a time.
    words = np.flatnonzero(differs.view("int64"))
    word, byte = np.nonzero(differs.reshape(-1, 8)[words])
    row, column = np.divmod(words[word] * 8 + byte, width)
    return np.sort(column * height + row)


def decode(rles: Any) -> np.ndarray:
    """Return the mask (height, width) of an encoding, or (masks, height, width) of several.

    Args:
        rles: a dict of "size" and "counts" of either form, or a list of these of one size.

    Raises:
        ValueError: an encoding is damaged, or the sizes differ.

    >>> decode({"size": [2, 3], "counts": [2, 1, 1, 2]}).astype(int)
    array([[0, 1, 1],
           [0, 0, 1]])
    """
    if not isinstance(rles, Mapping):
        if not rles or len({tuple(rle["size"]) for rle in rles}) != 1:
            sizes = sorted({tuple(rle["size"]) for rle in rles})
            raise ValueError(f"The encodings must be of one size, got the sizes {sizes}.")
        return np.stack([decode(rle) for rle in rles])
    height, width = rles["size"]
    counts = run_lengths(rles)
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def run_lengths(rle: Mapping[str, Any]) -> np.ndarray:
    """Return the lengths of the runs of an encoding of either form, of int64.

    Args:
        rle: a dict of "size" and "counts".

    Raises:
        ValueError: it is damaged: lengths that are negative, or do not add up to the size.
    """
    height, width = rle["size"]
    counts = rle["counts"]
    counts = decompress(counts) if isinstance(counts, str | bytes) else np.asarray(counts, "int64")
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError(
            f"The runs of a mask of {height} x {width} must add up to {height * width} pixels, "
            f"got {counts.sum()}: the encoding is damaged, or its size is that of another mask."
        )
    return counts


def compress(counts: Any) -> str:
    """Return lengths of runs as a string.

    Args:
        counts: the lengths (runs,).

    >>> compress([2, 1, 100, 2])
    '21T31'
    """
    rest = np.array(counts, "int64")
    rest[3:] -= np.asarray(counts, "int64")[1:-2]
    groups = np.zeros((len(rest), _MOST_GROUPS), "uint8")
    is_used = np.zeros(groups.shape, bool)
    more = np.ones(len(rest), bool)
    for place in range(_MOST_GROUPS):
        if not more.any():
            break
        is_used[:, place] = more
        group = rest & 31
        rest = rest >> 5
        # The bit 16 of the last group is the sign.
        more = more & (rest != np.where(group & 16, -1, 0))
        groups[:, place] = group + 32 * more + _FIRST
    return groups[is_used].tobytes().decode("ascii")


def decompress(text: str | bytes) -> np.ndarray:
    """Return the lengths of runs in a string, of int64.

    Args:
        text: the counts of a compressed encoding.

    Raises:
        ValueError: the string is damaged.

    >>> decompress("21T31").tolist()
    [2, 1, 100, 2]
    """
    data = text.encode("latin-1", "replace") if isinstance(text, str) else text
    groups = np.frombuffer(data, "uint8").astype("int64") - _FIRST
    is_last = groups & 32 == 0
    if ((groups < 0) | (groups > 63)).any() or (len(groups) and not is_last[-1]):
        raise ValueError(f"The counts are no compressed runs of COCO: {text[:40]!r}.")
    ends = np.flatnonzero(is_last)
    if not len(ends):
        return np.zeros(0, "int64")
    starts = np.append(0, ends[:-1] + 1)
    sizes = ends - starts + 1
    if sizes.max() > _MOST_GROUPS:
        raise ValueError(f"The counts are no compressed runs of COCO: {text[:40]!r}.")
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, sizes))
    counts = np.add.reduceat((groups & 31) << shifts, starts)
    counts = counts - np.where(groups[ends] & 16, 1 << 5 * sizes, 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def area(rle: Mapping[str, Any]) -> int:
    """Return the number of pixels of a mask.

    Args:
        rle: its encoding.

    >>> area({"size": [2, 3], "counts": [2, 1, 1, 2]})
    3
    """
    return int(run_lengths(rle)[1::2].sum())


def bounding_box(rle: Mapping[str, Any]) -> list[int]:
    """Return the box [left, top, width, height] of a mask; zeros for an empty one.

    Args:
        rle: its encoding.

    >>> bounding_box({"size": [2, 3], "counts": [2, 1, 1, 2]})
    [1, 0, 2, 2]
    """
    height = rle["size"][0]
    starts, ends = _intervals(rle)
    if not len(starts):
        return [0, 0, 0, 0]
    left, right = starts[0] // height, (ends[-1] - 1) // height
    top, bottom = (starts % height).min(), ((ends - 1) % height).max()
    if (starts // height != (ends - 1) // height).any():  # of one column into the next
        top, bottom = 0, height - 1
    return [int(x) for x in (left, top, right - left + 1, bottom - top + 1)]


def _intervals(rle: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the runs of ones start and end; empty ones are left out."""
    edges = np.cumsum(run_lengths(rle))
    count = len(edges) // 2
    starts, ends = edges[0::2][:count], edges[1::2]
    return starts[ends > starts], ends[ends > starts]


def merge(rles: Sequence[Mapping[str, Any]], intersect: bool = False) -> RLE:
    """Return the union of masks, or their intersection, without decoding them.

    Args:
        rles: encodings of one size, one at least.
        intersect: whether pixels must be in all masks, instead of in any.

    Raises:
        ValueError: there is none, or the sizes differ.

    >>> merge([{"size": [1, 4], "counts": [0, 2, 2]}, {"size": [1, 4], "counts": [1, 2, 1]}])
    {'size': [1, 4], 'counts': [0, 3, 1]}
    """
    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"The encodings must be of one size, got the sizes {sorted(sizes)}.")
    starts, ends = (np.concatenate(x) for x in zip(*map(_intervals, rles), strict=True))
    places, owners = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    steps = np.repeat([1, -1], [len(starts), len(ends)])
    depth = np.cumsum(np.bincount(owners, steps, len(places)))
    is_set = depth >= (len(rles) if intersect else 1)
    changes = places[is_set != np.append(False, is_set[:-1])]
    (height, width) = sizes.pop()
    total = height * width
    counts = np.diff(changes[changes < total], prepend=0, append=total)
    return {"size": [height, width], "counts": counts.tolist()}


def iou(
    first: Sequence[Mapping[str, Any]],
    second: Sequence[Mapping[str, Any]],
    is_crowd: Sequence[bool] | None = None,
) -> np.ndarray:
    """Return intersections over unions of masks, (first, second) of float64.

    Args:
        first: encodings.
        second: encodings, of the same size.
        is_crowd: for each second mask whether it is a crowd: the intersection is then divided by
            the area of the first mask.

    Raises:
        ValueError: the sizes differ.

    >>> iou([{"size": [1, 4], "counts": [0, 2, 2]}], [{"size": [1, 4], "counts": [1, 2, 1]}])
    array([[0.33333333]])
    """
    out = np.zeros((len(first), len(second)))
    crowds = [False] * len(second) if is_crowd is None else list(is_crowd)
    areas = [area(rle) for rle in second]
    for i, a in enumerate(first):
        own = area(a)
        for j, b in enumerate(second):
            shared = area(merge([a, b], intersect=True))
            union = own if crowds[j] else own + areas[j] - shared
            out[i, j] = shared / union if union else 0.0
    return out
