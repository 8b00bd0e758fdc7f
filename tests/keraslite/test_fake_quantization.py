"""Fake quantization and quantization in groups, against Keras and TensorFlow's own kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from compare import assert_close

import keraslite
from keraslite import ops, quantizers

RNG = np.random.default_rng(3)
X = np.float32(RNG.normal(size=(4, 5, 3)))
RANGES = [
    (-1.0, 1.5, 8, False, None),
    (0.1, 0.9, 4, True, None),
    (-2.0, -0.5, 8, False, None),
    (0.0, 0.0, 8, False, None),
    ([-1.0, -0.2, 0.0], [0.5, 1.0, 2.0], 3, True, -1),
    ([-1.0, -0.21, 0.0, -3.0], [0.5, 1.0, 2.0, 0.0], 8, False, 0),
]


def arguments(case):
    low, high, bits, narrow, axis = case
    return (X, np.float32(low), np.float32(high)), (bits, narrow, axis)


@pytest.mark.parametrize("case", RANGES)
def test_numbers_are_those_of_keras(case, backend):
    tensors, options = arguments(case)
    assert keras.backend.backend() == "tensorflow"
    expected = keras.quantizers.fake_quant_with_min_max_vars(*tensors, *options)
    actual = quantizers.fake_quant_with_min_max_vars(*tensors, *options)
    assert_close(ops.convert_to_numpy(actual), expected.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", [RANGES[0], RANGES[1], RANGES[4], RANGES[5]])
def test_gradients_are_those_of_tensorflow(case, trains):
    tensors, options = arguments(case)
    upstream = np.cos(np.arange(X.size, dtype="float32")).reshape(X.shape)
    with tf.GradientTape() as tape:
        variables = [tf.convert_to_tensor(x) for x in tensors]
        tape.watch(variables)
        out = keras.quantizers.fake_quant_with_min_max_vars(*variables, *options)
        total = tf.reduce_sum(out * upstream)
    expected = tape.gradient(total, variables)

    def loss(*tensors):
        out = quantizers.fake_quant_with_min_max_vars(*tensors, *options)
        return ops.sum(ops.multiply(out, upstream))

    actual = keraslite.grad(loss, argnums=(0, 1, 2))(*map(ops.convert_to_tensor, tensors))
    for a, b in zip(actual, expected, strict=True):
        assert_close(ops.convert_to_numpy(a), b.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("block", "value_range", "to_numpy"), [(2, (-8, 7), False), (3, (0, 15), True)]
)
def test_groups_are_those_of_keras(block, value_range, to_numpy, backend):
    x = np.float32(RNG.normal(size=(8, 3)) + 1)
    x[0] = 0
    expected = keras.quantizers.abs_max_quantize_grouped_with_zero_point(
        x, block, value_range, to_numpy=True
    )
    actual = quantizers.abs_max_quantize_grouped_with_zero_point(
        x, block, value_range, to_numpy=to_numpy
    )
    for a, b in zip(actual, expected, strict=True):
        a, b = ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        assert a.dtype == b.dtype
        assert_close(a, b, rtol=1e-6)
