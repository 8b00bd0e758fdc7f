"""Modules of torch, JAX, flax, Haiku and TensorFlow as layers on all backends: against their own
frameworks' gradients, and the same model on one backend against another.
"""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest
from backends import INSTALLED
from compare import assert_close

import keraslite
from keraslite import layers, models, ops, optimizers, saving

if len(INSTALLED) < 4:
    pytest.skip("not all frameworks are installed", allow_module_level=True)

import flax.linen
import haiku as hk
import jax
import jax.numpy as jnp
import tensorflow as tf
import torch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3)).astype("float32")
Y = RNG.normal(size=(6, 2)).astype("float32")
KERNEL = RNG.normal(size=(3, 2)).astype("float32")


# -- a module with a running mean in each framework, and its gradients by that framework ----------


def torch_module():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)
    )


def by_torch():
    module, x = torch_module(), torch.tensor(X, requires_grad=True)
    loss = torch.mean((module(x.clone()) - torch.tensor(Y)) ** 2)
    loss.backward()
    found = [loss.detach(), x.grad, *(p.grad for p in module.parameters())]
    return found, [module[2].running_mean, module[2].running_var, np.int64(1)]


@saving.register_keras_serializable("test_foreign_layers")
def initial(inputs):
    return {"w": KERNEL}, {"mean": jnp.zeros(3)}


@saving.register_keras_serializable("test_foreign_layers")
def centered(params, state, inputs, training):
    if training:
        state = {"mean": 0.9 * state["mean"] + 0.1 * jnp.mean(inputs, 0)}
    return jnp.tanh((inputs - state["mean"]) @ params["w"]), state


@saving.register_keras_serializable("test_foreign_layers")
class Linen(flax.linen.Module):
    rate: float = 0.0

    @flax.linen.compact
    def __call__(self, inputs, training):
        x = flax.linen.Dense(2)(inputs)
        x = flax.linen.BatchNorm(use_running_average=not training, momentum=0.9)(x)
        return flax.linen.Dropout(self.rate, deterministic=not training)(x)

    def get_config(self):
        return {"rate": self.rate}


@saving.register_keras_serializable("test_foreign_layers")
def haiku_net(x, is_training):
    x = hk.Linear(2)(x)
    x = hk.BatchNorm(True, True, 0.9)(x, is_training)
    return hk.dropout(hk.next_rng_key(), 0.3, x) if is_training else x


def jax_loss(apply):
    """The loss, its gradients and the new state, of a function of (params, x)."""

    def loss_of(x, params):
        outputs, state = apply(params, x)
        return jnp.mean((outputs - Y) ** 2), state

    step = jax.jit(jax.value_and_grad(loss_of, (0, 1), has_aux=True))
    (loss, state), (dx, grads) = step(X, params_of[0])
    return [loss, dx, *jax.tree.leaves(grads)], jax.tree.leaves(state)


params_of: list = [None]


def by_jax():
    params_of[0], state = initial(X)
    return jax_loss(lambda params, x: centered(params, state, x, True))


def by_flax(variables):
    params_of[0] = variables["params"]
    state = {"batch_stats": variables["batch_stats"]}
    return jax_loss(
        lambda params, x: Linen().apply({"params": params, **state}, x, True, mutable=list(state))
    )


def by_haiku(params, state, key):
    params_of[0] = params
    apply = hk.transform_with_state(haiku_net).apply
    return jax_loss(lambda params, x: apply(params, state, key, x, True))


@saving.register_keras_serializable("test_foreign_layers")
class Centered(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(KERNEL, name="kernel")
        self.mean = tf.Variable(np.zeros(3, "float32"), trainable=False, name="mean")
        self.steps = tf.Variable(0, dtype="int64", trainable=False, name="steps")

    def __call__(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, 0))
            self.steps.assign_add(1)
        return tf.tanh((x - self.mean) @ self.kernel)

    def get_config(self):
        return {}


