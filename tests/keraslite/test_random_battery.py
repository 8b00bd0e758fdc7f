"""A statistical battery over the counter-based generator: more than 10^7 draws a test or two."""

import math

import numpy as np
import pytest
from scipy import stats

import keraslite as keras
from keraslite import random
from keraslite.backend.counter import hashed, keys

MANY = 10_000_000
# A test fails by chance once in a million runs; the seeds are fixed, so a failure is no chance.
UNLIKELY = 1e-6


def stream(seed, counter, count):
    with np.errstate(over="ignore"):
        return hashed(np.arange(count, dtype=np.uint32), *keys(np.uint32(seed), np.uint32(counter)))


def test_every_bit_is_balanced():
    bits = stream(1, 0, 1 << 20)
    ones = np.array([np.count_nonzero(bits >> np.uint32(i) & np.uint32(1)) for i in range(32)])
    deviation = (ones - bits.size / 2) / np.sqrt(bits.size / 4)
    assert np.abs(deviation).max() < 4.5


def test_neighbouring_draws_seeds_and_counters_are_unrelated():
    count = 1 << 18
    base = stream(7, 3, count) / 2**32 - 0.5
    others = {
        "the next draw": np.roll(base, 1), "two on": np.roll(base, 2),
        "seed + 1": stream(8, 3, count) / 2**32 - 0.5,
        "counter + 1": stream(7, 4, count) / 2**32 - 0.5,
        "seed and counter swapped": stream(3, 7, count) / 2**32 - 0.5,
    }  # fmt: skip
    for name, other in others.items():
        correlation = np.mean(base * other) * 12 * np.sqrt(count)
        assert abs(correlation) < 5, name


def test_draws_fill_cells_evenly_and_repeat_as_chance_has_it():
    bits = stream(9, 1, 1 << 20)
    for shift in (0, 8, 16, 24):
        cells = np.bincount((bits >> np.uint32(shift) & np.uint32(255)).astype(int), minlength=256)
        chi = ((cells - 4096.0) ** 2 / 4096).sum()
        assert 150 < chi < 380, shift
    repeats = bits.size - len(np.unique(bits))  # a permutation would have none
    expected = bits.size**2 / 2**33
    assert abs(repeats - expected) < 6 * np.sqrt(expected)


@pytest.fixture(scope="module")
def bits():
    return stream(12345, 6, MANY)


def assert_likely(p, what):
    assert p > UNLIKELY, f"{what}: p = {p}"


def chi_squared(counts, expected=None):
    expected = np.full(counts.shape, counts.sum() / counts.size) if expected is None else expected
    return stats.chi2(counts.size - 1).sf(((counts - expected) ** 2 / expected).sum())


def test_uniformity_of_every_byte(bits):
    for shift in (0, 8, 16, 24):
        cells = np.bincount((bits >> np.uint32(shift)).astype(np.uint8), minlength=256)
        assert_likely(chi_squared(cells), f"byte {shift // 8}")
    assert_likely(chi_squared(np.bincount(bits >> np.uint32(12), minlength=1 << 20)), "20 bits")


def test_serial_correlation(bits):
    unit = bits / 2**32 - 0.5
    for lag in (1, 2, 3, 7, 16, 64, 1000, 4096, 1 << 20):
        z = np.mean(unit[:-lag] * unit[lag:]) * 12 * math.sqrt(MANY - lag)
        assert_likely(2 * stats.norm.sf(abs(z)), f"lag {lag}")


def test_pairs_fill_the_square(bits):
    high = (bits >> np.uint32(23)).astype(np.int64)
    cells = np.bincount(high[::2] * 512 + high[1::2], minlength=512 * 512)
    assert_likely(chi_squared(cells), "pairs")


def test_bits_are_balanced_and_unrelated(bits):
    planes = [(bits >> np.uint32(i) & np.uint32(1)).astype(np.float32) * 2 - 1 for i in range(32)]
    for i, plane in enumerate(planes):
        z = float(plane.sum(dtype="float64")) / math.sqrt(MANY)
        assert_likely(2 * stats.norm.sf(abs(z)), f"bit {i}")
        z = float(np.dot(plane, planes[(i + 1) % 32])) / math.sqrt(MANY)
        assert_likely(2 * stats.norm.sf(abs(z)), f"bits {i} and {i + 1}")


def test_runs_about_the_median(bits):
    above = bits >= np.uint32(1 << 31)
    n, count = MANY, int(above.sum())
    mean = 1 + 2 * count * (n - count) / n
    spread = math.sqrt((mean - 1) * (mean - 2) / (n - 1))
    runs = 1 + int(np.count_nonzero(above[1:] != above[:-1]))
    assert_likely(2 * stats.norm.sf(abs(runs - mean) / spread), "runs")


