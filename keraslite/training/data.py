"""Data for the trainer: anything iterable becomes epochs of (x, y, sample_weight) batches.

Arrays and lists are sliced here; shuffles come from the counter-based generator and are the same
on every backend. Host work that takes time (tokenising, a generator) runs ahead in a thread.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import copy_context
from itertools import islice
from typing import Any

import numpy as np

from keraslite import tree
from keraslite.random import make_default_seed
from keraslite.scopes import scopes
from keraslite.training.rows import (
    as_batch,
    as_leaves,
    as_table,
    is_hugging_face,
    part,
    take,
)
from keraslite.utils.data import PyDataset, permutation, unpack_x_y_sample_weight


class ArrayData:
    """Arrays, lists of strings and nested structures of them, sliced into batches.

    Args:
        x: inputs, nested.
        y: targets, nested, or None.
        sample_weight: weights, nested, or None.
        batch_size: rows in a batch.
        shuffle: whether each epoch has an order of its own.
        seed: the seed of the orders; a new one for None.
    """

    host_work = by_number = False

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None,
        shuffle: bool = False, seed: int | None = None,
    ):  # fmt: skip
        parts, self._restore = [], []
        for value in (x, y, sample_weight):
            leaves, restore = as_leaves(value)
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
            raise ValueError("The data is empty: it must have at least one row.")
        self.batch_size = 32 if batch_size is None else batch_size
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise ValueError(f"batch_size must be a positive int, got {batch_size!r}.")
        self.shuffle, self.seed = shuffle, make_default_seed() if seed is None else seed

    @property
    def num_batches(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.rows // self.batch_size)

    def first(self) -> tuple:
        """Return a batch to build a model with."""
        return next(self.epoch(0))

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch."""
        order = permutation(self.rows, self.seed, number) if self.shuffle else None
        for start in range(0, self.rows, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self.rows))
            index = rows if order is None else order[rows]
            yield tuple(
                restore([take(v, index) for v in leaves])
                for leaves, restore in zip(self._leaves, self._restore, strict=True)
            )

    def split(self, fraction: float) -> tuple["ArrayData", "ArrayData"]:
        """Return the first part and the last `fraction` of the rows."""
        at = int(self.rows * (1.0 - fraction))
        if not 0 < at < self.rows:
            raise ValueError(
                f"validation_split={fraction} of {self.rows} rows leaves one part empty."
            )

        def half(rows: slice, shuffle: bool) -> ArrayData:
            x, y, weight = (
                restore([part(v, rows) for v in leaves])
                for leaves, restore in zip(self._leaves, self._restore, strict=True)
            )
            return ArrayData(x, y, weight, self.batch_size, shuffle, self.seed)

        return half(slice(0, at), self.shuffle), half(slice(at, self.rows), False)


def _has_epochs(source: Any) -> bool:
    """Return whether a data set gives the batches of an epoch by its number."""
    return callable(getattr(source, "epoch", None))


