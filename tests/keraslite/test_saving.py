"""Weights and whole models as files: every backend reads what any wrote; bad files say why."""

import errno
import io
import json
import os
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE
from compare import assert_close

import keraslite
from keraslite import backend as backends
from keraslite import (
    callbacks,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    registry,
    saving,
    utils,
)
from keraslite.layers.base import tracking
from keraslite.saving import archive as archives
from keraslite.saving import keras_archive
from keraslite.variable import Variable

RNG = np.random.default_rng(2)
X = RNG.normal(size=(24, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 24)
VERSION_1 = Path(__file__).parents[1] / "data" / "v1"
VERSION_2 = Path(__file__).parents[1] / "data" / "v2"  # with the paths of now, as .klm
KINDS = ["sequential", "functional", "subclassed", "nested"]


@saving.register_keras_serializable("tests")
class Classifier(models.Model):
    """Layers in a list and in a dict, and a weight of its own."""

    def __init__(self, units=6, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units, "relu"), layers.BatchNormalization()]
        self.heads = {"out": layers.Dense(3)}
        self.drop = layers.Dropout(0.2)

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        return self.heads["out"](self.drop(x, training=training) * self.scale)


def make(kind):
    dense = layers.Dense
    if kind == "sequential":
        return models.Sequential([layers.Input((4,)), dense(6, "gelu"), layers.Dropout(0.2),
                                  layers.LayerNormalization(), dense(3)])  # fmt: skip
    if kind == "functional":
        x = layers.Input((4,), name="rows")
        shared = dense(6, "relu", name="shared")
        h = layers.Concatenate()([shared(x), shared(ops.square(x))])
        return models.Model(x, dense(3)(layers.BatchNormalization()(h) + h))
    if kind == "nested":
        inner = models.Sequential([layers.Input((4,)), dense(5, "tanh")], name="inner")
        x = layers.Input((4,))
        return models.Model(x, dense(3)(layers.Add()([inner(x), inner(x * 2.0)])))
    model = Classifier()
    model(X)
    return model


def trained(kind, steps=3):
    utils.set_random_seed(7)
    model = make(kind)
    model.compile(
        optimizers.Adam(0.01), losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )  # fmt: skip
    if backends.load(model.backend).TRAINS:
        for _ in range(steps):
            model.train_on_batch(X, LABELS)
    return model


# -- from any backend to any other ----------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each kind from each backend, with what its model predicts."""
    folder, made = tmp_path_factory.mktemp("files"), {}
    for name in BACKENDS:
        for kind in KINDS:
            with keraslite.use_backend(name):
                model = trained(kind)
                path = folder / f"{name}-{kind}.keras"
                model.save(path)
                if kind == "nested":
                    model.save(folder / "mapped.keras", weights_format="safetensors")
                model.save_weights(folder / f"{name}-{kind}.safetensors")
                made[name, kind] = path, model.predict(X, verbose=0)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", BACKENDS)
def test_a_model_loads_on_every_backend(backend, source, kind, files):
    path, want = files[source, kind]
    model = saving.load_model(path)
    assert model.backend == backend
    assert type(model).__name__ == type(make(kind)).__name__
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-5, atol=1e-5)
    assert model.optimizer.iterations.numpy() == (3 if source in TRAINABLE else 0)


@pytest.mark.parametrize("source", BACKENDS)
def test_weights_load_on_every_backend(backend, source, files):
    for kind in ("functional", "subclassed"):
        path, want = files[source, kind]
        for name in (path.with_suffix(".safetensors"), path):
            utils.set_random_seed(1)
            model = make(kind)
            model.load_weights(name)
            np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-5, atol=1e-5)


def test_a_backend_can_be_asked_for(files):
    path, _ = files[BACKENDS[0], "sequential"]
    for name in BACKENDS:
        assert saving.load_model(path, backend=name).backend == name
        assert saving.load_model(path, backend=name, compile=False).compiled is False


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_as_if_it_had_not_been_saved(trains, kind, tmp_path):
    model = trained(kind)
    model.save(tmp_path / "m.keras")
    other = saving.load_model(tmp_path / "m.keras", backend=TRAINABLE[TRAINABLE.index(trains) - 1])
    for _ in range(3):  # dropout goes on where it stood, too
        a, b = model.train_on_batch(X, LABELS), other.train_on_batch(X, LABELS)
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_without_its_optimizer_a_model_is_compiled_anew(trains, tmp_path):
    model = trained("sequential")
    saving.save_model(model, tmp_path / "m.keras", include_optimizer=False)
    other = saving.load_model(tmp_path / "m.keras")
    assert other.optimizer.iterations.numpy() == 0
    np.testing.assert_allclose(other.optimizer.learning_rate.numpy(), 0.01, rtol=1e-6)


