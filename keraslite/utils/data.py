"""Data sets of batches, batches as tuples, and sequences of one length."""

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from keraslite.backend.counter import MASK, hashed, keys
from keraslite.backend.workers import process_context

if TYPE_CHECKING:
    from concurrent.futures import Executor


def permutation(count: int, seed: int, counter: int) -> np.ndarray:
    """Return an order of `count` rows that depends on (seed, counter) alone."""
    with np.errstate(over="ignore"):
        key = keys(np.uint32(seed & MASK), np.uint32(counter & MASK))
        return np.argsort(hashed(np.arange(count, dtype=np.uint32), *key), kind="stable")


def map_ahead(
    function: Callable, items: Iterable, workers: int, ahead: int, pool: "Executor | None" = None
) -> Generator[Any, None, None]:
    """Yield the results of a function in order, which workers make ahead.

    Args:
        function: of one item.
        items: the items; they may have no end.
        workers: the number of threads.
        ahead: how many results are made ahead at most.
        pool: workers of another kind; it is shut down at the end.

    >>> list(map_ahead(abs, [-1, 2, -3], workers=2, ahead=2))
    [1, 2, 3]
    """
    items = iter(items)
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor  # a twentieth of the package's import

        pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(function, x) for x in islice(items, max(ahead, 1)))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, x) for x in islice(items, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def read_batches(
    read: Callable, rows: Sequence, size: int, workers: int, pool: "Executor | None" = None
) -> Iterator[tuple[Sequence, list]]:
    """Yield batches of rows and of what a function reads for them, made ahead by workers.

    Two batches are ahead at most: memory does not grow with the number of rows.

    Args:
        read: a function of a row.
        rows: the rows, in order.
        size: rows in a batch.
        workers: the number of threads.
        pool: workers of another kind; it is shut down at the end.

    >>> [results for _, results in read_batches(abs, [-1, 2, -3], 2, workers=2)]
    [[1, 2], [3]]
    """
    results = map_ahead(read, rows, workers, 2 * size + workers, pool)
    try:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            yield batch, list(islice(results, len(batch)))
    finally:
        results.close()


class PyDataset:
    """Batches by their numbers: the base of data sets that users write for `fit`.

    Subclasses write `__getitem__(index)`, which returns a batch, and `__len__` or `num_batches`.

    Args:
        workers: how many threads, or processes, make batches at the same time.
        use_multiprocessing: whether they are processes, for work in Python that threads would do
            one after the other. Where a process does not begin as a copy of this one (on macOS and
            Windows, and where JAX is loaded), the data set must be one that can be pickled, and
            a script must begin its work under `if __name__ == "__main__":`.
        max_queue_size: how many batches they are ahead at most.

    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         return index**2
    >>> list(Squares(workers=2))
    [0, 1, 4]
    """

    workers, use_multiprocessing, max_queue_size = 1, False, 10

    def __init__(
        self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10
    ):
        self.workers, self.use_multiprocessing = workers, use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """Return a batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement __getitem__(index).")

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None where they have no end."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(f"{type(self).__name__} must implement num_batches or __len__.")

    def __iter__(self) -> Iterator[Any]:
        end = self.num_batches
        indices = iter(count() if end is None else range(end))
        if self.use_multiprocessing and self.workers > 0:
            pool = _processes(self, self.workers)
            yield from map_ahead(_item, indices, self.workers, self.max_queue_size, pool)
        elif self.workers <= 1:
            yield from map(self.__getitem__, indices)
        else:
            yield from map_ahead(self.__getitem__, indices, self.workers, self.max_queue_size)

    def on_epoch_begin(self) -> None:
        """Do what is to be done before an epoch; nothing by default."""

    def on_epoch_end(self) -> None:
        """Do what is to be done after an epoch, such as another order; nothing by default."""


_data_set: PyDataset | None = None  # of a worker process


def _processes(data_set: PyDataset, workers: int) -> "Executor":
    """Return worker processes that hold a data set, as it is now."""
    from concurrent.futures import ProcessPoolExecutor  # a tenth of the package's import

    context = process_context()
    if context.get_start_method() != "fork":
        try:
            pickle.dumps(data_set)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"With use_multiprocessing=True a {type(data_set).__name__} is pickled for its "
                f"workers, which failed: {error}. Define its class in a module, or set "
                "use_multiprocessing=False."
            ) from error
    return ProcessPoolExecutor(workers, context, _hold, (data_set,))


def _hold(data_set: PyDataset) -> None:
    global _data_set
    _data_set = data_set
    np.random.seed()  # copies of one process would draw the same numbers


def _item(index: int) -> Any:
    return None if _data_set is None else _data_set[index]


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """Return (x, y, sample_weight) of a batch; missing parts are None.

    Args:
        data: x, (x,), (x, y) or (x, y, sample_weight). A list of strings is x, as PyTorch's
            DataLoader makes of texts and of paths.

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list) and not (data and all(isinstance(value, str) for value in data)):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(
            f"Data must be (x,), (x, y) or (x, y, sample_weight), got {len(data)} parts."
        )
    return (*data, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """Return a batch of x, y and sample weights: the inverse of `unpack_x_y_sample_weight`.

    Args:
        x: the inputs.
        y: the targets.
        sample_weight: the weights of the rows.

    >>> pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if y is None:
        return x if not isinstance(x, tuple | list) else (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def pad_sequences(
    sequences: Sequence[Any], maxlen: int | None = None, dtype: Any = "int32",
    padding: str = "pre", truncating: str = "pre", value: Any = 0.0,
) -> np.ndarray:  # fmt: skip
    """Return sequences of several lengths as the rows of one array.

    Args:
        sequences: lists or arrays; of arrays with more axes the first is that of the steps.
        maxlen: the length of the rows; that of the longest sequence by default.
        dtype: of the array; `object` for strings of several lengths.
        padding: "pre" or "post": at which end shorter ones are filled.
        truncating: "pre" or "post": at which end longer ones are cut.
        value: what they are filled with.

    Raises:
        ValueError: an argument or a sequence is of another form.

    >>> pad_sequences([[1], [2, 3, 4]], maxlen=2)
    array([[0, 1],
           [3, 4]], dtype=int32)
    """
    if not hasattr(sequences, "__len__"):
        raise ValueError("`sequences` must be iterable.")
    for name, at in (("Padding", padding), ("Truncating", truncating)):
        if at not in ("pre", "post"):
            raise ValueError(f'{name} type "{at}" not understood: it must be "pre" or "post".')
    for x in sequences:
        if not hasattr(x, "__len__"):
            raise ValueError(f"`sequences` must be a list of iterables. Found non-iterable: {x}")
    text = np.issubdtype(dtype, np.str_) or np.issubdtype(dtype, np.bytes_)
    if isinstance(value, str) and dtype is not object and not text:
        raise ValueError(
            f"`dtype` {dtype} is not compatible with `value`'s type: {type(value)}. You should "
            "set `dtype=object` for variable length strings."
        )
    length = max(map(len, sequences), default=0) if maxlen is None else maxlen
    first = next((x for x in sequences if len(x)), [])
    rows = np.full((len(sequences), length, *np.shape(first)[1:]), value, dtype=dtype)
    for i, x in enumerate(sequences):
        if not len(x) or not length:
            continue
        part = np.asarray(x[-length:] if truncating == "pre" else x[:length], dtype=dtype)
        if part.shape[1:] != rows.shape[2:]:
            raise ValueError(
                f"Shape of sample {part.shape[1:]} of sequence at position {i} is different from "
                f"expected shape {rows.shape[2:]}"
            )
        if padding == "post":
            rows[i, : len(part)] = part
        else:
            rows[i, length - len(part) :] = part
    return rows
