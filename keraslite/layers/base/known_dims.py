"""The sizes of outputs by arithmetic, for graphs that are built without a look at calls."""

from collections.abc import Sequence

from keraslite.backend.windows import output_size, padding_pairs
from keraslite.probing import Dim

Size = int | Dim  # of an axis


def window_dims(
    sizes: Sequence[Size],
    window: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence,
    dilation: Sequence[int] | None = None,
) -> list[Size] | None:
    """Return the number of windows along each axis; None where a window does not fit.

    Args:
        sizes: of the spatial axes.
        window: the sizes of the kernel or pool.
        strides: the steps between windows.
        padding: "valid", "same", "causal" or the pairs themselves.
        dilation: the steps inside a window, 1 by default.

    >>> window_dims([5, 4], [3, 3], [2, 2], "same")
    [3, 2]
    """
    dilation = dilation or [1] * len(window)
    if padding == "causal":
        padding = [((window[0] - 1) * dilation[0], 0)]
    out: list[Size] = []
    for i, options in enumerate(zip(window, strides, dilation, strict=True)):
        size, axis = sizes[i], slice(i, i + 1)
        pads = padding if isinstance(padding, str) else padding[axis]
        if isinstance(size, int):
            pair = padding_pairs(pads, [size], window[axis], strides[axis], dilation[axis])[0]
            out.append(output_size(size + sum(pair), *options))
        elif padding == "same":
            out.append(size.windows(-1, strides[i]))
        else:
            pair = padding_pairs(pads, [], window[axis], strides[axis], dilation[axis])[0]
            out.append(size.windows(sum(pair) - (window[i] - 1) * dilation[i] - 1, strides[i]))
    return None if any(isinstance(n, int) and n < 1 for n in out) else out


def broadcast_dims(shapes: Sequence[tuple[Size, ...]]) -> tuple[Size, ...] | None:
    """Return the sizes of shapes of one rank that broadcast; None where they may not.

    Args:
        shapes: their sizes.

    >>> broadcast_dims([(2, 1, 3), (2, 4, 3)])
    (2, 4, 3)
    """
    if len({len(shape) for shape in shapes}) != 1:
        return None
    axes = [set(sizes) - {1} or {1} for sizes in zip(*shapes, strict=True)]
    return tuple(size for axis in axes for size in axis) if max(map(len, axes)) == 1 else None


def joined_dims(shapes: Sequence[tuple[Size, ...]], axis: int) -> tuple[Size, ...] | None:
    """Return the sizes of tensors behind one another along an axis; None where unknown.

    Args:
        shapes: their sizes.
        axis: the axis.

    >>> joined_dims([(2, 1), (2, 4)], -1)
    (2, 5)
    """
    rank = len(shapes[0])
    if not -rank <= axis < rank or len({len(shape) for shape in shapes}) != 1:
        return None
    axis %= rank
    sizes = [shape[axis] for shape in shapes]
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rests) != 1 or not all(isinstance(size, int) for size in sizes):
        return None
    return (*shapes[0][:axis], sum(sizes), *shapes[0][axis + 1 :])


def lengthened_dims(dims: Sequence[Size], numbers: Sequence[int]) -> tuple[Size, ...] | None:
    """Return sizes with numbers added, which may be negative; None where nothing is left.

    Args:
        dims: the sizes.
        numbers: of each axis.

    >>> lengthened_dims((2, 5, 3), (0, -4, 1))
    (2, 1, 4)
    """
    pairs = zip(dims, numbers, strict=True)
    out = tuple(d + n if isinstance(d, int) else d.windows(n - 1, 1) for d, n in pairs)
    fits = all(n >= 0 or not isinstance(d, int) or d > 0 for d, n in zip(out, numbers, strict=True))
    return out if fits else None
