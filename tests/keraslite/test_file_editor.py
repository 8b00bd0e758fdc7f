"""KerasFileEditor, on files that Keras wrote and on ours: what it shows, finds and changes."""

import h5py
import keras  # on TensorFlow
import ml_dtypes
import numpy as np
import pytest

import keraslite
from keraslite import layers, models, saving

# Keras on TensorFlow reads its variables so.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(autouse=True)
def one():
    with keraslite.use_backend("torch"):
        yield


def dense(K):
    return K.Sequential(
        [K.Input((3,)), K.layers.Dense(4, name="a"), K.layers.BatchNormalization(name="b"),
         K.layers.Dropout(0.5), K.layers.Dense(2, name="c")]
    )  # fmt: skip


def nested(K):
    L = K.layers
    x = K.Input((5,), dtype="int32")
    h = L.Embedding(7, 4)(x)
    h = L.MultiHeadAttention(2, 3)(h, h)
    h = L.Bidirectional(L.LSTM(3, return_sequences=True))(h)
    h = L.TimeDistributed(L.Dense(2))(h)
    h = L.RNN(L.StackedRNNCells([L.GRUCell(2), L.SimpleRNNCell(2)]))(h)
    h = K.Sequential([K.Input((2,)), L.Dense(3)])(h)
    h = L.SpectralNormalization(L.Dense(3))(h)
    return K.Model(x, L.Dense(1)(h))


