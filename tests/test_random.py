"""Random numbers: equal on all backends, pinned, and as random as they should be."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import ops, random
from keraslite.backend.counter import hashed, keys

NAMES = ("jax", "torch", "tensorflow", "numpy")
EXACT = {
    "uniform": lambda seed: random.uniform((7, 5), -2.0, 3.0, seed=seed),
    "randint": lambda seed: random.randint((40,), -3, 9, seed=seed),
    "bernoulli": lambda seed: random.bernoulli((40,), 0.3, seed=seed),
    "keep": lambda seed: random.keep_mask((3, 20), 0.25, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(30), seed=seed),
    "categorical": lambda seed: random.categorical(np.zeros((3, 4), "float32"), 6, seed=seed),
}
ROUNDED = {
    "normal": lambda seed: random.normal((9, 5), 1.0, 2.0, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((9, 5), seed=seed),
    "dropout": lambda seed: random.dropout(np.ones((9, 5), "float32"), 0.4, seed=seed),
}


def everywhere(draw):
    found = {}
    for name in NAMES:
        with keras.use_backend(name):
            generator = random.SeedGenerator(11)
            found[name] = [ops.convert_to_numpy(draw(s)) for s in (5, generator, generator)]
    return found


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_draws_are_equal_on_all_backends(name):
    found = everywhere((EXACT | ROUNDED)[name])
    for other in NAMES[:3]:
        for ours, reference in zip(found[other], found["numpy"], strict=True):
            assert ours.shape == reference.shape
            if name in EXACT:
                np.testing.assert_array_equal(ours, reference)
            else:
                np.testing.assert_allclose(ours, reference, rtol=2e-6, atol=2e-6)
    first, second, third = found["numpy"]
    assert not np.array_equal(second, third), "a generator counts on"
    assert not np.array_equal(first, second)


def test_draws_are_pinned():
    """The numbers of a seed never change from one version to the next."""
    with keras.use_backend("numpy"):
        bits, _ = random._bits(1234, 6, 31)
        ints = random.randint((6,), 0, 1000, seed=random.SeedGenerator(42))
    assert bits.tolist() == PINNED_BITS
    assert ints.tolist() == PINNED_INTS


PINNED_BITS = [456415394, 38464740, 195695480, 2120638285, 1516582777, 1432596860]
PINNED_INTS = [646, 768, 765, 139, 601, 929]


def test_the_state_of_a_generator_is_a_variable(backend):
    generator = random.SeedGenerator(3)
    random.uniform((2,), seed=generator)
    np.testing.assert_array_equal(generator.state.numpy(), [3, 1])
    again = random.SeedGenerator.from_config(generator.get_config())
    np.testing.assert_array_equal(again.state.numpy(), [3, 0])


def test_draws_are_the_same_compiled(backend):
    generator = random.SeedGenerator(3)
    draw = keras.jit(lambda: random.uniform((5,), seed=generator), variables=[generator.state])
    first, second = (ops.convert_to_numpy(draw()) for _ in range(2))
    plain = random.SeedGenerator(3)
    np.testing.assert_array_equal(first, ops.convert_to_numpy(random.uniform((5,), seed=plain)))
    np.testing.assert_array_equal(second, ops.convert_to_numpy(random.uniform((5,), seed=plain)))


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


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="minval < maxval"):
        random.randint((2,), 3, 3)
    with pytest.raises(ValueError, match="float dtype"):
        random.uniform((2,), dtype="int32")
    with pytest.raises(ValueError, match="non-negative int"):
        random.SeedGenerator(-1)
