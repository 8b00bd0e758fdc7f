"""Open a model that Keras saved, on three backends; train it, save it, and open it in Keras.

    python examples/from_keras.py [--out from_keras] [--backends torch jax tensorflow]

Needs the original Keras beside keraslite: `pip install keras`, with torch, jax or tensorflow. It
runs in processes of its own, and the two meet in files alone: `theirs.keras`, saved by Keras, and
one file a backend, saved here. Nothing is downloaded. What should be equal is printed with its
largest difference.
"""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
FRAMEWORKS = ("torch", "jax", "tensorflow")  # backends of both


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of stripes under noise, and in which of three directions they run."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    y, x = np.mgrid[:16, :16]
    shift = random.uniform(0, 2 * np.pi, (count, 1, 1))
    across = np.stack([x, y, (x + y) * 0.7])[labels]
    noise = random.normal(0, 0.3, (count, 16, 16))
    values = 127 * (1 + np.clip(np.sin(across * 1.2 + shift) + noise, -1, 1))
    return values[..., None].astype("float32"), labels.astype("int32")


# -- in Keras -------------------------------------------------------------------------------------


def save_in_keras(folder: Path) -> None:
    """Make, train and save a model in Keras; then train it on, for the comparison."""
    keras: Any = importlib.import_module("keras")  # whose annotations are not those of its calls
    layers = keras.layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D()(keras.activations.relu(x))
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, 1000)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"])
    model.fit(*pictures(256, 1), batch_size=BATCH, epochs=2, verbose=0)
    model.save(folder / "theirs.keras")
    np.save(folder / "theirs.npy", model.predict(pictures(64, 2)[0], verbose=0))
    print(json.dumps({"version": keras.__version__, "backend": keras.backend.backend(),
                      "losses": losses(model)}))  # fmt: skip


def open_in_keras(folder: Path) -> None:
    """Open in Keras what was saved here, and print what it makes of each."""
    keras: Any = importlib.import_module("keras")
    rows = {}
    for path in sorted(folder.glob("ours_*.keras")):
        model = keras.saving.load_model(path)
        want = np.load(path.with_suffix(".npy"))
        got = model.predict(pictures(64, 2)[0], verbose=0)
        rows[path.stem] = {
            "difference": float(np.abs(got - want).max()),
            "accuracy": float(np.mean(got.argmax(-1) == pictures(64, 2)[1])),
            "steps": int(model.optimizer.iterations), "losses": losses(model),
        }  # fmt: skip
    print(json.dumps(rows))


def run_in_keras(step: str, folder: Path, backend: str) -> Any:
    """Run one of the functions above in a process with Keras, and return what it prints last."""
    command = [sys.executable, __file__, "--in-keras", step, "--out", str(folder)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"Keras on {backend} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# -- in both --------------------------------------------------------------------------------------


def losses(model: Any) -> list[float]:
    """Return the losses of an epoch of training, in the order of the data."""
    history = model.fit(*pictures(128, 4), batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return [float(loss) for loss in history.history["loss"]]


# -- here -----------------------------------------------------------------------------------------


def compare(folder: Path, backends: Sequence[str], theirs: dict[str, Any]) -> None:
    """Open the model of Keras on each backend, train it on and save it."""
    import keraslite

    want = np.load(folder / "theirs.npy")
    for backend in backends:
        model = keraslite.saving.load_model(folder / "theirs.keras", backend=backend)
        with keraslite.use_backend(backend):
            got = model.predict(pictures(64, 2)[0], verbose=0)
            trained = losses(model)
            model.save(folder / f"ours_{backend}.keras")
            np.save(folder / f"ours_{backend}.npy", model.predict(pictures(64, 2)[0], verbose=0))
        difference = np.abs(np.subtract(trained, theirs["losses"])).max()
        print(
            f"Opened on {backend}: outputs differ by {np.abs(got - want).max():.1e} from Keras's, "
            f"the losses of 2 more epochs by {difference:.1e}: "
            f"{' '.join(f'{loss:.4f}' for loss in trained)}"
        )


def main() -> None:
    """Run the steps one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="from_keras", type=Path, help="the folder of all files")
    parser.add_argument("--backends", nargs="+", default=list(FRAMEWORKS), help="those used here")
    parser.add_argument("--in-keras", choices=("save", "open"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_keras:
        {"save": save_in_keras, "open": open_in_keras}[options.in_keras](options.out)
        return
    frameworks = [name for name in FRAMEWORKS if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") is None or not frameworks:
        sys.exit("This example compares with the original Keras: pip install keras torch h5py")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    theirs = run_in_keras("save", options.out, frameworks[0])
    print(f"Saved by Keras {theirs['version']} on {theirs['backend']}: theirs.keras")
    compare(options.out, options.backends, theirs)
    for name, row in run_in_keras("open", options.out, frameworks[0]).items():
        print(
            f"Keras opens {name}.keras: outputs differ by {row['difference']:.1e}, accuracy "
            f"{row['accuracy']:.1%}, training goes on after step {row['steps']}: "
            f"{' '.join(f'{loss:.4f}' for loss in row['losses'])}"
        )
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
