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
        if not size or not _sliced(data) or getattr(data, "shape", None) == ():
            yield data, True
            return
        for start in range(0, len(data), size):
            yield data[start : start + size], True
        return
    for item in islice(batches_of(data, "an array or batches of arrays"), steps):
        yield _inputs_of(item), False


def batches_of(data: Any, expected: str) -> Iterator:
    """Return an iterator over the batches of a list, a `PyDataset` or anything that is iterable.

    Args:
        data: the batches.
        expected: what the data must be, for the error.

    Raises:
        TypeError: the data are not iterable.

    >>> list(batches_of([[1], [2]], "batches"))
    [[1], [2]]
    """
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):  # a PyDataset has no other way
        return map(data.__getitem__, range(len(data)))
    if not hasattr(data, "__iter__"):
        raise TypeError(f"Data must be {expected}, got {type(data).__name__}.")
    return iter(data)


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