class StreamData:
    """A generator, a data set or a data loader that yields ready batches.

    Args:
        source: an iterable, or a function that gives one for each epoch. Where it has a method
            `epoch(number)`, this gives the batches of an epoch.
    """

    host_work = True

    def __init__(self, source: Any):
        self._source = source
        self.by_number = _has_epochs(source)
        # An epoch whose first batch was taken: its number, the batch, the others.
        self._begun: tuple[int, tuple, Iterator] | None = None
        try:
            self.num_batches = source.num_batches if isinstance(source, PyDataset) else len(source)
        except TypeError:  # data sets of unknown or no end say so when they are asked
            self.num_batches = None

    @property
    def seed(self) -> int | None:
        """Return the seed of the orders, of a data set whose epochs have numbers."""
        return getattr(self._source, "seed", None) if self.by_number else None

    @seed.setter
    def seed(self, value: int) -> None:
        self._source.seed = value

    def first(self) -> tuple:
        """Return the first batch of the next epoch, which will yield it too."""
        if self._begun is None:
            items = self._batches(0)
            batch = next(items, None)
            if batch is None:
                raise ValueError("The data is empty: it must yield at least one batch.")
            self._begun = 0, batch, items
        return self._begun[1]

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch; a generator goes on where it stood."""
        begun, self._begun = self._begun, None
        if begun is not None and self.by_number and begun[0] != number:
            begun = None  # training is resumed: the order is another one
        if begun is not None:
            yield begun[1]
        yield from self._batches(number) if begun is None else begun[2]

    def split(self, fraction: float) -> tuple[Any, Any]:
        """Raise ValueError: a stream cannot be split."""
        raise ValueError(
            f"validation_split needs arrays or lists, got {type(self._source).__name__}, which "
            "yields batches: give validation_data."
        )

    def _batches(self, number: int) -> Iterator[tuple]:
        source = self._source.epoch(number) if self.by_number else self._source
        if callable(source) and not hasattr(source, "__iter__"):
            source = source()
        items: Iterable
        if isinstance(source, PyDataset):
            source.on_epoch_begin()
            items, end = source, source.on_epoch_end
        elif hasattr(source, "__getitem__") and hasattr(source, "__len__"):  # of the same form
            items = (source[i] for i in range(len(source)))
            end = getattr(source, "on_epoch_end", None)
        else:
            items, end = source, None
        for item in _readable(items):
            yield tuple(
                tree.map_structure(as_batch, part) for part in unpack_x_y_sample_weight(item)
            )
        if end is not None:
            end()


def _readable(items: Iterable) -> Iterator:
    """The batches; a data loader that needs absl's flags says what to do about them."""
    try:
        yield from items
    except Exception as error:
        if type(error).__name__ != "UnparsedFlagAccessError":
            raise
        raise RuntimeError(
            "The workers of grain's DataLoader read the flags of absl, which this program does not "
            "parse: call absl.flags.FLAGS.mark_as_parsed() before fit, and keep what the program "
            "does below `if __name__ == '__main__':`, as the workers import it. "
            "grain.MapDataset with .mp_prefetch() needs no flags."
        ) from error


def adapt(
    x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None,
    shuffle: bool = False, transform: Callable | None = None, seed: int | None = None,
) -> Any:  # fmt: skip
    """Return the data source for the arguments of fit, evaluate or predict."""
    if isinstance(x, ArrayData | StreamData | Mapped | Continued):
        return x
    x = getattr(x, "keraslite_source", x)  # of a tf.data.Dataset that was made of one of ours
    x = as_table(x)
    stream = (
        not hasattr(x, "shape")
        and not isinstance(x, list | tuple | dict | str | bytes)
        and (hasattr(x, "__iter__") or hasattr(x, "__getitem__") or callable(x) or _has_epochs(x))
        and not hasattr(x, "to_numpy")
        and not is_hugging_face(x)
    )
    if stream:
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"{type(x).__name__} yields whole batches: give y and sample_weight inside them."
            )
        data: Any = StreamData(x)
    else:
        if isinstance(x, str | bytes):
            raise ValueError(f"Text must be a list of strings, got a string: give [{x[:40]!r}].")
        data = ArrayData(x, y, sample_weight, batch_size, shuffle, seed)
    return Mapped(data, transform) if transform else data


