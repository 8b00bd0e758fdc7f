"""Random numbers from a counter: the same on every backend.

A draw depends on (seed, counter, position) alone. Each position is hashed by two different 32-bit
integer mixers under two keys and the results are added; one mixer alone would be a permutation,
whose draws never repeat. Bits, uniform numbers, masks and permutations are bit-equal everywhere,
normal numbers to rounding.
"""

import math
import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtypes
from keraslite.backend.counter import signed
from keraslite.naming import name_scope
from keraslite.ops import nn as ops_nn  # noqa: F401 - loads the table of ops
from keraslite.ops import noise
from keraslite.ops import numpy as knp
from keraslite.ops.core import cast
from keraslite.scopes import scopes
from keraslite.typing import DType, Shape, Tensor
from keraslite.variable import Variable


def make_default_seed() -> int:
    """A seed from Python's own generator, which `utils.set_random_seed` fixes."""
    return (scopes.seeds or python_random).randint(1, 10**9)


@contextmanager
def default_seeds(seed: int | None) -> Iterator[None]:
    """A block whose default seeds follow from a seed: of initializers, dropout, orders of rows.

    Args:
        seed: the seed; None changes nothing.

    >>> def draw():
    ...     with default_seeds(1):
    ...         return make_default_seed(), make_default_seed()
    >>> draw() == draw()
    True
    """
    outer = scopes.seeds
    scopes.seeds = outer if seed is None else python_random.Random(seed)
    try:
        yield
    finally:
        scopes.seeds = outer


class SeedGenerator:
    """A stream of seeds: each `next()` returns a new one.

    Args:
        seed: an int, or None to draw one.
        name: a name for its state.

    >>> SeedGenerator(7).next().shape[0]
    2
    """

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        if kwargs:
            raise ValueError(f"SeedGenerator: unexpected arguments, got {sorted(kwargs)}.")
        if seed is None:
            seed = make_default_seed()
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed must be a non-negative int, got {seed!r}.")
        self.name, self._initial_seed = name or "seed_generator", int(seed)
        state = np.array([signed(self._initial_seed), 0], np.int32)
        with name_scope(self.name):
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


GLOBAL_GENERATORS: dict[str, SeedGenerator] = {}  # by backend, once they were drawn from


def global_seed_generator() -> SeedGenerator:
    """The generator of the current backend that functions use when they are given no seed."""
    name = backends.backend()
    if name not in GLOBAL_GENERATORS:
        GLOBAL_GENERATORS[name] = SeedGenerator()
    return GLOBAL_GENERATORS[name]


def forget_global_seed_generators() -> None:
    """Start new global generators at the next draw."""
    GLOBAL_GENERATORS.clear()


noise.GLOBAL.append(lambda: global_seed_generator().next())


def _bits(seed: Any, count: int, high: int) -> tuple[Any, Any]:
    """The `high` top bits of `count` draws as int32, and the backend's module."""
    seed = noise.seed_pair(seed)
    module = backends.module_of(seed)
    return module.random_bits(seed, count, high), module


def _count(shape: Any) -> Any:
    """The number of elements; a scalar tensor where a graph does not know a size."""
    return math.prod(shape)


def _float(dtype: Any) -> str:
    name = dtypes.standardize(dtype)
    if not dtypes.is_float(name):
        raise ValueError(f"dtype must be a float one, got {name!r}.")
    return name


def _below(maxval: float, minval: float, name: str) -> float:
    """The largest number of a dtype below maxval, which rounding might give."""
    number_type = dtypes.to_numpy(name)
    return float(np.nextafter(number_type.type(maxval), number_type.type(minval)))


def uniform(
    shape: Shape,
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: DType | None = None,
    seed: Any = None,
) -> Tensor:
    """Uniform numbers from [minval, maxval).

    >>> uniform((2, 3), seed=1).shape[1]
    3
    """
    name = _float(dtype)
    bits, module = _bits(seed, _count(shape), 24)
    unit = module.cast(bits, "float32") * np.float32(2.0**-24)
    out = cast(unit * np.float32(maxval - minval) + np.float32(minval), name)
    if isinstance(minval, int | float) and isinstance(maxval, int | float) and minval < maxval:
        out = knp.minimum(out, _below(maxval, minval, name))
    return knp.reshape(out, tuple(shape))


