"""Helpers of the benchmarks: interleaved timing, one JSON line a figure, goals, processes."""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Parts of the names of torch's products, convolutions and attention.
KERNELS = ("convolution", "_linear_pointwise", "addmm", "::mm", "::bmm", "scaled_dot_product")


def machine() -> str:
    """The processor, its threads and the versions of what computes, in a line."""
    import torch

    from keraslite.backend.torch.fast.products import PRODUCTS, this_processor

    vendor, sets = this_processor()
    known = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "bfloat16", "mkl", "onednn")
    versions = {name: version(name) for name in ("torch", "jax", "tensorflow", "numpy")}
    products = {str(dtype).removeprefix("torch."): who for dtype, who in PRODUCTS.items()}
    return json.dumps({
        "processor": vendor, "has": [name for name in known if name in sets],
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "products": products,
        **versions,
    })  # fmt: skip


def report(name: str, value: float, unit: str, goal: str = "", **more) -> None:
    """Print one figure as a JSON line."""
    line = {"figure": name, "value": round(float(value), 4), "unit": unit}
    print(json.dumps(line | ({"goal": goal} if goal else {}) | more), flush=True)


def interleaved(
    runs: dict[str, Callable[[], object]], rounds: int = 7, collect: bool = False
) -> dict[str, float]:
    """Median seconds of each function; the functions take turns, since machines are noisy.

    With `collect`, models that a run has dropped are deleted before the next one: new memory from
    the system costs more than to fill it.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            if collect:
                gc.collect()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def ratio(runs: dict[str, Callable[[], object]], rounds: int = 7) -> tuple[float, dict]:
    """The median over the rounds of second / first, and the medians of both."""
    (a, first), (b, second) = runs.items()
    first(), second()
    pairs = []
    for _ in range(rounds):
        spent = []
        for run in (first, second):
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
        pairs.append(spent)
    medians = {a: statistics.median(p[0] for p in pairs), b: statistics.median(p[1] for p in pairs)}
    return statistics.median(p[1] / p[0] for p in pairs), medians


def bare_kernels(run: Callable[[], object], names: tuple = KERNELS) -> Callable[[], None]:
    """Return a function that does the products and convolutions of a torch function, and no more.

    What a library of kernels leaves to be had: the same kernels in the same order, on the same
    arguments, without anything between them.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    calls = []

    class Keep(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in func._schema.name for name in names):
                calls.append((getattr(func, "_op", func), args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    with Keep():
        run()

    @torch.no_grad()
    def kernels() -> None:
        for func, args, kwargs in calls:
            func(*args, **kwargs)

    return kernels


def in_process(arguments: list[str], **environment: str) -> list[dict]:
    """Run this script again in a process of its own; its JSON lines come back and are printed."""
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    if done.returncode:
        print(json.dumps({"failed": arguments[1:], "error": done.stderr.strip()[-400:]}))
    for line in lines:
        print(json.dumps(line), flush=True)
    return lines


class Elsewhere:
    """A function in a process of its own, which waits while others run.

    In one process the threads of two libraries get into each other's way, for twice the time.
    """

    def __init__(self, arguments: list[str]):
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> dict:
        """Run the function once: its `seconds`, and what it gives."""
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.process.args[1:]} ended with {self.process.wait()}")

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def serve(run: Callable[[], dict]) -> None:
    """Run a function for each line of the standard input, for `Elsewhere`."""
    for _ in sys.stdin:
        start = time.perf_counter()
        out = run()
        print(json.dumps({"seconds": time.perf_counter() - start, **out}), flush=True)


def loading(
    name: str, files: list[Path], make: Callable[[], list], memory: str, rounds: int = 5
) -> None:
    """What `make` costs, which gives the models: memory first, then seconds in turns with reading.

    Reading is into memory of its own, since a first touch of fresh pages costs what copying does.
    """

    def read() -> float:
        start = time.perf_counter()
        for file in files:
            file.read_bytes()
        return time.perf_counter() - start

    def load() -> float:
        start = time.perf_counter()
        models = make()
        values = [variable.value for model in models for variable in model.weights]
        spent = time.perf_counter() - start
        del models, values
        gc.collect()
        return spent

    before = peak_memory()
    load()
    size = sum(file.stat().st_size for file in files)
    report(f"{name}: memory / size of the files", (peak_memory() - before) / size, "x", memory)
    read()
    turns = [(read(), load()) for _ in range(rounds)]
    reading, spent = (statistics.median(column) for column in zip(*turns, strict=True))
    report(f"{name}: loading / reading the files", spent / reading, "x time", "<= 1.3",
           seconds=round(spent, 2))  # fmt: skip


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes.

    Linux's own count; `getrusage` would begin with the size of the process that started this one.
    """
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024
