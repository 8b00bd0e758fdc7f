"""Write the training loop by hand, once for all backends.

    python examples/guides/custom_training_loop.py [--backend torch] [--out spirals.png]

The points of three spirals are told apart by a small residual network. Instead of `fit` there is a
loop: for each batch a step takes the loss and its gradients, clips them, lets the optimizer apply
them and updates the metrics; after each epoch unseen points are evaluated, and the best weights are
kept. `keras.value_and_grad` and `keras.jit`, which is told what variables a function works on, run
on jax, torch and tensorflow alike. (Keras has neither: its loops are written in each framework's
own way, which works here too.) `--out` draws what the network says of every point of the plane.
"""

import argparse
from typing import Any

import numpy as np

import keraslite as keras
from keraslite import layers, ops

BATCH = 64


def make_spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (count, 2) of three spirals, and the numbers of their spirals."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count)
    distance = np.sqrt(random.uniform(0.02, 1, count))
    angle = 5 * distance + 2 * np.pi * labels / 3 + random.normal(0, 0.15, count)
    points = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points.astype("float32"), labels


class ResidualBlock(layers.Layer):
    """Two dense layers whose output is added to their input."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.norm = layers.LayerNormalization()
        self.inner = layers.Dense(2 * units, activation="gelu")
        self.outer = layers.Dense(units, kernel_initializer="zeros")

    def call(self, inputs: Any) -> Any:
        return inputs + self.outer(self.inner(self.norm(inputs)))


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", choices=["jax", "torch", "tensorflow"])
    parser.add_argument("--out", help="the file of a picture")
    options = parser.parse_args()
    if options.backend:
        keras.use_backend(options.backend)
    keras.utils.set_random_seed(0)

    x_train, y_train = make_spirals(1600, seed=0)
    x_test, y_test = make_spirals(512, seed=1)
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(32), ResidualBlock(32), ResidualBlock(32), layers.Dense(3)]
    )
    epochs = 16
    steps = epochs * len(x_train) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-3)
    optimizer.build(model.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    loss_metric = keras.metrics.Mean()
    accuracy = keras.metrics.SparseCategoricalAccuracy()

    def train_step(x: Any, y: Any) -> Any:
        def compute_loss() -> tuple[Any, Any]:
            logits = model(x, training=True)
            return loss_fn(y, logits), logits

        variables = model.trainable_variables
        compute = keras.value_and_grad(compute_loss, has_aux=True, variables=variables)
        (loss, logits), gradients = compute()
        norm = ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))
        gradients = [g / ops.maximum(norm, 1.0) for g in gradients]
        optimizer.apply(gradients, variables)
        loss_metric.update_state(loss)
        accuracy.update_state(y, logits)
        return norm

    def test_step(x: Any, y: Any) -> None:
        accuracy.update_state(y, model(x, training=False))

    # What the steps read or assign; JAX would take any other variable for a constant.
    state = [v for part in (model, optimizer, loss_metric, accuracy) for v in part.variables]
    train_step = keras.jit(train_step, variables=state)
    test_step = keras.jit(test_step, variables=state)

    random, norm = np.random.default_rng(0), 0.0
    best, best_weights = 0.0, model.get_weights()
    for epoch in range(epochs):
        loss_metric.reset_state()
        accuracy.reset_state()
        order = random.permutation(len(x_train))
        for batch in order.reshape(-1, BATCH):
            norm = train_step(x_train[batch], y_train[batch])
        trained = float(accuracy.result())
        accuracy.reset_state()
        for start in range(0, len(x_test), BATCH):
            test_step(x_test[start : start + BATCH], y_test[start : start + BATCH])
        tested = float(accuracy.result())
        if tested > best:
            best, best_weights = tested, model.get_weights()
        if epoch % 4 == 3:
            print(
                f"epoch {epoch + 1:2}: loss {float(loss_metric.result()):.3f}, accuracy "
                f"{trained:.1%}, of unseen points {tested:.1%}, gradient {float(norm):.2f}"
            )
    model.set_weights(best_weights)
    x_new, y_new = make_spirals(1000, seed=2)
    right = np.mean(model.predict(x_new, verbose=0).argmax(axis=1) == y_new)
    print(f"{right:.1%} of further points are told rightly.")
    if options.out:
        import matplotlib.pyplot as plt

        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 200)] * 2), axis=-1).astype("float32")
        said = model.predict(grid.reshape(-1, 2), batch_size=4000, verbose=0).argmax(axis=1)
        plt.figure(figsize=(5, 5))
        plt.imshow(said.reshape(200, 200), extent=(-1, 1, -1, 1), origin="lower", alpha=0.4)
        plt.scatter(x_new[:, 0], x_new[:, 1], c=y_new, s=5)
        plt.savefig(options.out)
    assert right > 0.95


if __name__ == "__main__":
    main()