def normal(
    shape: Shape,
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: DType | None = None,
    seed: Any = None,
) -> Tensor:
    """Normal numbers, by the Box-Muller transform of pairs of uniform ones.

    >>> normal((2, 3), seed=1).shape[0]
    2
    """
    name = _float(dtype)
    count = _count(shape)
    bits, module = _bits(seed, count + count % 2, 24)
    out = noise.box_muller(module.cast(bits, "float32"))[:count]
    return knp.reshape(cast(out * np.float32(stddev) + np.float32(mean), name), tuple(shape))


def truncated_normal(
    shape: Shape,
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: DType | None = None,
    seed: Any = None,
) -> Tensor:
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


def randint(
    shape: Shape, minval: int, maxval: int, dtype: DType = "int32", seed: Any = None
) -> Tensor:
    """Integers from [minval, maxval), each as likely as the others to 1 part in 65,000.

    Args:
        shape: the shape.
        minval: the smallest, an int.
        maxval: one more than the largest, at most `minval + 2 ** 32`.
        dtype: an integer dtype that holds them.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> int(randint((), 3, 4, seed=1))
    3
    """
    name, minval, maxval = dtypes.standardize(dtype), int(minval), int(maxval)
    if not dtypes.is_int(name):
        raise ValueError(f"randint: dtype must be an integer one, got {dtype!r}.")
    if not 0 < maxval - minval <= 2**32:
        raise ValueError(
            f"randint: minval must be < maxval, by at most 2 ** 32, got {minval} and {maxval}."
        )
    count, size = _count(shape), maxval - minval
    high = 31 if size <= 2**31 else 32
    # What is left of 2^high after whole multiples of the size would be likelier: it is drawn again.
    left = 2**high % size
    tries = 1 if size <= 2**15 or not left else math.ceil(32 / (high - math.log2(left)))
    bits, module = _bits(seed, tries * count, high)
    name = module.canonical(name)
    info = np.iinfo(name)
    if minval < info.min or maxval - 1 > info.max:
        raise ValueError(f"{name} does not hold all of [{minval}, {maxval}).")
    if tries > 1:
        # 32 bits come as int32: with the sign turned over they compare as unsigned ones do.
        sign, last = (0, 2**31 - left - 1) if high == 31 else (-(2**31), 2**31 - left - 1)
        bits = _first_accepted(knp.reshape(bits, (tries, count)), lambda x: x + sign <= last)
    value = knp.mod(bits, size) if size < 2**31 else bits
    # Sums of int32 wrap around, so it is wide enough for every type of 32 bits.
    if info.bits > 32:
        value = cast(value, name)
        value = knp.where(value < 0, value + 2**32, value) + minval
    else:
        value = cast(value + signed(minval), name)
    return knp.reshape(value, tuple(shape))


def _first_accepted(candidates: Any, accepts: Any) -> Any:
    """Of each column of candidates the first that is accepted; the first of all if none is."""
    chosen = knp.argmax(cast(accepts(candidates), "int32"), axis=0)
    return knp.take_along_axis(candidates, knp.expand_dims(chosen, 0), axis=0)[0]


def keep_mask(shape: Shape, rate: float, seed: Any = None) -> Tensor:
    """Booleans that are False with probability `rate`, compared as integers."""
    bits, module = _bits(seed, _count(shape), 24)
    threshold = module.convert(round(rate * (1 << 24)), "int32")
    return knp.reshape(bits >= threshold, tuple(shape))


def bernoulli(shape: Shape, p: float = 0.5, dtype: DType | None = None, seed: Any = None) -> Tensor:
    """Ones with probability p, else zeros.

    >>> float(bernoulli((), 1.0, seed=1))
    1.0
    """
    return cast(keep_mask(shape, 1.0 - p, seed), dtypes.standardize(dtype))


def dropout(
    inputs: Tensor, rate: float, noise_shape: Shape | None = None, seed: Any = None
) -> Tensor:
    """Set a random part of the inputs to zero and scale up the rest.

    Args:
        inputs: a float tensor.
        rate: the part that becomes zero, from [0, 1].
        noise_shape: the shape of the mask, which is broadcast; None for the inputs' own.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> dropout(uniform((4,), seed=1), 0.0, seed=1).shape[0]
    4
    """
    from keraslite.ops.core import dtype as dtype_of
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
    return knp.multiply(inputs, cast(mask, dtype_of(inputs))) * (1.0 / (1.0 - rate))


