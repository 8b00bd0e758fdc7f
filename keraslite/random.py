"""Random numbers from a counter: the same on every backend.

A draw depends on (seed, counter, position) alone. Each position is hashed by two different 32-bit
integer mixers under two keys and the results are added; one mixer alone would be a permutation,
whose draws never repeat. Bits, uniform numbers, masks and permutations are bit-equal everywhere,
normal numbers to rounding.
"""

import math
import random as python_random
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.backend.counter import signed
from keraslite.ops import nn as ops_nn  # noqa: F401 - loads the table of ops
from keraslite.ops import numpy as knp
from keraslite.ops.core import cast
from keraslite.variable import Variable


def make_default_seed() -> int:
    """A seed from Python's own generator, which `utils.set_random_seed` fixes."""
    return python_random.randint(1, 10**9)


class SeedGenerator:
    """A stream of seeds: each `next()` gives a new one and counts on.

    Args:
        seed: an int, or None to draw one.
        name: a name for its state.

    >>> SeedGenerator(7).next().shape[0]
    2
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        if kwargs:
            raise ValueError(f"SeedGenerator does not know {sorted(kwargs)}.")
        if seed is None:
            seed = make_default_seed()
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"A seed is a non-negative int, got {seed!r}.")
        self.name, self._initial_seed = name or "seed_generator", int(seed)
        state = np.array([signed(self._initial_seed), 0], np.int32)
        self.state = Variable(
            state, dtype="int32", trainable=False, autocast=False, name="seed_generator_state"
        )

    def next(self, ordered: bool = True) -> Any:
        """The next seed: an int32 tensor of (seed, counter)."""
        seed = self.state.value
        module = backends.load(self.state.backend)
        following = seed + module.convert([0, 1], "int32")
        if not module.FUNCTIONAL:
            seed = module.copy(seed)  # the state is about to be written in place
        self.state.assign(following)
        return seed

    def get_config(self) -> dict[str, Any]:
        """The generator's config."""
        return {"seed": self._initial_seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SeedGenerator":
        """The generator of a config."""
        return cls(**config)


_globals: dict[str, SeedGenerator] = {}
_INTEGERS, _PAIRS = (int, np.integer), (list, tuple, np.ndarray)  # Dynamo traces no `int | np...`


def global_seed_generator() -> SeedGenerator:
    """The generator of the current backend that functions use when they are given no seed."""
    name = backends.backend()
    if name not in _globals:
        _globals[name] = SeedGenerator()
    return _globals[name]


def forget_global_seed_generators() -> None:
    """Start new global generators at the next draw."""
    _globals.clear()


def draw_seed(seed: Any) -> Any:
    """(seed, counter) from an int, a SeedGenerator, a tensor of two, or None (the global one)."""
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if seed is None:
        return global_seed_generator().next()
    if isinstance(seed, _INTEGERS):
        return (signed(int(seed)), 0)
    if isinstance(seed, _PAIRS):
        return (signed(int(seed[0])), signed(int(seed[1])))
    return seed


def _bits(seed: Any, count: int, high: int) -> tuple[Any, Any]:
    """The `high` top bits of `count` draws as int32, and the backend's module."""
    seed = draw_seed(seed)
    module = backends.load(backends.of(seed) or backends.backend())
    return module.random_bits(seed, count, high), module


def _count(shape: Any) -> Any:
    """The number of elements; a scalar tensor where a graph does not know a size."""
    return math.prod(shape)


def _float(dtype: Any) -> str:
    name = dtypes.standardize(dtype)
    if not dtypes.is_float(name):
        raise ValueError(f"A float dtype is needed here, got {name!r}.")
    return name


def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Uniform numbers from [minval, maxval).

    >>> uniform((2, 3), seed=1).shape[1]
    3
    """
    name = _float(dtype)
    bits, module = _bits(seed, _count(shape), 24)
    unit = module.cast(bits, "float32") * np.float32(2.0**-24)
    out = cast(unit * np.float32(maxval - minval) + np.float32(minval), name)
    return knp.reshape(out, tuple(shape))


def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Normal numbers, by the Box-Muller transform of pairs of uniform ones.

    >>> normal((2, 3), seed=1).shape[0]
    2
    """
    name = _float(dtype)
    count = _count(shape)
    half = (count + 1) // 2
    bits, module = _bits(seed, 2 * half, 24)
    unit = module.cast(bits, "float32")
    first = (unit[:half] + np.float32(0.5)) * np.float32(2.0**-24)
    angle = unit[half:] * np.float32(2.0**-24 * 2 * np.pi)
    radius = knp.sqrt(knp.log(first) * np.float32(-2.0))
    out = knp.concatenate([radius * knp.cos(angle), radius * knp.sin(angle)])[:count]
    return knp.reshape(cast(out * np.float32(stddev) + np.float32(mean), name), tuple(shape))


def truncated_normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> Any:
    """Normal numbers within two standard deviations of the mean.

    >>> bool(abs(float(truncated_normal((1,), seed=1)[0])) <= 2)
    True
    """
    from keraslite.ops.math import erfinv

    name = _float(dtype)
    bits, module = _bits(seed, _count(shape), 24)
    unit = (module.cast(bits, "float32") + np.float32(0.5)) * np.float32(2.0**-24)
    edge = np.float32(0.9544997361036416)  # erf(2 / sqrt 2)
    out = erfinv(unit * (2 * edge) - edge) * np.float32(np.sqrt(2.0))
    out = cast(knp.clip(out, -2.0, 2.0) * np.float32(stddev) + np.float32(mean), name)
    return knp.reshape(out, tuple(shape))


def randint(shape: Any, minval: int, maxval: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Integers from [minval, maxval), from 31 bits each.

    >>> int(randint((), 3, 4, seed=1))
    3
    """
    if maxval <= minval:
        raise ValueError(f"randint needs minval < maxval, got {minval} and {maxval}.")
    if not dtypes.is_int(dtypes.standardize(dtype)):
        raise ValueError(f"randint gives integers, got dtype={dtype!r}.")
    bits, _ = _bits(seed, _count(shape), 31)
    return knp.reshape(cast(knp.mod(bits, int(maxval - minval)) + int(minval), dtype), tuple(shape))


def keep_mask(shape: Any, rate: float, seed: Any = None) -> Any:
    """Booleans that are False with probability `rate`, compared as integers."""
    bits, module = _bits(seed, _count(shape), 24)
    threshold = module.convert(round(rate * (1 << 24)), "int32")
    return knp.reshape(bits >= threshold, tuple(shape))


def bernoulli(shape: Any, p: float = 0.5, dtype: Any = None, seed: Any = None) -> Any:
    """Ones with probability p, else zeros.

    >>> float(bernoulli((), 1.0, seed=1))
    1.0
    """
    return cast(keep_mask(shape, 1.0 - p, seed), dtypes.standardize(dtype))


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """Set a random part of the inputs to zero and scale the rest up.

    Args:
        inputs: a float tensor.
        rate: the part that becomes zero, from [0, 1].
        noise_shape: the shape of the mask, which is broadcast; None for the inputs' own.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> dropout(uniform((4,), seed=1), 0.0, seed=1).shape[0]
    4
    """
    from keraslite.ops.core import shape as shape_of

    if rate >= 1.0:
        return knp.zeros_like(inputs)
    full = shape_of(inputs)
    mask_shape = (
        full
        if noise_shape is None
        else tuple(f if n is None else n for n, f in zip(noise_shape, full, strict=True))
    )
    mask = keep_mask(mask_shape, rate, seed)
    return knp.where(mask, inputs * (1.0 / (1.0 - rate)), knp.zeros_like(inputs))


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """Reorder along an axis.

    >>> shuffle([[1, 2]], seed=1).shape[1]
    2
    """
    size = x.shape[axis] if hasattr(x, "shape") else np.shape(x)[axis]
    bits, _ = _bits(seed, int(size), 31)
    return knp.take(x, knp.argsort(bits), axis=axis)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """Draw class numbers from unnormalised log-probabilities, by the Gumbel trick.

    Args:
        logits: shape (batch, classes).
        num_samples: draws a row.

    >>> categorical([[0.0, -1e9]], 2, seed=1).shape[1]
    2
    """
    from keraslite.ops.core import convert_to_tensor

    logits = convert_to_tensor(logits)
    rows, classes = logits.shape
    unit = uniform((rows, num_samples, classes), seed=seed)
    gumbel = -knp.log(-knp.log(unit + np.float32(2.0**-25)))
    scores = knp.expand_dims(cast(logits, "float32"), 1) + gumbel
    return cast(knp.argmax(scores, axis=-1), dtype)
