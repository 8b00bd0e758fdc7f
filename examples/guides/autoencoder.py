"""Find irregular heartbeats with an autoencoder.

    python examples/guides/autoencoder.py [--backend torch] [--out autoencoder.png]

The network squeezes a recording of a heartbeat into six numbers and makes the recording out of them
again. It is trained on regular beats alone, without labels. So it gets irregular ones wrong,
and the error tells them: a beat is called irregular where its error is larger than that of 98 of
100 regular ones. `--out` draws a beat of each sort with what came back of it.
"""

import argparse

import numpy as np

import keraslite as keras
from keraslite import layers

LENGTH = 96
SORTS = ("regular", "no first wave", "last wave upside down", "broad", "extra beat")


def beat(sort: str, random: np.random.Generator) -> np.ndarray:
    """Return a recording (LENGTH, 1) of one heartbeat: a small wave, a spike, a broad wave."""
    time, shift = np.linspace(0, 1, LENGTH), random.normal(0, 0.02)

    def wave(height: float, place: float, width: float) -> np.ndarray:
        height, width = height * random.normal(1, 0.1), width * random.normal(1, 0.08)
        return height * np.exp(-(((time - place - shift) / width) ** 2))

    spike = 0.07 if sort == "broad" else 0.025
    signal = wave(1.0, 0.4, spike) - wave(0.25, 0.4 + 2 * spike, spike)
    signal += wave(0.0 if sort == "no first wave" else 0.25, 0.22, 0.045)
    signal += wave(-0.35 if sort == "last wave upside down" else 0.35, 0.68, 0.08)
    if sort == "extra beat":
        signal += wave(0.8, random.uniform(0.8, 0.95), 0.03)
    return (signal + random.normal(0, 0.03, LENGTH))[:, None].astype("float32")


def make_beats(sort: str, count: int, seed: int) -> np.ndarray:
    """Return recordings (count, LENGTH, 1)."""
    random = np.random.default_rng(seed)
    return np.stack([beat(sort, random) for _ in range(count)])


def build_model() -> keras.Model:
    """Return the autoencoder."""
    inputs = keras.Input((LENGTH, 1))
    x = layers.Conv1D(16, 7, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv1D(16, 7, strides=2, padding="same", activation="relu")(x)
    code = layers.Dense(6, name="code")(layers.Flatten()(x))
    x = layers.Dense(LENGTH // 4 * 16, activation="relu")(code)
    x = layers.Reshape((LENGTH // 4, 16))(x)
    x = layers.UpSampling1D(2)(x)
    x = layers.Conv1D(16, 7, padding="same", activation="relu")(x)
    x = layers.UpSampling1D(2)(x)
    outputs = layers.Conv1D(1, 7, padding="same")(x)
    return keras.Model(inputs, outputs, name="autoencoder")


def main() -> None:
    """Train on regular beats, and tell irregular ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    beats = make_beats("regular", 1500, seed=0)
    model = build_model()
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, decay_steps=15 * len(beats) // 50)
    model.compile(keras.optimizers.Adam(schedule), loss="mse")
    model.fit(beats, beats, batch_size=50, epochs=15, verbose=2)

    def errors(recordings: np.ndarray) -> np.ndarray:
        return np.mean((model.predict(recordings, verbose=0) - recordings) ** 2, axis=(1, 2))

    unseen = {sort: make_beats(sort, 200, seed=i + 1) for i, sort in enumerate(SORTS)}
    limit = np.quantile(errors(make_beats("regular", 500, seed=10)), 0.98)
    called = {sort: np.mean(errors(x) > limit) for sort, x in unseen.items()}
    for sort, rate in called.items():
        print(f"  {sort:22} {rate:6.1%} called irregular")
    if options.out:
        import matplotlib.pyplot as plt

        _, plots = plt.subplots(1, len(SORTS), figsize=(14, 3), sharey=True)
        for plot, (sort, recordings) in zip(plots, unseen.items()):
            plot.plot(recordings[0, :, 0])
            plot.plot(model.predict(recordings[:1], verbose=0)[0, :, 0])
            plot.set_title(sort)
        plt.savefig(options.out)
    assert called["regular"] < 0.08
    assert min(called[sort] for sort in SORTS[1:]) > 0.85


if __name__ == "__main__":
    main()
