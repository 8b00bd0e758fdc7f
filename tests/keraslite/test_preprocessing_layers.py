"""Preprocessing layers that learn from data, against the installed Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from compare import assert_close
from layer_cases import x

import keraslite
from keraslite import layers, ops

DATA = x(64, 3, 5) * 3 + 7


class Batches(keras.utils.PyDataset):
    """The data in batches of 16, with labels."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return DATA[16 * index : 16 * (index + 1)], np.zeros(16)


FORMS = {
    "array": lambda: DATA,
    "doubles": lambda: DATA.astype("float64"),
    "tensor": lambda: ops.convert_to_tensor(DATA),
    "list": lambda: [DATA[:10], DATA[10:]],
    "generator": lambda: (DATA[i : i + 9] for i in range(0, 64, 9)),
    "pairs": lambda: [(DATA[:10], 1), (DATA[10:], 2)],
    "PyDataset": Batches,
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((DATA, DATA)).batch(20),
}


@pytest.mark.parametrize("axis", [-1, None, (1, 2), 1], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_normalization_adapts_as_keras(form, axis, backend):
    theirs = keras.layers.Normalization(axis=axis)
    theirs.adapt(DATA)
    ours = layers.Normalization(axis=axis)
    ours.adapt(FORMS[form]())
    assert [w.path.split("/")[-1] for w in ours.weights] == ["mean", "variance", "count"]
    assert [w.trainable for w in ours.weights] == [False] * 3
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert a.dtype.kind == b.dtype.kind  # the count has 32 or 64 bits there, by the backend
        assert_close(a, b, 1e-5, 1e-5)
    assert ours.mean.shape == tuple(theirs.mean.shape)
    inputs = x(4, 3, 5)
    assert_close(ours(inputs), np.asarray(theirs(inputs)), 1e-5, 1e-5)
    back = layers.Normalization(axis=axis, invert=True)
    back.adapt(DATA)
    assert_close(back(ours(inputs)), inputs, 1e-5, 1e-5)


def test_normalization_of_samples_that_are_not_batched():
    rows = DATA[:, 0]
    layer = layers.Normalization()
    layer.adapt(tf.data.Dataset.from_tensor_slices(rows))
    assert_close(layer.get_weights()[0], rows.mean(0), 1e-5)


def test_normalization_adapts_anew_and_keeps_precision(backend):
    layer = layers.Normalization()
    layer.adapt(DATA)
    far = np.float64([[1e6], [1e6 + 1], [1e6 + 2]]).repeat(5, 1)[None]
    layer.adapt(ops.cast(far, "float32"))
    assert_close(layer.get_weights()[1], np.full(5, 2 / 3), 1e-6)
    half = layers.Normalization(dtype="mixed_bfloat16")
    half.adapt(DATA)
    assert half.adapt_mean.dtype == "float32"
    assert ops.dtype(half(DATA)) == "bfloat16"


def test_normalization_inside_a_model(backend):
    """What the layer learns later counts in a model that has run, and is saved with it."""
    layer = layers.Normalization()
    model = keraslite.Sequential([layers.Input((3, 5)), layer])
    assert_close(model.predict(DATA, verbose=0), DATA, 1e-5)
    layer.adapt(DATA)
    expected = (DATA - DATA.mean((0, 1))) / DATA.std((0, 1))
    assert_close(model.predict(DATA, verbose=0), expected, 1e-4, 1e-5)
    again = keraslite.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert_close(again.predict(DATA, verbose=0), expected, 1e-4, 1e-5)


def test_normalization_of_a_model_with_constants(backend):
    inputs = layers.Input((None, 3))
    layer = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 4.0, 4.0])
    model = keraslite.Model(inputs, layer(inputs))
    assert model.count_params() == 0
    found = model.predict(np.full((2, 4, 3), 5.0, "float32"), verbose=0)
    assert_close(found[0, 0], [2.0, 1.5, 1.0], 1e-6)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: layers.Normalization(mean=1.0), ValueError, "set together"),
        (lambda: layers.Normalization(mean=[1.0], variance=1.0), ValueError, "one shape"),
        (lambda: layers.Normalization(axis=None, mean=[1], variance=[1]), ValueError, "at most 0"),
        (lambda: layers.Normalization(axis=5)(DATA), ValueError, "axes of inputs"),
        (lambda: layers.Normalization(0)(layers.Input((3,))), ValueError, "must be known"),
        (
            lambda: layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 2.0])(DATA),
            ValueError,
            r"broadcast to \(5,\)",
        ),
        (lambda: layers.Normalization(mean=1, variance=1).adapt(DATA), ValueError, "of its own"),
        (lambda: layers.Normalization().adapt([]), ValueError, "at least one batch"),
        (lambda: layers.Normalization().adapt(3), TypeError, "got int"),
        (lambda: layers.Normalization().adapt([1, 2]), TypeError, "got int"),
        (lambda: layers.Normalization().adapt([DATA, DATA[..., :2]]), ValueError, "the sizes"),
    ],
)
def test_normalization_refuses(act, error, message):
    with pytest.raises(error, match=message):
        act()
