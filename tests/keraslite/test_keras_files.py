"""Keras's files, both ways: what the installed Keras saved is opened here, and the reverse.

Keras runs in one process for each of its backends, since it has one alone. Every model goes one
way between one pair of backends; between the others they take turns.
"""

import os
import pickle
import zipfile

import keras_file_cases as cases
import numpy as np
import pytest
from backends import BACKENDS, TRAINABLE
from keras_process import run_with_keras

import keraslite
from keraslite import callbacks, layers, models, saving

NAMES = list(cases.CASES)
PLAIN = [name for name in NAMES if name not in cases.TEXT_CASES]
# What Keras does on each of its backends: all on one, a part on the others.
THEIRS = {
    "torch": PLAIN,
    "jax": ["dense", "op_nodes", "custom_layer", "constants"],
    "tensorflow": [
        *cases.TEXT_CASES,
        "dense",
        "nested",
        "many_outputs",
        "loss_scaled",
        "attention",
        "masked",
        "words",
    ],
}
# Steps that Keras makes otherwise on one backend, and why: the loss before is the same, and the one
# after would agree if Keras were mended. Of `words`, by SGD, all losses agree.
OTHERWISE = {
    ("tensorflow", "masked"): "Adam squares the gradient of an Embedding for each place where a "
    "word stands (`IndexedSlices`) and sums the squares, not the gradients, into its velocity",
}
SOURCES = [(source, name) for source, names in THEIRS.items() for name in names]


