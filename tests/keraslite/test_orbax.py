"""The callback OrbaxCheckpoint, and its checkpoints: read by orbax, by Keras, and by us again."""

import json
import os
import subprocess
import sys

import numpy as np
import orbax.checkpoint.experimental.v1 as orbax
import pytest

import keraslite
from keraslite import callbacks, layers, models, optimizers, utils

X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def model_of(seed=1, dropout=0.5):
    utils.set_random_seed(seed)
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(4, "tanh", name="a"), layers.Dropout(dropout, name="d"),
         layers.Dense(1, name="b")], name="m",
    )  # fmt: skip
    model.compile(optimizers.Adam(0.05, name="adam"), "mse")
    return model


def fit(model, folder=None, epochs=4, begin=0, **arguments):
    given = [] if folder is None else [callbacks.OrbaxCheckpoint(folder, **arguments)]
    return model.fit(X, Y, batch_size=4, epochs=epochs, initial_epoch=begin, shuffle=False,
                     verbose=0, callbacks=given)  # fmt: skip


def steps(folder):
    return sorted(int(name) for name in os.listdir(folder))


def test_a_training_goes_on_from_its_last_checkpoint(trains, tmp_path):
    wanted = fit(model_of()).history["loss"]
    fit(model_of(), tmp_path, epochs=2)
    assert steps(tmp_path) == [1]  # the last one alone is kept
    for other in (model_of(seed=7), models.load_model(tmp_path)):
        other.load_weights(tmp_path)
        assert int(other.optimizer.iterations.numpy()) == 6
        history = fit(other, tmp_path, begin=2)
        np.testing.assert_allclose(history.history["loss"], wanted[2:], rtol=1e-6)
        assert steps(tmp_path) == [3]
        fit(model_of(), tmp_path / "again", epochs=2)
        tmp_path = tmp_path / "again"


@pytest.fixture
def one():
    with keraslite.use_backend("torch"):
        yield


def test_orbax_reads_what_was_saved(one, tmp_path):
    model = model_of()
    fit(model, tmp_path, epochs=1, save_on_background=False)
    parts = orbax.load_checkpointables(tmp_path / "0")
    state = parts["pytree"]
    assert list(parts) == ["model_config", "pytree"]
    assert sorted(state) == [
        "metrics_variables", "non_trainable_variables", "optimizer_variables",
        "trainable_variables",
    ]  # fmt: skip
    np.testing.assert_array_equal(state["trainable_variables"]["m"]["b"]["bias"], model.weights[-1])
    assert state["optimizer_variables"]["adam"]["iteration"] == 3
    assert json.loads(parts["model_config"]["config"])["class_name"] == "Sequential"


def test_checkpoints_every_few_batches_the_best_and_the_weights_alone(one, tmp_path, capsys):
    model = model_of()
    fit(model, tmp_path / "a", epochs=3, save_freq=2, max_to_keep=3, verbose=1)
    assert steps(tmp_path / "a") == [4, 6, 8]
    assert "saving the checkpoint 8" in capsys.readouterr().out
    with pytest.raises(ValueError, match="checkpoints of later steps than 0, up to 8"):
        fit(model, tmp_path / "a", epochs=1)
    model = model_of()
    checkpoint = callbacks.OrbaxCheckpoint(
        tmp_path / "b", "watched", save_best_only=True, mode="min", max_to_keep=None,
        save_weights_only=True, initial_value_threshold=3.0,
    )  # fmt: skip
    checkpoint.set_model(model)
    for epoch, value in enumerate([4.0, 2.0, 2.5, 1.0]):
        checkpoint.on_epoch_end(epoch, {"watched": value})
    with pytest.warns(UserWarning, match="watches 'watched', which is not in the logs"):
        checkpoint.on_epoch_end(4, {})
    checkpoint.wait_until_finished()
    assert steps(tmp_path / "b") == [1, 3]
    assert checkpoint.is_primary_host() and not checkpoint.is_multihost_enabled()
    checkpoint.on_train_end()
    with pytest.raises(ValueError, match="has no config: make the model"):
        models.load_model(tmp_path / "b")
    other = model_of(seed=5)
    other.load_weights(tmp_path / "b" / "1")  # a step by itself
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    third = models.Sequential([layers.Input((3,)), layers.Dense(1, name="other")], name="n")
    with pytest.raises(ValueError, match="It lacks: n/other/bias, n/other/kernel"):
        third.load_weights(tmp_path / "b")
    with pytest.raises(ValueError, match="is loaded as a whole"):
        other.load_weights(tmp_path / "b", skip_mismatch=True)
    with pytest.raises(ValueError, match="save_freq"):
        callbacks.OrbaxCheckpoint(tmp_path, save_freq="batch")


def test_a_resumed_training_replaces_the_checkpoints_it_makes_again(one, tmp_path):
    class Crash(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 8:
                raise OSError("crash")

    def run(*extra):
        own = [
            callbacks.BackupAndRestore(tmp_path / "backup"),
            callbacks.OrbaxCheckpoint(tmp_path / "o", save_freq=1, max_to_keep=None),
            *extra,
        ]
        model_of().fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=own)

    with pytest.raises(OSError, match="crash"):
        run(Crash())
    run()
    assert steps(tmp_path / "o") == list(range(1, 10))


KERAS = """
import sys, keras, numpy as np
X = np.arange(6, dtype="float32").reshape(2, 3) / 6
read, write = sys.argv[1:]
keras.utils.set_random_seed(0)  # without it an output may come to lie near zero
L = keras.layers
keras.models.load_model(read)  # of which Keras 3.15 forgets the weights: layers have other paths
model = keras.Sequential(
    [L.Input((3,)), L.Dense(4, "tanh", name="a"), L.Dropout(0.5, name="d"), L.Dense(1, name="b")],
    name="m",
)
model.compile(keras.optimizers.Adam(0.05, name="adam"), "mse", jit_compile=False)
model.optimizer.build(model.trainable_variables)
model.load_weights(read)
print(model.predict(X, verbose=0).ravel().tolist(), int(model.optimizer.iterations))
model.fit(X, X[:, :1], verbose=0, callbacks=[keras.callbacks.OrbaxCheckpoint(write)])
print(model.predict(X, verbose=0).ravel().tolist(), int(model.optimizer.iterations))
"""


def test_checkpoints_go_to_keras_and_come_back(one, tmp_path):
    model, x = model_of(), np.arange(6, dtype="float32").reshape(2, 3) / 6
    fit(model, tmp_path / "ours", epochs=1)
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path / "ours"), str(tmp_path / "theirs")],
        capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = done.stdout.splitlines()[-2:]
    assert first.endswith("] 3")
    read = json.loads(first.removesuffix(" 3"))
    np.testing.assert_allclose(read, model.predict(x, verbose=0).ravel(), rtol=1e-5)
    back = models.load_model(tmp_path / "theirs")
    wanted = json.loads(second.removesuffix(" 4"))
    np.testing.assert_allclose(back.predict(x, verbose=0).ravel(), wanted, rtol=1e-5)
    assert int(back.optimizer.iterations.numpy()) == 4
