"""Benchmark how time and memory grow: with tokens, the batch, the size of a file, and layers.

Each point is a process of its own. The exponent is that of the last doubling: 1 where twice as much
costs twice as much. `--picture` draws the curves (extra `[plot]`).

    python scripts/bench/growth.py [--only tokens torch] [--picture growth.png]
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import in_process, machine, peak_memory, report

BACKENDS = ("torch", "jax", "tensorflow")
VOCABULARY, WIDTH = 8192, 256
MEGABYTE = 2**20


def backbone(layers: int = 4, width: int = WIDTH, length: int = 1024):
    """A small GPT-2 with random weights."""
    import hub

    return hub.GPT2Backbone(VOCABULARY, layers, 4, width, 4 * width, max_sequence_length=length)


def ids(rows: int, tokens: int) -> dict:
    """Inputs of GPT-2."""
    drawn = np.random.default_rng(0).integers(3, VOCABULARY, (rows, tokens)).astype("int32")
    return {"token_ids": drawn, "padding_mask": np.ones_like(drawn)}


def tokens(n: int) -> Callable[[], object]:
    """Generate n tokens after a prompt of 16."""
    import hub

    model = hub.GPT2CausalLM(backbone(), preprocessor=None)
    prompt = ids(1, 16)
    return lambda: model.generate(prompt, max_new_tokens=n, stop_token_ids=None)


def batch(n: int) -> Callable[[], object]:
    """Predict n sequences of 64 tokens in one batch."""
    model, inputs = backbone(), ids(n, 64)
    return lambda: model.predict(inputs, batch_size=n, verbose=0)


def megabytes(n: int) -> Callable[[], object]:
    """Load a checkpoint of n megabytes from the system's cache."""
    import hub

    folder = tempfile.mkdtemp()
    width = 8 * round(math.sqrt(n * MEGABYTE / 4 / 12 / 16) / 8)  # 12 width^2 weights a layer
    backbone(layers=16, width=width, length=16).save_to_preset(folder)
    return lambda: [v.value for v in hub.GPT2Backbone.from_preset(folder).weights]


def layers(n: int) -> Callable[[], object]:
    """Build a model of n layers and predict."""
    inputs = ids(1, 32)
    return lambda: backbone(layers=n).predict(inputs, verbose=0)


# What grows, over which sizes, and the largest exponent of its time.
CURVES: dict[str, tuple[Callable, tuple[int, ...], float]] = {
    "tokens": (tokens, (64, 128, 256, 512), 1.2),
    "batch": (batch, (4, 8, 16, 32), 1.1),
    "megabytes": (megabytes, (32, 64, 128, 256), 1.1),
    "layers": (layers, (4, 8, 16, 32), 1.1),
}


def measure(what: str, backend: str, n: int) -> None:
    """Time and peak memory of one point."""
    import keraslite as keras

    keras.use_backend(backend)
    run = CURVES[what][0](n)
    for _ in range(4):  # compiled, recorded, and in the caches
        run()
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    report(f"{what} {n} on {backend}", sorted(spent)[2], "s",
           peak_megabytes=round(peak_memory() / MEGABYTE))  # fmt: skip


def curve(what: str, backend: str) -> list[tuple[int, float, int]]:
    """All points of a curve: (size, seconds, megabytes); its exponent is reported."""
    points = []
    for n in CURVES[what][1]:
        lines = in_process([sys.argv[0], "--point", what, backend, str(n)])
        if lines:
            points.append((n, lines[-1]["value"], lines[-1]["peak_megabytes"]))
    if len(points) > 1:
        (n, seconds, memory), (more, longer, larger) = points[-2:]
        goal = f"<= {CURVES[what][2]}"
        exponent = math.log(longer / seconds) / math.log(more / n)
        report(f"{what} on {backend}: exponent of the time", exponent, "", goal)
        report(f"{what} on {backend}: memory of twice as much", larger / memory, "x", "<= 2.1")
    return points


def draw(curves: dict[tuple[str, str], list], picture: Path) -> None:
    """Draw seconds above and memory below, a column for each thing that grows."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(what for what, _ in curves))
    figure, axes = plt.subplots(2, len(names), figsize=(4 * len(names), 6), squeeze=False)
    for (what, backend), points in curves.items():
        column = axes[:, names.index(what)]
        sizes, *values = zip(*points, strict=True)
        for axis, value, unit in zip(column, values, ("seconds", "megabytes"), strict=True):
            axis.plot(sizes, value, marker="o", label=backend)
            axis.set(xscale="log", yscale="log", xlabel=what, ylabel=unit)
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    print(f"Drawn into {picture}.")


def main() -> None:
    """Measure all curves, or one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="WHAT", help="tokens, batch ...; a backend")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        what, backend, n = options.point
        measure(what, backend, int(n))
        return
    print(machine())
    what, *backends = options.only or ("",)
    wanted = [
        (name, backend) for name in CURVES if not what or name == what
        for backend in backends or BACKENDS
    ]  # fmt: skip
    curves = {key: curve(*key) for key in wanted}
    if options.picture:
        draw({key: points for key, points in curves.items() if points}, options.picture)


if __name__ == "__main__":
    main()
