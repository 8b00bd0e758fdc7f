"""Weights in shards, models as folders, and parts that are left out."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import keraslite
from keraslite import layers, models, saving, utils

X = np.random.default_rng(3).normal(size=(6, 4)).astype("float32")
KILOBYTE = 2.0**-20  # in GB


def make(seed):
    utils.set_random_seed(seed)
    return models.Sequential(
        [layers.Input((4,)), layers.Dense(64, name="first"), layers.BatchNormalization(),
         layers.Dropout(0.1), layers.Dense(3, name="last")]
    )  # fmt: skip


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# -- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors.index.json", "w.weights.json"])
def test_weights_in_shards_come_back(backend, tmp_path, name):
    model, other = make(1), make(2)
    model.save_weights(tmp_path / name, max_shard_size=1.2 * KILOBYTE)
    shards = [n for n in files(tmp_path) if n != name]
    assert len(shards) > 1
    assert all((tmp_path / n).stat().st_size < 16384 for n in shards)
    other.load_weights(tmp_path / name)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))


def test_shards_are_those_of_transformers(backend, tmp_path):
    model = make(1)
    index = tmp_path / "model.safetensors.index.json"
    model.save_weights(index, max_shard_size=1.2 * KILOBYTE)
    content = json.loads(index.read_text())
    count = len(set(content["weight_map"].values()))
    assert files(tmp_path) == [
        *(f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)), index.name
    ]  # fmt: skip
    # The library of the format reads them.
    tensors = {n: load_file(tmp_path / n) for n in files(tmp_path) if n != index.name}
    for path, weight in model.named_weights():
        value = tensors[content["weight_map"][path]][path]
        np.testing.assert_array_equal(value, weight.numpy())
    total = sum(t.nbytes for shard in tensors.values() for t in shard.values())
    assert content["metadata"]["total_size"] == total


def test_shards_replace_those_of_an_earlier_save(backend, tmp_path):
    index = tmp_path / "w.safetensors.index.json"
    make(1).save_weights(index, max_shard_size=1.2 * KILOBYTE)
    before = len(files(tmp_path))
    (tmp_path / "another-00001-of-00009.safetensors").write_bytes(b"")
    model, other = make(2), make(3)
    model.save_weights(index, max_shard_size=1)
    assert before > 2
    assert files(tmp_path) == [
        "another-00001-of-00009.safetensors", "w-00001-of-00001.safetensors", index.name
    ]  # fmt: skip
    other.load_weights(index)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))


def test_names_and_sizes_of_shards_are_checked(backend, tmp_path):
    model = make(1)
    with pytest.raises(ValueError, match=r"must end with .*index\.json"):
        model.save_weights(tmp_path / "w.safetensors", max_shard_size=1)
    with pytest.raises(ValueError, match="give max_shard_size"):
        model.save_weights(tmp_path / "w.safetensors.index.json")
    with pytest.raises(ValueError, match="first/kernel has .* more than a shard"):
        model.save_weights(tmp_path / "w.safetensors.index.json", max_shard_size=KILOBYTE / 2)
    with pytest.raises(ValueError, match="layers/dense/vars has .* more than a shard"):
        model.save_weights(tmp_path / "w.weights.json", max_shard_size=KILOBYTE / 2)
    with pytest.raises(ValueError, match=r"needs a name that ends with \.weights\.h5"):
        model.save_weights(tmp_path / "w.weights.json")
    with pytest.raises(ValueError, match="positive number"):
        model.save_weights(tmp_path / "w.weights.json", max_shard_size=0)
    model.save_weights(tmp_path / "w.weights.json", max_shard_size=1)
    with pytest.raises(FileExistsError):
        model.save_weights(tmp_path / "w.weights.json", overwrite=False, max_shard_size=1)
    assert files(tmp_path) == ["w.weights.json", "w_00000.weights.h5"]


def test_damaged_shards_are_refused(tmp_path):
    index = tmp_path / "w.safetensors.index.json"
    with keraslite.use_backend("numpy"):
        model = make(1)
        model.save_weights(index, max_shard_size=1.2 * KILOBYTE)
    text, first, second = index.read_text(), *files(tmp_path)[:2]
    for change, message in (
        ("{}", "no index of shards"),
        ("[", "no index of shards"),
        (text.replace(first, "../w.safetensors"), "expected the name of a .safetensors file"),
        (text.replace(first, second), "disagree about"),
    ):
        index.write_text(change)
        with pytest.raises(ValueError, match=message):
            model.load_weights(index)
    index.write_text(text)
    (tmp_path / first).unlink()
    with pytest.raises(FileNotFoundError, match=first):
        model.load_weights(index)


# -- parts that are left out ----------------------------------------------------------------------


def test_layers_are_left_out_of_files_and_of_loading(backend, tmp_path):
    model, other, third = make(1), make(2), make(3)
    path = tmp_path / "w.safetensors"
    first = third.layers[0].kernel.numpy()
    model.save_weights(path, objects_to_skip=[model.layers[0]])
    assert not [name for name in saving.open_safetensors(path) if name.startswith("first")]
    with pytest.raises(ValueError, match="first/kernel"):
        third.load_weights(path)
    third.load_weights(path, objects_to_skip=[third.layers[0]])
    np.testing.assert_array_equal(third.layers[0].kernel.numpy(), first)
    np.testing.assert_array_equal(third.layers[-1].kernel.numpy(), model.layers[-1].kernel.numpy())
    # What is in the file is left there.
    model.save_weights(path)
    kept = other.layers[0].kernel.numpy()
    other.load_weights(path, objects_to_skip=[other.layers[0], other.layers[-1].bias])
    np.testing.assert_array_equal(other.layers[0].kernel.numpy(), kept)
    np.testing.assert_array_equal(other.layers[-1].kernel.numpy(), model.layers[-1].kernel.numpy())


def test_what_is_inside_a_layer_is_left_out_with_it(backend, tmp_path):
    inner = models.Sequential([layers.Input((4,)), layers.Dense(3), layers.Dropout(0.1)])
    model = models.Sequential([layers.Input((4,)), inner, layers.Dense(2, name="head")])
    model.save_weights(tmp_path / "w.safetensors", objects_to_skip=[inner])
    assert set(saving.open_safetensors(tmp_path / "w.safetensors")) == {"head/kernel", "head/bias"}


# -- folders --------------------------------------------------------------------------------------


def compiled(seed):
    model = make(seed)
    model.compile("adam", "mse")
    if model.backend != "numpy":
        model.train_on_batch(X, X[:, :3])
    return model


@pytest.mark.parametrize("weights_format", ["h5", "safetensors"])
def test_a_model_comes_back_from_a_folder(backend, tmp_path, weights_format):
    model, folder = compiled(1), tmp_path / "model"
    model.save(folder, zipped=False, weights_format=weights_format)
    loaded = saving.load_model(folder)
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    assert int(loaded.optimizer.iterations.numpy()) == int(model.optimizer.iterations.numpy())
    other = make(2)
    other.load_weights(folder)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))
    if weights_format == "h5":
        return
    parts = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(parts["first/kernel"], model.layers[0].kernel.numpy())


def test_a_folder_is_replaced_whole(trains, tmp_path):
    folder = tmp_path / "model"
    compiled(1).save(folder, zipped=False)
    (folder / "notes.txt").write_text("kept")
    assert "model.weights.h5" in files(folder)
    model = compiled(2)
    model.save(folder, zipped=False, include_optimizer=False, weights_format="safetensors")
    assert files(folder) == ["config.json", "metadata.json", "model.safetensors", "notes.txt"]
    loaded = saving.load_model(folder)
    np.testing.assert_array_equal(model.predict(X, verbose=0), loaded.predict(X, verbose=0))
    assert int(loaded.optimizer.iterations.numpy()) == 0
    with pytest.raises(FileExistsError):
        model.save(folder, overwrite=False, zipped=False)


def test_names_of_folders_and_files_are_checked(backend, tmp_path):
    model = make(1)
    with pytest.raises(ValueError, match="must be that of a folder"):
        model.save(tmp_path / "m.keras", zipped=False)
    model.save(tmp_path / "m.keras", zipped=True)
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        model.save(tmp_path)
    assert files(tmp_path) == ["m.keras"]


def test_damaged_folders_are_refused(tmp_path):
    with keraslite.use_backend("numpy"):
        make(1).save(tmp_path / "whole", zipped=False)
        make(2).save(tmp_path / "other", zipped=False)

    def damaged(change):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        change(folder)
        return folder

    def named_elsewhere(folder):
        metadata = json.loads((folder / "metadata.json").read_text())
        metadata["sums"]["../other/model.weights.h5"] = 0
        (folder / "metadata.json").write_text(json.dumps(metadata))

    for change, message in (
        (lambda f: os.unlink(f / "config.json"), "is missing: 'config.json'"),
        (lambda f: os.unlink(f / "model.weights.h5"), "is missing: 'model.weights.h5'"),
        (lambda f: (f / "metadata.json").write_text("[]"), "must be a JSON object"),
        (lambda f: shutil.copy(tmp_path / "other" / "model.weights.h5", f), "check sum is wrong"),
        (named_elsewhere, "is missing: '../other"),
    ):
        with pytest.raises(ValueError, match=message):
            saving.load_model(damaged(change), backend="numpy")
