"""Unknown sizes: what they are, and how the sizes of results that depend on them are found.

An unknown size is a `Dim`, equal to itself alone. A function is run twice with other numbers in the
place of each; what differs between the results is unknown, and follows the `Dim` whose numbers it
has. Where that fails, the sizes cannot be all different: equal ones are tried, then numbers that
the call itself names, for one `Dim` after the other and together, and what all that fit agree on
is known. A third run with ones shows which results are the smaller of an unknown size and another.
"""

import math
import re
from collections.abc import Callable, Iterator
from itertools import combinations, islice, product
from typing import Any

from keraslite import dtypes, tree


class Dim:
    """A size that is not known, and those of windows over its axis, each a Dim too.

    All of these are (size + offset) // stride + 1 of one size, windows of windows too: what two
    paths of a graph make of an axis is the same Dim where it is the same size.
    """

    def __init__(self) -> None:
        self._source, self._offset, self._stride = self, -1, 1
        self._windows: dict[tuple[int, int], Dim] = {(-1, 1): self}

    def windows(self, offset: int, stride: int) -> "Dim":
        """Return (size + offset) // stride + 1.

        Args:
            offset: what the padding adds, less what a window needs.
            stride: the step between windows.
        """
        offset, stride = self._offset + self._stride * (1 + offset), self._stride * stride
        windows = self._source._windows
        if (offset, stride) not in windows:
            dim = windows[offset, stride] = Dim()
            dim._source, dim._offset, dim._stride = self._source, offset, stride
        return windows[offset, stride]

    def __repr__(self) -> str:
        return "None"


class Batch(Dim):
    """The size of a leading axis, which is the batch's: most often the same in all inputs."""

    def windows(self, offset: int, stride: int) -> Dim:
        """Return a Dim of its own, as batches may differ, unless the size stays."""
        return self if (offset, stride) == (-1, 1) else Dim()


class _TheBatch(Batch):
    def __reduce__(self) -> str:
        return "BATCH"


BATCH = _TheBatch()

SizeOf = Callable[[Dim], int]
# The second number of a Dim over its first: all different, so that multiples do not mix them up.
_RATIOS = (2, 4, 5, 7, 11, 13, 17, 19, 23, 29)
_LARGEST = 10**6  # number in the place of an unknown size
_ENOUGH = 300  # as a unit, for windows that are not so short


class Outline:
    """The sizes (ints and Dims) and the dtype of a result."""

    def __init__(self, dims: tuple, dtype: str):
        self.dims, self.dtype = dims, dtype


class _UndecidedError(Exception):
    """The structure of a result depends on an unknown size."""


