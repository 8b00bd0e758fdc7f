"""Layers in programs of TensorFlow's world, as modules like any other."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from backends import BACKENDS
from compare import assert_close

import keraslite as keras
from keraslite import layers

pytestmark = pytest.mark.skipif("tensorflow" not in BACKENDS, reason="of tensorflow alone")
X = np.random.default_rng(3).normal(size=(6, 3)).astype("float32")
Y = X[:, :1] * 2.0


@pytest.fixture(autouse=True)
def _on_tensorflow():
    with keras.use_backend("tensorflow"):
        yield


class Named(keras.Model):
    """A model without a graph, with layers in a list."""

    def __init__(self):
        super().__init__()
        self.parts = [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5)]
        self.last = layers.Dense(1)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return {"y": self.last(x)}


def graph():
    a, b = keras.Input((3,), name="a"), keras.Input((1,), name="b")
    out = layers.Dense(2)(layers.Concatenate()([layers.Dropout(0.5)(a), b]))
    return keras.Model({"a": a, "b": b}, out)


def test_a_saved_model_serves_what_a_model_gives(tmp_path):
    subclass = Named()
    expected = subclass(X, training=False)["y"]
    subclass.compile("adam", "mse")
    tf.saved_model.save(subclass, str(tmp_path / "a"))
    served = tf.saved_model.load(str(tmp_path / "a"))
    assert_close(served.signatures["serving_default"](tf.constant(X))["y"], expected)
    model = graph()
    inputs = {"a": tf.constant(X), "b": tf.constant(Y)}
    tf.saved_model.save(model, str(tmp_path / "b"))
    served = tf.saved_model.load(str(tmp_path / "b")).signatures["serving_default"]
    assert_close(served(**inputs)["output_0"], model(inputs))


def test_a_module_with_layers_is_saved_with_its_functions(tmp_path):
    class Plain(tf.Module):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def double(self, x):
            return 2 * self.dense(x)

    module = Plain()
    module.dense(X)
    tf.saved_model.save(module, str(tmp_path))
    again = tf.saved_model.load(str(tmp_path))
    assert_close(again.double(tf.constant(X)), 2 * module.dense(X))


def test_frozen_layers_are_not_trained_by_tensorflows_own_means():
    module = tf.Module()
    module.first, module.last = layers.Dense(4), layers.Dense(1)
    module.last(module.first(X))
    assert len(module.trainable_variables) == 4
    module.first.trainable = False
    assert len(module.trainable_variables) == 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(module.last(module.first(X)) ** 2)
    assert len(tape.watched_variables()) == 2
    assert all(g is not None for g in tape.gradient(loss, module.trainable_variables))
    module.first.trainable = True
    assert len(module.trainable_variables) == 4


def test_an_optimizer_of_another_keras_trains_layers():
    module = tf.Module()
    module.layer = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    optimizer = tf_keras.optimizers.Adam(0.05)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((module.layer(X) - Y) ** 2)
        variables = module.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("backend", [b for b in ("jax", "torch", "numpy") if b in BACKENDS])
def test_layers_of_other_backends_run_in_tf_data(backend):
    with keras.use_backend(backend):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.LayerNormalization()])
        noise = layers.GaussianNoise(1.0)
    data = tf.data.Dataset.from_tensor_slices(X).batch(2)
    data = data.map(lambda x: (model(x), noise(x, training=True)))
    outputs, noisy = (np.concatenate(list(v)) for v in zip(*data.as_numpy_iterator(), strict=True))
    assert_close(outputs, model.predict(X, verbose=0))
    assert model.backend == backend
    assert len(np.unique(np.round(noisy - X, 3))) > 15  # of each batch its own


STRATEGY = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keraslite as keras
from keraslite import layers
keras.use_backend("tensorflow")
x = np.linspace(-1, 1, 48, dtype="float32").reshape(16, 3)
y = x.sum(1, keepdims=True)

def network():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(1)])
    optimizer = keras.optimizers.Adam(0.1)
    model.build((None, 3))
    optimizer.build(model.trainable_variables)
    return model, optimizer

def gradients_of(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum((model(x) - y) ** 2) / 16
    return loss, tape.gradient(loss, model.trainable_variables)

model, optimizer = network()
expected = []
for _ in range(3):
    loss, gradients = gradients_of(model, x, y)
    optimizer.apply(gradients, model.trainable_variables)
    expected.append(float(loss))

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model, optimizer = network()

@tf.function
def step(x, y):
    def replica(x, y):
        loss, gradients = gradients_of(model, x, y)
        gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)
        optimizer.apply(gradients, model.trainable_variables)
        return loss
    return strategy.reduce("sum", strategy.run(replica, (x, y)), axis=None)

data = strategy.experimental_distribute_dataset(
    tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat(3))
losses = [float(step(*batch)) for batch in data]
assert strategy.num_replicas_in_sync == 2
np.testing.assert_allclose(losses, expected, rtol=1e-5)

def refusal():
    try:
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0)
    except NotImplementedError as error:
        return str(error)

before = model.get_weights()
outside = refusal()
with strategy.scope():
    inside = refusal()
assert outside == inside and "under a MirroredStrategy" in inside, (outside, inside)
for one, other in zip(before, model.get_weights()):
    np.testing.assert_array_equal(one, other)
print("equal")
"""


def test_a_loop_over_replicas_gives_the_losses_of_one_device():
    done = subprocess.run([sys.executable, "-c", STRATEGY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("equal")