def by_tensorflow():
    module, x = Centered(), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_mean((module(x, training=True) - Y) ** 2)
    return [loss, *tape.gradient(loss, [x, module.kernel])], [module.mean, np.int64(1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A SavedModel of the same module."""
    path, module = tmp_path_factory.mktemp("saved") / "model", Centered()
    spec = tf.TensorSpec((None, 3), tf.float32)
    module.serve = tf.function(module.__call__).get_concrete_function(spec)
    module.train = tf.function(lambda x: module(x, True)).get_concrete_function(spec)
    tf.saved_model.save(module, str(path))
    return path


def of_flax():
    layer = layers.FlaxLayer(Linen())
    layer.build((None, 3))
    variables = jax.tree.map(lambda v: v.numpy(), {**layer.params, **layer.state})
    return layer, lambda: by_flax(variables)


def of_haiku():
    layer = layers.HaikuLayer(haiku_net, seed=5)
    layer.build((None, 3))
    params, state = (jax.tree.map(lambda v: v.numpy(), x) for x in (layer.params, layer.state))
    return layer, lambda: by_haiku(params, state, jnp.uint32([5, 0]))


WORLDS = {
    "torch": lambda folder: (layers.TorchModuleWrapper(torch_module()), by_torch),
    "jax": lambda folder: (layers.JaxLayer(centered, initial), by_jax),
    "flax": lambda folder: of_flax(),
    "haiku": lambda folder: of_haiku(),
    "tensorflow": lambda folder: (layers.TFModuleLayer(Centered()), by_tensorflow),
    "saved": lambda folder: (
        layers.TFSMLayer(folder, call_training_endpoint="train"), by_tensorflow
    ),
}  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_gradients_are_the_frameworks_own(world, trains, folder):
    layer, by_hand = WORLDS[world](folder)
    wanted, state = by_hand()
    if not layer.built:
        layer.build((None, 3))
    shift = layer.add_weight((6, 3), "zeros", name="shift")  # its gradient is that of the inputs

    def loss_of():
        return ops.mean(ops.square(ops.subtract(layer(shift + X, training=True), Y)))

    trained = [v for v in layer.trainable_weights if v is not shift]
    loss, grads = keraslite.value_and_grad(loss_of, variables=[shift, *trained])()
    assert_close([loss, *grads], wanted, atol=1e-5, message=world)
    others = [v.numpy() for v in layer.non_trainable_weights]
    assert_close(others, [np.asarray(x, y.dtype) for x, y in zip(state, others, strict=True)])
    kept = layer.get_weights()
    values = [[v.value for v in part]
              for part in (layer.trainable_variables, layer.non_trainable_variables)]  # fmt: skip
    layer.stateless_call(*values, X, training=True)
    assert_close(layer.get_weights(), kept, rtol=0, atol=0)


# -- one model of all -----------------------------------------------------------------------------


def model_of_all():
    keraslite.utils.set_random_seed(0)
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.3)
    )
    parts = [
        layers.Input((3,)), layers.Dense(3), layers.TorchModuleWrapper(module, seed=1),
        layers.FlaxLayer(Linen(0.3)), layers.Dense(3), layers.TFModuleLayer(Centered()),
        layers.HaikuLayer(haiku_net),
    ]  # fmt: skip
    model = models.Sequential(parts)
    model.compile(optimizers.SGD(0.1), "mse")
    return model


def fitted(model):
    return model.fit(X, Y, batch_size=3, epochs=2, shuffle=False, verbose=0).history["loss"]


# What the first of the backends gives, to which the others are compared.
FIRST: dict = {}


def test_a_model_of_all_trains_moves_and_is_saved(trains, tmp_path):
    model = model_of_all()
    assert model.output_shape == (None, 2)
    losses = fitted(model)
    before = model.get_weights()
    predicted = np.asarray(model.predict(X, verbose=0))
    assert_close(losses, FIRST.setdefault("losses", losses), rtol=1e-4)
    assert_close(predicted, FIRST.setdefault("predicted", predicted), rtol=1e-4, atol=1e-5)
    weights = model.get_weights()
    assert_close(weights, FIRST.setdefault("weights", weights), rtol=1e-4, atol=1e-5)
    assert_close(weights, before, rtol=0, atol=0)  # `predict` changes no statistics

    model.save(tmp_path / "m.keras")
    loaded = saving.load_model(tmp_path / "m.keras", safe_mode=False)
    assert_close(loaded.predict(X, verbose=0), predicted)
    model.save_weights(tmp_path / "w.safetensors")
    other = model_of_all()
    other.load_weights(tmp_path / "w.safetensors")
    assert_close(other(X, training=False), predicted)
    copied = copy.deepcopy(model)
    for name in INSTALLED:
        if name != trains:
            copied.to_backend(name)
            assert_close(copied(X, training=False), predicted, rtol=1e-4, message=name)
    copied.to_backend(trains)
    again = fitted(copied)  # the seeds go on where they were, too
    assert_close(again, FIRST.setdefault("again", again), rtol=1e-4)
    assert_close(model.get_weights(), before, rtol=0, atol=0)


def test_a_layer_that_comes_home_shares_its_memory_again():
    with keraslite.use_backend("numpy"):
        module = torch_module()
        layer = layers.TorchModuleWrapper(module)
        store = {}
        layer.weights[0].assign(np.ones((2, 3)))
        layer.save_own_variables(store)
        assert sorted(store) == sorted(module.state_dict())
        assert_close(store["1.weight"], np.ones((2, 3)))
        assert_close(module[1].weight, np.ones((2, 3)))  # the module was given it to save it
        layer.load_own_variables({k: np.full_like(v, 2) for k, v in store.items()})
        assert_close(layer.weights[0], np.full((2, 3), 2.0))
        json.dumps(layer.get_config())
    layer.to_backend("torch")
    assert layer.weights[0]._kl_raw is module[1].weight and module[1].weight.requires_grad
    assert_close(module[2].running_var, [2.0, 2.0])
    other = pickle.loads(pickle.dumps(layers.TFModuleLayer(Centered()).to_backend("numpy")))
    module = other.module
    other.weights[0].assign(np.zeros((3, 2)))
    other.to_backend("tensorflow")
    assert other.weights[0]._kl_raw is module.kernel and not module.kernel.numpy().any()


class Both(torch.nn.Module):
    """Two inputs, one of them ids; outputs of several kinds."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(4, 2, dtype=torch.float32)
        torch.nn.init.constant_(self.table.weight, 0.5)

    def forward(self, x, ids, scale=None):
        y = self.table(ids).sum(1) * x.sum(1, keepdim=True)
        return {"y": y, "best": y.argmax(1), "nothing": None, "scale": scale}


def test_several_inputs_and_outputs(trains):
    ids = np.arange(12).reshape(6, 2) % 4
    inputs = [layers.Input((3,)), layers.Input((2,), dtype="int32")]
    layer = layers.TorchModuleWrapper(Both())
    outputs = layer(*inputs)
    assert outputs["best"].dtype.startswith("int") and outputs["nothing"] is None
    assert outputs["y"].shape == (None, 2)
    model = models.Model(inputs, [outputs["y"], layers.Dense(1)(outputs["y"])])
    model.layers[-1].kernel.assign(np.ones((2, 1)))
    model.compile(optimizers.SGD(0.1), ["mse", "mse"])
    history = model.fit([X, ids], [Y, Y[:, :1]], epochs=3, batch_size=6, verbose=0, shuffle=False)
    losses = history.history["loss"]
    assert losses[2] < losses[0]
    assert_close(losses, FIRST.setdefault("two", losses), rtol=1e-4)
    called = layer(X, ids, scale=2.0)
    assert called["scale"] == 2.0
    assert_close(called["best"], ops.convert_to_numpy(called["y"]).argmax(1))


# -- random numbers, and what cannot be -----------------------------------------------------------


class Drops(tf.Module):
    def __init__(self, random=False):
        super().__init__()
        self.w = tf.Variable(tf.ones(8))
        if random:
            self.random = tf.random.Generator.from_seed(3)

    def by_seed(self, x, seed):
        if seed is None:
            return x * self.w
        return x * self.w * tf.cast(tf.random.stateless_uniform(x.shape, seed) > 0.5, x.dtype)

    def by_generator(self, x, training):
        return x * self.w * tf.cast(self.random.uniform(x.shape) > 0.5, x.dtype)

    def hidden(self, x):
        return tf.nn.dropout(x * self.w, 0.5)


DROPOUTS = {
    "torch": lambda: layers.TorchModuleWrapper(torch.nn.Dropout(0.5), seed=3),
    "jax": lambda: layers.JaxLayer(
        lambda rng, inputs: inputs if rng is None else inputs * jax.random.bernoulli(rng, 0.5, (8,)),
        seed=3,
    ),
    "seed of tensorflow": lambda: layers.TFModuleLayer(Drops(), "by_seed", seed=3),
    "generator of tensorflow": lambda: layers.TFModuleLayer(Drops(True), "by_generator"),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPOUTS)
def test_gradients_have_the_masks_of_the_outputs(name, trains):
    layer, x = DROPOUTS[name](), np.ones(8, "float32")
    masks = []
    for _ in range(3):
        (_, outputs), gradient = keraslite.value_and_grad(
            lambda x: (ops.sum(y := layer(x, training=True)), y), has_aux=True
        )(ops.convert_to_tensor(x))
        assert_close(gradient, ops.convert_to_numpy(outputs))
        masks.append(ops.convert_to_numpy(outputs))
    assert np.std(masks, axis=0).any() and not np.all(masks)
    assert_close(masks, FIRST.setdefault(name, masks))
    if "generator" not in name:
        assert_close(layer(x, training=False), x)


def test_what_is_refused(trains):
    layer = layers.TFModuleLayer(Drops(), "hidden")
    if trains != "tensorflow":
        with pytest.raises(NotImplementedError, match=r"RandomUniform.*hidden.*`seed`"):
            layer(np.ones(8, "float32"))
    with pytest.raises(TypeError, match=r"must be a tf.Module, got 3"):
        layers.TFModuleLayer(3)
    made = layers.HaikuLayer(hk.transform(lambda x: hk.Linear(2)(x)))
    with pytest.raises(TypeError, match="cannot be saved"):
        made.get_config()
    if trains != "torch":  # of the torch module there are first derivatives alone
        square = layers.TorchModuleWrapper(torch.nn.Softplus())
        slope = keraslite.grad(lambda x: ops.sum(square(x)))
        x = ops.convert_to_tensor(X)
        assert_close(slope(x), 1 / (1 + np.exp(-X)))
        with pytest.raises((ValueError, NotImplementedError, LookupError)):
            keraslite.grad(lambda x: ops.sum(slope(x)))(x)


def test_xla_is_left_out_with_one_warning():
    with keraslite.use_backend("tensorflow"):
        model = models.Sequential([layers.Input((3,)), layers.TorchModuleWrapper(torch_module())])
        model.compile("sgd", "mse", jit_compile=True)
        with pytest.warns(UserWarning, match="XLA cannot compile the layers torch_module_wrapper"):
            model.fit(X, Y, verbose=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.predict(X, verbose=0)
        assert layers.TFModuleLayer(Centered()).supports_jit


def test_sizes_that_a_graph_does_not_know():
    with keraslite.use_backend("tensorflow"):
        layer = layers.JaxLayer(lambda inputs: (inputs.sum(1), inputs[:1]))
        call = tf.function(layer, input_signature=[tf.TensorSpec((None, 3), tf.float32)])
        first, second = call.get_concrete_function().structured_outputs
        assert (first.shape.as_list(), second.shape.as_list()) == ([None], [1, 3])
        assert_close(call(X)[0], X.sum(1))


def test_a_module_that_makes_its_variables_when_it_is_called(backend):
    class Lazy(tf.Module):
        kernel = None

        def __call__(self, x, is_training):
            if self.kernel is None:
                self.kernel = tf.Variable(tf.ones((x.shape[-1], 2)), name="kernel")
            return x @ self.kernel * (2.0 if is_training else 1.0)

    layer = layers.TFModuleLayer(Lazy())
    assert_close(layer(X), X.sum(1, keepdims=True).repeat(2, 1))
    assert_close(layer(X, training=True), 2 * X.sum(1, keepdims=True).repeat(2, 1))
    assert [v.name for v in layer.trainable_weights] == ["kernel"]


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_batch_axis_may_be_mapped(name):
    with keraslite.use_backend(name):
        layer = layers.TFModuleLayer(Drops(), "by_seed")
        rows = ops.convert_to_tensor(np.arange(16, dtype="float32").reshape(2, 8))
        assert_close(ops.vectorized_map(layer, rows), rows)
        slopes = ops.vectorized_map(keraslite.grad(lambda x: ops.sum(layer(x) * rows[1])), rows)
        assert_close(slopes, [rows[1], rows[1]])


def test_half_precision_on_another_backend():
    with keraslite.use_backend("jax"):
        layer = layers.TorchModuleWrapper(torch.nn.Linear(3, 2), dtype="mixed_bfloat16")
        outputs = layer(X)
        assert str(outputs.dtype) == "bfloat16" and layer.weights[0].dtype == "float32"
        assert_close(outputs.astype("float32"), X @ layer.weights[0].numpy().T
                     + layer.weights[1].numpy(), atol=0.05, rtol=0.05)  # fmt: skip