def test_birthday_spacings(bits):
    """4,096 birthdays in a year of 2^32 days: equal spacings are a Poisson number of mean 4."""
    rounds, birthdays = 2441, 4096
    days = np.sort(bits[: rounds * birthdays].reshape(rounds, birthdays).astype(np.int64), axis=1)
    spacings = np.sort(np.diff(days, axis=1), axis=1)
    equal = int(np.count_nonzero(np.diff(spacings, axis=1) == 0))
    expected = rounds * birthdays**3 / 2**34
    assert_likely(2 * stats.norm.sf(abs(equal - expected) / math.sqrt(expected)), "spacings")


def test_a_flipped_bit_changes_half_of_the_result():
    count = 1 << 16
    base = {"position": np.arange(count, dtype=np.uint32), "seed": 3, "counter": 5}

    def draw(position, seed, counter):
        with np.errstate(over="ignore"):
            seed, counter = np.asarray(seed, np.uint32), np.asarray(counter, np.uint32)
            return hashed(position, *keys(seed, counter))

    for what in base:
        for bit in range(32):
            other = base | {what: base[what] ^ (1 << bit)}
            if what == "position":
                other[what] = base[what] ^ np.uint32(1 << bit)
            flips = draw(**base) ^ draw(**other)
            share = np.unpackbits(flips.view(np.uint8)).mean()
            assert abs(share - 0.5) < 0.005, (what, bit)


def test_adjacent_seeds_and_counters_are_unrelated():
    """The first draws of many seeds, and of many counters, are as random as a stream's."""
    count = 1 << 20
    with np.errstate(over="ignore"):
        many = np.arange(count, dtype=np.uint32)
        streams = {
            "seeds": hashed(np.uint32(0), *keys(many, np.uint32(0))),
            "counters": hashed(np.uint32(0), *keys(np.uint32(7), many)),
        }
    for name, first in streams.items():
        unit = first / 2**32 - 0.5
        z = np.mean(unit[1:] * unit[:-1]) * 12 * math.sqrt(count)
        assert_likely(2 * stats.norm.sf(abs(z)), name)
        assert_likely(chi_squared(np.bincount(first >> np.uint32(24), minlength=256)), name)
        assert_likely(chi_squared(np.bincount(first & np.uint32(255), minlength=256)), name)


@pytest.mark.parametrize(
    ("name", "draw", "law"),
    [
        ("uniform", lambda n: random.uniform((n,), -1.0, 3.0, seed=1), stats.uniform(-1, 4)),
        ("normal", lambda n: random.normal((n,), 2.0, 3.0, seed=2), stats.norm(2, 3)),
        ("truncated", lambda n: random.truncated_normal((n,), seed=3), stats.truncnorm(-2, 2)),
        *((f"gamma {a}", lambda n, a=a: random.gamma((n,), a, seed=4), stats.gamma(a))
          for a in (0.3, 1.0, 2.5, 60.0, 1e4)),
        *((f"beta {a} {b}", lambda n, a=a, b=b: random.beta((n,), a, b, seed=5), stats.beta(a, b))
          for a, b in ((0.5, 0.5), (2.0, 3.0), (40.0, 1.5))),
    ],
)  # fmt: skip
def test_continuous_laws(name, draw, law):
    with keras.use_backend("numpy"):
        drawn = np.asarray(draw(300_000), "float64")
    assert_likely(stats.kstest(drawn, law.cdf).pvalue, name)


@pytest.mark.parametrize(
    ("n", "p"),
    [(1, 0.3), (5, 0.5), (10, 0.9), (40, 0.2), (40, 0.25), (100, 0.5), (1000, 0.003), (1000, 0.7),
     (10**5, 0.37), (10**7, 0.5), (10**7, 1e-6)],
)  # fmt: skip
def test_binomial(n, p):
    with keras.use_backend("numpy"):
        drawn = np.asarray(random.binomial((300_000,), n, p, seed=6))
    law = stats.binom(n, p)
    edges = np.unique(law.ppf(np.linspace(0.001, 0.999, 25)))
    expected = np.diff([0.0, *law.cdf(edges), 1.0]) * drawn.size
    counts = np.diff([0, *(np.count_nonzero(drawn <= e) for e in edges), drawn.size])
    enough = expected > 5
    assert_likely(chi_squared(counts[enough], expected[enough]), (n, p))


def test_integers_over_a_wide_range():
    """Of 3 * 2^29 numbers the remainder of 2^31 draws would make the first half twice as likely."""
    with keras.use_backend("numpy"):
        drawn = np.asarray(random.randint((1_000_000,), 0, 3 * 2**29, seed=7))
    assert_likely(chi_squared(np.bincount(drawn >> 27, minlength=12)), "cells")
