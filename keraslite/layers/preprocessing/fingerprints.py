"""Fingerprints of strings: FarmHash64 and SipHash-2-4, of many strings at once.

Integers of 64 bits wrap around as those of C do, so all is done in arrays of uint64. Strings lie
one after the other in a buffer; those of one class of lengths are hashed together.

Sources: FarmHash (G. Pike, 2014), the function Fingerprint64; SipHash (Aumasson and Bernstein,
2012); FingerprintCat64 of TensorFlow.
"""

from collections.abc import Callable, Sequence

import numpy as np

_K0, _K1, _K2 = map(np.uint64, (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))
_CROSS = np.uint64(0xC6A4A7935BD1E995)
_SIP = tuple(map(np.uint64, (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261,
                             0x7465646279746573)))  # fmt: skip
_PADDING = 64  # zeros behind the last string, so that a word may be read at any place


class _Strings:
    """Words of 32 or 64 bits at places in strings that lie one after the other.

    Args:
        strings: the strings.
    """

    def __init__(self, strings: Sequence[bytes]):
        data = np.frombuffer(b"".join(strings) + bytes(_PADDING), np.uint8)
        self.lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        self.starts = np.cumsum(self.lengths) - self.lengths
        self._bytes = data
        # Words begin at any byte: the strides are 1.
        self._words = {
            size: np.ndarray(len(data) - size + 1, f"<u{size}", data, strides=(1,))
            for size in (4, 8)
        }

    def byte(self, places: np.ndarray) -> np.ndarray:
        return self._bytes[places].astype(np.uint64)

    def word(self, places: np.ndarray, size: int = 8) -> np.ndarray:
        return self._words[size][places].astype(np.uint64)


def _u64(x: np.ndarray | int) -> np.ndarray:
    return np.asarray(x).astype(np.uint64)


def _rotate_right(x: np.ndarray, by: int) -> np.ndarray:
    return (x >> np.uint64(by)) | (x << np.uint64(64 - by))


def _mix(x: np.ndarray) -> np.ndarray:
    return x ^ (x >> np.uint64(47))