def test_compile_arguments_of_every_kind_come_back(trains, tmp_path):
    x = layers.Input((4,))
    model = models.Model(x, {"a": layers.Dense(3, "softmax")(x), "b": layers.Dense(1)(x)})
    schedule = optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(
        optimizers.SGD(schedule, momentum=0.9, clipnorm=1.0),
        {"a": losses.SparseCategoricalCrossentropy(), "b": "mse"}, {"a": 1.0, "b": 0.5},
        {"a": ["accuracy", metrics.SparseTopKCategoricalAccuracy(2)]}, steps_per_execution=2,
    )  # fmt: skip
    y = {"a": LABELS, "b": X[:, :1]}
    model.fit(X, y, verbose=0, batch_size=8)
    model.save(tmp_path / "m.keras")
    other = saving.load_model(tmp_path / "m.keras")
    assert other.steps_per_execution == 2
    want = model.evaluate(X, y, verbose=0, return_dict=True)
    got = other.evaluate(X, y, verbose=0, return_dict=True)
    assert got.keys() == want.keys()
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)
    first, second = (m.fit(X, y, verbose=0, shuffle=False).history["loss"] for m in (model, other))
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_mixed_precision_comes_back(trains, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2, dtype="mixed_bfloat16")])
    model.save(tmp_path / "m.keras")
    other = saving.load_model(tmp_path / "m.keras")
    assert other.layers[0].compute_dtype == "bfloat16"
    assert other.predict(X, verbose=0).dtype.name == "bfloat16"
    half = models.Sequential([layers.Input((4,)), layers.Dense(2, dtype="bfloat16")])
    half.save_weights(tmp_path / "w.safetensors")
    assert {v.dtype.name for v in saving.open_safetensors(tmp_path / "w.safetensors").values()} == {
        "bfloat16"
    }  # fmt: skip


def test_a_layer_is_saved_like_a_model(backend, tmp_path):
    layer = layers.Dense(3)
    layer(X)
    saving.save_model(layer, tmp_path / "layer.keras")
    other = saving.load_model(tmp_path / "layer.keras")
    np.testing.assert_allclose(backends.to_numpy(other(X)), backends.to_numpy(layer(X)), rtol=1e-6)


# -- what is in a file ----------------------------------------------------------------------------


def test_a_file_is_an_archive_of_plain_parts(trains, tmp_path):
    model, path = trained("functional"), tmp_path / "a.keras"
    model.save(path, weights_format="safetensors")
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == archives.MEMBERS
        assert archive.testzip() is None
        assert json.loads(archive.read("metadata.json"))["made_on"] == trains
        assert trains not in archive.read("config.json").decode()
    with keras_archive.open_keras(path) as parts:
        assert all(start % 64 == 0 for _, start, _ in parts.spans.values())
        tensors = saving.open_safetensors(*parts.spans["model.safetensors"])
    assert set(tensors) == {path for path, _ in tracking.variable_paths(model)}
    assert all(tensors[name].flags.aligned for name in tensors)
    model.save(tmp_path / "b.keras")
    with zipfile.ZipFile(tmp_path / "b.keras") as archive:
        assert archive.testzip() is None
    assert sorted(os.listdir(tmp_path)) == ["a.keras", "b.keras"]


def test_nothing_is_initialised_and_values_are_read_when_needed(backend, files, monkeypatch):
    path, want = files[BACKENDS[-1], "nested"]
    path = path.with_name("mapped.keras")
    monkeypatch.setattr(
        Variable, "_initial", lambda self: pytest.fail(f"{self.path} was initialised")
    )
    model = saving.load_model(path, compile=False)
    assert all(v._raw is None for v in model.weights)
    np.testing.assert_allclose(model.predict(X, verbose=0), want, rtol=1e-5, atol=1e-5)


def test_a_model_may_be_saved_over_the_file_it_was_loaded_from(trains, tmp_path):
    path = tmp_path / "m.keras"
    trained("sequential").save(path)
    model = saving.load_model(path)
    model.train_on_batch(X, LABELS)
    model.save(path)
    again = saving.load_model(path)
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    model.save_weights(tmp_path / "w.safetensors")
    model.load_weights(tmp_path / "w.safetensors")
    model.save_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


