"""The data that `adapt` takes: an array, or batches of any kind."""

from collections.abc import Iterator
from itertools import islice
from typing import Any


def adapt_batches(data: Any, steps: int | None = None, size: int | None = None) -> Iterator:
    """Yield (batch, whether its first axis is that of samples for certain).

    Args:
        data: an array, a tensor, a list of values, a column of pandas; or batches of these: a list
            of arrays, a `tf.data.Dataset`, a `PyDataset`, a `DataLoader`, a generator. Of batches
            such as (x, y) x counts.
        steps: the largest number of batches.
        size: the rows of an array that are given at once; all by default.

    Raises:
        TypeError: the data are neither.
    """
    if hasattr(data, "to_numpy"):  # of pandas
        data = data.to_numpy()
    if _is_array(data):
        if hasattr(data, "shape") and len(data.shape) == 0 or not size or not _sliced(data):
            yield data, True
            return
        for start in range(0, len(data), size):
            yield data[start : start + size], True
        return
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):  # a PyDataset, or a list
        data = map(data.__getitem__, range(len(data)))
    if not hasattr(data, "__iter__"):
        raise TypeError(f"Data must be an array or batches of arrays, got {type(data).__name__}.")
    for item in islice(data, steps):
        yield _inputs_of(item), False


def _is_array(data: Any) -> bool:
    if isinstance(data, str | bytes) or (hasattr(data, "shape") and hasattr(data, "dtype")):
        return True
    return isinstance(data, list | tuple) and not (len(data) and hasattr(data[0], "shape"))


def _sliced(data: Any) -> bool:
    return not isinstance(data, str | bytes) and not hasattr(data, "flat_values")


def _inputs_of(item: Any) -> Any:
    """Return the x of a batch, which is the batch or the first part of it."""
    if not isinstance(item, list | tuple) or not item:
        return item
    plain = isinstance(item[0], str | bytes | int | float)
    if plain or (isinstance(item, list) and all(isinstance(part, list) for part in item)):
        return item  # values, or rows of them
    return item[0]
