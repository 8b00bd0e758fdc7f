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


def uniform(seed: Any, batch: Any, count: int) -> list[Tensor]:
    """Draw numbers from [0, 1) for each picture.

    What a picture gets depends on its place in the batch and not on the size of the batch.

    Args:
        seed: an int, a pair or tensor of (seed, counter), or a SeedGenerator.
        batch: the number of pictures.
        count: how many numbers a picture gets.

    Returns:
        As many tensors (batch,) of float32.

    >>> [x.shape[0] for x in uniform(1, 4, 2)]
    [4, 4]
    """
    unit = random.uniform((batch, count), dtype="float32", seed=seed)
    return [unit[:, i] for i in range(count)]


def between(unit: Tensor, limits: Sequence[float]) -> Tensor:
    """Bring numbers from [0, 1) to a range (lowest, highest).

    >>> between(np.float32([0.5]), (2, 4)).tolist()
    [3.0]
    """
    low, high = limits
    return ops.add(ops.multiply(unit, np.float32(high - low)), np.float32(low))


def chosen(limit: Tensor, unit: Tensor, probability: Sequence[float]) -> Tensor:
    """Choose pictures, each with a probability from a range itself.

    Args:
        limit: (batch,) from [0, 1), which picks the probability.
        unit: (batch,) from [0, 1), which is compared with it.
        probability: the lowest and the highest.

    Returns:
        Booleans (batch,).
    """
    return ops.less(unit, between(limit, probability))


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