class Mapped:
    """Data whose batches go through a function of (x, y, sample_weight).

    Args:
        data: the data.
        function: gives the new (x, y, sample_weight).
        pure: whether it gives the same for the same batch; one that draws random numbers, one after
            the other, does not.
    """

    host_work = True

    def __init__(self, data: Any, function: Callable, pure: bool = False):
        self.data, self.function, self.pure = data, function, pure
        self.by_number = pure and (data.by_number or isinstance(data, ArrayData))

    @property
    def num_batches(self) -> int | None:
        """Return the number of batches in an epoch."""
        return self.data.num_batches

    @property
    def seed(self) -> int | None:
        """Return the seed of the orders."""
        return getattr(self.data, "seed", None)

    @seed.setter
    def seed(self, value: int) -> None:
        self.data.seed = value

    def first(self) -> tuple:
        """Return a batch to build a model with."""
        return self.function(*self.data.first())

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch."""
        for batch in self.data.epoch(number):
            yield self.function(*batch)

    def split(self, fraction: float) -> tuple[Any, Any]:
        """Return the first part and the last `fraction` of the rows."""
        first, last = self.data.split(fraction)
        first, last = (Mapped(half, self.function, self.pure) for half in (first, last))
        return first, last


class Continued:
    """Data that goes on from epoch to epoch, for `steps_per_epoch`.

    At the end of the data an epoch ends too, with fewer batches, and the next one begins anew.

    Args:
        data: the data.
        steps: batches in an epoch.
    """

    by_number = False

    def __init__(self, data: Any, steps: int):
        self.data, self.num_batches, self.host_work = data, steps, data.host_work
        self._live: Generator | None = None
        self._next: int | None = None  # the epoch that goes on where the last one stood

    @property
    def seed(self) -> int | None:
        """Return the seed of the orders."""
        return getattr(self.data, "seed", None)

    @seed.setter
    def seed(self, value: int) -> None:
        self.data.seed = value

    def first(self) -> tuple:
        """Return a batch to build a model with."""
        return self.data.first()

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch."""
        length = self.data.num_batches
        if length:
            turn, part = divmod(number, -(-length // self.num_batches))
            if part == 0 or number != self._next:  # a new turn, or training is resumed
                self._live = islice(self.data.epoch(turn), part * self.num_batches, None)
        self._next = number + 1
        before, self._live = self._live, self._live or self.data.epoch(number)
        batch = next(self._live, None)
        if batch is None and before is not None:  # the last epoch took all of it
            self._live = self.data.epoch(number)
            batch = next(self._live, None)
        count = 0
        while batch is not None:
            yield batch
            count += 1
            batch = next(self._live, None) if count < self.num_batches else None
        if count < self.num_batches:
            self._live = None


_END = object()  # of an epoch
_STOP = object()


def prefetch(items: Iterator, depth: int = 2) -> Generator[Any, None, None]:
    """Run an iterator ahead in a thread; its exceptions are raised here.

    Args:
        items: the iterator.
        depth: the number of items that are made ahead.
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

    backend = scopes.backend

    def work() -> None:
        scopes.backend = backend
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_STOP, None))
        except BaseException as error:
            put((_END, error))

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _STOP:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _limited(source: Iterator, limit: int, length: int | None) -> Iterator:
    yield from islice(source, limit)
    if limit == length:  # so that a data set does what is to be done at the end of an epoch
        next(source, None)


class Ahead:
    """Data that is read on into the next epoch while this one ends and is validated.

    Args:
        data: data with `by_number`: the batches of an epoch follow from its number alone.
        epochs: the number of the epoch that is read no more.
    """

    host_work = by_number = False

    def __init__(self, data: Any, epochs: int):
        self.data, self.num_batches, self._epochs = data, data.num_batches, epochs
        self._live: Iterator | None = None
        self._next: int | None = None  # the epoch that is read already

    def epoch(self, number: int) -> Iterator[tuple]:
        """Yield the batches of an epoch."""
        if self._live is None or number != self._next:
            self.close()
            self._live = prefetch(self._batches(number))
        ended = False
        try:
            for batch in self._live:
                if batch is _END:
                    self._next, ended = number + 1, True
                    return
                yield batch
        finally:
            if not ended:
                self.close()

    def _batches(self, number: int) -> Iterator:
        for epoch in range(number, self._epochs):
            yield from self.data.epoch(epoch)
            yield _END

    def close(self) -> None:
        """End the thread."""
        if self._live is not None:
            self._live.close()
        self._live = None


@contextmanager
def read_ahead(data: Any, epochs: int) -> Iterator[Any]:
    """Give data that reads the next epoch while one ends, where that changes no batch.

    Args:
        data: the data source.
        epochs: the number of the epoch that is read no more.
    """
    if not data.by_number:
        yield data
        return
    with closing(Ahead(data, epochs)) as ahead:
        yield ahead


def batches(data: Any, epoch: int, limit: int | None = None, live: Any = None) -> Iterator:
    """Return the batches of one epoch, made ahead in a thread where that takes host work."""
    source = data.epoch(epoch)
    if limit is not None:
        source = _limited(source, limit, data.num_batches)
    return prefetch(source) if data.host_work else source
