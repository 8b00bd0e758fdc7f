"""Train a keraslite model by one loop for all backends.

    python examples/loops/any_backend.py [--backend jax]

`keras.value_and_grad` differentiates a function by variables, `keras.jit` compiles a function that
reads and assigns variables. On JAX both thread the values of the variables through a pure function;
on torch and TensorFlow they work on them as they are. The loop is the same.
"""

import argparse
from typing import Any

import numpy as np
from spirals import MOMENTUM, RATE, accuracy_of, batches, make_data, make_loss, make_model

import keraslite as keras


def train(
    model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int
) -> tuple[list[float], list[float]]:
    """Train a model in place, and return the mean loss and the accuracy of each epoch."""
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    loss_of_logits = make_loss()
    metric = keras.metrics.SparseCategoricalAccuracy()

    def step(x: Any, y: Any) -> Any:
        def compute_loss() -> tuple[Any, Any]:
            logits = model(x, training=True)
            return loss_of_logits(y, logits), logits

        trained = model.trainable_variables
        compute = keras.value_and_grad(compute_loss, has_aux=True, variables=trained)
        (loss, logits), gradients = compute()
        optimizer.apply(gradients, trained)
        metric.update_state(y, logits)
        return loss

    # All that the step assigns; torch runs it as it is, `compile=True` compiles there too.
    step = keras.jit(step, [*model.variables, *optimizer.variables, *metric.variables])
    losses, accuracies = [], []
    for _ in range(epochs):
        metric.reset_state()
        values = [
            step(keras.ops.convert_to_tensor(batch_x), keras.ops.convert_to_tensor(batch_y))
            for batch_x, batch_y in batches(x, y)
        ]
        losses.append(float(np.mean([keras.ops.convert_to_numpy(v) for v in values])))
        accuracies.append(float(metric.result()))
    return losses, accuracies


def main() -> None:
    """Train, and tell how well the model does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", default=keras.backend.backend(), help="jax, torch ...")
    keras.use_backend(parser.parse_args().backend)
    x, y = make_data()
    model = make_model()
    losses, accuracies = train(model, x, y, epochs=60)
    for epoch in range(0, 60, 10):
        print(f"epoch {epoch}: loss {losses[epoch]:.4f}, accuracy {accuracies[epoch]:.3f}")
    print(f"after training: accuracy {accuracy_of(model, x, y):.3f}")


if __name__ == "__main__":
    main()
