"""Shapes of convolutions on symbolic tensors: by arithmetic, and by a look at the call."""

import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite import layers
from keraslite.layers.base.symbolic_call import infer_outputs

ARGUMENTS = [
    (layers.Conv2D, {"kernel_size": 3}, (8, 9, 3)),
    (layers.Conv2D, {"kernel_size": 3, "padding": "same", "strides": 2}, (8, 9, 3)),
    (layers.Conv2D, {"kernel_size": (3, 2), "strides": (1, 3), "activation": "relu"}, (8, 9, 3)),
    (layers.Conv2D, {"kernel_size": 2, "dilation_rate": 3, "padding": "same"}, (8, 9, 3)),
    (layers.Conv2D, {"kernel_size": 3, "groups": 2, "use_bias": False}, (8, 9, 4)),
    (layers.Conv1D, {"kernel_size": 4, "padding": "causal", "strides": 2}, (11, 3)),
    (layers.Conv1D, {"kernel_size": 4, "activation": "softmax"}, (11, 3)),
    (layers.Conv3D, {"kernel_size": 2, "strides": 2, "padding": "same"}, (5, 4, 3, 2)),
    (layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}, (8, 9, 3)),
    (layers.SeparableConv2D, {"kernel_size": 3, "padding": "same"}, (8, 9, 3)),
    (layers.Conv2D, {"kernel_size": 3, "data_format": "channels_first"}, (3, 8, 9)),
    (layers.Conv2D, {"kernel_size": 3, "padding": "same"}, (None, 9, 3)),
]


def _layer(cls, arguments):
    filters = () if cls is layers.DepthwiseConv2D else (4,)
    return cls(*filters, **arguments)


@pytest.mark.parametrize(("cls", "arguments", "shape"), ARGUMENTS)
def test_shapes_are_those_of_the_call(cls, arguments, shape):
    with keras.use_backend(BACKENDS[0]):
        layer, x = _layer(cls, arguments), keras.Input(shape)
        out = layer(x)
        seen = infer_outputs(layer, (x,), {}, None)
        assert (out.shape, out.dtype) == (seen.shape, seen.dtype)
        known = layer.known_dims(x.dims)
        assert (known is None) == (None in shape or arguments.get("activation") == "softmax")
        assert known is None or known[0] is x.dims[0]


def test_what_does_not_fit_is_refused():
    with keras.use_backend(BACKENDS[0]), pytest.raises(ValueError, match="do not fit"):
        layers.Conv2D(4, 5)(keras.Input((3, 9, 3)))


def test_another_call_is_looked_at():
    class Twice(layers.Conv2D):
        def call(self, inputs):
            return keras.ops.concatenate(2 * [super().call(inputs)], axis=-1)

    with keras.use_backend(BACKENDS[0]):
        assert Twice(4, 3)(keras.Input((8, 9, 3))).shape == (None, 6, 7, 8)
