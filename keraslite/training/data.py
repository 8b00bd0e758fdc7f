"""Data for the trainer: anything iterable becomes epochs of (x, y, sample_weight) batches.

Arrays and lists are sliced here; shuffles come from the counter-based generator and are the same
on every backend. Host work that takes time (tokenising, a generator) runs ahead in a thread.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import tree
from keraslite.backend.counter import MASK, hashed, keys
from keraslite.random import make_default_seed


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of what a data source yields; what is missing is None.

    >>> unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(f"Data is (x,), (x, y) or (x, y, sample_weight), got {len(data)} parts.")
    return (*data, None, None)[:3]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The inverse of `unpack_x_y_sample_weight`.

    >>> pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if y is None:
        return x if not isinstance(x, tuple | list) else (x,)
    return (x, y) if sample_weight is None else (x, y, sample_weight)


def permutation(count: int, seed: int, counter: int) -> np.ndarray:
    """An order of `count` things that depends on (seed, counter) alone."""
    with np.errstate(over="ignore"):
        key = keys(np.uint32(seed & MASK), np.uint32(counter & MASK))
        return np.argsort(hashed(np.arange(count, dtype=np.uint32), *key), kind="stable")


def _is_text(x: Any) -> bool:
    """Whether a list holds strings, or rows of strings: such lists are single leaves."""
    while isinstance(x, list | tuple) and x:
        x = x[0]
    return isinstance(x, str | bytes)


def _leaf(x: Any) -> Any:
    """One array-like: a list of strings stays, tables become numpy, tensors stay tensors."""
    if x is None or _is_text(x):
        return x
    if hasattr(x, "to_numpy") and not isinstance(x, np.ndarray):  # a pandas column or table
        return x.to_numpy()
    if isinstance(x, list | tuple) or not hasattr(x, "shape"):
        return np.asarray(x)
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        from keraslite.config import floatx

        return x.astype(floatx())
    return x


def _leaves(x: Any) -> Any:
    """A structure of array-likes as (leaves, function that puts leaves back)."""
    if isinstance(x, dict):
        names = list(x)
        return [_leaf(x[n]) for n in names], lambda parts: dict(zip(names, parts, strict=True))
    if isinstance(x, tuple) or (isinstance(x, list) and x and hasattr(x[0], "shape")):
        kind = type(x)
        return [_leaf(v) for v in x], lambda parts: kind(parts)
    return [_leaf(x)], lambda parts: parts[0]


def _take(x: Any, index: Any) -> Any:
    if x is None:
        return None
    if isinstance(x, list | tuple):
        rows = range(*index.indices(len(x))) if isinstance(index, slice) else index
        return [x[i] for i in rows]
    if isinstance(index, np.ndarray) and not isinstance(x, np.ndarray):
        name = backends.of(x)
        if name == "tensorflow":
            from keraslite import ops

            return ops.take(x, index, axis=0)
    return x[index]


class ArrayData:
    """Arrays, lists of strings and nested structures of them, cut into batches.

    Args:
        x: inputs, nested.
        y: targets, nested, or None.
        sample_weight: weights, nested, or None.
        batch_size: rows in a batch.
        shuffle: whether each epoch has an order of its own.
        seed: of the orders; drawn where it is None.
    """

    host_work = False

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None,
        shuffle: bool = False, seed: int | None = None,
    ):  # fmt: skip
        parts, self._restore = [], []
        for part in (x, y, sample_weight):
            leaves, restore = _leaves(part)
            parts.append(leaves)
            self._restore.append(restore)
        self._leaves = parts
        sizes = {len(v) for leaves in parts for v in leaves if v is not None}
        if len(sizes) != 1:
            raise ValueError(
                f"All data must have the same number of rows, got {sorted(sizes) or 'no data'}."
            )
        self.rows = sizes.pop()
        if self.rows == 0:
            raise ValueError("The data is empty: there is no row to make a batch of.")
        self.batch_size = batch_size or 32
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}.")
        self.shuffle, self.seed = shuffle, make_default_seed() if seed is None else seed

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-self.rows // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple]:
        """The batches of an epoch."""
        order = permutation(self.rows, self.seed, number) if self.shuffle else None
        for start in range(0, self.rows, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self.rows))
            index = rows if order is None else order[rows]
            yield tuple(
                restore([_take(v, index) for v in leaves])
                for leaves, restore in zip(self._leaves, self._restore, strict=True)
            )

    def split(self, fraction: float) -> tuple["ArrayData", "ArrayData"]:
        """The first part and the last `fraction` of the rows."""
        at = int(self.rows * (1.0 - fraction))
        if not 0 < at < self.rows:
            raise ValueError(
                f"validation_split={fraction} of {self.rows} rows leaves one part empty."
            )
        halves = []
        for rows in (slice(0, at), slice(at, self.rows)):
            x, y, w = (
                restore([_take(v, rows) for v in leaves])
                for leaves, restore in zip(self._leaves, self._restore, strict=True)
            )
            halves.append(ArrayData(x, y, w, self.batch_size, seed=self.seed))
        return halves[0], halves[1]


class StreamData:
    """A generator, a data set or a data loader that yields ready batches.

    Args:
        source: an iterable, or a function that gives one for each epoch.
    """

    host_work = True

    def __init__(self, source: Any):
        self._source, self._live = source, None
        self.num_batches = None
        if hasattr(source, "__len__"):
            self.num_batches = len(source)

    def epoch(self, number: int) -> Iterator[tuple]:
        """The batches of an epoch; a generator goes on where it stood."""
        source = self._source
        if callable(source) and not hasattr(source, "__iter__"):
            source = source()
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):  # a PyDataset
            items: Iterable = (source[i] for i in range(len(source)))
            end = getattr(source, "on_epoch_end", None)
        else:
            items, end = source, None
        for item in items:
            yield tuple(
                tree.map_structure(_leaf, part) for part in unpack_x_y_sample_weight(item)
            )
        if end is not None:
            end()


def adapt(
    x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None,
    shuffle: bool = False, class_weight: dict[int, float] | None = None,
    transform: Callable | None = None, seed: int | None = None,
) -> Any:  # fmt: skip
    """The data source for what a user gave to fit, evaluate or predict."""
    if isinstance(x, ArrayData | StreamData | Mapped):
        return x
    stream = (
        not hasattr(x, "shape")
        and not isinstance(x, list | tuple | dict | str | bytes)
        and (hasattr(x, "__iter__") or hasattr(x, "__getitem__") or callable(x))
        and not hasattr(x, "to_numpy")
    )
    if stream:
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"{type(x).__name__} yields whole batches: give y and sample_weight inside them."
            )
        data: Any = StreamData(x)
    else:
        if isinstance(x, str | bytes):
            raise ValueError(f"Give a list of strings, not a single one: [{x[:40]!r}].")
        data = ArrayData(x, y, sample_weight, batch_size, shuffle, seed)
    steps = [f for f in (transform, class_weight and _weigher(class_weight)) if f]
    return Mapped(data, steps) if steps else data


class Mapped:
    """Data whose batches go through functions of (x, y, sample_weight)."""

    def __init__(self, data: Any, steps: list[Callable]):
        self.data, self.steps, self.host_work = data, steps, True

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch."""
        return self.data.num_batches

    def epoch(self, number: int) -> Iterator[tuple]:
        """The batches of an epoch."""
        for batch in self.data.epoch(number):
            for step in self.steps:
                batch = step(*batch)
            yield batch

    def split(self, fraction: float) -> tuple["Mapped", "Mapped"]:
        """The first part and the last `fraction` of the rows."""
        first, last = self.data.split(fraction)
        return Mapped(first, self.steps), Mapped(last, self.steps[:1])


