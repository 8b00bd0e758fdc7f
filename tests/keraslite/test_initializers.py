"""Initializers, regularizers and constraints against the installed Keras."""

import random as python_random

import keras
import numpy as np
import pytest

from keraslite import constraints, initializers, ops, regularizers, use_backend
from keraslite.variable import Variable

RANDOM = {
    "RandomNormal": [{}, {"mean": 1.0, "stddev": 2.0}],
    "TruncatedNormal": [{}, {"mean": 1.0, "stddev": 2.0}],
    "RandomUniform": [{}, {"minval": 1.0, "maxval": 3.0}],
    "VarianceScaling": [
        {},
        {"scale": 2.0, "mode": "fan_out", "distribution": "uniform"},
        {"scale": 2.0, "mode": "fan_avg", "distribution": "untruncated_normal"},
        {"input_axes": [0], "output_axes": [1, 2]},
    ],
    "GlorotUniform": [{}, {"input_axes": [0], "output_axes": [1, 2]}],
    "GlorotNormal": [{}],
    "LecunUniform": [{}],
    "LecunNormal": [{}],
    "HeUniform": [{}],
    "HeNormal": [{}],
    "Orthogonal": [{}, {"gain": 2.0}],
}
ROWS = [(name, arguments) for name, rows in RANDOM.items() for arguments in rows]


