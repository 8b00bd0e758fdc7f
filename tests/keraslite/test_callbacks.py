"""Callbacks: what they are told, what they do, and the progress bar."""

import csv
import io
import json
import os
import random
import signal
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import numpy as np
import pytest
from backends import TRAINABLE

import keraslite
from keraslite import backend as backends
from keraslite import callbacks, layers, models, ops, optimizers, saving, utils
from keraslite.callbacks.base import HOOKS, Logs
from keraslite.utils.progress import Progbar, readable_size

RNG = np.random.default_rng(1)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X.sum(1, keepdims=True) > 0).astype("float32")
LABELS = Y[:, 0].astype(int)


@pytest.fixture
def one():
    """One backend, for what does not depend on which."""
    with keraslite.use_backend("torch" if "torch" in TRAINABLE else TRAINABLE[0]):
        yield


def model_of(seed=1, optimizer=None, dropout=0.0):
    utils.set_random_seed(seed)
    model = models.Sequential(
        [layers.Input((3,)), layers.Dense(4, "tanh"), layers.Dropout(dropout), layers.Dense(1)]
    )
    model.compile(optimizer or optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


class Told(callbacks.Callback):
    """Notes every event."""

    def __init__(self):
        super().__init__()
        self.events = []

    def __getattribute__(self, name):
        if name in HOOKS:
            return lambda *args: self.events.append((name.removeprefix("on_"), *args))
        return super().__getattribute__(name)


# -- events and logs ------------------------------------------------------------------------------


def test_fit_tells_what_happens_in_order(trains):
    told = Told()
    model_of().fit(X, Y, epochs=2, batch_size=20, validation_data=(X[:20], Y[:20]), verbose=0,
                   callbacks=[told])  # fmt: skip
    step = ["train_batch_begin", "train_batch_end"]
    validation = ["test_begin", "test_batch_begin", "test_batch_end", "test_end"]
    epoch = ["epoch_begin", *step, *step, *validation, "epoch_end"]
    assert [e[0] for e in told.events] == ["train_begin", *epoch, *epoch, "train_end"]
    numbers = [e[1] for e in told.events if e[0] == "train_batch_begin"]
    assert numbers == [0, 1, 0, 1]
    logs = told.events[-1][1]
    assert set(logs) == {"loss", "mae", "val_loss", "val_mae"}
    assert all(type(v) is float for v in logs.values())


def test_evaluate_and_predict_tell_what_happens(trains):
    told = Told()
    model = model_of()
    model.evaluate(X, Y, verbose=0, callbacks=[told])
    model.predict(X, verbose=0, batch_size=20, callbacks=[told])
    names = [e[0] for e in told.events]
    assert names == [
        "test_begin", *["test_batch_begin", "test_batch_end"] * 2, "test_end",
        "predict_begin", *["predict_batch_begin", "predict_batch_end"] * 2, "predict_end",
    ]  # fmt: skip
    outputs = next(e[2]["outputs"] for e in told.events if e[0] == "predict_batch_end")
    assert outputs.shape == (20, 1)


def test_the_old_names_of_batch_hooks_are_heard(one):
    seen = []

    class Old(callbacks.Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append((batch, logs["loss"]))

    model_of().fit(X, Y, batch_size=20, verbose=0, callbacks=Old())
    assert [b for b, _ in seen] == [0, 1]
    assert all(type(v) is float for _, v in seen)


def test_logs_are_read_when_they_are_looked_at(trains, monkeypatch):
    reads = []
    read = backends.to_numpy
    monkeypatch.setattr(backends, "to_numpy", lambda x: (reads.append(1), read(x))[1])
    logs = Logs(loss=ops.convert_to_tensor(0.5), acc=ops.convert_to_tensor(0.25))
    assert "loss" in logs
    assert list(logs) == ["loss", "acc"]
    assert not reads
    assert (logs["loss"], logs["loss"], logs.get("none", 3)) == (0.5, 0.5, 3)
    assert len(reads) == 1
    plain = {"loss": 0.5, "acc": 0.25}
    assert dict(logs) == {**logs} == logs.copy() == dict(logs.items()) == (logs | {}) == plain
    assert "{loss:.2f}".format(**logs) == "0.50"
    assert json.loads(json.dumps(logs)) == plain
    assert list(logs.values()) == [0.5, 0.25]
    assert len(reads) == 2


def test_hooks_that_nobody_wrote_are_not_called(one):
    class Quiet(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            pass

    container = callbacks.CallbackList([Quiet(), callbacks.LambdaCallback()])
    used = {name for name, hooks in container._hooks.items() if hooks}
    assert used == {"on_epoch_end", "on_train_interrupt"}


def test_the_list_gives_model_and_parameters_to_all(one):
    model, first, second = model_of(), callbacks.Callback(), callbacks.Callback()
    container = callbacks.CallbackList([[first]], add_history=True, model=model, epochs=3, steps=2)
    assert [type(c).__name__ for c in container.callbacks] == ["Callback", "History"]
    container.append(second)
    for c in (first, second):
        assert c.model is model
        assert c.params == {"epochs": 3, "steps": 2}
    assert model.history is container.callbacks[1]
    history = callbacks.History()
    got = model.fit(X, Y, verbose=0, callbacks=[history])
    assert got is history
    assert callbacks.CallbackList(container).callbacks == container.callbacks


def test_callbacks_have_the_signatures_of_keras():
    import inspect

    import keras

    names = [n for n in dir(keras.callbacks) if hasattr(callbacks, n)]
    assert len(names) >= 14
    for name in names:
        theirs = inspect.signature(getattr(keras.callbacks, name).__init__).parameters
        ours = inspect.signature(getattr(callbacks, name).__init__).parameters
        assert [(p.name, p.default, p.kind) for p in ours.values()] == [
            (p.name, p.default, p.kind) for p in theirs.values()
        ], name


# -- watching a quantity: against Keras's own callbacks ------------------------------------------


class Stub:
    """What Keras's callbacks want of a model."""

    def __init__(self, rate):
        self.stop_training, self.metrics, self.weights = False, [], [np.zeros(1)]
        self.optimizer = types.SimpleNamespace(learning_rate=rate)

    def get_weights(self):
        return [w.copy() for w in self.weights]

    def set_weights(self, weights):
        self.weights = weights


def driven(callback, values, rate=1.0):
    """(when it stops, the weights at the end, the learning rates) for a course of values."""
    model = Stub(rate)
    callback.set_model(model)
    callback.on_train_begin()
    rates, stop = [], None
    for epoch, value in enumerate(values):
        model.weights = [np.array([float(epoch)])]
        callback.on_epoch_end(epoch, {"watched": float(value)})
        rates.append(float(model.optimizer.learning_rate))
        if model.stop_training:
            stop = epoch
            break
    callback.on_train_end()
    return stop, model.weights[0][0], rates


COURSES = [
    RNG.normal(size=30),
    np.linspace(1, 0, 30) + 0.1 * RNG.normal(size=30),
    np.concatenate([np.linspace(0, 1, 10), np.ones(20)]),
    np.round(RNG.normal(size=30), 0),
]


@pytest.mark.parametrize("values", COURSES, ids=["noise", "falling", "plateau", "steps"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 2},
        {"patience": 3, "min_delta": 0.2, "restore_best_weights": True},
        {"patience": 2, "baseline": 0.5, "restore_best_weights": True},
        {"start_from_epoch": 5, "patience": 1},
        {},
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_stops_where_keras_does(values, arguments, mode):
    import keras

    arguments = {"monitor": "watched", "mode": mode, **arguments}
    ours = driven(callbacks.EarlyStopping(**arguments), values)
    assert ours == driven(keras.callbacks.EarlyStopping(**arguments), values)


@pytest.mark.parametrize("values", COURSES, ids=["noise", "falling", "plateau", "steps"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 2, "factor": 0.5},
        {"patience": 1, "cooldown": 2, "min_lr": 0.05},
        {"patience": 1, "min_delta": 0.3, "factor": 0.1},
    ],
)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_learning_rate_goes_down_where_it_does_in_keras(values, arguments, mode):
    import keras

    arguments = {"monitor": "watched", "mode": mode, **arguments}
    ours = driven(callbacks.ReduceLROnPlateau(**arguments), values)[2]
    theirs = driven(keras.callbacks.ReduceLROnPlateau(**arguments), values)[2]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


class Several(Stub):
    """A model with two optimizers, which the real MultiOptimizers show in this way."""

    def __init__(self):
        super().__init__(1.0)
        parts = {"slow": 0.01, "fast": 1.0}
        inner = [types.SimpleNamespace(name=n, learning_rate=r) for n, r in parts.items()]
        self.optimizer = types.SimpleNamespace(optimizers=inner)


def noted(callback):
    """The logs of each epoch of a model with two optimizers."""
    callback.set_model(Several())
    callback.on_train_begin()
    noted = []
    for epoch in range(5):
        callback.on_epoch_begin(epoch)
        logs = {"watched": 1.0}
        callback.on_epoch_end(epoch, logs)
        noted.append(logs)
    return noted


@pytest.mark.parametrize(
    "build",
    [
        lambda c: c.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        lambda c: c.ReduceLROnPlateau("watched", patience=1, min_lr=0.005, mode="min"),
    ],
)
def test_several_optimizers_are_scheduled_each_as_in_keras(build):
    import keras

    assert noted(build(callbacks)) == noted(build(keras.callbacks))
    assert len(noted(build(callbacks))[0]) == 3


def test_the_rates_of_a_multi_optimizer_are_set(one):
    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    parts = optimizers.OptimizerMap(
        optimizers.SGD(0.4, name="rest"), {"kernel": optimizers.SGD(0.2, name="first")}
    )
    model.compile(optimizers.MultiOptimizer(parts), "mse")
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[schedule]).history
    np.testing.assert_allclose(history["learning_rate_first"], [0.1, 0.05])
    np.testing.assert_allclose(history["learning_rate_rest"], [0.2, 0.1])


def test_tables_of_logs_are_those_of_keras(tmp_path):
    import keras

    epochs = [{"loss": 0.5, "acc": 1}, {"loss": 0.25, "val_loss": 2.0, "acc": 0.5, "new": 1.0},
              {"loss": np.float32(0.125)}]  # fmt: skip

    def write(C, **arguments):
        path = tmp_path / f"{C.__name__}.csv"
        logger = C.CSVLogger(str(path), **arguments)
        for _ in range(2):
            logger.on_train_begin()
            for i, logs in enumerate(epochs):
                logger.on_epoch_end(i, logs)
            logger.on_train_end()
        return path.read_bytes()

    for arguments in ({}, {"separator": ";"}, {"append": True}, {"append": True}):
        assert write(callbacks, **arguments) == write(keras.callbacks, **arguments)


def test_the_direction_follows_the_metric(one):
    model = models.Sequential([layers.Input((3,)), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, LABELS, verbose=0)
    for name, larger in (("val_accuracy", True), ("loss", False), ("val_loss", False)):
        callback = callbacks.EarlyStopping(monitor=name)
        callback.set_model(model)
        assert callback._find_direction() is larger
    callback = callbacks.EarlyStopping(monitor="val_strange")
    callback.set_model(model)
    with pytest.raises(ValueError, match="mode='max' or mode='min'"):
        callback._find_direction()
    with pytest.raises(ValueError, match="mode must be"):
        callbacks.EarlyStopping(mode="up")
    with pytest.warns(UserWarning, match="watches 'val_loss', which is not in the logs"):
        model.fit(X, LABELS, verbose=0, callbacks=[callbacks.EarlyStopping()])


def test_early_stopping_puts_the_best_weights_back(trains, capsys):
    model = model_of(optimizer=optimizers.SGD(1.5))  # so large that it gets worse
    kept = {}
    keep = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.update({epoch: (logs["loss"], model.get_weights())})
    )
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True, verbose=1)
    model.fit(X, Y * 5, epochs=30, verbose=0, shuffle=False, callbacks=[keep, stop])
    best = min(kept, key=lambda e: kept[e][0])
    assert stop.stopped_epoch == best + 2 == max(kept)
    for a, b in zip(model.get_weights(), kept[best][1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert f"Epoch {best + 1}: these were the best weights" in capsys.readouterr().out


def test_the_learning_rate_is_scheduled_and_noted(trains):
    model = model_of()
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    plateau = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[schedule]).history
    np.testing.assert_allclose(history["learning_rate"], [0.05, 0.025, 0.0125])
    model.fit(X, Y, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.3)])
    assert np.isclose(model.optimizer.learning_rate.numpy(), 0.3)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[plateau]).history
    np.testing.assert_allclose(history["learning_rate"], [0.3, 0.3, 0.03])
    assert np.isclose(model.optimizer.learning_rate.numpy(), 0.003)
    with pytest.raises(ValueError, match="must give a number"):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda e, r: "a")])


