"""The gaps that no table of operations covers: each fails today, and its row goes when it works."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import layers

STEPS = np.ones((2, 3, 4), "float32")


class Hashed(keras.Model):
    """A model that hashes inside its step, which is compiled."""

    def __init__(self):
        super().__init__()
        self.hashing, self.table = layers.Hashing(3), layers.Embedding(3, 2)

    def call(self, x):
        return self.table(self.hashing(x))


def _hash_in_a_step():
    with keras.use_backend("jax"):
        model = Hashed()
        model.compile("sgd", "mse")
        model.fit(np.arange(4), np.ones((4, 2), "float32"), verbose=0)


def _second_derivative(backend):
    import torch

    with keras.use_backend(backend):
        layer = layers.TorchModuleWrapper(torch.nn.Softplus())
        slope = keras.grad(lambda x: keras.ops.sum(layer(x)))
        keras.grad(lambda x: keras.ops.sum(slope(x)))(keras.ops.convert_to_tensor(STEPS))


def _hidden_random_state():
    import tensorflow as tf

    class Drop(tf.Module):
        def __call__(self, x):
            return tf.nn.dropout(x, 0.5)

    with keras.use_backend("torch"):
        layers.TFModuleLayer(Drop())(STEPS)


def _int8_on_openvino():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compiled_for("openvino", precision="int8")


GAPS = {
    "int8 on OpenVINO": _int8_on_openvino,
    "second derivatives of a torch module on jax": lambda: _second_derivative("jax"),
    "second derivatives of a torch module on tensorflow": lambda: _second_derivative("tensorflow"),
    "tf.nn.dropout in a tf.Module on torch": _hidden_random_state,
    "Hashing inside the step of a subclass on jax": _hash_in_a_step,
}


@pytest.mark.parametrize("name", GAPS)
def test_gap(name):
    # Dynamo's Unsupported is a RuntimeError.
    known = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
    with pytest.raises(known):
        GAPS[name]()
