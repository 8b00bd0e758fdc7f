"""`split_dataset`: rows of any data set in two parts."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keraslite import tree


class Rows:
    """Chosen rows of arrays or of a data set, each read when it is asked for.

    Args:
        rows: what `rows[i]` gives a row of.
        indices: the numbers of the rows.

    >>> part = Rows([10, 20, 30], [2, 0])
    >>> part[0], len(part), [x.tolist() for x in part.batch(2)]
    (30, 2, [[30, 10]])
    """

    def __init__(self, rows: Any, indices: Sequence[int]):
        self._rows, self._indices = rows, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._rows[self._indices[index]]

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(len(self)))

    def cardinality(self) -> int:
        """Return the number of rows."""
        return len(self)

    def batch(self, batch_size: int) -> "Batches":
        """Return the rows in batches, which `fit` reads.

        Args:
            batch_size: rows in a batch.
        """
        return Batches(self, batch_size)


class Batches:
    """Rows in batches.

    Args:
        rows: the rows.
        batch_size: how many a batch.

    >>> len(Batches(Rows(np.arange(5), range(5)), 2))
    3
    """

    def __init__(self, rows: Rows, batch_size: int):
        self._rows, self._size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._size)

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches, got {index}.")
        start = index * self._size
        rows = [self._rows[i] for i in range(start, min(start + self._size, len(self._rows)))]
        return tree.map_structure(lambda *values: np.stack(values), *rows)


class _Zipped:
    """The rows of several arrays, as tuples."""

    def __init__(self, arrays: Sequence):
        if len({len(x) for x in arrays}) != 1:
            raise ValueError(
                f"All arrays must have the same number of rows, got {[len(x) for x in arrays]}."
            )
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> tuple:
        return tuple(x[index] for x in self._arrays)


def split_dataset(
    dataset: Any,
    left_size: float | None = None,
    right_size: float | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
) -> tuple[Rows, Rows]:
    """Split the rows of a data set in two parts.

    Args:
        dataset: an array, a list or tuple of arrays, a data set with `len` and `[i]` such as
            torch's, or an iterable of rows such as a tf.data.Dataset, which is read once.
        left_size: of the first part: a fraction of the rows, or their number.
        right_size: of the second part; either is the rest where it is left out.
        shuffle: whether the rows are shuffled first.
        seed: of the shuffle.
        preferred_backend: kept for Keras code; rows are not converted.

    Returns:
        The two parts: `len(part)`, `part[i]`, iteration, and `part.batch(n)` for `fit`.

    Raises:
        ValueError: a size is missing, out of range, or both are more than all rows.

    >>> left, right = split_dataset(np.arange(10), left_size=0.8)
    >>> len(left), len(right), int(right[0])
    (8, 2, 8)
    """
    if isinstance(dataset, list | tuple):
        if not dataset:
            raise ValueError("dataset must have at least one array, got none.")
        rows: Any = _Zipped(dataset)
    elif hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        rows = dataset
    elif hasattr(dataset, "__iter__"):
        rows = list(dataset.unbatch() if hasattr(dataset, "_batch_size") else dataset)
    else:
        raise TypeError(f"dataset must be arrays or a data set, got {type(dataset).__name__}.")
    count = len(rows)
    left, right = _sizes(count, left_size, right_size)
    order = list(range(count))
    if shuffle:
        random.Random(seed).shuffle(order)
    return Rows(rows, order[:left]), Rows(rows, order[count - right :])


def _sizes(count: int, left: float | None, right: float | None) -> tuple[int, int]:
    """Return the number of rows of either part."""
    if left is None and right is None:
        raise ValueError("left_size or right_size must be set.")
    numbers = []
    for name, size in (("left_size", left), ("right_size", right)):
        if size is not None and type(size) not in (int, float):
            raise TypeError(f"{name} must be an int or a float, got {size!r}.")
        if size is not None and not 0 < size < (1 if isinstance(size, float) else count):
            raise ValueError(
                f"{name} must be a fraction between 0 and 1, or a number of rows below {count}, "
                f"got {size!r}."
            )
        numbers.append(round(size * count) if isinstance(size, float) else size)
    first, second = numbers
    first = count - second if first is None else first
    second = count - first if second is None else second
    if first + second > count:
        raise ValueError(
            f"left_size and right_size must not be more than {count} rows together, got "
            f"{first} and {second}."
        )
    if not first or not second:
        raise ValueError(f"Both parts must have rows, got {first} and {second} of {count}.")
    return first, second
