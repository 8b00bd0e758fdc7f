"""The hash behind the random numbers, in operators that any 32-bit unsigned type has.

The constants of the mixers are those of the published search for integer hashes of low bias
(C. Wellons, "Hash function prospector"): xor-shift and multiply, three times.
"""

from typing import Any

import numpy as np

MASK = 0xFFFFFFFF
# (shift, factor) of each step; 0 ends with a shift alone.
MIXERS = (
    ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 0)),
    ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 0)),
)
KEY_SALT = (0x9E3779B9, 0x85EBCA6B)


def signed(value: int) -> int:
    """The 32 low bits of an integer as an int32."""
    value &= MASK
    return value - (1 << 32) if value >> 31 else value


def mix(x: Any, constants: tuple) -> Any:
    """Scramble 32-bit words."""
    whole = isinstance(x, int)
    for shift, factor in constants:
        x = x ^ (x >> (shift if whole else np.uint32(shift)))
        if factor:
            x = (x * factor) & MASK if whole else x * np.uint32(factor)
    return x


def keys(seed: Any, counter: Any) -> tuple[Any, Any]:
    """The two keys of a draw; neighbouring seeds and counters give unrelated ones."""
    if isinstance(seed, int):
        k0 = mix(seed ^ mix((counter + KEY_SALT[0]) & MASK, MIXERS[0]), MIXERS[1])
        k1 = mix(counter ^ mix((seed + KEY_SALT[1]) & MASK, MIXERS[1]), MIXERS[0])
        return k0, k1
    k0 = mix(seed ^ mix(counter + np.uint32(KEY_SALT[0]), MIXERS[0]), MIXERS[1])
    k1 = mix(counter ^ mix(seed + np.uint32(KEY_SALT[1]), MIXERS[1]), MIXERS[0])
    return k0, k1


def hashed(position: Any, k0: Any, k1: Any) -> Any:
    """32 random bits for each position."""
    return mix(position ^ k0, MIXERS[0]) + mix(position ^ k1, MIXERS[1])