def numpy_of(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(("name", "arguments"), ROWS)
def test_random_initializers_have_keras_distributions(name, arguments):
    """The draws differ from Keras's, their moments and bounds do not."""
    shape = (40, 30, 20)
    ours = numpy_of(initializers.__dict__[name](**arguments, seed=1)(shape))
    theirs = np.asarray(keras.initializers.get(
        {"class_name": name, "config": {**arguments, "seed": 1}}
    )(shape))  # fmt: skip
    assert ours.shape == shape
    assert ours.dtype == np.float32
    scale = theirs.std()
    assert abs(ours.mean() - theirs.mean()) < 0.03 * scale
    assert abs(ours.std() / scale - 1) < 0.03
    unbounded = ("RandomNormal", "Orthogonal", "untruncated_normal")
    if name not in unbounded and arguments.get("distribution") not in unbounded:
        assert abs(ours.max() / theirs.max() - 1) < 0.03


@pytest.mark.parametrize(("name", "arguments"), ROWS)
def test_configs_equal_keras(name, arguments):
    for seed in (None, 3):
        ours = initializers.__dict__[name](**arguments, seed=seed)
        theirs = getattr(keras.initializers, name)(**arguments, seed=seed)
        assert ours.get_config() == theirs.get_config()
    again = initializers.deserialize(initializers.serialize(ours))
    assert again.get_config() == ours.get_config()
    np.testing.assert_array_equal(numpy_of(again((3, 4, 5))), numpy_of(ours((3, 4, 5))))
    assert type(initializers.get(keras.initializers.serialize(theirs))) is type(ours)


def test_values_do_not_depend_on_the_backend(backend):
    for name, arguments in ROWS:
        made = initializers.__dict__[name](**arguments, seed=7)
        with use_backend("numpy"):
            expected = numpy_of(made((4, 3, 6)))
        tolerance = 1e-4 if name == "Orthogonal" else 1e-6
        np.testing.assert_allclose(numpy_of(made((4, 3, 6))), expected, rtol=1e-5, atol=tolerance)
        half = made((2, 3, 1), dtype="bfloat16")
        assert ops.dtype(half) == "bfloat16"


def test_the_same_object_gives_the_same_values():
    made = initializers.HeNormal()
    np.testing.assert_array_equal(numpy_of(made((3, 3))), numpy_of(made((3, 3))))
    python_random.seed(5)
    first = initializers.HeNormal()
    python_random.seed(5)
    second = initializers.HeNormal()
    assert first.seed == second.seed
    assert first.get_config()["seed"] is None


def test_constants(backend):
    np.testing.assert_array_equal(numpy_of(initializers.Zeros()((2, 3))), np.zeros((2, 3)))
    np.testing.assert_array_equal(numpy_of(initializers.Ones()((2,), "int32")), [1, 1])
    np.testing.assert_array_equal(numpy_of(initializers.Constant(2.5)((2,))), [2.5, 2.5])
    value = initializers.Constant([1.0, 2.0])((3, 2))
    np.testing.assert_array_equal(numpy_of(value), [[1, 2]] * 3)
    np.testing.assert_array_equal(numpy_of(initializers.Identity(2.0)((2, 3))), 2 * np.eye(2, 3))
    q = numpy_of(initializers.Orthogonal(seed=1)((3, 2, 4)))
    flat = q.reshape(6, 4)
    np.testing.assert_allclose(flat.T @ flat, np.eye(4), atol=1e-5)
    v = Variable(initializers.get("ones"), shape=(2,), dtype="float32")
    np.testing.assert_array_equal(v.numpy(), [1, 1])


@pytest.mark.parametrize("name", ["Zeros", "Ones", "Identity", "Constant"])
def test_constant_configs_equal_keras(name):
    ours, theirs = getattr(initializers, name)(), getattr(keras.initializers, name)()
    assert ours.get_config() == theirs.get_config()
    assert type(initializers.deserialize(keras.initializers.serialize(theirs))) is type(ours)


def test_get():
    for name in ("zeros", "glorot_uniform", "he_normal", "normal", "uniform", "one", "Orthogonal"):
        assert type(initializers.get(name)).__name__ == type(keras.initializers.get(name)).__name__
    assert initializers.get(None) is None
    given = initializers.get(np.array([1.0, 2.0], np.float32))
    np.testing.assert_array_equal(numpy_of(given((2,))), [1, 2])
    with pytest.raises(ValueError, match="Expected `shape`"):
        given((3,))
    assert initializers.glorot_uniform is initializers.GlorotUniform
    with pytest.raises(ValueError, match="Unknown initializer 'nope'"):
        initializers.get("nope")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.VarianceScaling(scale=0.0), "positive"),
        (lambda: initializers.VarianceScaling(mode="x"), "mode"),
        (lambda: initializers.VarianceScaling(distribution="x"), "distribution"),
        (lambda: initializers.RandomNormal(seed="x"), "seed"),
        (lambda: initializers.Identity()((2, 2, 2)), "2D"),
        (lambda: initializers.Orthogonal()((2,)), "two-dimensional"),
        (lambda: regularizers.L2(-1.0), "non-negative"),
        (lambda: regularizers.OrthogonalRegularizer(mode="x"), "mode"),
        (lambda: regularizers.OrthogonalRegularizer()(np.ones((2,), np.float32)), "rank 2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


PENALTIES = [
    ("L1", {}), ("L1", {"l1": 0.3}), ("L2", {}), ("L2", {"l2": 0.3}), ("L1L2", {}),
    ("L1L2", {"l1": 0.1, "l2": 0.2}), ("OrthogonalRegularizer", {"factor": 0.5}),
    ("OrthogonalRegularizer", {"mode": "columns"}),
]  # fmt: skip
BOUNDS = [
    ("MaxNorm", {}), ("MaxNorm", {"max_value": 0.5, "axis": 1}), ("NonNeg", {}), ("UnitNorm", {}),
    ("UnitNorm", {"axis": 1}), ("MinMaxNorm", {}),
    ("MinMaxNorm", {"min_value": 0.2, "max_value": 0.9, "rate": 0.5, "axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [("regularizers", *row) for row in PENALTIES] + [("constraints", *row) for row in BOUNDS],
)
def test_regularizers_and_constraints_equal_keras(module, name, arguments, backend):
    mine = {"regularizers": regularizers, "constraints": constraints}[module]
    ours, theirs = (
        getattr(mine, name)(**arguments),
        getattr(getattr(keras, module), name)(**arguments),
    )
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    expected = np.asarray(theirs(keras.ops.convert_to_tensor(x)))
    for given in (ops.convert_to_tensor(x), Variable(x)):
        np.testing.assert_allclose(numpy_of(ours(given)), expected, rtol=1e-5, atol=1e-6)
    assert ours.get_config() == pytest.approx(theirs.get_config())
    again = mine.deserialize(mine.serialize(ours))
    assert again.get_config() == ours.get_config()


def test_names_of_regularizers_and_constraints():
    for name in ("l1", "l2", "l1_l2", "L1L2", "orthogonal_regularizer"):
        assert type(regularizers.get(name)).__name__ in (
            "L1",
            "L2",
            "L1L2",
            "OrthogonalRegularizer",
        )
    for name in ("max_norm", "non_neg", "unit_norm", "MinMaxNorm"):
        assert type(constraints.get(name)) is type(constraints.get(constraints.serialize(
            constraints.get(name)
        )))  # fmt: skip
    with pytest.raises(ValueError, match="Unknown constraint"):
        constraints.get("nope")
    assert regularizers.get(abs) is abs


def test_a_variable_takes_the_name_of_an_initializer(backend):
    variable = Variable("ones", shape=(2, 3))
    assert variable.dtype == "float32"
    np.testing.assert_array_equal(variable.numpy(), np.ones((2, 3)))
    with pytest.raises(ValueError, match="nonsense"):
        Variable("nonsense", shape=(2,))


STFT_ROWS = [
    {},
    {"side": "imag"},
    {"window": None},
    {"window": "hamming", "scaling": "spectrum"},
    {"window": "blackman", "scaling": None, "periodic": True},
    {"window": "bartlett", "periodic": True},
    {"window": "cosine"},
    {"side": "imag", "window": [0.5, 1.0, 1.0, 0.5, 0.25, 0.0, 0.0, 1.0]},
]


@pytest.mark.parametrize("arguments", STFT_ROWS)
def test_kernels_of_fourier_transforms_are_those_of_keras(backend, arguments):
    shape = (8, 1, 9)
    ours, theirs = initializers.STFT(**arguments), keras.initializers.STFT(**arguments)
    want = np.asarray(theirs(shape, dtype="float64"))
    np.testing.assert_allclose(numpy_of(ours(shape)), want, rtol=1e-5, atol=1e-6)
    assert ops.dtype(ours(shape, "float16")) == "float16"
    assert ours.get_config() == theirs.get_config()
    again = initializers.deserialize(initializers.serialize(ours))
    np.testing.assert_array_equal(numpy_of(again(shape)), numpy_of(ours(shape)))


def test_a_kernel_transforms_a_frame():
    frame = np.random.default_rng(0).normal(size=16)
    real, imag = (
        numpy_of(initializers.STFT(side, window=None)((16, 1, 9)))[:, 0]
        for side in ("real", "imag")
    )
    want = np.fft.rfft(frame)
    np.testing.assert_allclose(frame @ real + 1j * (frame @ imag), want, rtol=1e-5, atol=1e-5)


def test_arguments_of_stft_are_checked():
    for arguments, message in (
        ({"side": "left"}, "side should be 'real' or 'imag'"),
        ({"scaling": "l2"}, "Scaling is invalid"),
        ({"window": "nonsense"}, "nonsense"),
    ):
        with pytest.raises(ValueError, match=message):
            initializers.STFT(**arguments)
    with pytest.raises(ValueError, match="equal to .frame_length."):
        initializers.STFT(window=[1.0, 2.0])((3, 1, 2))
    assert isinstance(initializers.get("stft"), initializers.STFTInitializer)
