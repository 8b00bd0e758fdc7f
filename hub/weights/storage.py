"""How a weight of ours lies in a checkpoint: its axes in another order, joined, or in a part.

A `Storage` is written as a pattern with our axes on the left and PyTorch's on the right, and is
read both ways: `from_checkpoint` is a view, `to_checkpoint` its exact inverse. The storage of a
weight is never guessed from its number of axes: the class of its layer says it
(`hub.weights.loading`), or a weight table.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Storage:
    """One way to store a weight.

    Attributes:
        pattern: our axes -> those of the checkpoint. `(a b)` is one axis that joins two, `1` an
            axis of size 1, `...` all axes that have no name.
        pixel_optional: whether (outputs, inputs) and (outputs, inputs, 1, 1) are both accepted.
        part: which of several equal parts of the stored tensor this weight is.
        parts: their number.
        axis: the stored axis along which the parts lie.

    >>> Storage("inputs heads size -> (heads size) inputs").stored_shape((8, 3, 4))
    (12, 8)
    """

    pattern: str
    pixel_optional: bool = False
    part: int = 0
    parts: int = 1
    axis: int = 0

    def stored_shape(self, shape: Sequence[int]) -> Shape:
        """Return the shape of the tensor in a checkpoint.

        Args:
            shape: of our weight.

        Raises:
            ValueError: the pattern is for another number of axes.
        """
        joined = _joined(self.pattern, tuple(shape))
        if self.parts == 1:
            return joined
        axis = self.axis
        return (*joined[:axis], joined[axis] * self.parts, *joined[axis + 1 :])

    def fits(self, shape: Sequence[int], stored: Sequence[int]) -> bool:
        """Return whether a tensor of a checkpoint can be our weight.

        Args:
            shape: of our weight.
            stored: the shape of the tensor.
        """
        full, stored = self.stored_shape(shape), tuple(stored)
        return stored == full or (
            self.pixel_optional
            and len(stored) in (2, 4)
            and _without_pixel(stored) == _without_pixel(full)
        )

    def from_checkpoint(self, array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return a tensor of a checkpoint as our weight, as a view of the same memory.

        Args:
            array: the tensor.
            shape: of our weight.

        Raises:
            ValueError: the tensor has another shape.

        >>> CONV.from_checkpoint(np.zeros((8, 3, 5, 5)), (5, 5, 3, 8)).shape
        (5, 5, 3, 8)
        """
        if not self.fits(shape, array.shape):
            raise ValueError(self.mismatch(shape, array.shape))
        if self.parts > 1:
            size = array.shape[self.axis] // self.parts
            begin = self.part * size
            array = array[(slice(None),) * self.axis + (slice(begin, begin + size),)]
        axes = _parse(self.pattern, len(shape))
        return array.reshape([shape[i] for i in axes.order]).transpose(axes.inverse)

    def to_checkpoint(self, array: np.ndarray, stored: Sequence[int] | None = None) -> np.ndarray:
        """Return our weight as a checkpoint stores it, contiguous; of several parts only its own.

        Args:
            array: our weight.
            stored: the shape of the whole tensor in the checkpoint; `stored_shape` by default.

        Raises:
            ValueError: the weight does not give a tensor of that shape.

        >>> DENSE.to_checkpoint(np.zeros((3, 5))).shape
        (5, 3)
        """
        sizes = list(self.stored_shape(array.shape) if stored is None else stored)
        if not self.fits(array.shape, sizes):
            raise ValueError(self.mismatch(array.shape, sizes))
        if self.parts > 1:
            sizes[self.axis] //= self.parts
        order = _parse(self.pattern, array.ndim).order
        return np.asarray(array.transpose(order).reshape(sizes), order="C")

    def as_part(self, part: int, parts: int, axis: int = 0) -> "Storage":
        """Return the storage of a weight that is one of several in one tensor, such as q, k and v.

        Args:
            part: which one.
            parts: their number.
            axis: the stored axis along which they lie.

        >>> DENSE.as_part(0, 3).stored_shape((4, 8))
        (24, 4)
        """
        return replace(self, part=part, parts=parts, axis=axis)

    def mismatch(self, shape: Sequence[int], stored: Sequence[int]) -> str:
        """Return the words for a tensor that does not fit.

        Args:
            shape: of our weight.
            stored: the shape of the tensor.
        """
        expected = self.stored_shape(shape)
        return f"got {tuple(stored)}, expected {expected} for a weight of shape {tuple(shape)}"


