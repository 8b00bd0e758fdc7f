"""Train an ensemble of models at once by torch.func: grad and vmap over values.

    python examples/loops/torch_func.py

torch.func transforms functions of tensors. `model.stateless_call` makes one of a model, as
`torch.func.functional_call` does of a module; but it also returns the new values of what is not
trained: averages of BatchNormalization, states of random numbers. One model is the function; the
ensemble is a stack of values for its variables, with a leading axis for the members.
"""

from typing import Any

import numpy as np
import torch
from spirals import MOMENTUM, RATE, batches, make_data, make_loss, make_model

import keraslite as keras


def stacked(values: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    """Return each variable of all members as one tensor (members, ...)."""
    return [torch.stack([x.detach() for x in parts]) for parts in zip(*values, strict=True)]


def train(seeds: list[int], x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    """Train a model for each seed.

    Args:
        seeds: of the members.
        x: points (rows, 2).
        y: labels (rows,).
        epochs: how often all points are gone through.

    Returns:
        The losses (epochs, members), and the logits of all members for all points.
    """
    models = [make_model(seed) for seed in seeds]
    model, loss_of_logits = models[0], make_loss()

    def compute_loss(trained: list, others: list, x: Any, y: Any) -> tuple[Any, list]:
        logits, others = model.stateless_call(trained, others, x, training=True)
        return loss_of_logits(y, logits), others

    def step(trained: list, others: list, speeds: list, x: Any, y: Any) -> tuple:
        compute = torch.func.grad_and_value(compute_loss, has_aux=True)
        gradients, (loss, others) = compute(trained, others, x, y)
        speeds = [MOMENTUM * s - RATE * g for s, g in zip(speeds, gradients, strict=True)]
        return [w + s for w, s in zip(trained, speeds, strict=True)], others, speeds, loss

    def predict(trained: list, others: list, x: Any) -> Any:
        return model.stateless_call(trained, others, x, training=False)[0]

    # Members have weights of their own and see the same batch.
    step_of_all = torch.func.vmap(step, in_dims=(0, 0, 0, None, None))
    trained = stacked([[v.value for v in m.trainable_variables] for m in models])
    others = stacked([[v.value for v in m.non_trainable_variables] for m in models])
    speeds = [torch.zeros_like(w) for w in trained]
    losses = []
    for _ in range(epochs):
        values = []
        for batch in batches(x, y):
            batch_x, batch_y = map(torch.from_numpy, batch)
            trained, others, speeds, loss = step_of_all(trained, others, speeds, batch_x, batch_y)
            values.append(loss)
        losses.append(torch.stack(values).mean(0).numpy())
    with torch.no_grad():
        logits = torch.func.vmap(predict, (0, 0, None))(trained, others, torch.from_numpy(x))
    return np.stack(losses), logits.numpy()


def main() -> None:
    """Train eight members, and compare their accuracy with that of their mean."""
    keras.use_backend("torch")
    x, y = make_data()
    losses, logits = train(list(range(8)), x, y, epochs=40)
    print(f"losses of the members: {losses[-1].round(4).tolist()}")
    print(f"accuracy of the members: {(logits.argmax(-1) == y).mean(1).round(3).tolist()}")
    print(f"accuracy of their mean: {(logits.mean(0).argmax(-1) == y).mean():.3f}")


if __name__ == "__main__":
    main()