def _weigher(class_weight: dict[int, float]) -> Callable:
    """A function that turns class weights into sample weights."""
    table = np.ones(max(class_weight) + 1, "float32")
    for label, weight in class_weight.items():
        table[int(label)] = weight

    def weigh(x: Any, y: Any, sample_weight: Any) -> tuple:
        labels = backends.to_numpy(y)
        if labels.ndim > 1 and labels.shape[-1] > 1:
            labels = labels.argmax(axis=-1)
        labels = labels.reshape(labels.shape[0], -1)[:, 0].astype("int64")
        known = labels < len(table)
        weights = np.where(known, table[np.where(known, labels, 0)], np.float32(1))
        return x, y, weights if sample_weight is None else weights * sample_weight

    return weigh


_END = object()


def prefetch(items: Iterator, depth: int = 2) -> Iterator:
    """Run an iterator ahead in a thread; its exceptions are raised here.

    Args:
        items: the iterator.
        depth: how many items may wait.
    """
    waiting: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:
            put((_END, error))

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def batches(data: Any, epoch: int, limit: int | None = None, live: Any = None) -> Iterator:
    """The batches of one epoch, read ahead where making them is work."""
    source = data.epoch(epoch)
    if limit is not None:
        source = (b for _, b in zip(range(limit), source))  # noqa: B905 - stops at the shorter
    return prefetch(source) if data.host_work else source
