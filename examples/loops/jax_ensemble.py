"""Train an ensemble of models at once, by jax.vmap on a device and jax.pmap over several.

    python examples/loops/jax_ensemble.py [--devices 4]

One model is the function; the ensemble is a stack of values for its variables, with a leading axis
for the members. `jax.vmap` makes the step of one member that of all of them: one program with
larger products, in the place of many small ones. `jax.pmap` gives each device some of the members.
On a machine with one CPU, `--devices` asks for virtual devices.
"""

import argparse
import os
from functools import partial
from typing import Any

import numpy as np


def train(seeds: list[int], x: np.ndarray, y: np.ndarray, epochs: int, devices: int = 1) -> Any:
    """Train a model for each seed.

    Args:
        seeds: of the members, as many for each device.
        x: points (rows, 2).
        y: labels (rows,).
        epochs: how often all points are gone through.
        devices: the number of devices.

    Returns:
        The losses (epochs, members), and the logits of all members for all points.
    """
    import jax
    import jax.numpy as jnp
    from spirals import MOMENTUM, RATE, batches, make_loss, make_model

    models = [make_model(seed) for seed in seeds]
    model, loss_of_logits = models[0], make_loss()

    def stacked(values: list[list[jax.Array]]) -> list[jax.Array]:
        """Each variable of all members as one array (devices, members of a device, ...)."""
        arrays = [jnp.stack(parts) for parts in zip(*values, strict=True)]
        return [a.reshape(devices, -1, *a.shape[1:]) for a in arrays]

    def compute_loss(trained: list, others: list, x: Any, y: Any) -> tuple[Any, list]:
        logits, others = model.stateless_call(trained, others, x, training=True)
        return loss_of_logits(y, logits), others

    def step(trained: list, others: list, speeds: list, x: Any, y: Any) -> tuple:
        compute = jax.value_and_grad(compute_loss, has_aux=True)
        (loss, others), gradients = compute(trained, others, x, y)
        speeds = [MOMENTUM * s - RATE * g for s, g in zip(speeds, gradients, strict=True)]
        return [w + s for w, s in zip(trained, speeds, strict=True)], others, speeds, loss

    # Members have weights of their own and see the same batch.
    over_members = partial(jax.vmap, in_axes=(0, 0, 0, None, None))
    step_of_all = jax.pmap(over_members(step), in_axes=(0, 0, 0, None, None))

    trained = stacked([[v.value for v in m.trainable_variables] for m in models])
    others = stacked([[v.value for v in m.non_trainable_variables] for m in models])
    speeds = [jnp.zeros_like(w) for w in trained]
    losses = []
    for _ in range(epochs):
        values = []
        for batch_x, batch_y in batches(x, y):
            trained, others, speeds, loss = step_of_all(trained, others, speeds, batch_x, batch_y)
            values.append(loss.reshape(-1))
        losses.append(np.mean(values, axis=0))

    def predict(trained: list, others: list, x: Any) -> Any:
        return model.stateless_call(trained, others, x, training=False)[0]

    logits = jax.pmap(jax.vmap(predict, (0, 0, None)), in_axes=(0, 0, None))(trained, others, x)
    return np.stack(losses), np.asarray(logits).reshape(len(seeds), *logits.shape[2:])


def main() -> None:
    """Train eight members, and compare their accuracy with that of their mean."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1, help="how many devices share the work")
    devices = parser.parse_args().devices
    if devices > 1:  # before JAX looks for devices; a machine that has them needs no flag
        flag = f" --xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag

    from spirals import make_data

    import keraslite as keras

    keras.use_backend("jax")
    x, y = make_data()
    losses, logits = train(list(range(8)), x, y, epochs=40, devices=devices)
    print(f"losses of the members: {losses[-1].round(4).tolist()}")
    print(f"accuracy of the members: {(logits.argmax(-1) == y).mean(1).round(3).tolist()}")
    print(f"accuracy of their mean: {(logits.mean(0).argmax(-1) == y).mean():.3f}")


if __name__ == "__main__":
    main()
