"""Rows of whatever data users have: arrays, lists, tables, sparse matrices, columns of data sets.

No library is imported here: what is of pandas, polars, pyarrow, scipy, h5py, `datasets` or a
framework is known by its attributes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.config import floatx


class SparseRows:
    """Rows that are mostly zeros, made dense a batch at a time.

    Args:
        indices: (elements, rank) ints.
        values: (elements,) numbers; those of one place are added.
        shape: of the whole.

    >>> rows = SparseRows(np.array([[1, 0], [0, 2]]), np.array([5.0, 6.0]), (2, 3))
    >>> rows.take(slice(0, 2)).tolist()
    [[0.0, 0.0, 6.0], [5.0, 0.0, 0.0]]
    """

    def __init__(self, indices: np.ndarray, values: np.ndarray, shape: tuple[int, ...]):
        order = np.argsort(indices[:, 0], kind="stable")
        self._places, self._values = indices[order, 1:], values[order]
        self.shape = tuple(int(n) for n in shape)
        self._starts = np.searchsorted(indices[order, 0], np.arange(self.shape[0] + 1))

    def __len__(self) -> int:
        return self.shape[0]

    def part(self, rows: slice) -> "SparseRows":
        """Return some rows, as sparse as they are.

        Args:
            rows: which.
        """
        begin, end, _ = rows.indices(len(self))
        elements = slice(self._starts[begin], self._starts[end])
        counts = np.diff(self._starts[begin : end + 1])
        numbers = np.repeat(np.arange(end - begin), counts)[:, None]
        places = np.concatenate([numbers, self._places[elements]], 1)
        return SparseRows(places, self._values[elements], (end - begin, *self.shape[1:]))

    def take(self, index: Any) -> np.ndarray:
        """Return some rows as a dense array.

        Args:
            index: a slice, or an array of ints.
        """
        rows = np.arange(len(self))[index]
        counts = self._starts[rows + 1] - self._starts[rows]
        ends = np.cumsum(counts)
        # Of each element: how far it is in its row, and where that begins.
        steps = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
        elements = np.repeat(self._starts[rows], counts) + steps
        dense = np.zeros((len(rows), *self.shape[1:]), self._values.dtype)
        target = (np.repeat(np.arange(len(rows)), counts), *self._places[elements].T)
        np.add.at(dense, target, self._values[elements])
        return dense


class ColumnRows:
    """A column of a data set of Hugging Face's `datasets`, read a batch at a time.

    Args:
        column: the column, of whatever format.
        rows: the numbers of the rows that count; all by default.
    """

    def __init__(self, column: Any, rows: range | None = None):
        self._column, self._rows = column, range(len(column)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, rows: slice) -> "ColumnRows":
        """Return some rows, which are not read.

        Args:
            rows: which.
        """
        return ColumnRows(self._column, self._rows[rows])

    def take(self, index: Any) -> Any:
        """Return some rows.

        Args:
            index: a slice, or an array of ints.
        """
        if isinstance(index, slice):
            rows = self._rows[index]
            return as_leaf(self._column[rows.start : rows.stop])
        return as_leaf(self._column[(self._rows.start + index).tolist()])


def is_hugging_face(x: Any) -> bool:
    """Return whether a value is a data set, or a column, of `datasets` with numbered rows."""
    return (
        type(x).__module__.partition(".")[0] == "datasets"
        and hasattr(x, "__getitem__")
        and hasattr(x, "__len__")
        and not isinstance(x, dict)
    )


def as_table(x: Any) -> Any:
    """Return a lazy frame of polars as a frame, and anything else as it is.

    Args:
        x: the value.
    """
    is_lazy = type(x).__module__.partition(".")[0] == "polars" and hasattr(x, "collect")
    return x.collect() if is_lazy else x


def _columns(x: Any) -> dict[str, Any] | None:
    """The columns of a table of pandas, polars or pyarrow by name; None for anything else."""
    if hasattr(x, "column_names") and hasattr(x, "num_rows") and not is_hugging_face(x):
        return dict(zip(x.column_names, x.columns, strict=True))  # of pyarrow
    if hasattr(x, "to_numpy") and hasattr(x, "columns") and len(x.shape) == 2:
        return {name: x[name] for name in x.columns}
    return None


def named_columns(x: Any, names: list[str]) -> Any:
    """Return a table as a dict of the columns that a model's inputs are named after.

    Args:
        x: the inputs; what is no table, or lacks one of the columns, is returned as it is.
        names: the names of the inputs.
    """
    x = as_table(x)
    columns = _columns(x) if names else None
    if columns is None or not set(names) <= set(columns):
        return x
    return {name: columns[name] for name in names}


def as_leaf(x: Any) -> Any:
    """One array-like: a list of strings stays, tables become numpy, tensors stay tensors.

    Tensors of strings become arrays of str, which every backend's preprocessing reads.

    Args:
        x: the value.

    Raises:
        ValueError: a table has values that are neither numbers nor texts.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind not in "OSU":
        return x.astype(floatx()) if x.dtype == np.float64 else x
    if x is None or isinstance(x, SparseRows | ColumnRows):
        return x
    if is_hugging_face(x):
        return ColumnRows(x)
    x = as_table(x)
    if hasattr(x, "num_rows") and (columns := _columns(x)) is not None:  # a table of pyarrow
        return np.stack([as_leaf(column) for column in columns.values()], -1)
    if backends.is_text(x):
        is_literal = isinstance(x, list | tuple | str | bytes | np.ndarray)
        return x if is_literal else backends.to_numpy(x)
    if hasattr(x, "tocoo"):  # of scipy
        coo = x.tocoo()
        return SparseRows(np.stack([coo.row, coo.col], 1), coo.data, coo.shape)
    if hasattr(x, "to_numpy") and not isinstance(x, np.ndarray):  # a column or table
        return _of_table(x)
    if isinstance(x, list | tuple) or not hasattr(x, "shape"):
        return np.asarray(x)
    name = backends.of(x)
    if name is not None and backends.load(name).is_sparse(x):
        indices, values = map(backends.to_numpy, backends.load(name).coo_parts(x))
        return SparseRows(indices, values, tuple(x.shape))
    return x


