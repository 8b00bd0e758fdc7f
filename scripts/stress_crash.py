"""Kill savings with SIGKILL at random moments, and look at what they leave.

    python scripts/stress_crash.py [--moments 60] [--seed 0] [--only preset file model fit pull]

Five tasks are killed: `save_to_preset` over another model's folder, `Model.save` over a `.keras`
file, the same over a folder and `save_weights` as `.weights.h5` and safetensors, `fit` with
BackupAndRestore, and `hub pull` of a new commit over a cached one, from a server of its own. After
each kill what is there must be the old or the new, whole, and after the next call nothing may be
left over. The exit status is 1 if anything was otherwise.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

_WIDTHS = (24, 48)  # of the older model and of the newer
_TORCH = {"KERASLITE_BACKEND": "torch"}  # numpy has no gradients
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import keraslite as keras  # noqa: E402

# Each child says "ready" after its imports, then works in an endless loop, so that a kill falls
# into any moment of it.
_PRESET = """
import sys, hub, keraslite as keras
folder, models = sys.argv[1], [hub.load(name) for name in sys.argv[2:]]
print("ready", flush=True)
while True:
    for model in models:
        model.save_to_preset(folder)
"""
_MODEL = """
import sys, h5py, keraslite as keras
from keraslite import layers
def made(width):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(width, kernel_initializer="ones"),
                              layers.Dense(1, kernel_initializer="zeros")])
    model.layers[0].bias.assign([float(width)] * width)
    return model
