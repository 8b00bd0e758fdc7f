"""Benchmark a dropout mask of 1M elements against the frameworks' own (goal: at most 1.5x)."""

import importlib.util
import os
import sys

if __name__ != "__main__":
    # The scripts beside this one find it where they look for Python's own module: hand that on.
    _path = os.path.join(os.path.dirname(os.__file__), "random.py")
    _spec = importlib.util.spec_from_file_location(__name__, _path)
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
else:
    sys.path.append(sys.path.pop(0))  # this folder last, for the same reason

import numpy as np

SHAPE, RATE = (1024, 1024), 0.1
X = np.ones(SHAPE, "float32")


def native_torch():
    import torch
    from torch.nn import functional

    x = torch.from_numpy(X)
    return {
        "dropout": lambda: functional.dropout(x, RATE),
        "mask": lambda: torch.rand(SHAPE) >= RATE,
        "uniform": lambda: torch.rand(SHAPE),
        "normal": lambda: torch.randn(SHAPE),
    }


def native_jax():
    import jax

    keys = iter(jax.random.split(jax.random.key(0), 100_000))
    x = jax.numpy.asarray(X)

    def dropout(x, key):
        return jax.numpy.where(jax.random.bernoulli(key, 1 - RATE, SHAPE), x / (1 - RATE), 0.0)

    run = {
        "dropout": jax.jit(dropout),
        "mask": jax.jit(lambda x, key: jax.random.bernoulli(key, 1 - RATE, SHAPE)),
        "uniform": jax.jit(lambda x, key: jax.random.uniform(key, SHAPE)),
        "normal": jax.jit(lambda x, key: jax.random.normal(key, SHAPE)),
    }
    return {name: lambda f=f: jax.block_until_ready(f(x, next(keys))) for name, f in run.items()}


def native_tensorflow():
    import tensorflow as tf

    x = tf.constant(X)
    run = {
        "dropout": tf.function(lambda: tf.nn.dropout(x, RATE)),
        "mask": tf.function(lambda: tf.random.uniform(SHAPE) >= RATE),
        "uniform": tf.function(lambda: tf.random.uniform(SHAPE)),
        "normal": tf.function(lambda: tf.random.normal(SHAPE)),
    }
    return {name: lambda f=f: f() for name, f in run.items()}


NATIVE = {"torch": native_torch, "jax": native_jax, "tensorflow": native_tensorflow}


def against(backend: str) -> None:
    """Each draw over the framework's own: compiled on jax and tensorflow, eager on torch."""
    from common import ratio, report

    import keraslite as keras

    keras.use_backend(backend)
    random, x = keras.random, keras.ops.convert_to_tensor(X)
    generator = random.SeedGenerator(0)
    draws = {
        "dropout": lambda x: random.dropout(x, RATE, seed=generator),
        "mask": lambda x: random.keep_mask(SHAPE, RATE, seed=generator),
        "uniform": lambda x: random.uniform(SHAPE, seed=generator),
        "normal": lambda x: random.normal(SHAPE, seed=generator),
    }
    for name, theirs in NATIVE[backend]().items():
        ours = keras.ops.jit(draws[name], variables=[generator.state])
        wait = getattr(sys.modules.get("jax"), "block_until_ready", lambda out: out)
        found, spent = ratio({
            "theirs": theirs, "ours": lambda: wait(ours(x)),  # noqa: B023
        }, rounds=31)  # fmt: skip
        goal = "<= 1.5" if name in ("dropout", "mask") else ""
        report(f"{name} of 1M on {backend} / its own", found, "x time", goal,
               ms=round(spent["ours"] * 1e3, 3))  # fmt: skip


def main() -> None:
    import argparse

    from common import in_process

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NATIVE)
    only = parser.parse_args().only
    if only:
        return against(only)
    for backend in NATIVE:
        in_process([sys.argv[0], "--only", backend])
    return None


if __name__ == "__main__":
    main()
