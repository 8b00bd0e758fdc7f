"""Benchmark layers of texts, categories and bins against those of Keras on TensorFlow.

    python scripts/bench/preprocessing.py [--only PART] [--texts 100000] [--rounds 5]

A figure is the time of Keras over ours on the same texts: short ones of 3 to 15 words out of
20,000, drawn by Zipf's law. Ours run on NumPy, to which every backend's layers come. Both are
called on NumPy arrays; what Keras does with ready tensors of TensorFlow is printed beside it.
"""

import argparse
from collections.abc import Callable
from typing import Any

from common import in_process, ratio, report


def make_texts(count: int) -> list[str]:
    """Return texts with capitals and punctuation, some of them beyond ASCII."""
    import numpy as np

    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvkéü"))
    sizes = rng.integers(2, 10, 20_000)
    words = np.array(["".join(rng.choice(letters, size)) for size in sizes], object)
    lengths = rng.integers(3, 16, count)
    chosen = np.minimum(rng.zipf(1.3, int(lengths.sum())) - 1, len(words) - 1)
    rows = np.split(words[chosen], np.cumsum(lengths)[:-1])
    return [" ".join(row).capitalize() + "." for row in rows]


# (layer, its arguments, whether it adapts, what it takes: texts, words, ids or numbers)
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "TextVectorization": ("TextVectorization", {"output_sequence_length": 20}, "texts"),
    "TextVectorization, characters": ("TextVectorization", {"split": "character"}, "texts"),
    "TextVectorization, bigrams": ("TextVectorization", {"ngrams": 2, "max_tokens": 50_000},
                                   "texts"),
    "TextVectorization, tf_idf": ("TextVectorization", {"output_mode": "tf_idf",
                                                        "max_tokens": 500}, "texts"),
    "StringLookup": ("StringLookup", {}, "words"),
    "StringLookup, 8 OOV": ("StringLookup", {"max_tokens": 1000, "num_oov_indices": 8}, "words"),
    "StringLookup, one_hot": ("StringLookup", {"max_tokens": 100, "output_mode": "one_hot"},
                              "words"),
    "IntegerLookup": ("IntegerLookup", {}, "ids"),
    "IntegerLookup, far apart": ("IntegerLookup", {}, "far"),
    "Hashing of words": ("Hashing", {"num_bins": 1000}, "words"),
    "Hashing of words, SipHash": ("Hashing", {"num_bins": 1000, "salt": 7}, "words"),
    "Hashing of all-distinct texts": ("Hashing", {"num_bins": 1000}, "texts"),
    "Hashing of integers": ("Hashing", {"num_bins": 1000}, "ids"),
    "HashedCrossing": ("HashedCrossing", {"num_bins": 1000}, "pairs"),
    "Discretization": ("Discretization", {"num_bins": 20}, "numbers"),
    "CategoryEncoding": ("CategoryEncoding", {"num_tokens": 100}, "sets"),
}  # fmt: skip
ADAPTING = ("TextVectorization", "StringLookup", "IntegerLookup", "Discretization")


def make_data(count: int) -> dict[str, Any]:
    """Return the inputs by their names."""
    import numpy as np

    rng, texts = np.random.default_rng(1), make_texts(count)
    words = np.array([text.split()[0] for text in texts], object)
    ids = rng.zipf(1.3, count).clip(max=50_000).astype("int64")
    return {
        "texts": np.array(texts, object), "words": words, "ids": ids, "far": ids * 2**40,
        "pairs": (words, ids),
        "numbers": rng.normal(size=(count, 1)).astype("float32"),
        "sets": rng.integers(0, 100, (count, 8)),
    }  # fmt: skip


def measure(name: str, count: int, rounds: int) -> None:
    """Print the figures of one kind of layer: to adapt, and to be called."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keraslite

    keraslite.use_backend("numpy")
    layer, arguments, what = CALLS[name]
    data = make_data(count)[what]
    tensors: Any = tuple(map(tf.constant, data)) if what == "pairs" else tf.constant(data)
    ours, theirs = (getattr(k.layers, layer)(**arguments) for k in (keraslite, keras))

    def show(figure: str, runs: dict[str, Callable[[], object]], goal: str = ">= 1") -> None:
        times, seconds = ratio(runs, rounds)
        spent = {library: round(1000 * value, 1) for library, value in seconds.items()}
        report(figure, times, "x Keras's time", goal, milliseconds=spent)

    def calls(inputs: Any) -> dict[str, Callable[[], object]]:
        return {
            "ours": lambda: np.asarray(ours(data)), "keras": lambda: np.asarray(theirs(inputs)),
        }  # fmt: skip

    if layer in ADAPTING:
        adapting = {"ours": lambda: ours.adapt(data), "keras": lambda: theirs.adapt(data)}
        if arguments.get("output_mode", "int") == "int" and layer != "Discretization":
            show(f"{name}: adapt", adapting)
        else:  # once: the size of what they give may not change
            for adapt in adapting.values():
                adapt()
    if not np.allclose(np.asarray(ours(data)), np.asarray(theirs(tensors)), 1e-5):
        raise SystemExit(f"{name}: the outputs differ.")
    show(f"{name}: call", calls(data))
    show(f"{name}: call, Keras on ready tensors", calls(tensors), "")


def main() -> None:
    """Measure each part in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(CALLS), help="one part")
    parser.add_argument("--texts", type=int, default=100_000, help="the number of texts")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        measure(asked.only, asked.texts, asked.rounds)
        return
    for part in (asked.only,) if asked.only else tuple(CALLS):
        options = ["--texts", str(asked.texts), "--rounds", str(asked.rounds)]
        in_process(
            [__file__, "--here", "--only", part, *options], KERAS_BACKEND="tensorflow",
            CUDA_VISIBLE_DEVICES="",
        )  # fmt: skip


if __name__ == "__main__":
    main()