models = [made(int(width)) for width in sys.argv[3:]]
print("ready", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
        if sys.argv[2] == "all":
            model.save_weights(sys.argv[1] + ".safetensors")
            model.save_weights(sys.argv[1] + ".weights.h5")
            model.save(sys.argv[1] + ".folder", zipped=False)
"""
_FIT = """
import sys, numpy as np, keraslite as keras
from keraslite import layers
keras.utils.set_random_seed(0)
model = keras.Sequential([layers.Input((4,)), layers.Dense(64), layers.Dense(1)])
model.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
backup = keras.callbacks.BackupAndRestore(
    sys.argv[1], save_freq=1, double_checkpoint=True, delete_checkpoint=False)
class Check(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        step = int(model.optimizer.iterations)
        assert epoch * 8 <= step <= epoch * 8 + 7, (epoch, step)
        if not hasattr(self, "begun"):
            self.begun = True
            print("ready", step, flush=True)
model.fit(x, x[:, :1], batch_size=4, epochs=int(sys.argv[2]), verbose=0,
          callbacks=[backup, Check()])
print("done", int(model.optimizer.iterations), flush=True)
"""
_PULL = """
import sys
from huggingface_hub import constants
print("ready", flush=True)
from hub.cli.main import main
sys.exit(main(["pull", "org/tiny"]))
"""


def _start(code: str, *words: object, **environment: str) -> subprocess.Popen:
    """Start a child and wait for its word."""
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, words)], stdout=subprocess.PIPE,
        text=True, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "KERASLITE_BACKEND": "numpy"} | environment,
    )  # fmt: skip
    word = child.stdout.readline()
    if not word.startswith("ready"):
        child.kill()
        raise RuntimeError(f"the child ended with {child.wait()} before its work: {word!r}")
    return child


def _kill(child: subprocess.Popen, after: float) -> None:
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.communicate()


def _hidden(folder: Path) -> list[str]:
    return [str(p.relative_to(folder)) for p in folder.rglob(".*")]


def preset(work: Path, moment: Callable[[float], float]) -> None:
    """Kill `save_to_preset` over the folder of another model once.

    Args:
        work: a folder that is kept from kill to kill.
        moment: a random time below a number of seconds.
    """
    import bert_checkpoints

    import hub

    sources, folder = [work / "a", work / "b"], work / "saved"
    if not work.joinpath("b").exists():
        for source, size in zip(sources, _WIDTHS, strict=True):
            bert_checkpoints.make(
                source, "BertForSequenceClassification", hidden_size=size, num_labels=size // 12
            )
            bert_checkpoints.words(source)
        with keras.use_backend("numpy"):
            hub.load(sources[0]).save_to_preset(folder)
    _kill(_start(_PRESET, folder, *sources), moment(0.2))
    with keras.use_backend("numpy"):
        model = hub.load(folder)
        same = hub.load(sources[0 if model.backbone.hidden_dim == _WIDTHS[0] else 1])
        for ours, theirs in zip(model.weights, same.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        assert model.num_classes == same.num_classes
        model.save_to_preset(folder)
    assert not _hidden(folder), _hidden(folder)


def file(work: Path, moment: Callable[[float], float]) -> bool:
    """Kill `Model.save` over a `.keras` file once, with models of some MB.

    Arguments as for `preset`. Returns whether that was while a file was written.
    """
    path = work / "model.keras"
    _kill(_start(_MODEL, path, "file", 100_000, 200_000), moment(0.15))
    during = bool(_hidden(work))
    if path.exists():
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        assert _bias_of(path) in (100_000, 200_000)
    with keras.use_backend("numpy"):
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save(work / "another.keras")
    assert not _hidden(work), _hidden(work)
    return during


def model(work: Path, moment: Callable[[float], float]) -> None:
    """Kill `Model.save`, to a file and a folder, and `save_weights` once, over older ones.

    Arguments as for `preset`.
    """
    path = work / "model.keras"
    _kill(_start(_MODEL, path, "all", 64, 256), moment(0.1))
    parts = [Path(f"{path}{end}") for end in ("", ".safetensors", ".weights.h5", ".folder")]
    for part in parts:
        if part.exists() and (part.suffix != ".folder" or _saved_once(part)):
            _bias_of(part)
    with keras.use_backend("numpy"):
        another = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        another.save(work / "another.keras")
        if parts[-1].exists():
            another.save(parts[-1], zipped=False)
    assert not _hidden(work), _hidden(work)
    shutil.rmtree(parts[-1], ignore_errors=True)  # the next child's are other models


def _bias_of(path: Path) -> int:
    """Return the width that all weights of the first layer in a file agree on."""
    if path.name.endswith(".safetensors"):
        tensors = keras.saving.open_safetensors(path)
        kernel, bias = (tensors[f"dense/{name}"] for name in ("kernel", "bias"))
    elif path.name.endswith(".weights.h5"):
        with h5py.File(path) as tensors:
            kernel, bias = (tensors[f"layers/dense/vars/{i}"][()] for i in range(2))
    else:
        loaded = keras.saving.load_model(path, backend="numpy")
        kernel, bias = (np.asarray(w.numpy()) for w in loaded.layers[0].weights)
    assert (kernel == 1).all()
    assert (bias == len(bias)).all()
    return len(bias)


def _saved_once(folder: Path) -> bool:
    """Return whether a save into a folder came as far as what decides."""
    return (folder / "metadata.json").exists() or (folder / ".committed").exists()


def fit(work: Path, moment: Callable[[float], float]) -> None:
    """Kill `fit` with BackupAndRestore once, then resume; arguments as for `preset`."""
    folder = work / "backup"
    state = work / "steps"
    before = int(state.read_text()) if state.exists() else 0
    _kill(_start(_FIT, folder, 100_000, **_TORCH), moment(0.1))
    steps = [0]
    for file in folder.glob("*.safetensors"):
        tensors = keras.saving.open_safetensors(file)
        steps.append(int(np.max([tensors[n] for n in tensors if n.endswith("0000")])))
        assert int(tensors.metadata["epoch"]) * 8 + int(tensors.metadata["step"]) == steps[-1]
    assert max(steps) >= before, (steps, before)
    state.write_text(str(max(steps)))
    # Resumes, saves once more, and ends.
    child = _start(_FIT, folder, max(steps) // 8 + 2, **_TORCH)
    out = child.communicate()[0]
    assert child.returncode == 0, out
    assert out.split() == ["done", str((max(steps) // 8 + 2) * 8)], out
    state.write_text(out.split()[1])
    assert not _hidden(folder), _hidden(folder)


def pull(work: Path, moment: Callable[[float], float]) -> None:
    """Kill `hub pull` of a new commit over a cached one once; arguments as for `preset`."""
    import bert_checkpoints
    from hub_server import HubServer

    sources = [work / "a", work / "b"]
    if not sources[1].exists():
        for source, size in zip(sources, _WIDTHS, strict=True):
            bert_checkpoints.make(source, "BertModel", hidden_size=size)
            bert_checkpoints.words(source)
    cache = work / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    server = HubServer()
    try:
        place = {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(cache), "NO_PROXY": "127.0.0.1",
                 "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
        server.publish("org/tiny", sources[0])
        assert _start(_PULL, **place).wait() == 0
        server.publish("org/tiny", sources[1])
        _kill(_start(_PULL, **place), moment(2.0))
        look = (
            "import hub, sys; print('ready'); m = hub.load('org/tiny'); m.weights[0].numpy();"
            "print(m.backbone.hidden_dim if hasattr(m, 'backbone') else m.hidden_dim)"
        )
        offline = _start(look, **place, HF_HUB_OFFLINE="1")
        width = offline.communicate()[0].strip()
        assert offline.returncode == 0, "what is cached does not load"
        assert width in list(map(str, _WIDTHS)), width
        online = _start(look, **place)
        assert online.communicate()[0].strip() == str(_WIDTHS[1])
    finally:
        server.close()
    left = [str(p) for p in cache.rglob("*.tmp")]
    assert not left, left


def main() -> int:
    """Run the tasks, and print the faults of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    tasks = {task.__name__: task for task in (preset, file, model, fit, pull)}
    parser.add_argument("--moments", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=tasks, default=list(tasks))
    options = parser.parse_args()
    generator = random.Random(options.seed)
    faults = {}
    for name in options.only:
        faults[name], during = [], 0
        kill = partial(tasks[name], moment=lambda most: generator.uniform(0, most))
        with tempfile.TemporaryDirectory() as folder:
            for i in range(options.moments):
                try:
                    during += bool(kill(Path(folder)))
                except Exception as error:  # all the faults are told
                    faults[name].append(f"{i}: {type(error).__name__}: {error}")
                    print(f"{name} {faults[name][-1]}", flush=True)
        writing = f", {during} while a file was written" if during else ""
        print(f"{name}: {options.moments} kills{writing}, {len(faults[name])} faults", flush=True)
    print(json.dumps({name: len(lines) for name, lines in faults.items()}))
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
