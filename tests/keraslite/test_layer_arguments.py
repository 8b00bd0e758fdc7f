"""Layers before they are called: arguments that are refused, what is built, what is told."""

import json

import keras
import numpy as np
import pytest

from keraslite import layers, losses, metrics, ops


def test_layers_that_have_nothing_to_build_are_built(backend):
    made = [
        ("MaxPooling1D", {}), ("GlobalAveragePooling2D", {}), ("ReLU", {}), ("LeakyReLU", {}),
        ("ELU", {}), ("Softmax", {}), ("Identity", {}), ("Masking", {}), ("Dropout", {"rate": 0.5}),
        ("SpatialDropout1D", {"rate": 0.5}), ("GaussianNoise", {"stddev": 0.5}),
        ("ActivityRegularization", {}), ("Activation", {"activation": "relu"}),
        ("UnitNormalization", {}), ("Dense", {"units": 2}), ("PReLU", {}), ("Add", {}),
        ("MultiHeadAttention", {"num_heads": 2, "key_dim": 2}), ("BatchNormalization", {}),
    ]  # fmt: skip
    for name, arguments in made:
        ours = getattr(layers, name)(**arguments)
        assert ours.built == getattr(keras.layers, name)(**arguments).built, name
        assert not ours.built or ours.count_params() == 0


@pytest.mark.parametrize(("make", "message"), [
    (lambda: layers.Input((2,), ragged=True), "ragged=True is not supported"),
    (lambda: layers.InputLayer(shape=(2,), batch_shape=(None, 2)), "`batch_shape` alone"),
    (lambda: layers.Input(batch_size=2, batch_shape=(None, 2)), "`batch_shape` alone"),
    (lambda: layers.Dense(1, trainable="yes"), "`trainable` must be a boolean, got 'yes'"),
    (lambda: layers.Dense(1, trainable=None), "`trainable` must be a boolean, got None"),
    (lambda: layers.MultiHeadAttention(2, 16, value_dim=0), "`value_dim`.*value_dim=0"),
    (lambda: layers.GroupedQueryAttention(2, 2, 0), "num_key_value_heads=0"),
])  # fmt: skip
def test_bad_arguments_of_constructors_are_refused(backend, make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: layers.AveragePooling2D(), r"AveragePooling2D.__init__\(\): .* 'pool_size'"),
    (lambda: losses.Huber(size=1), r"Huber.__init__\(\): .* 'size'"),
    (lambda: metrics.TruePositives(level=1), r"TruePositives.__init__\(\): .* 'level'"),
])  # fmt: skip
def test_an_error_of_a_call_names_the_class(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(("name", "arguments"), [
    ("Layer", ()), ("Dense", (3,)), ("Conv2D", (3, 3)), ("LSTM", (3,)), ("Add", ()),
])  # fmt: skip
def test_unknown_arguments_are_refused_as_by_keras(name, arguments):
    errors = []
    for module in (layers, keras.layers):
        with pytest.raises(ValueError, match="units_") as error:
            getattr(module, name)(*arguments, units_=1, rate="x")
        errors.append(str(error.value))
    assert errors[0] == errors[1]
    with pytest.raises(TypeError, match=f"{name} cannot be made from the config .*units_"):
        getattr(layers, name).from_config({"units_": 1})


def test_masks_that_do_not_fit_the_inputs_of_a_merge_are_refused(backend):
    x, mask = np.ones((2, 3), "float32"), np.ones((2, 3), bool)
    add = layers.Add()
    with pytest.raises(ValueError, match="an entry for each of the 2 inputs, got 1"):
        add.compute_mask([x, x], [mask])
    with pytest.raises(ValueError, match="`mask` must be a list of tensors"):
        add.compute_mask([x, x], mask)
    with pytest.raises(ValueError, match="`inputs` must be a list of tensors"):
        add.compute_mask(x, [mask])
    with pytest.raises(ValueError, match="logical_or"):
        add.compute_mask([x, x], [ops.ones((2, 3), "bool"), ops.ones((2, 4), "bool")])


def test_attention_tells_its_masks_shapes_and_axes(backend):
    for cls in (layers.Attention, layers.AdditiveAttention):
        assert cls().supports_masking
    shape = (2, 3, 4)
    for layer in (layers.MultiHeadAttention(2, 2), layers.GroupedQueryAttention(2, 2, 2)):
        assert tuple(layer.compute_output_shape(shape, shape, None)) == shape
    for axes in (2, (2,), [2]):
        layer = layers.MultiHeadAttention(2, 2, attention_axes=axes)
        config = json.loads(json.dumps(layer.get_config()))
        for other in (layer.get_config(), config):
            again = layers.MultiHeadAttention.from_config(other).get_config()
            assert again["attention_axes"] == layer.get_config()["attention_axes"] == (2,)
