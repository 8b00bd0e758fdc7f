"""Data sets with the methods of `tf.data.Dataset` that programs use, without TensorFlow."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from typing import Any, Self

import numpy as np

from keraslite import backend as backends
from keraslite import tree
from keraslite.backend.counter import MASK

INFINITE, UNKNOWN = -1, -2  # cardinalities, as in tf.data


class Dataset:
    """Elements, batches as a rule, that are read again in every epoch.

    Subclasses write `epoch` and `cardinality`. What an epoch yields follows from its number and
    the seed, so that `fit` goes on with the same batches where it is resumed. The methods take
    arguments as those of `tf.data.Dataset` and return new data sets.

    Attributes:
        seed: what orders follow from; None where there are none.
    """

    seed: int | None = None
    _next_epoch = 0

    def epoch(self, number: int) -> Iterator:
        """Yield the elements of an epoch.

        Args:
            number: of the epoch, from 0 on.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement epoch(number).")

    def cardinality(self) -> int:
        """Return the number of elements of an epoch; -1 for no end, -2 where it is not known."""
        return UNKNOWN

    def __len__(self) -> int:
        size = self.cardinality()
        if size < 0:
            what = "no end" if size == INFINITE else "a length that is known only when it was read"
            raise TypeError(f"The data set has {what}.")
        return size

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator:
        self._next_epoch += 1
        return self.epoch(self._next_epoch - 1)

    def as_numpy_iterator(self) -> Iterator:
        """Yield the elements with arrays in the place of tensors."""
        return (tree.map_structure(backends.to_numpy, item) for item in self)

    def _derived(self, epoch: Callable[[int], Iterator], size: Any, seed: Any = None) -> "Derived":
        return Derived(self, epoch, size, seed)

    # -- elements -----------------------------------------------------------------------------

    def map(
        self, function: Callable, num_parallel_calls: Any = None, deterministic: Any = None,
        **kwargs: Any,
    ) -> "Derived":  # fmt: skip
        """Return the data set with a function of each element, called as `function(x, y)`.

        Args:
            function: gives the new element; elements that are tuples are its arguments.
            num_parallel_calls: kept for code of tf.data.
            deterministic: likewise.
            kwargs: likewise.

        >>> list(Elements(range(3)).map(lambda x: x * 2))
        [0, 2, 4]
        """
        return self._derived(
            lambda n: (_called(function, item) for item in self.epoch(n)), self.cardinality
        )

    def filter(self, predicate: Callable, name: Any = None) -> "Derived":
        """Return the data set of the elements for which a function is true.

        Args:
            predicate: the function, called as that of `map`.
            name: kept for code of tf.data.
        """
        return self._derived(
            lambda n: (item for item in self.epoch(n) if bool(_called(predicate, item))),
            lambda: min(self.cardinality(), INFINITE) if self.cardinality() < 0 else UNKNOWN,
        )

    def enumerate(self, start: int = 0, name: Any = None) -> "Derived":
        """Return the data set of pairs of numbers and elements.

        Args:
            start: the first number.
            name: kept for code of tf.data.
        """
        return self._derived(lambda n: enumerate(self.epoch(n), start), self.cardinality)

    # -- batches ------------------------------------------------------------------------------

    def batch(self, batch_size: int, drop_remainder: bool = False, **kwargs: Any) -> "Derived":
        """Return the data set of batches of elements.

        Args:
            batch_size: elements in a batch.
            drop_remainder: whether a last batch that is smaller is left out.
            kwargs: kept for code of tf.data.

        >>> [x.tolist() for x in Elements(range(3)).batch(2)]
        [[0, 1], [2]]
        """

        def epoch(number: int) -> Iterator:
            items = self.epoch(number)
            while part := list(islice(items, batch_size)):
                if len(part) == batch_size or not drop_remainder:
                    yield tree.map_structure(_stacked, *part)

        def size() -> int:
            whole = self.cardinality()
            return whole if whole < 0 else whole // batch_size if drop_remainder else (
                -(-whole // batch_size)
            )  # fmt: skip

        return self._derived(epoch, size)

    def unbatch(self, name: Any = None) -> "Derived":
        """Return the data set of the rows of the elements.

        Args:
            name: kept for code of tf.data.
        """

        def epoch(number: int) -> Iterator:
            for item in self.epoch(number):
                for i in range(len(tree.flatten(item)[0])):
                    yield tree.map_structure(lambda x, i=i: x[i], item)

        return self._derived(epoch, lambda: min(self.cardinality(), UNKNOWN))

    def rebatch(self, batch_size: int, drop_remainder: bool = False) -> "Derived":
        """Return the data set with batches of another size.

        Args:
            batch_size: rows in a batch.
            drop_remainder: whether a last batch that is smaller is left out.
        """
        return self.unbatch().batch(batch_size, drop_remainder)

    # -- parts and orders ---------------------------------------------------------------------

    def take(self, count: int, name: Any = None) -> "Derived":
        """Return the data set of the first elements of each epoch.

        Args:
            count: their number; -1 for all.
            name: kept for code of tf.data.
        """
        if count < 0:
            return self._derived(self.epoch, self.cardinality)

        def size() -> int:
            whole = self.cardinality()
            return min(whole, count) if whole >= 0 else count if whole == INFINITE else UNKNOWN

        return self._derived(lambda n: islice(self.epoch(n), count), size)

    def skip(self, count: int, name: Any = None) -> "Derived":
        """Return the data set without the first elements of each epoch.

        Args:
            count: their number; -1 for all.
            name: kept for code of tf.data.
        """
        if count < 0:
            return self._derived(lambda n: iter(()), lambda: 0)
        return self._derived(
            lambda n: islice(self.epoch(n), count, None),
            lambda: self.cardinality() if self.cardinality() < 0 else max(len(self) - count, 0),
        )

    def shuffle(
        self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True,
        name: Any = None,
    ) -> "Derived":  # fmt: skip
        """Return the data set in another order: the next element is one of so many, by chance.

        Args:
            buffer_size: how many elements it is one of.
            seed: of the order; a new one for None.
            reshuffle_each_iteration: whether each epoch has an order of its own.
            name: kept for code of tf.data.

        >>> sorted(Elements(range(5)).shuffle(5, seed=1))
        [0, 1, 2, 3, 4]
        """
        from keraslite.random import make_default_seed

        own = make_default_seed() if seed is None else seed

        def epoch(number: int) -> Iterator:
            turn = number if reshuffle_each_iteration else 0
            return _shuffled(self.epoch(number), max(buffer_size, 1), [shuffled.seed & MASK, turn])

        shuffled = self._derived(epoch, self.cardinality, own)
        return shuffled

    def repeat(self, count: int | None = None, name: Any = None) -> "Derived":
        """Return the data set of several epochs, one after the other.

        Args:
            count: their number; None or -1 for no end.
            name: kept for code of tf.data.
        """
        endless = count is None or count < 0

        def epoch(number: int) -> Iterator:
            turns = _numbers() if endless else range(number * count, (number + 1) * count)
            for turn in turns:
                yield from self.epoch(turn)

        def size() -> int:
            whole = self.cardinality()
            return INFINITE if endless and whole else whole if whole < 0 else whole * count

        return self._derived(epoch, size)

    def concatenate(self, dataset: "Dataset", name: Any = None) -> "Derived":
        """Return the data set of these elements and those of another one.

        Args:
            dataset: the other one.
            name: kept for code of tf.data.
        """

        def epoch(number: int) -> Iterator:
            yield from self.epoch(number)
            yield from dataset.epoch(number)

        def size() -> int:
            sizes = self.cardinality(), dataset.cardinality()
            return INFINITE if INFINITE in sizes else UNKNOWN if UNKNOWN in sizes else sum(sizes)

        return self._derived(epoch, size)

    # -- reading ------------------------------------------------------------------------------

    def cache(self, filename: str = "", name: Any = None) -> "Derived":
        """Return the data set that keeps its elements in memory once an epoch was read.

        Args:
            filename: kept for code of tf.data.
            name: likewise.
        """
        kept: list[Any] = []

        def epoch(number: int) -> Iterator:
            if kept:
                yield from kept[0]
                return
            items = []
            for item in self.epoch(number):
                items.append(item)
                yield item
            kept[:] = [items]

        return self._derived(epoch, self.cardinality)

    def prefetch(self, buffer_size: int | None = None, name: Any = None) -> Self:
        """Return the data set itself: `fit` reads ahead in any case.

        Args:
            buffer_size: kept for code of tf.data.
            name: likewise.
        """
        return self

    def with_options(self, options: Any, name: Any = None) -> Self:
        """Return the data set itself, which needs none of tf.data's options.

        Args:
            options: kept for code of tf.data.
            name: likewise.
        """
        return self

    def apply(self, transformation_func: Callable) -> Any:
        """Return what a function makes of the data set.

        Args:
            transformation_func: the function.
        """
        return transformation_func(self)

    def as_tf_dataset(self) -> Any:
        """Return a `tf.data.Dataset` of the elements, each time it is read that of the next epoch.

        Raises:
            ImportError: TensorFlow is not installed.
            ValueError: there is no element.
        """
        return backends.tf_dataset(self)