# -- files ----------------------------------------------------------------------------------------


def test_checkpoints_are_named_and_loaded(trains, tmp_path):
    model = model_of()
    path = str(tmp_path / "sub" / "{epoch:02d}-{val_loss:.3f}.keras")
    weights = tmp_path / "{epoch}.safetensors"
    history = model.fit(X, Y, epochs=2, verbose=0, validation_split=0.5, callbacks=[
        callbacks.ModelCheckpoint(path),
        callbacks.ModelCheckpoint(weights, save_weights_only=True),
    ]).history  # fmt: skip
    names = [f"{i + 1:02d}-{v:.3f}.keras" for i, v in enumerate(history["val_loss"])]
    assert sorted(os.listdir(tmp_path / "sub")) == names
    loaded = saving.load_model(tmp_path / "sub" / names[1])
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    other = model_of(seed=5)
    other.load_weights(tmp_path / "2.safetensors")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_only_the_best_model_is_kept(one, tmp_path, capsys):
    model = model_of()
    checkpoint = callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="watched", mode="max", save_best_only=True, verbose=1
    )
    checkpoint.set_model(model)
    saved = []
    model.save = lambda path, overwrite: saved.append(path)
    for epoch, value in enumerate([1.0, 0.5, 2.0, 2.0]):
        checkpoint.on_epoch_end(epoch, {"watched": value})
        assert len(saved) == [1, 1, 2, 2][epoch]
    assert "watched from 1.00000 to 2.00000" in capsys.readouterr().out
    checkpoint = callbacks.ModelCheckpoint(
        tmp_path / "x.keras",
        "watched",
        mode="min",
        save_best_only=True,
        initial_value_threshold=0.1,
    )
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0, {"watched": 0.2})
    assert len(saved) == 2
    with pytest.warns(UserWarning, match=r"got an array of shape \(2,\): every model is saved"):
        checkpoint.on_epoch_end(1, {"watched": np.zeros(2)})
    assert len(saved) == 3


