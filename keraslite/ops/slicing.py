"""Parts of tensors, read and written."""

from typing import Any

from keraslite import backend as backends
from keraslite import tree
from keraslite.ops.op import Spec, op, primitive_only
from keraslite.ops.shapes import moveaxis, reshape
from keraslite.typing import Shape, Tensor


@op("same")
def get_item(x: Tensor, key: Any) -> Tensor:
    """Index as `x[key]` does.

    >>> float(get_item([1.0, 2.0], 1))
    2.0
    """
    return primitive_only("get_item")


@op("same", tensors=2, raw=(1,))
def slice(inputs: Tensor, start_indices: Tensor, shape: Shape) -> Tensor:
    """Return the part of a tensor that begins at `start_indices` and has the shape `shape`.

    A size of -1 takes all that is behind the start; the start must then not be a tensor where
    results of unknown shapes are impossible.

    >>> convert_to_numpy(slice([[1, 2], [3, 4]], [1, 0], [1, 2])).tolist()
    [[3, 4]]
    """
    return primitive_only("slice")


@op("same", tensors=3, raw=(1,))
def slice_update(inputs: Tensor, start_indices: Tensor, updates: Tensor) -> Tensor:
    """Copy a tensor and replace the part that begins at `start_indices` by `updates`.

    >>> convert_to_numpy(slice_update([1, 2, 3], [1], [9])).tolist()
    [1, 9, 3]
    """
    return primitive_only("slice_update")


@op("same", tensors=3, raw=(1,))
def overwrite(inputs: Tensor, start_indices: Tensor, updates: Tensor) -> Tensor:
    """Do what `slice_update` does, in place where the backend can write into `inputs`.

    For tensors that are not used again, such as the cache of a language model. Gradients do not
    flow through the memory that is written.

    >>> convert_to_numpy(overwrite(np.array([1, 2, 3]), [1], np.array([9]))).tolist()
    [1, 9, 3]
    """
    return primitive_only("overwrite")


@op("same", tensors=2)
def scatter(indices: Tensor, values: Tensor, shape: Shape) -> Tensor:
    """Add `values` at `indices` to zeros of shape `shape`.

    Args:
        indices: of shape (..., k): positions in the first k axes.
        values: of shape (..., *shape[k:]).
        shape: the shape of the result.

    >>> convert_to_numpy(scatter([[0], [2], [2]], [1.0, 2.0, 3.0], (4,))).tolist()
    [1.0, 0.0, 5.0, 0.0]
    """
    depth = indices.shape[-1]
    module = backends.module_of(values)
    zeros = module.zeros(tuple(shape), module.dtype_of(values))
    values = reshape(values, (-1, *shape[depth:]))
    return scatter_update(zeros, reshape(indices, (-1, depth)), values, "add")


@op("same", tensors=3)
def scatter_update(
    inputs: Tensor, indices: Tensor, updates: Tensor, reduction: str | None = None
) -> Tensor:
    """Copy a tensor and write `updates` at `indices`.

    Args:
        inputs: the tensor.
        indices: of shape (n, k): positions in the first k axes.
        updates: of shape (n, *inputs.shape[k:]).
        reduction: None replaces; "add", "mul", "max" and "min" combine with the old values.

    >>> convert_to_numpy(scatter_update([1.0, 2.0, 3.0], [[0], [2]], [8.0, 9.0])).tolist()
    [8.0, 2.0, 9.0]
    """
    return primitive_only("scatter_update")


@op("same")
def unstack(x: Tensor, num: int | None = None, axis: int = 0) -> list:
    """Split into the slices along an axis.

    >>> [convert_to_numpy(row).tolist() for row in unstack([[1, 2], [3, 4]])]
    [[1, 2], [3, 4]]
    """
    x = moveaxis(x, axis, 0)
    if num not in (None, x.shape[0]):
        raise ValueError(f"num must be the size of axis {axis}, {x.shape[0]}, got {num}")
    return [x[i] for i in range(x.shape[0])]


def _get_item_spec(x: Any, key: Any) -> Any:
    """The spec of the elements under a mask, whose number depends on its values."""
    if backends.of(key) != "symbolic" or key.dtype != "bool":
        return None
    return Spec((None, *x.shape[len(key.shape) :]), x.dtype)


get_item.op.spec = _get_item_spec


def _slice_spec(inputs: Any, start_indices: Any, shape: Any) -> Any:
    starts = tree.flatten(start_indices)
    if -1 not in shape or not any(backends.of(x) is not None for x in starts):
        return None
    return Spec(tuple(None if n == -1 else n for n in shape), inputs.dtype)


slice.op.spec = _slice_spec


__all__ = [
    "get_item", "overwrite", "scatter", "scatter_update", "slice", "slice_update", "unstack",
]  # fmt: skip