def subclass(K):
    class Own(K.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [K.layers.Dense(2), [K.layers.Dense(3), K.layers.LayerNormalization()]]
            self.heads = {"z": K.layers.Dense(1), "y": K.layers.Dense(2)}
            self._last = K.layers.Dense(1)

        def call(self, x):
            x = self.blocks[1][1](self.blocks[1][0](self.blocks[0](x)))
            return self._last(K.ops.concatenate([self.heads["z"](x), self.heads["y"](x)], 1))

    model = Own()
    model(np.zeros((1, 3), "float32"))
    return model


def compiled(K):
    model = dense(K)
    model.compile(K.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("build", [dense, nested, subclass, compiled])
def test_files_of_keras_are_read_and_compared_with_our_models(build, tmp_path, capsys):
    path = str(tmp_path / "m.weights.h5")
    build(keras).save_weights(path)
    editor = saving.KerasFileEditor(path)
    arrays = dict(flat(editor.weights_dict))
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        stored = {n: file[n][()] for n in names if isinstance(file[n], h5py.Dataset)}
    assert arrays.keys() == {name.replace("/vars/", "/") for name in stored}
    for name, value in stored.items():
        np.testing.assert_array_equal(arrays[name.replace("/vars/", "/")], value)
    # Keras's own editor leaves out what is inside an object without weights of its own.
    assert dict(flat(keras.saving.KerasFileEditor(path).weights_dict)).keys() <= arrays.keys()
    result = editor.compare(build(keraslite))
    assert result["status"] == "success", capsys.readouterr().out
    assert result["match_count"] == len(arrays) > 3


def flat(objects, path=""):
    for name, value in objects.items():
        yield from (
            flat(value, f"{path}{name}/") if isinstance(value, dict) else [(path + name, value)]
        )


def test_an_edited_file_is_one_that_keras_loads(tmp_path, capsys):
    model = dense(keras)
    path = str(tmp_path / "m.keras")
    model.save(path)
    capsys.readouterr()
    editor = saving.KerasFileEditor(path)
    assert capsys.readouterr().out.startswith(f"Weights of '{path}'\nSaved with Keras 3.")
    assert editor.config["class_name"] == "Sequential"
    editor.summary()
    assert capsys.readouterr().out.splitlines()[:6] == [
        "Weights structure", "└─ layers", "   ├─ batch_normalization ('b')",
        "   │  ├─ 0: shape=(4,), dtype=float32", "   │  ├─ 1: shape=(4,), dtype=float32",
        "   │  ├─ 2: shape=(4,), dtype=float32",
    ]  # fmt: skip
    kernel = np.full((3, 4), 2.0, "float32")
    editor.add_weights("dense", {"0": kernel})
    editor.rename_object("dense_1", "old")
    editor.delete_object("layers/old")
    editor.add_object("layers/dense_1", {"0": np.ones((4, 2), "float32"), "1": np.zeros(2), "2": 1})
    editor.delete_weight("dense_1", "2")
    editor.resave_weights(tmp_path / "edited.weights.h5")
    model.load_weights(str(tmp_path / "edited.weights.h5"))
    np.testing.assert_array_equal(model.get_weights()[0], kernel)
    np.testing.assert_array_equal(model.get_weights()[-2], np.ones((4, 2)))


def test_what_differs_is_told(tmp_path, capsys):
    path = tmp_path / "m.weights.h5"
    dense(keras).save_weights(str(path))
    editor = saving.KerasFileEditor(path)
    model = models.Sequential([keraslite.Input((3,)), layers.Dense(5), layers.PReLU()])
    assert editor.compare(model) == {"status": "error", "error_count": 5, "match_count": 0}
    out = capsys.readouterr().out
    for line in (
        "...Weight /layers/dense/0 has another shape\n    In the model: (3, 5), in the file: (3, 4)",
        "...Object /layers/p_re_lu is in the model, not in the file\n    It holds 0",
        "...Object /layers/dense_1 is in the file, not in the model\n    It holds 0, 1",
        "Found 5 errors: the file does not fit the model",
    ):
        assert line in out


def test_our_own_files_are_edited_likewise(tmp_path, capsys):
    model = dense(keraslite)
    model.save(tmp_path / "m.keras", weights_format="safetensors")
    editor = saving.KerasFileEditor(tmp_path / "m.keras")
    assert editor.config["class_name"] == "Sequential"
    names = len(saving.weight_files.weights_of(model))
    assert editor.compare(model)["match_count"] == names
    editor.rename_object("a", "first")
    assert editor.compare(model)["error_count"] == 2
    editor.resave_weights(tmp_path / "w.safetensors")
    other = models.Sequential(
        [keraslite.Input((3,)), layers.Dense(4, name="first"), *model.layers[1:]]
    )
    other.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match=r"ends with '\.safetensors', got 'w\.weights\.h5'"):
        editor.save(tmp_path / "w.weights.h5")
    for name in ("w.safetensors.index.json", "w.weights.json"):
        model.save_weights(tmp_path / name, max_shard_size=1)
        assert saving.KerasFileEditor(tmp_path / name).compare(model)["error_count"] == 0
    for form in saving.keras_file.WEIGHTS_FORMATS:
        model.save(tmp_path / "m.keras", weights_format=form)
        assert saving.KerasFileEditor(tmp_path / "m.keras").compare(model)["error_count"] == 0


def test_mistakes_are_refused(tmp_path):
    model = models.Sequential([keraslite.Input((2,)), layers.Dense(2), layers.Dense(2)])
    model.save_weights(tmp_path / "w.safetensors")
    editor = saving.KerasFileEditor(tmp_path / "w.safetensors")
    for edit, message in (
        (lambda: editor.rename_object("dense", "a/b"), "must be a name and no path"),
        (lambda: editor.rename_object("dense", "dense_1"), "'dense_1' beside 'dense' already"),
        (lambda: editor.delete_object("kernel"), "is there 2 times: give its path"),
        (lambda: editor.delete_object("none"), "The file has no 'none'"),
        (lambda: editor.delete_object("dense/kernel/x"), "The file has no 'dense/kernel/x'"),
        (lambda: editor.add_object("none/x", {}), "There is no object 'none' to put 'x' into"),
        (lambda: editor.add_object("x", [1]), "must be a dict of arrays by name"),
        (lambda: editor.delete_weight("dense", "x"), r"it has \['bias', 'kernel'\]"),
        (lambda: editor.add_weights("dense/kernel", {}), "is a weight, expected an object"),
        (lambda: saving.KerasFileEditor("m.h5"), "must end with one of"),
    ):
        with pytest.raises(ValueError, match=message):
            edit()
    with h5py.File(tmp_path / "bad.weights.h5", "w") as file:
        file["x"] = h5py.ExternalLink("other.h5", "/x")
    with pytest.raises(ValueError, match="an external link, which is refused"):
        saving.KerasFileEditor(tmp_path / "bad.weights.h5")


def test_bfloat16_survives(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w"):
        pass
    editor = saving.KerasFileEditor(tmp_path / "a.weights.h5")
    editor.add_object("dense", {"0": np.arange(3).astype(ml_dtypes.bfloat16)})
    editor.save(tmp_path / "b.weights.h5")
    read = saving.KerasFileEditor(tmp_path / "b.weights.h5").weights_dict["dense"]["0"]
    assert read.dtype == ml_dtypes.bfloat16
    assert read.tolist() == [0, 1, 2]
