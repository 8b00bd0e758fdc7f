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


GAPS = {
    "torch.compile(fullgraph) of Masking": lambda: _fullgraph(layers.Masking, STEPS),
    "torch.compile(fullgraph) of Embedding(mask_zero=True)": lambda: _fullgraph(
        lambda: layers.Embedding(4, 2, mask_zero=True), np.ones((2, 3), "int32")
    ),
}


@pytest.mark.parametrize("name", GAPS)
def test_gap(name):
    with pytest.raises((NotImplementedError, RuntimeError)):  # Dynamo's Unsupported is one
        GAPS[name]()
