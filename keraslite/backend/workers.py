"""Which worker process of a data loader the code runs in."""

import sys


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