class Derived(Dataset):
    """A data set made of another one, whose names of classes and files it keeps.

    Args:
        parent: the other one.
        epoch: gives the elements of an epoch by its number.
        size: gives the cardinality.
        seed: of an order of its own; that of the other one by default.
    """

    def __init__(
        self, parent: Dataset, epoch: Callable[[int], Iterator], size: Callable[[], int],
        seed: int | None = None,
    ):  # fmt: skip
        self._parent, self._epoch, self._size, self._own_seed = parent, epoch, size, seed
        for name in ("class_names", "file_paths"):
            if hasattr(parent, name):
                setattr(self, name, getattr(parent, name))

    @property
    def seed(self) -> int | None:  # type: ignore[override]
        """Return the seed that orders follow from."""
        return self._parent.seed if self._own_seed is None else self._own_seed

    @seed.setter
    def seed(self, value: int) -> None:
        if self._own_seed is None:
            self._parent.seed = value
        else:
            self._own_seed = value

    def epoch(self, number: int) -> Iterator:
        """Yield the elements of an epoch."""
        return iter(self._epoch(number))

    def cardinality(self) -> int:
        """Return the number of elements of an epoch."""
        return self._size()


class Elements(Dataset):
    """A data set of the elements of a sequence.

    Args:
        items: the sequence.

    >>> list(Elements([1, 2, 3]).skip(1).take(1))
    [2]
    """

    def __init__(self, items: Any):
        self._items = items

    def epoch(self, number: int) -> Iterator:
        """Yield the elements."""
        return iter(self._items)

    def cardinality(self) -> int:
        """Return their number."""
        return len(self._items)


_numbers = partial(count, 0)


def _called(function: Callable, item: Any) -> Any:
    return function(*item) if isinstance(item, tuple) else function(item)


def _stacked(*values: Any) -> Any:
    return np.stack(
        [np.asarray(v) if backends.of(v) is None else backends.to_numpy(v) for v in values]
    )


def _shuffled(items: Iterator, size: int, seed: list[int]) -> Iterator:
    random = np.random.default_rng(seed)
    buffer: list[Any] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        i = int(random.integers(size))
        yield buffer[i]
        buffer[i] = item
    random.shuffle(buffer)  # type: ignore[arg-type]
    yield from buffer
