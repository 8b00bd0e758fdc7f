"""Data formats: where the channels stand, and sizes for each spatial axis."""

from typing import Any

from keraslite import config
from keraslite.ops.shapes import transpose


def is_channels_first(data_format: str | None) -> bool:
    """Whether a data format, the configured one for None, has the channels on axis 1.

    >>> is_channels_first("channels_last")
    False
    """
    data_format = data_format or config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"data_format must be channels_last or channels_first, got {data_format!r}."
        )
    return data_format == "channels_first"


def channels_to_last(x: Any) -> Any:
    """Move axis 1 to the end."""
    rank = len(x.shape)
    return transpose(x, (0, *range(2, rank), 1))


def channels_to_first(x: Any) -> Any:
    """Move the last axis to position 1."""
    rank = len(x.shape)
    return transpose(x, (0, rank - 1, *range(1, rank - 1)))


def as_tuple(value: Any, rank: int, name: str, minimum: int = 1) -> tuple:
    """One number for each spatial axis, from one number for all or one for each.

    Args:
        value: an integer or a sequence of them.
        rank: how many spatial axes there are.
        name: the argument's name, for the error message.
        minimum: the least number allowed.

    >>> as_tuple(2, 3, "strides")
    (2, 2, 2)
    """
    values = (value,) * rank if isinstance(value, int) or value is None else tuple(value)
    if len(values) != rank or any(v is not None and v < minimum for v in values):
        raise ValueError(
            f"{name} must be an integer >= {minimum} or {rank} of them, got {value!r}."
        )
    return values
