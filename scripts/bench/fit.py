"""Benchmark `fit` of an MLP 784-512-512-10, batch 64, against a hand-written loop and Keras."""

import argparse
import os
import sys
import time
from itertools import pairwise

import numpy as np
from common import in_process, ratio, report

STEPS, BATCH = 150, 64
generator = np.random.default_rng(0)
X = generator.normal(size=(STEPS * BATCH, 784)).astype("float32")
Y = generator.integers(0, 10, size=(STEPS * BATCH,)).astype("int32")
SIZES = (784, 512, 512, 10)


def ours(backend: str):
    import keraslite as keras

    keras.use_backend(backend)
    return _fit(keras)


def _fit(keras):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((784,)), layers.Dense(512, activation="relu"),
        layers.Dense(512, activation="relu"), layers.Dense(10),
    ])  # fmt: skip
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return lambda: model.fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0)


def loop_torch():
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                          nn.Linear(512, 10))  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss_of = nn.CrossEntropyLoss()
    xs, ys = torch.from_numpy(X), torch.from_numpy(Y).long()

    def run():
        for i in range(STEPS):
            rows = slice(i * BATCH, (i + 1) * BATCH)
            optimizer.zero_grad()
            loss = loss_of(model(xs[rows]), ys[rows])
            loss.backward()
            optimizer.step()
        return loss.item()

    return run


def loop_jax():
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        (jax.random.normal(k, (a, b)) * a**-0.5, jnp.zeros(b))
        for k, a, b in zip(keys, SIZES, SIZES[1:])
    ]
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]  # donated: one each
    state = (params, *zeros, jnp.float32(0))

    def loss_of(params, x, y):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        logits = jax.nn.log_softmax(x @ params[-1][0] + params[-1][1])
        return -jnp.take_along_axis(logits, y[:, None], 1).mean()

    def step(state, x, y):
        params, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), params, m, v)
        return (params, m, v, t), loss

    step = jax.jit(step, donate_argnums=0)

    def run():
        nonlocal state
        for i in range(STEPS):
            rows = slice(i * BATCH, (i + 1) * BATCH)
            state, loss = step(state, X[rows], Y[rows])
        return float(loss)

    return run


def loop_tensorflow():
    import tensorflow as tf

    weights = [tf.Variable(tf.random.normal((a, b)) * a**-0.5) for a, b in pairwise(SIZES)]
    biases = [tf.Variable(tf.zeros(b)) for b in SIZES[1:]]
    variables = weights + biases
    ms = [tf.Variable(tf.zeros_like(v)) for v in variables]
    vs = [tf.Variable(tf.zeros_like(v)) for v in variables]
    t = tf.Variable(0.0)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            for w, b in zip(weights[:-1], biases[:-1]):
                x = tf.nn.relu(x @ w + b)
            logits = x @ weights[-1] + biases[-1]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            )
        grads = tape.gradient(loss, variables)
        t.assign_add(1.0)
        rate = 1e-3 * tf.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for p, g, m, v in zip(variables, grads, ms, vs):
            m.assign_add(0.1 * (g - m))
            v.assign_add(0.001 * (g * g - v))
            p.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))
        return loss

    def run():
        for i in range(STEPS):
            rows = slice(i * BATCH, (i + 1) * BATCH)
            loss = step(tf.constant(X[rows]), tf.constant(Y[rows]))
        return float(loss)

    return run


LOOPS = {"torch": loop_torch, "jax": loop_jax, "tensorflow": loop_tensorflow}


def against_loop(backend: str) -> None:
    found, medians = ratio({"loop": LOOPS[backend](), "fit": ours(backend)})
    report(f"fit MLP on {backend} / hand-written loop", found, "x time", "<= 1.15",
           steps_per_s=round(STEPS / medians["fit"], 1),
           loop_steps_per_s=round(STEPS / medians["loop"], 1))  # fmt: skip


def rate_of(backend: str, which: str) -> None:
    if which == "keras":
        os.environ["KERAS_BACKEND"] = backend
        import keras

        run = _fit(keras)
    else:
        run = ours(backend)
    run()
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    report(f"fit MLP with {which} on {backend}", STEPS / sorted(spent)[2], "steps/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "BACKEND"))
    what, backend = parser.parse_args().only or (None, None)
    if what == "loop":
        against_loop(backend)
    elif what is not None:
        rate_of(backend, what)
    else:
        for backend in LOOPS:
            in_process([sys.argv[0], "--only", "loop", backend])
            rates = [
                in_process([sys.argv[0], "--only", which, backend])[-1]["value"]
                for which in ("keraslite", "keras")
            ]
            report(
                f"fit MLP on {backend}: keraslite / Keras", rates[0] / rates[1], "x speed", "> 1"
            )


if __name__ == "__main__":
    main()
