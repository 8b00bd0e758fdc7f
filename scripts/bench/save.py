"""Benchmark saving and loading a model of BERT-base's size (440 MB), against the bytes and Keras.

`.safetensors` against writing and reading the same bytes; `.keras` of both formats of weights
against the installed Keras, in time and in peak memory, each in a process of its own. A `.keras`
file has a check sum of all bytes, and loading it builds the model, so that the bytes are no goal
for it; the row says how far it is from them. `--small` takes a model of 3 MB.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import in_process, peak_memory, report

_ROUNDS = 5
# (tokens, width, blocks) of the model.
_SIZES = {False: (30522, 768, 12), True: (1000, 128, 3)}


def make(keras: Any, small: bool) -> Any:
    """The same model of Keras's API, with the installed Keras or with ours."""
    tokens, width, blocks = _SIZES[small]
    layers = keras.layers
    ids = keras.Input((16,), dtype="int32")
    hidden = layers.LayerNormalization()(layers.Embedding(tokens, width)(ids))
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(width // 64, 64)(hidden, hidden)
        hidden = layers.LayerNormalization()(layers.Add()([hidden, attended]))
        wide = layers.Dense(4 * width, "gelu")(hidden)
        hidden = layers.LayerNormalization()(layers.Add()([hidden, layers.Dense(width)(wide)]))
    return keras.Model(ids, layers.Dense(width, "tanh")(hidden[:, 0]))


def touch(model: Any) -> None:
    """Read a number of every page of the weights, which may be mapped."""
    for variable in model.weights:
        array = variable.value.detach().cpu().numpy().reshape(-1)
        assert np.isfinite(array[::1024]).all()


def seconds(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# -- against the bytes ----------------------------------------------------------------------------


def against_bytes(folder: Path, small: bool) -> None:
    """Save and load safetensors in turns with the bare bytes."""
    import keraslite as keras

    keras.use_backend("torch")
    model = make(keras, small)
    arrays = [np.ascontiguousarray(v.numpy()) for v in model.weights]
    count = sum(array.nbytes for array in arrays)
    bare = folder / "bare"

    def write() -> None:
        with open(bare, "wb") as file:
            for array in arrays:
                file.write(memoryview(array).cast("B"))
            file.flush()
            os.fsync(file.fileno())  # as a save does, which must be there after a crash

    cases = {
        "weights.safetensors": (
            lambda path: model.save_weights(path), lambda path: model.load_weights(path) or model,
        ),
        "model.keras": (
            lambda path: model.save(path, weights_format="safetensors"), keras.saving.load_model,
        ),
    }  # fmt: skip
    for name, (save, load) in cases.items():
        path = str(folder / name)
        goal = "<= 1.3" if name.endswith(".safetensors") else ""

        def loaded(path: str = path, load: Any = load) -> None:
            touch(load(path))

        try:
            save(path)
        except (TypeError, ValueError) as error:
            print(json.dumps({"failed": f"save {name}", "error": str(error)[:200]}))
            continue
        write(), bare.read_bytes(), loaded()
        for word, first, second in (
            ("save", write, lambda path=path, save=save: save(path)),
            ("load", bare.read_bytes, loaded),
        ):
            turns = [(seconds(first), seconds(second)) for _ in range(_ROUNDS)]
            plain, ours = (statistics.median(column) for column in zip(*turns, strict=True))
            report(
                f"{word} {name}, {count / 1e6:.0f} MB / the bytes",
                statistics.median(b / a for a, b in turns), "x time", goal,
                seconds=round(ours, 4), bytes_seconds=round(plain, 4),
            )  # fmt: skip


# -- against Keras --------------------------------------------------------------------------------


def only(library: str, word: str, folder: Path, small: bool) -> None:
    """In this process: save or load a `.keras` file with one library, and print what it cost.

    "mapped" is keraslite with weights as safetensors.
    """
    if library == "keras":
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
    else:
        import keraslite as keras

        keras.use_backend("torch")
    options = {"weights_format": "safetensors"} if library == "mapped" else {}
    path, tiny = (str(folder / f"{name}{library}.keras") for name in ("", "tiny-"))
    make(keras, True).save(tiny, **options)
    touch(keras.saving.load_model(tiny))  # imports what a first save and load import
    if word == "save":
        model = make(keras, small)
        touch(model)

    def run() -> None:
        if word == "save":
            model.save(path, **options)
        else:
            touch(keras.saving.load_model(path))

    os.sync()  # what other processes have not written yet
    before = peak_memory()
    first = seconds(run)
    size = Path(path).stat().st_size
    peak = (peak_memory() - before) / size
    spent = []
    for _ in range(6):
        gc.collect()  # models that were loaded before, whose memory is then used again
        spent.append(seconds(run))
    name = f"{word} .keras with {library}"
    report(f"{name}: the first", first, "s", megabytes=round(size / 1e6, 1))
    report(f"{name}: later ones", statistics.median(spent), "s")
    report(f"{name}: peak memory above the model's", peak, "x file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a model of 3 MB")
    parser.add_argument("--bytes", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bytes:
        against_bytes(Path(options.bytes), options.small)
        return
    if options.only:
        library, word, folder = options.only
        only(library, word, Path(folder), options.small)
        return
    more = ["--small"] if options.small else []
    with tempfile.TemporaryDirectory() as folder:
        in_process([sys.argv[0], "--bytes", folder, *more])
    with tempfile.TemporaryDirectory() as folder:
        for word in ("save", "load"):
            lines = {
                library: in_process([sys.argv[0], "--only", library, word, folder, *more])
                for library in ("keras", "keraslite", "mapped")
            }
            if not all(lines.values()):
                continue
            for library, name in (("keraslite", ".keras"), ("mapped", ".keras of safetensors")):
                for theirs, ours in zip(lines["keras"], lines[library], strict=True):
                    unit = "x time" if ours["unit"] == "s" else "x memory"
                    value = ours["value"] / max(theirs["value"], 1e-3)
                    which = ours["figure"].rpartition(": ")[2]
                    report(f"{word} {name}, {which}: ours / Keras's", value, unit, "<= 1")


if __name__ == "__main__":
    main()