def test_checkpoints_every_few_batches_count_over_epochs(one, tmp_path):
    model = model_of()
    path = tmp_path / "{epoch}-{batch}.safetensors"
    save = callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=3)
    model.fit(X, Y, epochs=2, batch_size=10, verbose=0, callbacks=[save])  # 4 batches an epoch
    assert sorted(os.listdir(tmp_path)) == ["1-3.safetensors", "2-2.safetensors"]


def test_bad_arguments_of_checkpoints_are_refused(one, tmp_path):
    with pytest.raises(ValueError, match=r"use a name that ends with '\.keras'"):
        callbacks.ModelCheckpoint("model.h5")
    with pytest.raises(ValueError, match=r"must end with \.safetensors or \.weights\.h5"):
        callbacks.ModelCheckpoint("model.keras", save_weights_only=True)
    with pytest.raises(ValueError, match="save_freq"):
        callbacks.ModelCheckpoint("m.keras", save_freq="batch")
    save = callbacks.ModelCheckpoint(tmp_path / "{none}.keras")
    with pytest.raises(KeyError, match="names 'none', which is not in the logs"):
        model_of().fit(X, Y, verbose=0, callbacks=[save])
    with pytest.raises(ValueError, match="factor below 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)
    with pytest.raises(ValueError, match="backup_dir"):
        callbacks.BackupAndRestore("")


def test_logs_are_written_as_a_table(trains, tmp_path):
    model, path = model_of(), tmp_path / "log.csv"
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[callbacks.CSVLogger(path)]).history
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["0", "1"]
    np.testing.assert_allclose([float(r["loss"]) for r in rows], history["loss"])
    assert rows[0]["val_loss"] == "NA"
    model.fit(X, Y, verbose=0, callbacks=[callbacks.CSVLogger(path, ",", append=True)])
    assert len(list(csv.DictReader(path.read_text().splitlines()))) == 3
    model.fit(X, Y, verbose=0, callbacks=[callbacks.CSVLogger(path, ";")])
    assert path.read_text().startswith("epoch;loss;mae;")


