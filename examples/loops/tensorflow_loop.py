"""Train a keraslite model by a loop of TensorFlow: GradientTape inside tf.function.

    python examples/loops/tensorflow_loop.py

On TensorFlow the variables of a model are tf.Variables inside. A tape watches them as it watches
any, and what a step assigns (weights, averages of BatchNormalization, states of random numbers,
metrics) is assigned in the graph. So the loop is the one that a tf.Module would have.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from spirals import MOMENTUM, RATE, accuracy_of, batches, make_data, make_loss, make_model

import keraslite as keras


def train(
    model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int
) -> tuple[list[float], list[float]]:
    """Train a model in place, and return the mean loss and the accuracy of each epoch."""
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    trained: Any = model.trainable_variables
    optimizer.build(trained)  # variables are not made inside a tf.function
    loss_of_logits = make_loss()
    metric = keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = loss_of_logits(y, logits)
        gradients = tape.gradient(loss, trained)
        optimizer.apply_gradients(zip(gradients, trained, strict=True))
        metric.update_state(y, logits)
        return loss

    losses, accuracies = [], []
    for _ in range(epochs):
        metric.reset_state()
        values = []
        for batch_x, batch_y in batches(x, y):
            # Tensors: tf.function compiles anew for each numpy array.
            values.append(step(tf.constant(batch_x), tf.constant(batch_y)))
        losses.append(float(np.mean(values)))
        accuracies.append(float(metric.result()))
    return losses, accuracies


def main() -> None:
    """Train, and tell how well the model does."""
    keras.use_backend("tensorflow")
    x, y = make_data()
    model = make_model()
    losses, accuracies = train(model, x, y, epochs=60)
    for epoch in range(0, 60, 10):
        print(f"epoch {epoch}: loss {losses[epoch]:.4f}, accuracy {accuracies[epoch]:.3f}")
    print(f"after training: accuracy {accuracy_of(model, x, y):.3f}")


if __name__ == "__main__":
    main()
