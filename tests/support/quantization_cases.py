"""Layers that can be quantized, in both libraries with the same weights."""

import numpy as np
from layer_cases import random_weights, x

from keraslite import Variable, ops

IDS = np.array([[1, 5, 0], [3, 3, 2]], "int32")
TABLE = {"input_dim": 6, "output_dim": 4}
CASES = {
    "dense": ("Dense", x(3, 7), {"units": 5}),
    "dense relu": ("Dense", x(2, 3, 7), {"units": 5, "activation": "relu", "use_bias": False}),
    "dense tall": ("Dense", x(2, 3000), {"units": 3}),
    "dense of zeros": ("Dense", np.zeros((2, 3), "float32"), {"units": 3}),
    "heads": ("EinsumDense", x(2, 5, 4),
              {"equation": "abc,cde->abde", "output_shape": (None, 3, 2), "bias_axes": "de"}),
    "joined": ("EinsumDense", x(2, 5, 4, 3),
               {"equation": "abcd,cde->abe", "output_shape": (None, 6), "activation": "gelu"}),
    "turned": ("EinsumDense", x(2, 5, 4),
               {"equation": "abc,cd->adb", "output_shape": (3, None), "bias_axes": "d"}),
    "transposed": ("EinsumDense", x(2, 5, 4),
                   {"equation": "abc,dc->abd", "output_shape": (None, 3)}),
    "shared": ("EinsumDense", x(2, 5, 4), {"equation": "abc,cbd->abd", "output_shape": (5, 3)}),
    "tangled": ("EinsumDense", x(2, 5, 6, 4, 3),
                {"equation": "abcde,afce->acdbf", "output_shape": (6, 4, 5, 7)}),
    "embedding": ("Embedding", IDS, {**TABLE, "mask_zero": True}),
    "reversible": ("ReversibleEmbedding", IDS, {**TABLE, "tie_weights": False}),
}  # fmt: skip


def numpy_of(v):
    return ops.convert_to_numpy(v)


def built(library, case, **extra):
    """A float layer of a case; in both libraries with the same weights."""
    name, inputs, kwargs = CASES[case]
    layer = getattr(library, name)(**{**kwargs, **extra}, name="here")
    layer(inputs)
    layer.set_weights(random_weights([v.shape for v in layer.weights]))
    return layer


def gradients_of(layer, case):
    """Of the inputs, if they are floats, and of the trainable variables."""
    inputs = CASES[case][1]
    watched = [Variable(inputs)] if inputs.dtype == "float32" else []
    given = watched[0] if watched else inputs
    variables = [*watched, *layer.trainable_variables]
    if not variables:
        return []
    loss = ops.value_and_grad(lambda: ops.sum(ops.square(layer(given))), variables=variables)
    return loss()[1]
