"""`rearrange`: axes split, permuted and merged as a pattern says."""

import math
import re
from typing import Any

from keraslite.ops.core import (
    shape,
)
from keraslite.ops.numpy import reshape, transpose
from keraslite.ops.op import op
from keraslite.typing import Tensor

_GROUP = re.compile(r"\(([^()]*)\)|(\.\.\.|\w+)")
_read: dict[str, tuple] = {}  # the patterns met so far: both sides, as tuples of names of axes


@op("same")
def rearrange(tensor: Tensor, pattern: str, **axes_lengths: int) -> Tensor:
    """Split, permute and merge axes as a pattern of einops says.

    Args:
        tensor: the tensor.
        pattern: the axes before and after, such as "b (h p) c -> b p (h c)"; `...` stands for any
            axes, `1` for one of size 1.
        axes_lengths: the sizes of named axes; in each group all but one must be known.

    Raises:
        ValueError: the pattern cannot be read, or does not fit the shape or the sizes.

    Source: the notation of einops, https://einops.rocks.

    >>> convert_to_numpy(rearrange([[1, 2, 3, 4]], "b (h w) -> b w h", h=2)).tolist()
    [[[1, 3], [2, 4]]]
    """
    if pattern not in _read:
        _read[pattern] = _parse(pattern)
    sizes_before = shape(tensor)
    sides, rank = _read[pattern], len(sizes_before)
    before, after = (_without_dots(side, sides[0], rank) for side in sides)
    if len(before) != rank:
        raise ValueError(
            f"{pattern!r} has {len(before)} axes, got a shape of {tuple(tensor.shape)}"
        )
    sizes: dict[str, Any] = dict(axes_lengths)
    for group, size in zip(before, sizes_before, strict=True):
        _measure(group, size, sizes, pattern)
    names = [name for group in before for name in group]
    names_after = [name for group in after for name in group]
    if unused := sorted(axes_lengths.keys() - set(names)):
        raise ValueError(f"{pattern!r} has no axis {', '.join(unused)}")
    if any(len(group) != 1 for group in before):
        tensor = reshape(tensor, tuple(sizes[name] for name in names))
    if names != names_after:
        tensor = transpose(tensor, tuple(names.index(name) for name in names_after))
    if any(len(group) != 1 for group in after):
        tensor = reshape(tensor, tuple(math.prod([sizes[n] for n in group]) for group in after))
    return tensor


def _parse(pattern: str) -> tuple:
    """Both sides of a pattern, each a tuple of groups of names; an axis of size 1 has none."""
    sides = pattern.split("->")
    if len(sides) != 2:
        raise ValueError(f"pattern must have two sides around one '->', got {pattern!r}")
    read = []
    for side in sides:
        if rest := _GROUP.sub("", side).strip():
            raise ValueError(f"{pattern!r} cannot be read at {rest!r}")
        groups = [(m[1] if m[2] is None else m[2]).split() for m in _GROUP.finditer(side)]
        read.append(tuple(tuple(n for n in group if n != "1") for group in groups))
    names = [[name for group in groups for name in group] for groups in read]
    for side, others in (names, names[::-1]):
        for name in side:
            if side.count(name) > 1:
                raise ValueError(f"{pattern!r} has the axis {name!r} twice on one side")
            if name not in others:
                raise ValueError(f"{pattern!r} has the axis {name!r} on one side only")
    if any("..." in group for group in read[0] if len(group) > 1):
        raise ValueError(f"{pattern!r} splits '...', whose axes have no sizes of their own")
    return tuple(read)


_parse._dynamo_marked_constant = True  # torch.compile runs it, rather than trace it


def _without_dots(side: tuple, before: tuple, rank: int) -> tuple:
    """One side with names instead of `...`, as many as the other axes leave over."""
    dots = [f"...{i}" for i in range(rank - len(before) + 1)]
    out = []
    for group in side:
        if group == ("...",):
            out += [(name,) for name in dots]
        else:
            out.append(tuple(n for name in group for n in (dots if name == "..." else [name])))
    return tuple(out)


def _measure(group: tuple, size: Any, sizes: dict, pattern: str) -> None:
    """Note the sizes of the axes that an axis of the given size is split into."""
    unknown = [name for name in group if name not in sizes]
    known_size = math.prod([sizes[name] for name in group if name in sizes])
    if len(unknown) > 1:
        raise ValueError(f"{pattern!r} needs the size of {' or '.join(unknown)}")
    if isinstance(size, int) and (size % known_size if unknown else size != known_size):
        raise ValueError(f"{pattern!r} must fit an axis of size {size}, got {known_size}")
    if unknown:
        sizes[unknown[0]] = size // known_size


__all__ = ["rearrange"]
