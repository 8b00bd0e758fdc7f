"""Seeds and normal numbers, for ops that draw random numbers and for `keraslite.random`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite.backend.counter import signed
from keraslite.ops import numpy as k
from keraslite.ops.core import shape

# Draws a seed where the argument is None; `keraslite.random` puts the function here.
GLOBAL: list[Callable[[], Any]] = []

_INTEGERS, _PAIRS = (int, np.integer), (list, tuple, np.ndarray)  # Dynamo traces no `int | np...`


def seed_pair(seed: Any) -> Any:
    """(seed, counter) from an int, a pair or tensor of two, a SeedGenerator, or None.

    Args:
        seed: None draws from the global generator of the current backend.
    """
    if seed is None:
        return GLOBAL[0]()
    if hasattr(seed, "next"):
        return seed.next()
    if isinstance(seed, _INTEGERS):
        return signed(int(seed)), 0
    if isinstance(seed, _PAIRS):
        return signed(int(seed[0])), signed(int(seed[1]))
    return seed


def box_muller(unit: Any) -> Any:
    """Transform uniform numbers, times 2^24, to as many normal ones: an even number of them.

    Args:
        unit: floats from [0, 2^24), flat.
    """
    half = shape(unit)[0] // 2
    first = (unit[:half] + np.float32(0.5)) * np.float32(2.0**-24)
    angle = unit[half:] * np.float32(2.0**-24 * 2 * np.pi)
    radius = k.sqrt(k.log(first) * np.float32(-2.0))
    return k.concatenate([radius * k.cos(angle), radius * k.sin(angle)])
