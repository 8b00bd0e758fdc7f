"""Elements by their indices, and their order."""

from keraslite.ops.common import indices_spec
from keraslite.ops.op import op, primitive_only
from keraslite.typing import Axis, Tensor


@op("same")
def nonzero(x: Tensor) -> tuple[Tensor, ...]:
    """The indices of the elements that are not zero, an array for each axis.

    >>> [convert_to_numpy(i).tolist() for i in nonzero([0, 3, 4])]
    [[1, 2]]
    """
    return primitive_only("nonzero")


@op("same", tensors=2)
def take(x: Tensor, indices: Tensor, axis: Axis = None) -> Tensor:
    """Elements by index, from the flat tensor or along an axis; negative ones count from the end.

    An index out of range is an error. In compiled code, and with torch on a GPU, it cannot be one:
    there JAX and torch give NaN (or the smallest integer), and TensorFlow on a GPU zeros.

    >>> convert_to_numpy(take([1, 2, 3], [0, 2])).tolist()
    [1, 3]
    """
    return primitive_only("take")


@op("same", tensors=2)
def take_along_axis(x: Tensor, indices: Tensor, axis: Axis = None) -> Tensor:
    """Elements by an index each, along an axis; indices are those of `take`.

    >>> convert_to_numpy(take_along_axis([[1, 2], [3, 4]], [[1], [0]], axis=1)).tolist()
    [[2], [3]]
    """
    return primitive_only("take_along_axis")


@op("same")
def sort(x: Tensor, axis: Axis = -1) -> Tensor:
    """Sort along an axis, or flat.

    >>> convert_to_numpy(sort([3, 1, 2])).tolist()
    [1, 2, 3]
    """
    return primitive_only("sort")


@op("same")
def argsort(x: Tensor, axis: Axis = -1) -> Tensor:
    """The indices that sort along an axis, or flat; equal elements keep their order.

    >>> convert_to_numpy(argsort([3, 1, 2])).tolist()
    [1, 2, 0]
    """
    return primitive_only("argsort")


@op("same")
def argpartition(x: Tensor, kth: int, axis: Axis = -1) -> Tensor:
    """Indices that bring the k smallest elements to the front.

    >>> convert_to_numpy(argpartition([3, 1, 2], 0)).tolist()
    [1, 2, 0]
    """
    return argsort(x, axis)


nonzero.op.spec = indices_spec


__all__ = [
    "argpartition", "argsort", "nonzero", "sort", "take", "take_along_axis",
]  # fmt: skip