def _pair(u: np.ndarray, v: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Hash two words to one."""
    return _mix((v ^ _mix((u ^ v) * factor)) * factor) * factor


# -- FarmHash64, by the number of bytes -----------------------------------------------------------


def _farm_0(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    return np.full(len(at), _K2)


def _farm_3(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    y = s.byte(at) + (s.byte(at + n // 2) << np.uint64(8))
    z = _u64(n) + (s.byte(at + n - 1) << np.uint64(2))
    return _mix(y * _K2 ^ z * _K0) * _K2


def _farm_7(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    first, last = s.word(at, 4), s.word(at + n - 4, 4)
    return _pair(_u64(n) + (first << np.uint64(3)), last, _K2 + _u64(2 * n))


def _farm_16(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    factor = _K2 + _u64(2 * n)
    a, b = s.word(at) + _K2, s.word(at + n - 8)
    c = _rotate_right(b, 37) * factor + a
    d = (_rotate_right(a, 25) + b) * factor
    return _pair(c, d, factor)


def _farm_32(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    factor = _K2 + _u64(2 * n)
    a, b = s.word(at) * _K1, s.word(at + 8)
    c, d = s.word(at + n - 8) * factor, s.word(at + n - 16) * _K2
    return _pair(
        _rotate_right(a + b, 43) + _rotate_right(c, 30) + d,
        a + _rotate_right(b + _K2, 18) + c,
        factor,
    )


def _farm_64(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    factor = _K2 + _u64(2 * n)
    a, b = s.word(at) * _K2, s.word(at + 8)
    c, d = s.word(at + n - 8) * factor, s.word(at + n - 16) * _K2
    y = _rotate_right(a + b, 43) + _rotate_right(c, 30) + d
    z = _pair(y, a + _rotate_right(b + _K2, 18) + c, factor)
    e, f = s.word(at + 16) * factor, s.word(at + 24)
    g, h = (y + s.word(at + n - 32)) * factor, (z + s.word(at + n - 24)) * factor
    return _pair(
        _rotate_right(e + f, 43) + _rotate_right(g, 30) + h,
        e + _rotate_right(f + a, 18) + g,
        factor,
    )


def _farm_long(s: _Strings, at: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Hash strings of more than 64 bytes, by blocks of 64 and a last one that ends with them."""
    seed, blocks = np.uint64(81), (n - 1) // 64
    state = np.empty((7, len(at)), np.uint64)  # x, y, z, and two pairs
    state[3:] = 0
    state[1] = seed * _K1 + np.uint64(113)
    state[2] = _mix(state[1] * _K2 + np.uint64(113)) * _K2
    state[0] = seed * _K2 + s.word(at)
    for block in range(int(blocks.max())):
        rows = np.flatnonzero(blocks > block)
        state[:, rows] = _farm_block(s, at[rows] + 64 * block, state[:, rows], _K1, 1)
    factor = _K1 + ((state[2] & np.uint64(0xFF)) << np.uint64(1))
    state[5] += _u64((n - 1) % 64)
    state[3] += state[5]
    state[5] += state[3]
    x, y, z, v0, v1, w0, w1 = _farm_block(s, at + n - 64, state, factor, 9)
    return _pair(
        _pair(v0, w0, factor) + _mix(y) * _K0 + z, _pair(v1, w1, factor) + x, factor
    )


def _farm_block(
    s: _Strings, at: np.ndarray, state: np.ndarray, factor: np.ndarray, weight: int
) -> tuple[np.ndarray, ...]:
    """Mix a block of 64 bytes into the state."""
    x, y, z, v0, v1, w0, w1 = state
    weight = np.uint64(weight)
    x = _rotate_right(x + y + v0 + s.word(at + 8), 37) * factor
    y = _rotate_right(y + v1 + s.word(at + 48), 42) * factor
    x = x ^ (w1 * weight)
    y = y + v0 * weight + s.word(at + 40)
    z = _rotate_right(z + w0, 33) * factor
    v0, v1 = _farm_half(s, at, v1 * factor, x + w0)
    w0, w1 = _farm_half(s, at + 32, z + w1, y + s.word(at + 16))
    return z, y, x, v0, v1, w0, w1


def _farm_half(
    s: _Strings, at: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mix 32 bytes with two words."""
    first, second, third, last = (s.word(at + i) for i in (0, 8, 16, 24))
    a = a + first
    b = _rotate_right(b + a + last, 21)
    total = a + second + third
    return total + last, b + _rotate_right(total, 44) + a


# The longest string of each class, and how it is hashed.
_FARM: tuple[tuple[int, Callable], ...] = (
    (0, _farm_0), (3, _farm_3), (7, _farm_7), (16, _farm_16), (32, _farm_32), (64, _farm_64),
    (2**62, _farm_long),
)  # fmt: skip


def farm_fingerprints(strings: Sequence[bytes]) -> np.ndarray:
    """Return the FarmHash64 fingerprints of strings.

    Args:
        strings: the strings.

    Returns:
        An array of uint64, one for each string.

    >>> farm_fingerprints([b"", b"hello"]).tolist()
    [11160318154034397263, 13009744463427800296]
    """
    s = _Strings(strings)
    hashes = np.empty(len(strings), np.uint64)
    classes = np.searchsorted([longest for longest, _ in _FARM], s.lengths)
    with np.errstate(over="ignore"):
        for number, (_, hashed) in enumerate(_FARM):
            rows = np.flatnonzero(classes == number)
            if len(rows):
                hashes[rows] = hashed(s, s.starts[rows], s.lengths[rows])
    return hashes


# -- SipHash-2-4 ----------------------------------------------------------------------------------


def _sip_round(v: list[np.ndarray]) -> list[np.ndarray]:
    a, b, c, d = v
    a, c = a + b, c + d
    b, d = _rotate_right(b, 64 - 13) ^ a, _rotate_right(d, 64 - 16) ^ c
    a, c = _rotate_right(a, 32) + d, c + b
    b, d = _rotate_right(b, 64 - 17) ^ c, _rotate_right(d, 64 - 21) ^ a
    return [a, b, _rotate_right(c, 32), d]


def _sip_word(v: list[np.ndarray], word: np.ndarray) -> list[np.ndarray]:
    v = _sip_round(_sip_round([*v[:3], v[3] ^ word]))
    return [v[0] ^ word, *v[1:]]


def sip_fingerprints(strings: Sequence[bytes], key: Sequence[int]) -> np.ndarray:
    """Return the SipHash-2-4 of strings under a key.

    Args:
        strings: the strings.
        key: two integers of 64 bits.

    Returns:
        An array of uint64, one for each string.

    >>> sip_fingerprints([b"hello"], (1, 2)).tolist()
    [2957200328589801622]
    """
    s = _Strings(strings)
    keys = [np.uint64(int(k) % 2**64) for k in key]
    words = s.lengths // 8
    v = np.stack([np.full(len(strings), c ^ keys[i % 2]) for i, c in enumerate(_SIP)])
    with np.errstate(over="ignore"):
        for i in range(int(words.max(initial=0))):
            rows = np.flatnonzero(words > i)
            v[:, rows] = _sip_word(list(v[:, rows]), s.word(s.starts[rows] + 8 * i))
        # The last word: what is left, and the length in its highest byte.
        left = _u64(s.lengths % 8)
        mask = (np.uint64(1) << (np.uint64(8) * left)) - np.uint64(1)
        last = (s.word(s.starts + 8 * words) & mask) | (_u64(s.lengths) << np.uint64(56))
        state = _sip_word(list(v), last)
        state[2] = state[2] ^ np.uint64(0xFF)
        for _ in range(4):
            state = _sip_round(state)
        return state[0] ^ state[1] ^ state[2] ^ state[3]


# -- crossing -------------------------------------------------------------------------------------


def joint_fingerprints(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a fingerprint for each pair of fingerprints.

    Args:
        first: uint64.
        second: uint64, of the same shape.

    >>> joint_fingerprints(np.uint64([1]), np.uint64([2])).dtype
    dtype('uint64')
    """
    with np.errstate(over="ignore"):
        x = (first ^ _CROSS ^ _mix(second * _CROSS) * _CROSS) * _CROSS
        return _mix(_mix(x) * _CROSS)
