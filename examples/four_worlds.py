"""Train one model of four layers from four worlds, on each backend, with the same losses.

    python examples/four_worlds.py [--epochs 5]

A layer of Keras, a `torch.nn.Module`, a module of Flax and a `tf.Module` make up a classifier of
points in two spirals. Each layer's own framework computes its outputs and gradients; the model
around it lives on JAX, on PyTorch and then on TensorFlow, where `fit` trains all four together.
Batch normalization (of torch) keeps its statistics, dropout (of Flax) its random numbers. The
losses are printed side by side. At last the model trained on JAX is moved to the others.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import flax.linen
import numpy as np
import tensorflow as tf
import torch

import keraslite as keras
from keraslite import layers

BACKENDS = ("jax", "torch", "tensorflow")


def make_torch_module() -> torch.nn.Module:
    """Return a layer of torch with running statistics."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.BatchNorm1d(16), torch.nn.GELU())


class FlaxBlock(flax.linen.Module):
    """A layer of Flax with dropout."""

    @flax.linen.compact
    def __call__(self, inputs: Any, training: bool) -> Any:
        x = flax.linen.gelu(flax.linen.Dense(16)(inputs))
        return flax.linen.Dropout(0.1, deterministic=not training)(x)


class TensorFlowHead(tf.Module):
    """A layer of TensorFlow: a kernel and a bias."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        kernel = np.random.default_rng(0).normal(0, inputs**-0.5, (inputs, outputs))
        self.kernel = tf.Variable(tf.constant(kernel, tf.float32), name="kernel")
        self.bias = tf.Variable(tf.zeros(outputs), name="bias")

    def __call__(self, inputs: Any) -> Any:
        return inputs @ self.kernel + self.bias


def make_model() -> keras.Model:
    """Return a compiled model of the four layers, on the current backend."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(16, activation="tanh"),
            layers.TorchModuleWrapper(make_torch_module()),
            layers.FlaxLayer(FlaxBlock()),
            layers.TFModuleLayer(TensorFlowHead(16, 2)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def spirals(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return points (count, 2) on two spirals, and on which each is."""
    random = np.random.default_rng(seed)
    turn, arm = random.uniform(0.5, 2.5, count), random.integers(0, 2, count)
    angle = np.pi * (turn + arm)
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    points += random.normal(0, 0.05, points.shape)
    return points.astype("float32"), arm.astype("int32")


def main(epochs: int = 5, count: int = 512, say: Callable[[str], None] = print) -> dict[str, list]:
    """Train on each backend, and print the losses side by side.

    Args:
        epochs: how often each goes through the points.
        count: the number of points.
        say: prints a line.

    Returns:
        The losses of the epochs by the backend.

    Raises:
        ValueError: the losses differ, or the moved model predicts something else.
    """
    x, y = spirals(count)
    losses, models = {}, {}
    for name in BACKENDS:
        begin = time.perf_counter()
        with keras.use_backend(name):
            models[name] = model = make_model()
            history = model.fit(x, y, epochs=epochs, batch_size=64, verbose=0).history
        losses[name] = history["loss"]
        seconds = time.perf_counter() - begin
        say(f"{name:>10}: accuracy {history['accuracy'][-1]:.3f}, {seconds:.1f} s")
    say("\nlosses      " + "  ".join(f"{name:>10}" for name in BACKENDS))
    for epoch, row in enumerate(zip(*losses.values(), strict=True), 1):
        say(f"epoch {epoch:<6}" + "  ".join(f"{loss:10.6f}" for loss in row))
    difference = np.ptp(list(losses.values()), axis=0).max()
    say(f"largest difference {difference:.1e}\n")
    if difference > 1e-4:
        raise ValueError(f"The losses must be equal to 1e-4, got a difference of {difference:.1e}.")

    model = models["jax"]
    before = model.predict(x, verbose=0)
    for name in ("torch", "tensorflow", "numpy"):
        moved = np.asarray(model.to_backend(name).predict(x, verbose=0))
        difference = np.abs(moved - before).max()
        say(f"moved from jax to {name:10} outputs differ by {difference:.1e}")
        if difference > 1e-4:
            raise ValueError(f"The model moved to {name} must predict the same.")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5, help="epochs on each backend")
    main(parser.parse_args().epochs)