_TRIES = 8  # a candidate is refused with a probability below 0.05: eight in a row, below 4e-11


def _log_gamma(shape: tuple, alpha: Any, seed: Any) -> Any:
    """Logarithms of gamma draws of unit scale, flat (Marsaglia and Tsang, 2000).

    Every draw has a fixed number of candidates, so that it can be compiled; below a shape of 1 the
    draw for alpha + 1 is multiplied by the power 1 / alpha of a uniform number.
    """
    count = _count(shape)
    bits, module = _bits(seed, (2 * _TRIES + 1) * count, 24)
    unit = module.cast(bits, "float32")
    normals = knp.reshape(noise.box_muller(unit[: _TRIES * count]), (_TRIES, count))
    unit = (unit[_TRIES * count :] + np.float32(0.5)) * np.float32(2.0**-24)
    logs = knp.log(unit)
    tried, boost = knp.reshape(logs[: _TRIES * count], (_TRIES, count)), logs[_TRIES * count :]
    alpha = knp.reshape(knp.broadcast_to(cast(alpha, "float32"), shape), (-1,))
    small = alpha < 1.0
    d = knp.where(small, alpha + 1.0, alpha) - np.float32(1 / 3)
    cube = 1.0 + normals / knp.sqrt(9.0 * d)
    inside = cube > 0.0
    v = knp.where(inside, cube, 1.0)
    log_v = 3.0 * knp.log(v)
    accepted = tried < 0.5 * normals * normals + d * (1.0 - v * v * v + log_v)
    chosen = _first_accepted(
        knp.where(knp.logical_and(inside, accepted), log_v, np.float32(np.inf)), knp.isfinite
    )
    chosen = knp.where(knp.isfinite(chosen), chosen, 0.0)
    return knp.log(d) + chosen + knp.where(small, boost / knp.where(small, alpha, 1.0), 0.0)


def gamma(shape: Shape, alpha: Any, dtype: DType | None = None, seed: Any = None) -> Tensor:
    """Gamma numbers of unit scale; equal on all backends to rounding.

    Rounding may also, about once in 10^7 draws, decide for another candidate on another backend.

    Args:
        shape: the shape.
        alpha: the shape parameters, positive; broadcast to `shape`.
        dtype: a float dtype.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> float(gamma((), 3.0, seed=1)) > 0
    True
    """
    name, shape = _float(dtype), tuple(shape)
    return knp.reshape(cast(knp.exp(_log_gamma(shape, alpha, seed)), name), shape)


def beta(
    shape: Shape, alpha: Any, beta: Any, dtype: DType | None = None, seed: Any = None
) -> Tensor:
    """Beta numbers: the share of the first of two gamma numbers; equal on all backends as `gamma`.

    Args:
        shape: the shape.
        alpha: the first parameters, positive; broadcast to `shape`.
        beta: the second ones, likewise.
        dtype: a float dtype.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> 0 <= float(beta((), 2.0, 3.0, seed=1)) <= 1
    True
    """
    name, shape = _float(dtype), tuple(shape)
    # One draw of twice the size: both come from one seed.
    both = knp.stack([knp.broadcast_to(cast(x, "float32"), shape) for x in (alpha, beta)])
    first, second = knp.split(_log_gamma((2, *shape), both, seed), 2)
    return knp.reshape(cast(1.0 / (1.0 + knp.exp(second - first)), name), shape)


_STEPS = 64  # of the search for few successes: for a mean below 10, more have a chance of 1e-30


