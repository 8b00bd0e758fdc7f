"""The gaps that no table of operations covers: each fails today, and its row goes when it works."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import layers


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


def _another_framework_as_a_layer(backend):
    import torch

    module = torch.nn.Linear(2, 2)
    with keras.use_backend(backend):
        layers.TorchModuleWrapper(module)


GAPS = {
    "a module of torch as a layer on jax": lambda: _another_framework_as_a_layer("jax"),
    "Hashing inside the step of a subclass on jax": _hash_in_a_step,
}


@pytest.mark.parametrize("name", GAPS)
def test_gap(name):
    # Dynamo's Unsupported is a RuntimeError.
    known = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
    with pytest.raises(known):
        GAPS[name]()
