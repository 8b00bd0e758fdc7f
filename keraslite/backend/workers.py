"""Worker processes: how they are started, and which one of a data loader the code runs in."""

import sys
from typing import Any


def worker_seed() -> int:
    """Return a number for the worker process and epoch of a torch DataLoader; 0 outside of one.

    Every worker holds a copy of the objects it was given: without this number all of them would
    draw the same random numbers, in every epoch. It follows from `torch.manual_seed`.

    >>> worker_seed()
    0
    """
    loader = sys.modules.get("torch.utils.data")
    info = None if loader is None else loader.get_worker_info()
    return 0 if info is None else info.seed


# torch.compile takes the result as a constant, and does not look inside.
worker_seed._dynamo_marked_constant = True  # type: ignore[attr-defined]


def process_context() -> Any:
    """Return the context of `multiprocessing` for workers that read data.

    It is the platform's own, unless that copies this process while JAX, whose threads hold locks,
    is loaded: then each worker starts anew.
    """
    import multiprocessing  # which takes time

    context = multiprocessing.get_context()
    forks = context.get_start_method() == "fork"
    return multiprocessing.get_context("spawn") if forks and "jax" in sys.modules else context
