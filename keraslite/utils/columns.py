"""Columns of tables: of dicts, DataFrames, and batches of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite.layers.preprocessing.adapting import batches_of

ROWS = 32  # in which Keras reads single rows: the bins of Discretization depend on that


def columns_of(data: Any) -> Mapping[str, Any] | None:
    """Return the columns of a dict or of a DataFrame; None for anything else.

    >>> columns_of({"age": [3, 4]}), columns_of([3, 4])
    ({'age': [3, 4]}, None)
    """
    if isinstance(data, Mapping):
        return data
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        return {name: data[name] for name in data.columns}
    return None


def column_batches(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the batches of a table, as dicts of columns.

    Args:
        dataset: a dict of columns or a DataFrame, which is one batch; or dicts of batches: a
            `tf.data.Dataset`, whose single rows are put together, a `DataLoader`, a generator. Of
            batches such as (x, y) x counts.

    Raises:
        TypeError: it is neither.

    >>> list(column_batches([{"age": [3]}, ({"age": [4]}, 1)]))
    [{'age': [3]}, {'age': [4]}]
    """
    columns = columns_of(dataset)
    if columns is not None:
        yield columns
        return
    spec = getattr(dataset, "element_spec", None)  # of a data set of TensorFlow
    spec = spec[0] if isinstance(spec, tuple) else spec
    if isinstance(spec, dict) and any(x.shape.rank == 0 for x in spec.values()):  # of single rows
        dataset = dataset.batch(ROWS)
    for item in batches_of(dataset, "columns or batches of them"):
        columns = columns_of(item[0] if isinstance(item, tuple | list) else item)
        if columns is None:
            raise TypeError(f"Batches must be dicts of columns, got {type(item).__name__}.")
        yield columns


def rank_of(x: Any) -> int:
    """Return the number of axes of an array, a tensor, a list or a number."""
    return len(x.shape) if hasattr(x, "shape") else np.ndim(x)


def column_of(columns: Mapping[str, Any], name: str) -> Any:
    """Return a column with an axis of rows, and one of a single value in each.

    Args:
        columns: arrays, tensors, lists, columns of pandas or single values, by name.
        name: which.

    Raises:
        ValueError: there is no such column.

    >>> column_of({"age": [3, 4]}, "age").shape
    (2, 1)
    """
    if name not in columns:
        raise ValueError(f"The data must have a column {name!r}, got {list(columns)}.")
    x = columns[name]
    if hasattr(x, "to_numpy"):  # of pandas
        x = x.to_numpy()
    if isinstance(x, np.generic) or not hasattr(x, "shape"):
        x = np.asarray(x, object if backends.is_text(x) else None)
    rank = len(x.shape)
    return x[None, None] if rank == 0 else x[:, None] if rank == 1 else x


def on_host(x: Any) -> np.ndarray:
    """Return an array or a tensor as an array."""
    return x if isinstance(x, np.ndarray) else backends.to_numpy(x)
