"""Images of any rank, data format and dtype as channels-last batches of floats, and back."""

from collections.abc import Callable, Collection
from typing import Any

from keraslite import dtypes
from keraslite.ops import numpy as k
from keraslite.ops.casting import saturate_cast
from keraslite.ops.core import cast, dtype
from keraslite.ops.layout import is_channels_first


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise a ValueError unless an argument is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed)}, got {value!r}.")


def as_floats(x: Any) -> tuple[Any, Callable]:
    """Images in float32 at least, and a function that casts a result to their dtype."""
    name = dtype(x)
    if dtypes.is_float(name):
        wide = x if name in ("float32", "float64") else cast(x, "float32")
        return wide, lambda out: cast(out, name)
    return cast(x, "float32"), lambda out: saturate_cast(k.round(out), name)


def as_batch(images: Any, data_format: str | None, rank: int = 4) -> tuple[Any, Callable]:
    """A channels-last batch of images, and a function that undoes this on a result.

    Args:
        images: one image, or a batch of them.
        data_format: "channels_last", "channels_first", or None for the configured one.
        rank: the rank of a batch: 4, or 5 for volumes.

    Raises:
        ValueError: the images have another rank.
    """
    channels_first = is_channels_first(data_format)
    if len(images.shape) not in (rank - 1, rank):
        raise ValueError(
            f"images must have {rank - 1} dimensions, or {rank} in a batch, got a shape of "
            f"{tuple(images.shape)}."
        )
    single = len(images.shape) == rank - 1
    images = k.expand_dims(images, 0) if single else images
    images = k.moveaxis(images, 1, -1) if channels_first else images

    def undo(out: Any) -> Any:
        out = k.moveaxis(out, -1, 1) if channels_first else out
        return k.squeeze(out, 0) if single else out

    return images, undo
