"""Benchmark `fit` and `predict` of small networks against hand-written loops and Keras.

An MLP 784-512-512-10, a CNN of six layers, an LSTM over 100 steps and an MLP of 50 layers: epochs
of `fit`, and `predict` of 10,000 rows, in turns with a loop in the framework itself.

    python scripts/bench/fit.py [--backends torch jax tensorflow] [--networks mlp cnn lstm deep]
"""

import argparse
import os
import sys

import numpy as np
from common import in_process, interleaved, ratio, report
from fit_loops import PREDICTION, TRAINING

BACKENDS = ("torch", "jax", "tensorflow")
CLASSES = 10
# name -> (shape of a row, layers as in fit_loops, steps of an epoch, batch)
NETWORKS = {
    "mlp": ((784,), [("dense", 512, True)] * 2, 150, 64),
    "cnn": ((32, 32, 3), [("conv", 16, 1), ("conv", 16, 2), ("conv", 32, 1), ("conv", 32, 2),
                          ("conv", 64, 1), ("conv", 64, 2), ("mean",)], 20, 32),
    "lstm": ((100, 16), [("lstm", 64)], 20, 32),
    "deep": ((64,), [("dense", 64, True)] * 49, 100, 32),
}  # fmt: skip
ROWS = 10_000  # of predict, an eighth for the networks that take longer
generator = np.random.default_rng(0)


def network(name: str):
    """(shape, layers, steps, batch), with the layer of classes."""
    shape, layers, steps, batch = NETWORKS[name]
    return shape, [*layers, ("dense", CLASSES, False)], steps, batch


def rows(name: str, count: int) -> np.ndarray:
    """Random inputs."""
    return generator.normal(size=(count, *network(name)[0])).astype("float32")


def model_of(keras, name: str):
    """The network in Keras's layers."""
    shape, description, *_ = network(name)
    layers = [keras.Input(shape)]
    for what, *sizes in description:
        if what == "dense":
            layers.append(keras.layers.Dense(sizes[0], "relu" if sizes[1] else None))
        elif what == "conv":
            layers.append(keras.layers.Conv2D(sizes[0], 3, sizes[1], "same", activation="relu"))
        elif what == "mean":
            layers.append(keras.layers.GlobalAveragePooling2D())
        else:
            layers.append(keras.layers.LSTM(sizes[0]))
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    return model


def work(keras, name: str, what: str):
    """(a function that runs `fit` or `predict`, the number of its batches, its data)."""
    model, (_, _, steps, batch) = model_of(keras, name), network(name)
    if what == "fit":
        x = rows(name, steps * batch)
        y = generator.integers(0, CLASSES, len(x)).astype("int32")
        return lambda: model.fit(x, y, batch_size=batch, shuffle=False, verbose=0), steps, (x, y)
    x = rows(name, ROWS if name in ("mlp", "deep") else ROWS // 8)
    batches = -(-len(x) // batch)
    return lambda: model.predict(x, batch_size=batch, verbose=0), batches, (x,)


# -- figures --------------------------------------------------------------------------------------


def loop(what: str, name: str, backend: str) -> None:
    """Ours in turns with the hand-written loop."""
    import keraslite as keras

    keras.use_backend(backend)
    run, batches, data = work(keras, name, what)
    _, layers, _, batch = network(name)
    rival = (TRAINING if what == "fit" else PREDICTION)[backend](layers, *data, batch)
    found, medians = ratio({"loop": rival, "ours": run})
    goal = "<= 1.2" if (name, backend, what) == ("lstm", "torch", "fit") else "<= 1.15"
    report(f"{what} {name} on {backend} / hand-written loop", found, "x time", goal,
           batches_per_s=round(batches / medians["ours"], 1))  # fmt: skip


def rate(which: str, what: str, name: str, backend: str) -> None:
    """Batches per second of Keras or of ours, in a process of its own."""
    if which == "keras":
        os.environ["KERAS_BACKEND"] = backend
        import keras
    else:
        import keraslite as keras

        keras.use_backend(backend)
    run, batches, _ = work(keras, name, what)
    seconds = interleaved({"run": run}, 5)["run"]
    report(f"{what} {name} with {which} on {backend}", batches / seconds, "batches/s")


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--only", nargs="+", metavar="WHAT", help="a figure and its arguments")
    options = parser.parse_args()
    if options.only:
        first, *rest = options.only
        loop(*rest) if first == "loop" else rate(first, *rest)
        return
    for name in options.networks:
        for backend in options.backends:
            for what in ("fit", "predict"):
                arguments = [what, name, backend]
                in_process([sys.argv[0], "--only", "loop", *arguments])
                rates = [in_process([sys.argv[0], "--only", which, *arguments])
                         for which in ("keraslite", "keras")]  # fmt: skip
                if all(rates):
                    found = rates[0][-1]["value"] / rates[1][-1]["value"]
                    report(f"{what} {name} on {backend}: keraslite / Keras", found, "x speed",
                           "> 1")  # fmt: skip


if __name__ == "__main__":
    main()
