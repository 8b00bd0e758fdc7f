"""The data and the model of the training loops in this folder: points on two spirals.

The model has what makes loops of one's own hard: Dropout, which draws random numbers, and
BatchNormalization, whose averages change at each step.
"""

from collections.abc import Iterator

import numpy as np

import keraslite as keras

BATCH = 32
RATE, MOMENTUM = 0.1, 0.9


def make_data(rows: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return points (rows, 2) of two spirals, and which of the two each is on (rows,)."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, rows)
    radius = random.uniform(0.1, 1.0, rows)
    angle = 5.0 * radius + np.pi * labels
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return points.astype("float32"), labels.astype("int32")


def batches(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of an epoch, whole ones alone: each shape is compiled once."""
    for start in range(0, len(x) - BATCH + 1, BATCH):
        yield x[start : start + BATCH], y[start : start + BATCH]


def make_model(seed: int = 0) -> keras.Sequential:
    """Return a classifier of points (batch, 2) with logits (batch, 2), on the current backend."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(2),
        ]
    )


def make_loss() -> keras.losses.Loss:
    """Return the loss of the logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy_of(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of the points that a model puts on the right spiral."""
    return float(np.mean(model.predict(x, verbose=0).argmax(-1) == y))
