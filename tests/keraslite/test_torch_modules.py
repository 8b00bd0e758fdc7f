"""Layers as torch modules: hooks, functional calls, parameters that are set, dtypes."""

import numpy as np
import pytest
import torch

import keraslite as keras
from keraslite import layers, ops

X = torch.tensor(np.random.default_rng(0).normal(size=(2, 4)), dtype=torch.float32)


@pytest.fixture(autouse=True)
def _on_torch():
    with keras.use_backend("torch"):
        yield


def graph_model():
    x = inputs = keras.Input((4,))
    for _ in range(2):
        x = layers.Dense(4, "tanh")(x)
    return keras.Model(inputs, x)


def mixed_module():
    module = torch.nn.Sequential(layers.Dense(3, "tanh"), torch.nn.Linear(3, 1))
    module(X)
    return module


@pytest.mark.parametrize("make", [graph_model, mixed_module])
def test_functional_call_gives_gradients_and_leaves_the_parameters(make):
    module = make()
    before = list(module.parameters())
    expected = torch.autograd.grad(module(X).square().sum(), before)
    values = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    out = torch.func.functional_call(module, values, (X,)).square().sum()
    got = torch.autograd.grad(out, list(values.values()))
    transformed = torch.func.grad(
        lambda p: torch.func.functional_call(module, p, (X,)).square().sum()
    )({name: p.detach() for name, p in module.named_parameters()})
    for a, b, c in zip(got, transformed.values(), expected, strict=True):
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(b, c)
    assert all(a is b for a, b in zip(module.parameters(), before, strict=True))
    zeros = {name: 0 * p for name, p in module.named_parameters()}
    assert not torch.func.functional_call(module, zeros, (X,)).any()


def test_an_ensemble_is_mapped_over_stacked_parameters():
    modules = [mixed_module() for _ in range(3)]
    state = torch.func.stack_module_state(modules)
    outs = torch.vmap(lambda *s: torch.func.functional_call(modules[0], s, (X,)))(*state)
    torch.testing.assert_close(outs, torch.stack([module(X) for module in modules]))


def test_hooks_run_in_torchs_order_where_calls_are_replayed_too():
    model, calls = graph_model(), []
    model.compile("sgd", "mse")
    for _ in range(4):
        expected = model.predict_on_batch(X)
    first = model.layers[1]
    handles = [
        first.register_forward_pre_hook(lambda module, args: calls.append("before")),
        first.register_forward_hook(lambda module, args, out: calls.append("after") or 2 * out),
    ]
    changed = model.predict_on_batch(X)
    assert calls == ["before", "after"]
    assert abs(changed - expected).max() > 1e-3
    model.predict_on_batch(X)
    assert len(calls) == 4
    for handle in handles:
        handle.remove()
    for _ in range(3):  # replayed again
        np.testing.assert_allclose(model.predict_on_batch(X), expected, 1e-6)
    assert len(calls) == 4
    seen = []
    first.register_full_backward_hook(lambda module, into, out: seen.append(out[0].shape))
    model(X.clone().requires_grad_(), training=True).sum().backward()
    assert seen == [(2, 4)]
    assert keras.Model(model.inputs, first.output)(X).shape == (2, 4)  # symbols pass hooks by


def test_a_parameter_set_over_a_weight_is_its_value():
    layer = layers.Dense(2)
    layer(X)
    kernel = layer.kernel
    new = torch.nn.Parameter(torch.ones(4, 2))
    layer.kernel = new
    assert layer.kernel is kernel
    assert dict(layer.named_parameters())["kernel"] is new
    torch.testing.assert_close(layer(X), X.sum(1, keepdim=True).expand(2, 2))
    layer(X).sum().backward()
    assert new.grad is not None
    with pytest.raises(ValueError, match="shape"):
        layer.kernel = torch.nn.Parameter(torch.ones(3, 2))


def test_dtypes_follow_a_conversion_of_the_module():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(2), layers.BatchNormalization()])
    model.double()
    assert {v.dtype for v in model.weights} == {"float64"}
    assert model.layers[0].dtype_policy.name == "float64"
    assert model(X.double()).dtype == torch.float64
    model.to(torch.bfloat16)
    assert model(X.bfloat16()).dtype == torch.bfloat16
    assert ops.convert_to_numpy(model(X.bfloat16())).shape == (2, 2)


def test_export_of_models_with_a_graph():
    model = graph_model()
    exported = torch.export.export(model, (X,))
    torch.testing.assert_close(exported.module()(X), model(X))


def test_fit_in_several_processes_says_that_each_trains_alone(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    model = graph_model()
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="each trains a model of its own"):
        model.fit(X, X, verbose=0)


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_cleared_below(to_none):
    model = keras.Sequential([graph_model(), torch.nn.Linear(4, 1)])
    model(X).sum().backward()
    parameters = list(model.parameters())
    assert len(parameters) == 6 and all(p.grad.abs().sum() > 0 for p in parameters)
    model.zero_grad(set_to_none=to_none)
    assert all(p.grad is None if to_none else not p.grad.any() for p in parameters)
