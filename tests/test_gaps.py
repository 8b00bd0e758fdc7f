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


GAPS = {
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
