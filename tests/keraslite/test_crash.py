"""Models, weights and backups after a crash: the old or the new at whatever moment it happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import keraslite
from keraslite.saving import atomic, remove_abandoned, replacing, replacing_folder

SUPPORT = Path(__file__).parents[1] / "support"
HEAD = """
import sys
from pathlib import Path
import numpy as np
import keraslite as keras
from keraslite import layers
from crash_steps import kill_at_each_step
folder = Path(sys.argv[1])
outcomes = []
"""
SAVE = """
def made(width):
    with keras.use_backend("numpy"):
        model = keras.Sequential([layers.Input((4,)), layers.Dense(width)])
        model.layers[0].bias.assign([float(width)] * width)
    return model

def check(step):
    width = read()
    outcomes.append(width)
    assert width == 64 or 64 not in outcomes
    save(old)
    assert sorted(p.name for p in folder.rglob("*")) == names, list(folder.rglob("*"))

old, new = made(32), made(64)
save(old)
names = sorted(p.name for p in folder.rglob("*"))
kill_at_each_step(folder, lambda: save(new), check)
print(outcomes.count(32), outcomes.count(64))
"""
MODEL = """
save = lambda model: model.save(folder / "m.keras")
read = lambda: int(keras.saving.load_model(folder / "m.keras", backend="numpy").layers[0].bias[0])
"""
WEIGHTS = """
save = lambda model: model.save_weights(folder / "w.safetensors")
read = lambda: int(keras.saving.open_safetensors(folder / "w.safetensors")["dense/bias"][0])
"""
WEIGHTS_H5 = """
import h5py
save = lambda model: model.save_weights(folder / "w.weights.h5")
def read():
    with h5py.File(folder / "w.weights.h5") as file:
        return int(file["layers/dense/vars/1"][0])
"""
SHARDS = """
index = folder / "w.safetensors.index.json"
save = lambda model: model.save_weights(index, max_shard_size=1100 * 2**-30)
def read():
    for width in (32, 64):
        model = made(width)
        model.layers[0].bias.assign([0.0] * width)
        try:
            model.load_weights(index)
        except ValueError:
            continue
        assert (model.layers[0].bias.numpy() == width).all()
        return width
"""
PARTS = """
save = lambda model: model.save(folder / "m", zipped=False)
read = lambda: int(keras.saving.load_model(folder / "m", backend="numpy").layers[0].bias[0])
"""
FIT = """
x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
double = sys.argv[2] == "True"

def fit(epochs, delete=False):
    import torch
    torch.set_num_threads(1)  # forks have no other threads
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("adam", "mse")
    backup = keras.callbacks.BackupAndRestore(
        folder, double_checkpoint=double, delete_checkpoint=delete)
    begun = []
    begin = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append((epoch, int(model.optimizer.iterations))))
    model.fit(x, x[:, :1], batch_size=4, epochs=epochs, verbose=0, callbacks=[backup, begin])
    return begun

def check(step):
    # Each training resumes where a save was made: 2 steps to an epoch.
    begun = fit(4)
    assert all(steps == 2 * epoch for epoch, steps in begun), begun
    outcomes.append(begun[0][0] if begun else 4)
    left = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    assert not left or not begun, left
    for path in folder.iterdir():
        path.unlink()
    fit(1)

fit(1)
kill_at_each_step(folder, lambda: fit(3, sys.argv[3] == "True"), check)
print(*outcomes)
"""


def _run(*code, words, backend="numpy"):
    path = os.pathsep.join([str(SUPPORT), str(Path(keraslite.__file__).parents[1])])
    result = subprocess.run(
        [sys.executable, "-c", "".join(code), *map(str, words)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path, "KERASLITE_BACKEND": backend},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return [int(word) for word in result.stdout.split()]


@pytest.mark.parametrize(
    "code",
    [MODEL, WEIGHTS, WEIGHTS_H5, SHARDS, PARTS],
    ids=["model", "weights", "weights of Keras", "shards", "folder"],
)
def test_crash_of_saving_a_model_or_weights(tmp_path, code):
    before, after = _run(HEAD, code, SAVE, words=[tmp_path])
    assert before >= 2
    assert after >= 1


@pytest.mark.parametrize("double", [False, True], ids=["one file", "two files"])
def test_crash_of_a_backup(tmp_path, double):
    epochs = _run(HEAD, FIT, words=[tmp_path, double, False], backend="torch")
    # Never from the beginning, and what was saved is not lost later.
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2, 3}


def test_crash_while_a_backup_is_deleted(tmp_path):
    """At the end of training; what is then left is the end, not a state before it."""
    epochs = _run(HEAD, FIT, words=[tmp_path, True, True], backend="torch")
    resumed = [epoch for epoch in epochs if epoch > 0]
    assert epochs == sorted(resumed) + [0] * epochs.count(0)
    assert set(epochs) == {0, 1, 2, 3}


def test_crash_leftovers_are_removed_once_their_process_is_gone(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host, run = atomic._HOST, atomic._RUN
    parent = os.getppid()
    abandoned = [
        f".a.{gone.pid}.0a1b2c3d.tmp", f".a.{gone.pid}.{host}.{run}.0a1b2c3d.tmp",
        f".a.{os.getpid()}.{host}.00000000.0a1b2c3d.tmp",  # of an earlier process of this number
    ]  # fmt: skip
    kept = [
        f".a.{os.getpid()}.{host}.{run}.0a1b2c3d.tmp", f".a.{parent}.{host}.{run}.0a1b2c3d.tmp",
        f".a.{gone.pid}.ffffffff.{run}.0a1b2c3d.tmp",  # of another machine
        ".a.tmp", "a.12.0a1b2c3d.tmp", "b.txt",
    ]  # fmt: skip
    for name in (*abandoned, *kept):
        (tmp_path / name).write_text("x")
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    # Of another machine after a day.
    old = tmp_path / kept[2]
    os.utime(old, (0, 0))
    with replacing(tmp_path / "b.txt") as file:
        file.write(b"y")
    assert not old.exists()


def test_crash_free_failures_leave_a_folder_as_it_was(tmp_path):
    folder = tmp_path / "saved"
    with replacing_folder(folder) as new:
        (new / "a").write_text("1")
        (new / "sub").mkdir()
        (new / "sub" / "b").write_text("1")

    def write(*names):
        with replacing_folder(folder) as new:
            for name in names:
                (new / name).write_text("2")

    with pytest.raises(FileNotFoundError, match=r"nothing was saved.*saved/none/c'"):
        write("a", "none/c")
    with pytest.raises(IsADirectoryError, match=r"nothing was saved.*saved/sub'"):
        write("a", "sub")
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == [
        "a", "sub", "sub/b",
    ]  # fmt: skip
    assert (folder / "a").read_text() == "1"
    with pytest.raises(FileExistsError, match="nothing was saved"), replacing_folder(folder / "a"):
        pass


def test_crash_free_failures_leave_no_empty_folders(tmp_path):
    (tmp_path / "there").mkdir()

    def fail(folder):
        with replacing_folder(folder) as new:
            (new / "a").write_text("1")
            raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        fail(tmp_path / "there" / "new" / "inner")
    assert os.listdir(tmp_path / "there") == []  # what was there before stays
    with pytest.raises(ValueError, match="refused"):
        fail(tmp_path / "there")
    assert os.listdir(tmp_path) == ["there"]
    with replacing_folder(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()
