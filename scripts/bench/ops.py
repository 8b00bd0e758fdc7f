"""The cost of an eager op over the bare framework's, on each backend (goal: at most 1 us)."""

import statistics
import timeit

from common import report

import keraslite as keras
from keraslite import ops


def native(name: str) -> dict:
    if name == "torch":
        import torch as m

        return {
            "add": m.add,
            "multiply": m.multiply,
            "matmul": m.matmul,
            "exp": m.exp,
            "relu": m.relu,
            "reshape": lambda x: m.reshape(x, (4, 16)),
            "maximum": m.maximum,
            "add_scalar": lambda x: m.add(x, 1.0),
            "sum": lambda x: m.sum(x, dim=-1),
            "transpose": lambda x: x.permute((1, 0)),
        }
    if name == "jax":
        import jax
        import jax.numpy as m

        return {
            "add": m.add,
            "multiply": m.multiply,
            "matmul": m.matmul,
            "exp": m.exp,
            "relu": jax.nn.relu,
            "reshape": lambda x: m.reshape(x, (4, 16)),
            "maximum": m.maximum,
            "add_scalar": lambda x: m.add(x, 1.0),
            "sum": lambda x: m.sum(x, axis=-1),
            "transpose": lambda x: m.transpose(x, (1, 0)),
        }
    if name == "tensorflow":
        import tensorflow as m

        return {
            "add": m.add,
            "multiply": m.multiply,
            "matmul": m.matmul,
            "exp": m.exp,
            "relu": m.nn.relu,
            "reshape": lambda x: m.reshape(x, (4, 16)),
            "maximum": m.maximum,
            "add_scalar": lambda x: m.add(x, 1.0),
            "sum": lambda x: m.reduce_sum(x, axis=-1),
            "transpose": lambda x: m.transpose(x, (1, 0)),
        }
    import numpy as m

    return {
        "add": m.add,
        "multiply": m.multiply,
        "matmul": m.matmul,
        "exp": m.exp,
        "relu": lambda x: m.maximum(x, 0),
        "reshape": lambda x: m.reshape(x, (4, 16)),
        "maximum": m.maximum,
        "add_scalar": lambda x: m.add(x, 1.0),
        "sum": lambda x: m.sum(x, axis=-1),
        "transpose": lambda x: m.transpose(x, (1, 0)),
    }


OURS = {
    "add": ops.add, "multiply": ops.multiply, "matmul": ops.matmul, "exp": ops.exp,
    "relu": ops.relu, "reshape": lambda x: ops.reshape(x, (4, 16)), "maximum": ops.maximum,
    "add_scalar": lambda x: ops.add(x, 1.0), "sum": lambda x: ops.sum(x, axis=-1),
    "transpose": lambda x: ops.transpose(x, (1, 0)),
}  # fmt: skip
BINARY = {"add", "multiply", "matmul", "maximum"}


def main() -> None:
    for backend in keras.backend.available():
        with keras.use_backend(backend):
            x = ops.ones((8, 8))
            costs = []
            for name, bare in native(backend).items():
                args = (x, x) if name in BINARY else (x,)
                calls = {"bare": bare, "ours": OURS[name]}
                best = dict.fromkeys(calls, float("inf"))
                for _ in range(9):
                    for key, call in calls.items():
                        spent = timeit.timeit(lambda: call(*args), number=2000) / 2000  # noqa: B023
                        best[key] = min(best[key], spent)
                costs.append((best["ours"] - best["bare"]) * 1e6)
                report(f"ops.{name} over bare {backend}", costs[-1], "us", "<= 1",
                       bare=round(best["bare"] * 1e6, 3))  # fmt: skip
            report(f"median op over bare {backend}", statistics.median(costs), "us", "<= 1")


if __name__ == "__main__":
    main()