# -- NaN ------------------------------------------------------------------------------------------


def test_training_ends_at_a_loss_that_is_no_number(trains, capsys):
    bad = Y.copy()
    bad[13] = np.inf
    model = model_of()
    history = model.fit(X, bad, batch_size=2, epochs=5, shuffle=False, verbose=0,
                        callbacks=[callbacks.TerminateOnNaN()])  # fmt: skip
    assert "epoch 1, step 6: the training stops" in capsys.readouterr().out
    assert history.epoch == [0]
    model = model_of()
    with pytest.raises(RuntimeError, match="epoch 1, step 6"):
        model.fit(X, bad, batch_size=2, shuffle=False, verbose=0,
                  callbacks=[callbacks.TerminateOnNaN(raise_error=True)])  # fmt: skip
    bad = np.full_like(Y, np.nan)
    history = model_of().fit(X, bad, epochs=4, batch_size=20, verbose=0,
                             callbacks=[callbacks.TerminateOnNaN()])  # fmt: skip
    assert history.epoch == [0]
    assert "step 0" in capsys.readouterr().out


# -- going on after an interruption ---------------------------------------------------------------


class Crash(callbacks.Callback):
    """Ends a training in the middle, as a power cut would."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise OSError("crash")


def long_run(tmp_path=None, extra=(), **backup):
    """A training with everything that has a state: dropout, slots, shuffles, metrics."""
    model = model_of(seed=3, optimizer=optimizers.Adam(0.02), dropout=0.3)
    given = [*extra]
    if tmp_path is not None:
        given.insert(0, callbacks.BackupAndRestore(tmp_path / "backup", **backup))
    history = model.fit(X, Y, epochs=4, batch_size=8, validation_split=0.2, verbose=0,
                        callbacks=given)  # fmt: skip
    return model, history


@pytest.mark.parametrize(
    ("freq", "at", "left"), [("epoch", (2, 1), [2, 3]), (3, (1, 2), [1, 2, 3])]
)
def test_a_training_that_crashed_goes_on_exactly(trains, tmp_path, freq, at, left):
    want, wanted = long_run()
    with pytest.raises(OSError, match="crash"):
        long_run(tmp_path, [Crash(*at)], save_freq=freq)
    assert os.listdir(tmp_path / "backup") == ["latest.safetensors"]
    keraslite.random.forget_global_seed_generators()
    model = model_of(seed=99, optimizer=optimizers.Adam(0.7), dropout=0.3)  # all of it comes back
    backup = callbacks.BackupAndRestore(tmp_path / "backup", save_freq=freq)
    history = model.fit(X, Y, epochs=4, batch_size=8, validation_split=0.2, verbose=0,
                        callbacks=[backup])  # fmt: skip
    assert history.epoch == left
    for key, values in wanted.history.items():  # to the bit
        np.testing.assert_array_equal(history.history[key], values[-len(left) :])
    for a, b in zip(model.get_weights(), want.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations.numpy()) == int(want.optimizer.iterations.numpy())
    assert not (tmp_path / "backup").exists()


def test_ctrl_c_keeps_the_step_it_stopped_at(trains, tmp_path):
    _, wanted = long_run()
    stop = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: os.kill(os.getpid(), signal.SIGINT)
        if batch == 2 else None
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        long_run(tmp_path, [stop])
    _, history = long_run(tmp_path, delete_checkpoint=False)
    for key, values in wanted.history.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-5)
    assert (tmp_path / "backup" / "latest.safetensors").exists()
    _, history = long_run(tmp_path)  # it was over: nothing is left to do
    assert history.epoch == []
    assert not (tmp_path / "backup").exists()


def test_a_backup_that_cannot_be_read_gives_way_to_the_one_before(one, tmp_path):
    with pytest.raises(OSError, match="crash"):
        long_run(tmp_path, [Crash(3, 0)], double_checkpoint=True)
    latest = tmp_path / "backup" / "latest.safetensors"
    latest.write_bytes(latest.read_bytes()[:100])
    _, history = long_run(tmp_path, double_checkpoint=True)
    assert history.epoch == [2, 3]


class Losses(callbacks.Callback):
    """Puts values in the logs, so that what is watched goes as it should."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["watched"] = self.values[epoch]


