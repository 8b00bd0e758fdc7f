"""Train one model on several devices, each of which takes a part of every batch.

    python examples/loops/jax_data_parallel.py [--devices 4]

The step is that of one device. Where the batch is laid over the devices and the weights are on
all of them, `jax.jit` splits the program by itself: sums over the batch (of gradients, of the
statistics of BatchNormalization) become sums over the devices. The numbers are those of one device,
with the same masks of Dropout. On a machine with one CPU, `--devices` asks for virtual devices.
"""

import argparse
import os
from typing import Any

import numpy as np


def train(model: Any, x: np.ndarray, y: np.ndarray, epochs: int) -> list[float]:
    """Train a model in place on all devices, and return the mean loss of each epoch."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from spirals import MOMENTUM, RATE, batches, make_loss

    import keraslite as keras

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    on_all = NamedSharding(mesh, PartitionSpec())
    in_parts = NamedSharding(mesh, PartitionSpec("batch"))

    loss_of_logits = make_loss()
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)

    def compute_loss(trained: list, others: list, x: Any, y: Any) -> tuple[Any, list]:
        logits, others = model.stateless_call(trained, others, x, training=True)
        return loss_of_logits(y, logits), others

    @jax.jit
    def step(trained: list, others: list, slots: list, x: Any, y: Any) -> tuple:
        compute = jax.value_and_grad(compute_loss, has_aux=True)
        (loss, others), gradients = compute(trained, others, x, y)
        # keraslite's optimizers are functions of values too.
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return trained, others, slots, loss

    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state = jax.device_put([[v.value for v in group] for group in variables], on_all)
    losses = []
    for _ in range(epochs):
        values = []
        for batch in batches(x, y):
            batch_x, batch_y = jax.device_put(batch, in_parts)
            *state, loss = step(*state, batch_x, batch_y)
            values.append(loss)
        losses.append(float(np.mean(jax.device_get(values))))

    for group, new in zip(variables, jax.device_get(state), strict=True):
        for variable, value in zip(group, new, strict=True):
            variable.assign(value)
    return losses


def main() -> None:
    """Train, and tell how well the model does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=4, help="the number of virtual devices")
    # Before JAX looks for devices; a machine that has several needs no flag.
    flag = f" --xla_force_host_platform_device_count={parser.parse_args().devices}"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag

    import jax
    from spirals import accuracy_of, make_data, make_model

    import keraslite as keras

    keras.use_backend("jax")
    x, y = make_data()
    model = make_model()
    losses = train(model, x, y, epochs=60)
    print(f"{jax.device_count()} devices: loss {losses[0]:.4f} to {losses[-1]:.4f}")
    print(f"accuracy {accuracy_of(model, x, y):.3f}")


if __name__ == "__main__":
    main()
