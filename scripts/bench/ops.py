"""Benchmark 40 common ops against the bare framework and Keras, eager and compiled; convolutions
and pooling on torch against its own channels_last calls, with the copies they make.

Goals: eager, the median op at most 1 us over bare torch and at most 1.3x of bare jax and
tensorflow; compiled at most 1.02x; convolutions and pools at most 1.05x without a copy.
"""

import argparse
import os
import statistics
import sys
import timeit

from common import in_process, interleaved, ratio, report

# ours (and Keras's) | torch | jax.numpy | tensorflow | numpy; a, b: (8, 8) floats; "" if it is the
# same expression in the framework's own namespace `f`.
ROWS = """
f.add(a, b) | | | |
f.subtract(a, b) | | | |
f.multiply(a, b) | | | |
f.divide(a, b) | | | |
f.add(a, 1.0) | | | |
f.maximum(a, b) | | | |
f.power(a, b) | f.pow(a, b) | | f.pow(a, b) |
f.exp(a) | | | |
f.sqrt(a) | | | |
f.tanh(a) | | | |
f.sin(a) | | | |
f.abs(a) | | | |
f.square(a) | | | |
f.negative(a) | | | |
f.floor(a) | | | |
f.log1p(a) | | | f.math.log1p(a) |
f.relu(a) | | nn.relu(a) | f.nn.relu(a) | f.maximum(a, 0)
f.sigmoid(a) | | nn.sigmoid(a) | f.sigmoid(a) | 1 / (1 + f.exp(-a))
f.softmax(a) | f.softmax(a, -1) | nn.softmax(a) | f.nn.softmax(a) | f.exp(a) / f.exp(a).sum(-1)
f.silu(a) | F.silu(a) | nn.silu(a) | f.nn.silu(a) | a / (1 + f.exp(-a))
f.sum(a, axis=-1) | f.sum(a, dim=-1) | | f.reduce_sum(a, axis=-1) |
f.mean(a, axis=-1) | f.mean(a, dim=-1) | | f.reduce_mean(a, axis=-1) |
f.max(a, axis=-1) | f.amax(a, dim=-1) | | f.reduce_max(a, axis=-1) |
f.argmax(a, axis=-1) | f.argmax(a, dim=-1) | | f.argmax(a, axis=-1) |
f.cumsum(a, axis=0) | f.cumsum(a, dim=0) | | f.cumsum(a, axis=0) |
f.matmul(a, b) | | | |
f.dot(a, b) | f.matmul(a, b) | | f.matmul(a, b) |
f.einsum("ij,jk->ik", a, b) | | | |
f.reshape(a, (4, 16)) | | | |
f.transpose(a, (1, 0)) | f.permute(a, (1, 0)) | | f.transpose(a, (1, 0)) |
f.expand_dims(a, 0) | f.unsqueeze(a, 0) | | |
f.squeeze(c, 0) | | | f.squeeze(c, 0) |
f.concatenate([a, b], axis=0) | f.cat([a, b], dim=0) | | f.concat([a, b], axis=0) |
f.stack([a, b], axis=0) | f.stack([a, b], dim=0) | | |
f.where(m, a, b) | | | |
f.greater(a, b) | | | |
f.equal(a, b) | f.eq(a, b) | | |
f.logical_and(m, m) | | | |
f.broadcast_to(d, (8, 8)) | | | |
f.clip(a, -1.0, 1.0) | f.clamp(a, -1.0, 1.0) | | f.clip_by_value(a, -1.0, 1.0) |
f.zeros_like(a) | | | |
f.cast(a, "int32") | a.to(f.int32) | a.astype("int32") | f.cast(a, "int32") | a.astype("int32")
"""
COLUMNS = ("torch", "jax", "tensorflow", "numpy")
GOALS = {"torch": "<= 1 us over", "jax": "<= 1.3", "tensorflow": "<= 1.3"}


def rows() -> list[tuple[str, dict[str, str]]]:
    """(our expression, the bare one by framework) of each row."""
    found = []
    for line in ROWS.strip().splitlines():
        ours, *bare = (part.strip() for part in line.split(" |"))
        found.append((ours, {n: b or ours for n, b in zip(COLUMNS, bare, strict=True)}))
    return found


def namespace(name: str) -> dict:
    """What the bare expressions of a framework see."""
    if name == "torch":
        import torch

        return {"f": torch, "F": torch.nn.functional}
    if name == "jax":
        import jax

        return {"f": jax.numpy, "nn": jax.nn}
    return {"f": __import__(name)}


