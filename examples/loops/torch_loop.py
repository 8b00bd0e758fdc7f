"""Train a keraslite model by a loop of PyTorch: loss.backward() and torch.optim.

    python examples/loops/torch_loop.py [--compile]

On torch a model is a torch.nn.Module, whose parameters `torch.optim` takes. `train()` and `eval()`
say how calls run that do not say `training=` themselves. With `--compile` the model goes through
torch.compile, where there is a C++ compiler; the first step then takes some time.
"""

import argparse
import shutil
from typing import Any

import numpy as np
import torch
from spirals import MOMENTUM, RATE, accuracy_of, batches, make_data, make_model

import keraslite as keras


def compiled(model: torch.nn.Module) -> Any:
    """Return a model compiled by torch.compile, or as it is where that has no C++ compiler."""
    if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        print("torch.compile needs a C++ compiler, such as g++: the loop runs without it.")
        return model
    return torch.compile(model)


def train(
    model: Any, x: np.ndarray, y: np.ndarray, epochs: int, run: Any = None
) -> tuple[list[float], list[float]]:
    """Train a model in place, and return the mean loss and the accuracy of each epoch.

    Args:
        model: the model.
        x: points (rows, 2).
        y: labels (rows,).
        epochs: how often all points are gone through.
        run: what is called for the logits; the model by default, or a compiled form of it.
    """
    run = model if run is None else run
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    metric = keras.metrics.SparseCategoricalAccuracy()
    model.train()
    losses, accuracies = [], []
    for _ in range(epochs):
        metric.reset_state()
        values = []
        for batch in batches(x, y):
            batch_x, batch_y = map(torch.from_numpy, batch)
            optimizer.zero_grad()
            logits = run(batch_x)
            loss = torch.nn.functional.cross_entropy(logits, batch_y.long())
            loss.backward()
            optimizer.step()
            metric.update_state(batch_y, logits.detach())
            values.append(loss.detach())
        losses.append(float(torch.stack(values).mean()))
        accuracies.append(float(metric.result()))
    model.eval()
    return losses, accuracies


def main() -> None:
    """Train, and tell how well the model does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--compile", action="store_true", help="go through torch.compile")
    keras.use_backend("torch")
    x, y = make_data()
    model: Any = make_model()
    run = compiled(model) if parser.parse_args().compile else model
    losses, accuracies = train(model, x, y, epochs=60, run=run)
    for epoch in range(0, 60, 10):
        print(f"epoch {epoch}: loss {losses[epoch]:.4f}, accuracy {accuracies[epoch]:.3f}")
    print(f"after training: accuracy {accuracy_of(model, x, y):.3f}")


if __name__ == "__main__":
    main()
