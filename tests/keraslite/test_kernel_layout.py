"""Kernels of convolutions on torch lie as its own kernels read them, which nobody notices."""

import copy

import numpy as np
import pytest
import torch
from compare import assert_close

import keraslite as keras
from keraslite import backend as backends
from keraslite import layers, models
from keraslite.backend.torch.fast import planes as planes_module

RNG = np.random.default_rng(5)
SHAPES = {
    layers.Conv1D: ((2, 9, 64), (5, 64, 128)),
    layers.Conv2D: ((2, 6, 6, 64), (3, 3, 64, 64)),
    layers.Conv3D: ((2, 4, 4, 4, 32), (3, 3, 3, 32, 64)),
}


@pytest.fixture
def on_torch():
    with keras.use_backend("torch"):
        yield


def convolution(cls, kernel):
    layer = cls(kernel.shape[-1], kernel.shape[:-2], use_bias=False)
    layer.build((None, *(None,) * (kernel.ndim - 2), kernel.shape[-2]))
    layer.kernel.assign(kernel)
    return layer


@pytest.mark.parametrize("cls", SHAPES)
def test_a_kernel_is_laid_out_once_and_keeps_its_values(on_torch, cls):
    shape, kernel_shape = SHAPES[cls]
    x = RNG.normal(size=shape).astype("float32")
    kernel = RNG.normal(size=kernel_shape).astype("float32") / 30
    layer = convolution(cls, kernel)
    with torch.no_grad():
        out = layer(x)
    at = layer.kernel.value.data_ptr()
    assert layer.kernel.value.movedim(-1, 0).is_contiguous()
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)
    with keras.use_backend("numpy"):
        assert_close(backends.to_numpy(out), convolution(cls, kernel)(x), rtol=1e-4, atol=1e-5)
    layer.kernel.assign(2 * kernel)
    with torch.no_grad():
        assert_close(layer(x), 2 * out)
    copied = copy.deepcopy(layer)
    np.testing.assert_array_equal(copied.kernel.numpy(), 2 * kernel)
    assert layer.kernel.value.data_ptr() == at


@pytest.mark.parametrize("cls", SHAPES)
def test_a_kernel_of_a_checkpoint_of_torch_is_laid_out_once(on_torch, cls):
    shape, kernel_shape = SHAPES[cls]
    x = torch.from_numpy(RNG.normal(size=shape).astype("float32"))
    kernel = RNG.normal(size=kernel_shape).astype("float32") / 30
    layer = convolution(cls, kernel)
    filters = torch.from_numpy(kernel).movedim((-1, -2), (0, 1)).contiguous()
    layer.kernel._raw = torch.nn.Parameter(filters.movedim((0, 1), (-1, -2)))
    expected = keras.ops.conv(x, torch.from_numpy(kernel))
    assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    at = layer.kernel.value.data_ptr()
    assert layer.kernel.value.movedim(-1, 0).is_contiguous()
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)
    assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert layer.kernel.value.data_ptr() == at


def test_momentum_follows_a_kernel_that_is_laid_out_between_two_steps(on_torch):
    gradient = torch.from_numpy(RNG.normal(size=(3, 3, 4, 8)).astype("float32"))
    values = []
    for turned in (False, True):
        variable = keras.Variable(np.ones((3, 3, 4, 8), "float32"))
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        for _ in range(3):
            optimizer.apply([gradient], [variable])
            if turned:
                raw = variable.value
                raw.data = raw.data.movedim(-1, 0).contiguous().movedim(0, -1)
        values.append(variable.numpy())
    np.testing.assert_allclose(*values, rtol=1e-6)


def test_training_and_saving_do_not_depend_on_the_layout(on_torch, tmp_path):
    x = RNG.normal(size=(4, 8, 8, 64)).astype("float32")
    y = RNG.normal(size=(4, 1)).astype("float32")

    def model(name):
        keras.utils.set_random_seed(0)
        with keras.use_backend(name):
            net = models.Sequential([
                layers.Input((8, 8, 64)), layers.Conv2D(64, 3), layers.GlobalAveragePooling2D(),
                layers.Dense(1),
            ])  # fmt: skip
            net.compile(keras.optimizers.Adam(1e-3), "mse")
            net.fit(x, y, epochs=3, batch_size=2, shuffle=False, verbose=0)
        return net

    net, other = model("torch"), model("jax")
    for a, b in zip(net.weights, other.weights, strict=True):
        assert_close(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-4)
    net.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(net.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert_close(net.predict(x, verbose=0), again.predict(x, verbose=0))
    net.to_backend("numpy")
    assert_close(net.predict(x, verbose=0), again.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_kernels_in_transforms_and_shared_memory_stay_where_they_are(on_torch):
    kernel = torch.nn.Parameter(torch.randn(3, 3, 64, 64))
    kernel.share_memory_()
    x, at = torch.randn(1, 6, 6, 64), kernel.data_ptr()
    out = keras.ops.conv(x, kernel)
    assert kernel.data_ptr() == at and kernel.is_contiguous()
    mapped = torch.func.vmap(lambda row: keras.ops.conv(row[None], kernel)[0])(x)
    assert_close(mapped, out)


def test_gradients_through_views_of_large_activations(on_torch, monkeypatch):
    monkeypatch.setattr(planes_module, "_LARGE", 0)
    x = torch.randn(2, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(2, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)

    def residual(x, kernels):
        y = keras.ops.conv(x, kernels[0], padding="same")
        z = keras.ops.conv(x, kernels[1], padding="same")
        y, *_ = keras.ops.normalize_batch(y, None, None, x, -1, 1e-3, None)
        return torch.tanh(y + z + x)

    assert torch.autograd.gradcheck(residual, (x, kernels))
    assert torch.autograd.gradgradcheck(residual, (x, kernels))