def operands(make, size: int) -> dict:
    """a, b, m (a mask), c (one more axis), d (one row)."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 1.5, (size, size)).astype("float32") for _ in "ab")
    values = {"a": a, "b": b, "m": a > b, "c": a[None], "d": a[:1]}
    return {name: make(value) for name, value in values.items()}


def function(expression: str, seen: dict):
    """A function of a, b, m, c, d."""
    return eval(f"lambda a, b, m, c, d: {expression}", dict(seen))


def best(calls: dict, operands: dict, rounds: int = 7, number: int = 1000) -> dict[str, float]:
    """The least mean time of each call in microseconds; they take turns."""
    args = tuple(operands.values())
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            spent = timeit.timeit(lambda: call(*args), number=number) / number  # noqa: B023
            found[name] = min(found[name], spent * 1e6)
    return found


def eager(backend: str) -> list[dict]:
    """One line an op: the cost over the bare framework, and its share."""
    import keraslite as keras

    keras.use_backend(backend)
    given, bare_names = operands(keras.ops.convert_to_tensor, 8), namespace(backend)
    lines = []
    for ours, bare in rows():
        calls = {
            "bare": function(bare[backend], bare_names),
            "ours": function(ours, {"f": keras.ops}),
        }
        spent = best(calls, given)
        over, share = spent["ours"] - spent["bare"], spent["ours"] / spent["bare"]
        report(f"{ours} on {backend}", over, "us over bare", share=round(share, 3),
               bare=round(spent["bare"], 3))  # fmt: skip
        lines.append((over, share))
    over, share = (statistics.median(column) for column in zip(*lines, strict=True))
    goal = GOALS.get(backend, "")
    report(f"median op on {backend}", over, "us over bare", goal, share=round(share, 3))
    return lines


def eager_of_keras(backend: str) -> None:
    """The same over Keras's ops, in a process where it has that backend."""
    import keras

    given, bare_names = operands(keras.ops.convert_to_tensor, 8), namespace(backend)
    over, shares = [], []
    for ours, bare in rows():
        calls = {
            "bare": function(bare[backend], bare_names),
            "keras": function(ours, {"f": keras.ops}),
        }
        spent = best(calls, given, rounds=3)
        over.append(spent["keras"] - spent["bare"])
        shares.append(spent["keras"] / spent["bare"])
    report(f"median op of Keras on {backend}", statistics.median(over), "us over bare",
           share=round(statistics.median(shares), 3))  # fmt: skip


def compiled(backend: str) -> None:
    """Each op compiled, on operands of a size that a model has."""
    import keraslite as keras

    keras.use_backend(backend)
    given, bare_names = operands(keras.ops.convert_to_tensor, 512), namespace(backend)
    if backend == "jax":
        import jax

        native, wait = jax.jit, jax.block_until_ready
    else:
        import tensorflow as tf

        native, wait = tf.function, lambda out: out
    shares = []
    for ours, bare in rows():
        if ours in ("f.reshape(a, (4, 16))", "f.broadcast_to(d, (8, 8))"):
            continue  # of other sizes
        mine = keras.ops.jit(function(ours, {"f": keras.ops}))
        theirs = native(function(bare[backend], bare_names))
        args = tuple(given.values())
        found, _ = ratio({"bare": lambda: [wait(theirs(*args)) for _ in range(20)],  # noqa: B023
                          "ours": lambda: [wait(mine(*args)) for _ in range(20)]}, rounds=9)  # noqa: B023  # fmt: skip
        shares.append(found)
    report(
        f"median compiled op on {backend}", statistics.median(shares), "x time of bare", "<= 1.02"
    )


def windows() -> None:
    """Convolutions and pools over NHWC on torch, against torch's own over channels_last NCHW."""
    import torch
    from torch.nn import functional
    from torch.profiler import ProfilerActivity, profile

    import keraslite as keras

    keras.use_backend("torch")
    ops = keras.ops
    x = torch.randn(8, 112, 112, 64)  # the first stage of a ResNet
    planes = x.permute(0, 3, 1, 2)
    kernel = torch.randn(3, 3, 64, 64)
    weight = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    kernel = weight.permute(2, 3, 1, 0)  # as a checkpoint's weight is seen: the same memory
    pairs = {
        "conv 3x3": (lambda: ops.conv(x, kernel, 1, "same"),
                     lambda: functional.conv2d(planes, weight, padding=1)),
        "conv 3x3 strides 2": (lambda: ops.conv(x, kernel, 2, "valid"),
                               lambda: functional.conv2d(planes, weight, stride=2)),
        "max_pool": (lambda: ops.max_pool(x, 2, 2), lambda: functional.max_pool2d(planes, 2, 2)),
        "average_pool": (lambda: ops.average_pool(x, 2, 2),
                         lambda: functional.avg_pool2d(planes, 2, 2)),
    }  # fmt: skip
    for name, (ours, bare) in pairs.items():
        with torch.no_grad():
            spent = interleaved({"ours": ours, "bare": bare}, rounds=21)
            with profile(activities=[ProfilerActivity.CPU]) as seen:
                ours()
        copies = sum(
            e.count for e in seen.key_averages() if e.key in ("aten::copy_", "aten::clone")
        )
        report(f"{name} over NHWC / torch's channels_last", spent["ours"] / spent["bare"], "x time",
               "<= 1.05", copies=copies)  # fmt: skip


MEASURES = {"eager": eager, "keras": eager_of_keras, "compiled": compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "BACKEND"))
    only = parser.parse_args().only
    if only:
        return windows() if only[0] == "windows" else MEASURES[only[0]](only[1])
    for backend in COLUMNS:
        in_process([sys.argv[0], "--only", "eager", backend])
        if backend != "numpy":
            in_process([sys.argv[0], "--only", "keras", backend], KERAS_BACKEND=backend)
    for backend in ("jax", "tensorflow"):
        in_process([sys.argv[0], "--only", "compiled", backend])
    in_process([sys.argv[0], "--only", "windows", "torch"])
    return None


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
