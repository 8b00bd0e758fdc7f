"""Numbers of categories as one-hot vectors, sets and counts."""

from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import ops
from keraslite.layers.preprocessing.host import on_host
from keraslite.typing import Shape, Tensor

OUTPUT_MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


def check_output_mode(mode: str, allowed: tuple[str, ...], sparse: bool) -> str:
    """Return an output mode under its present name.

    Args:
        mode: the mode, or the name that it once had.
        allowed: the modes of the layer.
        sparse: whether the layer shall give sparse tensors.

    Raises:
        ValueError: the layer has no such mode, or no sparse form of it.
    """
    mode = {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(mode, mode)
    if mode not in allowed:
        raise ValueError(f"`output_mode` must be one of {', '.join(allowed)}, got {mode!r}.")
    if sparse and mode == "int":
        others = ", ".join(x for x in allowed if x != "int")
        raise ValueError(f"`sparse` may be true if `output_mode` is one of {others}, not 'int'.")
    return mode


def encoded_shape(shape: Shape, mode: str, depth: int | None) -> tuple:
    """Return the shape of `encode`'s result.

    Args:
        shape: of the numbers.
        mode: the output mode.
        depth: the number of categories.
    """
    shape = tuple(shape)
    if mode == "int":
        return shape
    if mode == "one_hot":
        return (*(shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape), depth)
    return (*shape[:1], *shape[2:], depth) if len(shape) > 1 else (depth,)


def encode(
    numbers: Tensor, mode: str, depth: int | None, dtype: Any, sparse: bool = False,
    weights: Any = None,
) -> Any:  # fmt: skip
    """Encode numbers of categories; those out of range count nowhere.

    Args:
        numbers: ints. The second axis is that of a sample, the first where there is only one.
        mode: "int" leaves them as they are; "one_hot" gives each a vector; "multi_hot" and
            "count" give a sample one.
        depth: the number of categories.
        dtype: of the result.
        sparse: whether it is a sparse tensor of the backend.
        weights: of the shape of the numbers: what each adds to a count.
    """
    dtype = backends.load(backends.backend()).canonical(dtype)
    if mode == "int":
        return ops.cast(numbers, dtype)
    rank = len(numbers.shape)
    if mode == "one_hot":
        numbers = ops.squeeze(numbers, -1) if rank > 1 and numbers.shape[-1] == 1 else numbers
        return ops.one_hot(ops.cast(numbers, "int32"), depth, dtype=dtype, sparse=sparse)
    if sparse:
        return _sparse_counts(numbers, mode, depth, dtype)
    numbers = ops.cast(numbers, "int32")
    if weights is None:
        weights = ops.ones_like(numbers, dtype=dtype)
    numbers, weights = (_samples_last(x) for x in (numbers, weights))
    valid = ops.logical_and(numbers >= 0, numbers < depth)
    outer = ops.shape(numbers)[:-1]
    rows = 1
    for size in outer:
        rows = rows * size
    place = ops.reshape(numbers, (rows, -1)) + ops.expand_dims(ops.arange(rows), 1) * depth
    place = ops.where(ops.reshape(valid, (rows, -1)), place, 0)
    weights = ops.where(valid, weights, ops.zeros_like(weights))
    counts = ops.segment_sum(
        ops.reshape(weights, (-1,)), ops.reshape(place, (-1,)), num_segments=rows * depth
    )
    counts = ops.reshape(counts, (*outer, depth))
    return ops.minimum(counts, ops.ones_like(counts)) if mode == "multi_hot" else counts


def _samples_last(x: Tensor) -> Tensor:
    rank = len(x.shape)
    if rank == 0:
        return ops.expand_dims(x, 0)
    return x if rank < 3 else ops.moveaxis(x, 1, -1)


def _sparse_counts(numbers: Tensor, mode: str, depth: int | None, dtype: str) -> Any:
    def coordinates(numbers: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers = np.atleast_1d(backends.to_numpy(numbers))
        numbers = np.moveaxis(numbers, 1, -1) if numbers.ndim > 2 else numbers
        outer = numbers.shape[:-1]
        rows = np.indices(outer).reshape(len(outer), -1)
        samples, numbers = numbers.reshape(-1, numbers.shape[-1]), None
        valid = (samples >= 0) & (samples < depth)
        row = np.nonzero(valid)[0]
        place, counts = np.unique(row * depth + samples[valid], return_counts=True)
        places = np.stack([*rows[:, place // depth], place % depth], axis=1)
        values = np.ones_like(counts) if mode == "multi_hot" else counts
        return places.astype("int64"), values.astype(dtype), np.int64([*outer, depth])

    rank = max(len(numbers.shape), 1)
    examples = (np.zeros(0, "int64"), np.zeros(0, dtype), np.zeros(0, "int64"))
    indices, values, shape = on_host(
        coordinates, numbers, examples, ((None, rank), (None,), (rank,))
    )
    if not backends.in_graph(numbers):
        shape = tuple(backends.to_numpy(shape).tolist())
    return backends.current().from_coo(indices, values, shape)