def assert_same(got, want, otherwise=None):
    """Outputs agree to 1e-6 of the largest, and the losses of further steps to 1e-5."""
    if otherwise:
        (_, second), (_, other) = want["losses"], got["losses"]
        assert abs(second - other) > 1e-4 * abs(other), f"Keras does not do any more: {otherwise}"
        got, want = ({**x, "losses": x["losses"][:1]} for x in (got, want))
    for key, value in want.items():
        rtol = 1e-5 if key == "losses" else 1e-6
        assert got[key].shape == value.shape
        np.testing.assert_allclose(got[key], value, rtol=0, atol=rtol * np.abs(value).max())


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The folder of what keraslite saved."""
    folder = tmp_path_factory.mktemp("ours")
    with keraslite.use_backend("torch" if "torch" in TRAINABLE else TRAINABLE[0]):
        cases.save(keraslite, folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, ours):
    """Gives the folder of what Keras saved on a backend, when it also opened what we saved."""
    made = {}

    def folder(backend):
        if backend not in made:
            made[backend] = tmp_path_factory.mktemp(backend)
            words = (made[backend], ours, *THEIRS[backend])
            run_with_keras(cases.__file__, *words, backend=backend)
        return made[backend]

    return folder


@pytest.mark.parametrize(("source", "name"), SOURCES)
def test_what_keras_saved_is_opened(source, name, theirs):
    number = SOURCES.index((source, name))
    chosen = [BACKENDS[number % len(BACKENDS)]]
    if source == "torch" and "torch" in BACKENDS:
        chosen = list(dict.fromkeys(["torch", *(chosen if number % 2 else [])]))
    folder = theirs(source)
    x, y = pickle.loads((folder / "data.pkl").read_bytes())[name]
    want = dict(np.load(folder / f"{name}.npz"))
    for backend in chosen:
        with keraslite.use_backend(backend):
            own = cases.custom_objects(cases.objects(keraslite))
            model = saving.load_model(folder / f"{name}.keras", own)
            assert model.backend == backend
            otherwise = OTHERWISE.get((source, name))
            if backend not in TRAINABLE:
                y, otherwise, _ = None, None, want.pop("losses", None)
            assert_same(cases.results(keraslite, model, x, y, name), want, otherwise)


@pytest.mark.parametrize("form", cases.FORMS)
def test_folders_and_weights_of_keras_are_read(trains, form, theirs):
    folder = theirs("torch")
    for name in cases.FORM_CASES if trains == "torch" else cases.FORM_CASES[:1]:
        x, _ = pickle.loads((folder / "data.pkl").read_bytes())[name]
        model = cases.open_form(keraslite, folder, name, form)
        (got,) = cases.outputs_of(keraslite, model, x, name)
        assert_same({"0": got}, {"0": np.load(folder / f"{name}.npz")["0"]})


@pytest.mark.parametrize("source", THEIRS)
def test_pickled_weights_are_read(trains, source, theirs):
    folder = theirs(source)
    data = pickle.loads((folder / "data.pkl").read_bytes())
    for name in set(cases.NPZ_CASES) & set(THEIRS[source]):
        own = cases.custom_objects(cases.objects(keraslite))
        path = folder / f"{name}.npz.keras"
        model = saving.load_model(path, own)
        want = dict(np.load(folder / f"{name}.npz"))
        assert_same(cases.results(keraslite, model, *data[name], name), want)
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape, weight.dtype))
    model.load_weights(path)
    assert all(w.any() for w in model.get_weights()[:1])


@pytest.mark.parametrize(("target", "name"), SOURCES)
def test_what_we_save_keras_opens(target, name, ours, theirs):
    theirs(target)
    error = ours / f"{name}.{target}.error"
    assert not error.exists(), error.read_text()
    want, got = np.load(ours / f"{name}.npz"), np.load(ours / f"{name}.{target}.npz")
    assert_same(got, want, OTHERWISE.get((target, name)))
    for form in cases.FORMS if name in cases.FORM_CASES else ():
        assert_same({"0": got[form]}, {"0": want["0"]})
    legacy = {k.removeprefix("legacy/"): v for k, v in got.items() if k.startswith("legacy/")}
    assert bool(legacy) == (name in cases.LEGACY_CASES)
    assert_same(legacy, {k: want[k] for k in legacy})


@pytest.mark.filterwarnings("ignore:.*does not say how the model was compiled")
@pytest.mark.parametrize("name", [*cases.LEGACY_CASES, *cases.OWN_LEGACY])
def test_legacy_files_of_ours_are_opened(name, ours):
    backend = "torch" if "torch" in BACKENDS else BACKENDS[0]
    x, y = pickle.loads((ours / "data.pkl").read_bytes())[name]
    want = dict(np.load(ours / f"{name}.npz"))
    with keraslite.use_backend(backend):
        own = cases.custom_objects(cases.objects(keraslite))
        model = saving.load_model(ours / f"{name}.h5", own)
        if backend not in TRAINABLE:
            y, _ = None, want.pop("losses", None)
        assert_same(cases.results(keraslite, model, x, y, name), want)


@pytest.mark.filterwarnings("ignore:.*is in the format of Keras 2")
def test_what_a_legacy_file_holds(tmp_path):
    with keraslite.use_backend("numpy"):
        model = models.Sequential([layers.Input((4,)), layers.Dense(3)])
        model.save(tmp_path / "m.h5")
        with pytest.warns(UserWarning, match="does not say how the model was compiled"):
            saving.load_model(tmp_path / "m.h5")
        with pytest.raises(FileExistsError):
            model.save(tmp_path / "m.h5", overwrite=False)
        model.layers[0].enable_lora(2)
        with pytest.raises(ValueError, match=r"no place for low-rank updates.*save it as n\.keras"):
            model.save(tmp_path / "n.h5")
        assert os.listdir(tmp_path) == ["m.h5"]
        many = [layers.Identity(name=f"{'long' * 40}{i}") for i in range(400)]
        model = models.Sequential([layers.Input((4,)), *many, layers.Dense(3, name="last")])
        model.save(tmp_path / "m.h5")
        with pytest.warns(UserWarning, match="does not say how the model was compiled"):
            again = saving.load_model(tmp_path / "m.h5")
        assert np.array_equal(again.get_weights()[0], model.get_weights()[0])
        with pytest.warns(UserWarning, match="is in the format of Keras 2, which holds neither"):
            model.save(tmp_path / "m.h5")


# -- what Keras has no place for ------------------------------------------------------------------


def with_dropout():
    keraslite.utils.set_random_seed(3)
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(3)]
    )
    model.compile("adam", "mse")
    model.train_on_batch(cases.ROWS, cases.TARGETS)
    return model


@pytest.mark.parametrize("weights_format", ["h5", "safetensors"])
def test_training_goes_on_bit_for_bit(trains, weights_format, tmp_path):
    model, path = with_dropout(), tmp_path / "m.keras"
    model.save(path, weights_format=weights_format)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist()) - {"metadata.json", "config.json"}
    of_h5, of_safetensors = {"model.weights.h5", "keraslite.safetensors"}, {
        "model.safetensors", "optimizer.safetensors"}  # fmt: skip
    assert names == (of_h5 if weights_format == "h5" else of_safetensors)
    other = saving.load_model(path)
    for _ in range(3):
        a, b = model.train_on_batch(cases.ROWS, cases.TARGETS), other.train_on_batch(
            cases.ROWS, cases.TARGETS)  # fmt: skip
        assert float(a) == float(b)
    for v, w in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(v.numpy(), w.numpy())


def test_updates_beside_weights_come_back(tmp_path):
    with keraslite.use_backend("numpy"):
        for mode in (None, "int8"):
            model = models.Sequential([layers.Input((4,)), layers.Dense(8), layers.Dense(3)])
            if mode:
                model.quantize(mode)
            model.layers[0].enable_lora(2)
            update = model.layers[0].lora_kernel_b
            update.assign(np.ones(update.shape, "float32"))
            model.save(tmp_path / "m.keras")
            other = saving.load_model(tmp_path / "m.keras")
            weights = dict(other.named_weights())
            for name, value in model.named_weights():
                np.testing.assert_array_equal(weights[name].numpy(), value.numpy())


def test_weights_alone(trains, tmp_path):
    model, other = with_dropout(), with_dropout()
    other.train_on_batch(cases.ROWS, cases.TARGETS)
    for name in ("w.weights.h5", "m.keras", "w.weights.json"):
        if name == "m.keras":
            model.save(tmp_path / name)
        else:
            shards = 300 / 2**30 if name.endswith("json") else None
            model.save_weights(tmp_path / name, max_shard_size=shards)
        keraslite.utils.set_random_seed(9)
        other = with_dropout()
        other.train_on_batch(cases.ROWS, cases.TARGETS)
        other.load_weights(tmp_path / name)
        for v, w in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(v, w)
        assert int(other.optimizer.iterations) == 1
    wider = models.Sequential([layers.Input((4,)), layers.Dense(9), layers.Dense(3)])
    before = [w.tolist() for w in wider.get_weights()]
    with pytest.raises(ValueError, match=r"the model's shape is \(4, 9\), the file's \(4, 8\)"):
        wider.load_weights(tmp_path / "w.weights.h5")
    assert [w.tolist() for w in wider.get_weights()] == before
    with pytest.warns(UserWarning, match=r"left as they are: .*\(4, 9\), the file's \(4, 8\)"):
        wider.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    model.save_weights(tmp_path / "part.weights.h5", objects_to_skip=[model.layers[0]])
    other.load_weights(tmp_path / "part.weights.h5", objects_to_skip=[other.layers[0]])


def test_checkpoints_are_files_of_keras(trains, tmp_path):
    model = with_dropout()
    saves = [
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
        callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
    ]
    model.fit(cases.ROWS, cases.TARGETS, epochs=2, verbose=0, callbacks=saves)
    other = saving.load_model(tmp_path / "2.keras")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    other.load_weights(tmp_path / "1.weights.h5")
    assert not np.array_equal(other.get_weights()[0], model.get_weights()[0])


def test_names_and_formats_are_checked(tmp_path):
    with keraslite.use_backend("numpy"):
        model = models.Sequential([layers.Input((4,)), layers.Dense(3)])
        with pytest.raises(ValueError, match="weights_format must be one of"):
            model.save(tmp_path / "m.keras", weights_format="pickle")
        with pytest.raises(ValueError, match="must be that of a folder"):
            model.save(tmp_path / "m.keras", zipped=False)
        model.save(tmp_path / "m.keras")
        with pytest.raises(FileExistsError):
            model.save(tmp_path / "m.keras", overwrite=False)
