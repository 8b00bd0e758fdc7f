"""TorchModuleWrapper against torch's own loop, and against the installed Keras on torch."""

import copy
import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from backends import BACKENDS
from compare import assert_close

import keraslite
from keraslite import layers, losses, models, optimizers, saving

if "torch" not in BACKENDS:
    pytest.skip("torch is not among the backends", allow_module_level=True)

import torch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")


@pytest.fixture(autouse=True)
def _on_torch():
    with keraslite.use_backend("torch"):
        yield


def network(frozen=False):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )
    module[0].bias.requires_grad_(not frozen)
    return module


def by_torch(module, steps, rate=0.1):
    """The losses of torch's own loop."""
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], rate)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(torch.from_numpy(X)), torch.from_numpy(Y))
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


KERAS = """
import json, keras, numpy as np, torch
rng = np.random.default_rng(0)
x, y = (rng.normal(size=(12, n)).astype("float32") for n in (3, 2))
torch.manual_seed(0)
module = torch.nn.Sequential(
    torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
module[0].bias.requires_grad_(False)
layer = keras.layers.TorchModuleWrapper(module, name="net", output_shape=(None, 2))
model = keras.Sequential([keras.Input((3,)), layer])
model.compile(keras.optimizers.SGD(0.1), "mse")
history = model.fit(x, y, batch_size=12, epochs=3, shuffle=False, verbose=0).history["loss"]
store, config = {}, layer.get_config()
layer.save_own_variables(store)
config["module"] = type(config["module"]).__name__
print(json.dumps({
    "losses": history, "config": config, "trained": len(layer.trainable_weights),
    "weights": [w.tolist() for w in layer.get_weights()], "store": sorted(store),
    "output": layer.output.shape, "eval": model.predict(x, verbose=0).tolist(),
}))
"""


@cache
def keras_says():
    environment = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KERAS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_what_it_is_in_keras():
    theirs = keras_says()
    layer = layers.TorchModuleWrapper(network(frozen=True), name="net", output_shape=(None, 2))
    model = models.Sequential([layers.Input((3,)), layer])
    model.compile(optimizers.SGD(0.1), "mse")
    history = model.fit(X, Y, batch_size=12, epochs=3, shuffle=False, verbose=0).history
    assert_close(history["loss"], theirs["losses"])
    assert_close(model.predict(X, verbose=0), theirs["eval"])
    store = {}
    layer.save_own_variables(store)
    assert sorted(store) == theirs["store"]
    assert len(layer.trainable_weights) == theirs["trained"] == 5
    # Keras leaves the buffers out of the weights; here they come after the parameters.
    assert_close(layer.get_weights()[:6], [np.float32(w) for w in theirs["weights"]])
    assert [w.name for w in layer.weights[6:]] == [
        "1.running_mean", "1.running_var", "1.num_batches_tracked"
    ]  # fmt: skip
    config = layer.get_config()
    assert {**config, "module": "str", "output_shape": [None, 2]}.keys() == theirs["config"].keys()
    assert config["name"] == theirs["config"]["name"] and type(config["module"]) is str
    assert list(layer.output.shape) == theirs["output"]


def test_our_optimizer_and_torchs_train_the_same_parameters():
    ours, theirs = network(), network()
    model = models.Sequential([layers.Input((3,)), layers.TorchModuleWrapper(ours)])
    assert model.output_shape == (None, 2)
    assert model.weights[0]._kl_raw is ours[0].weight
    model.compile(optimizers.SGD(0.1), "mse")
    history = model.fit(X, Y, batch_size=12, epochs=3, shuffle=False, verbose=0).history
    assert_close(history["loss"], by_torch(theirs, 3))
    assert_close(by_torch(ours, 2), by_torch(theirs, 2))
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert_close(a, b, message=name)
    names = {f"torch_module_wrapper.{k}" for k in ours.state_dict()}
    assert set(model.state_dict()) == names
    assert [id(p) for p in model.layers[0].parameters()] == [id(p) for p in ours.parameters()]


def test_train_and_eval_mode():
    layer = layers.TorchModuleWrapper(network())
    before = layer.module[1].running_mean.clone()
    layer(X, training=False)
    assert not layer.module[1].training
    assert_close(layer.module[1].running_mean, before, atol=0)
    layer(X)  # who says nothing trains, as in Keras
    assert layer.module[1].training
    assert layer.module[1].num_batches_tracked == 1
    layer.eval()(X)
    assert layer.module[1].num_batches_tracked == 1


def test_a_stateless_call_changes_nothing_and_gives_gradients():
    layer, module = layers.TorchModuleWrapper(network()), network()
    kept = copy.deepcopy(layer.module.state_dict())
    others = [v.value for v in layer.non_trainable_variables]  # the live ones

    def loss_of(trained):
        outputs, new = layer.stateless_call(trained, others, torch.from_numpy(X), training=True)
        return torch.mean((outputs - torch.from_numpy(Y)) ** 2), new

    trained = [v.value.detach().clone() for v in layer.trainable_variables]
    grads, (loss, new) = torch.func.grad_and_value(loss_of, has_aux=True)(trained)
    by_hand = torch.nn.functional.mse_loss(module(torch.from_numpy(X)), torch.from_numpy(Y))
    by_hand.backward()
    assert_close(loss, by_hand.detach())
    assert_close(grads, [p.grad for p in module.parameters()])
    assert_close(new, list(module.buffers()))
    for name, value in layer.module.state_dict().items():
        assert_close(value, kept[name], rtol=0, atol=0, message=name)


