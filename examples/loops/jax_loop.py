"""Train a keraslite model by a loop of JAX and optax.

    python examples/loops/jax_loop.py

JAX transforms pure functions. `model.stateless_call` makes one of a model: it takes the values of
all variables, and returns the outputs and the new values of those that are not trained (averages of
BatchNormalization, states of random numbers). Metrics have the same in `stateless_update_state` and
`stateless_result`. So a step is one function from a state to the next, and JAX compiles all of it.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from spirals import MOMENTUM, RATE, accuracy_of, batches, make_data, make_loss, make_model

import keraslite as keras


class State(NamedTuple):
    """All that changes in training, as values."""

    trained: list[jax.Array]  # of model.trainable_variables
    others: list[jax.Array]  # of model.non_trainable_variables
    slots: Any  # of the optimizer
    measured: list[jax.Array]  # of the variables of the metric


def train(
    model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int
) -> tuple[list[float], list[float]]:
    """Train a model in place, and return the mean loss and the accuracy of each epoch."""
    optimizer = optax.sgd(RATE, momentum=MOMENTUM)
    loss_of_logits = make_loss()
    metric = keras.metrics.SparseCategoricalAccuracy()

    def compute_loss(trained: list, others: list, x: Any, y: Any) -> tuple[Any, tuple]:
        logits, others = model.stateless_call(trained, others, x, training=True)
        return loss_of_logits(y, logits), (logits, others)

    @jax.jit
    def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
        compute = jax.value_and_grad(compute_loss, has_aux=True)
        (loss, (logits, others)), gradients = compute(state.trained, state.others, x, y)
        updates, slots = optimizer.update(gradients, state.slots, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        measured = metric.stateless_update_state(state.measured, y, logits)
        return State(trained, others, slots, measured), loss

    trained = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    state = State(trained, others, optimizer.init(trained), metric.stateless_reset_state())
    losses, accuracies = [], []
    for _ in range(epochs):
        state = state._replace(measured=metric.stateless_reset_state())
        values = []
        for batch_x, batch_y in batches(x, y):
            state, loss = step(state, batch_x, batch_y)
            values.append(loss)  # reading the number would wait for the device
        losses.append(float(np.mean(values)))
        accuracies.append(float(metric.stateless_result(state.measured)))

    # Back into the model, which can then predict and be saved.
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    for variable, value in zip(variables, [*state.trained, *state.others], strict=True):
        variable.assign(value)
    return losses, accuracies


def main() -> None:
    """Train, and tell how well the model does."""
    keras.use_backend("jax")
    x, y = make_data()
    model = make_model()
    losses, accuracies = train(model, x, y, epochs=60)
    for epoch in range(0, 60, 10):
        print(f"epoch {epoch}: loss {losses[epoch]:.4f}, accuracy {accuracies[epoch]:.3f}")
    print(f"after training: accuracy {accuracy_of(model, x, y):.3f}")


if __name__ == "__main__":
    main()
