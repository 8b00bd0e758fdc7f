"""Random numbers: equal on all backends, pinned, and as random as they should be."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import ops, random

NAMES = ("jax", "torch", "tensorflow", "numpy")
EXACT = {
    "uniform": lambda seed: random.uniform((7, 5), -2.0, 3.0, seed=seed),
    "randint": lambda seed: random.randint((40,), -3, 9, seed=seed),
    "bernoulli": lambda seed: random.bernoulli((40,), 0.3, seed=seed),
    "keep": lambda seed: random.keep_mask((3, 20), 0.25, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(30), seed=seed),
    "randint above 2^15": lambda seed: random.randint((40,), -(2**30), 2**30 + 5, seed=seed),
    "randint of all": lambda seed: random.randint((40,), -(2**31), 2**31 - 1, seed=seed),
    "randint of bytes": lambda seed: random.randint((40,), -128, 128, "int8", seed=seed),
    "randint unsigned": lambda seed: random.randint((40,), 2**31, 2**32, "uint32", seed=seed),
    "bfloat16": lambda seed: ops.cast(
        random.uniform((40,), dtype="bfloat16", seed=seed), "float32"
    ),
    "binomial": lambda seed: random.binomial(
        (4, 40), np.float32([[3], [90], [5000], [1e6]]), 0.37, seed=seed
    ),
    "categorical": lambda seed: random.categorical(np.zeros((3, 4), "float32"), 6, seed=seed),
}
ROUNDED = {
    "normal": lambda seed: random.normal((9, 5), 1.0, 2.0, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((9, 5), seed=seed),
    "gamma": lambda seed: random.gamma((4, 30), np.float32([[0.2], [1], [3], [80]]), seed=seed),
    "beta": lambda seed: random.beta((3, 30), np.float32([[0.2], [1], [9]]), 2.0, seed=seed),
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
                np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=2e-6)
    first, second, third = found["numpy"]
    assert not np.array_equal(second, third), "a generator counts on"
    assert not np.array_equal(first, second)


GOLDEN = {
    "uniform": [1.794961, 0.68779063, 1.6638317, -0.68059933],
    "randint": [-2, -2, 0, 8],
    "bernoulli": [1.0, 0.0, 1.0, 0.0],
    "keep": [True, True, True, True],
    "shuffle": [13, 10, 25, 9],
    "randint above 2^15": [1001668385, -956455738, 90121157, 59614879],
    "randint of all": [1112363179, 161311003, 999723815, -1014126945],
    "randint of bytes": [-43, 13, 19, -49],
    "randint unsigned": [3777407061, 3301880973, 3721087379, 2714161999],
    "bfloat16": [0.7578125, 0.5390625, 0.734375, 0.26367188],
    "binomial": [2.0, 1.0, 2.0, 1.0],
    "categorical": [0, 0, 3, 2],
    "normal": [2.0810494, 0.6322663, 2.0697227, -1.7825987],
    "truncated_normal": [0.6657295, 0.08998208, 0.5893164, -0.5988882],
    "gamma": [0.12026465, 0.004725756, 0.03425137, 0.054077134],
    "beta": [0.0015962108, 0.03341574, 0.0108127715, 0.020418517],
    "dropout": [1.6666666, 1.6666666, 1.6666666, 0.0],
}


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_draws_are_pinned(name):
    """The numbers of a seed never change from one version to the next."""
    with keras.use_backend("numpy"):
        drawn = np.asarray((EXACT | ROUNDED)[name](7)).ravel()[:4]
    np.testing.assert_allclose(drawn, GOLDEN[name], rtol=1e-6)


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


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_vmap_over_seeds_draws_for_each(name, backend):
    seeds = np.array([[1, 0], [1, 1], [2, 0]], "int32")
    draw = getattr(random, name)
    together = keras.vmap(lambda seed: draw((3,), seed=seed))(seeds)
    each = [ops.convert_to_numpy(draw((3,), seed=ops.convert_to_tensor(s))) for s in seeds]
    np.testing.assert_allclose(ops.convert_to_numpy(together), each, rtol=1e-6)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="minval must be < maxval"):
        random.randint((2,), 3, 3)
    with pytest.raises(ValueError, match="at most 2"):
        random.randint((2,), 0, 2**32 + 1, "int64")
    with pytest.raises(ValueError, match="int8 does not hold"):
        random.randint((2,), 0, 129, "int8")
    with pytest.raises(ValueError, match="must be an integer one"):
        random.randint((2,), 0, 2, "float32")
    with pytest.raises(ValueError, match="dtype must be a float one"):
        random.uniform((2,), dtype="int32")
    with pytest.raises(ValueError, match="non-negative int"):
        random.SeedGenerator(-1)


@pytest.mark.parametrize("name", ["gamma", "beta", "binomial", "randint above 2^15"])
def test_rejection_is_the_same_compiled(name, backend):
    draw = (EXACT | ROUNDED)[name]
    plain = ops.convert_to_numpy(draw(3))
    compiled = ops.convert_to_numpy(keras.jit(lambda x: draw(3))(ops.ones(())))
    np.testing.assert_allclose(compiled, plain, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_upper_end_is_never_drawn(dtype, backend):
    for low, high in ((0.0, 1.0), (-2.0, 3.0), (1.0, 1.1)):
        drawn = random.uniform((5000,), low, high, dtype=dtype, seed=1)
        assert keras.dtypes.standardize(drawn.dtype) in (dtype, "float32")
        values = ops.convert_to_numpy(ops.cast(drawn, "float32"))
        top = np.float32(keras.dtypes.to_numpy(dtype).type(high))
        assert low - 0.01 <= values.min() <= values.max() < top