class Counting(torch.nn.Module):
    """It puts a new tensor in the place of its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, scale=1.0):
        self.calls = self.calls + 1
        return {"y": x * scale, "calls": self.calls}


def test_a_buffer_that_is_replaced_is_still_the_weight():
    layer = layers.TorchModuleWrapper(Counting())
    outputs = layer(X, scale=2.0)
    assert_close(outputs["y"], 2 * X)
    layer(X)
    assert float(layer.weights[0]) == float(layer.module.calls) == 2
    assert float(layer.stateless_call([], [torch.tensor(5.0)], X)[1][0]) == 6
    assert float(layer.weights[0]) == 2


def test_shared_parameters_and_moves_keep_both_sides_together():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    module[1].weight = module[0].weight
    layer = layers.TorchModuleWrapper(module)
    assert len(layer.weights) == 3
    layer.load_state_dict(
        {k: torch.ones_like(v) for k, v in layer.state_dict().items()}, assign=True
    )
    assert_close(layer(X), torch.from_numpy(X).sum(1, keepdim=True).expand(12, 3) * 3 + 4)
    assert_close(module[1].weight, np.ones((3, 3)))
    half = layers.TorchModuleWrapper(network(), dtype="mixed_bfloat16")
    assert half(X).dtype == torch.bfloat16
    assert half.weights[0].dtype == "float32"


def test_copies_have_a_module_of_their_own():
    layer = layers.TorchModuleWrapper(network())
    other = copy.deepcopy(layer)
    other.weights[0].assign(np.zeros((4, 3)))
    assert not other.module[0].weight.any()
    assert layer.module[0].weight.all()


def test_files(tmp_path):
    model = models.Sequential([layers.Input((3,)), layers.TorchModuleWrapper(network())])
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    wanted = model.predict(X, verbose=0)
    model.save_weights(tmp_path / "w.safetensors")
    torch.manual_seed(1)
    fresh = copy.deepcopy(network())
    for p in fresh.parameters():
        torch.nn.init.normal_(p)
    other = models.Sequential([layers.Input((3,)), layers.TorchModuleWrapper(fresh)])
    other.load_weights(tmp_path / "w.safetensors")
    assert_close(other.predict(X, verbose=0), wanted)
    store = {}
    model.layers[0].save_own_variables(store)
    torch.nn.init.zeros_(fresh[0].weight)
    other.layers[0].load_own_variables(store)
    assert_close(other.predict(X, verbose=0), wanted)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="arbitrary code"):
        saving.load_model(tmp_path / "m.keras")
    loaded = saving.load_model(tmp_path / "m.keras", safe_mode=False)
    assert_close(loaded.predict(X, verbose=0), wanted)


def test_a_pickle_in_a_config_does_not_run_unasked(tmp_path):
    layer = layers.TorchModuleWrapper(Counting(), output_shape=[None, 3])
    config = layer.get_config()
    for read in (layers.TorchModuleWrapper.from_config, lambda c: layers.deserialize(
        {"class_name": "TorchModuleWrapper", "config": c})):  # fmt: skip
        with pytest.raises(ValueError, match="torch.load"):
            read(config)
    other = layers.TorchModuleWrapper.from_config(config, safe_mode=False)
    assert other.name == layer.name and other.output_shape == [None, 3]
    assert_close(other(X)["y"], X)
    assert type(config["module"]) is str  # the config is not changed


class Plain(models.Model):
    """A model of torch's modules, without a word about it."""

    def __init__(self):
        self.first = torch.nn.Linear(3, 4)
        super().__init__()
        self.norm, self.last = torch.nn.BatchNorm1d(4), layers.Dense(2)

    def call(self, x):
        return self.last(self.norm(self.first(x)))


def test_a_module_in_an_attribute_is_wrapped_by_itself():
    model = Plain()
    assert [type(x) for x in (model.first, model.norm)] == [type(model.first)] * 2
    assert isinstance(model.first, layers.TorchModuleWrapper)
    assert isinstance(model.last, layers.Dense)
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    assert len(model.trainable_weights) == 6
    assert model.norm.module.num_batches_tracked == 2
    assert "first/weight" in dict(model.named_weights())
    del model.first
    assert len(model.trainable_weights) == 4


def test_what_is_refused():
    with pytest.raises(ValueError, match="LazyModules are not supported"):
        layers.TorchModuleWrapper(torch.nn.Sequential(torch.nn.LazyLinear(2)))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got 3"):
        layers.TorchModuleWrapper(3)


def test_a_loss_on_it_reaches_what_is_before_it():
    module = network()
    first = layers.Dense(3)
    first.build((None, 3))
    layer = layers.TorchModuleWrapper(module)

    def loss_of():
        return losses.mean_squared_error(Y, layer(first(X))).mean()

    variables = [first.kernel, *layer.trainable_variables]
    loss, grads = keraslite.value_and_grad(loss_of, variables=variables)()
    assert all(float(abs(g).sum()) > 0 for g in grads[:2])
    assert float(loss) > 0
