"""Random parameters of augmentation, a row a picture, and the ranges they are drawn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keraslite import ops, random
from keraslite.backend.counter import signed
from keraslite.ops.noise import seed_pair
from keraslite.typing import Tensor

_GOLDEN = 0x9E3779B9  # an odd number far from every small seed


def streams(seed: Any, count: int) -> list[Any]:
    """Return independent seeds that follow from one.

    Args:
        seed: an int, a pair or tensor of (seed, counter), a SeedGenerator, or None.
        count: how many.

    >>> len(streams(1, 3))
    3
    """
    first = seed_pair(seed)
    if isinstance(first, tuple):
        return [(signed(first[0] + i * _GOLDEN), first[1]) for i in range(count)]
    offsets = [np.array([signed(i * _GOLDEN), 0], np.int32) for i in range(count)]
    return [ops.add(first, offset) for offset in offsets]


def uniform(seed: Any, batch: Any, *ranges: Sequence[float]) -> list[Tensor]:
    """Draw uniform numbers, one from each range for each picture.

    What a picture gets depends on its place in the batch and not on the size of the batch.

    Args:
        seed: an int, a pair or tensor of (seed, counter), or a SeedGenerator.
        batch: the number of pictures.
        ranges: pairs of (lowest, highest).

    Returns:
        A tensor (batch,) of float32 for each range.

    >>> [float(x[0]) for x in uniform(1, 1, (2.0, 2.0))]
    [2.0]
    """
    unit = random.uniform((batch, len(ranges)), dtype="float32", seed=seed)
    return [
        ops.add(ops.multiply(unit[:, i], np.float32(high - low)), np.float32(low))
        for i, (low, high) in enumerate(ranges)
    ]


def chosen(seed: Any, batch: Any, probability: Sequence[float]) -> Tensor:
    """Draw which pictures are changed, each with a probability drawn from a range itself.

    Args:
        seed: as for `uniform`.
        batch: the number of pictures.
        probability: the lowest and the highest.

    Returns:
        Booleans (batch,).
    """
    limit, unit = uniform(seed, batch, probability, (0.0, 1.0))
    return ops.less(unit, limit)


def per_image(x: Any) -> Tensor:
    """Return one number a picture in the shape (batch, 1, 1, 1).

    >>> per_image(np.zeros(2)).shape
    (2, 1, 1, 1)
    """
    return ops.reshape(x, (-1, 1, 1, 1))


def read_range(
    value: Any,
    low: float,
    high: float,
    name: str = "factor",
    lower: float | None = None,
) -> tuple[float, float]:
    """Return a range from a number or a pair of numbers, the smaller first.

    Args:
        value: a number, which stands for (-value, value) as far as the bounds allow, or a pair.
        low: the lower bound.
        high: the upper bound.
        name: the argument's name, for the error.
        lower: the lower end for a single number, where it is another.

    Raises:
        ValueError: it is neither, or lies out of bounds.

    >>> read_range(0.5, 0, 1)
    (0, 0.5)
    >>> read_range((0.3, 0.1), 0, 1)
    (0.1, 0.3)
    """
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if (
        not 1 <= len(numbers) <= 2
        or (len(numbers) == 1 and isinstance(value, list | tuple))
        or not all(isinstance(v, int | float) for v in numbers)
        or not all(low <= v <= high for v in numbers)
    ):
        raise ValueError(
            f"`{name}` must be a number or a pair of numbers from [{low}, {high}], got "
            f"{name}={value!r}."
        )
    if len(numbers) == 2:
        return min(numbers), max(numbers)
    highest = abs(numbers[0])
    return max(-highest, low) if lower is None else lower, highest


def read_value_range(value: Any) -> list[float]:
    """Return the least and the largest value of a pixel.

    Raises:
        ValueError: they are not two different numbers.

    >>> read_value_range((1, 0))
    [0, 1]
    """
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] == value[1]:
        raise ValueError(f"`value_range` must be two different numbers, got value_range={value!r}.")
    return sorted(value)


def check_option(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise NotImplementedError, as Keras does, unless an argument is one of the words allowed."""
    if value not in choices:
        raise NotImplementedError(f"`{name}` must be one of {choices}, got {name}={value!r}.")