def binomial(
    shape: Shape, counts: Any, probabilities: Any, dtype: DType | None = None, seed: Any = None
) -> Tensor:
    """Draw binomial numbers: the successes in `counts` trials; equal on all backends as `gamma`.

    Below a mean of 10 the distribution is searched from 0 on, else candidates are accepted by
    transformed rejection (Hoermann, 1993, algorithm BTRS).

    Args:
        shape: the shape.
        counts: the numbers of trials, at most 2 ** 24; broadcast to `shape`.
        probabilities: of a success, from [0, 1]; broadcast likewise.
        dtype: a float dtype.
        seed: an int, a SeedGenerator or a seed tensor.

    >>> float(binomial((), 5, 1.0, seed=1))
    5.0
    """
    name, shape = _float(dtype), tuple(shape)
    count = _count(shape)
    bits, module = _bits(seed, (2 * _TRIES + 1) * count, 24)
    unit = (module.cast(bits, "float32") + np.float32(0.5)) * np.float32(2.0**-24)
    n, p = (
        knp.reshape(knp.broadcast_to(cast(x, "float32"), shape), (-1,))
        for x in (counts, probabilities)
    )
    flipped = p > 0.5
    p = knp.where(flipped, 1.0 - p, p)
    few = n * p < 10.0
    # Where the other way is taken, the arguments are harmless ones.
    successes = knp.where(
        few,
        _searched(unit[:count], knp.where(few, n, 0.0), knp.where(few, p, 0.0)),
        _transformed(
            knp.reshape(unit[count:], (2, _TRIES, count)),
            knp.where(few, 100.0, n),
            knp.where(few, 0.5, p),
        ),
    )
    successes = knp.where(flipped, n - successes, successes)
    return knp.reshape(cast(successes, name), shape)


def _searched(unit: Any, n: Any, p: Any) -> Any:
    """The number of successes at which the distribution function passes `unit`."""
    odds = p / (1.0 - p)
    mass = knp.exp(n * knp.log1p(-p))
    rest, successes = unit, knp.zeros_like(unit)
    for k in range(_STEPS):
        rest = rest - mass
        successes = successes + cast(rest >= 0.0, "float32")
        mass = mass * (n - k) / (k + 1.0) * odds
    return knp.minimum(successes, n)


def _transformed(unit: Any, n: Any, p: Any) -> Any:
    """The first candidate that transformed rejection accepts, for means of at least 10."""
    spread = knp.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    mode = knp.floor((n + 1.0) * p)
    u, v = unit[0] - 0.5, unit[1]
    us = 0.5 - knp.abs(u)
    k = knp.floor((2.0 * a / us + b) * u + n * p + 0.5)
    inside = knp.logical_and(k >= 0.0, k <= n)
    k = knp.where(inside, k, mode)
    height = knp.log(v * (2.83 + 5.1 / b) * spread / (a / (us * us) + b))
    # log f(k) - log f(mode) in differences, which float32 holds for large n too.
    d = k - mode
    ahead = d * (knp.log(p / (1.0 - p)) - knp.log((mode + 1.0) / (n - mode + 1.0)))
    ahead = ahead - (k + 0.5) * knp.log1p(d / (mode + 1.0))
    ahead = ahead - (n - k + 0.5) * knp.log1p(-d / (n - mode + 1.0))
    ahead = ahead + _stirling(mode) + _stirling(n - mode) - _stirling(k) - _stirling(n - k)
    quick = knp.logical_and(us >= 0.07, v <= 0.92 - 4.2 / b)
    accepted = knp.logical_and(inside, knp.logical_or(quick, height <= ahead))
    chosen = _first_accepted(knp.where(accepted, k, -1.0), lambda x: x >= 0.0)
    return knp.where(chosen >= 0.0, chosen, mode)


def _stirling(k: Any) -> Any:
    """log(k!) less Stirling's formula for it around k + 1."""
    x = 1.0 / (k + 1.0)
    series = (1 / 12 - (1 / 360 - x * x / 1260) * x * x) * x
    return knp.where(k < 10.0, knp.take(_TAILS, cast(knp.minimum(k, 9.0), "int32")), series)


_TAILS = np.array(
    [
        math.lgamma(k + 1) - ((k + 0.5) * math.log(k + 1) - (k + 1) + 0.5 * math.log(2 * math.pi))
        for k in range(10)
    ],
    np.float32,
)


def shuffle(x: Tensor, axis: int = 0, seed: Any = None) -> Tensor:
    """Reorder along an axis.

    >>> shuffle([[1, 2]], seed=1).shape[1]
    2
    """
    size = x.shape[axis] if hasattr(x, "shape") else np.shape(x)[axis]
    bits, _ = _bits(seed, int(size), 31)
    return knp.take(x, knp.argsort(bits), axis=axis)


def categorical(logits: Any, num_samples: int, dtype: DType = "int32", seed: Any = None) -> Tensor:
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
