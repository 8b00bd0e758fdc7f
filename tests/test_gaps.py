"""The gaps that no table of operations covers: each fails today, and its row goes when it works."""

import numpy as np
import pytest

import keraslite as keras
from keraslite import layers

STEPS = np.ones((2, 3, 4), "float32")


def _fullgraph(layer, x):
    import torch

    with keras.use_backend("torch"):
        made = layer()
        x = keras.ops.convert_to_tensor(x)
        made(x)
        torch.compile(made, fullgraph=True, backend="eager")(x)


def _fit_on_sparse(name):
    with keras.use_backend(name):
        x = keras.ops.one_hot(np.arange(4) % 3, 3, sparse=True)
        model = keras.Sequential([keras.Input((3,), sparse=True), layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, np.ones((4, 1), "float32"), batch_size=2, verbose=0)


def _forward_hook():
    with keras.use_backend("torch"):
        layer, calls = layers.Dense(2), []
        layer.register_forward_hook(lambda *_: calls.append(1))
        layer(STEPS)
    if not calls:
        raise NotImplementedError("hooks of torch.nn.Module are not run")


def _texts_in_an_inner_model():
    inner = keras.Sequential([keras.Input((), dtype="string"), layers.Hashing(3)])
    texts = keras.Input((), dtype="string")
    keras.Model(texts, inner(texts))


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


def _count_a_sparse_tensor():
    import tensorflow as tf

    with keras.use_backend("tensorflow"):
        lookup = layers.StringLookup(vocabulary=["a"], output_mode="count")
        counts = lookup(tf.sparse.from_dense([["a"]]))
        counts.numpy()


def _jit_of_a_variable_that_is_not_listed():
    with keras.use_backend("jax"):
        weight, one = keras.Variable(1.0), keras.ops.ones(())
        scale = keras.jit(lambda x: x * weight)
        scale(one)
        weight.assign(2.0)
        if float(scale(one)) != 2.0:
            raise ValueError("the program keeps the value of the first call")


GAPS = {
    "jit on jax of a variable that it is not told of": _jit_of_a_variable_that_is_not_listed,
    "a model of texts inside a model": _texts_in_an_inner_model,
    "Hashing inside the step of a subclass on jax": _hash_in_a_step,
    "StringLookup that counts the texts of a SparseTensor": _count_a_sparse_tensor,
    "hooks of torch.nn.Module": _forward_hook,
    **{
        f"fit on a sparse tensor on {name}": lambda name=name: _fit_on_sparse(name)
        for name in ("jax", "torch", "tensorflow")
    },
    "torch.compile(fullgraph) of Masking": lambda: _fullgraph(layers.Masking, STEPS),
    "torch.compile(fullgraph) of Embedding(mask_zero=True)": lambda: _fullgraph(
        lambda: layers.Embedding(4, 2, mask_zero=True), np.ones((2, 3), "int32")
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_gap(name):
    # Dynamo's Unsupported is a RuntimeError.
    known = (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError)
    with pytest.raises(known):
        GAPS[name]()
