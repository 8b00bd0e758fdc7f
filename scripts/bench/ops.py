"""Benchmark ops against the bare framework and Keras, eager and compiled; convolutions and pooling
on torch against its own channels_last calls, with the copies they make.

Eager, every row of `op_rows.py`: numbers, lists and keywords among the arguments. Beside Keras and
compiled, the 40 common ones of them. Goals: eager, the median op at most 1 us over bare torch and
numpy and none more than 5, at most 1.3x of bare jax and tensorflow; compiled at most 1.02x;
convolutions and pools at most 1.05x without a copy.
"""

import argparse
import os
import statistics
import sys
import timeit

import op_rows
from common import in_process, interleaved, ratio, report

COLUMNS = ("torch", "jax", "tensorflow", "numpy")
GOALS = {"torch": "<= 1 us over", "numpy": "<= 1 us over", "jax": "<= 1.3", "tensorflow": "<= 1.3"}


def rows(table: str) -> list[tuple[str, dict[str, str]]]:
    """(our expression, the bare ones by framework, where there are any) of each row."""
    found = []
    for line in table.strip().splitlines():
        ours, *bare = (part.strip() for part in line.split(" |"))
        cells = dict(zip(COLUMNS, bare, strict=True))
        found.append((ours, {name: cell or ours for name, cell in cells.items() if cell != "-"}))
    return found


def namespace(name: str) -> dict:
    """What the bare expressions of a framework see."""
    import numpy as np

    if name == "torch":
        import torch

        return {"f": torch, "F": torch.nn.functional, "np": np}
    if name == "jax":
        import jax

        return {"f": jax.numpy, "nn": jax.nn, "lax": jax.lax, "np": np}
    return {"f": __import__(name), "np": np}


def operands(make, size: int) -> dict:
    """The tensors that the expressions name; see `op_rows`."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.1, 0.9, (size, size)).astype("float32") for _ in "ab")
    n, k = (rng.integers(1, 8, (size, size)).astype("int32") for _ in "nk")
    values = {"a": a, "b": b, "m": a > b, "c": a[None], "d": a[:1], "v": a[0], "n": n, "k": k,
              "i": n[0], "z": a + 1j * b}  # fmt: skip
    return {name: make(value) for name, value in values.items()}


def function(expression: str, names: dict):
    """A function of the operands."""
    return eval(f"lambda a, b, m, c, d, v, n, k, i, z: {expression}", dict(names))


def best(calls: dict, operands: dict, rounds: int = 7) -> dict[str, float]:
    """The least mean time of each call in microseconds; they take turns."""
    args, timers, spent = tuple(operands.values()), {}, {}
    for name, call in calls.items():
        timers[name] = timeit.Timer(lambda call=call: call(*args))
        once = min(timers[name].repeat(3, 5)) / 5
        number = max(5, min(1000, int(2e-3 / once)))
        timers[name], spent[name] = (timers[name], number), float("inf")
    for _ in range(rounds):
        for name, (timer, number) in timers.items():
            spent[name] = min(spent[name], timer.timeit(number) / number * 1e6)
    return spent


def eager(backend: str) -> None:
    """One line an op, the worst first: the cost over the bare framework, and its share."""
    import keraslite as keras

    keras.use_backend(backend)
    tensors, bare_names = operands(keras.ops.convert_to_tensor, 8), namespace(backend)
    lines = []
    for ours, bare in rows(op_rows.COMMON) + rows(op_rows.MORE):
        if backend not in bare:
            continue
        calls = {
            "bare": function(bare[backend], bare_names),
            "ours": function(ours, {"f": keras.ops}),
        }
        spent = best(calls, tensors)
        lines.append((spent["ours"] - spent["bare"], spent["ours"] / spent["bare"],
                      spent["bare"], ours))  # fmt: skip
    for over, share, alone, ours in sorted(lines, reverse=True):
        report(f"{ours} on {backend}", over, "us over bare", share=round(share, 3),
               bare=round(alone, 3))  # fmt: skip
    over, share = (statistics.median(column) for column in list(zip(*lines, strict=True))[:2])
    report(f"median of {len(lines)} ops on {backend}", over, "us over bare", GOALS[backend],
           share=round(share, 3))  # fmt: skip
    more = sum(over > 5 for over, *_ in lines)
    report(f"ops more than 5 us over bare on {backend}", more, "ops")


def eager_of_keras(backend: str) -> None:
    """The common ones over Keras's ops, in a process where it has that backend."""
    import keras

    tensors, bare_names = operands(keras.ops.convert_to_tensor, 8), namespace(backend)
    over, shares = [], []
    for ours, bare in rows(op_rows.COMMON):
        calls = {
            "bare": function(bare[backend], bare_names),
            "keras": function(ours, {"f": keras.ops}),
        }
        spent = best(calls, tensors, rounds=3)
        over.append(spent["keras"] - spent["bare"])
        shares.append(spent["keras"] / spent["bare"])
    report(f"median op of Keras on {backend}", statistics.median(over), "us over bare",
           share=round(statistics.median(shares), 3))  # fmt: skip


def compiled(backend: str) -> None:
    """Each op compiled, on operands of a size that a model has."""
    import keraslite as keras

    keras.use_backend(backend)
    tensors, bare_names = operands(keras.ops.convert_to_tensor, 512), namespace(backend)
    if backend == "jax":
        import jax

        native, wait = jax.jit, jax.block_until_ready
    else:
        import tensorflow as tf

        native, wait = tf.function, lambda out: out
    shares = []
    for ours, bare in rows(op_rows.COMMON):
        if ours in ("f.reshape(a, (4, 16))", "f.broadcast_to(d, (8, 8))"):
            continue  # of other sizes
        mine = keras.ops.jit(function(ours, {"f": keras.ops}))
        theirs = native(function(bare[backend], bare_names))
        args = tuple(tensors.values())
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
