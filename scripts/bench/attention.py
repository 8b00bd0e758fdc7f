"""Benchmark attention: time against the frameworks and Keras, and memory over the length.

Goals: no slower than the framework's own function; at 16,384 queries and keys less than 1 GB more
than the inputs and outputs, with the gradient too.
"""

import argparse
import sys

import numpy as np
from common import in_process, peak_memory, ratio, report

LONG = 16384


def made(length: int, heads: int, size: int = 64) -> np.ndarray:
    """A float32 tensor of (1, length, heads, size)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, length, heads, size), np.float32)


def native(backend: str):
    """The framework's own attention over (batch, length, heads, size), compiled if it can be."""
    if backend == "torch":
        from torch.nn.functional import scaled_dot_product_attention

        def attend(x, causal):
            x = x.transpose(1, 2)
            return scaled_dot_product_attention(x, x, x, is_causal=causal).transpose(1, 2)

        return attend
    if backend == "jax":
        import jax

        def attend(x, causal):
            return jax.nn.dot_product_attention(x, x, x, is_causal=causal)

        compiled = jax.jit(attend, static_argnums=1)
        return lambda x, causal: jax.block_until_ready(compiled(x, causal))
    return None


def against_native(backend: str) -> None:
    """Time over the framework's own, by length, with and without causality."""
    import keraslite as keras

    keras.use_backend(backend)
    theirs = native(backend)
    for length, causal in ((128, False), (1024, False), (1024, True), (4096, True)):
        x = keras.ops.convert_to_tensor(made(length, 8))

        def attend(x, causal=causal):
            return keras.ops.dot_product_attention(x, x, x, is_causal=causal)

        compiled = keras.ops.jit(attend)
        found, spent = ratio({
            "theirs": lambda: theirs(x, causal),  # noqa: B023
            "ours": lambda: keras.ops.convert_to_numpy(compiled(x)),  # noqa: B023
        }, rounds=9)  # fmt: skip
        name = f"attention over {length}{' causal' * causal} on {backend} / its own"
        report(name, found, "x time",
               "<= 1.05", ms=round(spent["ours"] * 1e3, 3))  # fmt: skip


def rate(which: str, backend: str) -> None:
    """Milliseconds of Keras's op or ours, compiled."""
    if which == "keras":
        import keras
    else:
        import keraslite as keras

        keras.use_backend(backend)
    import timeit

    for length in (1024, 4096):
        x = keras.ops.convert_to_tensor(made(length, 8))

        def attend(x):
            return keras.ops.dot_product_attention(x, x, x, is_causal=True)

        if backend == "tensorflow":
            import tensorflow as tf

            attend = tf.function(attend)
        elif backend == "jax":
            import jax

            attend = jax.jit(attend)
        run = lambda: keras.ops.convert_to_numpy(attend(x))  # noqa: B023, E731
        run()
        spent = min(timeit.repeat(run, number=1, repeat=7))
        report(f"causal attention over {length} with {which} on {backend}", spent * 1e3, "ms")


def memory(what: str, backend: str) -> None:
    """Peak memory over that before, with one head at the long length."""
    import keraslite as keras
    from keraslite import ops

    keras.use_backend(backend)

    def attend(x):
        return ops.dot_product_attention(x, x, x, is_causal=True)

    run = attend
    if what == "gradient":
        run = ops.grad(lambda x: ops.sum(ops.square(attend(x))))
    run = ops.jit(run)
    ops.convert_to_numpy(run(ops.convert_to_tensor(made(256, 1))))
    x = ops.convert_to_tensor(made(LONG, 1))
    before = peak_memory()
    ops.convert_to_numpy(run(x))
    report(f"attention over {LONG}, {what}: memory on {backend}", (peak_memory() - before) / 2**20,
           "MiB", "<= 1024")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "BACKEND"))
    only = parser.parse_args().only
    if only:
        what, backend = only
        if what == "native":
            return against_native(backend)
        return (rate if what in ("keras", "keraslite") else memory)(what, backend)
    for backend in ("torch", "jax"):
        in_process([sys.argv[0], "--only", "native", backend])
    for backend in ("torch", "jax", "tensorflow"):
        both = [
            in_process([sys.argv[0], "--only", which, backend], KERAS_BACKEND=backend)
            for which in ("keraslite", "keras")
        ]
        for ours, theirs in zip(*both, strict=True):
            length = ours["figure"].split()[3]
            report(f"causal attention over {length} on {backend}: keraslite / Keras",
                   theirs["value"] / ours["value"], "x speed", "> 1")  # fmt: skip
    for backend in ("numpy", "torch", "jax", "tensorflow"):
        for what in ("value", "gradient")[: 1 if backend == "numpy" else 2]:
            in_process([sys.argv[0], "--only", what, backend])
    return None


if __name__ == "__main__":
    main()
