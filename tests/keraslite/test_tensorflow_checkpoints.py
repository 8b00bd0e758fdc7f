"""Models and optimizers in tf.train.Checkpoint."""

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf
from backends import BACKENDS
from compare import assert_close

import keraslite
from keraslite import layers, models, optimizers

pytestmark = pytest.mark.skipif("tensorflow" not in BACKENDS, reason="of tensorflow alone")
X = np.random.default_rng(3).normal(size=(6, 3)).astype("float32")
Y = X[:, :1] * 2.0


@pytest.fixture(autouse=True)
def on_tensorflow():
    with keraslite.use_backend("tensorflow"):
        yield


class Named(models.Model):
    """A model whose layers are built when it is called."""

    def __init__(self):
        super().__init__()
        self.state = layers.Dense(4)
        self.parts = [layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)]

    def call(self, x):
        x = self.state(x)
        for part in self.parts:
            x = part(x)
        return x


def sequential():
    return models.Sequential([layers.Input((3,)), layers.Dense(4), layers.Dense(1)])


def compiled(make, optimizer):
    model = make()
    model.compile(optimizer() if callable(optimizer) else optimizer, "mse")
    return model


def scaled():
    return optimizers.LossScaleOptimizer(optimizers.Adam())


@pytest.mark.parametrize("optimizer", ["adam", "sgd", scaled])
@pytest.mark.parametrize("make", [sequential, Named])
def test_a_checkpoint_restores_a_model_and_its_optimizer(make, optimizer, tmp_path):
    model = compiled(make, optimizer)
    model.fit(X, Y, epochs=2, verbose=0)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "c"))
    other = compiled(make, optimizer)  # whose optimizer, at least, is not built yet
    status = tf.train.Checkpoint(model=other).restore(path)
    other(X)
    other.optimizer.build(other.trainable_variables)
    status.assert_consumed().assert_existing_objects_matched()
    assert_close(other.get_weights(), model.get_weights())
    for a, b in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        assert_close(a, b)
    for m in (model, other):
        m.fit(X, Y, shuffle=False, verbose=0)
    assert_close(other.get_weights(), model.get_weights())


def test_a_checkpoint_of_an_optimizer(tmp_path):
    model = compiled(sequential, "adam")
    model.fit(X, Y, epochs=2, verbose=0)
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(optimizer=model.optimizer), str(tmp_path), max_to_keep=2
    )
    path = manager.save()
    other = optimizers.Adam()
    status = tf.train.Checkpoint(optimizer=other).restore(path)
    assert int(other.iterations) == 2
    other.build(model.trainable_variables)
    status.assert_consumed()
    for a, b in zip(other.variables, model.optimizer.variables, strict=True):
        assert_close(a, b)


def test_an_optimizer_of_tensorflow_is_copied_and_moved_as_any_other():
    class Own(optimizers.Optimizer):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient * learning_rate)

    for optimizer in (optimizers.Adam(0.5), Own(0.5)):
        cls = type(optimizer).__mro__[1]
        assert isinstance(optimizer, tf.__internal__.tracking.Trackable)
        for other in (
            copy.deepcopy(optimizer),
            type(optimizer).from_config(optimizer.get_config()),
        ):
            assert type(other) is type(optimizer) and float(other.learning_rate) == 0.5
        optimizer.to_backend("numpy")
        assert type(optimizer) is cls and isinstance(cls, type)
        optimizer.to_backend("tensorflow")
        assert isinstance(optimizer, tf.__internal__.tracking.Trackable)
    again = pickle.loads(pickle.dumps(optimizers.Adam(0.25)))
    assert isinstance(again, optimizers.Adam) and float(again.learning_rate) == 0.25
    assert isinstance(again, tf.__internal__.tracking.Trackable)


class Plain(tf.Module):
    """A module of the user's with layers inside."""

    def __init__(self):
        super().__init__()
        self.first, self.rest = layers.Dense(3), [layers.BatchNormalization(), layers.Dense(1)]

    def __call__(self, x):
        for layer in (self.first, *self.rest):
            x = layer(x)
        return x


def test_a_module_of_tensorflow_has_the_variables_of_its_layers():
    module = Plain()
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((module(x) - Y) ** 2)
    assert [len(v) for v in (module.variables, module.trainable_variables)] == [8, 6]
    gradients = tape.gradient(loss, module.trainable_variables)
    for variable, gradient in zip(module.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.05 * gradient)
    assert float(tf.reduce_mean((module(x) - Y) ** 2)) < float(loss)
    for other in (copy.deepcopy(module.first), pickle.loads(pickle.dumps(module.first))):
        again = Plain()
        again.first, again.rest = other, []
        assert len(again.variables) == 2
        assert again.variables[0] is not module.first.kernel._kl_raw
    module.first.to_backend("numpy")
    assert module.first.kernel.numpy().shape == (3, 3)


def test_fit_under_a_strategy_is_refused():
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        with pytest.raises(NotImplementedError, match="under a OneDeviceStrategy"):
            model.fit(X, Y, verbose=0)
