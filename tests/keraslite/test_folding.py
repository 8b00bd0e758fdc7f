"""Convolutions folded with the normalization behind them: `predict` gives what a call gives."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from compare import assert_close

import keraslite as keras
from keraslite import backend as backends
from keraslite import layers, masking, models, ops
from keraslite.backend.torch.fast import convolution

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 12, 10, 4)).astype("float32")


def normalize(x, **kwargs):
    return layers.BatchNormalization(**kwargs)(x)


def residual(x):
    y = normalize(layers.Conv2D(8, 3, padding="same")(x))
    y = layers.ReLU()(layers.Add()([y, normalize(layers.Conv2D(8, 1)(x), epsilon=1e-5)]))
    z = layers.Activation("relu")(normalize(layers.Conv2D(8, 3, padding="same")(y)))
    return layers.Activation("relu")(layers.Add()([y, normalize(layers.Conv2D(8, 1)(z))]))


def branches(x):
    """The first sum takes what the second convolution reads after it."""
    y = layers.Activation("silu")(normalize(layers.Conv2D(8, 3, padding="same")(x)))
    late = normalize(layers.Conv2D(8, 1)(y))
    first = layers.Add()([normalize(layers.Conv2D(8, 1, use_bias=False)(y)), y])
    return layers.Add()([late, first])


def shared(x):
    conv = layers.Conv2D(4, 3, padding="same")
    return normalize(conv(normalize(conv(x))))


def other_axes(x):
    x = layers.Conv2D(6, 3, data_format="channels_first")(x)
    return normalize(layers.Conv2D(10, 3, padding="same")(x), axis=1)


def pooling(x):
    """Zeros are a padding for maxima behind relu alone."""
    x = layers.ReLU()(normalize(layers.Conv2D(6, 3, padding="same")(x)))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(((1, 1), (0, 1)))(x))
    x = layers.ZeroPadding2D(1)(layers.Conv2D(5, 1)(x))
    return layers.MaxPooling2D(3, 2)(x)


# What stands behind an Input, and how many of its convolutions are folded on torch.
NETWORKS = {
    "a residual block": (residual, 4),
    "branches": (branches, 3),
    "strides": (lambda x: normalize(layers.Conv2D(6, 3, 2, "same", groups=2)(x), scale=False), 1),
    "dilation": (lambda x: normalize(layers.Conv2D(6, 3, dilation_rate=2)(x), center=False), 1),
    "pairs": (lambda x: normalize(layers.Conv2D(6, 3, 2, ((0, 1), (1, 1)))(x)), 1),
    "relu6": (lambda x: layers.ReLU(6.0)(normalize(layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2)(x), gamma_initializer="he_normal")), 1),
    "an activation before": (lambda x: normalize(layers.Conv2D(6, 3, activation="relu")(x)), 1),
    "no normalization": (lambda x: layers.ReLU()(layers.Conv2D(5, 3, use_bias=False)(
        layers.DepthwiseConv2D(3, 2, "same", activation="silu")(layers.Conv2D(4, 1)(x)))), 3),
    "another activation": (lambda x: layers.Conv2D(6, 3, activation="tanh")(x), 0),
    "one convolution twice": (shared, 2),
    "channels that come first": (other_axes, 1),
    "pooling": (pooling, 2),
    "a sum that broadcasts": (lambda x: layers.Add()([
        normalize(layers.Conv2D(6, 3, padding="same")(x)),
        layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(6, 1)(x))]), 2),
}  # fmt: skip


def network(name, size=(12, 10, 4)):
    keras.utils.set_random_seed(1)
    i = layers.Input(size)
    model = models.Model(i, NETWORKS[name][0](i))
    random = np.random.default_rng(2)
    for variable in model.weights:
        value = random.normal(size=variable.shape).astype("float32") / 3
        variable.assign(abs(value) + 0.5 if "variance" in variable.name else value)
    return model


@pytest.fixture
def folds(monkeypatch):
    """How many convolutions were folded, not counting those that were kept."""
    count = []
    folded = convolution._folded
    monkeypatch.setattr(convolution, "_folded", lambda *a: count.append(1) or folded(*a))
    return count


@pytest.mark.parametrize("size", [(12, 10, 4), (None, None, 4)])
@pytest.mark.parametrize("name", NETWORKS)
def test_predict_gives_what_a_call_gives(backend, name, size, folds):
    if name == "channels that come first" and size[0] is None:
        return
    model = network(name, size)
    weights = [w.numpy() for w in model.weights]
    with backends.no_grad():
        expected = backends.to_numpy(model(X))
    for _ in range(2):  # what was folded is kept
        assert_close(model.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-5)
    assert len(folds) == (NETWORKS[name][1] if backend == "torch" else 0)
    for before, after in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, after.numpy())
    assert_close(model.predict(X[:1], verbose=0), expected[:1], rtol=1e-5, atol=1e-5)


def assert_predicts_as_called(model):
    with backends.no_grad():
        expected = backends.to_numpy(model(X))
    assert_close(model.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-5)
    return expected


def test_what_is_folded_follows_the_weights(backend):
    model = network("a residual block")
    results = [assert_predicts_as_called(model)]
    for variable in model.weights:
        variable.assign(variable.numpy() * 1.1)
        results.append(assert_predicts_as_called(model))
    assert all(abs(a - b).max() > 1e-4 for a, b in pairwise(results))
    if backend != "numpy":
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.fit(X, results[0], epochs=2, verbose=0)
        assert abs(assert_predicts_as_called(model) - results[-1]).max() > 1e-4
    next(x for x in model.layers if isinstance(x, layers.Conv2D)).enable_lora(2)
    assert_predicts_as_called(model)
    model.to_backend("torch")
    assert_predicts_as_called(model)


def test_batches_of_other_sizes_have_weights_in_the_blocks_that_they_read():
    """Equal blocks are kept once, and the shapes for which they are kept are few."""
    with keras.use_backend("torch"):
        inputs = keras.Input((4, 4, 512))
        model = models.Model(inputs, normalize(layers.Conv2D(64, 1)(inputs)))
        x = RNG.normal(size=(12, 4, 4, 512)).astype("float32")
        expected = backends.to_numpy(model(x))
        before = set(convolution._folds)
        for rows in range(1, 13):
            predicted = model.predict(x[:rows], batch_size=rows, verbose=0)
            assert_close(predicted, expected[:rows], rtol=1e-5, atol=1e-5)
        (key,) = set(convolution._folds) - before
        _, packed = convolution._folds[key]
        assert len(packed) == convolution._SHAPES
        assert len({id(weight) for weight, _ in packed.values()}) < convolution._SHAPES


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum", "rmsprop"])
def test_what_is_folded_and_packed_follows_fused_optimizers(optimizer):
    """Neither the convolution nor the large product has other state that changes with them."""
    made = {
        "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
        "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    }
    with keras.use_backend("torch"):
        layout = [layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(256)]
        model = models.Sequential([layers.Input((12, 10, 4)), *layout, layers.Dense(1)])
        model.compile(made.get(optimizer, lambda: optimizer)(), "mse")
        for _ in range(4):  # the third call is recorded
            before = assert_predicts_as_called(model)
        model.fit(X, np.ones((2, 1)), epochs=2, verbose=0)
        assert abs(assert_predicts_as_called(model) - before).max() > 1e-4


def test_a_model_that_predicts_in_training_mode_is_not_folded(backend, folds):
    class Trains(models.Model):
        def predict_step(self, data):
            return self(data, training=True)

    i = layers.Input((12, 10, 4))
    model = Trains(i, residual(i))
    out = model.predict(X, verbose=0)
    if backend == "numpy":
        out = backends.to_numpy(model(X, training=True))
    assert not folds and not np.allclose(out, backends.to_numpy(model(X)), atol=1e-2)


def test_zeros_behind_relu_are_padded_by_the_pooling(backend, monkeypatch):
    model, calls = network("pooling"), []
    padding = layers.ZeroPadding2D.call
    monkeypatch.setattr(layers.ZeroPadding2D, "call", lambda *a: calls.append(1) or padding(*a))
    model.predict_on_batch(X)
    assert len(calls) == (1 if backend == "torch" else 2)


@pytest.mark.parametrize(
    "name", ["a residual block", "branches", "relu6", "one convolution twice", "pooling"]
)
def test_training_by_chains_is_training_by_layers(backend, name, monkeypatch):
    if backend == "numpy":
        return
    weights, y = [], None
    for chains in (True, False):
        if not chains:
            monkeypatch.setattr("keraslite.models.model.folded_calls", lambda *a: None)
        model = network(name)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        y = RNG.normal(size=(2, *model.output_shape[1:])).astype("float32") if y is None else y
        model.fit(X, y, epochs=2, verbose=0)
        weights.append([w.numpy() for w in model.weights])
    for chained, layered in zip(*weights, strict=True):
        assert_close(chained, layered, rtol=1e-5, atol=1e-6)


def test_chains_of_training_keep_what_others_read_and_frozen_statistics():
    with keras.use_backend("torch"):
        i = layers.Input((12, 10, 4))
        norm = layers.BatchNormalization()
        normalized = norm(i)
        out = layers.ReLU()(layers.Add()([normalized, i]))
        seen = models.Model(i, [normalized, out])(X, training=True)
        seen, expected = [x.detach() for x in seen], norm(X, training=True).detach()
        assert_close(seen[0], expected, rtol=1e-6, atol=1e-6)
        assert_close(seen[1], ops.relu(expected + torch.from_numpy(X)), rtol=1e-6, atol=1e-6)
        norm.trainable = False
        model = models.Model(i, out)
        before = norm.moving_mean.numpy()
        with torch.no_grad():
            assert_close(model(X, training=True), model(X), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(norm.moving_mean.numpy(), before)


def test_folding_after_a_first_call_in_inference_mode(folds):
    with keras.use_backend("torch"):
        model = network("a residual block")
        with torch.inference_mode():
            out = model.predict(X, verbose=0)
        assert len(folds) == NETWORKS["a residual block"][1]
        assert_close(assert_predicts_as_called(model), out, rtol=1e-5, atol=1e-5)
        model.compile("sgd", "mse")
        model.fit(X, out, verbose=0)  # variables made in there are trained as well


def test_masks_of_other_tensors_do_not_keep_from_folding(folds):
    with keras.use_backend("torch"):
        other = ops.ones((2, 3))
        masking.set_mask(other, ops.ones((2,), "bool"))
        assert_predicts_as_called(network("a residual block"))
        assert len(folds) == NETWORKS["a residual block"][1]


def test_under_compile_and_in_transforms_the_composite_runs(folds):
    with keras.use_backend("torch"):
        model = network("a residual block")
        x = torch.from_numpy(X)
        conv, norm = (next(y for y in model.layers if isinstance(y, cls))
                      for cls in (layers.Conv2D, layers.BatchNormalization))  # fmt: skip
        arguments = [v.value for v in (conv.kernel, norm.moving_mean, norm.moving_variance)]
        plain = ops.normalized_conv(x, *(v.detach() for v in arguments), padding="same")
        mapped = torch.func.vmap(
            lambda row: ops.normalized_conv(row[None], *arguments, padding="same")[0]
        )(x)
        out = ops.normalized_conv(x, *arguments, padding="same")
        assert out.requires_grad  # a gradient is asked for
        assert not folds
        with torch.no_grad():
            fused = ops.normalized_conv(x, *arguments, padding="same")
        assert len(folds) == 1
        for other in (mapped, out, fused):
            assert_close(other, plain, rtol=1e-5, atol=1e-5)