# -- strictness -----------------------------------------------------------------------------------


def test_what_does_not_fit_is_one_error_and_changes_nothing(backend, tmp_path):
    x = layers.Input((4,))
    model = models.Model(x, layers.Dense(3)(layers.Dense(6)(x)))
    other = models.Model(x, layers.LayerNormalization()(layers.Dense(5)(x)))
    other.save_weights(tmp_path / "w.safetensors")
    before = model.get_weights()
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        model.load_weights(tmp_path / "w.safetensors")
    assert str(error.value).splitlines()[1:] == [
        "The file lacks: dense_1/kernel, dense_1/bias.",
        "The model has no place for: layer_normalization/beta, layer_normalization/gamma.",
        "dense/kernel: the model's shape is (4, 6), the file's (4, 5).",
        "dense/bias: the model's shape is (6,), the file's (5,).",
    ]
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_fits_is_loaded_where_that_is_asked_for(backend, tmp_path):
    x = layers.Input((4,))
    model = models.Model(x, layers.Dense(3)(layers.Dense(6)(x)))
    other = models.Model(x, layers.Dense(2)(layers.Dense(6)(x)))
    model.save_weights(tmp_path / "w.safetensors")
    last = other.get_weights()[2]
    with pytest.warns(UserWarning, match=r"left as they are: .*\(6, 2\), the file's \(6, 3\)"):
        other.load_weights(tmp_path / "w.safetensors", skip_mismatch=True)
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    np.testing.assert_array_equal(other.get_weights()[2], last)


def test_an_unbuilt_model_says_that_it_has_no_weights(backend, tmp_path):
    model = models.Sequential([layers.Dense(2)])
    for act, name in ((model.save, "m.keras"), (model.save_weights, "m.safetensors")):
        with pytest.raises(ValueError, match="is not built yet"):
            act(tmp_path / name)
    with pytest.raises(ValueError, match="is not built yet"):
        model.load_weights(tmp_path / "none.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["m.h5", "m.HDF5"])
def test_the_endings_of_keras_2_are_refused(name, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"use a name that ends with '\.safetensors'"):
        model.save_weights(tmp_path / name)
    if name == "m.HDF5":
        with pytest.raises(ValueError, match=r"use a name that ends with '\.h5'"):
            model.save(tmp_path / name)


@pytest.mark.parametrize("name", ["x.txt", "model", "m.keras.bak"])
def test_names_say_what_is_in_a_file(name, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
    for act, ending in ((model.save, "keras"), (model.save_weights, "safetensors")):
        with pytest.raises(ValueError, match=rf"must end with \.{ending}.*, got .*{name}"):
            act(tmp_path / name)
    for weights_only in (False, True):
        with pytest.raises(ValueError, match="must end with"):
            callbacks.ModelCheckpoint(tmp_path / name, save_weights_only=weights_only)
    assert os.listdir(tmp_path) == []


def test_files_are_not_overwritten_against_ones_will(tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
    for act, name in ((model.save, "m.keras"), (model.save_weights, "w.safetensors")):
        act(tmp_path / name)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            act(tmp_path / name, overwrite=False)
        with pytest.raises(IsADirectoryError, match="is a folder"):
            act(tmp_path)


# -- objects of one's own -------------------------------------------------------------------------


class Scaled(layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_custom_layers_are_given_or_registered(backend, tmp_path):
    path = tmp_path / "m.keras"
    model = models.Sequential([layers.Input((4,)), Scaled(3.0), layers.Dense(2)])
    model.save(path)
    with pytest.raises(ValueError, match=r"Unknown object 'Scaled'.*register"):
        saving.load_model(path)
    want = model.predict(X, verbose=0)
    loaded = saving.load_model(path, custom_objects={"Scaled": Scaled})
    np.testing.assert_allclose(loaded.predict(X, verbose=0), want, rtol=1e-6)
    with saving.custom_object_scope({"Scaled": Scaled}):
        saving.load_model(path)


@saving.register_keras_serializable("tests")
def half_squared(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1) / 2


@saving.register_keras_serializable("tests")
def twice(x):
    return x * 2.0


def test_registered_functions_come_back(trains, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2, activation=twice)])
    model.compile("sgd", half_squared, metrics=[half_squared])
    y = X[:, :2]
    want = model.evaluate(X, y, verbose=0)
    model.save(tmp_path / "m.keras")
    other = saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(other.evaluate(X, y, verbose=0), want, rtol=1e-6)


def test_a_package_looks_its_registered_names_up_itself(monkeypatch):
    lazy = types.ModuleType("lazy_package")
    lazy.find_registered_object = {"thrice": twice}.get
    monkeypatch.setitem(sys.modules, "lazy_package", lazy)
    assert registry.resolve("thrice", registered="lazy_package>thrice") is twice
    for name in ("lazy_package>other", "os>system"):
        with pytest.raises(ValueError, match="Unknown object"):
            registry.resolve(name.partition(">")[2], registered=name)


def test_a_loss_that_has_no_name_leaves_the_model_uncompiled(trains, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
    model.compile("sgd", lambda y, p: ops.mean(ops.square(y - p)))
    model.fit(X, X[:, :2], verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="not compiled: .*register"):
        other = saving.load_model(tmp_path / "m.keras")
    assert not other.compiled
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


@saving.register_keras_serializable("tests")
class Odd(models.Sequential):
    """A model whose `compile` is its own."""

    def compile(self, rate):
        super().compile(optimizers.SGD(rate), "mse")


def test_a_compile_of_ones_own_leaves_the_model_uncompiled(trains, tmp_path):
    model = Odd([layers.Input((4,)), layers.Dense(2)])
    model.compile(0.1)
    model.fit(X, X[:, :2], verbose=0)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match=r"not compiled: .*compile_from_config"):
        other = saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_functions_in_a_file_do_not_run(backend, tmp_path):
    model = models.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 3.0)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"Lambda.*safe_mode=False"):
        saving.load_model(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="runs bytecode"):
        other = saving.load_model(tmp_path / "m.keras", safe_mode=False)
    np.testing.assert_allclose(other.predict(X, verbose=0), X * 3, rtol=1e-6)
    assert registry.safe_mode.get() is True
    named = models.Sequential([layers.Input((4,)), layers.Lambda(twice)])
    named.save(tmp_path / "n.keras")
    np.testing.assert_allclose(
        saving.load_model(tmp_path / "n.keras").predict(X, verbose=0), X * 2, rtol=1e-6
    )