class Prober:
    """Find the outlines of a function's results.

    Args:
        run: the function, of another that gives a number for each Dim.
        dims: the Dims of its arguments; those that `run` asks for are added.
        groups: the known sizes in its arguments: of each shape, of each tuple of ints.
        more_groups: gives sizes that it may depend on besides, asked for where it fails.
        unit: a number that usual strides and head counts divide; it is taken for unknown sizes.
        tries: how many numbers in the place of unknown sizes are tried where it fails.
        is_mistake: whether an error may come from a number that does not fit.
        minima: whether results may have the smaller of two sizes, of the batch too.
    """

    def __init__(
        self,
        run: Callable[[SizeOf], Any],
        dims: list[Dim],
        groups: list[tuple[int, ...]],
        more_groups: Callable[[], list],
        unit: int,
        tries: int,
        is_mistake: Callable[[Exception], bool],
        minima: bool = False,
    ):
        self.run, self.dims, self.groups, self.more_groups = run, dims, groups, more_groups
        self.unit, self.tries, self.is_mistake = unit, tries, is_mistake
        self.minima = minima

    def outlines(self) -> Any:
        """Return the results with an Outline in the place of each tensor.

        Raises:
            ValueError: the number of results depends on an unknown size.
            Exception: what the function raises with any numbers, without the numbers.
        """
        try:
            return self._outlines()
        except _UndecidedError as error:
            raise ValueError(*error.args) from None

    def _outlines(self) -> Any:
        error = None
        for attempt in self._attempts():
            try:
                results = self._without_minima(self._both(*attempt))
                if self.unit < _ENOUGH and 0 in self._numbers_in(results):
                    self.unit *= 16  # a window, say, was longer than what is unknown
                    return self._outlines()
                return results
            except Exception as new:
                if not self.dims or not self.is_mistake(new):
                    raise
                error = error or new
        self.groups = [*self.groups, *self.more_groups()]
        results = self._fitting()
        if results:
            return _joined(results)
        self._hide_numbers(error)
        raise error

    def _numbers_in(self, results: Any) -> set:
        known = {n for group in self.groups for n in group}
        outlines = [x for x in tree.flatten(results) if isinstance(x, Outline)]
        return {d for x in outlines for d in x.dims if self.dims and d not in known}

    def _attempts(self) -> Iterator[tuple[SizeOf, SizeOf]]:
        unit = self.unit

        def ratio(dim: Dim) -> int:
            return _RATIOS[self.dims.index(dim) % len(_RATIOS)]

        def first(dim: Dim) -> int:
            if dim not in self.dims:
                self.dims.append(dim)
            return unit // 2 if isinstance(dim, Batch) else unit

        def second(dim: Dim) -> int:
            return 3 * (unit // 2) if isinstance(dim, Batch) else unit * ratio(dim)

        yield first, second
        yield lambda dim: unit, lambda dim: 2 * unit
        if unit >= 100:  # no data is computed: a deep network of strides may need it
            yield lambda dim: 32 * unit, lambda dim: 64 * unit

    def _both(self, first_size: SizeOf, second_size: SizeOf) -> Any:
        first = self.run(first_size)
        open_dims = [d for d in self.dims if first_size(d) != second_size(d)]
        second = self.run(second_size) if open_dims else first
        owners: dict[tuple[int, int], list[Dim]] = {}
        for dim in open_dims:
            owners.setdefault((first_size(dim), second_size(dim)), []).append(dim)

        def size(axis: int, a: int, b: int) -> int | Dim:
            if a == b:
                return a
            owner = owners.get((a, b), [])
            batch = [isinstance(d, Batch) for d in owner]
            if owner and (all(batch) or (any(batch) and axis == 0)):
                return BATCH
            return owner[0] if len(owner) == 1 else Dim()

        def outline(x: Any, y: Any) -> Any:
            if not hasattr(x, "shape") or not hasattr(x, "dtype"):
                return None if isinstance(x, int) and x != y else x
            if len(x.shape) != len(y.shape):
                raise _undecided("rank")
            sizes = enumerate(zip(x.shape, y.shape, strict=True))
            return Outline(tuple(size(i, *pair) for i, pair in sizes), dtypes.standardize(x.dtype))

        return _map_alike(outline, first, second)

    def _without_minima(self, outlines: Any) -> Any:
        """Take sizes for unknown that are smaller where an unknown size is 1."""
        small = [d for d in self.dims if self.minima or not isinstance(d, Batch)]
        if not small:
            return outlines
        try:
            ones = self.run(lambda dim: 1 if dim in small else self.unit // 2)
            return _map_alike(_not_smaller, outlines, ones)
        except Exception:
            return outlines  # it cannot be 1

    # -- where unknown sizes must be equal to known ones ------------------------------------------

    def _fitting(self) -> list[Any]:
        """The results of the numbers that fit, in the place of as few Dims as possible."""
        numbers, tries = _candidates(self.groups), iter(range(self.tries))
        batches = tuple(d for d in self.dims if isinstance(d, Batch))
        parts = [(d,) for d in self.dims if not isinstance(d, Batch)]
        parts += [batches] * (len(batches) > 1) + [(d,) for d in batches]
        for count in range(1, len(self.dims) + 1):
            options = [(n, False) for n in numbers]
            if count == 1:  # or any multiple of it
                options += [(n, True) for n in numbers if n > 1]
            results = []
            choices = product(filter(_apart, combinations(parts, count)),
                              product(options, repeat=count))  # fmt: skip
            for _, (chosen, values) in zip(tries, choices, strict=False):
                pairs = zip(chosen, values, strict=True)
                numbers_of = {dim: value for dims, value in pairs for dim in dims}
                try:
                    results.append(self._both(*self._sizes(numbers_of)))
                except _UndecidedError:
                    raise
                except Exception as error:
                    if not self.is_mistake(error):
                        raise
            if results:
                return results
        return []

    def _sizes(self, chosen: dict[Dim, tuple[int, bool]]) -> tuple[SizeOf, SizeOf]:
        def of_run(unit: int) -> SizeOf:
            def size(dim: Dim) -> int:
                number, scaled = chosen.get(dim, (1, True))
                return number * unit if scaled else number

            return size

        return of_run(self.unit), of_run(2 * self.unit)

    def _hide_numbers(self, error: Exception) -> None:
        """Say None in an error's message where a number stands for an unknown size."""
        known = {n for group in self.groups for n in group}
        unit = self.unit
        ours = {unit // 2, 3 * (unit // 2), *(unit * n for n in (1, *_RATIOS, 32, 64))} - known
        ours |= {a * b for a in ours for b in {*ours, *known, *map(math.prod, self.groups)}} - known

        def hide(text: str) -> str:
            return re.sub(r"\d+", lambda m: "None" if int(m[0]) in ours else m[0], text)

        error.args = tuple(hide(x) if isinstance(x, str) else x for x in error.args)
        for name in ("_kl_text", "_message"):  # of our own errors, and of TensorFlow's
            if isinstance(getattr(error, name, None), str):
                setattr(error, name, hide(getattr(error, name)))


def unit_beside(unit: int, groups: list[tuple[int, ...]], at_least: int = 0) -> int:
    """Return a multiple of a number that no known size can be taken for.

    Args:
        unit: the number.
        groups: the known sizes.
        at_least: it is larger than this.
    """
    known = {n for group in groups for n in group}
    multiple = unit * (1 + at_least // unit)
    while not known.isdisjoint(
        {multiple // 2, 3 * (multiple // 2), *(multiple * n for n in (1, *_RATIOS))}
    ):
        multiple += unit
    return multiple


def _candidates(groups: list[tuple[int, ...]]) -> list[int]:
    """The numbers that an unknown size may have to be: 1, known ones, and what is left of them."""
    groups = [tuple(n for n in group if n > 0) for group in groups]
    products = [math.prod(group) for group in groups]
    quotients = [a // b for a in products for b in products if b and a % b == 0]
    numbers = [1, *(n for group in groups for n in group), *products, *quotients]
    return list(islice(dict.fromkeys(n for n in numbers if n <= _LARGEST), 16))


def _undecided(what: str) -> _UndecidedError:
    return _UndecidedError(
        f"the {what} of the results depends on a size that is not known: give the Input, or the "
        "KerasTensor, that size."
    )


def _map_alike(function: Callable, first: Any, *others: Any) -> Any:
    for other in others:
        try:
            tree.assert_same_structure(first, other)
        except ValueError:
            raise _undecided("number") from None
    return tree.map_structure(function, first, *others)


def _not_smaller(outline: Any, one: Any) -> Any:
    if not isinstance(outline, Outline):
        return outline
    if len(outline.dims) != len(one.shape):
        raise _undecided("rank")
    dims = tuple(
        Dim() if isinstance(a, int) and isinstance(b, int) and b < a else a
        for a, b in zip(outline.dims, one.shape, strict=True)
    )
    return Outline(dims, outline.dtype)


def _apart(parts: tuple) -> bool:
    dims = [dim for part in parts for dim in part]
    return len(set(dims)) == len(dims)


def _joined(results: list[Any]) -> Any:
    """Return the sizes that are equal in all results; the others are unknown."""

    def join(*outlines: Any) -> Any:
        first = outlines[0]
        if not isinstance(first, Outline):
            return first if all(x is first or x == first for x in outlines) else None
        if len({len(x.dims) for x in outlines}) > 1:
            raise _undecided("rank")
        sizes = zip(*(x.dims for x in outlines), strict=True)
        return Outline(tuple(s[0] if len(set(s)) == 1 else Dim() for s in sizes), first.dtype)

    return _map_alike(join, *results)