def watching(folder, values, extra=()):
    """A training with all callbacks that remember something, the backup first."""
    model = model_of(seed=3, optimizer=optimizers.SGD(0.1))
    watched = {"monitor": "watched", "mode": "min"}
    stop = callbacks.EarlyStopping(patience=3, restore_best_weights=True, **watched)
    plateau = callbacks.ReduceLROnPlateau(patience=2, cooldown=1, **watched)
    best = callbacks.ModelCheckpoint(folder / "best.safetensors", save_best_only=True,
                                     save_weights_only=True, **watched)  # fmt: skip
    steps = callbacks.ModelCheckpoint(folder / "{epoch}-{batch}.safetensors", save_freq=4,
                                      save_weights_only=True)  # fmt: skip
    backup = callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=False)
    given = [backup, Losses(values), stop, plateau, best, steps, *extra]
    history = model.fit(X, Y, epochs=9, batch_size=8, verbose=0, callbacks=given)
    states = [c.get_state() for c in (stop, plateau, best, steps)]
    return history, states, model.get_weights(), sorted(os.listdir(folder))


def test_a_resumed_training_remembers_what_its_callbacks_knew(trains, tmp_path):
    values = [5.0, 1.0, 4.0, 3.0, 2.0, 0.5, 3.0, 4.0, 6.0]
    for crash in (2, 4):
        whole, parted = tmp_path / f"whole{crash}", tmp_path / f"parted{crash}"
        whole.mkdir(), parted.mkdir()
        _, wanted, weights, files = watching(whole, values)
        with pytest.raises(OSError, match="crash"):
            watching(parted, values, [Crash(crash, 0)])
        history, states, left, names = watching(parted, values)
        assert history.epoch[0] == crash
        assert names == files
        assert len(wanted) == len(states)
        for want, got in zip(wanted, states, strict=True):
            for key, value in want.items():
                if key == "best_weights":
                    for a, b in zip(value, got[key], strict=True):
                        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
                else:
                    assert got[key] == pytest.approx(value), key
        for a, b in zip(weights, left, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_comparison_of_a_monitor_is_an_op(one):
    model = model_of()
    rising = callbacks.EarlyStopping(monitor="mae", mode="max")
    falling = callbacks.EarlyStopping(monitor="loss")
    assert rising.monitor_op is ops.greater
    assert falling.monitor_op is None
    model.fit(X, Y, verbose=0, callbacks=[falling])
    assert falling.monitor_op is ops.less


# -- the bar --------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def screen(text, width=200):
    """What a terminal shows after a text with carriage returns."""
    lines = [""]
    for part in text.split("\n"):
        shown = ""
        for piece in part.split("\r"):
            piece = piece.replace("\x1b[K", "")
            shown = piece + shown[len(piece) :] if "\x1b" not in part else piece
        lines.append(shown)
    return lines[1:]


def test_a_log_gets_one_line_an_epoch(trains, capsys):
    model = model_of()
    model.fit(X, Y, epochs=2, batch_size=20, validation_split=0.5)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert len(out.splitlines()) == 2
    first = out.splitlines()[0]
    assert first.startswith("Epoch 1/2 - 1/1 - ")
    assert " - loss: " in first
    assert " - val_mae: " in first
    model.evaluate(X, Y)
    model.predict(X)
    lines = capsys.readouterr().out.splitlines()
    assert [" - loss" in line for line in lines] == [True, False]
    assert lines[1].startswith("2/2 - ")
    model.fit(X, Y, verbose=0)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_that_is_drawn_over(one, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    model_of().fit(X, Y, epochs=2, batch_size=10)
    lines = screen(terminal.getvalue())
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("4/4 ━━━━━━━━━━━━━━━━━━━━ ")
    assert "loss: " in lines[1]
    assert lines[2] == "Epoch 2/2"
    assert terminal.getvalue().endswith("\n")
    assert terminal.getvalue().count("\r") <= 6


def test_a_bar_draws_no_more_often_than_it_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Progbar(100, interval=1.0, stateless_metrics=())
    for step in range(1, 101):
        now[0] += 0.1
        if bar.due():
            bar.update(step, [("a quantity with a rather long name", 0.5)], finalize=False)
    bar.update(100, [("loss", 0.25)])
    drawn = terminal.getvalue().split("\r")[1:]
    assert len(drawn) == 11
    assert all(len(line.replace("\x1b[K", "")) < 40 for line in drawn[:-1])
    assert "100/100" in drawn[-1]
    assert "100ms/step" in drawn[-1]
    assert "loss: 0.2500" in drawn[-1]


def test_values_are_averaged_or_shown_as_they_are(capsys):
    bar = Progbar(4, verbose=2, stateful_metrics=["last"])
    bar.update(1, [("mean", 1.0), ("last", 1.0)])
    bar.update(3, [("mean", 4.0), ("last", 2.0)])
    assert bar._shown() == " - mean: 3.0000 - last: 2.0000"
    bar.update(4, [("tiny", 1e-5), ("text", "yes")])
    line = capsys.readouterr().out
    assert line.startswith("4/4 - ")
    assert line.endswith("tiny: 1.0000e-05 - text: yes\n")
    with pytest.raises(ValueError, match="not both"):
        Progbar(1, stateful_metrics=[], stateless_metrics=[])


def test_bytes_are_shown_in_their_units(monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bar = Progbar(4 * 2**20, unit_name="byte", interval=0)
    for _ in range(4):
        now[0] += 1
        bar.add(2**20)
    assert "4.00 MB/4.00 MB ━" in terminal.getvalue()
    assert readable_size(1) == "1.00 B"
    assert readable_size(3 * 2**40) == "3.00 TB"
    assert readable_size(2**60) == "1024.00 PB"


def test_a_loop_of_unknown_length_is_counted(one, capsys):
    def batches():
        for i in range(0, 40, 10):
            yield X[i : i + 10], Y[i : i + 10]

    model = model_of()
    model.fit(batches())
    assert capsys.readouterr().out.startswith("4/4 - ")
    bar = Progbar(None, verbose=1)
    bar.update(3)
    bar.update(5, finalize=True)
    assert capsys.readouterr().out.startswith("5/? - ")


def test_a_bar_without_its_letters_uses_others(monkeypatch):
    class Plain(Terminal):
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", terminal := Plain())
    monkeypatch.setenv("TERM", "xterm")
    Progbar(2, interval=0).update(1)
    terminal.getvalue().encode("ascii")
    assert "==========.........." in terminal.getvalue()


def test_an_interrupted_bar_leaves_its_line(one, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    stop = callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        model_of().fit(X, Y, batch_size=4, callbacks=[stop])
    assert terminal.getvalue().endswith("\n")


# -- helpers --------------------------------------------------------------------------------------


def test_seeds_fix_everything(backend):
    def draw():
        utils.set_random_seed(42)
        weights = layers.Dense(3)
        weights.build((None, 4))
        return weights.get_weights()[0], backends.to_numpy(keraslite.random.normal((3,)))

    for a, b in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(a, b)
    for bad in (-1, 2**32, 1.5, True):
        with pytest.raises(ValueError, match="A seed is an int"):
            utils.set_random_seed(bad)


def test_a_seed_holds_while_frameworks_are_imported():
    import subprocess

    code = (
        "import random, numpy as np, keraslite as k; k.utils.set_random_seed(1); "
        f"k.backend.load('{TRAINABLE[-1]}'); print(random.random(), np.random.rand())"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    want = random.Random(1).random(), np.random.RandomState(1).rand()
    assert [float(x) for x in got.stdout.split()] == list(want)


def test_names_begin_anew_with_a_session():
    utils.clear_session()
    assert [layers.Dense(1).name, layers.Dense(1).name] == ["dense", "dense_1"]
    utils.clear_session()
    assert layers.Dense(1).name == "dense"


def test_labels_become_rows(backend):
    import keras

    for labels, count in (([0, 2, 1], None), ([[0], [3]], 5), (np.array([[1, 0], [2, 2]]), 3)):
        got = utils.to_categorical(labels, count)
        np.testing.assert_array_equal(got, keras.utils.to_categorical(labels, count))
    tensor = utils.to_categorical(ops.convert_to_tensor([1, 0]), 3)
    assert backends.of(tensor) == (None if backend == "numpy" else backend)
    np.testing.assert_array_equal(backends.to_numpy(tensor), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="The labels go from 0 to 3, not below 3"):
        utils.to_categorical([0, 3], 3)


def test_vectors_are_normalized_as_in_keras(backend):
    import keras

    x = RNG.normal(size=(3, 4)).astype("float32")
    x[1] = 0
    for axis, order in ((-1, 2), (1, 1)):
        want = keras.utils.normalize(x, axis, order)
        np.testing.assert_allclose(utils.normalize(x, axis, order), want, rtol=1e-6)
        got = utils.normalize(ops.convert_to_tensor(x), axis, order)
        np.testing.assert_allclose(backends.to_numpy(got), want, rtol=1e-6)


class Recorder(callbacks.Callback):
    """The kernel at each test and each end of an epoch."""

    def __init__(self):
        super().__init__()
        self.tested, self.ended = [], []

    def on_test_begin(self, logs=None):
        self.tested.append(self.model.layers[0].kernel.numpy())

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self.model.layers[0].kernel.numpy())


def averaged(optimizer, own, epochs=3):
    """Train one kernel; return what the recorder saw, and the weights at the end."""
    model = keraslite.Sequential([layers.Input((2,)), layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(np.array([[1.0], [2.0]], "float32"))
    model.compile(optimizer, "mse")
    x = np.array([[1.0, 0.5], [0.5, -1.0]], "float32")
    recorder = Recorder()
    model.fit(
        x, x[:, :1], batch_size=2, epochs=epochs, verbose=0, validation_data=(x, x[:, :1]),
        callbacks=[*own, recorder],
    )  # fmt: skip
    return recorder, model.layers[0].kernel.numpy()


def steps_by_hand(epochs=3, rate=0.1, momentum=0.5):
    """Weights and averages after each step, in numpy."""
    x = np.array([[1.0, 0.5], [0.5, -1.0]])
    kernel, average, path = np.array([[1.0], [2.0]]), np.zeros((2, 1)), []
    for step in range(epochs):
        kernel = kernel - rate * x.T @ (x @ kernel - x[:, :1])
        average = kernel if step == 0 else momentum * average + (1 - momentum) * kernel
        path.append((kernel, average))
    return path


@pytest.mark.parametrize("on_epoch", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_averages_are_swapped_in_for_tests_and_checkpoints(trains, on_epoch, several):
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    if several:
        optimizer = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizer))
    recorder, last = averaged(optimizer, [callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)])
    path = steps_by_hand()
    for seen, (_, average) in zip(recorder.tested, path, strict=True):
        np.testing.assert_allclose(seen, average, rtol=1e-5)
    for seen, (kernel, average) in zip(recorder.ended, path, strict=True):
        np.testing.assert_allclose(seen, average if on_epoch else kernel, rtol=1e-5)
    np.testing.assert_allclose(last, path[-1][1], rtol=1e-5)  # as `fit` ends with use_ema


@pytest.mark.parametrize("on_epoch", [False, True])
def test_a_training_with_averages_goes_on_from_the_weights(trains, tmp_path, on_epoch):
    class Interrupt(callbacks.Callback):
        """Ends the training when two epochs are saved."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def trained(*others):
        optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        swap = callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)
        return averaged(optimizer, [swap, *others], epochs=4)

    backup = callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        trained(backup, Interrupt())
    recorder, last = trained(callbacks.BackupAndRestore(tmp_path / "backup"))
    path = steps_by_hand(4)
    assert len(recorder.ended) == 2
    for seen, (_, average) in zip(recorder.tested, path[2:], strict=True):
        np.testing.assert_allclose(seen, average, rtol=1e-5)
    np.testing.assert_allclose(last, path[-1][1], rtol=1e-5)


def test_swapping_needs_averages(trains):
    with pytest.raises(ValueError, match="use_ema=True"):
        averaged("sgd", [callbacks.SwapEMAWeights()])


class Received(BaseHTTPRequestHandler):
    """Keeps what is posted on the server."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("as_json", [False, True])
def test_logs_are_sent_to_a_server(trains, as_json, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Received)
    server.received = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monitor = callbacks.RemoteMonitor(
            f"http://127.0.0.1:{server.server_port}", "/logs/", headers={"X-Run": "3"},
            send_as_json=as_json,
        )  # fmt: skip
        model = keraslite.Sequential([layers.Input((2,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        x = np.ones((4, 2), "float32")
        history = model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[monitor])
    finally:
        server.shutdown()
        server.server_close()
    assert [path for path, _, _ in server.received] == ["/logs/"] * 2
    for epoch, (_, headers, body) in enumerate(server.received):
        assert headers["X-Run"] == "3"
        assert headers["Content-Type"].endswith("json" if as_json else "x-www-form-urlencoded")
        content = json.loads(body if as_json else parse_qs(body)["data"][0])
        assert content == {"epoch": epoch, "loss": history.history["loss"][epoch]}
    with pytest.warns(UserWarning, match="did not reach the server"):
        monitor.on_epoch_end(2, {"loss": np.float32(1)})
    with pytest.raises(ValueError, match="of http or https"):
        callbacks.RemoteMonitor("file:///etc")
