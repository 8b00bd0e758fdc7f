"""Benchmark building models, against Keras, and that memory does not grow.

Seconds to build a functional model of 240 layers and the Applications, each in a process of its
own, and the memory that 2,000 steps, 50 fits and 200 models that are dropped leave behind.

    python scripts/bench/build.py [--backends torch jax tensorflow] [--only layers torch]
"""

import argparse
import gc
import os
import sys
import time

import numpy as np
from common import in_process, report

BACKENDS = ("torch", "jax", "tensorflow")
LAYERS = 240
generator = np.random.default_rng(0)


def functional(keras):
    """A model of 240 layers: 79 blocks of three, an input and two to end with."""
    layers = keras.layers
    inputs = x = keras.Input((32, 32, 8))
    for _ in range((LAYERS - 3) // 3):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        y = layers.BatchNormalization()(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10)(x))
    assert len(model.layers) == LAYERS
    return model


def small(keras):
    """A compiled model of three layers."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((16,)), layers.Dense(32, "relu"), layers.Dropout(0.1),
                              layers.Dense(4)])  # fmt: skip
    model.compile("adam", "mse")
    return model


def library(which: str, backend: str):
    """Keras or keraslite, on a backend."""
    if which == "keras":
        os.environ["KERAS_BACKEND"] = backend
        import keras
    else:
        import keraslite as keras

        keras.use_backend(backend)
    return keras


def resident() -> int:
    """The memory of the process now, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- figures --------------------------------------------------------------------------------------


def build_layers(which: str, backend: str) -> None:
    """The second model of a process: the first one imports what it needs."""
    keras, spent = library(which, backend), []
    for _ in range(4):
        gc.collect()
        start = time.perf_counter()
        functional(keras)
        spent.append(time.perf_counter() - start)
    report(f"{LAYERS} layers with {which} on {backend}", sorted(spent[1:])[1], "s",
           "<= 2" if which == "keraslite" else "", first=round(spent[0], 2))  # fmt: skip


def build_applications(backend: str) -> None:
    """All networks of `keras.applications` with their classifiers."""
    keras = library("keraslite", backend)
    keras.applications.VGG16(weights=None)
    names = sorted(n for n in dir(keras.applications) if n[0].isupper())
    seconds = {}
    for name in names:
        gc.collect()
        start = time.perf_counter()
        getattr(keras.applications, name)(weights=None)
        seconds[name] = time.perf_counter() - start
    slowest = max(seconds, key=seconds.__getitem__)
    report(f"the slowest of {len(names)} Applications on {backend}", seconds[slowest], "s", "<= 2",
           slowest=slowest, all_of_them=round(sum(seconds.values()), 1))  # fmt: skip


def growth(backend: str) -> None:
    """The growth of memory over repeated work, after a warm-up."""
    keras = library("keraslite", backend)
    x = generator.normal(size=(64, 16)).astype("float32")
    y = generator.normal(size=(64, 4)).astype("float32")
    model = small(keras)

    def fit() -> None:
        model.fit(x, y, batch_size=32, epochs=2, verbose=0)

    def dropped() -> None:
        small(keras)(x[:2])

    work = {
        "2,000 steps": (lambda: model.train_on_batch(x, y), 200, 2000),
        "50 fits": (fit, 10, 50),
        "200 models made and dropped": (dropped, 40, 200),
    }
    for name, (run, before, count) in work.items():
        for _ in range(before):
            run()
        gc.collect()
        start = resident()
        for _ in range(count):
            run()
        gc.collect()
        report(f"memory after {name} on {backend}", (resident() - start) / 2**20, "MB", "<= 2")


FIGURES = {"layers": build_layers, "applications": build_applications, "growth": growth}


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--only", nargs="+", metavar="WHAT", help="a figure and its arguments")
    options = parser.parse_args()
    if options.only:
        figure, *arguments = options.only
        FIGURES[figure](*arguments)
        return
    for backend in options.backends:
        runs = [in_process([sys.argv[0], "--only", "layers", which, backend])
                for which in ("keraslite", "keras")]  # fmt: skip
        if all(runs):
            found = runs[1][-1]["value"] / runs[0][-1]["value"]
            report(f"{LAYERS} layers on {backend}: Keras / keraslite", found, "x time", "> 1")
        in_process([sys.argv[0], "--only", "applications", backend])
        in_process([sys.argv[0], "--only", "growth", backend])


if __name__ == "__main__":
    main()