def as_batch(x: Any) -> Any:
    """Return an array-like of a batch, sparse ones made dense.

    Args:
        x: the value.
    """
    leaf = as_leaf(x)
    return leaf.take(slice(None)) if isinstance(leaf, SparseRows | ColumnRows) else leaf


def _of_table(x: Any) -> np.ndarray:
    array = x.to_numpy()
    if array.dtype != object or backends.is_text(array):
        return array
    array = np.asarray(array.tolist())  # of pandas's own dtypes, or of several
    if array.dtype == object:
        raise ValueError(
            f"A {type(x).__name__} must hold numbers or texts, got {array.flat[0]!r:.40} and other "
            "values: fill what is missing first."
        )
    return array


def as_leaves(x: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return a structure of array-likes as (leaves, function that puts leaves back).

    Args:
        x: the structure; a data set of `datasets` is a dict of its columns.
    """
    if is_hugging_face(x) and hasattr(x, "column_names"):
        x = {name: x[name] for name in x.column_names}
    if isinstance(x, dict):
        keys, values = list(x), list(x.values())
    elif isinstance(x, tuple) or (isinstance(x, list) and x and _holds_parts(x[0])):
        keys, values = None, list(x)
    else:
        return [as_leaf(x)], lambda parts: parts[0]
    inner = [as_leaves(v) for v in values]
    ends = np.cumsum([0, *(len(leaves) for leaves, _ in inner)])

    def restore(parts: list[Any]) -> Any:
        values = [f(parts[a:b]) for (_, f), a, b in zip(inner, ends, ends[1:])]
        if keys is not None:
            return dict(zip(keys, values, strict=True))
        return type(x)(*values) if hasattr(x, "_fields") else type(x)(values)

    return [v for leaves, _ in inner for v in leaves], restore


def _holds_parts(first: Any) -> bool:
    """Return whether the first element of a list is an input of its own, and no row."""
    return isinstance(first, dict) or len(getattr(first, "shape", ())) > 0


def take(x: Any, index: Any) -> Any:
    """Return some rows of a leaf.

    Args:
        x: what `as_leaf` gave.
        index: a slice, or an array of ints.
    """
    if x is None:
        return None
    if isinstance(x, SparseRows | ColumnRows):
        return x.take(index)
    if isinstance(x, list | tuple):
        rows = range(*index.indices(len(x))) if isinstance(index, slice) else index
        return [x[i] for i in rows]
    if isinstance(index, np.ndarray) and not isinstance(x, np.ndarray):
        name = backends.of(x)
        if name is not None:
            return backends.load(name).take_rows(x, index)
        rows, places = np.unique(index, return_inverse=True)  # a file of h5py is read in order
        return x[rows][places]
    return x[index]


def part(x: Any, rows: slice) -> Any:
    """Return some rows of a leaf, in the form that it has.

    Args:
        x: what `as_leaf` gave.
        rows: which, one after the other.
    """
    return x.part(rows) if isinstance(x, SparseRows | ColumnRows) else take(x, rows)