# -- damaged files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """A good file of the format before."""
    return VERSION_2 / "small.klm"


def rewrite(source, target, config=None, metadata=None, compress=False, drop=(), extra=None):
    """A copy of a file with parts changed, as an attacker would write it."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", kind) as new:
        for name in old.namelist():
            data = old.read(name)
            change = {"config.json": config, "metadata.json": metadata}.get(name)
            if change is not None:
                data = change if isinstance(change, bytes) else json.dumps(
                    {**json.loads(data), **change}
                ).encode()  # fmt: skip
            if name not in drop:
                new.writestr(name, data)
        for name, data in (extra or {}).items():
            new.writestr(name, data)


def assert_refused(path, match):
    with keraslite.use_backend("numpy"), pytest.raises(ValueError, match=match):
        saving.load_model(path)


def test_files_cut_off_anywhere_are_refused(whole, tmp_path):
    data = whole.read_bytes()
    for length in [0, 1, 3, 30, 100, *range(200, len(data), 97), len(data) - 1]:
        (tmp_path / "m.klm").write_bytes(data[:length])
        assert_refused(tmp_path / "m.klm", "no model file that can be read")


def test_flipped_bits_never_load_another_model(whole, tmp_path):
    data = bytearray(whole.read_bytes())
    with keraslite.use_backend("numpy"):
        want = saving.load_model(whole).get_weights()
        for at in range(0, len(data), 7):
            data[at] ^= 1 << at % 8
            (tmp_path / "m.klm").write_bytes(data)
            data[at] ^= 1 << at % 8
            try:
                got = saving.load_model(tmp_path / "m.klm").get_weights()
            except (ValueError, TypeError):
                continue
            for a, b in zip(got, want, strict=True):  # the bit meant nothing: padding, dates
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compress": True}, "is compressed"),
        ({"drop": ["config.json"]}, r"missing \['config.json'\]"),
        ({"drop": ["model.safetensors"]}, r"missing \['model.safetensors'\]"),
        ({"extra": {"../evil": b"x"}}, r"strange \['../evil'\]"),
        ({"metadata": {"format": "other"}}, "call it 'other'"),
        ({"metadata": {"version": 99}}, "upgrade keraslite"),
        ({"config": b"[1, 2]"}, "must be a JSON object, got"),
        ({"config": b"{" * 100000}, "config.json is damaged"),
        ({"config": b"[" * 100000}, "config.json is damaged"),
        ({"config": b"\xff\xfe"}, "config.json is damaged"),
    ],
)
def test_strange_archives_are_refused(whole, tmp_path, change, message):
    rewrite(whole, tmp_path / "m.klm", **change)
    assert_refused(tmp_path / "m.klm", message)


def test_declared_sizes_are_checked_against_the_file(whole, tmp_path):
    rewrite(whole, tmp_path / "m.klm")
    data = (tmp_path / "m.klm").read_bytes()
    at = data.index(b"PK\x01\x02")  # the first entry of the index: its two sizes
    huge = (2**31).to_bytes(4, "little")
    (tmp_path / "m.klm").write_bytes(data[: at + 20] + huge + huge + data[at + 28 :])
    assert_refused(tmp_path / "m.klm", "beyond the file's end|overlap|damaged")


def test_other_files_are_refused_by_their_names(tmp_path):
    (tmp_path / "m.klm").write_bytes(b"not a model at all")
    assert_refused(tmp_path / "m.klm", r"m\.klm is no model file")
    with pytest.raises(FileNotFoundError, match=r"none\.klm"):
        saving.load_model(tmp_path / "none.klm")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    path.write_bytes(b"old")

    class Full(io.BufferedWriter):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "keraslite.saving.atomic.open", lambda name, mode: Full(io.FileIO(name, mode.replace('b', ''))),
        raising=False,
    )  # fmt: skip
    with keraslite.use_backend("numpy"):
        model = models.Sequential([layers.Input((4,)), layers.Dense(2)])
        for form in ("h5", "safetensors"):
            with pytest.raises(OSError, match="No space left on device; nothing was saved"):
                model.save(path, weights_format=form)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.keras"]


# -- the paths of weights, and files of version 1 -------------------------------------------------


@saving.register_keras_serializable("tests")
class OldClassifier(models.Model):
    """The class of the subclassed model in tests/data/v1."""

    def __init__(self, units=6, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units, "relu"), layers.BatchNormalization()]
        self.heads = {"out": layers.Dense(3)}
        self._hidden = models.Sequential([layers.Dense(units), layers.Dropout(0.2)])
        self.drop = layers.Dropout(0.2)

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        x = self._hidden(x, training=training)
        return self.heads["out"](self.drop(x, training=training) * self.scale)


def old_functional():
    """The functional model in tests/data/v1."""
    x = layers.Input((4,), name="rows")
    shared = layers.Dense(6, "relu", name="shared")
    inner = models.Sequential([layers.Input((4,)), layers.Dense(6, "tanh"), layers.Dropout(0.1)])
    h = layers.Concatenate()([shared(x), shared(ops.square(x)), inner(x)])
    return models.Model(x, layers.Dense(3)(layers.Dense(5)(layers.BatchNormalization()(h))))


@pytest.fixture(scope="module")
def version_1():
    """The answers of the models in tests/data/v1, which the code of version 1 wrote on torch."""
    return dict(np.load(VERSION_1 / "models_expected.npz"))


@pytest.mark.parametrize("kind", ["functional", "subclassed", "quantized"])
def test_a_model_of_version_1_loads(backend, kind, version_1):
    model = saving.load_model(VERSION_1 / f"{kind}.klm")
    assert_close(model.predict(version_1["x"], verbose=0), version_1[kind])
    assert (kind == "quantized") == any(v.dtype == "int8" for v in model.weights)


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_training_goes_on_from_a_model_of_version_1(trains, kind, version_1):
    model = saving.load_model(VERSION_1 / f"{kind}.klm")
    loss = model.train_on_batch(version_1["x"], np.arange(5) % 3)
    np.testing.assert_allclose(loss, version_1[f"{kind}_loss"], rtol=1e-5)


def test_files_of_the_format_before_are_read_and_not_written(backend, tmp_path):
    want = np.load(VERSION_2 / "expected.npz")
    model = saving.load_model(VERSION_2 / "functional.klm")
    assert_close(model.predict(X, verbose=0), want["functional"])
    other = make("functional")
    other.load_weights(VERSION_2 / "functional.klm")
    assert_close(other.predict(X, verbose=0), want["functional"])
    if backend in TRAINABLE:
        assert_close(model.train_on_batch(X, LABELS)[0], want["loss"])
    with pytest.raises(ValueError, match=r"save .*\.keras.*weights_format='safetensors'"):
        model.save(tmp_path / "m.klm")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", ["klm", "safetensors"])
def test_weights_of_version_1_load(backend, suffix, version_1):
    for kind, make_old in {"functional": old_functional, "subclassed": OldClassifier}.items():
        model = make_old()
        model(version_1["x"])
        model.load_weights(VERSION_1 / f"{kind}.{suffix}")
        assert_close(model.predict(version_1["x"], verbose=0), version_1[kind])
        with pytest.raises(ValueError, match="nothing was loaded"):
            make("sequential").load_weights(VERSION_1 / f"{kind}.{suffix}")


def test_a_training_goes_on_from_a_backup_of_version_1(trains, tmp_path):
    shutil.copy(VERSION_1 / "backup.safetensors", tmp_path / "latest.safetensors")
    parts = [layers.Dense(3), layers.Dropout(0.2), layers.Dense(1)]
    model = models.Sequential([layers.Input((4,)), *parts])
    model.compile("adam", "mse")
    x = np.random.default_rng(1).normal(size=(8, 4)).astype("float32")
    backup = callbacks.BackupAndRestore(tmp_path)
    history = model.fit(x, x[:, :1], epochs=4, batch_size=4, verbose=0, callbacks=[backup])
    # What the code of version 1 gives for the third and fourth epoch.
    np.testing.assert_allclose(history.history["loss"], [3.67727375, 5.98891926], rtol=1e-5)


def test_weights_of_a_later_version_are_refused(backend, tmp_path):
    saving.save_safetensors(tmp_path / "w", {}, {"format": "keraslite", "version": "3"})
    with pytest.raises(ValueError, match="has version '3' of the format.*upgrade keraslite"):
        make("sequential").load_weights(tmp_path / "w")


def test_paths_are_made_of_names_that_last(backend):
    layers.Dense(1)  # automatic names count up for the process, those in paths do not
    model = old_functional()
    dense = {"dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"}
    inner = {"sequential/dense/kernel", "sequential/dense/bias"}
    paths = {path for path, _ in model.named_weights()}
    assert {p for p in paths if p.partition("/")[0] not in ("shared", "batch_normalization")} == (
        dense | inner
    )
    assert {"shared/kernel", "shared/bias", "batch_normalization/moving_mean"} <= paths
    again = models.clone_model(model)
    assert [p for p, _ in again.named_weights()] == [p for p, _ in model.named_weights()]
    moved = models.clone_model(model).to_backend("numpy")
    assert [p for p, _ in moved.named_weights()] == [p for p, _ in model.named_weights()]

    subclassed = OldClassifier()
    subclassed(X)
    assert [p for p, _ in tracking.variable_paths(subclassed)] == [
        "scale", "blocks/0/kernel", "blocks/0/bias", "blocks/1/gamma", "blocks/1/beta",
        "blocks/1/moving_mean", "blocks/1/moving_variance", "heads/out/kernel", "heads/out/bias",
        "hidden/dense/kernel", "hidden/dense/bias",
        "hidden/dropout/seed_generator/seed_generator_state",
        "drop/seed_generator/seed_generator_state",
    ]  # fmt: skip


def test_names_that_clash_in_paths_are_numbered(backend, tmp_path):
    class Clashing(models.Model):
        def __init__(self):
            x = layers.Input((4,))
            y = layers.Dense(4, name="a")(layers.Dense(4, name="dense_1")(x))
            twins = [
                layers.LayerNormalization(name=n) for n in ("twin", "twin", "layer_1", "dense")
            ]
            for layer in twins:
                y = layer(y)
            super().__init__(x, y)
            self._a, self.a, self.alias = layers.Dense(2), layers.Dense(3), twins[0]
            for layer in (self._a, self.a):
                layer.build((None, 4))
            for _ in range(2):
                self.add_weight(shape=(), name="free")

    model = Clashing()
    paths = [path for path, _ in model.named_weights()]
    assert len(paths) == len(set(paths)) == 18
    assert [p for p in paths if p.endswith(("kernel", "gamma", "free", "free_1"))] == [
        "free", "free_1", "dense_1/kernel", "a/kernel", "twin/gamma", "twin_1/gamma",
        "layer_1/gamma", "dense/gamma", "a_2/kernel", "a_1/kernel",
    ]  # fmt: skip
    model.save_weights(tmp_path / "w.safetensors")
    other = Clashing()
    other.load_weights(tmp_path / "w.safetensors")
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
