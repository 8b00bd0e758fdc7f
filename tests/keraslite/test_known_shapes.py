"""Shapes of outputs on symbolic tensors: by arithmetic, and by a look at the call."""

import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite import layers, masking
from keraslite.layers.base.symbolic_call import infer_outputs
from keraslite.probing import Dim

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
    (layers.Conv2D, {"kernel_size": 3, "strides": 2}, (None, None, 3)),
    (layers.Conv2D, {"kernel_size": 3, "padding": ((1, 1), (0, 2))}, (None, None, 3)),
    (layers.Conv1D, {"kernel_size": 4, "padding": "causal"}, (None, 3)),
    (layers.MaxPooling2D, {"pool_size": (3, 2)}, (8, 9, 3)),
    (layers.MaxPooling2D, {"pool_size": 3, "strides": 2, "padding": "same"}, (None, 9, 3)),
    (layers.AveragePooling1D, {"pool_size": 2}, (None, 3)),
    (layers.AveragePooling2D, {"pool_size": 2, "data_format": "channels_first"}, (3, 8, 9)),
    (layers.GlobalMaxPooling2D, {"keepdims": True}, (None, None, 3)),
    (layers.GlobalAveragePooling2D, {"data_format": "channels_first"}, (3, None, 9)),
    (layers.ZeroPadding2D, {"padding": ((1, 0), (2, 3))}, (None, 9, 3)),
    (layers.Cropping2D, {"cropping": ((1, 0), (2, 3))}, (None, 9, 3)),
    (layers.Dense, {"units": 4, "activation": "relu"}, (None, 3)),
    (layers.Dense, {"units": 4, "activation": "softmax"}, (3,)),
    (layers.LayerNormalization, {}, (None, 3)),
    (layers.Dropout, {"rate": 0.5}, (None, 3)),
]


def _layer(cls, arguments):
    convolves = "kernel_size" in arguments and cls is not layers.DepthwiseConv2D
    return cls(*(4,) * convolves, **arguments)


@pytest.mark.parametrize(("cls", "arguments", "shape"), ARGUMENTS)
def test_shapes_are_those_of_the_call(cls, arguments, shape):
    with keras.use_backend(BACKENDS[0]):
        layer, x = _layer(cls, arguments), keras.Input(shape)
        out = layer(x)
        seen = infer_outputs(layer, (x,), {}, None)
        assert (out.shape, out.dtype) == (seen.shape, seen.dtype)
        known = layer.known_dims(x.dims)
        assert (known is None) == (arguments.get("activation") == "softmax")
        assert known is None or known[0] is x.dims[0]


MERGED = [
    (layers.Add, {}, [(None, 9, 3), (None, 9, 3)], True),
    (layers.Multiply, {}, [(8, 9, 3), (1, 1, 3)], True),
    (layers.Average, {}, [(8, 9, 3), (9, 3)], False),
    (layers.Concatenate, {}, [(8, 9, 3), (8, 9, 1)], True),
    (layers.Concatenate, {"axis": 1}, [(8, 3), (None, 3)], False),
    (layers.Concatenate, {"axis": 1}, [(8, 3), (2, 3)], True),
]


@pytest.mark.parametrize(("cls", "arguments", "shapes", "is_known"), MERGED)
def test_shapes_of_several_inputs_are_those_of_the_call(cls, arguments, shapes, is_known):
    with keras.use_backend(BACKENDS[0]):
        layer = cls(**arguments)
        # One Dim where the sizes are the same: of an axis of one picture.
        picture = keras.Input((None, None, 3))
        inputs = []
        for shape in shapes:
            own = [picture.dims[1] if size is None else size for size in shape]
            inputs.append(keras.KerasTensor((picture.dims[0], *own), "float32"))
        out, seen = layer(inputs), infer_outputs(layer, (inputs,), {}, None)
        assert (out.shape, out.dtype) == (seen.shape, seen.dtype)
        assert (layer.merged_dims([x.dims for x in inputs]) is not None) == is_known


def test_two_paths_to_one_size_are_known_to_be_equal():
    """Paths of strides and padding end in one Dim where they end in one size, else in two."""
    with keras.use_backend(BACKENDS[0]):
        masked = layers.Masking()(keras.Input((None, 3)))  # elsewhere: it changes nothing
        x = keras.Input((None, None, 3))
        conv = [layers.Conv2D(4, 3, 2, "same"), layers.Conv2D(4, 1, 2)]
        padded = layers.Conv2D(4, 3, 2)(layers.ZeroPadding2D(1)(x))
        outs = [conv[0](x), conv[1](x), padded]
        assert len({out.dims[1] for out in outs}) == 1
        twice = layers.MaxPooling2D(2)(layers.MaxPooling2D(2)(x))
        assert twice.dims[1] is layers.MaxPooling2D(4)(x).dims[1]
        assert layers.Conv2D(4, 3)(x).dims[1] is not x.dims[1]
        assert layers.Conv2D(4, 3, padding="same")(x).dims[1:3] == x.dims[1:3]
        assert masking.get_mask(layers.Dense(4)(masked)) is not None


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("offset", [-3, -1, 0, 2])
def test_windows_of_windows(stride, offset):
    """The Dim of two steps is the one of their formula, for all sizes."""
    dim = Dim()
    twice = dim.windows(1, 2).windows(offset, stride)
    for size in range(20):
        inner = (size + 1) // 2 + 1
        expected = (inner + offset) // stride + 1
        assert (size + twice._offset) // twice._stride + 1 == expected
    assert twice is dim.windows(twice._offset, twice._stride)


def test_what_does_not_fit_is_refused():
    with keras.use_backend(BACKENDS[0]), pytest.raises(ValueError, match="do not fit"):
        layers.Conv2D(4, 5)(keras.Input((3, 9, 3)))


def test_another_call_is_looked_at():
    class Twice(layers.Conv2D):
        def call(self, inputs):
            return keras.ops.concatenate(2 * [super().call(inputs)], axis=-1)

    with keras.use_backend(BACKENDS[0]):
        assert Twice(4, 3)(keras.Input((8, 9, 3))).shape == (None, 6, 7, 8)