class _Axes(NamedTuple):
    """A pattern in numbers: for each stored axis our axes in it, all of them in that order, and
    the order that undoes it.
    """

    groups: tuple[Shape, ...]
    order: Shape
    inverse: Shape


@cache
def _parse(pattern: str, rank: int) -> _Axes:
    left, right = pattern.split(" -> ")
    names = left.split()
    unnamed = rank - len(names) + 1 if "..." in names else 0
    if (unnamed < 0) if "..." in names else (len(names) != rank):
        raise ValueError(f"The storage {pattern!r} must be of another weight: got {rank} axes.")

    def expand(text: str) -> list[str]:
        rest = [f".{i}" for i in range(unnamed)]
        return [name for axis in text.split() for name in (rest if axis == "..." else [axis])]

    ours, groups = expand(left), []
    for joined, single in re.findall(r"\(([^)]*)\)|(\S+)", right):
        if joined:
            groups.append(expand(joined))
        else:
            groups += [[]] if single == "1" else [[name] for name in expand(single)]
    order = tuple(ours.index(name) for group in groups for name in group)
    if sorted(order) != list(range(rank)):
        raise ValueError(f"The storage {pattern!r} must name every axis once on each side.")
    numbers = tuple(tuple(map(ours.index, group)) for group in groups)
    return _Axes(numbers, order, tuple(map(order.index, range(rank))))


@lru_cache(4096)  # the layers of a model have few shapes
def _joined(pattern: str, shape: Shape) -> Shape:
    """Return the stored shape of a weight, or of its part."""
    return tuple(math.prod(shape[i] for i in g) for g in _parse(pattern, len(shape)).groups)


def _without_pixel(shape: Shape) -> Shape:
    """Return (outputs, inputs) of a convolution of single pixels."""
    return shape[:2] if all(size == 1 for size in shape[2:]) else shape


# -- the layouts of PyTorch -----------------------------------------------------------------------

AS_IS = Storage("... -> ...")
FLAT = Storage("... -> (...)")  # such as a bias that is split into heads here
DENSE = Storage("inputs outputs -> outputs inputs")
CONV = Storage("... inputs outputs -> outputs inputs ...")
DEPTHWISE = Storage("... channels multiplier -> (channels multiplier) 1 ...")
CONV_TRANSPOSE = Storage("... outputs inputs -> inputs outputs ...")
# A dense layer here that is a convolution of single pixels there, or was one in older files.
DENSE_AS_CONV = Storage("inputs outputs -> outputs inputs 1 1", pixel_optional=True)
DENSE_OR_CONV = replace(DENSE, pixel_optional=True)


@cache
def einsum_dense(equation: str) -> Storage | None:
    """Return the storage of the kernel of an EinsumDense layer that is a dense one in PyTorch.

    Args:
        equation: of the layer; the axes that its kernel and its output share are joined to the
            outputs, the others to the inputs.

    Returns:
        The storage; None if no dense layer computes the same.

    >>> einsum_dense("abc,cde->abde").pattern
    'c d e -> (d e) (c)'
    """
    (inputs, kernel), output = equation.partition("->")[0].split(","), equation.partition("->")[2]
    outputs = [axis for axis in kernel if axis in output]
    summed = [axis for axis in kernel if axis not in output]
    if not outputs or not summed or set(outputs) & set(inputs):
        return None
    return Storage(f"{' '.join(kernel)} -> ({' '.join(outputs)}) ({' '.join(summed)})")
